//! TriggerAction and its like: what runs where, what is told to whom, and that repeating does nothing.

use std::time::Duration;

use actioncontroller::proto::actioncontroller::{
    CompleteNetworkSettingRequest, PodStatus, ReconcileRequest, StopWorkloadRequest,
};
use actioncontroller::proto::workloads::GetWorkloadRequest;
use grpcio::RpcStatusCode;

use super::{Rig, code};
use crate::support::daemon::options;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(20);

pub(super) fn state(rig: &Rig, workload: &str) -> String {
    let request = GetWorkloadRequest { name: workload.into(), ..Default::default() };
    let found = rig.daemon.workloads().get_workload(&request, options());
    found.map(|workload| format!("{:?}", workload.state.enum_value().unwrap())).unwrap_or_default()
}

// req: AC-25
// req: AC-27
#[test]
fn models_run_on_their_nodes_and_the_scenario_is_completed() {
    let rig = Rig::start();
    rig.scenario("launch", &[("here", "test"), ("there", "ZONE1")], "");
    let answer = rig.trigger("s").unwrap();
    assert_eq!((answer.status, answer.desc.as_str()), (0, "Action triggered successfully"));
    assert_eq!(state(&rig, "here"), "WORKLOAD_STATE_RUNNING");
    assert_eq!(*rig.running.lock().unwrap(), ["there"]);
    let order = rig.orders().remove(0);
    for part in ["io.pullpiri.annotations.scenario: s", "io.pullpiri.annotations.package: p", "pullpiri.model: there"] {
        assert!(order.pod.contains(part), "{}", order.pod);
    }
    let completed = || rig.states.lock().unwrap().get("s").filter(|state| *state == "completed").cloned();
    until("StateManager knows that it is completed", LIMIT, completed);

    // Callers repeat it on every sample.
    for _ in 0..20 {
        assert_eq!(rig.trigger("s").unwrap().status, 0);
    }
    assert!(rig.orders().is_empty());

    rig.scenario("terminate", &[("here", "test"), ("there", "ZONE1")], "");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(state(&rig, "here"), "");
    assert!(rig.running.lock().unwrap().is_empty());
}

// req: AC-27
#[test]
fn faults_of_the_request_have_upstreams_texts_and_codes() {
    let rig = Rig::start();
    let empty = code(rig.trigger(" "));
    assert_eq!(empty, (RpcStatusCode::INVALID_ARGUMENT, "Scenario ' ' is invalid: cannot be empty".into()));
    let missing = code(rig.trigger("x"));
    assert_eq!(missing.0, RpcStatusCode::NOT_FOUND);
    assert!(missing.1.starts_with("Scenario 'x' not found: Key not found"), "{}", missing.1);
    rig.put("Scenario/s", "kind: [");
    assert_eq!(code(rig.trigger("s")).0, RpcStatusCode::INVALID_ARGUMENT);
    rig.scenario("launch", &[("a", "test")], "");
    rig.entries.lock().unwrap().remove("Package/p");
    assert_eq!(code(rig.trigger("s")).0, RpcStatusCode::NOT_FOUND);
}

// req: AC-27
#[test]
fn refused_and_failed_models_are_told_by_name_and_the_others_run() {
    let rig = Rig::start();
    rig.allowed.lock().unwrap().extend(["test".to_owned(), "GONE".to_owned()]);
    rig.scenario("launch", &[("good", "test"), ("denied", "ZONE1"), ("away", "GONE")], "  policy: pol\n");
    let answer = rig.trigger("s").unwrap();
    assert_ne!(answer.status, 0);
    assert!(answer.desc.contains("model 'denied': ") && answer.desc.contains("Policy 'pol'"), "{}", answer.desc);
    assert!(answer.desc.contains("model 'away': ") && answer.desc.contains("GONE"), "{}", answer.desc);
    assert!(!answer.desc.contains("'good'"), "{}", answer.desc);
    assert_eq!(state(&rig, "good"), "WORKLOAD_STATE_RUNNING");
    assert!(rig.orders().is_empty(), "what is denied is not ordered");
}

