//! Other nodes of the vehicle: the port [`NodeControl`] by which a workload that is meant for another node is started,
//! stopped and started again there.
//!
//! Enters: who is asked on which node, and how that is found out. Stays out: what an action means (that is `action`),
//! and the wire (that is `grpc::client`). A new way to reach nodes implements [`NodeControl`].

pub mod directory;

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::model::plan::NodeCommand;

/// What another node is asked to do with one workload.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The node, by name.
    pub node: &'a str,
    /// What to do.
    pub command: NodeCommand,
    /// The workload.
    pub workload: &'a str,
    /// Its Pod document, with the annotations by which Pullpiri's services know scenario, package, policy and model.
    pub document: &'a str,
    /// The action that asks: the same order of the same action is the same order.
    pub action_id: &'a str,
}

/// How an order fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeError {
    /// No address of the node is known.
    #[error("node '{node}' is not known: {reason}")]
    Unknown {
        /// The node.
        node: String,
        /// Where was looked.
        reason: String,
    },
    /// The node was not reached: it has not acted.
    #[error("node '{node}' is away: {reason}")]
    Away {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The node was asked and did not answer in time: whether it has acted is not known.
    #[error("node '{node}' did not answer: {reason}")]
    Silent {
        /// The node.
        node: String,
        /// Why.
        reason: String,
    },
    /// The node answered that it did not do it.
    #[error("node '{node}' refused to {command} '{workload}': {reason}")]
    Refused {
        /// The node.
        node: String,
        /// What it was asked for.
        command: NodeCommand,
        /// The workload.
        workload: String,
        /// The node's words.
        reason: String,
    },
    /// The action was cancelled meanwhile; whether the node has acted is not known.
    #[error("asking node '{node}' was cancelled")]
    Cancelled {
        /// The node.
        node: String,
    },
}

impl From<NodeError> for Error {
    fn from(error: NodeError) -> Self {
        let (kind, code) = match &error {
            NodeError::Unknown { .. } => (ErrorKind::FailedPrecondition, ErrorCode::NodeUnknown),
            NodeError::Away { .. } => (ErrorKind::Unavailable, ErrorCode::NodeUnavailable),
            NodeError::Silent { .. } => (ErrorKind::Unavailable, ErrorCode::NodeSilent),
            NodeError::Refused { .. } => (ErrorKind::FailedPrecondition, ErrorCode::NodeRefused),
            NodeError::Cancelled { .. } => (ErrorKind::Cancelled, ErrorCode::Cancelled),
        };
        Self::new(kind, code, error.to_string())
    }
}

/// Who is asked on a node, with the address, `host:port` or `unix:///path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum NodeAddress {
    /// Pullpiri's NodeAgent.
    NodeAgent(String),
    /// The node's own Action Controller.
    ActionController(String),
}

/// Knows where nodes are.
pub trait Directory: Send + Sync {
    /// Where this node is: from the settings, otherwise from the store.
    fn find(&self, node: &str, deadline: Deadline) -> Result<NodeAddress, NodeError>;
}

/// Carries orders to other nodes. Shared between threads; orders to different nodes do not wait for each other.
pub trait NodeControl: Send + Sync {
    /// Gives the order and waits until the node says that it is done. Bounded by `deadline`, ended by `cancel`.
    fn order(&self, order: &Order<'_>, deadline: Deadline, cancel: &CancelToken) -> Result<(), NodeError>;
}
