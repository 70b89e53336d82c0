//! What the port takes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::workload::{ContainerSpec, NetworkMode, PortSpec};

/// What a container is created from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The container's name on the engine.
    pub name: String,
    /// The container as the document describes it; its `name` is the one within the workload.
    pub spec: ContainerSpec,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The pod whose network it shares; `None` for none. `network`, `ports` and `hostname` then are the pod's.
    pub pod: Option<String>,
    /// Its network where it is in no pod.
    pub network: NetworkMode,
    /// Names beside its own by which members of its named networks find it, where it is in no pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// Published ports where it is in no pod.
    pub ports: Vec<PortSpec>,
    /// The host name inside where it is in no pod; empty leaves it to the engine.
    pub hostname: String,
    /// Share the host's IPC namespace.
    pub host_ipc: bool,
    /// Share the host's PID namespace.
    pub host_pid: bool,
    /// The node that it is for, where its engine runs on several; empty for this one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub node: String,
    /// What `spec.mounts` name, resolved, in the same order.
    pub mounts: Vec<Mount>,
}

/// A mount with its source resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where from.
    pub source: MountSource,
    /// Absolute path inside.
    pub path: String,
    /// Writes are refused.
    pub read_only: bool,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the host.
    Bind(String),
    /// A volume of the engine by name, with the path within it (empty: its root).
    Volume(String, String),
}

/// A network to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
    /// In memory, with at most this many bytes (0: the kernel's default); `None` on disk.
    pub tmpfs_bytes: Option<u64>,
}

/// A pod to be made: one network namespace (and IPC) for several containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Its name.
    pub name: String,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
    /// Its network; never the host's.
    pub network: NetworkMode,
    /// Published ports of all members.
    pub ports: Vec<PortSpec>,
    /// The host name inside.
    pub hostname: String,
}

/// How a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOptions {
    /// The first signal by name, `SIGTERM`.
    pub signal: String,
    /// Until SIGKILL; never rounded. Ended early by [`hasten`](crate::cancel::CancelToken::hasten). Zero with SIGKILL kills
    /// at once.
    pub grace: Duration,
}

impl StopOptions {
    /// SIGTERM, then SIGKILL after `grace`.
    pub fn graceful(grace: Duration) -> Self {
        Self { signal: "SIGTERM".to_owned(), grace }
    }

    /// SIGKILL at once.
    pub fn kill() -> Self {
        Self { signal: "SIGKILL".to_owned(), grace: Duration::ZERO }
    }
}

/// How a container is checkpointed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// An empty folder for the image. An engine that keeps images in a place of its own leaves it empty.
    pub dir: PathBuf,
}

/// How a container shall be once it is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestoreTo {
    /// It goes on.
    Running,
    /// It is frozen.
    Paused,
}

/// Which containers are listed. All conditions have to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Also those that do not run.
    pub all: bool,
    /// Labels with their values.
    pub labels: BTreeMap<String, String>,
}

/// Which of a container's output is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on until the container ends; otherwise what there is.
    pub follow: bool,
    /// The last so many lines; `None` is all.
    pub tail: Option<usize>,
    /// From this time on, milliseconds since the epoch; 0 is from the beginning.
    pub since_ms: u64,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}
