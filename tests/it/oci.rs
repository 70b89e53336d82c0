//! From a call to containers without an engine daemon: the real daemon over runc and conmon, killed in between.

use std::fs;
use std::path::Path;
use std::time::Duration;

use actioncontroller::grpc::status::details;
use actioncontroller::proto::actions::{ActionSpec, Outcome, Verb};
use actioncontroller::proto::workloads::{ExecRequest, GetWorkloadRequest, Workload, WorkloadState};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod};
use crate::support::layout;
use crate::support::rig::{BUSYBOX, criu_folder, kill_left_over};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

const RUNNING: WorkloadState = WorkloadState::WORKLOAD_STATE_RUNNING;

/// Runs until SIGTERM and then ends with 7.
const RUNS: &str = "trap \"exit 7\" TERM; while :; do sleep 0.05; done";

/// Counts in a file, ten times a second.
const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done";

/// A daemon that has runc alone. What it leaves is ended when this is dropped.
struct Rig {
    daemon: DaemonProcess,
}

/// No workload is started again by itself, so that an end is seen.
fn never(pod: &str) -> String {
    format!("{pod}  restartPolicy: Never\n")
}

impl Rig {
    fn new() -> Self {
        let mut daemon = DaemonProcess::start(|folder| {
            let images = folder.join("images/busybox");
            fs::create_dir_all(&images).unwrap();
            layout::busybox(&images, BUSYBOX);
            format!(
                "runtimes:\n  preference: [oci]\n  podman: {{enabled: false}}\n  \
                 oci: {{enabled: true, runtime: runc, run_dir: {0}/run, image_folders: [{0}/images]}}\n",
                folder.display()
            )
        });
        let paths = std::env::var("PATH").unwrap_or_default();
        daemon.kill();
        daemon.set_variable("PATH", format!("{}:{paths}", criu_folder().join("bin").display()));
        daemon.start_again();
        Self { daemon }
    }

    fn done(&self, action: ActionSpec) -> Outcome {
        self.daemon.execute(action).unwrap_or_else(|error| panic!("{error}"))
    }

    fn workload(&self, name: &str) -> Workload {
        let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
        self.daemon.workloads().get_workload(&request, options()).unwrap()
    }

    fn pid(&self, name: &str) -> i32 {
        self.workload(name).containers[0].pid
    }

    fn count(&self, name: &str) -> u32 {
        let argv = ["cat", "/count"].map(str::to_owned).to_vec();
        let request = ExecRequest { workload: name.to_owned(), argv, ..Default::default() };
        until("a count", LIMIT, || {
            let output = self.daemon.workloads().exec(&request, options()).ok()?;
            String::from_utf8_lossy(&output.stdout_data).trim().parse().ok()
        })
    }

    fn kill_and_start_again(&mut self) {
        self.daemon.kill();
        self.daemon.start_again();
    }

    /// The process that watches the container.
    fn conmon(&self) -> i32 {
        let containers = fs::read_dir(self.daemon.path("state/oci/containers")).unwrap().flatten();
        let files = containers.filter_map(|entry| fs::read_to_string(entry.path().join("conmon.pid")).ok());
        files.last().unwrap().trim().parse().unwrap()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for container in ["w", "x"] {
            let _ = self.daemon.execute(on_target(Verb::VERB_TERMINATE, container));
        }
        self.daemon.kill();
        kill_left_over(&self.daemon.path(""));
    }
}

fn is_there(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}/exe")).exists()
}

// req: RM-01
#[test]
fn container_outlives_the_daemon_and_keeps_its_exit_code() {
    let mut rig = Rig::new();
    let outcome = rig.done(launch(&never(&pod("w", BUSYBOX, RUNS))));
    assert_eq!(outcome.engine, "oci", "{outcome:?}");
    let pid = rig.pid("w");
    rig.kill_and_start_again();
    assert_eq!((rig.pid("w"), is_there(pid)), (pid, true), "it is adopted");
    assert!(!rig.done(launch(&never(&pod("w", BUSYBOX, RUNS)))).changed, "the same again");
    rig.done(on_target(Verb::VERB_STOP, "w"));
    assert_eq!(rig.workload("w").containers[0].exit_code, Some(7));
    rig.done(on_target(Verb::VERB_START, "w"));
    let pid = rig.pid("w");
    // It ends while nobody looks.
    rig.daemon.kill();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    until("its end", LIMIT, || (!is_there(pid)).then_some(()));
    rig.daemon.start_again();
    let ended = rig.workload("w");
    assert_eq!(ended.containers[0].exit_code, Some(7), "{ended:?}");
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    let left = fs::read_dir(rig.daemon.path("state/oci/containers")).unwrap().count();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert_eq!((left, mounts.contains(&rig.daemon.path("state/oci").display().to_string())), (0, false));
}

#[test]
fn exit_code_that_nobody_kept_is_not_invented() {
    let rig = Rig::new();
    rig.done(launch(&never(&pod("w", BUSYBOX, RUNS))));
    let pid = rig.pid("w");
    kill(Pid::from_raw(rig.conmon()), Signal::SIGKILL).unwrap();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let ended = until("its end", LIMIT, || Some(rig.workload("w")).filter(|found| found.state != RUNNING.into()));
    assert_eq!(ended.containers[0].exit_code, None, "{ended:?}");
    rig.done(on_target(Verb::VERB_START, "w"));
    assert_eq!(rig.workload("w").state, RUNNING.into());
}

#[test]
fn container_that_dies_is_started_again_by_its_policy() {
    let rig = Rig::new();
    rig.done(launch(&pod("w", BUSYBOX, RUNS)));
    let pid = rig.pid("w");
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    let again = until("its restart", LIMIT, || Some(rig.pid("w")).filter(|now| *now != 0 && *now != pid));
    assert!(is_there(again));
}

#[test]
fn hibernated_container_goes_on_where_it_was_under_the_next_daemon() {
    let mut rig = Rig::new();
    rig.done(launch(&pod("w", BUSYBOX, COUNTS)));
    let before = until("it counts", LIMIT, || Some(rig.count("w")).filter(|count| *count > 20));
    let pid = rig.pid("w");
    rig.done(on_target(Verb::VERB_HIBERNATE, "w"));
    assert!(!is_there(pid), "no process is left");
    rig.kill_and_start_again();
    assert_eq!(rig.workload("w").state, WorkloadState::WORKLOAD_STATE_HIBERNATED.into());
    rig.done(on_target(Verb::VERB_WAKE, "w"));
    let after = until("it counts on", LIMIT, || Some(rig.count("w")).filter(|count| *count > before));
    assert!(after < before + 600, "it goes on from where it was: {before}, {after}");
}

#[test]
fn image_that_lies_elsewhere_is_not_taken_by_its_path() {
    let rig = Rig::new();
    let elsewhere = rig.daemon.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    layout::busybox(&elsewhere, BUSYBOX);
    let asked = pod("w", &format!("oci:{}:{BUSYBOX}", elsewhere.display()), RUNS);
    match rig.daemon.execute(launch(&asked)) {
        Err(grpcio::Error::RpcFailure(status)) => {
            let told = details(&status).map(|details| details.error.message.clone()).unwrap_or_default();
            assert!(told.contains("oci:"), "{status:?}");
        }
        other => panic!("{other:?}"),
    }
}
