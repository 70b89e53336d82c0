//! Pullpiri's PolicyManager as a policy gate: whether the Policy that a workload's Package names allows its node.
//!
//! It is asked for launch, update and offload alone, because it knows no other question.

use std::collections::BTreeMap;

use super::Called;
use super::policy_server::{denied, failed, side_by_side};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::action::Verb;
use crate::model::workload::WorkloadSpec;
use crate::policy::{PolicyError, PolicyGate, PolicyQuestion, Verdict};
use crate::proto::policymanager::CheckNodePolicyRequest;
use crate::proto::policymanager_grpc::POLICY_MANAGER_CONNECTION_CHECK_NODE_POLICY;
use crate::transport::channel::{Bounds, Retry};

const GATE: &str = "PolicyManager";

/// The gate.
pub struct PolicyManager {
    called: Called,
    /// This node, which is meant where a workload names none.
    node: String,
}

/// A Policy with a node.
type Placement = (String, String);

impl PolicyManager {
    /// PolicyManager as reached by `called`, asked for workloads of `node`.
    pub fn new(called: Called, node: String) -> Self {
        Self { called, node }
    }

    /// What is asked about a workload; `None` for nothing.
    fn placement(&self, verb: Verb, spec: &WorkloadSpec) -> Option<Placement> {
        let asks = matches!(verb, Verb::Launch | Verb::Update | Verb::Offload) && !spec.policy.is_empty();
        let node = if spec.node.is_empty() { &self.node } else { &spec.node };
        asks.then(|| (spec.policy.clone(), node.clone()))
    }

    fn ask(&self, placement: &Placement, deadline: Deadline, cancel: &CancelToken) -> Result<Verdict, PolicyError> {
        let (policy, node) = placement.clone();
        let rule = format!("Policy '{policy}' ({GATE})");
        let request =
            CheckNodePolicyRequest { policy_name: policy, target_node: node, ..CheckNodePolicyRequest::default() };
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        let method = &POLICY_MANAGER_CONNECTION_CHECK_NODE_POLICY;
        let answer = self.called.peer.call(method, &request, bounds, Retry::Idempotent);
        let answer = answer.map_err(|error| failed(GATE, error))?;
        if answer.allowed {
            return Ok(Verdict::Allow);
        }
        Ok(denied(rule, answer.message, answer.suggested_node))
    }
}

impl PolicyGate for PolicyManager {
    fn check(
        &self,
        question: &PolicyQuestion<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<Verdict, PolicyError> {
        let verdicts = self.check_each(question, deadline, cancel);
        verdicts.into_iter().find(|verdict| *verdict != Ok(Verdict::Allow)).unwrap_or(Ok(Verdict::Allow))
    }

    fn check_each(
        &self,
        question: &PolicyQuestion<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Vec<Result<Verdict, PolicyError>> {
        let wanted: Vec<_> = question.workloads.iter().map(|spec| self.placement(question.verb, spec)).collect();
        let mut distinct: Vec<&Placement> = wanted.iter().flatten().collect();
        distinct.sort();
        distinct.dedup();
        let answers = side_by_side(&distinct, |placement| self.ask(placement, deadline, cancel));
        let answers: BTreeMap<_, _> = distinct.into_iter().zip(answers).collect();
        let verdict = |placement: &Option<Placement>| match placement {
            Some(placement) => answers.get(placement).cloned().unwrap_or(Ok(Verdict::Allow)),
            None => Ok(Verdict::Allow),
        };
        wanted.iter().map(verdict).collect()
    }
}
