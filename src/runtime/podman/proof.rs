//! Whether Podman can checkpoint here: it checkpoints and restores a container made for that.
//!
//! The container needs no image: its root is a folder with nothing but the host's own programs, bound read-only. Its name
//! is this node's, so that one that a crash left is found and deleted by the next proof.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use super::client::Client;
use super::request::{BindMount, LogConfiguration, Namespace};
use super::{ENGINE, PodmanConfig, checkpoint, lifecycle};
use crate::cancel::Urge;
use crate::clock::Deadline;
use crate::model::workload::labels;
use crate::runtime::adapter::{Call, RestoreTo, RtResult, RuntimeError, unsupported};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::exchange::{NO_BODY, apart, garbled, not_allowed, parse};
use crate::runtime::rest::lifecycle::path;
use crate::runtime::rest::wire::{MadeId, Strings};
use crate::transport::http::Method;

/// The host's folders that a program of it needs.
const PROGRAMS: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];

/// How long the process that is restored has to be there before it counts.
const LIFE: Duration = Duration::from_millis(100);

/// What `POST /containers/create` takes here.
#[derive(Serialize)]
struct Tiny {
    name: String,
    rootfs: PathBuf,
    command: [&'static str; 2],
    labels: Strings,
    mounts: Vec<BindMount>,
    netns: Namespace,
    log_configuration: LogConfiguration,
    restart_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    oci_runtime: Option<String>,
}

/// Checkpoints and restores something tiny; `Unsupported` says why that failed.
pub(super) fn prove(client: &Client, settings: &PodmanConfig, call: &Call) -> RtResult<()> {
    client.api(call)?;
    let name = format!("actioncontroller-checkpoint-proof-{}", settings.node);
    let root = make_root(&settings.work_dir).map_err(|error| RuntimeError::Io {
        what: "making a folder for the proof of checkpoints".to_owned(),
        reason: error.to_string(),
    })?;
    let proved = delete_old(client, settings, call, &name).and_then(|()| run(client, settings, call, &name, &root));
    if let Err(error) = apart(|call| lifecycle::delete(client, call, &name, true)) {
        log::warn!("the container of the proof of checkpoints, '{name}', stays: {error}");
    }
    remove_root(&root);
    match proved {
        Err(
            error @ (RuntimeError::Cancelled { .. }
            | RuntimeError::EngineNotAvailable { .. }
            | RuntimeError::Connection { .. }),
        ) => Err(error),
        Err(error) => Err(unsupported(ENGINE, format!("checkpoint: a proof of it failed: {error}"))),
        Ok(()) => Ok(()),
    }
}

/// One of this name is ours, or nobody's whom we may hurt.
fn delete_old(client: &Client, settings: &PodmanConfig, call: &Call, name: &str) -> RtResult<()> {
    let Some(found) = lifecycle::find(client, call, name)? else { return Ok(()) };
    if found.config.labels.get(PROOF) != Some(&settings.node) {
        let detail = " and is not ours".to_owned();
        return Err(RuntimeError::AlreadyExists { what: format!("container '{name}'"), detail });
    }
    lifecycle::delete(client, call, &found.id, true).map(drop)
}

/// The label of the container. Not [`labels::NODE`]: it is no workload's, and nobody shall list it.
const PROOF: &str = "actioncontroller.io/checkpoint-proof";

fn run(client: &Client, settings: &PodmanConfig, call: &Call, name: &str, root: &Path) -> RtResult<()> {
    const OP: &str = "create";
    debug_assert!(PROOF.starts_with(labels::PREFIX));
    let bind = |folder: &&str| {
        let place = Path::new(folder);
        // Where /lib is a link to /usr/lib, the root has the same link.
        let is_folder = place.is_dir() && !place.is_symlink();
        let options = vec!["rbind", "ro"];
        is_folder.then(|| BindMount {
            destination: (*folder).to_owned(),
            kind: "bind",
            source: (*folder).to_owned(),
            options,
        })
    };
    let tiny = Tiny {
        name: name.to_owned(),
        rootfs: root.to_owned(),
        command: ["/bin/sleep", "600"],
        labels: Strings::from([(PROOF.to_owned(), settings.node.clone())]),
        mounts: PROGRAMS.iter().filter_map(bind).collect(),
        netns: Namespace { nsmode: "none" },
        log_configuration: LogConfiguration { driver: "k8s-file", size: 0 },
        restart_policy: "no",
        oci_runtime: settings.runtime.clone(),
    };
    let id = match client.send(call, OP, Method::Post, "/containers/create", Some(&tiny))? {
        Answer::Done(response) => parse::<MadeId>(ENGINE, OP, &response)?.id,
        Answer::Unchanged => return Err(garbled(ENGINE, OP, 304, "nothing was created")),
        Answer::Refused(failure) => return Err(failure.into_error()),
    };
    match client.send(call, "start", Method::Post, &path(&id, "start"), NO_BODY)? {
        Answer::Done(_) | Answer::Unchanged => {}
        Answer::Refused(failure) => return Err(failure.into_error()),
    }
    checkpoint::checkpoint(client, call, &id)?;
    checkpoint::restore(client, call, &id, RestoreTo::Running)?;
    // One that is restored wrongly dies at once.
    if call.cancel.wait(Urge::Cancel, Deadline::after(LIFE)) == Urge::Cancel {
        return Err(RuntimeError::Cancelled { op: "the proof of checkpoints".to_owned() });
    }
    let state = super::status::status(&lifecycle::inspect(client, call, &id)?.state);
    if state.is_running() { Ok(()) } else { Err(not_allowed("the proof of checkpoints", name, &state)) }
}

/// A root with the folders that a runtime mounts over, and the host's own links.
fn make_root(work_dir: &Path) -> std::io::Result<PathBuf> {
    let root = work_dir.join(format!("actioncontroller-proof-{}", uuid::Uuid::now_v7().simple()));
    fs::create_dir(&root)?;
    for folder in ["dev", "proc", "sys", "etc", "run", "tmp", "var"] {
        fs::create_dir(root.join(folder))?;
    }
    for folder in PROGRAMS.iter().map(Path::new) {
        let below = root.join(folder.strip_prefix("/").unwrap_or(folder));
        if let Ok(target) = fs::read_link(folder) {
            std::os::unix::fs::symlink(target, below)?;
        } else if folder.is_dir() {
            fs::create_dir(below)?;
        }
    }
    Ok(root)
}

/// The container is deleted by now. Only what was made is removed, and what Podman puts into any root: should anything
/// still be mounted there, it is not touched.
fn remove_root(root: &Path) {
    let Ok(entries) = fs::read_dir(root) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_hosts = PROGRAMS.iter().any(|folder| root.join(folder.trim_start_matches('/')) == path);
        let inside = if is_hosts || path.is_symlink() { None } else { fs::read_dir(&path).ok() };
        for file in inside.into_iter().flatten().flatten().map(|entry| entry.path()) {
            let _ = if file.is_dir() && !file.is_symlink() { fs::remove_dir(&file) } else { fs::remove_file(&file) };
        }
        let _ = if path.is_dir() && !path.is_symlink() { fs::remove_dir(&path) } else { fs::remove_file(&path) };
    }
    if let Err(error) = fs::remove_dir(root) {
        log::warn!("'{}' of the proof of checkpoints stays: {error}", root.display());
    }
}
