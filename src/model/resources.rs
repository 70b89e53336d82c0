//! Limits on what a container may use. Units are in the names.

use serde::{Deserialize, Serialize};

/// A container's limits; `None` is without limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CPU time, thousandths of one CPU.
    pub cpu_millis: Option<u64>,
    /// Relative weight among the busy, 2 to 262,144.
    pub cpu_shares: Option<u64>,
    /// Memory, bytes.
    pub memory_bytes: Option<u64>,
    /// Memory that is reclaimed down to under pressure, bytes.
    pub memory_reservation_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

impl Resources {
    /// These, and where there is none, what `below` has.
    pub fn over(&self, below: &Self) -> Self {
        Self {
            cpu_millis: self.cpu_millis.or(below.cpu_millis),
            cpu_shares: self.cpu_shares.or(below.cpu_shares),
            memory_bytes: self.memory_bytes.or(below.memory_bytes),
            memory_reservation_bytes: self.memory_reservation_bytes.or(below.memory_reservation_bytes),
            pids: self.pids.or(below.pids),
        }
    }
}
