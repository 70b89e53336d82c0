//! Images: whether one is there, and fetching it with its bytes told.
//!
//! A fully qualified reference is fetched through the compat path, because only that tells bytes; a short name through
//! the libpod path, because the compat one would take it for Docker Hub's whatever the node's registries are. Both say
//! 200 first and the error inside the stream.

use super::ENGINE;
use super::client::{Client, wire_error};
use super::wire::{Image, PullLine};
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError};
use crate::runtime::rest::exchange::NO_BODY;
use crate::transport::http::{Method, encode};

/// The image of this reference; `None` where it is not present.
pub(super) fn find(client: &Client, call: &Call, image: &str) -> RtResult<Option<Image>> {
    if image.is_empty() {
        return Err(RuntimeError::InvalidSpec { reason: "image: is empty".to_owned() });
    }
    client.find(call, "image inspect", &format!("/images/{}/json", encode(image)))
}

/// Makes the image present as `policy` says.
pub(super) fn ensure(client: &Client, call: &Call, image: &str, policy: PullPolicy) -> RtResult<Change> {
    let present = find(client, call, image)?;
    match (policy, present) {
        (PullPolicy::IfNotPresent | PullPolicy::Never, Some(_)) => Ok(Change::Unchanged),
        (PullPolicy::Never, None) => Err(failed(image, "it is not present, and its policy is never to pull")),
        (PullPolicy::IfNotPresent | PullPolicy::Always, before) => {
            pull(client, call, image)?;
            let after = find(client, call, image)?;
            match (before, after) {
                (_, None) => Err(failed(image, "it is not present after the pull")),
                (Some(before), Some(after)) if before.id == after.id => Ok(Change::Unchanged),
                (_, Some(_)) => Ok(Change::Changed),
            }
        }
    }
}

fn failed(image: &str, reason: &str) -> RuntimeError {
    RuntimeError::ImagePull { image: image.to_owned(), reason: reason.to_owned() }
}

/// Whether the reference begins with a registry.
fn is_qualified(image: &str) -> bool {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    !rest.is_empty() && (first.contains(['.', ':']) || first == "localhost")
}

fn pull(client: &Client, call: &Call, image: &str) -> RtResult<()> {
    let op = format!("pull of {image}");
    let path = if is_qualified(image) {
        format!("/v1.40/images/create?fromImage={}", encode(image))
    } else {
        format!("/images/pull?reference={}", encode(image))
    };
    let opened = client.stream(call, &op, Method::Post, &path, NO_BODY);
    let mut lines = opened.map_err(|error| refused(image, error))?;
    while let Some(line) = lines.next_line().map_err(|error| wire_error(&op, error))? {
        let line: PullLine = serde_json::from_slice(&line)
            .map_err(|error| failed(image, &format!("{ENGINE}'s progress cannot be read: {error}")))?;
        if !line.error.is_empty() {
            return Err(failed(image, &line.error));
        }
        tell(call, &line);
    }
    Ok(())
}

/// A refusal before the stream is a failed pull too; a failure of the wire stays what it is.
fn refused(image: &str, error: RuntimeError) -> RuntimeError {
    match error {
        RuntimeError::Engine { message, .. } => failed(image, &message),
        RuntimeError::NotFound { what } => failed(image, &what),
        RuntimeError::InvalidSpec { reason } => failed(image, &reason),
        wire @ (RuntimeError::EngineNotAvailable { .. }
        | RuntimeError::Connection { .. }
        | RuntimeError::AlreadyExists { .. }
        | RuntimeError::InvalidState { .. }
        | RuntimeError::Unsupported { .. }
        | RuntimeError::Timeout { .. }
        | RuntimeError::ImagePull { .. }
        | RuntimeError::PermissionDenied { .. }
        | RuntimeError::Cancelled { .. }
        | RuntimeError::NoRoom { .. }
        | RuntimeError::Io { .. }) => wire,
    }
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

#[cfg(test)]
mod tests {
    use super::is_qualified;

    #[test]
    fn reference_with_a_registry_is_told_from_a_short_name() {
        assert!(is_qualified("127.0.0.1:5000/a:1"));
        assert!(is_qualified("localhost/busybox:1"));
        assert!(is_qualified("quay.io/x/y@sha256:00"));
        assert!(!is_qualified("busybox:1"));
        assert!(!is_qualified("library/busybox"));
    }
}
