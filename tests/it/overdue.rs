//! Actions that wait longer than their time: answered at their deadline, not when somebody happens to look.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionSpec, ExecuteActionRequest};
use grpcio::RpcStatusCode;
use protobuf::MessageField;

use crate::support::daemon::{DaemonProcess, launch, options, pod};

/// The time of those that wait.
const TIME: Duration = Duration::from_millis(700);

/// More than an answer takes on a busy machine, and less than the pulls by far.
const PATIENCE: Duration = Duration::from_secs(5);

/// A launch whose pull takes a minute.
fn slow(name: &str, deadline: Duration) -> ActionSpec {
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap();
    ActionSpec { deadline_ms, ..launch(&pod(name, &format!("localhost/{name}:1"), "sleep 1000")) }
}

#[test]
fn queued_and_parked_actions_are_answered_when_their_time_is_over() {
    let daemon = DaemonProcess::start(|_| {
        "runtimes:\n  preference: [sim]\n  podman: {enabled: false}\n  sim: {enabled: true, pull_ms: 60000}\n"
            .to_owned()
    });
    let client = daemon.actions();
    let accept = |action: ActionSpec| {
        let action = MessageField::some(action);
        let request = ExecuteActionRequest { action, no_wait: true, ..Default::default() };
        client.execute_action(&request, options()).unwrap();
    };
    let overdue = |action: ActionSpec| {
        let begun = Instant::now();
        match daemon.execute(action) {
            Err(grpcio::Error::RpcFailure(status)) => assert_eq!(status.code(), RpcStatusCode::DEADLINE_EXCEEDED),
            other => panic!("{other:?}"),
        }
        let took = begun.elapsed();
        assert!(took >= TIME && took < TIME + PATIENCE, "{took:?}");
    };
    accept(slow("first", PATIENCE * 10));
    // Parked: another action has its workload.
    overdue(slow("first", TIME));
    // Queued: every worker for launches is busy.
    accept(slow("second", PATIENCE * 10));
    accept(slow("third", PATIENCE * 10));
    overdue(slow("fourth", TIME));
}
