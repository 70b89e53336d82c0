//! Hibernate and wake through the real daemon: with CRIU on a real Podman, and with scripted faults on the simulator.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use actioncontroller::grpc::status::{Details, details};
use actioncontroller::proto::actions::{
    ActionSpec, ActionState, ExecuteActionRequest, GetActionRequest, Outcome, Verb,
};
use actioncontroller::proto::workloads::{ContainerState, ExecRequest, GetWorkloadRequest, WorkloadState};
use protobuf::MessageField;
use serde_json::Value;

use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod, with_podman, with_sim};
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Counts in a file, ten times a second.
const COUNTS: &str = "i=0; while :; do i=$((i+1)); echo $i >/count; sleep 0.1; done";

const HIBERNATED: WorkloadState = WorkloadState::WORKLOAD_STATE_HIBERNATED;
const RUNNING: WorkloadState = WorkloadState::WORKLOAD_STATE_RUNNING;

const HIBERNATING: ContainerState = ContainerState::CONTAINER_STATE_HIBERNATING;
const WAKING: ContainerState = ContainerState::CONTAINER_STATE_WAKING;

/// Restarts come at once, so that one that is not meant to be is seen.
const EAGER: &str = "actions: {restart_after: 100ms, restart_after_most: 100ms}\n";

fn state(daemon: &DaemonProcess, name: &str) -> WorkloadState {
    let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
    daemon.workloads().get_workload(&request, options()).unwrap().state.enum_value().unwrap()
}

fn done(daemon: &DaemonProcess, verb: Verb, target: &str) -> Outcome {
    daemon.execute(on_target(verb, target)).unwrap_or_else(|error| panic!("{verb:?}: {error}"))
}

fn fails(daemon: &DaemonProcess, action: ActionSpec) -> Details {
    match daemon.execute(action) {
        Ok(outcome) => panic!("it succeeded: {outcome:?}"),
        Err(grpcio::Error::RpcFailure(status)) => details(&status).expect("details"),
        Err(error) => panic!("{error}"),
    }
}

/// A daemon with a Podman that has this CRIU.
struct Rig {
    // Ends before its engine does.
    daemon: DaemonProcess,
    server: PodmanServer,
}

impl Rig {
    fn new() -> Self {
        Self::on(PodmanServer::start())
    }

    fn on(server: PodmanServer) -> Self {
        let daemon = DaemonProcess::start(|_| format!("{}{EAGER}", with_podman(&server.socket())));
        Self { daemon, server }
    }

    /// How far the workload has counted.
    fn count(&self, workload: &str) -> u32 {
        let request = ExecRequest {
            workload: workload.to_owned(),
            argv: ["cat", "/count"].map(str::to_owned).to_vec(),
            ..Default::default()
        };
        until("a count", LIMIT, || {
            let output = self.daemon.workloads().exec(&request, options()).ok()?;
            String::from_utf8_lossy(&output.stdout_data).trim().parse().ok()
        })
    }

    fn count_above(&self, workload: &str, least: u32) -> u32 {
        until("it counts on", LIMIT, || Some(self.count(workload)).filter(|count| *count > least))
    }

    fn pid(&self, container: &str) -> i32 {
        self.server.run(&["inspect", "-f", "{{.State.Pid}}", container]).parse().unwrap()
    }
}

/// A Pod that counts, of which restartPolicy is Always.
fn counting(name: &str, annotations: &str) -> String {
    let named = format!("metadata: {{name: {name}}}");
    pod(name, IMAGE, COUNTS).replace(&named, &format!("metadata: {{name: {name}, annotations: {{{annotations}}}}}"))
}

