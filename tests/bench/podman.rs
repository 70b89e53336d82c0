//! Launches on a real Podman: through the daemon, by the same calls to Podman made directly, and by Podman's command.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionSpec, Outcome, Parameters, Verb};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use protobuf::MessageField;

use super::calls::channel;
use super::direct::Direct;
use super::launches::{execute, sleeper};
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, launch, on_target, with_podman};
use super::support::podman::{IMAGE, PodmanServer};

/// Rounds at most, and when no more are begun.
const ROUNDS: usize = 15;
const LIMIT: Duration = Duration::from_secs(60);

pub fn measure(report: &mut Report) {
    report.part("podman");
    let server = PodmanServer::start();
    let daemon = DaemonProcess::start(|_| format!("log: {{level: info}}\n{}", with_podman(&server.socket())));
    let client = ActionControllerClient::new(channel(&daemon.address()));
    let direct = Direct::new(server.socket(), "/v4.0.0/libpod");
    let [mut ours, mut calls, mut commands] = [(); 3].map(|()| Samples::default());
    let mut last = Outcome::default();
    let begun = Instant::now();
    for round in 0..=ROUNDS {
        last = ours.time(|| execute(&client, launch(&sleeper("ours"))));
        execute(&client, terminate_at_once("ours"));
        calls.time(|| direct.run("direct", &create("direct")));
        direct.remove("direct", "force=true&timeout=0");
        let run = ["run", "-d", "--name", "command", "--network", "host", "--pull", "never", IMAGE];
        commands.time(|| server.run(&[&run[..], &["sh", "-c", "sleep 1000"]].concat()));
        server.run(&["rm", "-f", "-t", "0", "command"]);
        if round == 0 {
            // The first of each warms caches up.
            [ours, calls, commands] = [(); 3].map(|()| Samples::default());
        } else if begun.elapsed() > LIMIT {
            break;
        }
    }
    report.beside("launch, one container (Podman)", &ours, "create, start, inspect over REST", &calls);
    report.beside("launch, one container (Podman)", &ours, "podman run -d", &commands);
    let millis = |micros: u64| format!("{:.1} ms", micros as f64 / 1000.0);
    let phases = last.phases.unwrap_or_default();
    let steps = last.steps.iter().map(|step| format!("{} {}", step.title, millis(step.duration_us)));
    report.value("steps of the last launch on Podman", millis(phases.run_us), &steps.collect::<Vec<_>>().join(", "));
    let rest = format!("plan {}, store {}", millis(phases.plan_us), millis(phases.store_us));
    report.value("the last launch on Podman, whole", millis(phases.total_us), &rest);
}

/// The request for the same container, and its target.
fn create(name: &str) -> (String, String) {
    let spec = format!(
        r#"{{"name": "{name}", "image": "{IMAGE}", "command": ["sh", "-c", "sleep 1000"],
            "netns": {{"nsmode": "host"}}}}"#
    );
    ("/containers/create".to_owned(), spec)
}

/// Without the grace that a shell which takes no notice of SIGTERM would use up.
pub fn terminate_at_once(name: &str) -> ActionSpec {
    let parameters = Parameters { grace_ms: Some(0), ..Default::default() };
    ActionSpec { parameters: MessageField::some(parameters), ..on_target(Verb::VERB_TERMINATE, name) }
}
