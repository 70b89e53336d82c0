//! From a call to containers on a real containerd: the engine that dies and comes back, and the daemon that does.

use std::fs;
use std::path::Path;
use std::time::Duration;

use actioncontroller::proto::actions::{ActionSpec, Outcome, Verb};
use actioncontroller::proto::workloads::{GetWorkloadRequest, Workload, WorkloadState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::containerd::ContainerdServer;
use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod, with_sim};
use crate::support::rig::BUSYBOX;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs until SIGTERM and then ends with 7.
const RUNS: &str = "trap \"exit 7\" TERM; echo up; while :; do sleep 0.05; done";

const RUNNING: WorkloadState = WorkloadState::WORKLOAD_STATE_RUNNING;
const PAUSED: WorkloadState = WorkloadState::WORKLOAD_STATE_PAUSED;

/// A daemon with a containerd, and the simulator beside it.
struct Rig {
    // Ends before its engine does.
    daemon: DaemonProcess,
    server: ContainerdServer,
}

impl Rig {
    fn new() -> Self {
        let server = ContainerdServer::start();
        let containerd = format!("  containerd: {{enabled: true, socket: {}}}\n", server.socket().display());
        let daemon = DaemonProcess::start(|folder| {
            with_sim(folder).replacen("runtimes:\n", &format!("runtimes:\n{containerd}"), 1)
        });
        Self { daemon, server }
    }

    fn done(&self, action: ActionSpec) -> Outcome {
        self.daemon.execute(action).unwrap_or_else(|error| panic!("{error}"))
    }

    fn workload(&self, name: &str) -> Option<Workload> {
        let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
        self.daemon.workloads().get_workload(&request, options()).ok()
    }

    fn await_state(&self, name: &str, state: WorkloadState) -> Workload {
        until("the workload's state", LIMIT, || self.workload(name).filter(|found| found.state == state.into()))
    }

    /// Stops it, which its handler answers with 7.
    fn stops_with_7(&self, name: &str) {
        self.done(on_target(Verb::VERB_STOP, name));
        let stopped = self.workload(name).unwrap();
        assert_eq!(stopped.containers[0].exit_code, Some(7), "{stopped:?}");
    }

    /// What a terminate has to take with it: of the image alone there may be something.
    fn assert_nothing_is_left(&self) {
        for listing in [&["containers", "ls", "-q"][..], &["tasks", "ls", "-q"], &["leases", "ls", "-q"]] {
            assert_eq!(self.server.run(listing), "", "{listing:?}");
        }
        let snapshots = self.server.run(&["snapshots", "ls"]);
        assert!(snapshots.lines().skip(1).all(|line| line.contains("Committed")), "{snapshots}");
        let gone = || self.server.processes_with("containerd-shim").is_empty().then_some(());
        until("the end of the shim", LIMIT, gone);
        let folder = self.daemon.path("state/containerd");
        assert_eq!(fs::read_dir(folder.join("containers")).unwrap().count(), 0);
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        assert!(!mounts.contains(&folder.display().to_string()), "{mounts}");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.daemon.kill();
    }
}

fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

/// A document that asks for containerd by annotation; no workload is started again by itself, so that an end is seen.
fn on_containerd(name: &str) -> String {
    let annotated = format!("metadata: {{name: {name}, annotations: {{actioncontroller.io/runtime: containerd}}}}");
    let pod = pod(name, BUSYBOX, RUNS).replace(&format!("metadata: {{name: {name}}}"), &annotated);
    format!("{pod}  restartPolicy: Never\n")
}

#[test]
fn document_that_asks_for_containerd_lives_its_life_there() {
    let rig = Rig::new();
    let outcome = rig.done(launch(&on_containerd("w")));
    let told = (outcome.engine.as_str(), outcome.engine_reason.as_str());
    assert_eq!(told, ("containerd", "annotation"), "{outcome:?}");
    assert_eq!(rig.server.run(&["tasks", "ls", "-q"]).lines().count(), 1);
    assert!(!rig.done(launch(&on_containerd("w"))).changed, "the same again");
    let pid = rig.await_state("w", RUNNING).containers[0].pid;
    rig.done(on_target(Verb::VERB_PAUSE, "w"));
    rig.await_state("w", PAUSED);
    rig.done(on_target(Verb::VERB_RESUME, "w"));
    assert_eq!(rig.await_state("w", RUNNING).containers[0].pid, pid);
    rig.stops_with_7("w");
    let said = rig.daemon.ctl(&["logs", "w"]);
    assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "up", "{said:?}");
    rig.done(on_target(Verb::VERB_START, "w"));
    assert_ne!(rig.await_state("w", RUNNING).containers[0].pid, pid);
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    rig.assert_nothing_is_left();
}

#[test]
fn container_goes_on_while_containerd_is_killed_and_started_again() {
    let mut rig = Rig::new();
    rig.done(launch(&on_containerd("w")));
    let pid = rig.await_state("w", RUNNING).containers[0].pid;
    rig.server.kill_containerd();
    assert!(is_there(pid));
    rig.server.start_containerd();
    let again = until("it is seen again", LIMIT, || rig.workload("w").filter(|found| found.containers[0].pid != 0));
    assert_eq!((again.containers[0].pid, is_there(pid)), (pid, true));
    rig.stops_with_7("w");
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    rig.assert_nothing_is_left();
}

#[test]
fn container_outlives_the_daemon_and_keeps_its_exit_code() {
    let mut rig = Rig::new();
    rig.done(launch(&on_containerd("w")));
    let pid = rig.await_state("w", RUNNING).containers[0].pid;
    rig.daemon.kill();
    assert!(is_there(pid));
    rig.daemon.start_again();
    assert_eq!(rig.await_state("w", RUNNING).containers[0].pid, pid, "it is adopted");
    assert!(!rig.done(launch(&on_containerd("w"))).changed, "the same again");
    // It ends while nobody looks.
    rig.daemon.kill();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    until("its end", LIMIT, || (!is_there(pid)).then_some(()));
    rig.daemon.start_again();
    let ended = rig.workload("w").unwrap();
    assert_eq!(ended.containers[0].exit_code, Some(7), "{ended:?}");
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    rig.assert_nothing_is_left();
}
