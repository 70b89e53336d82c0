//! Two lanes: what ends things never waits behind what takes long, and ends it where it is in its way.

use std::thread;
use std::time::Duration;

use actioncontroller::proto::actions::{ActionSpec, ActionState, CancelActionRequest, Parameters, Verb};
use actioncontroller::proto::health::HealthCheckRequest;
use grpcio::RpcStatusCode;

use super::{
    LONG, NARROW, QUICK, SLOW, SOON, accept, assert_gone, assert_refused, cancel, daemon, deaf, get, launch_of, named,
    refusal, state_of, stop, until_state, until_step, within, workload,
};
use crate::support::daemon::{launch, on_target, options, pod};
use crate::support::wait::until;

/// The bound of the normal lane by default.
const LANE: usize = 256;

fn kill(target: &str, signal: &str) -> ActionSpec {
    let parameters = Parameters { signal: signal.to_owned(), ..Default::default() };
    ActionSpec { parameters: Some(parameters).into(), ..on_target(Verb::VERB_KILL, target) }
}

#[test]
fn long_pulls_and_a_full_lane_hold_up_neither_stop_nor_cancel_nor_health() {
    let daemon = daemon("[]", "");
    daemon.launch(&pod("other", QUICK, "sleep 1000")).unwrap();
    for n in 0..3 {
        accept(&daemon, launch_of(&format!("pull-{n}"), SLOW)).unwrap();
    }
    (0..3).for_each(|n| drop(until_step(&daemon, &format!("pull-{n}"), "pull")));
    for n in 0..LANE {
        let outcome = accept(&daemon, launch_of(&format!("queued-{n}"), QUICK)).unwrap();
        assert_eq!(state_of(&outcome), ActionState::ACTION_STATE_QUEUED);
    }
    // Connected before, so that only the call itself is measured.
    let (actions, health) = (daemon.actions(), daemon.health());
    let check = || health.check(&HealthCheckRequest::default(), options()).unwrap();
    check();

    let full = within(SOON, "one launch more", || accept(&daemon, launch_of("late", QUICK)));
    assert_refused(full, RpcStatusCode::RESOURCE_EXHAUSTED, "QUEUE_FULL");
    let stopped = within(SOON, "a stop", || daemon.execute(stop("other", 10_000)).unwrap());
    assert_eq!(state_of(&stopped), ActionState::ACTION_STATE_SUCCEEDED);
    assert!(stopped.changed && stopped.phases.queue_us < 1_000_000, "{stopped:?}");
    within(SOON, "a health check", check);
    for id in ["queued-7", "pull-1"] {
        let request = CancelActionRequest { action_id: id.into(), ..Default::default() };
        let answer = within(SOON, "a cancel", || actions.cancel_action(&request, options()).unwrap());
        assert!(answer.cancelled, "{answer:?}");
    }
    accept(&daemon, ActionSpec { priority: 1, ..launch_of("late", QUICK) }).unwrap();
    until_state(&daemon, "late", ActionState::ACTION_STATE_SUCCEEDED);
    assert_gone(&daemon, "pull-1");
    assert_gone(&daemon, "queued-7");
}

// req: AC-05
#[test]
fn stop_does_not_wait_for_the_graces_of_others_however_many_there_are() {
    let daemon = daemon("[]", "");
    let names: Vec<String> = (0..12).map(|n| format!("deaf-{n}")).collect();
    names.iter().for_each(|name| drop(daemon.launch(&deaf(name)).unwrap()));
    daemon.launch(&pod("other", QUICK, "sleep 1000")).unwrap();
    for name in &names {
        accept(&daemon, named(&format!("stop-{name}"), stop(name, 600_000))).unwrap();
    }
    names.iter().for_each(|name| drop(until_step(&daemon, &format!("stop-{name}"), "stop")));
    let stopped = within(SOON, "a stop", || daemon.execute(stop("other", 1_000)).unwrap());
    assert_eq!(state_of(&stopped), ActionState::ACTION_STATE_SUCCEEDED, "{stopped:?}");
    names.iter().for_each(|name| drop(daemon.execute(kill(name, "")).unwrap()));
}

#[test]
fn stop_cancels_the_running_launch_of_its_workload() {
    let daemon = daemon("[]", "");
    thread::scope(|scope| {
        let launched = scope.spawn(|| daemon.execute(launch_of("alpha", SLOW)));
        until("the launch is there", LONG, || get(&daemon, "alpha").ok());
        until_step(&daemon, "alpha", "pull");
        let stopped = within(SOON, "the stop", || daemon.execute(stop("alpha", 1_000)).unwrap());
        assert_eq!(state_of(&stopped), ActionState::ACTION_STATE_SUCCEEDED, "{stopped:?}");
        let ended = assert_refused(launched.join().unwrap(), RpcStatusCode::CANCELLED, "SUPERSEDED");
        let outcome = ended.outcome.unwrap();
        assert_eq!(state_of(&outcome), ActionState::ACTION_STATE_CANCELLED);
        assert!(outcome.left.is_empty() && ended.error.message.contains("stop"), "{outcome:?}");
    });
    assert_gone(&daemon, "alpha");
}

