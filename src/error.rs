//! [`Error`]: the one error that crosses rooms. It says which kind of failure it is, a stable code for programs, a
//! sentence for people, and where known the field at fault and what to do next.
//!
//! A room with failures of its own has an own enum and turns it into this one at its door.

use std::fmt;

/// What a caller can do about a failure. Each kind is exactly one gRPC status code (table in `grpc/status.rs`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ErrorKind {
    /// The request itself is wrong; repeating it is of no use.
    InvalidArgument,
    /// What the request names does not exist.
    NotFound,
    /// What the request would make exists already.
    AlreadyExists,
    /// The caller may not, or policy refuses.
    PermissionDenied,
    /// The state of the workload or of the node does not allow it.
    FailedPrecondition,
    /// A bound is reached: queue, message, streams, a configured limit.
    ResourceExhausted,
    /// A peer (engine, store) is away or the daemon is stopping; a later try may work.
    Unavailable,
    /// Another change came first.
    Aborted,
    /// The work was cancelled.
    Cancelled,
    /// The time was over.
    DeadlineExceeded,
    /// The verb or field is known and not built, or the engine does not have it.
    Unimplemented,
    /// The engine or this daemon failed.
    Internal,
    /// The effect is there but its record is not.
    NotRecorded,
}

impl ErrorKind {
    /// The number of the gRPC status code that stands for this kind.
    pub fn number(self) -> i32 {
        match self {
            Self::Cancelled => 1,
            Self::InvalidArgument => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::AlreadyExists => 6,
            Self::PermissionDenied => 7,
            Self::ResourceExhausted => 8,
            Self::FailedPrecondition => 9,
            Self::Aborted => 10,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::NotRecorded => 15,
        }
    }
}

