//! Podman through its REST service on a unix socket (libpod API 4 and 5).
//!
//! [`Podman`] is the door; each of the other files is one part of it: `client` asks, `request` and `wire` have
//! Podman's field names, `spec` and `status` translate without I/O, the rest is one verb or one kind of object each.
//! Enters: what is Podman's. Stays out: policy, plans, and HTTP itself ([`crate::transport::http`]).
//!
//! What is ours is known by the label [`labels::NODE`](crate::model::workload::labels::NODE) with this node's name: anything else of the same name is
//! `AlreadyExists` and is never changed or deleted.

mod checkpoint;
mod client;
mod create;
mod exec;
mod image;
mod lifecycle;
mod logs;
mod network;
mod observe;
mod pod;
mod probe;
mod proof;
mod request;
mod spec;
mod status;
#[cfg(test)]
mod tests;
mod volume;
mod wire;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use self::client::Client;
use super::adapter::{
    BlockingStream, Call, Change, CheckpointImage, CheckpointOptions, ContainerConfig, ContainerInstance,
    ContainerStats, EngineEvent, ExecOutcome, Leftovers, ListFilter, LogChunk, LogOptions, NetworkSpec, PodSpec, Probe,
    RestoreTo, RtResult, RuntimeAdapter, RuntimeCapabilities, StopOptions, VolumeSpec,
};
use crate::model::resources::Resources;
use crate::model::workload::PullPolicy;
use crate::runtime::rest::client::sockets;

/// The engine's name.
const ENGINE: &str = "podman";

/// The role label's value on pods, which their infra containers inherit.
const INFRA_ROLE: &str = "infra";

/// How Podman is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodmanConfig {
    /// The service's socket; `None` looks at the usual places each time: `/run/podman/podman.sock` and
    /// `$XDG_RUNTIME_DIR/podman/podman.sock`.
    pub socket: Option<PathBuf>,
    /// This node's name, the value of [`labels::NODE`](crate::model::workload::labels::NODE) on all that is made.
    pub node: String,
    /// The image of pods' infra containers; `None` takes the engine's (which needs catatonit).
    pub infra_image: Option<String>,
    /// What runs in it; empty takes the image's. It has to end on SIGTERM.
    pub infra_command: Vec<String>,
    /// The OCI runtime by name; `None` takes the engine's.
    pub runtime: Option<String>,
    /// An existing folder that the engine sees as well, for what a proof of checkpoints needs.
    pub work_dir: PathBuf,
    /// The size of a container's log file at which it is begun anew, bytes.
    pub log_bytes: u64,
}

impl Default for PodmanConfig {
    fn default() -> Self {
        Self {
            socket: None,
            node: "localhost".to_owned(),
            infra_image: None,
            infra_command: Vec::new(),
            runtime: None,
            work_dir: std::env::temp_dir(),
            log_bytes: 16 * 1024 * 1024,
        }
    }
}

/// The socket below `/run` and the user's folder for such.
const SOCKET: &str = "podman/podman.sock";

/// The adapter for one Podman service.
pub struct Podman {
    settings: PodmanConfig,
    client: Client,
    known: Mutex<probe::Known>,
}

impl Podman {
    /// An adapter for the service, which need not run yet.
    pub fn new(config: PodmanConfig) -> Self {
        let client = Client::new(sockets(config.socket.as_deref(), SOCKET));
        Self { settings: config, client, known: Mutex::default() }
    }
}

impl RuntimeAdapter for Podman {
    fn name(&self) -> &str {
        ENGINE
    }

    fn probe(&self) -> Probe {
        let before = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (probe, known) = probe::probe(&self.client, before);
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = known;
        probe
    }

    fn capabilities(&self) -> RuntimeCapabilities {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).capabilities
    }

    fn ensure_image(&self, call: &Call, image: &str, pull: PullPolicy) -> RtResult<Change> {
        image::ensure(&self.client, call, image, pull)
    }

    fn create_container(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        create::create(&self.client, &self.settings, call, config)
    }

    fn start_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        lifecycle::start(&self.client, call, id)
    }

    fn stop_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        lifecycle::stop(&self.client, call, id, options)
    }

    fn signal_container(&self, call: &Call, id: &str, signal: &str) -> RtResult<()> {
        lifecycle::signal(&self.client, call, id, signal)
    }

    fn remove_container(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        lifecycle::remove(&self.client, &self.settings, call, id, force)
    }

    fn inspect_container(&self, call: &Call, id: &str) -> RtResult<ContainerInstance> {
        lifecycle::inspect(&self.client, call, id).map(status::instance)
    }

    fn list_containers(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        lifecycle::list(&self.client, call, filter)
    }

    fn wait_container(&self, call: &Call, id: &str) -> RtResult<Option<i32>> {
        lifecycle::wait(&self.client, call, id)
    }

    fn pause_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        lifecycle::pause(&self.client, call, id)
    }

    fn resume_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        lifecycle::resume(&self.client, call, id)
    }

    fn update_resources(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        lifecycle::resize(&self.client, call, id, resources, force)
    }

    fn prove_checkpoint(&self, call: &Call) -> RtResult<()> {
        proof::prove(&self.client, &self.settings, call)
    }

    fn checkpoint_container(&self, call: &Call, id: &str, _options: &CheckpointOptions) -> RtResult<CheckpointImage> {
        checkpoint::checkpoint(&self.client, call, id)
    }

    fn find_checkpoint(&self, call: &Call, id: &str) -> RtResult<CheckpointImage> {
        checkpoint::find_image(&self.client, call, id)
    }

    fn restore_container(&self, call: &Call, id: &str, _image: &CheckpointImage, to: RestoreTo) -> RtResult<Change> {
        checkpoint::restore(&self.client, call, id, to)
    }

    fn ensure_network(&self, call: &Call, network: &NetworkSpec) -> RtResult<Change> {
        network::ensure(&self.client, &self.settings, call, network)
    }

    fn remove_network(&self, call: &Call, name: &str) -> RtResult<Change> {
        network::remove(&self.client, &self.settings, call, name)
    }

    fn ensure_volume(&self, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
        volume::ensure(&self.client, &self.settings, call, volume)
    }

    fn remove_volume(&self, call: &Call, name: &str) -> RtResult<Change> {
        volume::remove(&self.client, &self.settings, call, name)
    }

    fn ensure_pod(&self, call: &Call, pod: &PodSpec) -> RtResult<Change> {
        pod::ensure(&self.client, &self.settings, call, pod)
    }

    fn remove_pod(&self, call: &Call, name: &str) -> RtResult<Change> {
        pod::remove(&self.client, &self.settings, call, name)
    }

    fn stop_pod(&self, call: &Call, name: &str) -> RtResult<Change> {
        pod::stop(&self.client, &self.settings, call, name)
    }

    fn list_leftovers(&self, call: &Call, workload: &str) -> RtResult<Leftovers> {
        Ok(Leftovers {
            pods: pod::of_workload(&self.client, &self.settings, call, workload)?,
            volumes: volume::of_workload(&self.client, &self.settings, call, workload)?,
            networks: network::unused(&self.client, &self.settings, call)?,
        })
    }

    fn container_stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        observe::stats(&self.client, call, id)
    }

    fn container_logs(&self, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
        logs::open(&self.client, call, id, options)
    }

    fn exec_in_container(&self, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
        exec::run(&self.client, call, id, argv)
    }

    fn watch_events(&self, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        observe::watch(&self.client, call)
    }
}
