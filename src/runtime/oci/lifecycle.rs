//! The life of a container: created, started, signalled, frozen, stopped, removed.
//!
//! Nothing runs between create and start: a container costs its folder until then. What a verb means from a state is the
//! table in `model/state.rs`; the order of signal, grace and SIGKILL is in `runtime::shared::verbs`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::conmon::{self, Supervised};
use super::images::{RootAccess, mount_root, unmount_root};
use super::record::{Record, Root, Run};
use super::{CONMON_GROUP, ENGINE, Engine, network};
use crate::cgroup::Cgroups;
use crate::model::resources::Resources;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::text::normalized;
use crate::model::workload::{PullPolicy, labels};
use crate::runtime::adapter::{
    Call, Change, ContainerConfig, ContainerInstance, EngineEventKind, ListFilter, RtResult, RuntimeError, StopOptions,
    unsupported,
};
use crate::runtime::processes::{Which, boot, end_trees};
use crate::runtime::shared::calls::{apart, not_allowed};
use crate::runtime::shared::durable::kept;
use crate::runtime::shared::owned::{is_ours, taken};
use crate::runtime::shared::resize::{self, Resized};
use crate::runtime::shared::verbs::{self, Acted, Containers, Found, Order};
use crate::runtime::shared::volumes;
use crate::runtime::specification::{self, Place};

/// The call as errors name it.
const RESIZE: &str = "resize";

/// What a start is for.
#[derive(Clone, Copy)]
pub(super) enum Begin<'a> {
    /// The first process is made.
    Fresh,
    /// It goes on from the image in this folder.
    Restored(&'a Path),
}

