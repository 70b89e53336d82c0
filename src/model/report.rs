//! What is told to others about this node: its containers, the node itself, and how far Scenarios are. As Pullpiri's
//! services have it, in plain data.

use std::collections::BTreeMap;

/// A container of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerReport {
    /// The engine's id.
    pub id: String,
    /// Its names.
    pub names: Vec<String>,
    /// Its image.
    pub image: String,
    /// What it is doing, with Pullpiri's keys.
    pub state: BTreeMap<String, String>,
    /// What it was made from.
    pub config: BTreeMap<String, String>,
    /// Its annotations, those among them by which Pullpiri knows scenario, package and model.
    pub annotations: BTreeMap<String, String>,
    /// What it uses.
    pub stats: BTreeMap<String, String>,
}

/// This node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeReport {
    /// Its name.
    pub name: String,
    /// CPU time in use over all CPUs, percent.
    pub cpu_percent: f64,
    /// CPUs.
    pub cpus: u64,
    /// Graphics processors.
    pub gpus: u64,
    /// Memory in use, KiB.
    pub used_memory_kib: u64,
    /// Memory, KiB.
    pub total_memory_kib: u64,
    /// Memory in use, percent.
    pub memory_percent: f64,
    /// Received on all interfaces but loopback since the start, bytes.
    pub rx_bytes: u64,
    /// Sent likewise.
    pub tx_bytes: u64,
    /// Read from block devices since the start, bytes.
    pub read_bytes: u64,
    /// Written likewise.
    pub written_bytes: u64,
    /// The operating system.
    pub os: String,
    /// The architecture.
    pub arch: String,
    /// Its address; empty where not known.
    pub ip: String,
}

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
