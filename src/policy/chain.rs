//! [`Chain`]: several gates, asked in order; the first that refuses counts.

use std::sync::Arc;

use super::{PolicyError, PolicyGate, PolicyQuestion, Verdict};
use crate::cancel::CancelToken;
use crate::clock::Deadline;

/// Gates in the order in which they are asked. Without gates everything is allowed.
pub struct Chain(Vec<Arc<dyn PolicyGate>>);

impl Chain {
    /// These gates, in this order.
    pub fn new(gates: Vec<Arc<dyn PolicyGate>>) -> Self {
        Self(gates)
    }
}

impl PolicyGate for Chain {
    fn check(
        &self,
        question: &PolicyQuestion<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<Verdict, PolicyError> {
        for gate in &self.0 {
            let verdict = gate.check(question, deadline, cancel)?;
            if verdict != Verdict::Allow {
                return Ok(verdict);
            }
        }
        Ok(Verdict::Allow)
    }

    fn check_each(
        &self,
        question: &PolicyQuestion<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Vec<Result<Verdict, PolicyError>> {
        let mut verdicts: Vec<_> = question.workloads.iter().map(|_| Ok(Verdict::Allow)).collect();
        for gate in &self.0 {
            // A gate is asked about all workloads at once; what an earlier one said of one stays.
            let found = gate.check_each(question, deadline, cancel);
            for (verdict, new) in verdicts.iter_mut().zip(found) {
                if *verdict == Ok(Verdict::Allow) {
                    *verdict = new;
                }
            }
        }
        verdicts
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::action::Verb;

    struct Gate(Result<Verdict, PolicyError>);

    impl PolicyGate for Gate {
        fn check(&self, _: &PolicyQuestion<'_>, _: Deadline, _: &CancelToken) -> Result<Verdict, PolicyError> {
            self.0.clone()
        }
    }

    fn ask(gates: Vec<Result<Verdict, PolicyError>>) -> Result<Verdict, PolicyError> {
        let chain = Chain::new(gates.into_iter().map(|answer| Arc::new(Gate(answer)) as _).collect());
        let question = PolicyQuestion { verb: Verb::Launch, target: "a", workloads: &[], caller: "" };
        chain.check(&question, Deadline::after(Duration::from_secs(1)), &CancelToken::new())
    }

    #[test]
    fn first_refusal_counts_and_later_gates_are_not_asked() {
        let deny = |rule: &str| Verdict::Deny { rule: rule.into(), reason: "no".into(), suggested_node: String::new() };
        let away = || Err(PolicyError::Timeout { gate: "remote".into() });
        assert_eq!(ask(Vec::new()), Ok(Verdict::Allow));
        assert_eq!(ask(vec![Ok(Verdict::Allow), Ok(deny("2")), Ok(deny("3"))]), Ok(deny("2")));
        assert_eq!(ask(vec![Ok(deny("1")), away()]), Ok(deny("1")));
        assert_eq!(ask(vec![Ok(Verdict::Allow), away()]), away());
    }
}