#[test]
fn suggested_node_is_used_where_that_is_configured() {
    let rig = Rig::start_with("");
    rig.allowed.lock().unwrap().push("ZONE1".to_owned());
    rig.scenario("launch", &[("a", "test")], "  policy: pol\n");
    assert_ne!(rig.trigger("s").unwrap().status, 0);
    rig.daemon.write_settings(&rig.daemon.settings().replace("policy: {", "policy: {move_to_suggested: true, "));
    let mut rig = rig;
    rig.daemon.terminate();
    rig.daemon.start_again();
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(*rig.running.lock().unwrap(), ["a"]);
}

#[test]
fn tasks_are_handed_to_timpani_before_the_start_and_its_refusal_starts_nothing() {
    let rig = Rig::start();
    rig.put(
        "Schedule/good",
        "apiVersion: v1\nkind: Schedule\nmetadata: {name: good}\nspec: [{name: t, policy: FIFO, priority: 10, period: 20000}]\n",
    );
    rig.put(
        "Schedule/refused",
        "apiVersion: v1\nkind: Schedule\nmetadata: {name: refused}\nspec: [{name: t, period: 20000}]\n",
    );
    rig.scenario("launch", &[("a", "ZONE1")], "  schedule: refused\n");
    let answer = rig.trigger("s").unwrap();
    assert!(answer.status != 0 && answer.desc.contains("refused by TIMPANI"), "{}", answer.desc);
    assert!(rig.orders().is_empty());
    rig.scenario("launch", &[("a", "ZONE1")], "  schedule: good\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(rig.timpani.take().len(), 2);
    rig.scenario("terminate", &[("a", "ZONE1")], "  schedule: good\n");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert!(rig.timpani.take().is_empty(), "nothing is handed over when it ends");
}

#[test]
fn update_recreates_from_the_stored_document_and_rollback_returns() {
    let rig = Rig::start();
    let models = [("a", "test"), ("b", "ZONE1")];
    rig.scenario("launch", &models, "");
    rig.trigger("s").unwrap();
    rig.scenario("rollback", &models, "");
    assert_eq!(code(rig.trigger("s")).0, RpcStatusCode::FAILED_PRECONDITION);
    rig.scenario("update", &models, "");
    rig.model("a", "newer");
    rig.model("b", "newer");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    let image = || {
        let request = GetWorkloadRequest { name: "a".into(), ..Default::default() };
        rig.daemon.workloads().get_workload(&request, options()).unwrap().containers[0].image.clone()
    };
    assert_eq!(image(), "newer");
    assert!(rig.orders().last().unwrap().pod.contains("image: newer"));
    rig.scenario("rollback", &models, "");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(image(), "i");
}

#[test]
fn reconcile_brings_back_what_statemanager_found_failed() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "ZONE1")], "");
    rig.trigger("s").unwrap();
    rig.orders();
    let ask = |current: PodStatus, desired: PodStatus| {
        let request = ReconcileRequest {
            scenario_name: "s".into(),
            current: current.into(),
            desired: desired.into(),
            ..Default::default()
        };
        rig.client().reconcile(&request, options())
    };
    let equal = ask(PodStatus::RUNNING, PodStatus::RUNNING).unwrap();
    assert_eq!((equal.status, equal.desc.as_str()), (0, "Current and desired states are equal"));
    assert_eq!(ask(PodStatus::FAILED, PodStatus::RUNNING).unwrap().status, 0);
    let commands: Vec<_> = rig.orders().iter().map(|order| order.workload_command.value()).collect();
    assert_eq!(commands, [5], "RESTART");
    assert!(ask(PodStatus::RUNNING, PodStatus::UNKNOWN).is_err());
}

