//! Cancel: answered at once wherever the action is, what was done is undone, and the answer says what is left.

use actioncontroller::proto::actions::{ActionState, CancelActionRequest, CancelActionResponse, StepState};
use actioncontroller::proto::workloads::{ContainerState, ListWorkloadsRequest};
use grpcio::RpcStatusCode;

use super::{
    NARROW, QUICK, SLOW, SOON, accept, assert_gone, assert_refused, cancel, daemon, deaf, get, launch_of, named,
    state_of, step_state, stop, until_state, until_step, within, workload,
};
use crate::support::daemon::{DaemonProcess, launch, options};

/// Cancels; the answer has to come at once and say that it did.
#[track_caller]
fn cancel_of(daemon: &DaemonProcess, id: &str) -> CancelActionResponse {
    let answer = within(SOON, "the cancel", || cancel(daemon, id).unwrap());
    assert!(answer.cancelled, "{answer:?}");
    assert_eq!(state_of(&answer.outcome), ActionState::ACTION_STATE_CANCELLED, "{answer:?}");
    answer
}

// req: AC-03
#[test]
fn queued_action_is_cancelled_before_any_effect() {
    let daemon = daemon("[]", NARROW);
    accept(&daemon, launch_of("busy", SLOW)).unwrap();
    until_step(&daemon, "busy", "pull");
    accept(&daemon, launch_of("alpha", QUICK)).unwrap();
    let answer = cancel_of(&daemon, "alpha");
    assert!(answer.outcome.steps.is_empty() && answer.outcome.left.is_empty(), "{answer:?}");
    assert_eq!(get(&daemon, "busy").unwrap().progress.state.enum_value(), Ok(ActionState::ACTION_STATE_RUNNING));
    cancel_of(&daemon, "busy");
    daemon.execute(launch_of("after", QUICK)).unwrap();
    assert_gone(&daemon, "alpha");
    assert_gone(&daemon, "busy");
}

#[test]
fn cancel_of_a_queued_action_does_not_wait_for_readers_in_a_hung_engine() {
    let daemon = daemon("[{op: list, hang: true}]", "dispatch: {workers: 2, urgent_workers: 1, readers: 1}\n");
    accept(&daemon, launch_of("busy", QUICK)).unwrap();
    until_state(&daemon, "busy", ActionState::ACTION_STATE_RUNNING);
    accept(&daemon, launch_of("alpha", QUICK)).unwrap();
    let workloads = daemon.workloads();
    let list = || workloads.list_workloads_async(&ListWorkloadsRequest::default(), options()).unwrap();
    let _hung = [list(), list(), list()];
    for id in ["alpha", "busy"] {
        let answer = within(SOON, "the cancel", || cancel(&daemon, id).unwrap());
        assert!(answer.cancelled, "{answer:?}");
    }
}

#[test]
fn stalled_pull_is_left_within_a_second_and_nothing_stays() {
    let daemon = daemon("[{op: pull, hang: true}]", "");
    accept(&daemon, launch_of("alpha", QUICK)).unwrap();
    until_step(&daemon, "alpha", "pull");
    let answer = cancel_of(&daemon, "alpha");
    assert!(answer.outcome.left.is_empty() && !answer.outcome.changed, "{answer:?}");
    assert_gone(&daemon, "alpha");
}

#[test]
fn what_was_done_before_a_cancel_is_undone() {
    // The start of the second container is late, so that the cancel comes after effects of several steps.
    let daemon = daemon("[{op: start, name: alpha_two, delay_ms: 60000, after_effect: true}]", "");
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: alpha}}\nspec:\n  volumes: [{{name: scratch, emptyDir: {{}}}}]\n  \
         containers:\n  - {{name: main, image: '{QUICK}', volumeMounts: [{{name: scratch, mountPath: /s}}]}}\n  \
         - {{name: two, image: '{QUICK}'}}\n"
    );
    accept(&daemon, named("alpha", launch(&manifest))).unwrap();
    until_step(&daemon, "alpha", "start alpha_two");
    let answer = cancel_of(&daemon, "alpha");
    assert!(answer.outcome.left.is_empty(), "{answer:?}");
    let undone = answer.outcome.steps.iter().filter(|step| step_state(step) == StepState::STEP_STATE_UNDONE).count();
    assert!(undone >= 3, "{:?}", answer.outcome.steps);
    assert_gone(&daemon, "alpha");
    assert!(!super::sim_file(&daemon).contains("scratch"), "{}", super::sim_file(&daemon));
}

#[test]
fn cancel_takes_effect_between_steps() {
    // The create answers late and without looking at cancels, as an engine in the middle of its work.
    let daemon = daemon("[{op: create, delay_ms: 300}]", "");
    let actions = daemon.actions();
    accept(&daemon, launch_of("alpha", QUICK)).unwrap();
    until_step(&daemon, "alpha", "create");
    let request =
        CancelActionRequest { action_id: "alpha".into(), no_wait: true, reason: "why".into(), ..Default::default() };
    let answer = within(SOON, "the cancel", || actions.cancel_action(&request, options()).unwrap());
    assert!(answer.cancelled && answer.outcome.is_none(), "{answer:?}");
    let ended = until_state(&daemon, "alpha", ActionState::ACTION_STATE_CANCELLED).outcome.unwrap();
    assert!(ended.message.contains("why"), "{ended:?}");
    assert!(ended.steps.iter().any(|step| step_state(step) == StepState::STEP_STATE_SKIPPED), "{:?}", ended.steps);
    assert_gone(&daemon, "alpha");
}

#[test]
fn stop_is_ended_in_its_grace_and_says_what_is_left() {
    let daemon = daemon("[]", "");
    daemon.launch(&deaf("alpha")).unwrap();
    accept(&daemon, named("stop", stop("alpha", 60_000))).unwrap();
    until_step(&daemon, "stop", "stop");
    let answer = cancel_of(&daemon, "stop");
    assert!(answer.outcome.left.iter().any(|line| line.contains("alpha_main")), "{answer:?}");
    let container = &workload(&daemon, "alpha").unwrap().containers[0];
    assert_eq!(container.state.enum_value(), Ok(ContainerState::CONTAINER_STATE_RUNNING));
    let stopped = daemon.execute(stop("alpha", 0)).unwrap();
    assert!(stopped.changed, "{stopped:?}");
}

#[test]
fn wait_for_an_init_container_is_ended_and_undone() {
    let daemon = daemon("[]", "");
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: alpha}}\nspec:\n  hostNetwork: true\n  initContainers:\n  \
         - {{name: first, image: '{QUICK}', command: [sleep, '1000']}}\n  containers:\n  \
         - {{name: main, image: '{QUICK}'}}\n"
    );
    accept(&daemon, named("alpha", launch(&manifest))).unwrap();
    until_step(&daemon, "alpha", "await");
    let answer = cancel_of(&daemon, "alpha");
    assert!(answer.outcome.left.is_empty(), "{answer:?}");
    assert_gone(&daemon, "alpha");
}

#[test]
fn ended_action_is_not_cancelled_and_an_unknown_one_is_not_found() {
    let daemon = daemon("[]", "");
    daemon.execute(launch_of("alpha", QUICK)).unwrap();
    let answer = cancel(&daemon, "alpha").unwrap();
    assert!(!answer.cancelled);
    assert_eq!(state_of(&answer.outcome), ActionState::ACTION_STATE_SUCCEEDED);
    let unknown = assert_refused(cancel(&daemon, "nobody"), RpcStatusCode::NOT_FOUND, "ACTION_NOT_FOUND");
    assert_eq!(unknown.error.field, "action_id");
}
