//! From a call to containers without an engine daemon: the real daemon over runc and conmon, killed in between.

mod networks;

use std::fs;
use std::path::Path;
use std::time::Duration;

use actioncontroller::cancel::CancelToken;
use actioncontroller::clock::Deadline;
use actioncontroller::grpc::status::details;
use actioncontroller::model::workload::{PullPolicy, labels};
use actioncontroller::proto::actions::{ActionSpec, ExecuteActionRequest, Outcome, Verb};
use actioncontroller::proto::workloads::{ExecRequest, GetWorkloadRequest, Workload, WorkloadState};
use actioncontroller::runtime::adapter::{Call, Change, ListFilter, NoProgress, RuntimeAdapter, RuntimeError};
use actioncontroller::runtime::oci::{Oci, OciConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protobuf::MessageField;
use serde_json::json;

use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod};
use crate::support::layout;
use crate::support::oci::OciRig;
use crate::support::rig::{BUSYBOX, busybox_tree, container, criu_folder, kill_left_over, own_network};
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
        own_network();
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
        self.daemon.done(action)
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
fn wake_that_lacks_something_of_the_node_leaves_it_hibernated_and_a_later_one_goes_on() {
    let rig = Rig::new();
    let shared = rig.daemon.path("shared");
    fs::create_dir(&shared).unwrap();
    let plain = pod("w", BUSYBOX, COUNTS);
    let mounting = plain.trim_end().trim_end_matches('}');
    let mounted = format!(
        "{mounting}, volumeMounts: [{{name: s, mountPath: /shared}}]}}\n  \
         volumes: [{{name: s, hostPath: {{path: {}}}}}]\n",
        shared.display()
    );
    rig.done(launch(&mounted));
    let before = until("it counts", LIMIT, || Some(rig.count("w")).filter(|count| *count > 10));
    rig.done(on_target(Verb::VERB_HIBERNATE, "w"));
    fs::remove_dir(&shared).unwrap();
    match rig.daemon.execute(on_target(Verb::VERB_WAKE, "w")) {
        Err(grpcio::Error::RpcFailure(status)) => {
            let error = details(&status).expect("details").error;
            assert!(error.hint.contains("hibernated still") && error.message.contains("shared"), "{error:?}");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(rig.workload("w").state, WorkloadState::WORKLOAD_STATE_HIBERNATED.into());
    fs::create_dir(&shared).unwrap();
    rig.done(on_target(Verb::VERB_WAKE, "w"));
    let after = until("it counts on", LIMIT, || Some(rig.count("w")).filter(|count| *count > before));
    assert!(after < before + 600, "it goes on from where it was: {before}, {after}");
}

#[test]
fn daemon_that_dies_in_a_wake_loses_no_hibernated_container() {
    let mut rig = Rig::new();
    rig.done(launch(&pod("w", BUSYBOX, COUNTS)));
    let mut least = until("it counts", LIMIT, || Some(rig.count("w")).filter(|count| *count > 10));
    for moment in [10, 60, 150, 300] {
        rig.done(on_target(Verb::VERB_HIBERNATE, "w"));
        let actions = rig.daemon.actions();
        let wake = std::thread::spawn(move || {
            let action = MessageField::some(on_target(Verb::VERB_WAKE, "w"));
            drop(actions.execute_action(&ExecuteActionRequest { action, ..Default::default() }, options()));
        });
        // Whenever it comes, nothing is lost: before, in the middle of, and after the restore.
        std::thread::sleep(Duration::from_millis(moment));
        rig.kill_and_start_again();
        wake.join().unwrap();
        // What was under way is finished or undone by the next start.
        until("it is settled", LIMIT, || {
            let state = rig.workload("w").state;
            let hibernated = WorkloadState::WORKLOAD_STATE_HIBERNATED.into();
            let settled = rig.daemon.execute(on_target(Verb::VERB_WAKE, "w")).is_ok();
            (settled && (state == RUNNING.into() || state == hibernated)).then_some(())
        });
        least = until("it counts on", LIMIT, || Some(rig.count("w")).filter(|count| *count > least));
    }
    assert!(least < 3_000, "it has begun anew nowhere: {least}");
}

// req: BM-03
#[test]
fn bundle_runs_on_its_folder_which_it_does_not_change() {
    let rig = Rig::new();
    let tree = busybox_tree(&rig.daemon.path(""));
    let bundle = json!({
        "ociVersion": "1.0.2",
        "annotations": {"actioncontroller.io/name": "w"},
        "root": {"path": tree},
        "process": {"args": ["/bin/sh", "-c", format!("echo mine >/tmp/written; {RUNS}")], "cwd": "/",
            "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0},
            "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]}},
        "linux": {"namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"},
            {"type": "mount"}, {"type": "cgroup"}], "resources": {"pids": {"limit": 20}}},
    });
    let outcome = rig.done(launch(&bundle.to_string()));
    assert_eq!((outcome.engine.as_str(), outcome.engine_reason.as_str()), ("oci", "default"), "{outcome:?}");
    let argv = ["sh", "-c", "cat /tmp/written; grep CapBnd /proc/1/status"].map(str::to_owned).to_vec();
    let request = ExecRequest { workload: "w".to_owned(), argv, ..Default::default() };
    let told = until("what it wrote", LIMIT, || {
        let output = rig.daemon.workloads().exec(&request, options()).ok()?;
        let text = String::from_utf8_lossy(&output.stdout_data).into_owned();
        text.starts_with("mine").then_some(text)
    });
    assert!(told.contains("0000000000000020"), "its one capability, CAP_KILL: {told}");
    assert!(!tree.join("tmp/written").exists(), "the folder is a base that others may have too");
    rig.done(on_target(Verb::VERB_STOP, "w"));
    assert_eq!(rig.workload("w").containers[0].exit_code, Some(7));
}

#[test]
fn command_that_is_not_there_is_told_in_the_runtime_s_own_words() {
    let rig = Rig::new();
    let absent = pod("w", BUSYBOX, RUNS).replace("command: [sh, -c,", "command: [no-such-program, -c,");
    match rig.daemon.execute(launch(&absent)) {
        Err(grpcio::Error::RpcFailure(status)) => {
            let told = details(&status).expect("details").error.message.clone();
            assert!(told.contains("no-such-program") && !told.contains("level="), "{told}");
        }
        other => panic!("{other:?}"),
    }
}

fn call_within(budget: Duration, cancel: &CancelToken) -> Call<'_> {
    Call { deadline: Deadline::after(budget), cancel, progress: &NoProgress }
}

