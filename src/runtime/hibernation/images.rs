//! [`Images`]: what is known of the checkpoints of one engine's containers, on disk and in memory.
//!
//! Each container has one record, `ENGINE/ID.json` below the folder: written under another name, synced, renamed. A
//! record is whole once every file of the image is synced and summed. Until then it says only what was begun, and on
//! which boot of the machine: what was not synced may be cut off after another.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::sums::FileSum;
use crate::runtime::adapter::{CheckpointImage, ContainerInstance, RtResult, RuntimeError};
use crate::runtime::shared::durable::replace;

/// How far a container's checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Stage {
    /// It was begun; whether the engine came to the end of it, the engine knows.
    Begun,
    /// It is on disk, synced and summed.
    Whole,
    /// It was given up: the container has ended.
    Discarded,
    /// The container goes on from it; the image is deleted.
    Woken,
}

/// What is known of one container's checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// When its run was started, milliseconds since the epoch: of another run this says nothing.
    pub started_ms: u64,
    /// The boot of the machine on which it was begun.
    pub boot: String,
    /// How far it is.
    pub stage: Stage,
    /// Where the image lies; `None` where the engine has not said so.
    pub image: Option<CheckpointImage>,
    /// Every file of the image.
    pub files: Vec<FileSum>,
}

impl Record {
    /// Whether it is about the present run of the container. Engines tell the start in whole seconds in one call and
    /// exactly in another.
    pub fn is_of(&self, instance: &ContainerInstance) -> bool {
        self.id == instance.id && self.started_ms / 1000 == instance.started_ms / 1000
    }

    /// The size of the image, bytes.
    pub fn bytes(&self) -> u64 {
        if self.stage == Stage::Whole { self.files.iter().map(|file| file.bytes).sum() } else { 0 }
    }
}

/// The checkpoints of one engine.
pub(super) struct Images {
    dir: PathBuf,
    records: Mutex<BTreeMap<String, Record>>,
}

fn failed(what: &str, path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Io { what: format!("{what} '{}'", path.display()), reason: error.to_string() }
}

impl Images {
    /// What the folder has. A record that cannot be read is left as it is and told in the log: its container counts as
    /// what the engine says.
    pub fn open(dir: &Path, engine: &str) -> RtResult<Self> {
        let dir = dir.join(engine);
        fs::create_dir_all(&dir).map_err(|error| failed("making the folder", &dir, &error))?;
        let entries = fs::read_dir(&dir).map_err(|error| failed("reading the folder", &dir, &error))?;
        let mut records = BTreeMap::new();
        for path in entries.flatten().map(|entry| entry.path()) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let read = fs::read(&path).map_err(|error| error.to_string());
            match read.and_then(|text| serde_json::from_slice::<Record>(&text).map_err(|error| error.to_string())) {
                Ok(record) => drop(records.insert(record.id.clone(), record)),
                Err(error) => log::error!("the record of a checkpoint, '{}', cannot be read: {error}", path.display()),
            }
        }
        Ok(Self { dir, records: Mutex::new(records) })
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        // Each change is one insertion or removal.
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of the container with this id or name.
    pub fn find(&self, id: &str) -> Option<Record> {
        let records = self.lock();
        records.get(id).or_else(|| records.values().find(|record| record.name == id)).cloned()
    }

    /// The ids of all containers with a record.
    pub fn ids(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Whether there is any record.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// The size of all images, bytes.
    pub fn bytes(&self) -> u64 {
        self.lock().values().map(Record::bytes).sum()
    }

    fn file(&self, id: &str) -> RtResult<PathBuf> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if id.is_empty() || id.starts_with('.') || !id.chars().all(is_plain) {
            return Err(RuntimeError::InvalidSpec { reason: format!("'{id}' is no id that a file can be called by") });
        }
        Ok(self.dir.join(format!("{id}.json")))
    }

    /// The folder that an engine may write the image of a new checkpoint to: made anew and empty.
    pub fn new_folder(&self, id: &str) -> RtResult<PathBuf> {
        let path = self.file(id)?.with_extension("new");
        remove(&path);
        fs::create_dir(&path).map_err(|error| failed("making the folder", &path, &error))?;
        Ok(path)
    }

    /// What an engine has written to the folder that [`Images::new_folder`] gave, and nobody has taken from there yet.
    pub fn untaken(&self, id: &str) -> Option<CheckpointImage> {
        let root = self.file(id).ok()?.with_extension("new");
        let entries = fs::read_dir(&root).ok()?.flatten();
        let parts: Vec<PathBuf> = entries.map(|entry| entry.file_name().into()).collect();
        (!parts.is_empty()).then_some(CheckpointImage { root, parts })
    }

    /// The same image under its lasting name, where it lies in the folder that [`Images::new_folder`] gave.
    pub fn keep_folder(&self, id: &str, image: CheckpointImage) -> RtResult<CheckpointImage> {
        let (new, kept) = (self.file(id)?.with_extension("new"), self.file(id)?.with_extension("image"));
        let Ok(rest) = image.root.strip_prefix(&new).map(Path::to_owned) else {
            remove(&new);
            return Ok(image);
        };
        remove(&kept);
        fs::rename(&new, &kept).map_err(|error| failed("renaming the folder", &new, &error))?;
        Ok(CheckpointImage { root: kept.join(rest), parts: image.parts })
    }

    /// Keeps the record, durably.
    pub fn put(&self, record: Record) -> RtResult<()> {
        let path = self.file(&record.id)?;
        let text = serde_json::to_vec(&record).map_err(|error| RuntimeError::Io {
            what: "a checkpoint's record".to_owned(),
            reason: error.to_string(),
        })?;
        replace(&path, &text).map_err(|error| failed("writing the record of a checkpoint,", &path, &error))?;
        self.remember(record);
        Ok(())
    }

    /// Keeps the record until the daemon ends.
    pub fn remember(&self, record: Record) {
        self.lock().insert(record.id.clone(), record);
    }

    /// Forgets the container, its image included.
    pub fn forget(&self, id: &str) {
        let Some(record) = self.find(id) else { return };
        self.free(&record);
        self.lock().remove(&record.id);
        if let Ok(path) = self.file(&record.id) {
            remove(&path);
        }
    }

    /// Deletes the image's files, wherever they are; the record stays.
    pub fn free(&self, record: &Record) {
        if let Some(image) = &record.image {
            image.parts.iter().for_each(|part| remove(&image.root.join(part)));
        }
        for extension in ["new", "image"] {
            if let Ok(path) = self.file(&record.id) {
                remove(&path.with_extension(extension));
            }
        }
    }
}

/// Deletes a file or a folder; what is not there is deleted already.
fn remove(path: &Path) {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return,
    };
    if let Err(error) = removed {
        crate::limited!(log::Level::Warn, "'{}' of a checkpoint stays: {error}", path.display());
    }
}
