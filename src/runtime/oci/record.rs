//! What is kept of containers on disk, so that they outlive the daemon: one folder each.
//!
//! ```text
//! DIR/containers/ID/container.json   what it was created from
//! DIR/containers/ID/run.json         its last start
//! DIR/containers/ID/config.json      the runtime's specification of that start (the folder is the bundle)
//! DIR/containers/ID/pid, conmon.pid  written by conmon
//! DIR/containers/ID/log              its output, in the form `k8s-file`
//! DIR/containers/ID/oom              there once it was killed for want of memory
//! DIR/containers/ID/root/            its layer of writes, and where its root file system is mounted
//! DIR/exits/ID                       its exit code, written by conmon, by rename
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};

use super::events::CHECKPOINTED;
use super::images::Image;
use crate::runtime::adapter::{ContainerConfig, RtResult, RuntimeError};
use crate::runtime::shared::durable::{self, kept};
use crate::runtime::specification::ImageDefaults;

/// The largest file of ours that is read, bytes.
const MOST: u64 = 16 * 1024 * 1024;

/// A container as it was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Ours.
    pub(super) id: String,
    /// What it was created from.
    pub(super) config: ContainerConfig,
    /// Its root file system.
    pub(super) root: Root,
    /// Milliseconds since the epoch.
    pub(super) created_ms: u64,
}

/// What a root file system consists of, and what of its image's configuration is kept: its name may be another's when the
/// container is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Root {
    /// Of the image; empty without one.
    pub(super) digest: String,
    /// The uppermost first.
    pub(super) layers: Vec<PathBuf>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    env: Vec<String>,
    working_dir: String,
    user: String,
}

impl Root {
    /// A folder of the node.
    pub(super) fn of_folder(path: &Path) -> Self {
        Self { layers: vec![path.to_owned()], ..Self::default() }
    }

    /// Of an image.
    pub(super) fn of_image(image: Image) -> Self {
        let config = image.config.config().clone().unwrap_or_default();
        let list = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            digest: image.digest,
            layers: image.layers,
            entrypoint: list(config.entrypoint()),
            cmd: list(config.cmd()),
            env: list(config.env()),
            working_dir: text(config.working_dir()),
            user: text(config.user()),
        }
    }

    /// What its containers run where nothing else is asked.
    pub(super) fn defaults(&self) -> ImageDefaults {
        ImageDefaults {
            entrypoint: self.entrypoint.clone(),
            cmd: self.cmd.clone(),
            env: self.env.clone(),
            working_dir: self.working_dir.clone(),
            user: self.user.clone(),
        }
    }
}

/// A container's last start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Run {
    /// The boot of the machine.
    pub(super) boot: String,
    /// Milliseconds since the epoch.
    pub(super) started_ms: u64,
}

/// All containers.
pub(super) struct Records {
    dir: PathBuf,
    known: RwLock<BTreeMap<String, Arc<Record>>>,
}

