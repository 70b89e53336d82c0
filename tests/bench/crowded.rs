//! A node that has more to do than it can: every worker for launches is in a pull of a minute, and the queue is full.
//! What must not wait for that: a stop, a cancel, the health check, and the refusal of one launch more.

use std::time::Duration;

use actioncontroller::proto::actions::{
    ActionSpec, ActionState, CancelActionRequest, ExecuteActionRequest, ListActionsRequest, Verb,
};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use actioncontroller::proto::health_grpc::HealthClient;
use grpcio::{Error, RpcStatusCode};
use protobuf::MessageField;

use super::calls::{channel, check};
use super::launches::{execute, settings};
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, launch, on_target, options, pod};
use super::support::wait::until;

/// The longest that anything may wait.
const AIM: Duration = Duration::from_millis(100);

/// Workers that take launches, of the four that there are by default.
const WORKERS: usize = 3;

/// The bound of the queue.
const QUEUE: usize = 256;

/// Workloads that run and are stopped.
const STOPS: usize = 16;

/// Queued launches that are cancelled with each stop.
const CANCELS: usize = 4;

/// Health checks with each stop.
const CHECKS: usize = 20;

pub fn measure(report: &mut Report) {
    report.part("crowded");
    let images = "[{reference: 'localhost/present:1', state: present}]";
    let daemon = DaemonProcess::start(|_| settings(&format!(", pull_ms: 60000, images: {images}")));
    let client = ActionControllerClient::new(channel(&daemon.address()));
    for number in 0..STOPS {
        execute(&client, launch(&pod(&format!("kept-{number}"), "localhost/present:1", "sleep 1000")));
    }
    (0..WORKERS).for_each(|number| submit(&client, number).expect("there is room"));
    until("every worker is in a pull", Duration::from_secs(10), || (running(&client) == WORKERS).then_some(()));
    (WORKERS..WORKERS + QUEUE).for_each(|number| submit(&client, number).expect("there is room"));

    let [mut refusals, mut begins, mut stops, mut cancels, mut checks] = [(); 5].map(|()| Samples::default());
    let health = HealthClient::new(channel(&daemon.address()));
    for round in 0..STOPS {
        // The queue is full at this point of each round, and is filled again at its end.
        let number = WORKERS + QUEUE + round * CANCELS;
        let refused = refusals.time(|| submit(&client, number));
        assert_eq!(refused, Err(RpcStatusCode::RESOURCE_EXHAUSTED), "one launch more is refused");
        let stopped = stops.time(|| execute(&client, on_target(Verb::VERB_STOP, &format!("kept-{round}"))));
        begins.push(Duration::from_micros(stopped.phases.queue_us));
        (0..CHECKS).for_each(|_| checks.time(|| check(&health)));
        for place in 0..CANCELS {
            let id = id(WORKERS + round * CANCELS + place);
            let request = CancelActionRequest { action_id: id.clone(), ..Default::default() };
            let answer = cancels.time(|| client.cancel_action(&request, options())).expect("it is cancelled");
            assert!(answer.cancelled, "{id} was queued");
        }
        (number..number + CANCELS).for_each(|number| submit(&client, number).expect("there is room again"));
    }
    let mut pulls = Samples::default();
    for number in 0..WORKERS {
        let request = CancelActionRequest { action_id: id(number), ..Default::default() };
        let answer = pulls.time(|| client.cancel_action(&request, options())).expect("it is cancelled");
        assert!(answer.cancelled, "{} was in its pull", id(number));
    }
    for (what, samples) in [
        ("beginning of a stop", &begins),
        ("stop, whole", &stops),
        ("cancel of a queued launch", &cancels),
        ("cancel of a launch in its pull", &pulls),
        ("health check", &checks),
        ("refusal of launch 257", &refusals),
    ] {
        report.time(&format!("crowded: {what}"), samples);
        report.aim(&format!("crowded: {what}"), samples, AIM);
    }
}

fn id(number: usize) -> String {
    format!("crowd-{number}")
}

/// Asks for a launch that will pull for a minute, without waiting for it.
fn submit(client: &ActionControllerClient, number: usize) -> Result<(), RpcStatusCode> {
    let document = pod(&id(number), &format!("localhost/slow-{number}:1"), "sleep 1000");
    let action = ActionSpec { action_id: id(number), ..launch(&document) };
    let request = ExecuteActionRequest { action: MessageField::some(action), no_wait: true, ..Default::default() };
    match client.execute_action(&request, options()) {
        Ok(_) => Ok(()),
        Err(Error::RpcFailure(status)) => Err(status.code()),
        Err(error) => panic!("{}: {error}", id(number)),
    }
}

/// Actions that have begun and not ended.
fn running(client: &ActionControllerClient) -> usize {
    let request = ListActionsRequest { running_only: true, ..Default::default() };
    let listed = client.list_actions(&request, options()).expect("actions are listed").actions;
    let has_begun = |state| state == Ok(ActionState::ACTION_STATE_RUNNING);
    listed.iter().filter(|action| has_begun(action.progress.state.enum_value())).count()
}
