//! Checkpoint and restore, with the image in Podman's own storage.
//!
//! Source: `libpod/container_internal_common.go` of Podman 4.3.1 and 5.4.2. The image stays in the container's static
//! folder, which outlives a boot, so that the container keeps its name, labels and network; an exported one would be
//! another container. Podman forgets after a boot that it was checkpointed, and restores it all the same. A restore
//! deletes the image once it has succeeded. The container is locked meanwhile: looking at it waits for the end.
//!
//! Podman goes on with a request whose client is gone. What it runs for that (conmon, the OCI runtime, CRIU) has the
//! container's id in its command line and is ended by that.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::client::{Client, is_state};
use super::lifecycle::{self, inspect};
use super::wire::Inspect;
use super::{ENGINE, status};
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, Change, CheckpointImage, RestoreTo, RtResult, RuntimeError, unsupported};
use crate::runtime::processes::{Which, end_trees, thaw_group_of};
use crate::runtime::rest::client::Failure;
use crate::runtime::rest::exchange::path;
use crate::runtime::shared::calls::{apart, not_allowed};
use crate::runtime::shared::criu::{last_errors, works_on};
use crate::transport::http::Method;

/// The folder of CRIU's files.
const FILES: &str = "checkpoint";

/// What was in the container's /dev/shm.
const SHM: &str = "devshm-checkpoint.tar";

/// How long Podman has to tidy up by itself once what it restores was killed.
const TIDY_LIMIT: Duration = Duration::from_secs(4);

/// Dumps what runs; Podman ends it then.
pub(super) fn checkpoint(client: &Client, call: &Call, id: &str) -> RtResult<CheckpointImage> {
    const OP: &str = "checkpoint";
    let container = inspect(client, call, id)?;
    if !container.pod.is_empty() {
        // Its network is that of the infra container, which a checkpoint names and which another boot does not have.
        return Err(unsupported(ENGINE, "checkpoint of a container in a pod"));
    }
    match client.act(call, OP, Method::Post, &path(&container.id, OP)) {
        Ok(Ok(_)) => Ok(image(Path::new(&container.static_dir))),
        Ok(Err(failure)) if is_state(&failure) => {
            let now = status::status(&inspect(client, call, &container.id)?.state);
            Err(not_allowed(OP, id, &now))
        }
        Ok(Err(failure)) => {
            let reason = criu_says(&container, "dump.log");
            runs_on(client, &container);
            Err(told(failure, &reason))
        }
        Err(error) => {
            // Somebody else may wait for it, so it is ended: what is dumped runs on.
            if is_cut_off(&error) {
                end_trees(Which::All, |words| works_on(words, OP, &container.id));
            }
            runs_on(client, &container);
            Err(error)
        }
    }
}

/// After a dump that failed: thaws what it had frozen, and deletes what it wrote. One that was done just before it was to
/// be ended is taken back.
fn runs_on(client: &Client, container: &Inspect) {
    thaw_group_of(container.state.pid);
    let found = apart(|call| inspect(client, call, &container.id));
    let is_done = found.is_ok_and(|now| now.state.checkpointed && !status::status(&now.state).is_live());
    if is_done && let Err(error) = apart(|call| restore(client, call, &container.id, RestoreTo::Running)) {
        log::error!("container '{}' was checkpointed in vain and does not go on: {error}", container.name);
        return;
    }
    let left = image(Path::new(&container.static_dir));
    for part in left.parts.iter().map(|part| left.root.join(part)) {
        // What is not there is deleted already.
        let _ = if part.is_dir() { fs::remove_dir_all(&part) } else { fs::remove_file(&part) };
    }
}

/// Where a checkpoint is that Podman has made.
pub(super) fn find_image(client: &Client, call: &Call, id: &str) -> RtResult<CheckpointImage> {
    Ok(image(Path::new(&inspect(client, call, id)?.static_dir)))
}

fn image(static_dir: &Path) -> CheckpointImage {
    let mut parts = vec![PathBuf::from(FILES)];
    if static_dir.join(SHM).exists() {
        parts.push(SHM.into());
    }
    CheckpointImage { root: static_dir.to_owned(), parts }
}

/// Restores it, from Podman's own place.
pub(super) fn restore(client: &Client, call: &Call, id: &str, to: RestoreTo) -> RtResult<Change> {
    const OP: &str = "restore";
    let container = inspect(client, call, id)?;
    match client.act(call, OP, Method::Post, &path(&container.id, OP)) {
        Ok(Ok(_)) => {}
        Ok(Err(failure)) => {
            let reason = criu_says(&container, "restore.log");
            return Err(told(failure, &reason));
        }
        Err(error) => {
            if is_cut_off(&error) {
                end_restore(client, &container);
            }
            return Err(error);
        }
    }
    match to {
        RestoreTo::Running => Ok(Change::Changed),
        RestoreTo::Paused => lifecycle::pause(client, call, &container.id),
    }
}

/// Ends a restore that nobody waits for. What is being restored goes first: CRIU and the runtime then take down what
/// they have set up, which nobody else can.
fn end_restore(client: &Client, container: &Inspect) {
    let is_of = |words: &[String]| works_on(words, "restore", &container.id);
    end_trees(Which::Inner, is_of);
    let limit = Deadline::after(TIDY_LIMIT);
    let is_over = apart(|call| inspect(client, &Call { deadline: limit, ..*call }, &container.id));
    if is_over.is_err() {
        end_trees(Which::All, is_of);
    }
    // Where it was done just before, the container runs as nobody asked for any more.
    let found = apart(|call| inspect(client, call, &container.id));
    if found.is_ok_and(|now| status::status(&now.state).is_live()) {
        log::warn!("container '{}' was restored after its time was over", container.name);
    }
    // From a damaged image it may be gigabytes.
    let _ = fs::remove_file(Path::new(&container.static_dir).join("restore.log"));
}

/// Whether the request is left alone with what it has begun.
fn is_cut_off(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Cancelled { .. } | RuntimeError::Timeout { .. } | RuntimeError::Connection { .. })
}

/// The failure with what CRIU says of it: the runtime tells no more than that there was one.
fn told(failure: Failure, reason: &str) -> RuntimeError {
    match failure.into_error() {
        RuntimeError::Engine { engine, op, code, message } if !reason.is_empty() => {
            RuntimeError::Engine { engine, op, code, message: format!("{reason} ({message})") }
        }
        other => other,
    }
}

/// The last error in CRIU's log, which is deleted.
fn criu_says(container: &Inspect, log: &str) -> String {
    let log = Path::new(&container.static_dir).join(log);
    let reason = last_errors(&log).unwrap_or_default();
    // It may not have been written.
    let _ = fs::remove_file(&log);
    reason
}
