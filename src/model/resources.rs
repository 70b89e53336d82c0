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
