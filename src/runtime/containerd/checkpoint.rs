//! Checkpoint and restore, with the image in a folder that is given.
//!
//! Source: `services/tasks/local.go` and `pkg/process/init.go` of containerd 1.6. A checkpoint ends the task, which keeps
//! the exit code of a SIGKILL; a restore is a new task of the same container, whose snapshot has stayed. containerd goes
//! on with a request whose client is gone; what it runs for that (runc, CRIU) has the container's id in its command line
//! and is ended by that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use protobuf::MessageField;

use super::lifecycle::{self, packed};
use super::record::{self, Known};
use super::{Place, logs};
use crate::cancel::Urge;
use crate::proto::containerd_runc::{CheckpointOptions as RuncCheckpoint, Options};
use crate::proto::containerd_tasks::CheckpointTaskRequest;
use crate::proto::containerd_tasks_grpc::TASKS_CHECKPOINT;
use crate::runtime::adapter::{Call, Change, CheckpointImage, CheckpointOptions, RestoreTo, RtResult, RuntimeError};
use crate::runtime::processes::{Which, end_trees, thaw_group_of};
use crate::runtime::shared::calls::{apart, not_allowed};
use crate::runtime::shared::criu::{last_errors, works_on};
use crate::runtime::shared::verbs::{Acted, FIRST_POLL};

/// CRIU's files, in the folder that is given.
const IMAGE: &str = "image";

/// CRIU's log, beside them.
const WORK: &str = "work";

/// Dumps what runs, which ends with it.
pub(super) fn checkpoint(
    place: Place,
    call: &Call,
    id: &str,
    options: &CheckpointOptions,
) -> RtResult<CheckpointImage> {
    const OP: &str = "checkpoint";
    let known = record::inspect(place.scope, call, id)?;
    let status = known.status();
    if !status.is_running() {
        return Err(not_allowed(OP, id, &status));
    }
    let id = &known.container.id;
    let (image, work) = (options.dir.join(IMAGE), options.dir.join(WORK));
    super::make_folder(&image)?;
    super::make_folder(&work)?;
    let asked = RuncCheckpoint {
        exit: true,
        image_path: image.to_string_lossy().into_owned(),
        work_path: work.to_string_lossy().into_owned(),
        ..RuncCheckpoint::default()
    };
    let request = CheckpointTaskRequest {
        container_id: id.clone(),
        options: MessageField::some(packed("containerd.runc.v1.CheckpointOptions", &asked)?),
        ..Default::default()
    };
    mark(place, id, known.task.as_ref().map(|task| task.pid));
    let made = match place.scope.ask(call, OP, &TASKS_CHECKPOINT, &request).map_err(RuntimeError::from) {
        Ok(_) => await_end(place, call, id),
        Err(error) => Err(error),
    };
    if let Err(error) = made {
        if is_cut_off(&error) {
            end_trees(Which::All, |words| works_on(words, OP, id));
        }
        let error = told(error, &work.join("dump.log"));
        runs_on(place, &known, &image);
        mark(place, id, None);
        super::remove_folder(&image)?;
        super::remove_folder(&work)?;
        return Err(error);
    }
    logs::await_end(place, call, id);
    super::remove_folder(&work)?;
    Ok(CheckpointImage { root: options.dir.clone(), parts: vec![PathBuf::from(IMAGE)] })
}

/// The end of this process, the container's first, is no death; `None`: no end of the container's is.
pub(super) fn mark(place: Place, id: &str, hibernating: Option<u32>) {
    let mut marks = place.marks.lock().unwrap_or_else(PoisonError::into_inner);
    match hibernating {
        Some(pid) => marks.hibernating.insert(id.to_owned(), pid),
        None => marks.hibernating.remove(id),
    };
}

/// The shim hears of the end a little after the dump.
fn await_end(place: Place, call: &Call, id: &str) -> RtResult<()> {
    const OP: &str = "the end of what was checkpointed";
    let begun = std::time::Instant::now();
    loop {
        match record::find(place.scope, call, id)? {
            Some(known) if known.status().is_live() => {}
            Some(_) | None => return Ok(()),
        }
        if call.deadline.is_over() {
            return Err(crate::runtime::shared::calls::late(OP, begun));
        }
        if call.cancel.wait(Urge::Cancel, call.deadline.at_most(FIRST_POLL)) == Urge::Cancel {
            return Err(RuntimeError::Cancelled { op: OP.to_owned() });
        }
    }
}

/// After a dump that failed: thaws what it had frozen. One that was done just before it was to be ended is taken back.
fn runs_on(place: Place, known: &Known, image: &Path) {
    let id = &known.container.id;
    let pid = known.pid(&known.status());
    if pid > 0 && Path::new(&format!("/proc/{pid}")).exists() {
        thaw_group_of(pid);
        return;
    }
    // CRIU writes its inventory last.
    if !image.join("inventory.img").exists() {
        return;
    }
    let root = image.parent().unwrap_or(image).to_owned();
    let image = CheckpointImage { root, parts: vec![PathBuf::from(IMAGE)] };
    if let Err(error) = apart(|call| restore(place, call, id, &image, RestoreTo::Running)) {
        log::error!("container '{}' was checkpointed in vain and does not go on: {error}", known.name());
    }
}

/// Lets it go on from an image.
pub(super) fn restore(place: Place, call: &Call, id: &str, image: &CheckpointImage, to: RestoreTo) -> RtResult<Change> {
    const OP: &str = "restore";
    let known = record::inspect(place.scope, call, id)?;
    let status = known.status();
    let id = &known.container.id;
    let part = image.parts.first().map(|part| image.root.join(part)).unwrap_or_default();
    let work = place.settings.folder(id).join("criu");
    super::make_folder(&work)?;
    let options = Options {
        criu_image_path: part.to_string_lossy().into_owned(),
        criu_work_path: work.to_string_lossy().into_owned(),
        ..Options::default()
    };
    let restored = lifecycle::start_task(place, call, id, Some(&options));
    if let Err(error) = &restored
        && is_cut_off(error)
    {
        end_trees(Which::Inner, |words| works_on(words, OP, id));
        end_trees(Which::All, |words| works_on(words, OP, id));
        if let Err(error) = apart(|call| lifecycle::end_task(place.scope, call, id)) {
            log::warn!("what a restore of container '{}' has left stays: {error}", known.name());
        }
    }
    let restored = restored.map_err(|error| told(error, &work.join("restore.log")));
    // From a damaged image CRIU's log may be gigabytes.
    super::remove_folder(&work)?;
    match (restored?, to) {
        (Acted::Done, RestoreTo::Running) => Ok(Change::Changed),
        (Acted::Done, RestoreTo::Paused) => lifecycle::pause(place, call, id),
        (Acted::Unchanged | Acted::WrongState, _) => Err(not_allowed(OP, known.name(), &status)),
    }
}

/// Whether the request is left alone with what it has begun.
fn is_cut_off(error: &RuntimeError) -> bool {
    matches!(error, RuntimeError::Cancelled { .. } | RuntimeError::Timeout { .. } | RuntimeError::Connection { .. })
}

/// The failure with what CRIU says of it: containerd tells no more than a path.
fn told(error: RuntimeError, log: &Path) -> RuntimeError {
    let reason = last_errors(log);
    // It may not have been written.
    let _ = fs::remove_file(log);
    match (error, reason) {
        (RuntimeError::Engine { engine, op, code, message }, Some(reason)) => {
            RuntimeError::Engine { engine, op, code, message: format!("{reason} ({message})") }
        }
        (other, _) => other,
    }
}
