//! What the port gives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::error::RuntimeError;
use crate::model::resources::Resources;
use crate::model::state::ContainerStatus;
use crate::model::workload::PortSpec;

/// Whether a call changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It did.
    Changed,
    /// It was so already.
    Unchanged,
}

/// Whether an engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It does.
    Available {
        /// The engine's version.
        version: String,
        /// Its API's version.
        api: String,
    },
    /// It does not.
    Unavailable {
        /// Why.
        reason: String,
    },
}

impl Probe {
    /// The engine does not answer for this reason; its name is not told twice.
    pub fn away(error: RuntimeError) -> Self {
        let reason = match error {
            RuntimeError::EngineNotAvailable { reason, .. } => reason,
            other => other.to_string(),
        };
        Self::Unavailable { reason }
    }
}

/// What an engine can do. A flag is what a probe proved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each name says it; the first five are Pullpiri's")]
pub struct RuntimeCapabilities {
    pub supports_realtime_scheduling: bool,
    pub supports_node_isolation: bool,
    pub supports_service_management: bool,
    pub supports_remote_execution: bool,
    pub supports_dependencies: bool,
    pub supports_pause: bool,
    pub supports_checkpoint: bool,
    pub supports_exec: bool,
    pub supports_stats: bool,
    pub supports_logs: bool,
    pub supports_events: bool,
    pub supports_native_healthcheck: bool,
    pub supports_image_pull: bool,
    pub supports_user_networks: bool,
    pub supports_resource_limits: bool,
    pub supports_pods: bool,
    pub supports_rootfs: bool,
}

impl RuntimeCapabilities {
    /// What is there, a word each, for people.
    pub fn words(&self) -> Vec<&'static str> {
        let all = [
            (self.supports_realtime_scheduling, "realtime"),
            (self.supports_node_isolation, "isolation"),
            (self.supports_service_management, "services"),
            (self.supports_remote_execution, "remote"),
            (self.supports_dependencies, "dependencies"),
            (self.supports_pause, "pause"),
            (self.supports_checkpoint, "checkpoint"),
            (self.supports_exec, "exec"),
            (self.supports_stats, "stats"),
            (self.supports_logs, "logs"),
            (self.supports_events, "events"),
            (self.supports_native_healthcheck, "healthcheck"),
            (self.supports_image_pull, "pull"),
            (self.supports_user_networks, "networks"),
            (self.supports_resource_limits, "limits"),
            (self.supports_pods, "pods"),
            (self.supports_rootfs, "rootfs"),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, word)| word).collect()
    }
}

/// A container as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInstance {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The engine.
    pub engine: String,
    /// Its state.
    pub status: ContainerStatus,
    /// The image's reference.
    pub image: String,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, where the call gives them (inspect).
    pub annotations: BTreeMap<String, String>,
    /// Published ports.
    pub ports: Vec<PortSpec>,
    /// Addresses, where the call gives them (inspect).
    pub ips: Vec<String>,
    /// The first process on the host; 0 for none.
    pub pid: i32,
    /// Its cgroup; empty where not known.
    pub cgroup_path: String,
    /// Milliseconds since the epoch; 0 for not (yet).
    pub created_ms: u64,
    /// Milliseconds since the epoch; 0 for not (yet).
    pub started_ms: u64,
    /// Milliseconds since the epoch; 0 for not (yet).
    pub finished_ms: u64,
}

/// Where a checkpoint's image lies: `parts` are the files and folders of it below `root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointImage {
    /// An absolute path.
    pub root: PathBuf,
    /// Relative paths, at least one. Nothing else below `root` is of the image.
    pub parts: Vec<PathBuf>,
}

/// What of a workload is on an engine beside containers, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Pods labelled with the workload.
    pub pods: Vec<String>,
    /// Volumes labelled with the workload.
    pub volumes: Vec<String>,
    /// Networks of ours that nothing is in.
    pub networks: Vec<String>,
}

/// Which stream bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Where it came from.
    pub stream: OutputStream,
    /// The runtime's time of it, nanoseconds since the epoch; 0 where it gives none.
    pub timestamp_ns: u64,
    /// Raw bytes, a line with its end, or a part of one; at most 64 KiB.
    pub bytes: Vec<u8>,
}

/// What a command inside a container came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Its exit code.
    pub exit_code: i32,
    /// Standard output, at most [`MAX_EXEC_OUTPUT`] bytes.
    pub stdout: Vec<u8>,
    /// Standard error, at most [`MAX_EXEC_OUTPUT`] bytes.
    pub stderr: Vec<u8>,
    /// Whether output beyond the bound was dropped.
    pub truncated: bool,
}

/// The most that is kept of each stream of an exec, bytes.
pub const MAX_EXEC_OUTPUT: usize = 1024 * 1024;

/// A container's use of the node at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// CPU time so far, nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use, bytes.
    pub memory_bytes: u64,
    /// Memory limit, bytes; 0 for none.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Received on its network, bytes.
    pub rx_bytes: u64,
    /// Sent on its network, bytes.
    pub tx_bytes: u64,
    /// Read from block devices, bytes.
    pub read_bytes: u64,
    /// Written to block devices, bytes.
    pub write_bytes: u64,
}

/// What an engine says happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// What.
    pub kind: EngineEventKind,
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels as far as the engine tells them.
    pub labels: BTreeMap<String, String>,
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
}

/// What happened to a container. Events that mean nothing here (a HUP sent, an exec) are not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineEventKind {
    /// It was made.
    Created,
    /// It runs.
    Started,
    /// It ended.
    Died {
        /// The exit code where the engine tells it.
        exit_code: Option<i32>,
    },
    /// It was killed for want of memory; its end comes apart.
    OutOfMemory,
    /// It was frozen.
    Paused,
    /// It was thawed.
    Resumed,
    /// It was checkpointed to disk, and none of its processes is left. Its end is not told beside this.
    Hibernated,
    /// It goes on from its checkpoint. Its start is not told beside this.
    Woken,
    /// It was deleted.
    Removed,
}

/// Limits as a container has them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LimitsInForce {
    /// What its control group says.
    pub limits: Resources,
    /// Those that it has otherwise than it shall, by name.
    pub drifted: Vec<&'static str>,
}