/// The largest file of the one checkpoint that is kept.
fn largest_file(daemon: &DaemonProcess, engine: &str) -> PathBuf {
    let records = fs::read_dir(daemon.path("state/checkpoints").join(engine)).unwrap().flatten();
    let record = records.map(|entry| entry.path()).find(|path| path.extension().is_some_and(|end| end == "json"));
    let record: Value = serde_json::from_slice(&fs::read(record.expect("a record")).unwrap()).unwrap();
    let root = Path::new(record["image"]["root"].as_str().unwrap());
    let files = record["files"].as_array().unwrap().iter();
    let largest = files.max_by_key(|file| file["bytes"].as_u64()).expect("files");
    root.join(largest["path"].as_str().unwrap())
}

#[test]
fn hibernated_workload_goes_on_where_it_was_also_over_a_restart_of_the_daemon() {
    let mut rig = Rig::new();
    rig.daemon.execute(launch(&counting("w", ""))).unwrap();
    let before = rig.count_above("w", 20);
    let pid = rig.pid("w_main");
    assert!(done(&rig.daemon, Verb::VERB_HIBERNATE, "w").changed);
    assert!(fs::metadata(format!("/proc/{pid}/exe")).is_err(), "no process is left");
    assert_eq!(state(&rig.daemon, "w"), HIBERNATED);
    assert!(!done(&rig.daemon, Verb::VERB_HIBERNATE, "w").changed, "twice is once");
    for verb in [Verb::VERB_START, Verb::VERB_LAUNCH, Verb::VERB_PAUSE, Verb::VERB_REMOVE] {
        let refused = fails(&rig.daemon, on_target(verb, "w"));
        assert_eq!(refused.error.code, "INVALID_STATE", "{verb:?}: {refused:?}");
    }
    rig.daemon.terminate();
    rig.daemon.start_again();
    // Long enough for a restart that is not asked for.
    thread::sleep(Duration::from_secs(2));
    assert_eq!(state(&rig.daemon, "w"), HIBERNATED, "it is no end that restartPolicy acts on");
    assert!(done(&rig.daemon, Verb::VERB_WAKE, "w").changed);
    assert_eq!(state(&rig.daemon, "w"), RUNNING);
    assert!(rig.count_above("w", before) < before + 600, "it goes on from where it was");
    assert!(!done(&rig.daemon, Verb::VERB_WAKE, "w").changed);
    assert_eq!(rig.server.run(&["inspect", "-f", "{{.RestartCount}}", "w_main"]), "0");
    let ended = fails(&rig.daemon, ActionSpec { target: "nobody".to_owned(), ..on_target(Verb::VERB_WAKE, "nobody") });
    assert_eq!(ended.error.code, "WORKLOAD_NOT_FOUND");
    done(&rig.daemon, Verb::VERB_TERMINATE, "w");
    assert_eq!(rig.server.run(&["ps", "-aq"]), "");
}

#[test]
fn stop_gives_a_hibernated_workload_up_and_it_starts_from_the_beginning() {
    let rig = Rig::new();
    rig.daemon.execute(launch(&counting("w", ""))).unwrap();
    rig.count_above("w", 20);
    done(&rig.daemon, Verb::VERB_HIBERNATE, "w");
    assert!(done(&rig.daemon, Verb::VERB_STOP, "w").changed);
    assert_eq!(state(&rig.daemon, "w"), WorkloadState::WORKLOAD_STATE_EXITED);
    assert_eq!(fails(&rig.daemon, on_target(Verb::VERB_WAKE, "w")).error.code, "INVALID_STATE");
    done(&rig.daemon, Verb::VERB_START, "w");
    assert!(rig.count("w") < 20, "from the beginning");
    done(&rig.daemon, Verb::VERB_HIBERNATE, "w");
    done(&rig.daemon, Verb::VERB_TERMINATE, "w");
    assert_eq!(rig.server.run(&["ps", "-aq"]), "");
}

