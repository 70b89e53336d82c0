//! Hibernate, wake, and what becomes of an image otherwise: the order of things around an engine's own calls.

use std::time::Duration;

use super::images::{Record, Stage};
use super::{Hibernation, sums};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::workload::labels;
use crate::runtime::adapter::{
    Call, Change, CheckpointImage, CheckpointOptions, ContainerInstance, NoProgress, RestoreTo, RtResult,
    RuntimeAdapter, RuntimeError,
};
use crate::runtime::processes::boot;

/// The time that taking back a checkpoint has whose call was cancelled or late.
const BACK_LIMIT: Duration = Duration::from_secs(30);

/// The time that a look has at what became of a container whose call failed.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// The error of a call that the state does not allow.
pub(super) fn not_allowed(op: &str, instance: &ContainerInstance) -> RuntimeError {
    let state = instance.status.word().to_owned();
    RuntimeError::InvalidState { op: op.to_owned(), id: instance.name.clone(), state }
}

impl Hibernation {
    pub(super) fn hibernate(&self, call: &Call, id: &str) -> RtResult<Change> {
        let instance = self.inspect_container(call, id)?;
        match instance.status.allows(Transition::Hibernate) {
            Allowed::Unchanged => return Ok(Change::Unchanged),
            Allowed::No => return Err(not_allowed("hibernate", &instance)),
            Allowed::Yes => {}
        }
        self.proof.ask(self.engine.as_ref(), call)?;
        self.check_room(call, &instance)?;
        let Some(ticket) = self.begin(&instance.id, ContainerStatus::Hibernating, call.cancel) else {
            return Err(not_allowed("hibernate", &self.seen(instance)));
        };
        let begun = Record {
            id: instance.id.clone(),
            name: instance.name.clone(),
            started_ms: instance.started_ms,
            boot: boot(),
            stage: Stage::Begun,
            image: None,
            files: Vec::new(),
        };
        self.images.put(begun.clone())?;
        let limit = call.deadline.at_most(self.config.checkpoint_limit);
        let inner = Call { deadline: limit, cancel: &ticket.cancel, progress: call.progress };
        let made = self.images.new_folder(&instance.id).and_then(|dir| {
            call.progress.bytes("checkpoint", 0, 0);
            self.engine.checkpoint_container(&inner, &instance.id, &CheckpointOptions { dir })
        });
        let image = match made {
            Ok(image) => image,
            Err(error) => {
                self.images.forget(&instance.id);
                return Err(self.runs_on(&instance, error));
            }
        };
        match self.keep(&inner, &begun, image.clone()) {
            Ok(()) => Ok(Change::Changed),
            Err(error) => Err(self.take_back(&instance, &begun, &image, error)),
        }
    }

    /// Syncs and sums the image; the container is hibernated once this is written.
    fn keep(&self, call: &Call, begun: &Record, image: CheckpointImage) -> RtResult<()> {
        let image = self.images.keep_folder(&begun.id, image)?;
        self.images.put(Record { image: Some(image.clone()), ..begun.clone() })?;
        let files = sums::seal(call, &image)?;
        let whole = Record { stage: Stage::Whole, image: Some(image), files, ..begun.clone() };
        let total = self.images.bytes().saturating_add(whole.bytes());
        if total > self.config.max_bytes {
            return Err(no_room(&begun.name, total, self.config.max_bytes));
        }
        self.images.put(whole)
    }

    /// The checkpoint is made and cannot be kept: the container goes on from it.
    fn take_back(
        &self,
        instance: &ContainerInstance,
        begun: &Record,
        image: &CheckpointImage,
        error: RuntimeError,
    ) -> RuntimeError {
        let cancel = CancelToken::new();
        let call = Call { deadline: Deadline::after(BACK_LIMIT), cancel: &cancel, progress: &NoProgress };
        let image = self.images.find(&begun.id).and_then(|record| record.image).unwrap_or_else(|| image.clone());
        match self.engine.restore_container(&call, &instance.id, &image, RestoreTo::Running) {
            Ok(_) => {
                self.woken(begun);
                error
            }
            Err(back) => {
                self.lock().doubtful.insert(begun.id.clone());
                let message = format!("{error}; it could not be taken back, so that '{}' does not run", begun.name);
                RuntimeError::Io { what: message, reason: back.to_string() }
            }
        }
    }

    /// A checkpoint that failed leaves what ran running; where it did not, that is told.
    fn runs_on(&self, instance: &ContainerInstance, error: RuntimeError) -> RuntimeError {
        let cancel = CancelToken::new();
        let call = Call { deadline: Deadline::after(LOOK_LIMIT), cancel: &cancel, progress: &NoProgress };
        match self.engine.inspect_container(&call, &instance.id) {
            Ok(now) if !now.status.is_live() => {
                let state = now.status.word();
                let message = format!("{error}; '{}' does not run on: it is", instance.name);
                RuntimeError::Io { what: message, reason: state.to_owned() }
            }
            Ok(_) | Err(_) => error,
        }
    }

