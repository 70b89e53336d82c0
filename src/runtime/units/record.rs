//! What is kept of containers, a file each: what they are made of, their last start and its end.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::manager::Unit;
use super::status::Seen;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{ContainerConfig, RtResult, RuntimeError};
use crate::runtime::shared::durable::{self, kept};

/// The largest file of ours that is read, bytes: a unit's text may have some megabytes.
const MOST: u64 = 32 * 1024 * 1024;

/// A container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) id: String,
    /// Exactly what it was made from.
    pub(super) config: ContainerConfig,
    /// The node that it is on; empty for this one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(super) node: String,
    /// Its unit's name.
    pub(super) unit: String,
    /// Milliseconds since the epoch.
    pub(super) created_ms: u64,
    /// Its last start.
    #[serde(default)]
    pub(super) run: Option<Run>,
    /// The last end that was seen.
    #[serde(default)]
    pub(super) end: Option<End>,
}

/// A start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The boot of the machine; empty on another node, whose boots are not seen.
    pub(super) boot: String,
    /// Milliseconds since the epoch.
    pub(super) started_ms: u64,
    /// systemd has said that it was started. Before, a unit at rest says nothing of this start.
    #[serde(default)]
    pub(super) has_begun: bool,
}

/// How a start ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    /// Which start it was.
    pub(super) started_ms: u64,
    /// The exit code; `None` where it was lost.
    pub(super) code: Option<i32>,
    /// Whether it was for want of memory.
    pub(super) oom: bool,
    /// Milliseconds since the epoch.
    pub(super) finished_ms: u64,
}

impl Record {
    /// Its unit.
    pub(super) fn unit(&self) -> Unit {
        Unit { node: self.node.clone(), name: self.unit.clone() }
    }

    /// The end of the last start, where it was seen.
    pub(super) fn last_end(&self) -> Option<Seen> {
        let run = self.run.as_ref()?;
        let end = self.end.as_ref().filter(|end| end.started_ms == run.started_ms)?;
        let status = ContainerStatus::Exited { code: end.code, oom: end.oom };
        Some(Seen { status, pid: 0, finished_ms: end.finished_ms })
    }

    /// The state before the last start.
    pub(super) fn before(&self) -> Seen {
        let Some(end) = &self.end else { return Seen::of(ContainerStatus::Created) };
        Seen { status: ContainerStatus::Exited { code: end.code, oom: end.oom }, pid: 0, finished_ms: end.finished_ms }
    }

    /// The start that a state is of, milliseconds since the epoch; 0 for none.
    pub(super) fn start_of(&self, status: &ContainerStatus) -> u64 {
        let Some(run) = &self.run else { return 0 };
        if run.has_begun || status.is_live() {
            run.started_ms
        } else {
            self.end.as_ref().map_or(0, |end| end.started_ms)
        }
    }

    /// The state without systemd's word: before the first start, and after the boot of the last one.
    pub(super) fn at_rest(&self, boot: &str) -> Option<Seen> {
        match &self.run {
            None => Some(Seen::of(ContainerStatus::Created)),
            Some(run) if !run.boot.is_empty() && run.boot != boot => Some(self.last_end().unwrap_or_else(Seen::lost)),
            Some(_) => None,
        }
    }
}

/// All containers.
pub(super) struct Records {
    dir: PathBuf,
    known: RwLock<BTreeMap<String, Arc<Record>>>,
}

impl Records {
    /// Opens or makes the folder. A container whose record cannot be read is named in the log and left alone.
    pub(super) fn open(dir: &Path) -> RtResult<Self> {
        let dir = dir.join("containers");
        let failed = |error: io::Error| kept("opening", &dir, &error);
        fs::create_dir_all(&dir).map_err(failed)?;
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(record) => drop(known.insert(record.id.clone(), Arc::new(record))),
                Err(error) => log::error!("a container is not known any more: {error}"),
            }
        }
        Ok(Self { dir, known: RwLock::new(known) })
    }

    fn path(&self, id: &str) -> PathBuf {
        self.dir.join(format!("{id}.json"))
    }

    /// The container of exactly this id or name.
    pub(super) fn find(&self, id: &str) -> Option<Arc<Record>> {
        // Each change is one insertion or removal.
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(id).or_else(|| known.values().find(|record| record.config.name == id)).cloned()
    }

    /// The container of this id or name, or `NotFound`.
    pub(super) fn get(&self, id: &str) -> RtResult<Arc<Record>> {
        self.find(id).ok_or_else(|| RuntimeError::NotFound { what: format!("container '{id}'") })
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Arc<Record>> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Keeps a new container, durably. Its name has to be free: the holder of it comes back where it is not.
    pub(super) fn add(&self, record: Record) -> RtResult<Result<Arc<Record>, Arc<Record>>> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = known.values().find(|other| other.config.name == record.config.name) {
            return Ok(Err(Arc::clone(holder)));
        }
        let record = Arc::new(record);
        write(&self.path(&record.id), &record)?;
        known.insert(record.id.clone(), Arc::clone(&record));
        Ok(Ok(record))
    }

    /// Changes a container's record, durably; nothing where it is gone.
    pub(super) fn change(&self, id: &str, change: impl FnOnce(&mut Record)) -> RtResult<()> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(found) = known.get(id) else { return Ok(()) };
        let mut record = Record::clone(found);
        change(&mut record);
        if record == **found {
            return Ok(());
        }
        write(&self.path(id), &record)?;
        known.insert(id.to_owned(), Arc::new(record));
        Ok(())
    }

    /// Forgets a container, durably.
    pub(super) fn forget(&self, id: &str) -> RtResult<()> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let path = self.path(id);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(kept("deleting", &path, &error)),
            Ok(()) | Err(_) => {}
        }
        durable::sync_folder(&self.dir).map_err(|error| kept("writing", &self.dir, &error))?;
        known.remove(id);
        Ok(())
    }
}

fn read(path: &Path) -> RtResult<Record> {
    let text = durable::read(path, MOST).map_err(|error| kept("reading", path, &error))?.unwrap_or_default();
    serde_json::from_slice(&text).map_err(|error| kept("reading", path, &error))
}

fn write(path: &Path, record: &Record) -> RtResult<()> {
    let text = serde_json::to_vec(record).map_err(|error| kept("writing", path, &error))?;
    durable::replace(path, &text).map_err(|error| kept("writing", path, &error))
}
