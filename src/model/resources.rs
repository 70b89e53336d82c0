//! Limits on what a container may use. Units are in the names.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A container's limits; `None` is without limit. In a change of what runs, `None` stays as it is and 0 is without limit.
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

    /// Whether nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The change that takes this one back to what was in force before.
    pub fn undoing(&self, before: &Self) -> Self {
        let back = |now: Option<u64>, before: Option<u64>| now.map(|_| before.unwrap_or(0));
        Self {
            cpu_millis: back(self.cpu_millis, before.cpu_millis),
            cpu_shares: back(self.cpu_shares, before.cpu_shares),
            memory_bytes: back(self.memory_bytes, before.memory_bytes),
            memory_reservation_bytes: back(self.memory_reservation_bytes, before.memory_reservation_bytes),
            pids: back(self.pids, before.pids),
        }
    }

    /// The limits that are in force once this change is.
    pub fn in_force(&self) -> Self {
        let some = |value: Option<u64>| value.filter(|value| *value > 0);
        Self {
            cpu_millis: some(self.cpu_millis),
            cpu_shares: some(self.cpu_shares),
            memory_bytes: some(self.memory_bytes),
            memory_reservation_bytes: some(self.memory_reservation_bytes),
            pids: some(self.pids),
        }
    }

    /// Each limit by its name.
    pub fn named(&self) -> [(&'static str, Option<u64>); 5] {
        [
            ("cpu_millis", self.cpu_millis),
            ("cpu_shares", self.cpu_shares),
            ("memory_bytes", self.memory_bytes),
            ("memory_reservation_bytes", self.memory_reservation_bytes),
            ("pids", self.pids),
        ]
    }
}

/// As a change is told: `cpu_millis 500, pids without limit`.
impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = self.named().into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (index, (name, value)) in given.enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            match value {
                0 => write!(f, "{comma}{name} without limit")?,
                value => write!(f, "{comma}{name} {value}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_is_told_taken_back_and_in_force() {
        let before = Resources { cpu_millis: Some(250), pids: Some(9), ..Resources::default() };
        let change = Resources { cpu_millis: Some(0), memory_bytes: Some(64), ..Resources::default() };
        assert_eq!(change.to_string(), "cpu_millis without limit, memory_bytes 64");
        let back = Resources { cpu_millis: Some(250), memory_bytes: Some(0), ..Resources::default() };
        assert_eq!(change.undoing(&before), back);
        let after = change.over(&before).in_force();
        assert_eq!(after, Resources { memory_bytes: Some(64), pids: Some(9), ..Resources::default() });
        assert_eq!(back.over(&after).in_force(), before);
        assert!(Resources::default().is_empty() && !change.is_empty());
    }
}
