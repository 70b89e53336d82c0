//! What is told to others: how far Scenarios are, as Pullpiri's StateManager has it, which containers the node has, and
//! how its resources are used.

use std::collections::BTreeMap;

/// How far a Scenario is, as Pullpiri's StateManager has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScenarioState {
    /// Known.
    Idle,
    /// Its condition is waited for.
    Waiting,
    /// Its condition holds.
    Satisfied,
    /// Policy allows it.
    Allowed,
    /// Policy refuses it.
    Denied,
    /// Its action is done.
    Completed,
}

impl ScenarioState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Satisfied => "satisfied",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Completed => "completed",
        }
    }
}

/// A Scenario's step from one state to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioChange {
    /// The Scenario.
    pub scenario: String,
    /// From.
    pub from: ScenarioState,
    /// To.
    pub to: ScenarioState,
    /// What led to it: unique for each change.
    pub transition_id: String,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
}

/// A container as it is told: texts under the keys that Podman's inspect has, as Pullpiri's NodeAgent sends them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerReport {
    /// The engine's id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// The image's reference.
    pub image: String,
    /// `Status`, `Running`, `ExitCode` and the like.
    pub state: BTreeMap<String, String>,
    /// `Hostname` (the node's name) and `Image`.
    pub config: BTreeMap<String, String>,
    /// Labels and annotations together, with those by which StateManager knows a model.
    pub annotations: BTreeMap<String, String>,
    /// Its use of the node; empty, because an engine gives it only container by container.
    pub stats: BTreeMap<String, String>,
}

/// The containers of a node, ours and others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerList {
    /// The node.
    pub node: String,
    /// Its containers on every engine.
    pub containers: Vec<ContainerReport>,
}

/// A node's use of its resources.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeReport {
    /// The node.
    pub node: String,
    /// Of all cores together since the last report, percent; 0 in the first.
    pub cpu_percent: f64,
    /// Cores.
    pub cpus: u64,
    /// Graphics cards.
    pub gpus: u64,
    /// What cannot be had without swapping, bytes.
    pub used_memory: u64,
    /// Bytes.
    pub total_memory: u64,
    /// Received on all interfaces but loopback since the last report, bytes; 0 in the first, as the next three.
    pub rx_bytes: u64,
    /// Sent on them, bytes.
    pub tx_bytes: u64,
    /// Read from whole disks, bytes.
    pub read_bytes: u64,
    /// Written to whole disks, bytes.
    pub write_bytes: u64,
    /// The operating system's name and version.
    pub os: String,
    /// The processor's architecture.
    pub arch: String,
    /// The node's first address that others can use, IPv4 where there is one; empty for none.
    pub ip: String,
}

impl NodeReport {
    /// Memory in use, percent; 0 where the total is not known.
    pub fn memory_percent(&self) -> f64 {
        percent(self.used_memory, self.total_memory)
    }
}

/// `part` of `whole` in percent; 0 of nothing.
pub fn percent(part: u64, whole: u64) -> f64 {
    // Both are far below what a double holds exactly.
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 * 100.0 }
}
