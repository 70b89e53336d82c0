//! A policy server of our own kind as a policy gate: `ValidateAction`, asked about everything.

use std::thread;

use super::Called;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::workload::WorkloadSpec;
use crate::policy::{PolicyError, PolicyGate, PolicyQuestion, Verdict};
use crate::proto::policy::ValidateActionRequest;
use crate::proto::policy_grpc::POLICY_SERVER_VALIDATE_ACTION;
use crate::transport::channel::{Bounds, PeerError, Retry};

const GATE: &str = "the policy server";

/// Questions that are under way at the same time, at most.
const MOST_AT_ONCE: usize = 16;

/// The gate.
pub struct PolicyServer {
    called: Called,
    /// This node, which is meant where a workload names none.
    node: String,
}

impl PolicyServer {
    /// The server as reached by `called`, asked for workloads of `node`.
    pub fn new(called: Called, node: String) -> Self {
        Self { called, node }
    }

    fn ask(
        &self,
        question: &PolicyQuestion<'_>,
        spec: Option<&WorkloadSpec>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<Verdict, PolicyError> {
        let mut request = ValidateActionRequest {
            verb: question.verb.as_str().to_owned(),
            target: question.target.to_owned(),
            caller: question.caller.to_owned(),
            node: self.node.clone(),
            ..ValidateActionRequest::default()
        };
        if let Some(spec) = spec {
            if !spec.node.is_empty() {
                request.node.clone_from(&spec.node);
            }
            request.workload.clone_from(&spec.name);
            request.package.clone_from(&spec.package);
            request.scenario.clone_from(&spec.scenario);
            request.policy.clone_from(&spec.policy);
            request.images = spec.all_containers().map(|container| container.image.clone()).collect();
        }
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        let answer = self.called.peer.call(&POLICY_SERVER_VALIDATE_ACTION, &request, bounds, Retry::Idempotent);
        let answer = answer.map_err(|error| failed(GATE, error))?;
        if answer.allowed {
            return Ok(Verdict::Allow);
        }
        let rule = if answer.rule.is_empty() { GATE.to_owned() } else { format!("rule '{}' of {GATE}", answer.rule) };
        Ok(denied(rule, answer.reason, answer.suggested_node))
    }
}

impl PolicyGate for PolicyServer {
    fn check(
        &self,
        question: &PolicyQuestion<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<Verdict, PolicyError> {
        if question.workloads.is_empty() {
            return self.ask(question, None, deadline, cancel);
        }
        let verdicts = self.check_each(question, deadline, cancel);
        verdicts.into_iter().find(|verdict| *verdict != Ok(Verdict::Allow)).unwrap_or(Ok(Verdict::Allow))
    }

    fn check_each(
        &self,
        question: &PolicyQuestion<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Vec<Result<Verdict, PolicyError>> {
        let specs: Vec<&WorkloadSpec> = question.workloads.iter().collect();
        side_by_side(&specs, |spec| self.ask(question, Some(spec), deadline, cancel))
    }
}

/// A refusal of a gate, whose words may be missing.
pub(super) fn denied(rule: String, reason: String, suggested_node: String) -> Verdict {
    let reason = if reason.is_empty() { "no reason is given".to_owned() } else { reason };
    Verdict::Deny { rule, reason, suggested_node }
}

/// A failed call in the words of the port.
pub(super) fn failed(gate: &str, error: PeerError) -> PolicyError {
    let gate = gate.to_owned();
    match error {
        PeerError::Cancelled { .. } => PolicyError::Cancelled { gate },
        PeerError::Away { .. } | PeerError::Silent { .. } | PeerError::Refused { .. } => {
            PolicyError::Unavailable { gate, reason: error.to_string() }
        }
    }
}

/// Asks about each subject; several at the same time, so that many take as long as few.
pub(super) fn side_by_side<T: Sync>(
    subjects: &[T],
    ask: impl Fn(&T) -> Result<Verdict, PolicyError> + Sync,
) -> Vec<Result<Verdict, PolicyError>> {
    if let [only] = subjects {
        return vec![ask(only)];
    }
    let ask = &ask;
    let lost = |why: &str| PolicyError::Unavailable { gate: GATE.to_owned(), reason: why.to_owned() };
    let mut verdicts = Vec::with_capacity(subjects.len());
    for some in subjects.chunks(MOST_AT_ONCE) {
        thread::scope(|scope| {
            let asked: Vec<_> = some
                .iter()
                .map(|subject| {
                    thread::Builder::new().name("policy".to_owned()).spawn_scoped(scope, move || ask(subject))
                })
                .collect();
            verdicts.extend(asked.into_iter().map(|asked| match asked {
                Ok(asked) => asked.join().unwrap_or_else(|_| Err(lost("asking it met a fault in this daemon"))),
                Err(error) => Err(lost(&format!("no thread to ask it: {error}"))),
            }));
        });
    }
    verdicts
}
