//! Whether Podman can checkpoint here: it checkpoints and restores a container made for that.
//!
//! The container needs no image: its root is a folder with nothing but the host's own programs, bound read-only. Its name
//! is this node's, so that one that a crash left is found and deleted by the next proof.

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
use crate::runtime::rest::exchange::{NO_BODY, garbled, parse, path};
use crate::runtime::rest::wire::{MadeId, Strings};
use crate::runtime::shared::calls::{apart, not_allowed};
use crate::runtime::shared::tiny::{self, TinyRoot};
use crate::transport::http::Method;

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
    let root = TinyRoot::make(&settings.work_dir)?;
    let proved =
        delete_old(client, settings, call, &name).and_then(|()| run(client, settings, call, &name, root.path()));
    if let Err(error) = apart(|call| lifecycle::delete(client, call, &name, true)) {
        log::warn!("the container of the proof of checkpoints, '{name}', stays: {error}");
    }
    // The container is deleted by now.
    drop(root);
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
    let bind = |folder: &str| BindMount {
        destination: folder.to_owned(),
        kind: "bind",
        source: folder.to_owned(),
        options: vec!["rbind", "ro"],
    };
    let tiny = Tiny {
        name: name.to_owned(),
        rootfs: root.to_owned(),
        command: ["/bin/sleep", "600"],
        labels: Strings::from([(PROOF.to_owned(), settings.node.clone())]),
        mounts: tiny::programs().map(bind).collect(),
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
