//! From a call to containers: the real daemon as a process on a real Podman of its own, asked as users ask it.
//!
//! What is left behind is looked up with Podman's own command, never through the daemon.

mod actionctl;
mod away;
mod cancelling;
mod failing;
mod launching;
mod networks;
mod observing;
mod pods;
mod ports;
mod settings;
mod verbs;
mod volumes;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actioncontroller::grpc::status::{Details, details};
use actioncontroller::proto::actions::{
    Action, ActionSpec, ActionState, ExecuteActionRequest, GetActionRequest, Outcome, Verb,
};
use actioncontroller::proto::workloads::{
    Container, ContainerState, ExecRequest, ExecResponse, GetWorkloadRequest, Workload, WorkloadState,
};
use protobuf::MessageField;

use crate::support::daemon::{DaemonProcess, launch, on_target, options, with_podman};
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::wait::until;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs until SIGTERM and then ends with 0 at once.
const RUNS: &str = "trap 'exit 0' TERM; while :; do sleep 0.05; done";

/// Serves one page on port 80 until SIGTERM: what the command `page` prints when it begins.
fn serves(page: &str) -> String {
    format!("mkdir -p /w; {page} > /w/index.html; httpd -f -p 80 -h /w & {RUNS}")
}

/// A daemon with the Podman that it drives.
struct Rig {
    // Ends before its engine does.
    daemon: DaemonProcess,
    server: PodmanServer,
}

/// What Podman itself lists.
#[derive(Debug, PartialEq, Eq)]
struct Everything {
    containers: Vec<String>,
    pods: Vec<String>,
    volumes: Vec<String>,
    networks: Vec<String>,
}

impl Everything {
    fn is_nothing(&self) -> bool {
        let Self { containers, pods, volumes, networks } = self;
        containers.is_empty() && pods.is_empty() && volumes.is_empty() && *networks == ["podman"]
    }
}

impl Rig {
    fn new() -> Self {
        Self::on(PodmanServer::start())
    }

    fn on(server: PodmanServer) -> Self {
        let daemon = DaemonProcess::start(|_| with_podman(&server.socket()));
        Self { daemon, server }
    }

    /// Runs an action that succeeds.
    fn done(&self, action: ActionSpec) -> Outcome {
        let outcome = self.daemon.execute(action).unwrap_or_else(|error| panic!("{:?}", read(&error)));
        assert_eq!(outcome.state.enum_value(), Ok(ActionState::ACTION_STATE_SUCCEEDED), "{outcome:?}");
        outcome
    }

    fn launch(&self, document: &str) -> Outcome {
        self.done(launch(document))
    }

    fn verb(&self, verb: Verb, target: &str) -> Outcome {
        self.done(on_target(verb, target))
    }

    /// Runs an action that does not succeed.
    fn fails(&self, action: ActionSpec) -> Details {
        match self.daemon.execute(action) {
            Ok(outcome) => panic!("it succeeded: {outcome:?}"),
            Err(error) => read(&error),
        }
    }

    /// Begins an action and gives its id.
    fn begin(&self, action: ActionSpec) -> String {
        let request = ExecuteActionRequest { action: MessageField::some(action), no_wait: true, ..Default::default() };
        let answer = self.daemon.actions().execute_action(&request, options()).unwrap();
        answer.outcome.action_id.clone()
    }

    fn action(&self, id: &str) -> Action {
        let request = GetActionRequest { action_id: id.to_owned(), ..Default::default() };
        self.daemon.actions().get_action(&request, options()).unwrap()
    }

    /// The outcome of an action that was begun, and how long it took from now.
    fn outcome(&self, id: &str) -> (Outcome, Duration) {
        let begun = Instant::now();
        let outcome = until("the action's end", LIMIT * 2, || self.action(id).outcome.into_option());
        (outcome, begun.elapsed())
    }

    fn workload(&self, name: &str) -> Workload {
        let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
        self.daemon.workloads().get_workload(&request, options()).unwrap()
    }

    fn state(&self, name: &str) -> WorkloadState {
        self.workload(name).state.enum_value().unwrap()
    }

    fn container(&self, workload: &str, name: &str) -> Container {
        let containers = self.workload(workload).containers;
        containers.into_iter().find(|container| container.name == name).expect("the workload has the container")
    }

    /// Runs a script in a container.
    fn exec(&self, workload: &str, container: &str, script: &str) -> ExecResponse {
        let request = ExecRequest {
            workload: workload.to_owned(),
            container: container.to_owned(),
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        self.daemon.workloads().exec(&request, options()).unwrap()
    }

    /// What the script prints, without blanks around it.
    fn shell(&self, workload: &str, container: &str, script: &str) -> String {
        let output = self.exec(workload, container, script);
        String::from_utf8_lossy(&output.stdout_data).trim().to_owned()
    }

    /// Waits until the script succeeds in the container.
    fn await_inside(&self, workload: &str, container: &str, script: &str) {
        until(script, LIMIT, || (self.exec(workload, container, script).exit_code == 0).then_some(()));
    }

    /// What the page at a published port of Podman's host says; `None` where nobody answers.
    fn page(&self, port: u16) -> Option<String> {
        // Not wget: the static busybox of Debian 12 crashes where an address has a port.
        let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | busybox nc -w 2 127.0.0.1 {port}");
        let output = self.server.inside("sh").args(["-c", &ask]).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.contains("200 OK").then(|| text.lines().last().unwrap_or_default().to_owned())
    }

    fn await_page(&self, port: u16) -> String {
        until("the page", LIMIT, || self.page(port))
    }

    fn everything(&self) -> Everything {
        let list = |arguments: &[&str]| {
            let mut names: Vec<_> = self.server.run(arguments).lines().map(str::to_owned).collect();
            names.sort();
            names
        };
        Everything {
            containers: list(&["ps", "-a", "--external", "--format", "{{.Names}}"]),
            pods: list(&["pod", "ls", "--format", "{{.Name}}"]),
            volumes: list(&["volume", "ls", "--format", "{{.Name}}"]),
            networks: list(&["network", "ls", "--format", "{{.Name}}"]),
        }
    }

    fn assert_nothing_left(&self) {
        let left = self.everything();
        assert!(left.is_nothing(), "{left:?}");
    }

    /// One field of a container as Podman tells it.
    fn podman_says(&self, container: &str, format: &str) -> String {
        self.server.run(&["inspect", "--type", "container", "--format", format, container])
    }
}

/// What a failed call says.
fn read(error: &grpcio::Error) -> Details {
    let grpcio::Error::RpcFailure(status) = error else { panic!("{error}") };
    details(status).unwrap_or_else(|| panic!("no details in {status:?}"))
}

/// Container ids by the containers' names.
fn ids(outcome: &Outcome) -> BTreeMap<String, String> {
    outcome.workloads.iter().flat_map(|workload| workload.container_ids.clone()).collect()
}

fn container_state(container: &Container) -> ContainerState {
    container.state.enum_value().unwrap()
}

/// A Pod; `spec` is YAML that begins at the first column.
fn pod(name: &str, spec: &str) -> String {
    let indented: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n{indented}")
}

/// One entry of a list of containers: busybox with this script. `more` are further fields, each after a comma.
fn entry(name: &str, script: &str, more: &str) -> String {
    let script = serde_json::to_string(script).unwrap();
    format!("- {{name: {name}, image: '{IMAGE}', command: [sh, -c, {script}]{more}}}\n")
}

/// A Pod of one container `main` that runs this script.
fn one(name: &str, script: &str, more: &str) -> String {
    pod(name, &format!("containers:\n{}", entry("main", script, more)))
}
