//! Whether containerd can checkpoint here: it checkpoints and restores a container made for that, which needs no image.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use protobuf::MessageField;

use super::record;
use super::{ENGINE, Place, checkpoint, create, lifecycle};
use crate::cancel::Urge;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::model::security::SecurityContext;
use crate::model::workload::{ContainerSpec, NetworkMode, PullPolicy};
use crate::proto::containerd_containers::Container;
use crate::runtime::adapter::{
    Call, CheckpointOptions, ContainerConfig, RestoreTo, RtResult, RuntimeError, unsupported,
};
use crate::runtime::shared::calls::{apart, not_allowed};
use crate::runtime::shared::tiny::{self, TinyRoot, programs};
use crate::runtime::specification::{Bind, ImageDefaults};

/// How long the process that is restored has to be there before it counts.
const LIFE: Duration = Duration::from_millis(100);

/// What the names of folders with images of proofs begin with.
const IMAGES: &str = "proof-";

/// The label of the container. Not the node's: it is no workload's, and nobody shall list it.
const PROOF: &str = "actioncontroller.io/checkpoint-proof";

/// Checkpoints and restores something tiny; `Unsupported` says why that failed.
pub(super) fn prove(place: Place, call: &Call) -> RtResult<()> {
    place.scope.client().ensure_namespace(call)?;
    // What a daemon that was killed has left.
    let filter = format!("labels.\"{PROOF}\"==\"{}\"", place.settings.node);
    for old in record::list_records(place.scope, call, vec![filter])? {
        lifecycle::delete(place, call, &old.id)?;
    }
    clear(&place.settings.dir);
    let root = TinyRoot::make(&place.settings.dir)?;
    let id = uuid::Uuid::now_v7().simple().to_string();
    let dir = place.settings.dir.join(format!("{IMAGES}{id}"));
    let proved = run(place, call, &id, root.path(), &dir);
    if let Err(error) = apart(|call| lifecycle::delete(place, call, &id)) {
        log::warn!("the container of the proof of checkpoints, '{id}', stays: {error}");
    }
    if let Err(error) = super::remove_folder(&dir) {
        log::warn!("the image of the proof of checkpoints stays: {error}");
    }
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

/// Deletes the folders that a daemon that was killed has left; their containers are gone.
fn clear(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if tiny::is_root(&name) {
            drop(TinyRoot::left_at(entry.path()));
        } else if name.starts_with(IMAGES)
            && let Err(error) = super::remove_folder(&entry.path())
        {
            log::warn!("the image of an old proof of checkpoints stays: {error}");
        }
    }
}

/// A container that does nothing.
fn container_config(name: &str) -> ContainerConfig {
    let spec = ContainerSpec {
        name: name.to_owned(),
        image: String::new(),
        rootfs: String::new(),
        unit: String::new(),
        pull: PullPolicy::Never,
        command: vec!["/bin/sleep".to_owned(), "600".to_owned()],
        args: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Resources::default(),
        security: SecurityContext::default(),
        stdin: false,
        tty: false,
        liveness: None,
    };
    ContainerConfig {
        name: name.to_owned(),
        spec,
        aliases: Vec::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        pod: None,
        network: NetworkMode::None,
        ports: Vec::new(),
        hostname: String::new(),
        host_ipc: false,
        host_pid: false,
        node: String::new(),
        mounts: Vec::new(),
    }
}

fn run(place: Place, call: &Call, id: &str, root: &Path, dir: &Path) -> RtResult<()> {
    let bind = |folder: &str| Bind { source: folder.into(), path: folder.to_owned(), read_only: true };
    let binds: Vec<_> = programs().map(bind).collect();
    let mut container = Container { id: id.to_owned(), ..Container::default() };
    container.labels.insert(PROOF.to_owned(), place.settings.node.clone());
    let image = ImageDefaults { user: "0:0".to_owned(), ..ImageDefaults::default() };
    let spec = create::generate(place, &container_config(id), &image, id, root, &binds)?;
    container.spec = MessageField::some(record::any_json(record::SPEC_TYPE, &spec)?);
    create::put(place.scope, call, container)?;
    lifecycle::start_task(place, call, id, None)?;
    super::make_folder(dir)?;
    let image = checkpoint::checkpoint(place, call, id, &CheckpointOptions { dir: dir.to_owned() })?;
    checkpoint::restore(place, call, id, &image, RestoreTo::Running)?;
    // One that is restored wrongly dies at once.
    if call.cancel.wait(Urge::Cancel, Deadline::after(LIFE)) == Urge::Cancel {
        return Err(RuntimeError::Cancelled { op: "the proof of checkpoints".to_owned() });
    }
    let state = record::inspect(place.scope, call, id)?.status();
    if state.is_running() { Ok(()) } else { Err(not_allowed("the proof of checkpoints", id, &state)) }
}
