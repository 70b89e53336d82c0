//! Progress: as a call and as a stream that begins with the present and ends with the outcome; where the time went.

use std::collections::BTreeMap;

use actioncontroller::grpc::status::Details;
use actioncontroller::proto::actions::watch_action_response::Event;
use actioncontroller::proto::actions::{
    Action, ActionState, Outcome, StepState, WatchActionRequest, WatchActionResponse,
};
use futures_executor::block_on;
use futures_util::StreamExt;
use grpcio::{ClientSStreamReceiver, RpcStatusCode};

use super::{
    MISSING, NARROW, QUICK, SLOW, accept, assert_refused, cancel, daemon, get, launch_of, named, refusal, state_of,
    stop, until_state, until_step,
};
use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod};

/// A followed action; the client has to live as long as the stream.
struct Watch {
    stream: ClientSStreamReceiver<WatchActionResponse>,
    _client: actioncontroller::proto::actions_grpc::ActionControllerClient,
}

impl Watch {
    fn of(daemon: &DaemonProcess, id: &str) -> Self {
        let client = daemon.actions();
        let request = WatchActionRequest { action_id: id.into(), ..Default::default() };
        Self { stream: client.watch_action(&request, options()).unwrap(), _client: client }
    }

    fn next(&mut self) -> Option<grpcio::Result<Event>> {
        block_on(self.stream.next()).map(|answer| answer.map(|answer| answer.event.unwrap()))
    }

    fn snapshot(&mut self) -> Action {
        match self.next().unwrap().unwrap() {
            Event::Snapshot(action) => action,
            other => panic!("not a snapshot: {other:?}"),
        }
    }

    /// What is left of the stream, up to its end with OK.
    fn rest(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).map(Result::unwrap).collect()
    }
}

fn percent(event: &Event) -> Option<u32> {
    match event {
        Event::Snapshot(action) => Some(action.progress.percent),
        Event::Step(step) => Some(step.progress.percent),
        Event::Progress(progress) => Some(progress.percent),
        _ => None,
    }
}

/// The states of each step in the order in which they were told.
fn told(events: &[Event]) -> BTreeMap<u32, Vec<StepState>> {
    let mut told: BTreeMap<u32, Vec<StepState>> = BTreeMap::new();
    for event in events {
        if let Event::Step(event) = event {
            told.entry(event.step.index).or_default().push(event.step.state.enum_value().unwrap());
        }
    }
    told
}

/// The sequential phases add up to the total.
#[track_caller]
fn assert_adds_up(outcome: &Outcome) {
    let phases = &outcome.phases;
    let sum = phases.queue_us + phases.policy_us + phases.plan_us + phases.run_us + phases.store_us;
    let allowed = (phases.total_us / 20).max(1_000);
    assert!(phases.total_us.abs_diff(sum) <= allowed, "{sum} of {phases:?}");
    assert!(phases.total_us > 0, "{phases:?}");
}

/// The kept outcome is the told one but for the time of its own write.
#[track_caller]
fn assert_kept(daemon: &DaemonProcess, told: &Outcome) {
    let mut kept = get(daemon, &told.action_id).unwrap().outcome.unwrap();
    assert!(kept.phases.store_us <= told.phases.store_us && kept.phases.total_us <= told.phases.total_us, "{kept:?}");
    kept.phases.mut_or_insert_default().store_us = told.phases.store_us;
    kept.phases.mut_or_insert_default().total_us = told.phases.total_us;
    assert_eq!(&kept, told);
}

// req: AC-06
#[test]
fn watch_tells_each_step_and_ends_with_the_outcome() {
    let daemon = daemon("[]", NARROW);
    accept(&daemon, launch_of("busy", SLOW)).unwrap();
    until_step(&daemon, "busy", "pull");
    accept(&daemon, launch_of("alpha", QUICK)).unwrap();
    let mut watch = Watch::of(&daemon, "alpha");
    let first = watch.snapshot();
    assert_eq!(first.progress.state.enum_value(), Ok(ActionState::ACTION_STATE_QUEUED));
    cancel(&daemon, "busy").unwrap();
    let events = watch.rest();
    let outcome = match events.last() {
        Some(Event::Outcome(outcome)) => outcome.clone(),
        other => panic!("the last is no outcome: {other:?}"),
    };
    assert_eq!(state_of(&outcome), ActionState::ACTION_STATE_SUCCEEDED);
    let told = told(&events);
    assert_eq!(told.len(), outcome.steps.len());
    for step in &outcome.steps {
        assert_eq!(
            told[&step.index],
            [StepState::STEP_STATE_RUNNING, step.state.enum_value().unwrap()],
            "{}",
            step.title
        );
    }
    let percents: Vec<_> = events.iter().filter_map(percent).collect();
    assert!(percents.is_sorted() && percents.last() >= Some(&60), "{percents:?}");
    assert_kept(&daemon, &outcome);
    assert_adds_up(&outcome);
}

