//! The port to those who are told about this node: [`Audience`]. Nothing that is told is waited for by an action.

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::report::{ContainerList, NodeReport, ScenarioChange};

/// How telling fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{listener} was not told: {reason}")]
pub struct NotTold {
    /// Who.
    pub listener: String,
    /// Why.
    pub reason: String,
}

/// Somebody who is told. What is of no interest to one is told to it without effect.
pub trait Audience: Send + Sync {
    /// For people and the log: `StateManager`.
    fn name(&self) -> &str;

    /// A Scenario went from one state to the next.
    fn scenario(&self, _change: &ScenarioChange, _deadline: Deadline, _cancel: &CancelToken) -> Result<(), NotTold> {
        Ok(())
    }

    /// The node has these containers.
    fn containers(&self, _list: &ContainerList, _deadline: Deadline, _cancel: &CancelToken) -> Result<(), NotTold> {
        Ok(())
    }

    /// The node's resources are used like this.
    fn node(&self, _node: &NodeReport, _deadline: Deadline, _cancel: &CancelToken) -> Result<(), NotTold> {
        Ok(())
    }
}
