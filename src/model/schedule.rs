//! Schedules: the real-time tasks of a Package, as Pullpiri's Schedule document has them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The tasks that belong together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    /// The document's name, which is TIMPANI's workload id.
    pub name: String,
    /// The tasks, in the document's order.
    pub tasks: Vec<Task>,
    /// Whether they are released by events, each at most once in its period, and not by time.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub sporadic: bool,
}

/// One real-time task: a thread of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// The thread's name as the kernel has it, at most 15 bytes.
    pub name: String,
    /// Its priority.
    pub priority: i32,
    /// Its scheduling policy.
    pub policy: TaskPolicy,
    /// A bit per CPU; 0 is any.
    pub cpu_affinity: u64,
    /// Between two releases, microseconds.
    pub period_us: i32,
    /// The first release, microseconds.
    pub release_us: i32,
    /// The most CPU time of one release, microseconds.
    pub runtime_us: i32,
    /// From a release until it has to be done, microseconds.
    pub deadline_us: i32,
    /// The node that it runs on.
    pub node: String,
    /// Deadline misses in a row that are borne.
    pub max_misses: i32,
}

/// How a task is scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskPolicy {
    /// SCHED_OTHER.
    #[default]
    Normal,
    /// SCHED_FIFO.
    Fifo,
    /// SCHED_RR.
    RoundRobin,
}

/// What a Policy says of tasks that miss their deadlines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissPolicy {
    /// How many misses of one task lead to something; `None` is the task's own bound.
    pub threshold: Option<u32>,
    /// What they lead to.
    pub strategy: MissStrategy,
    /// The nodes that its workloads may be on.
    pub nodes: Vec<String>,
}

/// What is done with a workload whose tasks miss their deadlines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissStrategy {
    /// It is stopped.
    Stop,
    /// It is restarted where it is.
    Restart,
    /// It goes to another node.
    Redeploy,
}

/// A real-time task that misses its deadlines; all empty for those beyond the tasks that are counted one by one.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskName {
    /// Its Schedule.
    pub schedule: String,
    /// Its node.
    pub node: String,
    /// Its own name.
    pub task: String,
}

/// What is known of one task's misses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misses {
    /// How often it missed.
    pub count: u64,
    /// The latest, milliseconds since the epoch.
    pub last_ms: u64,
}

/// Every task that has missed.
pub type MissCounts = BTreeMap<TaskName, Misses>;