#[test]
fn late_watcher_gets_the_present_state_as_the_call_tells_it() {
    let daemon = daemon("[]", "");
    let manifest = format!("{}---\n{}", pod("alpha", QUICK, "sleep 1000"), pod("beta", SLOW, "sleep 1000"));
    let package = "apiVersion: v1\nkind: Package\nmetadata: {name: both}\nspec:\n  pattern: [{type: plain}]\n  models:\n  \
                   - {name: alpha, node: HPC, resources: {}}\n  - {name: beta, node: HPC, resources: {}}\n---\n";
    let manifest = format!("{package}{}", manifest.replace("kind: Pod", "kind: Model"));
    accept(&daemon, named("both", launch(&manifest))).unwrap();
    let called = super::until("alpha runs and beta is pulled", super::LONG, || {
        let action = get(&daemon, "both").unwrap();
        (action.progress.steps_done >= 3 && action.progress.bytes_done > 0).then_some(action)
    });
    let mut watch = Watch::of(&daemon, "both");
    let snapshot = watch.snapshot();
    assert_eq!(snapshot.target, "both");
    assert_eq!(snapshot.progress.state.enum_value(), Ok(ActionState::ACTION_STATE_RUNNING));
    assert_eq!(snapshot.progress.steps_total, called.progress.steps_total);
    assert!(snapshot.progress.steps_done >= 3 && snapshot.progress.percent >= 40, "{snapshot:?}");
    assert!(snapshot.progress.bytes_total > 0 && !snapshot.progress.current_step.is_empty(), "{snapshot:?}");
    let ended = cancel(&daemon, "both").unwrap().outcome.unwrap();
    let events = watch.rest();
    let undoing = |event: &Event| matches!(event, Event::Progress(p) if p.state.enum_value() == Ok(ActionState::ACTION_STATE_UNDOING));
    assert!(events.iter().any(undoing), "{events:?}");
    assert!(events.iter().filter_map(percent).is_sorted());
    assert_eq!(events.last(), Some(&Event::Outcome(ended.clone())));
    assert_kept(&daemon, &ended);
    assert_adds_up(&ended);

    let ended_watch = Watch::of(&daemon, "both");
    let after = ended_watch.rest();
    assert!(matches!(after.as_slice(), [Event::Snapshot(_), Event::Outcome(_)]), "{after:?}");
}

/// The outcome of a failed call, whole: its error lies beside it there.
fn with_error(details: Details) -> Outcome {
    Outcome { error: Some(details.error).into(), ..details.outcome.unwrap() }
}

#[test]
fn phases_add_up_whatever_an_action_comes_to() {
    let daemon = daemon("[{op: start, delay_ms: 40}]", "");
    let launched = daemon.execute(launch_of("alpha", QUICK)).unwrap();
    let again = daemon.execute(named("again", launch(&pod("alpha", QUICK, "sleep 1000")))).unwrap();
    let failed = with_error(refusal(daemon.execute(launch_of("bad", MISSING))));
    let refused = with_error(refusal(daemon.execute(named("nobody", stop("nobody", 0)))));
    let stopped = daemon.execute(named("stop", stop("alpha", 0))).unwrap();
    let gone = on_target(actioncontroller::proto::actions::Verb::VERB_TERMINATE, "alpha");
    let gone = daemon.execute(named("gone", gone)).unwrap();
    assert!(launched.phases.run_us >= 40_000, "{launched:?}");
    for outcome in [launched, again, failed, refused, stopped, gone] {
        assert_adds_up(&outcome);
        assert_kept(&daemon, &outcome);
    }
}

#[test]
fn unknown_action_is_neither_told_nor_watched() {
    let daemon = daemon("[]", "");
    assert_refused(get(&daemon, "nobody"), RpcStatusCode::NOT_FOUND, "ACTION_NOT_FOUND");
    let answer = Watch::of(&daemon, "nobody").next().unwrap();
    assert_refused(answer, RpcStatusCode::NOT_FOUND, "ACTION_NOT_FOUND");
    daemon.execute(launch_of("alpha", QUICK)).unwrap();
    until_state(&daemon, "alpha", ActionState::ACTION_STATE_SUCCEEDED);
}
