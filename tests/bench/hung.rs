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

/// Launches before the engine hangs, and as many while it does.
const ROUNDS: usize = 50;

/// After how long of either no more are begun.
const LIMIT: Duration = Duration::from_secs(45);

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
    let on = |engine: &str, name: &str| {
        let parameters = Parameters { engine: engine.to_owned(), ..Default::default() };
        ActionSpec { parameters: MessageField::some(parameters), ..launch(&sleeper(name)) }
    };
    let launch_once = |times: &mut Samples| {
        times.time(|| execute(&client, on("docker", "ours")));
        execute(&client, terminate_at_once("ours"));
    };
    let [mut warming, mut before, mut first, mut hung] = [(); 4].map(|()| Samples::default());
    let launch_often = |times: &mut Samples| {
        let begun = Instant::now();
        while times.count() < ROUNDS && begun.elapsed() < LIMIT {
            launch_once(times);
        }
    };
    launch_once(&mut warming);
    launch_often(&mut before);
    // Once: an engine that comes back is another matter, and what is known of one that hangs is to last.
    podman.freeze_service();
    launch_once(&mut first);
    // Somebody asks for the engine that hangs, too.
    let action = MessageField::some(on("podman", "stuck"));
    let request = ExecuteActionRequest { action, no_wait: true, ..Default::default() };
    client.execute_action(&request, options()).expect("it is taken");
    launch_often(&mut hung);
    podman.thaw_service();
    report.time("first launch on Docker after Podman hangs", &first);
    report.beside("launch on Docker while Podman hangs", &hung, "before it did", &before);
}