#[test]
fn stop_ends_queued_launches_of_its_workload_though_no_worker_has_time_for_them() {
    let daemon = daemon("[]", NARROW);
    accept(&daemon, launch_of("busy", SLOW)).unwrap();
    until_step(&daemon, "busy", "pull");
    let package = "apiVersion: v1\nkind: Package\nmetadata: {name: fleet}\nspec:\n  pattern: [{type: plain}]\n  \
                   models: [{name: alpha, node: HPC, resources: {}}]\n---\napiVersion: v1\nkind: Model\n\
                   metadata: {name: alpha}\nspec:\n  hostNetwork: true\n  containers: [{name: main, image: x}]\n";
    accept(&daemon, launch_of("alpha", QUICK)).unwrap();
    accept(&daemon, named("fleet", launch(package))).unwrap();
    accept(&daemon, launch_of("beta", QUICK)).unwrap();
    let stopped = within(SOON, "the stop", || daemon.execute(stop("alpha", 1_000)).unwrap());
    assert_eq!(state_of(&stopped), ActionState::ACTION_STATE_SUCCEEDED, "{stopped:?}");
    for id in ["alpha", "fleet"] {
        let ended = until_state(&daemon, id, ActionState::ACTION_STATE_CANCELLED).outcome.unwrap();
        assert_eq!((ended.error.code.as_str(), ended.steps.len()), ("SUPERSEDED", 0));
    }
    until_state(&daemon, "busy", ActionState::ACTION_STATE_RUNNING);
    until_state(&daemon, "beta", ActionState::ACTION_STATE_QUEUED);
    cancel(&daemon, "busy").unwrap();
    until_state(&daemon, "beta", ActionState::ACTION_STATE_SUCCEEDED);
    assert_gone(&daemon, "alpha");
}

#[test]
fn stop_right_after_a_launch_ends_it_wherever_it_is() {
    let daemon = daemon("[]", "");
    for round in 0..40 {
        let id = format!("launch-{round}");
        accept(&daemon, named(&id, launch(&pod("alpha", QUICK, "sleep 1000")))).unwrap();
        let gone = daemon.execute(on_target(Verb::VERB_STOP, "alpha")).unwrap();
        assert_eq!(state_of(&gone), ActionState::ACTION_STATE_SUCCEEDED);
        let ended = until("the launch has ended", LONG, || get(&daemon, &id).unwrap().outcome.into_option());
        let state = state_of(&ended);
        let is_known = [ActionState::ACTION_STATE_SUCCEEDED, ActionState::ACTION_STATE_CANCELLED].contains(&state);
        assert!(is_known && ended.left.is_empty(), "{ended:?}");
        let running = workload(&daemon, "alpha").is_ok_and(|found| {
            found.state.enum_value() == Ok(actioncontroller::proto::workloads::WorkloadState::WORKLOAD_STATE_RUNNING)
        });
        assert!(!running, "round {round}: {ended:?}");
        daemon.execute(on_target(Verb::VERB_TERMINATE, "alpha")).unwrap();
    }
}

#[test]
fn launch_after_a_stop_waits_for_it_and_then_runs() {
    let daemon = daemon("[]", "");
    daemon.launch(&deaf("alpha")).unwrap();
    accept(&daemon, named("stop", stop("alpha", 700))).unwrap();
    let again = daemon.launch(&deaf("alpha")).unwrap();
    assert!(again.changed && again.phases.queue_us > 300_000, "{again:?}");
    assert_eq!(state_of(&get(&daemon, "stop").unwrap().outcome), ActionState::ACTION_STATE_SUCCEEDED);
}

#[test]
fn kill_ends_the_grace_of_a_running_stop_and_another_signal_does_not() {
    let daemon = daemon("[]", "");
    for (name, grace, signal) in [("killed", 60_000, ""), ("poked", 1_500, "SIGUSR1")] {
        daemon.launch(&deaf(name)).unwrap();
        accept(&daemon, named(&format!("stop-{name}"), stop(name, grace))).unwrap();
        until_step(&daemon, &format!("stop-{name}"), "stop");
        let killed = within(LONG, "the kill", || daemon.execute(kill(name, signal)).unwrap());
        let stopped = get(&daemon, &format!("stop-{name}")).unwrap().outcome.unwrap();
        assert_eq!(state_of(&stopped), ActionState::ACTION_STATE_SUCCEEDED, "{stopped:?}");
        let hastened = Duration::from_micros(stopped.phases.total_us) < Duration::from_millis(1_400);
        assert_eq!(hastened, signal.is_empty(), "{stopped:?} {killed:?}");
        assert_eq!(workload(&daemon, name).unwrap().containers[0].exit_code, Some(137));
    }
}

#[test]
fn kill_ends_the_grace_of_a_stop_that_has_not_begun() {
    let daemon = daemon("[]", NARROW);
    daemon.launch(&deaf("first")).unwrap();
    daemon.launch(&deaf("second")).unwrap();
    accept(&daemon, launch_of("busy", SLOW)).unwrap();
    until_step(&daemon, "busy", "pull");
    accept(&daemon, named("stop-first", stop("first", 60_000))).unwrap();
    until_step(&daemon, "stop-first", "stop");
    accept(&daemon, named("stop-second", stop("second", 60_000))).unwrap();
    accept(&daemon, named("kill-second", kill("second", ""))).unwrap();
    within(SOON * 2, "the kills", || {
        daemon.execute(kill("first", "")).unwrap();
        until_state(&daemon, "kill-second", ActionState::ACTION_STATE_SUCCEEDED);
    });
    for id in ["stop-first", "stop-second"] {
        assert_eq!(state_of(&get(&daemon, id).unwrap().outcome), ActionState::ACTION_STATE_SUCCEEDED);
    }
}

#[test]
fn stop_of_what_nobody_launches_is_not_found() {
    let daemon = daemon("[]", "");
    assert_eq!(refusal(daemon.execute(stop("nobody", 0))).error.code, "WORKLOAD_NOT_FOUND");
}
