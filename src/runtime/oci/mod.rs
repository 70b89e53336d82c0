//! Containers with no engine daemon: crun or runc, each container under a conmon of its own.
//!
//! [`Oci`] is the door. `record` is what is kept of containers, `lifecycle` their verbs, `conmon` the process beside each,
//! `observe` their state as conmon and the kernel tell it, `events` what happens to them, `images` their root file systems,
//! `network` what they find of it inside, `probe` whether it works here at all. Stays out: policy, plans, and any other engine.
//!
//! A container is a folder below [`OciConfig::dir`] from its creation on; processes are there from its start to its end,
//! and outlive the daemon. What is ours is known by the label `actioncontroller.io/node`; names are this folder's own, so
//! nothing else can have taken one.
//!
//! Sources: the OCI runtime specification 1.0.2; `crun(1)` 1.8 to 1.21, `runc(8)` 1.1; `conmon(8)` 2.1.

mod checkpoint;
mod conmon;
mod events;
mod exec;
pub mod images;
mod lifecycle;
mod network;
mod observe;
mod probe;
mod record;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use self::images::{ImageLimits, ImageSettings, ImageStore};
use self::record::Records;
use super::adapter::{
    BlockingStream, Call, Change, CheckpointImage, CheckpointOptions, ContainerConfig, ContainerInstance,
    ContainerStats, EngineEvent, ExecOutcome, Leftovers, ListFilter, LogChunk, LogOptions, NetworkSpec, Probe,
    RestoreTo, RtResult, RuntimeAdapter, RuntimeCapabilities, RuntimeError, StopOptions, VolumeSpec,
};
use super::bridge::{BridgeConfig, Bridges};
use super::logfile::reader;
use super::shared::program::{self, Ended};
use super::shared::verbs;
use super::shared::volumes::Volumes;
use crate::model::resources::Resources;
use crate::model::workload::PullPolicy;

/// The engine's name.
const ENGINE: &str = "oci";

/// The control group of all conmons.
const CONMON_GROUP: &str = "/actioncontroller/conmon";

/// The most that is kept of what the runtime says, bytes.
const MOST_SAID: usize = 1024 * 1024;

/// How containers without an engine daemon are run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OciConfig {
    /// This node's name, the value of the node label on all that is made.
    pub node: String,
    /// Where containers, images and volumes are kept.
    pub dir: PathBuf,
    /// Where the runtime keeps its state until the next boot.
    pub run_dir: PathBuf,
    /// The runtime: a path, or a name that is looked for in `PATH`; empty takes crun, else runc, whichever works.
    pub runtime: PathBuf,
    /// conmon, likewise; empty is `conmon`.
    pub conmon: PathBuf,
    /// Where programs, CRIU among them, are looked for in place of the daemon's own `PATH`.
    pub path: Option<OsString>,
    /// Folders in which image layouts and archives are found by the references they hold, and below which documents may
    /// name them by path.
    pub image_folders: Vec<PathBuf>,
    /// The most bytes that one image may take when it is unpacked.
    pub image_bytes: u64,
    /// From where networks get their addresses, as `10.90.0.0/16`.
    pub bridge_pool: String,
    /// The size of a container's log file at which it is begun anew, bytes.
    pub log_bytes: u64,
}

impl Default for OciConfig {
    fn default() -> Self {
        Self {
            node: "localhost".to_owned(),
            dir: PathBuf::from("/var/lib/actioncontroller/oci"),
            run_dir: PathBuf::from("/run/actioncontroller/oci"),
            runtime: PathBuf::new(),
            conmon: PathBuf::new(),
            path: None,
            image_folders: Vec::new(),
            image_bytes: 4 * 1024 * 1024 * 1024,
            bridge_pool: "10.90.0.0/16".to_owned(),
            log_bytes: 16 * 1024 * 1024,
        }
    }
}

impl OciConfig {
    /// Where the namespaces of networks are until the next boot: beside the runtime's own state, which takes each folder
    /// there for a container.
    pub fn network_dir(&self) -> PathBuf {
        self.run_dir.with_extension("networks")
    }
}

/// The adapter for crun or runc.
pub struct Oci(Arc<Engine>);

/// What streams share with the adapter that opened them.
struct Engine {
    settings: OciConfig,
    records: Records,
    images: ImageStore,
    volumes: Volumes,
    bridges: Bridges,
    bus: events::Bus,
    known: Mutex<Option<probe::Known>>,
}

impl Oci {
    /// Opens what is kept, and takes down starts that a crash cut off. Whether the runtime works is told by the probe.
    pub fn open(config: OciConfig) -> RtResult<Self> {
        let engine = Engine {
            records: Records::open(&config.dir)?,
            images: ImageStore::open(&config.dir.join("images"), image_settings(&config))?,
            volumes: Volumes::open(&config.dir.join("volumes"), &config.node)?,
            bridges: Bridges::open(bridge_config(&config))?,
            bus: events::Bus::default(),
            known: Mutex::default(),
            settings: config,
        };
        engine.settle();
        engine.collect_images();
        Ok(Self(Arc::new(engine)))
    }
}

fn image_settings(config: &OciConfig) -> ImageSettings {
    ImageSettings {
        folders: config.image_folders.clone(),
        limits: ImageLimits { bytes: config.image_bytes, ..ImageLimits::default() },
        ..ImageSettings::default()
    }
}