#[test]
fn damaged_checkpoint_is_never_restored_and_starts_anew_where_the_document_says_so() {
    let rig = Rig::new();
    for (name, annotations) in [("w", ""), ("v", "actioncontroller.io/wake-fallback: cold-start")] {
        rig.daemon.execute(launch(&counting(name, annotations))).unwrap();
        rig.count_above(name, 20);
        done(&rig.daemon, Verb::VERB_HIBERNATE, name);
        let file = largest_file(&rig.daemon, "podman");
        let length = fs::metadata(&file).unwrap().len();
        fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(length / 2).unwrap();
        if annotations.is_empty() {
            let refused = fails(&rig.daemon, on_target(Verb::VERB_WAKE, name));
            assert!(refused.error.message.contains("damaged"), "{refused:?}");
            assert_ne!(state(&rig.daemon, name), RUNNING);
            done(&rig.daemon, Verb::VERB_TERMINATE, name);
        } else {
            let woken = done(&rig.daemon, Verb::VERB_WAKE, name);
            assert_eq!(state(&rig.daemon, name), RUNNING);
            assert!(rig.count(name) < 20, "from the beginning");
            let told = woken.steps.iter().any(|step| step.message.contains("started anew"));
            assert!(told || woken.warnings.iter().any(|warning| warning.message.contains("started anew")), "{woken:?}");
        }
    }
}

#[test]
fn criu_that_does_not_work_here_is_found_out_and_the_workload_runs_on() {
    let rig = Rig::on(PodmanServer::start_with_unfit_criu());
    rig.daemon.execute(launch(&counting("w", ""))).unwrap();
    let before = rig.count_above("w", 5);
    let refused = fails(&rig.daemon, on_target(Verb::VERB_HIBERNATE, "w"));
    assert!(refused.error.message.contains("checkpoint"), "{refused:?}");
    assert_eq!(state(&rig.daemon, "w"), RUNNING);
    rig.count_above("w", before);
    let shown = rig.daemon.ctl(&["runtimes"]);
    assert!(!String::from_utf8_lossy(&shown.stdout).contains("checkpoint"), "{shown:?}");
}

/// A daemon on a simulator with these faults and settings.
fn on_sim(faults: &str, more: &str) -> DaemonProcess {
    DaemonProcess::start(|folder| {
        with_sim(folder).replace("sim: {enabled: true,", &format!("sim: {{enabled: true, faults: [{faults}],")) + more
    })
}

fn two() -> String {
    "apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec:\n  hostNetwork: true\n  containers:\n  \
     - {name: a, image: i, command: [sleep, '1000']}\n  - {name: b, image: i, command: [sleep, '1000']}\n"
        .to_owned()
}

#[test]
fn failing_checkpoint_leaves_the_workload_running_with_all_its_containers_and_says_so() {
    let daemon = on_sim("{op: checkpoint, name: w_b, fail: {kind: engine, message: 'cannot dump'}}", EAGER);
    daemon.execute(launch(&two())).unwrap();
    let failed = fails(&daemon, on_target(Verb::VERB_HIBERNATE, "w"));
    assert!(failed.error.message.contains("cannot dump"), "{failed:?}");
    assert_eq!(state(&daemon, "w"), RUNNING, "the one that was hibernated is woken again");
    assert!(!done(&daemon, Verb::VERB_START, "w").changed);
}

#[test]
fn failing_restore_leaves_it_hibernated_to_be_tried_again() {
    let daemon = on_sim("{op: restore, nth: 1, fail: {kind: engine, message: 'cannot restore'}}", EAGER);
    daemon.execute(launch(&pod("w", "i", "sleep 1000"))).unwrap();
    done(&daemon, Verb::VERB_HIBERNATE, "w");
    assert!(fails(&daemon, on_target(Verb::VERB_WAKE, "w")).error.message.contains("cannot restore"));
    assert_eq!(state(&daemon, "w"), HIBERNATED);
    done(&daemon, Verb::VERB_WAKE, "w");
    assert_eq!(state(&daemon, "w"), RUNNING);
}