#[test]
fn offload_moves_a_model_writes_the_package_and_tells_failures_in_its_answer() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "test")], "");
    rig.trigger("s").unwrap();
    let moved = rig.offload("a", "test", "ZONE1");
    assert!(moved.success && moved.transition_id.starts_with("offload-a-"), "{moved:?}");
    assert_eq!(*rig.running.lock().unwrap(), ["a"]);
    assert!(rig.entries.lock().unwrap()["Package/p"].contains("node: ZONE1"));
    assert_ne!(state(&rig, "a"), "WORKLOAD_STATE_RUNNING", "nothing of it runs here any more");
    let failed = rig.offload("a", "ZONE1", "GONE");
    assert!(!failed.success && failed.message.contains("GONE"), "{failed:?}");
    assert_eq!(*rig.running.lock().unwrap(), ["a"], "it runs where it was");
    let unnamed = rig.offload("", "test", "ZONE1");
    assert!(!unnamed.success && unnamed.message.contains("model_name"), "{unnamed:?}");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(*rig.running.lock().unwrap(), ["a"], "the Package names its node");
}

#[test]
fn stop_workload_and_network_answers_do_what_their_names_say() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "test")], "");
    rig.trigger("s").unwrap();
    let stop = |model: &str| {
        let request = StopWorkloadRequest { package_name: "p".into(), model_name: model.into(), ..Default::default() };
        rig.client().stop_workload(&request, options()).unwrap()
    };
    assert!(stop("a").success);
    assert_ne!(state(&rig, "a"), "WORKLOAD_STATE_RUNNING");
    let unknown = stop("x");
    assert!(!unknown.success && !unknown.message.is_empty(), "{unknown:?}");
    let request = CompleteNetworkSettingRequest { request_id: "1".into(), ..Default::default() };
    assert!(rig.client().complete_network_setting(&request, options()).unwrap().acknowledged);
}

#[test]
fn node_agent_that_has_the_model_already_is_taken_over() {
    let rig = Rig::start();
    rig.scenario("launch", &[("a", "ZONE1")], "");
    rig.running.lock().unwrap().push("a".into());
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    let commands: Vec<_> = rig.orders().iter().map(|order| order.workload_command.value()).collect();
    assert_eq!(commands, [1, 4, 1], "START, which it refuses, STOP, START");
    assert_eq!(*rig.running.lock().unwrap(), ["a"]);
}

#[test]
fn model_that_nobody_has_recorded_is_stopped_on_the_node_that_the_caller_names() {
    let rig = Rig::start();
    // Its Package still says that it is here: upstream moves models without writing that.
    rig.scenario("launch", &[("a", "test")], "");
    rig.running.lock().unwrap().push("a".into());
    let stop = |node: &str| {
        let request = StopWorkloadRequest {
            package_name: "p".into(),
            model_name: "a".into(),
            node_name: node.into(),
            ..Default::default()
        };
        rig.client().stop_workload(&request, options()).unwrap()
    };
    let nowhere = stop("NOWHERE");
    assert!(!nowhere.success && nowhere.message.contains("NOWHERE"), "{nowhere:?}");
    assert_eq!(*rig.running.lock().unwrap(), ["a"]);
    assert!(!stop("test").success, "here there is none");
    let stopped = stop("ZONE1");
    assert!(stopped.success, "{stopped:?}");
    assert_eq!(*rig.running.lock().unwrap(), Vec::<String>::new());
    let orders = rig.orders();
    assert_eq!((orders.len(), orders[0].workload_command.value()), (1, 4), "STOP");
    assert!(orders[0].pod.contains("name: a"), "{}", orders[0].pod);
}

#[test]
fn sixteen_models_are_started_side_by_side() {
    let rig = Rig::start();
    let names: Vec<String> = (0..16).map(|n| format!("m{n}")).collect();
    let models: Vec<_> = names.iter().map(|name| (name.as_str(), "ZONE1")).collect();
    rig.scenario("launch", &models, "");
    assert_eq!(rig.trigger("s").unwrap().status, 0);
    assert_eq!(rig.running.lock().unwrap().len(), 16);
}