    /// Refuses what would not fit before anything is stopped for it: an image is about as large as the memory in use.
    fn check_room(&self, call: &Call, instance: &ContainerInstance) -> RtResult<()> {
        self.forget_gone(call);
        let used = self.engine.container_stats(call, &instance.id).map_or(0, |stats| stats.memory_bytes);
        let total = self.images.bytes().saturating_add(used);
        if total > self.config.max_bytes {
            return Err(no_room(&instance.name, total, self.config.max_bytes));
        }
        let free = nix::sys::statvfs::statvfs(&self.config.dir)
            .map(|found| found.blocks_available().saturating_mul(found.fragment_size()));
        match free {
            Ok(free) if free < used => Err(no_room(&instance.name, used, free)),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Forgets containers that somebody else has removed, with their images.
    fn forget_gone(&self, call: &Call) {
        for id in self.images.ids() {
            if matches!(self.engine.inspect_container(call, &id), Err(RuntimeError::NotFound { .. })) {
                self.images.forget(&id);
            }
        }
    }

    pub(super) fn wake(&self, call: &Call, id: &str, to: RestoreTo) -> RtResult<Change> {
        let instance = self.inspect_container(call, id)?;
        let is_woken = instance.annotations.contains_key(labels::WOKEN);
        match instance.status.allows(Transition::Wake) {
            Allowed::Unchanged => return Ok(Change::Unchanged),
            Allowed::No if is_woken && instance.status.is_live() => return Ok(Change::Unchanged),
            Allowed::No => return Err(not_allowed("wake", &instance)),
            Allowed::Yes => {}
        }
        let Some(record) = self.hibernated(&instance.id) else {
            let reason = format!("the checkpoint of '{}' was not made by this Action Controller", instance.name);
            return Err(RuntimeError::InvalidSpec { reason });
        };
        let Some(ticket) = self.begin(&instance.id, ContainerStatus::Waking, call.cancel) else {
            return Err(not_allowed("wake", &self.seen(instance)));
        };
        let limit = call.deadline.at_most(self.config.restore_limit);
        let inner = Call { deadline: limit, cancel: &ticket.cancel, progress: call.progress };
        let image = match self.checked(&inner, &record) {
            Ok(image) => image,
            Err(error @ RuntimeError::InvalidSpec { .. }) => {
                self.discard(call, &record)?;
                return Err(error);
            }
            Err(error) => return Err(error),
        };
        call.progress.bytes("restore", 0, 0);
        match self.engine.restore_container(&inner, &instance.id, &image, to) {
            Ok(_) => {
                self.woken(&record);
                Ok(Change::Changed)
            }
            Err(error) => {
                self.lock().doubtful.insert(instance.id.clone());
                drop(ticket);
                let cancel = CancelToken::new();
                let call = Call { deadline: Deadline::after(LOOK_LIMIT), cancel: &cancel, progress: &NoProgress };
                // Seeing it run settles the doubt. Where nothing is seen, the next look does.
                let _ = self.inspect_container(&call, &instance.id);
                Err(error)
            }
        }
    }

    /// The image, held against its sums. What is damaged is `InvalidSpec`.
    fn checked(&self, call: &Call, record: &Record) -> RtResult<CheckpointImage> {
        let image = match &record.image {
            Some(image) => image.clone(),
            // The daemon ended before the engine had told it.
            None => match self.images.untaken(&record.id) {
                Some(image) => image,
                None => self.engine.find_checkpoint(call, &record.id)?,
            },
        };
        if record.stage == Stage::Whole {
            sums::verify(call, &image, &record.files)?;
        } else if record.boot != boot() {
            let reason = format!(
                "the checkpoint of '{}' is damaged: the machine was started again before it was whole",
                record.name
            );
            return Err(RuntimeError::InvalidSpec { reason });
        } else {
            // It may have ended by itself before there was any image.
            sums::exists(&image)?;
        }
        Ok(image)
    }

    /// The container runs: its image is of no more use.
    pub(super) fn woken(&self, record: &Record) {
        self.images.free(record);
        let woken = Record { stage: Stage::Woken, image: None, files: Vec::new(), ..record.clone() };
        if let Err(error) = self.images.put(woken.clone()) {
            log::warn!("that '{}' was woken is not kept: {error}", record.name);
            self.images.remember(woken);
        }
    }

    /// The container has ended: its image is deleted.
    pub(super) fn discard(&self, call: &Call, record: &Record) -> RtResult<()> {
        self.engine.discard_checkpoint(call, &record.id)?;
        self.images.free(record);
        self.images.put(Record { stage: Stage::Discarded, image: None, files: Vec::new(), ..record.clone() })
    }
}

fn no_room(name: &str, needed: u64, limit: u64) -> RuntimeError {
    RuntimeError::NoRoom { what: format!("the checkpoint of '{name}'"), needed, limit }
}
