//! An engine that has stopped answering: what actions on another one are slower by.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionSpec, ExecuteActionRequest, Parameters};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use protobuf::MessageField;

use super::calls::channel;
use super::launches::{execute, sleeper};
use super::podman::terminate_at_once;
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, launch, options, with_podman};
use super::support::docker::DockerServer;
use super::support::podman::PodmanServer;

/// Actions with each engine as it is, in turns.
const ROUNDS: usize = 50;

/// After how long no more are begun.
const LIMIT: Duration = Duration::from_secs(90);

pub fn measure(report: &mut Report) {
    report.part("hung");
    let (podman, docker) = (PodmanServer::start(), DockerServer::start());
    let daemon = DaemonProcess::start(|_| {
        format!(
            "log: {{level: info}}\n{}  docker: {{enabled: true, socket: {}}}\n",
            with_podman(&podman.socket()),
            docker.socket().display()
        )
    });
    let client = ActionControllerClient::new(channel(&daemon.address()));
    let on_docker = |name: &str| {
        let parameters = Parameters { engine: "docker".to_owned(), ..Default::default() };
        ActionSpec { parameters: MessageField::some(parameters), ..launch(&sleeper(name)) }
    };
    let [mut before, mut hung] = [(); 2].map(|()| Samples::default());
    let begun = Instant::now();
    for round in 0..=ROUNDS {
        before.time(|| execute(&client, on_docker("ours")));
        execute(&client, terminate_at_once("ours"));
        podman.freeze_service();
        // Somebody asks for the engine that hangs, too.
        let action = MessageField::some(launch(&sleeper("stuck")));
        let request = ExecuteActionRequest { action, no_wait: true, ..Default::default() };
        client.execute_action(&request, options()).expect("it is taken");
        hung.time(|| execute(&client, on_docker("ours")));
        execute(&client, terminate_at_once("ours"));
        podman.thaw_service();
        if round == 0 {
            [before, hung] = [(); 2].map(|()| Samples::default());
        } else if begun.elapsed() > LIMIT {
            break;
        }
    }
    report.beside("launch on Docker while Podman hangs", &hung, "while it does not", &before);
}
