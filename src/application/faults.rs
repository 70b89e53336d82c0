//! Deadline misses of real-time tasks, as TIMPANI tells them: counted by task, for operators. Nothing acts on them yet.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::dispatch::service::Fault;

/// Tasks that are counted, at most; further ones are counted together.
const MOST: usize = 1024;

/// What is known of one task's misses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Misses {
    /// How often it missed since this daemon's start.
    pub count: u64,
    /// The latest, milliseconds since the epoch.
    pub last_ms: u64,
}

/// The misses of every task, by Schedule, node and task.
#[derive(Debug, Default)]
pub struct Faults(Mutex<BTreeMap<(String, String, String), Misses>>);

impl Faults {
    /// Counts a fault.
    pub fn note(&self, fault: &Fault, now_ms: u64) {
        let Fault { schedule, node, task, is_deadline_miss } = fault;
        let what = if *is_deadline_miss { "missed its deadline" } else { "had a fault of unknown kind" };
        crate::limited!(log::Level::Warn, "task '{task}' of Schedule '{schedule}' on node '{node}' {what}");
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (schedule.clone(), node.clone(), task.clone());
        if all.len() >= MOST && !all.contains_key(&key) {
            key = Default::default();
        }
        let misses = all.entry(key).or_default();
        misses.count += 1;
        misses.last_ms = now_ms;
    }

    /// All counts, by Schedule, node and task; those beyond the bound under empty names.
    pub fn all(&self) -> BTreeMap<(String, String, String), Misses> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misses_are_counted_by_task_in_bounded_memory() {
        let faults = Faults::default();
        let fault =
            |task: &str| Fault { schedule: "s".into(), node: "n".into(), task: task.into(), is_deadline_miss: true };
        faults.note(&fault("a"), 5);
        faults.note(&fault("a"), 7);
        let key = ("s".to_owned(), "n".to_owned(), "a".to_owned());
        assert_eq!(faults.all()[&key], Misses { count: 2, last_ms: 7 });
        (0..2 * MOST).for_each(|number| faults.note(&fault(&number.to_string()), 9));
        assert_eq!(faults.all().len(), MOST + 1);
    }
}
