//! Launches on a real Docker: through the daemon, and by the same calls to Docker made directly.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions_grpc::ActionControllerClient;

use super::calls::channel;
use super::direct::Direct;
use super::launches::{execute, sleeper};
use super::podman::terminate_at_once;
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, launch};
use super::support::docker::DockerServer;
use super::support::rig::BUSYBOX;

/// Rounds at most, and when no more are begun.
const ROUNDS: usize = 15;
const LIMIT: Duration = Duration::from_secs(60);

pub fn measure(report: &mut Report) {
    report.part("docker");
    let server = DockerServer::start();
    let daemon = DaemonProcess::start(|_| {
        format!(
            "log: {{level: info}}\nruntimes:\n  preference: [docker]\n  podman: {{enabled: false}}\n  \
             docker: {{enabled: true, socket: {}}}\n",
            server.socket().display()
        )
    });
    let client = ActionControllerClient::new(channel(&daemon.address()));
    let direct = Direct::new(server.socket(), "/v1.41");
    let [mut ours, mut calls] = [(); 2].map(|()| Samples::default());
    let begun = Instant::now();
    for round in 0..=ROUNDS {
        ours.time(|| execute(&client, launch(&sleeper("ours"))));
        execute(&client, terminate_at_once("ours"));
        calls.time(|| direct.run("direct", &create("direct")));
        direct.remove("direct", "force=true");
        if round == 0 {
            [ours, calls] = [(); 2].map(|()| Samples::default());
        } else if begun.elapsed() > LIMIT {
            break;
        }
    }
    report.beside("launch, one container (Docker)", &ours, "create, start, inspect over REST", &calls);
}

/// The request for the same container, and its target.
fn create(name: &str) -> (String, String) {
    let document = format!(
        r#"{{"Image": "{BUSYBOX}", "Cmd": ["sh", "-c", "sleep 1000"], "HostConfig": {{"NetworkMode": "host"}}}}"#
    );
    (format!("/containers/create?name={name}"), document)
}