pub(super) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Engine {
    /// Keeps the container. What could not be specified, or whose image is not there, is refused now and not at its start.
    pub(super) fn create(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        self.check(call, "create")?;
        check_name(&config.name)?;
        if let Some(holder) = self.records.find(&config.name) {
            return Err(taken(&self.settings.node, &config.name, &holder.config.labels));
        }
        specification::check(ENGINE, config, true)?;
        if config.spec.tty {
            return Err(unsupported(ENGINE, "tty"));
        }
        let root = self.root_of(call, config)?;
        let id = Uuid::now_v7().simple().to_string();
        let record = Record { id, config: config.clone(), root, created_ms: now_ms() };
        let record = match self.records.add(record)? {
            Ok(record) => record,
            Err(holder) => return Err(taken(&self.settings.node, &config.name, &holder.config.labels)),
        };
        let joined = self.bridges.join(call, &record.id, config);
        if let Err(error) = joined.and_then(|_| self.specify(&record)) {
            self.discard(&record);
            return Err(error);
        }
        self.bus.tell(&record, EngineEventKind::Created);
        Ok(self.instance(&record))
    }

    /// What the root file system consists of: the image's layers, or the folder.
    fn root_of(&self, call: &Call, config: &ContainerConfig) -> RtResult<Root> {
        let spec = &config.spec;
        match (spec.image.as_str(), spec.rootfs.as_str()) {
            ("", "") => Err(RuntimeError::InvalidSpec { reason: "image: is empty, and there is no rootfs".to_owned() }),
            ("", folder) => {
                let path = Path::new(folder);
                if !path.is_absolute() || !path.is_dir() {
                    return Err(RuntimeError::InvalidSpec {
                        reason: format!("rootfs: '{folder}' is no folder with an absolute path"),
                    });
                }
                Ok(Root::of_folder(path))
            }
            (_, folder) if !folder.is_empty() => {
                Err(RuntimeError::InvalidSpec { reason: "image and rootfs exclude each other".to_owned() })
            }
            (image, _) => {
                // What is fetched each time was fetched by an own step before this one.
                let pull = if spec.pull == PullPolicy::Always { PullPolicy::IfNotPresent } else { spec.pull };
                self.ensure_image(call, image, pull)?;
                Ok(Root::of_image(self.images.get(image)?))
            }
        }
    }

    /// Makes an image present. A document may name by path only what lies in the folders for images.
    pub(super) fn ensure_image(&self, call: &Call, image: &str, pull: PullPolicy) -> RtResult<Change> {
        let path = image.strip_prefix("oci:").or_else(|| image.strip_prefix("oci-archive:"));
        if let Some(path) = path.map(normalized)
            && (path.split('/').any(|part| part == "..")
                || !self.settings.image_folders.iter().any(|folder| Path::new(&path).starts_with(folder)))
        {
            let reason = format!("image '{image}' is in none of the folders for images (runtimes.oci.image_folders)");
            return Err(RuntimeError::PermissionDenied { reason });
        }
        if pull == PullPolicy::Never {
            let absent = |error| match error {
                RuntimeError::NotFound { .. } => {
                    let reason = "it is not unpacked, and its pull policy is Never".to_owned();
                    RuntimeError::ImagePull { image: image.to_owned(), reason }
                }
                other => other,
            };
            return self.images.get(image).map(|_| Change::Unchanged).map_err(absent);
        }
        let ensured = self.images.ensure(call, image, pull)?;
        if ensured == Change::Changed {
            self.collect_images();
        }
        Ok(ensured)
    }

    /// Deletes layers that no image and no container has any more.
    pub(super) fn collect_images(&self) {
        let in_use = self.records.all().iter().map(|record| record.root.digest.clone()).collect();
        if let Err(error) = self.images.collect(&in_use) {
            log::warn!("layers that nobody uses stay: {error}");
        }
    }

    /// Mounts the root file system and writes the bundle.
    fn specify(&self, record: &Record) -> RtResult<()> {
        let folder = self.records.folder(&record.id);
        let rootfs = mount_root(&record.root.layers, &folder.join("root"), RootAccess::Writable)?;
        let mut binds = volumes::binds(&self.volumes, &record.config)?;
        let attachment = self.bridges.attachment(&record.id)?;
        binds.extend(network::files(&folder, &record.config, attachment.as_ref())?);
        let place = Place {
            engine: ENGINE,
            rootfs: &rootfs,
            root_path: &rootfs,
            cgroup: &self.group(&record.id),
            binds: &binds,
            netns: attachment.as_ref().map(|attachment| attachment.netns.as_path()),
        };
        let spec = specification::generate(&record.config, &record.root.defaults(), &place)?;
        let path = folder.join("config.json");
        let text = serde_json::to_vec(&spec).map_err(|error| kept("writing", &path, &error))?;
        fs::write(&path, text).map_err(|error| kept("writing", &path, &error))
    }

    /// Starts it under conmon.
    pub(super) fn begin(&self, call: &Call, record: &Record, begin: Begin) -> RtResult<()> {
        let (id, folder) = (record.id.as_str(), self.records.folder(&record.id));
        // What can fail without an effect comes before the last start is forgotten.
        let programs = self.programs()?;
        self.specify(record)?;
        let before = match begin {
            Begin::Fresh => None,
            Begin::Restored(_) => self.records.run(id)?,
        };
        self.clear_for(record, begin);
        if matches!(begin, Begin::Fresh) {
            self.bridges.disconnect(id, self.bridges.set_up_of(id));
        }
        self.connect(call, id)?;
        let supervised = Supervised {
            conmon: &programs.conmon,
            runtime: &programs.runtime,
            runtime_root: &self.settings.run_dir,
            id,
            name: &record.config.name,
            bundle: &folder,
            exits: &self.records.exits(),
            persist: &self.records.persist(),
            log_bytes: self.settings.log_bytes,
            stdin: record.config.spec.stdin,
            restore: match begin {
                Begin::Fresh => None,
                Begin::Restored(image) => Some(image),
            },
            restore_words: programs.words_on_groups(),
            path: self.settings.path.as_deref(),
            group: CONMON_GROUP,
        };
        let op = match begin {
            Begin::Fresh => "start",
            Begin::Restored(_) => "restore",
        };
        let begun = conmon::spawn(&supervised, call, op).and_then(|_| match begin {
            Begin::Fresh => self.order(call, "start", &["start", id]).map(drop),
            Begin::Restored(_) => Ok(()),
        });
        if begun.is_err() {
            // Where the call was over first, conmon and the runtime are still at it.
            end_trees(Which::All, |words| words.iter().any(|word| word == id));
        }
        // What goes on was started when it was.
        let started_ms = before.as_ref().map_or_else(now_ms, |run| run.started_ms);
        let begun = begun.and_then(|()| self.records.set_run(id, &Run { boot: boot(), started_ms }));
        match &begun {
            // From now on an end is one.
            Ok(()) => self.records.unmark(id),
            // What was begun and is not wanted, or not kept, is taken down again.
            Err(_) => self.clear_for(record, begin),
        }
        begun
    }

    /// Clears for a start. What is restored stays hibernated until it runs: a daemon that dies in between finds it so.
    fn clear_for(&self, record: &Record, begin: Begin) {
        match begin {
            Begin::Fresh => self.clear(record),
            Begin::Restored(_) => {
                self.take_down(record);
                self.records.clear_processes(&record.id);
            }
        }
    }

    /// Takes down what is left of the last start, and forgets it.
    pub(super) fn clear(&self, record: &Record) {
        self.take_down(record);
        self.records.clear_run(&record.id);
    }

    /// Takes down what is left of the last start, whatever it was: the runtime's state, and conmon.
    fn take_down(&self, record: &Record) {
        self.note_death(record);
        let was_alive = self.is_alive(record);
        if self.settings.run_dir.join(&record.id).exists() {
            let deleted = apart(|call| self.order(call, "remove", &["delete", "--force", &record.id]));
            if let Err(error) = deleted {
                log::warn!("container '{}': its last run is not all gone: {error}", record.config.name);
            }
        }
        if was_alive {
            self.await_conmon(record);
            self.note_death(record);
        }
        // After a restore that failed the runtime says that there is no such container, and keeps its id taken.
        let _ = fs::remove_dir_all(self.settings.run_dir.join(&record.id));
        self.end_conmon(record);
    }

    /// At the daemon's start: takes down starts that the last one did not finish, and marks of checkpoints that it did not.
    pub(super) fn settle(&self) {
        self.clear_proofs();
        for record in self.records.all() {
            let was_started = self.records.run(&record.id).is_ok_and(|run| run.is_some());
            if !self.is_alive(&record) {
                if !was_started {
                    self.disconnect(&record.id);
                }
                continue;
            }
            if was_started {
                self.records.unmark(&record.id);
            } else {
                log::warn!("container '{}' was being started when the daemon ended", record.config.name);
                self.clear(&record);
            }
        }
    }

    /// After a create that failed.
    fn discard(&self, record: &Record) {
        self.bridges.leave(&record.id);
        unmount_root(&self.records.folder(&record.id).join("root")).unwrap_or_else(|error| {
            log::warn!("container '{}' was not created, and its root stays mounted: {error}", record.config.name);
        });
        self.records.forget(&record.id);
    }

    /// Starts it; returns once the runtime has.
    pub(super) fn start(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.check(call, "start")?;
        verbs::start(self, call, id)
    }

    /// Deletes it; its volumes stay.
    pub(super) fn remove(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        self.check(call, "remove")?;
        let Some(record) = self.records.find(id) else { return Ok(Change::Unchanged) };
        if !is_ours(&self.settings.node, &record.config.labels) {
            let node = &self.settings.node;
            let reason = format!("container '{id}' is not ours: its label {} is not '{node}'", labels::NODE);
            return Err(RuntimeError::PermissionDenied { reason });
        }
        let state = self.status(&record);
        if state.allows(Transition::Remove { force }) != Allowed::Yes {
            return Err(not_allowed("remove", id, &state));
        }
        self.delete_record(&record)?;
        Ok(Change::Changed)
    }

    fn delete_record(&self, record: &Arc<Record>) -> RtResult<()> {
        self.clear(record);
        if self.is_alive(record) {
            let (op, message) = ("remove".to_owned(), format!("a process of '{}' does not end", record.config.name));
            return Err(RuntimeError::Engine { engine: ENGINE.to_owned(), op, code: 1, message });
        }
        self.bridges.leave(&record.id);
        unmount_root(&self.records.folder(&record.id).join("root"))?;
        self.records.forget(&record.id);
        if let Ok(groups) = Cgroups::read() {
            groups.remove(&self.group(&record.id));
        }
        self.bus.tell(record, EngineEventKind::Removed);
        self.bus.forget(&record.id);
        Ok(())
    }

    /// Deletes a volume that no container has.
    pub(super) fn remove_volume(&self, name: &str) -> RtResult<Change> {
        self.volumes.remove_unused(name, self.records.all().iter().map(|record| &record.config))
    }

    /// Changes limits of what runs.
    pub(super) fn resize(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        self.check(call, RESIZE)?;
        let record = self.records.get(id)?;
        resize::resize(&self.instance(&record), resources, force, |resized| self.order_resize(call, &record, resized))
    }

    /// The runtimes' command takes a file, or a stream that this has none of.
    fn order_resize(&self, call: &Call, record: &Record, resized: &Resized) -> RtResult<()> {
        let path = self.records.folder(&record.id).join("resized.json");
        let text =
            serde_json::to_vec(&specification::resized(resized)).map_err(|error| kept("writing", &path, &error))?;
        fs::write(&path, text).map_err(|error| kept("writing", &path, &error))?;
        let ordered = self.order(call, RESIZE, &["update", "--resources", &path.display().to_string(), &record.id]);
        let _ = fs::remove_file(path);
        ordered.map(drop)
    }

    /// Signal, thaw, grace, SIGKILL; returns once it has ended.
    pub(super) fn stop(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        self.check(call, "stop")?;
        let stopped = verbs::stop(self, call, id, options)?;
        self.disconnect(id);
        Ok(stopped)
    }

    /// The containers that fit, by creation time, then id.
    pub(super) fn list(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        self.check(call, "list")?;
        let fits = |record: &Arc<Record>| {
            let config = &record.config;
            filter.labels.iter().all(|(key, value)| config.labels.get(key) == Some(value))
        };
        let mut found: Vec<_> =
            self.records.all().into_iter().filter(fits).map(|record| self.instance(&record)).collect();
        found.retain(|instance| filter.all || instance.status.is_live());
        found.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        Ok(found)
    }
}