impl Records {
    /// Opens or makes the folder. A container whose record cannot be read is named in the log and left alone.
    pub(super) fn open(dir: &Path) -> RtResult<Self> {
        let failed = |error: io::Error| kept("opening", dir, &error);
        // Specifications hold what documents keep in variables.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        for folder in ["containers", "exits", "persist"] {
            fs::create_dir_all(dir.join(folder)).map_err(failed)?;
        }
        let mut known = BTreeMap::new();
        for entry in fs::read_dir(dir.join("containers")).map_err(failed)? {
            let folder = entry.map_err(failed)?.path();
            match read::<Record>(&folder.join("container.json")) {
                Ok(Some(record)) => {
                    known.insert(record.id.clone(), Arc::new(record));
                }
                // A create that a crash cut off.
                Ok(None) => drop(fs::remove_dir_all(&folder)),
                Err(error) => log::error!("a container is not known any more: {error}"),
            }
        }
        Ok(Self { dir: dir.to_owned(), known: RwLock::new(known) })
    }

    /// The folder of exit codes.
    pub(super) fn exits(&self) -> PathBuf {
        self.dir.join("exits")
    }

    /// Where conmon keeps copies of what it writes.
    pub(super) fn persist(&self) -> PathBuf {
        self.dir.join("persist")
    }

    /// A container's folder.
    pub(super) fn folder(&self, id: &str) -> PathBuf {
        self.dir.join("containers").join(id)
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
        let record = Arc::new(record);
        {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if let Some(holder) = known.values().find(|other| other.config.name == record.config.name) {
                return Ok(Err(Arc::clone(holder)));
            }
            known.insert(record.id.clone(), Arc::clone(&record));
        }
        let folder = self.folder(&record.id);
        let path = folder.join("container.json");
        let written = fs::create_dir(&folder).map_err(|error| kept("making", &folder, &error));
        match written.and_then(|()| write(&path, &*record)) {
            Ok(()) => Ok(Ok(record)),
            Err(error) => {
                self.forget(&record.id);
                Err(error)
            }
        }
    }

    /// Deletes all that is kept of the container. Nothing may be mounted in its folder any more.
    pub(super) fn forget(&self, id: &str) {
        // The record first, so that a crash leaves what the next start takes for a create that was cut off.
        let folder = self.folder(id);
        let _ = fs::remove_file(folder.join("container.json"));
        if let Err(error) = fs::remove_dir_all(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            log::warn!("'{}' of a container that was removed stays: {error}", folder.display());
        }
        let _ = fs::remove_file(self.exits().join(id));
        let _ = fs::remove_file(self.persist().join(id));
        self.known.write().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// The last start, if it was ever started.
    pub(super) fn run(&self, id: &str) -> RtResult<Option<Run>> {
        read(&self.folder(id).join("run.json"))
    }

    /// Keeps the last start.
    pub(super) fn set_run(&self, id: &str, run: &Run) -> RtResult<()> {
        write(&self.folder(id).join("run.json"), run)
    }

    /// Forgets the last start with all that it left.
    pub(super) fn clear_run(&self, id: &str) {
        self.clear_processes(id);
        let _ = fs::remove_file(self.folder(id).join("run.json"));
        self.unmark(id);
    }

    /// Forgets the processes of the last start, and how it ended.
    pub(super) fn clear_processes(&self, id: &str) {
        let folder = self.folder(id);
        for file in ["pid", "conmon.pid", "oom"] {
            let _ = fs::remove_file(folder.join(file));
        }
        let _ = fs::remove_file(self.exits().join(id));
    }

    /// Takes the mark of a checkpoint away.
    pub(super) fn unmark(&self, id: &str) {
        let _ = fs::remove_file(self.folder(id).join(CHECKPOINTED));
    }

    /// The exit code that conmon wrote; `None` where it wrote none.
    pub(super) fn exit_code(&self, id: &str) -> Option<i32> {
        crate::cgroup::text(&self.exits().join(id))?.parse().ok()
    }

    /// When that was, milliseconds since the epoch; 0 where it was not.
    pub(super) fn exited_ms(&self, id: &str) -> u64 {
        let modified = fs::metadata(self.exits().join(id)).and_then(|found| found.modified());
        let since = modified.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        since.and_then(|since| u64::try_from(since.as_millis()).ok()).unwrap_or(0)
    }

    /// A process number that conmon wrote.
    pub(super) fn pid(&self, id: &str, file: &str) -> Option<i32> {
        crate::cgroup::text(&self.folder(id).join(file))?.parse().ok().filter(|pid| *pid > 0)
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> RtResult<Option<T>> {
    let failed = |error: &dyn std::fmt::Display| kept("reading", path, error);
    let Some(text) = durable::read(path, MOST).map_err(|error| failed(&error))? else { return Ok(None) };
    serde_json::from_slice(&text).map(Some).map_err(|error| failed(&error))
}

fn write(path: &Path, value: &impl Serialize) -> RtResult<()> {
    let text = serde_json::to_vec(value).map_err(|error| kept("writing", path, &error))?;
    durable::replace(path, &text).map_err(|error| kept("writing", path, &error))
}
