//! Networks between nodes: the port [`NetworkProvider`] by which a workload that has started gets the one that its
//! documents describe, and the [`NetworkAnswers`] that come back for it.
//!
//! Enters: who sets networks up, and whether that is done. Stays out: an engine's own networks (those are of
//! `runtime`), documents (`manifest`) and the wire (`grpc::client`).

mod answers;

pub use answers::{NetworkAnswer, NetworkAnswers};

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::model::pullpiri::NetworkOrder;

/// How setting up fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// The provider was not reached, or did not answer in time.
    #[error("the network of '{workload}' is not asked for: {reason}")]
    Unavailable {
        /// Whose network.
        workload: String,
        /// Why.
        reason: String,
    },
    /// The provider does not take the order, or could not carry it out.
    #[error("the network of '{workload}' is not set: {reason}")]
    Refused {
        /// Whose network.
        workload: String,
        /// The provider's words.
        reason: String,
    },
    /// The provider took the order and never said that it was done.
    #[error("the network of '{workload}' was not set within {} ms", after.as_millis())]
    Late {
        /// Whose network.
        workload: String,
        /// How long was waited.
        after: std::time::Duration,
    },
    /// The action was cancelled meanwhile.
    #[error("setting the network of '{workload}' was cancelled")]
    Cancelled {
        /// Whose network.
        workload: String,
    },
}

impl From<NetworkError> for Error {
    fn from(error: NetworkError) -> Self {
        let (kind, code) = match &error {
            NetworkError::Unavailable { .. } => (ErrorKind::Unavailable, ErrorCode::NetworkUnavailable),
            NetworkError::Refused { .. } => (ErrorKind::FailedPrecondition, ErrorCode::NetworkRefused),
            NetworkError::Late { .. } => (ErrorKind::Unavailable, ErrorCode::NetworkUnavailable),
            NetworkError::Cancelled { .. } => (ErrorKind::Cancelled, ErrorCode::Cancelled),
        };
        Self::new(kind, code, error.to_string())
    }
}

/// Sets networks up.
pub trait NetworkProvider: Send + Sync {
    /// Has the network of `workload`, which runs, set up and waits until that is done.
    fn set_up(
        &self,
        workload: &str,
        order: &NetworkOrder,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<(), NetworkError>;
}
