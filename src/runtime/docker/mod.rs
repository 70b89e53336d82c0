//! Docker through its Engine API on a unix socket (1.41 to 1.47: Docker 20.10 and later).
//!
//! [`Docker`] is the door; each of the other files is one part of it: `client` asks, `request` and `wire` have Docker's
//! field names, `spec` and `status` translate without I/O, the rest is one verb or one kind of object each. What Docker
//! does as other engines over REST do is in `runtime::rest`. Stays out: policy, plans, and HTTP itself.
//!
//! What is ours is known by the label [`labels::NODE`](crate::model::workload::labels::NODE) with this node's name: anything else of the same name is
//! `AlreadyExists` and is never changed or deleted. Docker has no pods, and annotations only since 1.43: they are kept as
//! labels whose keys begin with `actioncontroller.io/annotation.`, and told back as annotations.

mod client;
mod create;
mod exec;
mod image;
mod lifecycle;
mod logs;
mod network;
mod observe;
mod probe;
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
    BlockingStream, Call, Change, ContainerConfig, ContainerInstance, ContainerStats, EngineEvent, ExecOutcome,
    Leftovers, ListFilter, LogChunk, LogOptions, NetworkSpec, Probe, RtResult, RuntimeAdapter, RuntimeCapabilities,
    StopOptions, VolumeSpec,
};
use crate::model::resources::Resources;
use crate::model::workload::PullPolicy;
use crate::runtime::rest::client::sockets;

/// The engine's name.
const ENGINE: &str = "docker";

/// What the keys of labels begin with that are annotations.
const ANNOTATION: &str = "actioncontroller.io/annotation.";

/// How Docker is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DockerConfig {
    /// The engine's socket; `None` looks at the usual places each time: `/run/docker.sock` and
    /// `$XDG_RUNTIME_DIR/docker.sock`.
    pub socket: Option<PathBuf>,
    /// This node's name, the value of [`labels::NODE`](crate::model::workload::labels::NODE) on all that is made.
    pub node: String,
    /// The size of a container's log file at which it is begun anew, bytes.
    pub log_bytes: u64,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self { socket: None, node: "localhost".to_owned(), log_bytes: 16 * 1024 * 1024 }
    }
}

/// The socket below `/run` and the user's folder for such.
const SOCKET: &str = "docker.sock";

/// The adapter for one Docker Engine.
pub struct Docker {
    settings: DockerConfig,
    client: Client,
    known: Mutex<probe::Known>,
}

impl Docker {
    /// An adapter for the engine, which need not run yet.
    pub fn new(config: DockerConfig) -> Self {
        let client = Client::new(sockets(config.socket.as_deref(), SOCKET));
        Self { settings: config, client, known: Mutex::default() }
    }
}

impl RuntimeAdapter for Docker {
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

    fn list_leftovers(&self, call: &Call, workload: &str) -> RtResult<Leftovers> {
        Ok(Leftovers {
            pods: Vec::new(),
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
