//! Peers that misbehave: nobody waits for longer than configured, and what is told is the truth.

use std::time::{Duration, Instant};

use super::{Rig, code};
use crate::support::peers::Behaviour;
use crate::support::wait::until;

/// Every way to misbehave but slowness, which is none within the time.
const ALL: [Behaviour; 4] = [Behaviour::Silent, Behaviour::Refusing, Behaviour::Garbled, Behaviour::Closing];

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn node_agent_that_misbehaves_fails_its_model_within_its_time_and_serves_again_when_it_is_well() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "ZONE1"), ("b", "test")], "");
    for behaviour in ALL {
        rig.agent.behave(behaviour);
        let begun = Instant::now();
        let answer = rig.trigger("s").unwrap();
        assert!(answer.status != 0 && answer.desc.contains("model 'a': "), "{behaviour:?}: {}", answer.desc);
        assert!(begun.elapsed() < LIMIT, "{behaviour:?}");
        rig.agent.behave(Behaviour::Well);
        rig.running.lock().unwrap().clear();
    }
    until("the model runs", LIMIT, || (rig.trigger("s").ok()?.status == 0).then_some(()));
}

#[test]
fn silence_is_told_as_silence_also_where_the_peer_is_away_by_then() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "ZONE1")], "");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    rig.scenario("terminate", &[("a", "ZONE1")], "");
    rig.agent.behave(Behaviour::Vanishing);
    let answer = rig.trigger("s").unwrap();
    assert!(answer.status != 0 && answer.desc.contains("did not answer"), "whether it stopped: {}", answer.desc);
}

#[test]
fn policy_manager_that_misbehaves_refuses_launches_within_its_time_and_a_stop_goes_on() {
    let rig = Rig::start();
    rig.allowed.lock().unwrap().push("test".to_owned());
    rig.scenario("launch", &[("a", "test")], "  policy: pol\n");
    for behaviour in ALL {
        rig.policy.behave(behaviour);
        let begun = Instant::now();
        let answer = rig.trigger("s").unwrap();
        assert!(answer.status != 0 && answer.desc.contains("PolicyManager"), "{behaviour:?}: {}", answer.desc);
        assert!(begun.elapsed() < LIMIT, "{behaviour:?}");
    }
    rig.policy.behave(Behaviour::Slow(Duration::from_millis(50)));
    until("a slow one is waited for", LIMIT, || (rig.trigger("s").ok()?.status == 0).then_some(()));
    rig.policy.behave(Behaviour::Silent);
    rig.scenario("terminate", &[("a", "test")], "  policy: pol\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
}

#[test]
fn timpani_that_misbehaves_refuses_the_launch() {
    let rig = Rig::start();
    rig.put(
        "Schedule/good",
        "apiVersion: v1\nkind: Schedule\nmetadata: {name: good}\nspec: [{name: t, period: 20000}]\n",
    );
    rig.scenario("launch", &[("a", "ZONE1")], "  schedule: good\n");
    for behaviour in ALL {
        rig.timpani.behave(behaviour);
        let answer = rig.trigger("s").unwrap();
        assert!(answer.status != 0 && answer.desc.contains("Schedule 'good'"), "{behaviour:?}: {}", answer.desc);
    }
    assert!(rig.orders().is_empty());
}

#[test]
fn state_manager_that_misbehaves_delays_nobody_and_is_told_later() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "test")], "");
    rig.state.behave(Behaviour::Silent);
    let begun = Instant::now();
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert!(begun.elapsed() < Duration::from_secs(5));
    until("it was asked", LIMIT, || (rig.state.count() > 0).then_some(()));
    rig.state.behave(Behaviour::Well);
    let completed = || rig.states.lock().unwrap().get("s").filter(|state| *state == "completed").cloned();
    until("StateManager knows that it is completed", LIMIT, completed);
}

// req: AC-21
#[test]
fn store_that_misbehaves_is_done_without_where_there_are_copies() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "test")], "");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    for behaviour in [Behaviour::Silent, Behaviour::Closing] {
        rig.store.behave(behaviour);
        assert_eq!(rig.trigger("s").unwrap().status, 0, "{behaviour:?}");
        assert_eq!(code(rig.trigger("never-read")).0, grpcio::RpcStatusCode::UNAVAILABLE, "{behaviour:?}");
    }
}

#[test]
fn silent_target_of_an_offload_is_told_as_unknown_and_the_source_returns_once_it_answers() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "test")], "");
    rig.trigger("s").unwrap();
    rig.agent.behave(Behaviour::Silent);
    let moved = rig.offload("a", "test", "ZONE1");
    assert!(!moved.success && moved.message.contains("is not known"), "{moved:?}");
    rig.agent.behave(Behaviour::Well);
    let runs = || {
        let request = actioncontroller::proto::workloads::GetWorkloadRequest { name: "a".into(), ..Default::default() };
        let found = rig.daemon.workloads().get_workload(&request, crate::support::daemon::options()).ok()?;
        (found.state.value() == actioncontroller::proto::workloads::WorkloadState::WORKLOAD_STATE_RUNNING as i32)
            .then_some(())
    };
    until("it runs on its source again", LIMIT, runs);
}
