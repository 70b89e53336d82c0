//! Networks between nodes: asked of Pharos once a model runs, and waited for.

use std::thread;
use std::time::Duration;

use actioncontroller::proto::actioncontroller::{
    CompleteNetworkSettingRequest, NetworkStatus, TriggerActionRequest, TriggerActionResponse,
};
use actioncontroller::proto::pharos::RequestNetworkPodRequest;
use protobuf::Message;

use super::Rig;
use super::triggers::state;
use crate::support::daemon::options;
use crate::support::peers::{self, Behaviour, StandIn};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(20);

fn rig_with_pharos(wait: &str) -> (Rig, StandIn) {
    let (mut rig, pharos) = (Rig::start(), peers::pharos());
    let more = format!("pullpiri: {{pharos: '{}', network_wait: {wait}, ", pharos.address());
    rig.daemon.write_settings(&rig.daemon.settings().replace("pullpiri: {", &more));
    rig.daemon.terminate();
    rig.daemon.start_again();
    rig.put("Network/s", "apiVersion: v1\nkind: Network\nmetadata: {name: s}\nspec: {dummy: net}\n");
    rig.put("Node/s", "apiVersion: v1\nkind: Node\nmetadata: {name: s}\nspec: {role: master}\n");
    (rig, pharos)
}

/// Triggers, and answers in Pharos' place once it was asked.
fn trigger_and_answer(rig: &Rig, pharos: &StandIn, model: &str, status: NetworkStatus) -> TriggerActionResponse {
    let client = rig.client();
    thread::scope(|scope| {
        let request = TriggerActionRequest { scenario_name: "s".into(), ..Default::default() };
        let triggered = scope.spawn(move || client.trigger_action(&request, options()).unwrap());
        until("Pharos is asked", LIMIT, || (pharos.count() > 0).then_some(()));
        let request = CompleteNetworkSettingRequest {
            request_id: model.into(),
            network_status: status.into(),
            details: "cable is out".into(),
            ..Default::default()
        };
        assert!(rig.client().complete_network_setting(&request, options()).unwrap().acknowledged);
        triggered.join().unwrap()
    })
}

#[test]
fn network_is_asked_for_once_the_model_runs_and_its_answer_decides() {
    let (rig, pharos) = rig_with_pharos("60s");
    rig.scenario("launch", &[("a", "test")], "");
    let answer = trigger_and_answer(&rig, &pharos, "a", NetworkStatus::OK);
    assert_eq!(answer.status, 0, "{}", answer.desc);
    let asked = RequestNetworkPodRequest::parse_from_bytes(&pharos.take().remove(0).1).unwrap();
    assert_eq!(asked.pod_name, "a");
    assert!(asked.networkYamls.contains("dummy: net") && asked.node_yaml.contains("role: master"), "{asked:?}");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(pharos.count(), 0, "what runs has its network");

    rig.scenario("launch", &[("b", "ZONE1")], "");
    let answer = trigger_and_answer(&rig, &pharos, "b", NetworkStatus::ERROR);
    assert!(answer.status != 0 && answer.desc.contains("model 'b': "), "{}", answer.desc);
    assert!(answer.desc.contains("cable is out"), "{}", answer.desc);
    assert!(rig.running.lock().unwrap().is_empty(), "without its network it does not run");
}

#[test]
fn pharos_that_refuses_hangs_or_never_says_that_it_is_done_fails_the_model() {
    let (rig, pharos) = rig_with_pharos("300ms");
    for (model, behaviour, words) in [
        ("unwanted", Behaviour::Well, "no such network"),
        ("silent", Behaviour::Silent, "Pharos"),
        ("late", Behaviour::Well, "was not set within 300 ms"),
    ] {
        pharos.behave(behaviour);
        rig.scenario("launch", &[(model, "test")], "");
        let answer = rig.trigger("s").unwrap();
        assert!(answer.status != 0 && answer.desc.contains(words), "{model}: {}", answer.desc);
        assert_ne!(state(&rig, model), "WORKLOAD_STATE_RUNNING");
    }
}

#[test]
fn without_both_documents_or_without_waiting_the_model_runs() {
    let (rig, pharos) = rig_with_pharos("0s");
    rig.scenario("launch", &[("a", "test")], "");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(pharos.take().len(), 1, "that Pharos takes it on is enough");
    rig.entries.lock().unwrap().remove("Node/s");
    rig.scenario("launch", &[("b", "test")], "");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(pharos.count(), 0);
}