#[test]
fn checkpoint_that_would_not_fit_is_refused_before_anything_is_stopped() {
    let daemon = on_sim("", "hibernation: {max_bytes: 1B}\n");
    daemon.execute(launch(&pod("w", "i", "sleep 1000"))).unwrap();
    let refused = fails(&daemon, on_target(Verb::VERB_HIBERNATE, "w"));
    assert!(refused.error.message.contains("checkpoint of 'w_main'"), "{refused:?}");
    assert_eq!(state(&daemon, "w"), RUNNING);
}

#[test]
fn stop_during_a_checkpoint_ends_it() {
    let daemon = on_sim("{op: checkpoint, delay_ms: 30000}", EAGER);
    daemon.execute(launch(&pod("w", "i", "sleep 1000"))).unwrap();
    begin(&daemon, Verb::VERB_HIBERNATE, "h");
    await_container(&daemon, HIBERNATING);
    done(&daemon, Verb::VERB_STOP, "w");
    assert_eq!(state(&daemon, "w"), WorkloadState::WORKLOAD_STATE_EXITED);
    let hibernation = until("its end", LIMIT, || outcome(&daemon, "h"));
    assert_ne!(hibernation.state, ActionState::ACTION_STATE_SUCCEEDED.into(), "{hibernation:?}");
}

/// Waits until the first container of `w` is in this state.
fn await_container(daemon: &DaemonProcess, state: ContainerState) {
    until("the container's state", LIMIT, || {
        let request = GetWorkloadRequest { name: "w".to_owned(), ..Default::default() };
        let found = daemon.workloads().get_workload(&request, options()).unwrap();
        (found.containers[0].state == state.into()).then_some(())
    });
}

/// Begins the verb on `w` under this id.
fn begin(daemon: &DaemonProcess, verb: Verb, id: &str) {
    let action = MessageField::some(ActionSpec { action_id: id.to_owned(), ..on_target(verb, "w") });
    let request = ExecuteActionRequest { action, no_wait: true, ..Default::default() };
    daemon.actions().execute_action(&request, options()).unwrap();
}

fn outcome(daemon: &DaemonProcess, id: &str) -> Option<Outcome> {
    let request = GetActionRequest { action_id: id.to_owned(), ..Default::default() };
    daemon.actions().get_action(&request, options()).ok()?.outcome.into_option()
}

#[test]
fn daemon_that_dies_in_the_middle_undoes_or_finishes_and_tells_which() {
    for (verb, op) in [(Verb::VERB_HIBERNATE, "checkpoint"), (Verb::VERB_WAKE, "restore")] {
        for after_effect in [false, true] {
            let fault = format!("{{op: {op}, nth: 1, delay_ms: 1500, after_effect: {after_effect}}}");
            let mut daemon = on_sim(&fault, EAGER);
            daemon.execute(launch(&pod("w", "i", "sleep 1000"))).unwrap();
            if verb == Verb::VERB_WAKE {
                done(&daemon, Verb::VERB_HIBERNATE, "w");
            }
            begin(&daemon, verb, "dies");
            let is_hibernation = verb == Verb::VERB_HIBERNATE;
            await_container(&daemon, if is_hibernation { HIBERNATING } else { WAKING });
            // Its effect comes at once where it is not put off, and its end later than this in any case.
            thread::sleep(Duration::from_millis(200));
            daemon.kill();
            daemon.start_again();
            let told = until("its end", LIMIT, || outcome(&daemon, "dies"));
            let now = until("a state that stays", LIMIT, || {
                let now = state(&daemon, "w");
                matches!(now, HIBERNATED | RUNNING).then_some(now)
            });
            let finished = told.state == ActionState::ACTION_STATE_SUCCEEDED.into();
            let meant = if finished == is_hibernation { HIBERNATED } else { RUNNING };
            assert_eq!(now, meant, "{verb:?}, after its effect: {after_effect}: {told:?}");
            // Nothing stands in the way of what comes next.
            done(&daemon, Verb::VERB_TERMINATE, "w");
        }
    }
}