/// A name is the container's, and no path.
fn check_name(name: &str) -> RtResult<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_plain) || name.starts_with(['.', '-']) {
        return Err(RuntimeError::InvalidSpec { reason: format!("name: '{name}' is no name of a container") });
    }
    Ok(())
}

impl Containers for Engine {
    fn look(&self, call: &Call, id: &str) -> RtResult<Option<Found>> {
        self.check(call, "inspect")?;
        let found = |record: Arc<Record>| Found {
            status: self.status(&record),
            id: record.id.clone(),
            labels: record.config.labels.clone(),
        };
        Ok(self.records.find(id).map(found))
    }

    fn act(&self, call: &Call, op: &str, id: &str, order: Order) -> RtResult<Acted> {
        let record = self.records.get(id)?;
        let ordered = match order {
            Order::Start => self.begin(call, &record, Begin::Fresh),
            Order::Pause => self.order(call, op, &["pause", id]).map(drop),
            Order::Thaw => self.order(call, op, &["resume", id]).map(drop),
            // Without a process namespace of its own, the first process's end does not end the others.
            Order::Signal("SIGKILL") if record.config.host_pid => {
                self.order(call, op, &["kill", "--all", id, "SIGKILL"]).map(drop)
            }
            Order::Signal(signal) => self.order(call, op, &["kill", id, signal]).map(drop),
        };
        match ordered {
            Ok(()) => {
                let kind = match order {
                    Order::Start => Some(EngineEventKind::Started),
                    Order::Pause => Some(EngineEventKind::Paused),
                    Order::Thaw => Some(EngineEventKind::Resumed),
                    Order::Signal(_) => None,
                };
                kind.into_iter().for_each(|kind| self.bus.tell(&record, kind));
                Ok(Acted::Done)
            }
            Err(error @ RuntimeError::Engine { .. }) => {
                let now = self.status(&record);
                let is_moot = match order {
                    Order::Start => now.is_live(),
                    Order::Pause => now != ContainerStatus::Running { health: Default::default() },
                    Order::Thaw => now != ContainerStatus::Paused,
                    Order::Signal(_) => !now.is_live() || now == ContainerStatus::Stopping,
                };
                if is_moot { Ok(Acted::WrongState) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    fn delete(&self, _call: &Call, id: &str) -> RtResult<Change> {
        let Some(record) = self.records.find(id) else { return Ok(Change::Unchanged) };
        self.delete_record(&record)?;
        Ok(Change::Changed)
    }
}
