//! The verbs on what runs, on what does not, and on what is not ours.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionSpec, Parameters, Verb};
use actioncontroller::proto::workloads::{ContainerState, WorkloadState};
use grpcio::RpcStatusCode;
use protobuf::MessageField;

use super::{RUNS, Rig, container_state, entry, ids, one, pod};
use crate::support::daemon::{launch, on_target};
use crate::support::podman::IMAGE;

fn with(verb: Verb, target: &str, parameters: Parameters) -> ActionSpec {
    ActionSpec { parameters: MessageField::some(parameters), ..on_target(verb, target) }
}

#[test]
fn pause_freezes_and_resume_goes_on_with_the_same_process() {
    let rig = Rig::new();
    rig.launch(&one("w", RUNS, ""));
    let pid = rig.container("w", "main").pid;
    assert!(rig.verb(Verb::VERB_PAUSE, "w").changed);
    assert_eq!(rig.podman_says("w_main", "{{.State.Status}}"), "paused");
    assert_eq!(rig.workload("w").desired, "paused");
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_PAUSED);
    assert!(!rig.verb(Verb::VERB_PAUSE, "w").changed);
    let refused = rig.fails(on_target(Verb::VERB_START, "w"));
    assert_eq!(refused.error.code, "INVALID_STATE", "{refused:?}");
    assert!(rig.verb(Verb::VERB_RESUME, "w").changed);
    assert!(!rig.verb(Verb::VERB_RESUME, "w").changed);
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_eq!(rig.container("w", "main").pid, pid);

    rig.verb(Verb::VERB_PAUSE, "w");
    rig.verb(Verb::VERB_STOP, "w");
    assert_eq!(rig.container("w", "main").exit_code, Some(0), "it was thawed for its handler");
}

#[test]
fn restart_runs_the_init_containers_again_and_keeps_the_containers() {
    let rig = Rig::new();
    let mount = ", volumeMounts: [{name: count, mountPath: /count}]";
    let spec = format!(
        "initContainers:\n{}containers:\n{}volumes: [{{name: count, emptyDir: {{}}}}]\n",
        entry("init", "echo run >> /count/init", mount),
        entry("main", RUNS, mount)
    );
    let first = rig.launch(&pod("w", &spec));
    let pid = rig.container("w", "main").pid;
    let again = rig.verb(Verb::VERB_RESTART, "w");
    assert!(again.changed);
    assert_eq!(ids(&again), ids(&first));
    assert_ne!(rig.container("w", "main").pid, pid);
    assert_eq!(rig.shell("w", "main", "wc -l < /count/init"), "2");
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);
}

#[test]
// req: LS-02
fn stop_gives_the_handler_its_time_and_is_idempotent() {
    let rig = Rig::new();
    let saves = "trap 'echo saving; sleep 0.3; echo saved; exit 7' TERM; touch /ready; while :; do sleep 0.05; done";
    rig.launch(&one("w", saves, ""));
    rig.await_inside("w", "main", "test -e /ready");
    assert!(rig.verb(Verb::VERB_STOP, "w").changed);
    let container = rig.container("w", "main");
    assert_eq!(container_state(&container), ContainerState::CONTAINER_STATE_EXITED);
    assert_eq!(container.exit_code, Some(7));
    assert!(rig.server.run(&["logs", "w_main"]).ends_with("saving\nsaved"));
    assert_eq!(rig.workload("w").desired, "stopped");
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_EXITED);
    assert!(!rig.verb(Verb::VERB_STOP, "w").changed);
}

#[test]
// req: LS-02
fn grace_of_half_a_second_is_half_a_second() {
    let rig = Rig::new();
    rig.launch(&one("w", "trap '' TERM; touch /ready; while :; do sleep 0.05; done", ""));
    rig.await_inside("w", "main", "test -e /ready");
    let begun = Instant::now();
    rig.done(with(Verb::VERB_STOP, "w", Parameters { grace_ms: Some(500), ..Default::default() }));
    let took = begun.elapsed();
    assert!((Duration::from_millis(500)..Duration::from_millis(2500)).contains(&took), "{took:?}");
    assert_eq!(rig.container("w", "main").exit_code, Some(137));
}

