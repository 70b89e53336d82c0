//! Missed deadlines of real-time tasks as they are kept: one document, the same in the node's own store and in a shared
//! one.

use serde::{Deserialize, Serialize};

use super::StoreError;
use super::keys;
use super::records::{Changes, Records};
use crate::clock::Deadline;
use crate::model::schedule::{MissCounts, Misses, TaskName};

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissesDocument {
    /// Every task that has missed, by Schedule, node and name.
    pub tasks: Vec<TaskMisses>,
}

/// One task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskMisses {
    /// Its Schedule; empty, as are node and task, for those beyond the tasks that are counted one by one.
    pub schedule: String,
    /// Its node.
    pub node: String,
    /// Its name.
    pub task: String,
    /// How often.
    pub count: u64,
    /// The latest, milliseconds since the epoch.
    pub last_ms: u64,
}

impl MissesDocument {
    /// The document of these counts as text.
    pub fn text(counts: &MissCounts) -> Result<String, StoreError> {
        let task = |(name, misses): (&TaskName, &Misses)| TaskMisses {
            schedule: name.schedule.clone(),
            node: name.node.clone(),
            task: name.task.clone(),
            count: misses.count,
            last_ms: misses.last_ms,
        };
        let document = Self { tasks: counts.iter().map(task).collect() };
        serde_json::to_string(&document).map_err(damaged)
    }

    fn counts(self) -> MissCounts {
        let entry = |task: TaskMisses| {
            let name = TaskName { schedule: task.schedule, node: task.node, task: task.task };
            (name, Misses { count: task.count, last_ms: task.last_ms })
        };
        self.tasks.into_iter().map(entry).collect()
    }
}

/// What is kept in the node's own store; nothing where nothing is.
pub fn read(records: &Records, deadline: Deadline) -> Result<MissCounts, StoreError> {
    let Some(bytes) = records.raw(keys::MISSES, deadline)? else { return Ok(MissCounts::new()) };
    let document: MissesDocument = serde_json::from_slice(&bytes).map_err(damaged)?;
    Ok(document.counts())
}

/// Keeps a document in the node's own store.
pub fn write(records: &Records, document: &str, deadline: Deadline) -> Result<(), StoreError> {
    let mut changes = Changes::new();
    changes.put_raw(keys::MISSES.to_owned(), document.as_bytes().to_vec());
    records.commit(changes, deadline)
}

fn damaged(error: serde_json::Error) -> StoreError {
    StoreError::Damaged { key: keys::MISSES.to_owned(), reason: error.to_string() }
}
