//! Images: when one is fetched, and its bytes told meanwhile. These engines say 200 first and the error inside the stream.

use super::exchange::wire_error;
use super::wire::PullLine;
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError};
use crate::transport::http::Streaming;

/// Makes the image present as `policy` says. `find` gives the id of what is present, `pull` fetches it.
pub fn ensure(
    image: &str,
    policy: PullPolicy,
    find: impl Fn() -> RtResult<Option<String>>,
    pull: impl FnOnce() -> RtResult<()>,
) -> RtResult<Change> {
    match (policy, find()?) {
        (PullPolicy::IfNotPresent | PullPolicy::Never, Some(_)) => Ok(Change::Unchanged),
        (PullPolicy::Never, None) => Err(failed(image, "it is not present, and its policy is never to pull")),
        (PullPolicy::IfNotPresent | PullPolicy::Always, before) => {
            pull()?;
            match (before, find()?) {
                (_, None) => Err(failed(image, "it is not present after the pull")),
                (before, after) if before == after => Ok(Change::Unchanged),
                (_, Some(_)) => Ok(Change::Changed),
            }
        }
    }
}

/// Reads a pull's answer to its end and tells how far it is.
pub fn follow(engine: &str, call: &Call, image: &str, opened: RtResult<Streaming>) -> RtResult<()> {
    let op = pull_op(image);
    let mut lines = opened.map_err(|error| refused(image, error))?;
    while let Some(line) = lines.next_line().map_err(|error| wire_error(engine, &op, error))? {
        let line: PullLine = serde_json::from_slice(&line)
            .map_err(|error| failed(image, &format!("{engine}'s progress cannot be read: {error}")))?;
        if !line.error.is_empty() {
            return Err(failed(image, &line.error));
        }
        tell(call, &line);
    }
    Ok(())
}

/// A pull as errors call it.
pub fn pull_op(image: &str) -> String {
    format!("pull of {image}")
}

fn tell(call: &Call, line: &PullLine) {
    let count = |value: i64| u64::try_from(value).unwrap_or(0);
    if line.stream.is_empty() {
        let what = format!("{} {}", line.status, line.id);
        call.progress.bytes(what.trim(), count(line.progress.current), count(line.progress.total));
    } else {
        call.progress.bytes(line.stream.trim(), 0, 0);
    }
}

fn failed(image: &str, reason: &str) -> RuntimeError {
    RuntimeError::ImagePull { image: image.to_owned(), reason: reason.to_owned() }
}

/// A refusal before the stream is a failed pull too; a failure of the wire stays what it is.
fn refused(image: &str, error: RuntimeError) -> RuntimeError {
    match error {
        RuntimeError::Engine { message, .. } => failed(image, &message),
        RuntimeError::NotFound { what } => failed(image, &what),
        RuntimeError::InvalidSpec { reason } | RuntimeError::PermissionDenied { reason } => failed(image, &reason),
        wire @ (RuntimeError::EngineNotAvailable { .. }
        | RuntimeError::Connection { .. }
        | RuntimeError::AlreadyExists { .. }
        | RuntimeError::InvalidState { .. }
        | RuntimeError::Unsupported { .. }
        | RuntimeError::Timeout { .. }
        | RuntimeError::ImagePull { .. }
        | RuntimeError::Cancelled { .. }
        | RuntimeError::NoRoom { .. }
        | RuntimeError::Io { .. }) => wire,
    }
}
