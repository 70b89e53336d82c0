//! The port to those who are told about this node: [`Audience`]. Nothing that is told is waited for by an action.

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::report::ScenarioChange;

/// How telling fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{listener} was not told: {reason}")]
pub struct NotTold {
    /// Who.
    pub listener: String,
    /// Why.
    pub reason: String,
}

/// Somebody who is told.
pub trait Audience: Send + Sync {
    /// For people and the log: `StateManager`.
    fn name(&self) -> &str;

    /// A Scenario went from one state to the next.
    fn scenario(&self, change: &ScenarioChange, deadline: Deadline, cancel: &CancelToken) -> Result<(), NotTold>;
}