#[test]
fn engine_that_comes_later_is_found_by_those_who_only_list() {
    let rig = OciRig::with_runc();
    let runtime = rig.files().join("runtime");
    let oci = Oci::open(OciConfig { runtime: runtime.clone(), ..rig.config() }).unwrap();
    let cancel = CancelToken::new();
    let list = || oci.list_containers(&call_within(LIMIT, &cancel), &ListFilter::default());
    assert!(matches!(list(), Err(RuntimeError::EngineNotAvailable { .. })));
    let places = ["/usr/sbin/runc", "/usr/bin/runc"];
    let runc = places.into_iter().find(|path| Path::new(path).exists()).expect("runc is installed");
    std::os::unix::fs::symlink(runc, &runtime).unwrap();
    until("it is found", LIMIT, || list().ok());
}

#[test]
fn command_inside_that_is_late_is_ended_with_what_it_started() {
    let rig = OciRig::with_runc();
    let oci = rig.adapter();
    let cancel = CancelToken::new();
    let call = call_within(LIMIT, &cancel);
    let mut config = container("w", RUNS);
    config.labels.insert(labels::NODE.to_owned(), rig.config().node);
    let id = oci.create_container(&call, &config).unwrap().id;
    oci.start_container(&call, &id).unwrap();
    let mark = format!("{}", 4_000_000 + std::process::id());
    let argv = ["sh", "-c", &format!("sleep {mark} & sleep {mark} & wait")].map(str::to_owned);
    let late = oci.exec_in_container(&call_within(Duration::from_millis(600), &cancel), &id, &argv);
    assert!(matches!(late, Err(RuntimeError::Timeout { .. })), "{late:?}");
    let left = oci.exec_in_container(&call, &id, &["ps"].map(str::to_owned)).unwrap();
    let left = String::from_utf8_lossy(&left.stdout).into_owned();
    assert!(left.contains("sleep 0.05") || left.contains("sh -c"), "the container's own run on: {left}");
    assert!(!left.contains(&mark), "{left}");
}

#[test]
fn proofs_that_a_killed_daemon_left_are_taken_down() {
    let rig = OciRig::with_runc();
    drop(rig.adapter());
    for name in ["proof-0", "checkpoint-proof-0", "actioncontroller-proof-0/usr"] {
        fs::create_dir_all(rig.config().dir.join(name)).unwrap();
    }
    let oci = rig.adapter();
    let left = fs::read_dir(rig.config().dir).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains("proof")).collect();
    assert!(left.is_empty(), "{left:?}");
    drop(oci);
}

#[test]
fn image_that_a_path_names_has_to_lie_in_the_folders_for_images() {
    let rig = OciRig::with_runc();
    let oci = rig.adapter();
    let cancel = CancelToken::new();
    let elsewhere = rig.files().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    layout::busybox(&elsewhere, BUSYBOX);
    let ensure = |folder: &Path| {
        let image = format!("oci:{}:{BUSYBOX}", folder.display());
        oci.ensure_image(&call_within(LIMIT, &cancel), &image, PullPolicy::IfNotPresent)
    };
    assert!(matches!(ensure(&elsewhere), Err(RuntimeError::PermissionDenied { .. })));
    let around = rig.files().join("images/../elsewhere");
    assert!(matches!(ensure(&around), Err(RuntimeError::PermissionDenied { .. })));
    assert_eq!(ensure(&rig.files().join("images/present")), Ok(Change::Changed));
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
