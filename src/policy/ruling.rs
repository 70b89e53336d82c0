//! [`Ruling`]: what the word of the gates comes to for an action, told in full.

use super::{PolicyError, PolicyQuestion};
use crate::error::{Error, ErrorCode, ErrorKind};

/// What the gates say of a workload, with what the settings make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ruling {
    /// The action goes on.
    Allowed,
    /// It goes on, on the node that a refusal suggests.
    Moved {
        /// The rule that refuses its own node, with where it stands.
        rule: String,
        /// Why, for people.
        reason: String,
        /// The other node.
        node: String,
    },
    /// It is refused.
    Denied {
        /// The first rule that refuses, with where it stands.
        rule: String,
        /// Why, for people.
        reason: String,
        /// The node that the gate would allow instead; empty where it names none.
        suggested_node: String,
    },
    /// A gate did not answer, and the action goes on without.
    Unasked(PolicyError),
    /// A gate did not answer, which refuses.
    Unanswered(PolicyError),
}

/// The ruling about one workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadRuling {
    /// The workload; empty where the gates were asked about the target alone, because no workload was known.
    pub workload: String,
    /// What it comes to.
    pub ruling: Ruling,
}

impl Ruling {
    /// Whether the action goes on.
    pub fn is_allowed(&self) -> bool {
        match self {
            Self::Allowed | Self::Moved { .. } | Self::Unasked(_) => true,
            Self::Denied { .. } | Self::Unanswered(_) => false,
        }
    }

    /// The refusal as an error; `None` where the action goes on.
    pub fn refusal(&self, question: &PolicyQuestion<'_>) -> Option<Error> {
        match self {
            Self::Allowed | Self::Moved { .. } | Self::Unasked(_) => None,
            Self::Denied { rule, reason, suggested_node } => {
                let message = format!("{} of '{}' is refused by {rule}: {reason}", question.verb, question.target);
                let error = Error::new(ErrorKind::PermissionDenied, ErrorCode::PolicyDenied, message);
                let hint = match suggested_node.as_str() {
                    "" => String::new(),
                    node => format!("node '{node}' would be allowed"),
                };
                Some(error.hint(hint))
            }
            Self::Unanswered(error) => Some(error.clone().into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::action::Verb;

    const QUESTION: PolicyQuestion<'static> =
        PolicyQuestion { verb: Verb::Launch, target: "a", workloads: &[], caller: "" };

    fn denied(node: &str) -> Ruling {
        let (rule, reason) = ("rule 'x' of /f.yaml".to_owned(), "not at night".to_owned());
        Ruling::Denied { rule, reason, suggested_node: node.to_owned() }
    }

    #[test]
    fn refusal_names_verb_target_rule_and_reason_and_the_node_that_would_be_allowed() {
        let error = denied("").refusal(&QUESTION).unwrap();
        assert_eq!((error.kind, error.code), (ErrorKind::PermissionDenied, ErrorCode::PolicyDenied));
        assert_eq!(error.message, "launch of 'a' is refused by rule 'x' of /f.yaml: not at night");
        assert_eq!(error.hint, "");
        assert_eq!(denied("ZONE1").refusal(&QUESTION).unwrap().hint, "node 'ZONE1' would be allowed");
    }

    #[test]
    fn what_goes_on_is_no_refusal_and_everything_else_is() {
        let away = PolicyError::Timeout { gate: "remote".into() };
        let (rule, reason, node) = (String::new(), String::new(), "b".to_owned());
        let going = [Ruling::Allowed, Ruling::Moved { rule, reason, node }, Ruling::Unasked(away.clone())];
        assert!(going.iter().all(|ruling| ruling.is_allowed() && ruling.refusal(&QUESTION).is_none()));
        let refused = [denied(""), Ruling::Unanswered(away)];
        assert!(refused.iter().all(|ruling| !ruling.is_allowed() && ruling.refusal(&QUESTION).is_some()));
    }
}
