//! systemd over D-Bus: containers that are services of the node's own systemd, from the text of a unit, or from a folder of
//! the node as their root.
//!
//! [`Systemd`] is the door. `record` is what is kept of containers, `manager` what systemd is asked, `lifecycle` the verbs,
//! `events` what happens, `groups` what the kernel says. Unit files and what properties mean are in `runtime::units`. Stays
//! out: D-Bus itself ([`crate::transport::dbus`]), policy, plans, and units that are not this daemon's.
//!
//! A container is a record below [`SystemdConfig::dir`] and a unit file in [`SystemdConfig::unit_dir`] from its creation on.
//! The unit stays `active (exited)` after its end (`RemainAfterExit=yes`), so that systemd knows the exit code until the next
//! start; it is ended by signals, never by a job that stops it, which would make systemd forget. Limits take effect where
//! systemd has the controllers, which is read off its own group.
//!
//! Source: `org.freedesktop.systemd1(5)` of systemd 252.

mod events;
mod groups;
mod lifecycle;
mod manager;
mod record;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use self::events::Subscribers;
use self::manager::Manager;
use self::record::Records;
use super::adapter::{
    BlockingStream, Call, Change, ContainerConfig, ContainerInstance, ContainerStats, EngineEvent, Leftovers,
    ListFilter, NoProgress, Probe, RtResult, RuntimeAdapter, RuntimeCapabilities, RuntimeError, StopOptions,
    VolumeSpec,
};
use super::shared::calls::not_allowed;
use super::shared::usage::usage;
use super::shared::verbs;
use super::shared::volumes::Volumes;
use crate::cancel::CancelToken;
use crate::cgroup::Cgroups;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::transport::dbus::{Address, Bus, SYSTEM_BUS};

/// The engine's name.
const ENGINE: &str = "systemd";

/// How long a probe may take.
const PROBE: Duration = Duration::from_millis(1_900);

/// How systemd is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdConfig {
    /// This node's name, the value of [`labels::NODE`](crate::model::workload::labels::NODE) on all that is ours.
    pub node: String,
    /// Where containers and volumes are kept.
    pub dir: PathBuf,
    /// The bus that systemd is on: the path of its socket, or an address as D-Bus writes them.
    pub bus: String,
    /// Where unit files are written: a folder that systemd looks in, gone with the next boot.
    pub unit_dir: PathBuf,
}

impl Default for SystemdConfig {
    fn default() -> Self {
        Self {
            node: "localhost".to_owned(),
            dir: PathBuf::from("/var/lib/actioncontroller/systemd"),
            bus: SYSTEM_BUS.to_owned(),
            unit_dir: PathBuf::from("/run/systemd/system"),
        }
    }
}

impl SystemdConfig {
    /// The path of the bus's socket, where it has one.
    pub fn socket(&self) -> Option<PathBuf> {
        self.bus.parse::<Address>().ok()?.path().map(PathBuf::from)
    }
}

/// The adapter for the node's systemd.
pub struct Systemd(Arc<Engine>);

/// What streams share with the adapter that opened them.
struct Engine {
    settings: SystemdConfig,
    manager: Manager,
    records: Records,
    volumes: Volumes,
    subscribers: Subscribers,
    capabilities: Mutex<RuntimeCapabilities>,
}

impl Systemd {
    /// Opens what is kept. Whether systemd answers is told by the probe.
    pub fn open(config: SystemdConfig) -> RtResult<Self> {
        let address =
            config.bus.parse().map_err(|why: String| RuntimeError::InvalidSpec { reason: format!("bus: {why}") })?;
        Ok(Self(Arc::new(Engine {
            manager: Manager::new(Bus::new(address)),
            records: Records::open(&config.dir)?,
            volumes: Volumes::open(&config.dir.join("volumes"), &config.node)?,
            subscribers: Subscribers::default(),
            capabilities: Mutex::default(),
            settings: config,
        })))
    }
}

impl Engine {
    /// What can be done where systemd has these controllers.
    fn abilities(mounted: &Cgroups, manager_pid: i32) -> RuntimeCapabilities {
        let has = |controller: &str| groups::has_controller(mounted, manager_pid, controller);
        RuntimeCapabilities {
            supports_service_management: true,
            supports_dependencies: true,
            supports_pause: groups::has_freezer(mounted, manager_pid),
            supports_stats: has("memory") && has("cpu"),
            supports_events: true,
            supports_resource_limits: has("memory") && has("cpu") && has("pids"),
            supports_rootfs: true,
            ..RuntimeCapabilities::default()
        }
    }
}

impl RuntimeAdapter for Systemd {
    fn name(&self) -> &str {
        ENGINE
    }

    fn probe(&self) -> Probe {
        let cancel = CancelToken::new();
        let call = Call { deadline: Deadline::after(PROBE), cancel: &cancel, progress: &NoProgress };
        match self.0.manager.version(&call) {
            Ok((version, pid)) => {
                let found = Engine::abilities(&Cgroups::read().unwrap_or_default(), pid);
                *self.0.capabilities.lock().unwrap_or_else(PoisonError::into_inner) = found;
                Probe::Available { version, api: "org.freedesktop.systemd1".to_owned() }
            }
            Err(error) => Probe::away(error),
        }
    }

    fn capabilities(&self) -> RuntimeCapabilities {
        *self.0.capabilities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create_container(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        self.0.create(call, config)
    }

    fn start_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        verbs::start(self.0.as_ref(), call, id)
    }

    fn stop_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        self.0.stop(call, id, options)
    }

    fn signal_container(&self, call: &Call, id: &str, signal: &str) -> RtResult<()> {
        verbs::signal(self.0.as_ref(), call, id, signal)
    }

    fn remove_container(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        self.0.remove(call, id, force)
    }

    fn inspect_container(&self, call: &Call, id: &str) -> RtResult<ContainerInstance> {
        self.0.manager.check(call)?;
        let record = self.0.records.get(id)?;
        self.0.instance(call, &record)
    }

    fn list_containers(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        self.0.list(call, filter)
    }

    fn wait_container(&self, call: &Call, id: &str) -> RtResult<Option<i32>> {
        self.0.wait(call, id, Instant::now())
    }

    fn pause_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        verbs::pause(self.0.as_ref(), call, id)
    }

    fn resume_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        verbs::resume(self.0.as_ref(), call, id)
    }

    fn update_resources(&self, call: &Call, id: &str, resources: &Resources) -> RtResult<Change> {
        self.0.resize(call, id, resources)
    }

    fn ensure_volume(&self, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
        self.0.manager.check(call)?;
        self.0.volumes.ensure(volume)
    }

    fn remove_volume(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.0.manager.check(call)?;
        self.0.volumes.remove(name)
    }

    fn list_leftovers(&self, call: &Call, workload: &str) -> RtResult<Leftovers> {
        self.0.manager.check(call)?;
        Ok(Leftovers { volumes: self.0.volumes.of_workload(workload)?, ..Leftovers::default() })
    }

    fn container_stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        self.0.manager.check(call)?;
        let instance = self.0.instance(call, &*self.0.records.get(id)?)?;
        if !instance.status.is_live() || instance.cgroup_path.is_empty() {
            return Err(not_allowed("stats", id, &instance.status));
        }
        let groups = Cgroups::read().map_err(|error| record::kept("reading", "/proc/self/mounts".as_ref(), &error))?;
        Ok(usage(&groups, &instance.cgroup_path))
    }

    fn watch_events(&self, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        events::watch(&self.0, call)
    }
}
