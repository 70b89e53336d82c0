//! Action ids: the same id with the same request is the same action, while it runs, afterwards, and after a restart.

use std::thread;

use actioncontroller::proto::actions::{ActionSpec, ActionState, ListActionsRequest, Outcome, Verb};
use grpcio::RpcStatusCode;

use super::{MISSING, QUICK, accept, assert_refused, daemon, get, launch_of, named, refusal, sim_file, state_of, stop};
use crate::support::daemon::{DaemonProcess, on_target, options};
use crate::support::wait::until;

/// How many actions are known.
fn known(daemon: &DaemonProcess) -> usize {
    daemon.actions().list_actions(&ListActionsRequest::default(), options()).unwrap().actions.len()
}

/// One outcome is the other but for the time of its own write.
#[track_caller]
fn assert_same(one: &Outcome, other: &Outcome) {
    let without_times = |outcome: &Outcome| Outcome { phases: None.into(), ..outcome.clone() };
    assert_eq!(without_times(one), without_times(other));
}

#[test]
fn equal_request_attaches_to_the_running_action() {
    let daemon = daemon("[{op: start, delay_ms: 700}]", "");
    let outcomes: Vec<_> = thread::scope(|scope| {
        let callers: Vec<_> = (0..4).map(|_| scope.spawn(|| daemon.execute(launch_of("alpha", QUICK)))).collect();
        until("it runs", super::LONG, || get(&daemon, "alpha").ok());
        let other = named("alpha", stop("alpha", 0));
        assert_refused(daemon.execute(other), RpcStatusCode::ALREADY_EXISTS, "ACTION_ID_REUSED");
        callers.into_iter().map(|caller| caller.join().unwrap().unwrap()).collect()
    });
    for outcome in &outcomes {
        assert!(outcome.changed);
        assert_same(outcome, &outcomes[0]);
    }
    assert_eq!(known(&daemon), 1);
}

#[test]
fn ended_action_answers_with_its_stored_outcome_and_does_nothing() {
    let mut daemon = daemon("[]", "");
    let first = daemon.execute(launch_of("alpha", QUICK)).unwrap();
    let failed = refusal(daemon.execute(launch_of("bad", MISSING)));
    daemon.execute(named("gone", on_target(Verb::VERB_TERMINATE, "alpha"))).unwrap();
    let after = sim_file(&daemon);
    let repeat = |daemon: &DaemonProcess| {
        assert_same(&daemon.execute(launch_of("alpha", QUICK)).unwrap(), &first);
        assert_same(&accept(daemon, launch_of("alpha", QUICK)).unwrap(), &first);
        let again = refusal(daemon.execute(launch_of("bad", MISSING)));
        assert_eq!(again.error, failed.error);
        let other = ActionSpec { priority: 1, ..launch_of("alpha", QUICK) };
        assert_refused(daemon.execute(other), RpcStatusCode::ALREADY_EXISTS, "ACTION_ID_REUSED");
        assert_eq!((sim_file(daemon), known(daemon)), (after.clone(), 3));
    };
    repeat(&daemon);
    assert!(daemon.terminate().success());
    daemon.start_again();
    repeat(&daemon);
    daemon.kill();
    daemon.start_again();
    repeat(&daemon);
}

#[test]
fn many_equal_requests_run_once_though_they_come_while_it_ends() {
    let daemon = daemon("[]", "");
    for round in 0..10 {
        let name = format!("w{round}");
        thread::scope(|scope| {
            let callers: Vec<_> = (0..8).map(|_| scope.spawn(|| daemon.execute(launch_of(&name, QUICK)))).collect();
            for caller in callers {
                let outcome = caller.join().unwrap().unwrap();
                // A second run would have found the workload there.
                assert!(outcome.changed, "{outcome:?}");
            }
        });
    }
    assert_eq!(known(&daemon), 10);
}

#[test]
fn action_without_an_id_is_given_one() {
    let daemon = daemon("[]", "");
    let outcome = daemon.execute(named("", launch_of("alpha", QUICK))).unwrap();
    assert!(!outcome.action_id.is_empty());
    let kept = get(&daemon, &outcome.action_id).unwrap();
    assert_eq!(state_of(&kept.outcome), ActionState::ACTION_STATE_SUCCEEDED);
}
