//! Batches: in the order of their dependencies, side by side where they may, each action with its result.

use std::thread;
use std::time::Duration;

use actioncontroller::proto::actions::{
    ActionSpec, ActionState, BatchEntry, ExecuteBatchRequest, ExecuteBatchResponse, FailurePolicy, Outcome,
};
use grpcio::RpcStatusCode;

use super::{
    MISSING, NARROW, QUICK, assert_refused, daemon, get, launch_of, refusal, sim_file, state_of, until_state, within,
    workload,
};
use crate::support::daemon::{DaemonProcess, options};

fn entry(action: ActionSpec, after: &[&str]) -> BatchEntry {
    let depends_on = after.iter().map(|id| (*id).to_owned()).collect();
    BatchEntry { action: Some(action).into(), depends_on, ..Default::default() }
}

fn run(
    daemon: &DaemonProcess,
    entries: Vec<BatchEntry>,
    on_failure: FailurePolicy,
) -> grpcio::Result<ExecuteBatchResponse> {
    let request = ExecuteBatchRequest { entries, on_failure: on_failure.into(), ..Default::default() };
    daemon.actions().execute_batch(&request, options())
}

fn go_on(daemon: &DaemonProcess, entries: Vec<BatchEntry>) -> grpcio::Result<ExecuteBatchResponse> {
    run(daemon, entries, FailurePolicy::FAILURE_POLICY_GO_ON)
}

fn states(outcomes: &[Outcome]) -> Vec<(&str, ActionState)> {
    outcomes.iter().map(|outcome| (outcome.action_id.as_str(), state_of(outcome))).collect()
}

const SUCCEEDED: ActionState = ActionState::ACTION_STATE_SUCCEEDED;
const FAILED: ActionState = ActionState::ACTION_STATE_FAILED;
const SKIPPED: ActionState = ActionState::ACTION_STATE_SKIPPED;

// req: AC-04
#[test]
fn three_independent_actions_of_a_second_end_within_two() {
    let daemon = daemon("[{op: start, delay_ms: 1000}]", "");
    let entries = ["c", "a", "b"].map(|name| entry(launch_of(name, QUICK), &[]));
    let done = within(Duration::from_secs(2), "the batch", || go_on(&daemon, entries.into()).unwrap());
    assert_eq!(states(&done.outcomes), [("c", SUCCEEDED), ("a", SUCCEEDED), ("b", SUCCEEDED)]);
    assert!(done.outcomes.iter().all(|outcome| outcome.phases.total_us >= 1_000_000), "{done:?}");
}

#[test]
fn dependants_run_one_after_the_other() {
    let daemon = daemon("[{op: start, delay_ms: 300}]", "");
    let entries = vec![
        entry(launch_of("last", QUICK), &["middle", "first"]),
        entry(launch_of("middle", QUICK), &["first"]),
        entry(launch_of("first", QUICK), &[]),
    ];
    let done = go_on(&daemon, entries).unwrap();
    assert_eq!(states(&done.outcomes), [("last", SUCCEEDED), ("middle", SUCCEEDED), ("first", SUCCEEDED)]);
    let nanos = |time: &protobuf::well_known_types::timestamp::Timestamp| {
        i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos)
    };
    for pair in done.outcomes.windows(2) {
        assert!(nanos(&pair[0].accepted_at) >= nanos(&pair[1].ended_at), "{pair:?}");
    }
}

#[test]
fn failure_skips_its_dependants_alone() {
    let daemon = daemon("[]", "");
    let entries = vec![
        entry(launch_of("bad", MISSING), &[]),
        entry(launch_of("next", QUICK), &["bad"]),
        entry(launch_of("after-next", QUICK), &["next", "fine"]),
        entry(launch_of("fine", QUICK), &[]),
        entry(launch_of("after-fine", QUICK), &["fine"]),
    ];
    let done = go_on(&daemon, entries).unwrap();
    let expected =
        [("bad", FAILED), ("next", SKIPPED), ("after-next", SKIPPED), ("fine", SUCCEEDED), ("after-fine", SUCCEEDED)];
    assert_eq!(states(&done.outcomes), expected);
    assert_eq!(done.outcomes[0].error.code, "IMAGE_UNAVAILABLE");
    assert_eq!(done.outcomes[1].error.code, "DEPENDENCY_FAILED");
    assert!(done.outcomes[1].message.contains("'bad'"), "{}", done.outcomes[1].message);
    for name in ["next", "after-next"] {
        assert_eq!(refusal(workload(&daemon, name)).error.code, "WORKLOAD_NOT_FOUND");
    }
}

