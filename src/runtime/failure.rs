//! How a runtime's failure becomes the program's [`Error`]: one table.

use super::adapter::RuntimeError;
use crate::error::{Error, ErrorCode, ErrorKind};

impl From<RuntimeError> for Error {
    fn from(error: RuntimeError) -> Self {
        use ErrorKind as Kind;
        let message = error.to_string();
        let (kind, code) = match &error {
            RuntimeError::EngineNotAvailable { .. } | RuntimeError::Connection { .. } => {
                (Kind::Unavailable, ErrorCode::EngineUnavailable)
            }
            RuntimeError::NotFound { .. } => (Kind::NotFound, ErrorCode::ContainerNotFound),
            RuntimeError::AlreadyExists { .. } => (Kind::AlreadyExists, ErrorCode::NameTaken),
            RuntimeError::InvalidState { .. } => (Kind::FailedPrecondition, ErrorCode::InvalidState),
            RuntimeError::InvalidSpec { .. } => (Kind::InvalidArgument, ErrorCode::EngineFailed),
            RuntimeError::Unsupported { .. } => (Kind::Unimplemented, ErrorCode::EngineLacksCapability),
            RuntimeError::Timeout { .. } => (Kind::DeadlineExceeded, ErrorCode::DeadlineExceeded),
            RuntimeError::ImagePull { .. } => (Kind::FailedPrecondition, ErrorCode::ImageUnavailable),
            RuntimeError::PermissionDenied { .. } => (Kind::PermissionDenied, ErrorCode::EngineFailed),
            RuntimeError::NoRoom { .. } => (Kind::ResourceExhausted, ErrorCode::LimitExceeded),
            RuntimeError::Cancelled { .. } => (Kind::Cancelled, ErrorCode::Cancelled),
            RuntimeError::Io { .. } | RuntimeError::Engine { .. } => (Kind::Internal, ErrorCode::EngineFailed),
        };
        let hint = match &error {
            RuntimeError::EngineNotAvailable { engine, .. } => start_hint(engine),
            RuntimeError::ImagePull { .. } => {
                "check the reference and the registry, or load the image onto the node beforehand".to_owned()
            }
            RuntimeError::Connection { .. }
            | RuntimeError::NotFound { .. }
            | RuntimeError::AlreadyExists { .. }
            | RuntimeError::InvalidState { .. }
            | RuntimeError::InvalidSpec { .. }
            | RuntimeError::Unsupported { .. }
            | RuntimeError::Timeout { .. }
            | RuntimeError::PermissionDenied { .. }
            | RuntimeError::Cancelled { .. }
            | RuntimeError::NoRoom { .. }
            | RuntimeError::Io { .. }
            | RuntimeError::Engine { .. } => String::new(),
        };
        Error::new(kind, code, message).hint(hint)
    }
}

/// How an engine is started. Podman answers on a socket that systemd holds; the simulator is nothing that is started.
fn start_hint(engine: &str) -> String {
    match engine {
        "podman" => {
            "start it: systemctl start podman.socket (rootless: systemctl --user start podman.socket)".to_owned()
        }
        "bluechi" => "see which nodes are there, and whether its controller is: actionctl services".to_owned(),
        "docker" | "containerd" => format!("start it: systemctl start {engine}"),
        _ => "see which runtimes are configured under 'runtimes', and which answer: actionctl runtimes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_of_an_engine_that_is_away_names_what_can_be_started() {
        let away = |engine: &str| {
            let error = RuntimeError::EngineNotAvailable { engine: engine.to_owned(), reason: "x".to_owned() };
            Error::from(error).hint
        };
        assert!(away("podman").contains("podman.socket"));
        assert!(!away("sim").contains("systemctl") && !away("runtime").contains("systemctl"));
    }
}