#[test]
fn kill_ends_at_once_and_another_signal_is_sent_as_it_is() {
    let rig = Rig::new();
    let listens = "trap 'touch /told' USR1; trap '' TERM; touch /ready; while :; do sleep 0.05; done";
    rig.launch(&one("w", listens, ""));
    rig.await_inside("w", "main", "test -e /ready");
    rig.done(with(Verb::VERB_KILL, "w", Parameters { signal: "SIGUSR1".to_owned(), ..Default::default() }));
    rig.await_inside("w", "main", "test -e /told");
    assert_eq!(rig.workload("w").desired, "running");
    let begun = Instant::now();
    assert!(rig.verb(Verb::VERB_KILL, "w").changed);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(rig.container("w", "main").exit_code, Some(137));
    assert_eq!(rig.workload("w").desired, "stopped");
    assert!(!rig.verb(Verb::VERB_KILL, "w").changed);
}

#[test]
fn remove_wants_a_stop_or_force_and_what_is_unknown_is_unchanged_or_not_found() {
    let rig = Rig::new();
    rig.launch(&one("w", RUNS, ""));
    let refused = rig.fails(on_target(Verb::VERB_REMOVE, "w"));
    assert_eq!(refused.error.code, "INVALID_STATE", "{refused:?}");
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);
    rig.done(with(Verb::VERB_REMOVE, "w", Parameters { force: true, ..Default::default() }));
    rig.assert_nothing_left();

    for verb in [Verb::VERB_TERMINATE, Verb::VERB_REMOVE] {
        assert!(!rig.verb(verb, "w").changed, "{verb:?}");
    }
    for verb in [Verb::VERB_STOP, Verb::VERB_START, Verb::VERB_KILL, Verb::VERB_PAUSE, Verb::VERB_RESTART] {
        let unknown = rig.fails(on_target(verb, "w"));
        assert_eq!(unknown.error.status, i32::from(RpcStatusCode::NOT_FOUND), "{verb:?}: {unknown:?}");
        assert_eq!(unknown.error.code, "WORKLOAD_NOT_FOUND");
    }
}

#[test]
// req: LS-01
fn container_of_somebody_else_is_in_the_way_and_is_not_touched() {
    let rig = Rig::new();
    let foreign = rig.server.run(&["run", "-d", "--network", "none", "--name", "w_main", IMAGE, "sleep", "1000"]);
    let refused = rig.fails(launch(&one("w", RUNS, "")));
    assert_eq!(refused.error.status, i32::from(RpcStatusCode::ALREADY_EXISTS), "{refused:?}");
    assert_eq!(refused.error.code, "NAME_TAKEN");
    assert!(refused.error.message.contains("w_main"), "{refused:?}");
    assert!(!rig.verb(Verb::VERB_TERMINATE, "w").changed);
    assert_eq!(rig.podman_says("w_main", "{{.Id}} {{.State.Status}}"), format!("{foreign} running"));
    rig.server.run(&["rm", "-f", "-t0", "w_main"]);
    assert!(rig.launch(&one("w", RUNS, "")).changed);
}

#[test]
fn pod_and_network_of_somebody_else_are_in_the_way_and_the_launch_is_undone_around_them() {
    let rig = Rig::new();
    let spec = format!("containers:\n{}{}", entry("a", RUNS, ""), entry("b", RUNS, ""));
    rig.server.run(&["pod", "create", "--name", "w"]);
    let refused = rig.fails(launch(&pod("w", &spec)));
    assert_eq!(refused.error.status, i32::from(RpcStatusCode::ALREADY_EXISTS), "{refused:?}");
    assert!(refused.error.message.contains("pod 'w'"), "{refused:?}");
    assert_eq!(rig.everything().pods, ["w"]);
    rig.server.run(&["pod", "rm", "-f", "w"]);

    rig.server.run(&["network", "create", "net"]);
    let in_net = one("v", RUNS, "").replace("{name: v}", "{name: v, annotations: {actioncontroller.io/networks: net}}");
    let refused = rig.fails(launch(&in_net));
    assert_eq!(refused.error.status, i32::from(RpcStatusCode::ALREADY_EXISTS), "{refused:?}");
    assert_eq!(rig.everything().networks, ["net", "podman"]);
    rig.server.run(&["network", "rm", "net"]);
    rig.assert_nothing_left();
}
