//! Whether an action may be done: the port [`PolicyGate`] and the gates behind it.
//!
//! Every action is asked about before its first effect. Enters: gates. Stays out: what a document may ask of the node
//! (that is `security`). A new gate implements [`PolicyGate`] and is built in `daemon.rs`; the built-in one
//! ([`builtin`]) is always asked first.

pub mod builtin;
mod chain;
mod glob;
mod ruling;

pub use chain::Chain;
pub use ruling::{Ruling, WorkloadRuling};

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::model::action::Verb;
use crate::model::workload::WorkloadSpec;

/// What a gate is asked about.
#[derive(Debug, Clone, Copy)]
pub struct PolicyQuestion<'a> {
    /// What is to be done.
    pub verb: Verb,
    /// To what: the target as resolved.
    pub target: &'a str,
    /// The workloads concerned, with their images, labels, Package and Policy; empty where none is known.
    pub workloads: &'a [WorkloadSpec],
    /// Who asks, as the front end knows it (`uid:1000`, `tcp:10.0.0.2`); may be empty.
    pub caller: &'a str,
}

/// A gate's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Allow,
    /// Refused.
    Deny {
        /// The rule that refuses, with where it stands.
        rule: String,
        /// Why, for people.
        reason: String,
        /// The node that the gate would allow instead; empty where it names none.
        suggested_node: String,
    },
}

/// How asking a gate fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A file of rules cannot be used.
    #[error("policy file '{file}'{}: {reason}", at_line(*line))]
    File {
        /// The file.
        file: String,
        /// The line from 1; 0 where there is none.
        line: u64,
        /// What is wrong.
        reason: String,
    },
    /// The gate does not answer.
    #[error("policy gate '{gate}' is not available: {reason}")]
    Unavailable {
        /// The gate.
        gate: String,
        /// Why.
        reason: String,
    },
    /// The time was over.
    #[error("policy gate '{gate}' did not answer in time")]
    Timeout {
        /// The gate.
        gate: String,
    },
    /// The action was cancelled meanwhile.
    #[error("asking policy gate '{gate}' was cancelled")]
    Cancelled {
        /// The gate.
        gate: String,
    },
}

fn at_line(line: u64) -> String {
    if line == 0 { String::new() } else { format!(", line {line}") }
}

impl From<PolicyError> for Error {
    /// A gate that cannot be asked refuses.
    fn from(error: PolicyError) -> Self {
        let (kind, code) = match &error {
            PolicyError::File { .. } => (ErrorKind::InvalidArgument, ErrorCode::InvalidField),
            PolicyError::Unavailable { .. } | PolicyError::Timeout { .. } => {
                (ErrorKind::PermissionDenied, ErrorCode::PolicyDenied)
            }
            PolicyError::Cancelled { .. } => (ErrorKind::Cancelled, ErrorCode::Cancelled),
        };
        Self::new(kind, code, error.to_string())
    }
}

/// Says whether an action may be done.
pub trait PolicyGate: Send + Sync {
    /// Answers before `deadline`, or fails; `cancel` ends the wait. Has no effect on anything.
    fn check(
        &self,
        question: &PolicyQuestion<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<Verdict, PolicyError>;

    /// As [`PolicyGate::check`], once for each workload of the question by itself, in their order. A gate that waits for
    /// somebody asks side by side, so that many workloads take no longer than one.
    fn check_each(
        &self,
        question: &PolicyQuestion<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Vec<Result<Verdict, PolicyError>> {
        let ask = |spec: &WorkloadSpec| {
            let question = PolicyQuestion { workloads: std::slice::from_ref(spec), ..*question };
            self.check(&question, deadline, cancel)
        };
        question.workloads.iter().map(ask).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_that_cannot_be_asked_refuses() {
        let error = Error::from(PolicyError::Timeout { gate: "remote".into() });
        assert_eq!((error.kind, error.code), (ErrorKind::PermissionDenied, ErrorCode::PolicyDenied));
    }
}
