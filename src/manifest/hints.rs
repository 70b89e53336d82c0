//! Limits that Beemesh's annotations give to a workload of one container: `beemesh.io/resources.cpu` (`2.0`) and
//! `beemesh.io/resources.memory` (`4GB`, `4Gi`). A limit of the container's own wins.

use crate::model::quantity;
use crate::model::text::shown;
use crate::model::workload::ContainerSpec;

/// CPUs.
pub(super) const CPU: &str = "beemesh.io/resources.cpu";
/// Memory.
pub(super) const MEMORY: &str = "beemesh.io/resources.memory";

/// What the annotations say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hints {
    cpu_millis: Option<u64>,
    memory_bytes: Option<u64>,
}

impl Hints {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the value of one of the two.
    pub fn read(&mut self, key: &str, value: &str) -> Result<(), String> {
        let (target, amount) = if key == CPU {
            (&mut self.cpu_millis, quantity::millis(value))
        } else {
            // Beemesh writes decimal units with a B behind.
            let decimal =
                ["kB", "KB", "MB", "GB", "TB"].iter().find_map(|unit| value.strip_suffix(unit).map(|n| (n, unit)));
            let text = decimal.map(|(number, unit)| format!("{number}{}", unit[..1].replace('K', "k")));
            (&mut self.memory_bytes, quantity::bytes(text.as_deref().unwrap_or(value)))
        };
        match amount.map_err(|why| format!("'{}' {why}", shown(value)))? {
            0 => Err("must be above 0; leave it out for no limit".to_owned()),
            amount => {
                *target = Some(amount);
                Ok(())
            }
        }
    }

    /// Takes what is missing here from `other`.
    pub fn complete(&mut self, other: &Self) {
        self.cpu_millis = self.cpu_millis.or(other.cpu_millis);
        self.memory_bytes = self.memory_bytes.or(other.memory_bytes);
    }

    /// Limits the one container.
    pub fn apply(&self, containers: &mut [ContainerSpec]) -> Result<(), String> {
        match containers {
            _ if self.is_empty() => Ok(()),
            [only] => {
                let limits = &mut only.resources;
                limits.cpu_millis = limits.cpu_millis.or(self.cpu_millis);
                limits.memory_bytes = limits.memory_bytes.or(self.memory_bytes);
                Ok(())
            }
            several => {
                let count = several.len();
                Err(format!("{CPU} and {MEMORY} are for one container and there are {count}: give each its own limits"))
            }
        }
    }
}
