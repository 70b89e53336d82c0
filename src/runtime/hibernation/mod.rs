//! Hibernation: what is the same of checkpoints on every engine, so that an adapter has only to write and read images.
//!
//! [`Hibernation`] is put in front of an adapter and is the port itself. It checks the state before the engine is asked,
//! proves that checkpoints work there at all, bounds their size and time, syncs and sums each image and holds it against
//! its sums before it is used, and knows from its own records which containers are hibernated: an engine takes a
//! checkpoint for an end. Enters: files of images and records of them. Stays out: how an engine makes an image, and what
//! an action is.
//!
//! # What is written when
//!
//! 1. The record, as begun.
//! 2. The image, by the engine.
//! 3. Each file of the image is synced and summed.
//! 4. The record, as whole.
//!
//! What is found begun after a crash is what the engine says: it runs, or it is hibernated and can be woken on the same
//! boot of the machine; after another one the image may be cut off, and counts as damaged.
//!
//! What a container has become is not known where a wake failed, or the daemon ended in between: its engine may have come to
//! the end all the same. Its record is in doubt then, until the container is seen running for the first time, which
//! outdates it; otherwise its next end would be taken for a hibernation.
//!
//! A wake keeps the image until the container runs. A damaged one is never given to the engine: CRIU may write without
//! end from one that is cut off. Its container counts as ended from then on.

mod cycle;
mod images;
mod port;
mod proof;
mod sums;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::images::{Images, Record, Stage};
use self::proof::Proof;
use super::adapter::{ContainerInstance, RtResult, RuntimeAdapter};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::state::ContainerStatus;
use crate::model::workload::labels;

/// How containers are hibernated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HibernationConfig {
    /// Where records, and images of engines that have no place of their own, are kept.
    pub dir: PathBuf,
    /// The most bytes that the images of one engine take.
    pub max_bytes: u64,
    /// The longest time of one checkpoint.
    pub checkpoint_limit: Duration,
    /// The longest time of one restore.
    pub restore_limit: Duration,
}

/// An engine whose containers can be hibernated. Its calls are those of the port.
pub struct Hibernation {
    engine: Arc<dyn RuntimeAdapter>,
    config: HibernationConfig,
    images: Images,
    proof: Proof,
    marks: Mutex<Marks>,
    ended: Condvar,
}

/// What is known of containers beside their records, by their ids.
struct Marks {
    /// Checkpoints and restores that run.
    underway: BTreeMap<String, Underway>,
    /// Records that may be outdated.
    doubtful: BTreeSet<String>,
}

/// A checkpoint or a restore that runs.
struct Underway {
    status: ContainerStatus,
    cancel: CancelToken,
}

/// Takes the container out of those under way, whatever happened.
struct Ticket<'a> {
    of: &'a Hibernation,
    id: String,
    cancel: CancelToken,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.of.lock().underway.remove(&self.id);
        self.of.ended.notify_all();
    }
}

impl Hibernation {
    /// Puts hibernation in front of an engine. Fails where its folder cannot be made or read.
    pub fn open(engine: Arc<dyn RuntimeAdapter>, config: HibernationConfig) -> RtResult<Self> {
        let images = Images::open(&config.dir, engine.name())?;
        let marks = Mutex::new(Marks { underway: BTreeMap::new(), doubtful: images.ids().into_iter().collect() });
        Ok(Self { engine, config, images, proof: Proof::default(), marks, ended: Condvar::new() })
    }

    /// The folder of records and images.
    pub fn dir(&self) -> &Path {
        &self.config.dir
    }

    fn lock(&self) -> MutexGuard<'_, Marks> {
        // Each change is one insertion or removal.
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a checkpoint or a restore; `None` where one runs already.
    fn begin(&self, id: &str, status: ContainerStatus, cancel: &CancelToken) -> Option<Ticket<'_>> {
        let mut marks = self.lock();
        if marks.underway.contains_key(id) {
            return None;
        }
        marks.doubtful.remove(id);
        let cancel = cancel.child();
        marks.underway.insert(id.to_owned(), Underway { status, cancel: cancel.clone() });
        Some(Ticket { of: self, id: id.to_owned(), cancel })
    }

    /// Ends the checkpoint or restore of the container, if one runs, and waits until it has ended.
    fn end_underway(&self, id: &str, reason: &str, deadline: Deadline) {
        let Some(cancel) = self.lock().underway.get(id).map(|found| found.cancel.clone()) else { return };
        // Its hooks take locks of others.
        cancel.cancel(reason);
        let mut marks = self.lock();
        while marks.underway.contains_key(id) && !deadline.is_over() {
            let waited = self.ended.wait_timeout(marks, deadline.remaining());
            marks = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The id of the container whose checkpoint or restore runs, where its record has this id or name.
    fn id_underway(&self, id: &str) -> Option<String> {
        let id = self.images.find(id).map_or_else(|| id.to_owned(), |record| record.id);
        self.lock().underway.contains_key(&id).then_some(id)
    }

    /// The container as it is, beside what its engine makes of its checkpoint.
    fn seen(&self, mut instance: ContainerInstance) -> ContainerInstance {
        if let Some(underway) = self.lock().underway.get(&instance.id) {
            instance.status = underway.status.clone();
            return instance;
        }
        let Some(record) = self.images.find(&instance.id).filter(|record| record.is_of(&instance)) else {
            return instance;
        };
        let is_live = instance.status.is_live();
        let stage = if is_live { self.settled(&record) } else { record.stage };
        match (stage, is_live) {
            (Stage::Woken, true) => {
                instance.annotations.insert(labels::WOKEN.to_owned(), "true".to_owned());
            }
            (stage @ (Stage::Begun | Stage::Whole), false) => {
                become_hibernated(&mut instance);
                if stage == Stage::Begun {
                    instance.annotations.insert(labels::UNFINISHED.to_owned(), "true".to_owned());
                }
            }
            (Stage::Discarded, false) => instance.status = given_up(),
            // It was killed after a checkpoint that its engine remembers.
            (Stage::Woken, false) | (Stage::Begun | Stage::Whole | Stage::Discarded, true) => {}
        }
        instance
    }

    /// The stage of a record whose container was seen running: one in doubt is outdated by that.
    fn settled(&self, record: &Record) -> Stage {
        let mut marks = self.lock();
        if marks.underway.contains_key(&record.id) || !marks.doubtful.remove(&record.id) {
            return record.stage;
        }
        // Under the lock, so that no checkpoint begins meanwhile, whose record this is not.
        match record.stage {
            Stage::Begun => {
                self.images.forget(&record.id);
                Stage::Begun
            }
            Stage::Whole => {
                self.woken(record);
                Stage::Woken
            }
            stage @ (Stage::Discarded | Stage::Woken) => stage,
        }
    }

    /// What is known of a hibernated container; `None` where it is none by our own records.
    fn hibernated(&self, id: &str) -> Option<Record> {
        self.images.find(id).filter(|record| matches!(record.stage, Stage::Begun | Stage::Whole))
    }
}

fn become_hibernated(instance: &mut ContainerInstance) {
    instance.status = ContainerStatus::Hibernated;
    instance.pid = 0;
    instance.cgroup_path.clear();
    instance.finished_ms = 0;
}

/// A container whose checkpoint was given up ended when it was made, by a SIGKILL.
fn given_up() -> ContainerStatus {
    ContainerStatus::Exited { code: Some(137), oom: false }
}
