//! How calls fail that never reach an engine or outlast their time, and what is done apart from the call that needs it.

use std::time::{Duration, Instant};

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{Call, NoProgress, RuntimeError};

/// For tidying up after a call that was itself cancelled or late.
const CLEANUP_TIMEOUT: Duration = Duration::from_secs(10);

/// The error of a call that the state does not allow.
pub fn not_allowed(op: &str, id: &str, state: &ContainerStatus) -> RuntimeError {
    RuntimeError::InvalidState { op: op.to_owned(), id: id.to_owned(), state: state.word().to_owned() }
}

/// The error of a call whose time is over.
pub fn late(op: &str, begun: Instant) -> RuntimeError {
    RuntimeError::Timeout { op: op.to_owned(), after: begun.elapsed() }
}

/// Runs `work` with a time and a token of its own: what has to be done although the call that needs it was cancelled.
pub fn apart<T>(work: impl FnOnce(&Call) -> T) -> T {
    let cancel = CancelToken::new();
    work(&Call { deadline: Deadline::after(CLEANUP_TIMEOUT), cancel: &cancel, progress: &NoProgress })
}
