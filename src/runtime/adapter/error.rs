//! How a runtime call fails.

use std::time::Duration;

/// The result of a runtime call.
pub type RtResult<T> = Result<T, RuntimeError>;

/// How a runtime call fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The engine does not answer at all.
    #[error("{engine} is not available: {reason}")]
    EngineNotAvailable {
        /// The engine.
        engine: String,
        /// Why, in the system's words.
        reason: String,
    },
    /// The connection broke during a call; whether the engine acted is not known.
    #[error("the connection to {engine} broke during {op}: {reason}")]
    Connection {
        /// The engine.
        engine: String,
        /// The call.
        op: String,
        /// Why.
        reason: String,
    },
    /// No such container, pod, network, volume or image.
    #[error("{what} does not exist")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The name is taken.
    #[error("{what} exists already{detail}")]
    AlreadyExists {
        /// The name.
        what: String,
        /// By whom, with a leading blank; may be empty.
        detail: String,
    },
    /// The state does not allow the call.
    #[error("{op} of '{id}' is not possible while it is {state}")]
    InvalidState {
        /// The call.
        op: String,
        /// The container.
        id: String,
        /// Its state.
        state: String,
    },
    /// The engine refuses the configuration.
    #[error("{reason}")]
    InvalidSpec {
        /// The engine's reason.
        reason: String,
    },
    /// The engine does not have what is asked: an ability or a field.
    #[error("{engine} does not support {what}")]
    Unsupported {
        /// The engine.
        engine: String,
        /// The ability, or the field's path.
        what: String,
    },
    /// The time was over.
    #[error("{op} did not end within {} ms", after.as_millis())]
    Timeout {
        /// The call.
        op: String,
        /// How long it was given.
        after: Duration,
    },
    /// The image could not be had.
    #[error("image '{image}' could not be pulled: {reason}")]
    ImagePull {
        /// The reference.
        image: String,
        /// The engine's or registry's reason.
        reason: String,
    },
    /// The engine refuses for want of rights.
    #[error("{reason}")]
    PermissionDenied {
        /// The engine's reason.
        reason: String,
    },
    /// The call's token was cancelled.
    #[error("{op} was cancelled")]
    Cancelled {
        /// The call.
        op: String,
    },
    /// It would take more room than there is or may be taken.
    #[error("{what} needs {needed} bytes, and {limit} are there for it")]
    NoRoom {
        /// What.
        what: String,
        /// Bytes.
        needed: u64,
        /// Bytes.
        limit: u64,
    },
    /// A local file or socket failed.
    #[error("{what}: {reason}")]
    Io {
        /// What was done.
        what: String,
        /// The system's words.
        reason: String,
    },
    /// Anything else that the engine says.
    #[error("{engine} answered {code} to {op}: {message}")]
    Engine {
        /// The engine.
        engine: String,
        /// The call.
        op: String,
        /// The engine's code (an HTTP status).
        code: i64,
        /// The engine's words.
        message: String,
    },
}

/// The error of an ability that an engine lacks.
pub fn unsupported(engine: &str, what: impl Into<String>) -> RuntimeError {
    RuntimeError::Unsupported { engine: engine.to_owned(), what: what.into() }
}