/// Declares [`ErrorCode`] with its wire text, so that the two cannot drift apart.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The stable machine-readable code of a failure. Texts are part of the API and never change.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ErrorCode { $($(#[$doc])* $name,)* }

        impl ErrorCode {
            /// Every code, for tests and documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The text on the wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The code with this text.
            pub fn from_text(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

error_codes! {
    /// A field of the request has a value that is not allowed.
    InvalidField = "INVALID_FIELD",
    /// A required field is empty.
    MissingField = "MISSING_FIELD",
    /// A document is no YAML or JSON, or not of its kind's form.
    InvalidManifest = "INVALID_MANIFEST",
    /// A field of a document cannot take effect.
    UnsupportedField = "UNSUPPORTED_FIELD",
    /// A document or request is larger than configured.
    LimitExceeded = "LIMIT_EXCEEDED",
    /// The action id belongs to another request.
    ActionIdReused = "ACTION_ID_REUSED",
    /// No action of this id is known.
    ActionNotFound = "ACTION_NOT_FOUND",
    /// No workload, package or scenario of this name is known.
    WorkloadNotFound = "WORKLOAD_NOT_FOUND",
    /// The workload has no container of this name.
    ContainerNotFound = "CONTAINER_NOT_FOUND",
    /// A document that another one names is neither given nor stored.
    DocumentNotFound = "DOCUMENT_NOT_FOUND",
    /// A container, pod, network or volume of this name exists and is not ours.
    NameTaken = "NAME_TAKEN",
    /// The workload's state does not allow the verb.
    InvalidState = "INVALID_STATE",
    /// CPUs that a workload asks for alone cannot be had.
    CoresTaken = "CORES_TAKEN",
    /// The workload runs from another document.
    WorkloadDiffers = "WORKLOAD_DIFFERS",
    /// A policy rule refuses the action.
    PolicyDenied = "POLICY_DENIED",
    /// The node's security ceiling refuses the document.
    SecurityDenied = "SECURITY_DENIED",
    /// The caller may not ask for this.
    PermissionDenied = "PERMISSION_DENIED",
    /// The queue of the lane is full.
    QueueFull = "QUEUE_FULL",
    /// Too many streams are open.
    TooManyStreams = "TOO_MANY_STREAMS",
    /// The daemon is stopping.
    Stopping = "STOPPING",
    /// The runtime engine does not answer.
    EngineUnavailable = "ENGINE_UNAVAILABLE",
    /// No runtime of this name is known.
    UnknownEngine = "UNKNOWN_ENGINE",
    /// The engine refused or failed.
    EngineFailed = "ENGINE_FAILED",
    /// The image could not be had.
    ImageUnavailable = "IMAGE_UNAVAILABLE",
    /// A container ended before it should have.
    ContainerExited = "CONTAINER_EXITED",
    /// The store does not answer or failed.
    StoreUnavailable = "STORE_UNAVAILABLE",
    /// The stored revision moved.
    RevisionMoved = "REVISION_MOVED",
    /// Done, but the outcome could not be recorded.
    NotRecorded = "APPLIED_NOT_RECORDED",
    /// The action was cancelled.
    Cancelled = "CANCELLED",
    /// A stop, kill, remove or terminate came for the same workload.
    Superseded = "SUPERSEDED",
    /// The action's time was over.
    DeadlineExceeded = "DEADLINE_EXCEEDED",
    /// The daemon ended while the action ran.
    Interrupted = "INTERRUPTED",
    /// No address of the node is known.
    NodeUnknown = "NODE_UNKNOWN",
    /// Another node was not reached.
    NodeUnavailable = "NODE_UNAVAILABLE",
    /// Another node was asked and did not answer: whether it has acted is not known.
    NodeSilent = "NODE_SILENT",
    /// Another node answered that it did not do what it was asked for.
    NodeRefused = "NODE_REFUSED",
    /// The real-time scheduler refuses the tasks of a Schedule.
    ScheduleRefused = "SCHEDULE_REFUSED",
    /// The real-time scheduler holds another Schedule, and one alone.
    ScheduleHeld = "SCHEDULE_HELD",
    /// The real-time scheduler is away, or none is configured.
    SchedulerUnavailable = "SCHEDULER_UNAVAILABLE",
    /// Who sets networks up refuses an order, or could not carry it out.
    NetworkRefused = "NETWORK_REFUSED",
    /// Who sets networks up is away, or did not say in time that it was done.
    NetworkUnavailable = "NETWORK_UNAVAILABLE",
    /// Outcomes that wait for the store have reached their bound.
    BacklogFull = "BACKLOG_FULL",
    /// There is no earlier document to return to.
    NothingBefore = "NOTHING_BEFORE",
    /// The verb or call is not built yet.
    NotImplemented = "NOT_IMPLEMENTED",
    /// The engine does not have this ability.
    EngineLacksCapability = "ENGINE_LACKS_CAPABILITY",
    /// Actions of a batch depend on each other in a circle.
    DependencyCycle = "DEPENDENCY_CYCLE",
    /// An action was not begun, because one that it depends on failed.
    DependencyFailed = "DEPENDENCY_FAILED",
    /// A fault in this daemon.
    Internal = "INTERNAL",
}

/// A failure with what a caller, an operator and a program need to know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// What the caller can do about it.
    pub kind: ErrorKind,
    /// The stable code.
    pub code: ErrorCode,
    /// One sentence that names what and where, with the cause's own words.
    pub message: String,
    /// The field of the request or document at fault, as a path (`spec.containers[0].image`); may be empty.
    pub field: String,
    /// What to do next; may be empty.
    pub hint: String,
}

/// The result of everything that fails with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error without field and hint.
    pub fn new(kind: ErrorKind, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { kind, code, message: message.into(), field: String::new(), hint: String::new() }
    }

    /// A value of the request that is not allowed.
    pub fn invalid(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidArgument, ErrorCode::InvalidField, message).at(field)
    }

    /// A fault in this daemon: something that should not be possible.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, ErrorCode::Internal, message)
    }

    /// The same error with the field at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = field.into();
        self
    }

    /// The same error with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = hint.into();
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.field.is_empty() && !self.message.contains(&self.field) {
            write!(f, " (at {})", self.field)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_has_its_own_text_and_reads_back() {
        let texts: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), ErrorCode::ALL.len());
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
        }
    }

    #[test]
    fn text_names_the_field_once() {
        let error = Error::invalid("grace_ms", "must be below 3600000");
        assert_eq!(error.to_string(), "must be below 3600000 (at grace_ms)");
        assert_eq!(Error::invalid("grace_ms", "grace_ms is too large").to_string(), "grace_ms is too large");
    }
}
