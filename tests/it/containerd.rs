//! From a call to containers on a real containerd: the engine that dies and comes back, and the daemon that does.

mod adapter;

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionSpec, Outcome, Verb};
use actioncontroller::proto::workloads::{ExecRequest, GetWorkloadRequest, Workload, WorkloadState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::containerd::ContainerdServer;
use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod, with_sim};
use crate::support::rig::{BUSYBOX, pids_in};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs until SIGTERM and then ends with 7.
const RUNS: &str = "trap \"exit 7\" TERM; echo up; while :; do sleep 0.05; done";

/// Counts in a file and in its output, ten times a second.
const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo $i >/count; echo $i; sleep 0.1; done";

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
        self.daemon.done(action)
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

    /// How many processes write output of containers.
    fn loggers(&self) -> usize {
        pids_in(&self.daemon.path("state"), "container-log").len()
    }

    fn await_end_of_loggers(&self) {
        until("the end of the logger", LIMIT, || (self.loggers() == 0).then_some(()));
    }

    /// How far the workload has counted.
    fn count(&self, name: &str) -> u32 {
        let argv = ["cat", "/count"].map(str::to_owned).to_vec();
        let request = ExecRequest { workload: name.to_owned(), argv, ..Default::default() };
        until("a count", LIMIT, || {
            let output = self.daemon.workloads().exec(&request, options()).ok()?;
            String::from_utf8_lossy(&output.stdout_data).trim().parse().ok()
        })
    }

    fn output(&self, name: &str, options: &[&str]) -> String {
        let said = self.daemon.ctl(&[&["logs", name], options].concat());
        assert!(said.status.success(), "{said:?}");
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// What a terminate has to take with it: of the image alone there may be something.
    fn assert_nothing_is_left(&self) {
        for listing in [&["containers", "ls", "-q"][..], &["tasks", "ls", "-q"], &["leases", "ls", "-q"]] {
            assert_eq!(self.server.run(listing), "", "{listing:?}");
        }
        let snapshots = self.server.run(&["snapshots", "ls"]);
        assert!(snapshots.lines().skip(1).all(|line| line.contains("Committed")), "{snapshots}");
        let gone = || self.server.pids_with("containerd-shim").is_empty().then_some(());
        until("the end of the shim", LIMIT, gone);
        assert_eq!(self.loggers(), 0);
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
fn on_containerd(name: &str, script: &str) -> String {
    let annotated = format!("metadata: {{name: {name}, annotations: {{actioncontroller.io/runtime: containerd}}}}");
    let pod = pod(name, BUSYBOX, script).replace(&format!("metadata: {{name: {name}}}"), &annotated);
    format!("{pod}  restartPolicy: Never\n")
}

#[test]
fn document_that_asks_for_containerd_lives_its_life_there() {
    let rig = Rig::new();
    let outcome = rig.done(launch(&on_containerd("w", RUNS)));
    let told = (outcome.engine.as_str(), outcome.engine_reason.as_str());
    assert_eq!(told, ("containerd", "annotation"), "{outcome:?}");
    assert_eq!(rig.server.run(&["tasks", "ls", "-q"]).lines().count(), 1);
    assert!(!rig.done(launch(&on_containerd("w", RUNS))).changed, "the same again");
    let pid = rig.await_state("w", RUNNING).containers[0].pid;
    rig.done(on_target(Verb::VERB_PAUSE, "w"));
    rig.await_state("w", PAUSED);
    rig.done(on_target(Verb::VERB_RESUME, "w"));
    assert_eq!(rig.await_state("w", RUNNING).containers[0].pid, pid);
    rig.stops_with_7("w");
    assert_eq!(rig.output("w", &[]), "up\n");
    rig.done(on_target(Verb::VERB_START, "w"));
    assert_ne!(rig.await_state("w", RUNNING).containers[0].pid, pid);
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    rig.assert_nothing_is_left();
}

#[test]
fn container_goes_on_while_containerd_is_killed_and_started_again() {
    let mut rig = Rig::new();
    rig.done(launch(&on_containerd("w", RUNS)));
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
    rig.done(launch(&on_containerd("w", RUNS)));
    let pid = rig.await_state("w", RUNNING).containers[0].pid;
    rig.daemon.kill();
    assert!(is_there(pid));
    rig.daemon.start_again();
    assert_eq!(rig.await_state("w", RUNNING).containers[0].pid, pid, "it is adopted");
    assert!(!rig.done(launch(&on_containerd("w", RUNS))).changed, "the same again");
    // Also by its own end, with streams of containerd's open.
    let begun = Instant::now();
    assert!(rig.daemon.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    rig.daemon.start_again();
    assert_eq!(rig.await_state("w", RUNNING).containers[0].pid, pid, "it is adopted again");
    // It ends while nobody looks.
    rig.daemon.kill();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    until("its end", LIMIT, || (!is_there(pid)).then_some(()));
    assert_eq!(rig.loggers(), 1, "nobody has told it");
    rig.daemon.start_again();
    rig.await_end_of_loggers();
    let ended = rig.workload("w").unwrap();
    assert_eq!(ended.containers[0].exit_code, Some(7), "{ended:?}");
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    rig.assert_nothing_is_left();
}

#[test]
fn output_of_what_ends_by_itself_is_whole_and_its_logger_ends() {
    let rig = Rig::new();
    let lines = "n=0; while [ $n -lt 2000 ]; do echo line $n; n=$((n+1)); done; sleep 1; echo last; exit 3";
    rig.done(launch(&on_containerd("w", lines)));
    let followed = rig.output("w", &["--follow"]);
    assert_eq!((followed.lines().count(), followed.lines().last()), (2001, Some("last")));
    // It has its task still, and nobody has asked for anything since.
    rig.await_end_of_loggers();
    assert_eq!(rig.server.run(&["tasks", "ls", "-q"]).lines().count(), 1);
    assert_eq!(rig.output("w", &[]), followed);
    assert_eq!(rig.workload("w").unwrap().containers[0].exit_code, Some(3));
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    rig.assert_nothing_is_left();
}

#[test]
fn hibernated_container_goes_on_where_it_was_under_the_next_daemon() {
    let mut rig = Rig::new();
    rig.done(launch(&on_containerd("w", COUNTS)));
    let before = until("it counts", LIMIT, || Some(rig.count("w")).filter(|count| *count > 20));
    let pid = rig.await_state("w", RUNNING).containers[0].pid;
    rig.done(on_target(Verb::VERB_HIBERNATE, "w"));
    assert!(!is_there(pid), "no process is left");
    rig.await_end_of_loggers();
    rig.daemon.kill();
    rig.daemon.start_again();
    rig.await_state("w", WorkloadState::WORKLOAD_STATE_HIBERNATED);
    assert!(!rig.done(on_target(Verb::VERB_HIBERNATE, "w")).changed);
    rig.done(on_target(Verb::VERB_WAKE, "w"));
    let after = until("it counts on", LIMIT, || Some(rig.count("w")).filter(|count| *count > before));
    assert!(after < before + 600, "it goes on from where it was: {before}, {after}");
    let said = rig.output("w", &[]);
    let numbers: Vec<u32> = said.lines().map(|line| line.parse().unwrap()).collect();
    let last = u32::try_from(numbers.len()).unwrap();
    assert!(last > before && numbers.iter().copied().eq(1..=last), "none is lost and none comes twice: {numbers:?}");
    rig.done(on_target(Verb::VERB_HIBERNATE, "w"));
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    rig.assert_nothing_is_left();
    assert_eq!(fs::read_dir(rig.daemon.path("state/checkpoints/containerd")).map_or(0, Iterator::count), 0);
}
