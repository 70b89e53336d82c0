//! Pullpiri's and TIMPANI's words for what they ask, and ours for the answer.

use std::collections::BTreeMap;

use protobuf::EnumOrUnknown;

use crate::dispatch::service::{Fault, OffloadOrder, Offloaded, PodState, StopOrder, Triggered};
use crate::error::{Error, Result};
use crate::networks::NetworkAnswer;
use crate::proto::{actioncontroller as wire, schedinfo};

/// The status of an answer that tells of single models that failed. Upstream knows 0 alone as well.
const SOME_FAILED: i32 = 1;

/// The longest name of a Schedule, node or task, bytes: that of a document's.
const MOST_NAME: usize = 253;

/// The most of a description, bytes: callers only log it.
const MOST_TEXT: usize = 4096;

/// The answer to a trigger.
pub fn trigger_answer(triggered: Triggered) -> wire::TriggerActionResponse {
    let (status, desc) = told(&triggered.failed, "Action triggered successfully");
    wire::TriggerActionResponse { status, desc, ..Default::default() }
}

/// The answer to a reconciliation.
pub fn reconcile_answer(triggered: Triggered) -> wire::ReconcileResponse {
    let (status, desc) = told(&triggered.failed, &triggered.message);
    wire::ReconcileResponse { status, desc, ..Default::default() }
}

/// The status, and each model that failed with why; `well` where none did.
fn told(failed: &BTreeMap<String, String>, well: &str) -> (i32, String) {
    if failed.is_empty() {
        return (0, well.to_owned());
    }
    let reasons: Vec<_> = failed.iter().map(|(model, reason)| format!("model '{model}': {reason}")).collect();
    (SOME_FAILED, shortened(reasons.join("; ")))
}

fn shortened(mut text: String) -> String {
    if text.len() > MOST_TEXT {
        let end = (0..=MOST_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The states of a reconciliation: from, to.
pub fn states(request: &wire::ReconcileRequest) -> Result<(PodState, PodState)> {
    Ok((state(request.current, "current")?, state(request.desired, "desired")?))
}

fn state(state: EnumOrUnknown<wire::PodStatus>, field: &str) -> Result<PodState> {
    let known = state.enum_value().map_err(|number| Error::invalid(field, format!("{number} is no state of a pod")))?;
    Ok(match known {
        wire::PodStatus::NONE => PodState::None,
        wire::PodStatus::INIT => PodState::Init,
        wire::PodStatus::READY => PodState::Ready,
        wire::PodStatus::RUNNING => PodState::Running,
        wire::PodStatus::DONE => PodState::Done,
        wire::PodStatus::FAILED => PodState::Failed,
        wire::PodStatus::UNKNOWN => PodState::Unknown,
    })
}

/// Pharos' answer.
pub fn network(request: wire::CompleteNetworkSettingRequest) -> NetworkAnswer {
    let is_set = request.network_status == wire::NetworkStatus::OK.into();
    NetworkAnswer { request_id: request.request_id, is_set, details: request.details }
}

/// A move.
pub fn offload(request: wire::OffloadModelRequest) -> OffloadOrder {
    OffloadOrder {
        scenario: request.scenario_name,
        package: request.package_name,
        model: request.model_name,
        source_node: request.source_node,
        target_node: request.target_node,
        policy: request.policy_name,
        reason: request.reason,
    }
}

/// The answer to a move: a failure is told in it, as upstream does.
pub fn offload_answer(offloaded: Result<Offloaded>) -> wire::OffloadModelResponse {
    match offloaded {
        Ok(Offloaded { success, message, transition_id }) => {
            wire::OffloadModelResponse { success, message, transition_id, ..Default::default() }
        }
        Err(error) => wire::OffloadModelResponse { message: error.to_string(), ..Default::default() },
    }
}

/// A stop.
pub fn stop(request: wire::StopWorkloadRequest) -> StopOrder {
    StopOrder {
        package: request.package_name,
        model: request.model_name,
        node: request.node_name,
        reason: request.reason,
        workload_id: request.workload_id,
    }
}

/// The answer to a stop: a failure is told in it, as upstream does.
pub fn stop_answer(stopped: Result<String>) -> wire::StopWorkloadResponse {
    let (success, message) = match stopped {
        Ok(message) => (true, message),
        Err(error) => (false, error.to_string()),
    };
    wire::StopWorkloadResponse { success, message, ..Default::default() }
}

/// A task's fault. Its names are kept, so they are bounded.
pub fn fault(info: schedinfo::FaultInfo) -> Result<Fault> {
    let names = [("workload_id", &info.workload_id), ("node_id", &info.node_id), ("task_name", &info.task_name)];
    if let Some((field, name)) = names.iter().find(|(_, name)| name.len() > MOST_NAME) {
        return Err(Error::invalid(*field, format!("a name of {} bytes is too long: {MOST_NAME} at most", name.len())));
    }
    Ok(Fault {
        schedule: info.workload_id,
        node: info.node_id,
        task: info.task_name,
        is_deadline_miss: info.type_ == schedinfo::FaultType::DMISS.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_that_failed_are_told_by_name_with_a_status_that_is_not_well() {
        let failed = BTreeMap::from([("b".to_owned(), "denied".to_owned()), ("a".to_owned(), "away".to_owned())]);
        let answer = trigger_answer(Triggered { action_id: "1".into(), failed, message: String::new() });
        assert_eq!((answer.status, answer.desc.as_str()), (1, "model 'a': away; model 'b': denied"));
        let none = Triggered { action_id: String::new(), failed: BTreeMap::new(), message: "m".into() };
        assert_eq!(trigger_answer(none.clone()).desc, "Action triggered successfully");
        assert_eq!(reconcile_answer(none).desc, "m");
        let long = BTreeMap::from([("a".to_owned(), "ä".repeat(MOST_TEXT))]);
        assert!(told(&long, "").1.len() <= MOST_TEXT + '…'.len_utf8());
    }

    #[test]
    fn fault_with_a_name_beyond_the_bound_is_refused_by_its_field() {
        let info = schedinfo::FaultInfo { task_name: "t".repeat(MOST_NAME), ..Default::default() };
        assert_eq!(fault(info).unwrap().task.len(), MOST_NAME);
        let info = schedinfo::FaultInfo { node_id: "n".repeat(MOST_NAME + 1), ..Default::default() };
        assert_eq!(fault(info).unwrap_err().field, "node_id");
    }

    #[test]
    fn state_that_nobody_knows_is_refused_by_its_field() {
        let request = wire::ReconcileRequest { desired: EnumOrUnknown::from_i32(9), ..Default::default() };
        assert_eq!(states(&request).unwrap_err().field, "desired");
    }
}