fn bridge_config(config: &OciConfig) -> BridgeConfig {
    BridgeConfig {
        engine: ENGINE,
        node: config.node.clone(),
        dir: config.dir.join("bridges"),
        run_dir: config.network_dir(),
        pool: config.bridge_pool.clone(),
        path: config.path.clone(),
    }
}

impl Engine {
    /// Runtimes look for CRIU in `PATH`.
    fn prepare(&self, command: &mut Command) {
        if let Some(path) = &self.settings.path {
            command.env("PATH", path);
        }
    }

    /// Has the runtime carry out an order.
    fn order(&self, call: &Call, op: &str, words: &[&str]) -> RtResult<Ended> {
        let programs = self.programs()?;
        let mut command = Command::new(&programs.runtime);
        self.prepare(&mut command);
        command.arg("--root").arg(&self.settings.run_dir).args(words);
        let ended = program::run(&mut command, call, op, MOST_SAID)?;
        if ended.status.success() {
            return Ok(ended);
        }
        let (engine, op) = (ENGINE.to_owned(), op.to_owned());
        let code = i64::from(ended.status.code().unwrap_or(-1));
        Err(RuntimeError::Engine { engine, op, code, message: said(&ended) })
    }
}

/// Why a runtime failed, in its own words.
fn said(ended: &Ended) -> String {
    conmon::complaint(&ended.complaint())
}

/// The error of a file or folder.
fn io(what: &str, error: &io::Error) -> RuntimeError {
    RuntimeError::Io { what: what.to_owned(), reason: error.to_string() }
}

impl RuntimeAdapter for Oci {
    fn name(&self) -> &str {
        ENGINE
    }

    fn probe(&self) -> Probe {
        self.0.prove()
    }

    fn capabilities(&self) -> RuntimeCapabilities {
        self.0.proved()
    }

    fn ensure_image(&self, call: &Call, image: &str, pull: PullPolicy) -> RtResult<Change> {
        self.0.check(call, "pull")?;
        self.0.ensure_image(call, image, pull)
    }

    fn create_container(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        self.0.create(call, config)
    }

    fn start_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.0.start(call, id)
    }

    fn stop_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        self.0.stop(call, id, options)
    }

    fn signal_container(&self, call: &Call, id: &str, signal: &str) -> RtResult<()> {
        self.0.check(call, "signal")?;
        verbs::signal(self.0.as_ref(), call, id, signal)
    }

    fn remove_container(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        self.0.remove(call, id, force)
    }

    fn inspect_container(&self, call: &Call, id: &str) -> RtResult<ContainerInstance> {
        self.0.check(call, "inspect")?;
        Ok(self.0.instance(&*self.0.records.get(id)?))
    }

    fn list_containers(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        self.0.list(call, filter)
    }

    fn wait_container(&self, call: &Call, id: &str) -> RtResult<Option<i32>> {
        self.0.check(call, "wait")?;
        self.0.wait(call, id, Instant::now())
    }

    fn pause_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.0.check(call, "pause")?;
        verbs::pause(self.0.as_ref(), call, id)
    }

    fn resume_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.0.check(call, "resume")?;
        verbs::resume(self.0.as_ref(), call, id)
    }

    fn update_resources(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        self.0.resize(call, id, resources, force)
    }

    fn prove_checkpoint(&self, call: &Call) -> RtResult<()> {
        self.0.prove_checkpoints(call)
    }

    fn checkpoint_container(&self, call: &Call, id: &str, options: &CheckpointOptions) -> RtResult<CheckpointImage> {
        self.0.checkpoint(call, id, options)
    }

    fn restore_container(&self, call: &Call, id: &str, image: &CheckpointImage, to: RestoreTo) -> RtResult<Change> {
        self.0.restore(call, id, image, to)
    }

    fn discard_checkpoint(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.0.give_up(call, id)
    }

    fn ensure_network(&self, call: &Call, network: &NetworkSpec) -> RtResult<Change> {
        self.0.check(call, "network create")?;
        self.0.bridges.ensure(call, network)
    }

    fn remove_network(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.0.check(call, "network remove")?;
        self.0.bridges.remove(call, name)
    }

    fn ensure_volume(&self, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
        self.0.check(call, "volume create")?;
        self.0.volumes.ensure(volume)
    }

    fn remove_volume(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.0.check(call, "volume remove")?;
        self.0.remove_volume(name)
    }

    fn list_leftovers(&self, call: &Call, workload: &str) -> RtResult<Leftovers> {
        self.0.check(call, "list")?;
        let volumes = self.0.volumes.of_workload(workload)?;
        Ok(Leftovers { volumes, networks: self.0.bridges.unused()?, ..Leftovers::default() })
    }

    fn container_stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        self.0.stats(call, id)
    }

    fn container_logs(&self, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
        self.0.check(call, "logs")?;
        let record = self.0.records.get(id)?;
        let over = exec::is_over(&self.0, &record);
        reader::open(&self.0.records.folder(&record.id).join("log"), call, options, over)
    }

    fn exec_in_container(&self, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
        self.0.exec(call, id, argv)
    }

    fn watch_events(&self, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        events::watch(&self.0, call)
    }
}