#[test]
fn stop_at_failure_begins_nothing_more_and_lets_what_runs_end() {
    let daemon = daemon("[{op: start, delay_ms: 600}]", "");
    let entries = vec![
        entry(launch_of("bad", MISSING), &[]),
        entry(launch_of("runs", QUICK), &[]),
        entry(launch_of("after-runs", QUICK), &["runs"]),
    ];
    let done = run(&daemon, entries, FailurePolicy::FAILURE_POLICY_STOP).unwrap();
    assert_eq!(states(&done.outcomes), [("bad", FAILED), ("runs", SUCCEEDED), ("after-runs", SKIPPED)]);
}

#[test]
fn more_batches_than_workers_do_not_stand_in_each_others_way() {
    let daemon = daemon("[{op: start, delay_ms: 50}]", NARROW);
    thread::scope(|scope| {
        let daemon = &daemon;
        let run = move |batch: usize| {
            let id = |place: usize| format!("b{batch}-{place}");
            let chain = (0..3_usize).map(|place| {
                let before = id(place.wrapping_sub(1));
                let after: &[&str] = if place == 0 { &[] } else { &[&before] };
                entry(launch_of(&id(place), QUICK), after)
            });
            go_on(daemon, chain.collect())
        };
        let batches: Vec<_> = (0..8).map(|batch| scope.spawn(move || run(batch))).collect();
        for batch in batches {
            let done = batch.join().unwrap().unwrap();
            assert!(done.outcomes.iter().all(|outcome| state_of(outcome) == SUCCEEDED), "{done:?}");
        }
    });
}

#[test]
fn cycle_is_named_and_nothing_runs() {
    let daemon = daemon("[]", "");
    let before = sim_file(&daemon);
    let entries = vec![
        entry(launch_of("free", QUICK), &[]),
        entry(launch_of("egg", QUICK), &["hen"]),
        entry(launch_of("hen", QUICK), &["egg"]),
    ];
    let refused = assert_refused(go_on(&daemon, entries), RpcStatusCode::INVALID_ARGUMENT, "DEPENDENCY_CYCLE");
    assert!(refused.error.message.contains("egg -> hen -> egg"), "{}", refused.error.message);
    assert_eq!(refused.error.field, "entries.depends_on");
    for id in ["free", "egg", "hen"] {
        assert_refused(get(&daemon, id), RpcStatusCode::NOT_FOUND, "ACTION_NOT_FOUND");
    }
    assert_eq!(sim_file(&daemon), before);
}

#[test]
fn doubled_and_unknown_ids_and_empty_batches_are_refused_with_their_place() {
    let daemon = daemon("[]", "");
    let cases = [
        (vec![entry(launch_of("a", QUICK), &[]), entry(launch_of("a", QUICK), &[])], "entries[1].action.action_id"),
        (vec![entry(launch_of("a", QUICK), &[]), entry(launch_of("b", QUICK), &["x"])], "entries[1].depends_on"),
        (Vec::new(), "entries"),
    ];
    for (entries, field) in cases {
        let refused = refusal(go_on(&daemon, entries));
        assert_eq!(refused.error.status, i32::from(RpcStatusCode::INVALID_ARGUMENT), "{refused:?}");
        assert!(refused.error.field.starts_with(field), "{refused:?}");
    }
    assert_refused(get(&daemon, "a"), RpcStatusCode::NOT_FOUND, "ACTION_NOT_FOUND");
}

#[test]
fn repeated_batch_returns_the_stored_outcomes() {
    let daemon = daemon("[]", "");
    let entries = || vec![entry(launch_of("a", QUICK), &[]), entry(launch_of("b", QUICK), &["a"])];
    let first = go_on(&daemon, entries()).unwrap();
    until_state(&daemon, "b", SUCCEEDED);
    let again = go_on(&daemon, entries()).unwrap();
    for (first, again) in first.outcomes.iter().zip(&again.outcomes) {
        assert_eq!((&first.accepted_at, &first.steps), (&again.accepted_at, &again.steps));
        assert!(again.changed, "it is the first run's outcome: {again:?}");
    }
}
