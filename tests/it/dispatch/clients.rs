//! Callers come and go: their deadline bounds only their wait, and the action's own bounds the action.

use std::time::Duration;

use actioncontroller::proto::actions::{ActionSpec, ActionState, ExecuteActionRequest};
use grpcio::{CallOption, Error, RpcStatusCode};

use super::{
    LONG, NARROW, QUICK, SLOW, accept, assert_gone, assert_refused, cancel, daemon, get, launch_of, named, state_of,
    until_state, until_step, workload,
};
use crate::support::daemon::launch;
use crate::support::wait::until;

fn request(action: ActionSpec) -> ExecuteActionRequest {
    ExecuteActionRequest { action: Some(action).into(), ..Default::default() }
}

#[test]
fn action_goes_on_without_its_caller_and_is_found_by_its_id() {
    let daemon = daemon("[{op: start, delay_ms: 800}]", "");
    let client = daemon.actions();
    let call = client.execute_action_async(&request(launch_of("alpha", QUICK)), super::options()).unwrap();
    until("it is there", LONG, || get(&daemon, "alpha").ok());
    drop(call);
    drop(client);
    let ended = until_state(&daemon, "alpha", ActionState::ACTION_STATE_SUCCEEDED).outcome.unwrap();
    assert!(ended.changed);
    let again = daemon.execute(launch_of("alpha", QUICK)).unwrap();
    assert_eq!((again.accepted_at, again.workloads), (ended.accepted_at, ended.workloads));
}

#[test]
fn deadline_of_the_call_bounds_only_the_wait() {
    let daemon = daemon("[{op: start, delay_ms: 800}]", "");
    let hasty = CallOption::default().timeout(Duration::from_millis(300)).wait_for_ready(true);
    match daemon.actions().execute_action(&request(launch_of("alpha", QUICK)), hasty) {
        Err(Error::RpcFailure(status)) => assert_eq!(status.code(), RpcStatusCode::DEADLINE_EXCEEDED),
        other => panic!("{other:?}"),
    }
    assert_eq!(get(&daemon, "alpha").unwrap().progress.state.enum_value(), Ok(ActionState::ACTION_STATE_RUNNING));
    until_state(&daemon, "alpha", ActionState::ACTION_STATE_SUCCEEDED);
    assert_eq!(workload(&daemon, "alpha").unwrap().containers.len(), 1);
}

#[test]
fn deadline_of_the_action_ends_and_undoes_it() {
    let daemon = daemon("[]", "");
    let manifest = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: alpha}}\nspec:\n  hostNetwork: true\n  initContainers:\n  \
         - {{name: first, image: '{QUICK}', command: [sleep, '1000']}}\n  containers:\n  \
         - {{name: main, image: '{QUICK}'}}\n"
    );
    for (id, document) in
        [("init", manifest.as_str()), ("pull", &crate::support::daemon::pod("alpha", SLOW, "sleep 1"))]
    {
        let action = ActionSpec { deadline_ms: 500, ..named(id, launch(document)) };
        let late = assert_refused(daemon.execute(action), RpcStatusCode::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED");
        let outcome = late.outcome.unwrap();
        assert_eq!(state_of(&outcome), ActionState::ACTION_STATE_FAILED);
        assert!(outcome.left.is_empty() && outcome.phases.total_us < 3_000_000, "{outcome:?}");
        assert_gone(&daemon, "alpha");
    }
}

#[test]
fn deadline_counts_from_acceptance_also_in_the_queue() {
    let daemon = daemon("[]", NARROW);
    accept(&daemon, launch_of("busy", SLOW)).unwrap();
    until_step(&daemon, "busy", "pull");
    let action = ActionSpec { deadline_ms: 400, ..launch_of("alpha", QUICK) };
    let late = assert_refused(daemon.execute(action), RpcStatusCode::DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED");
    assert!(late.outcome.unwrap().steps.is_empty());
    cancel(&daemon, "busy").unwrap();
    assert_gone(&daemon, "alpha");
}
