//! What a scheduler of real-time tasks holds, as it is kept: one document in the node's own store, so that it is known
//! after a restart.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::records::{Changes, Records};
use super::{StoreError, keys};
use crate::clock::Deadline;
use crate::model::schedule::{Schedule, Task};

/// The document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// The name under which the scheduler has the tasks; empty where it has none of ours.
    pub name: String,
    /// The Schedules that it has, the first first.
    pub shares: Vec<Share>,
    /// Whether it may have something else, because it did not answer.
    pub is_unsure: bool,
}

/// One Schedule, and for whom it is held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Its tasks.
    pub schedule: Schedule,
    /// The workloads that have it, each with the action by which it was admitted.
    pub holders: BTreeMap<String, String>,
}

impl Held {
    /// All tasks as the scheduler is given them.
    pub fn union(&self) -> Schedule {
        let tasks = self.shares.iter().flat_map(|share| share.schedule.tasks.iter().cloned()).collect();
        let sporadic = self.shares.iter().any(|share| share.schedule.sporadic);
        Schedule { name: self.name.clone(), tasks, sporadic }
    }

    /// The share in which a node's task of this name is.
    pub fn share_of(&self, node: &str, task: &str) -> Option<&Share> {
        let has = |share: &&Share| share.schedule.tasks.iter().any(|other| Self::is_of(other, node, task));
        self.shares.iter().find(has)
    }

    /// Whether this is the node's task of that name. The scheduler chooses the node of one that names none.
    pub fn is_of(task: &Task, node: &str, name: &str) -> bool {
        task.name == name && (task.node == node || task.node.is_empty())
    }
}

/// What is kept; nothing where nothing is.
pub fn read(records: &Records, deadline: Deadline) -> Result<Held, StoreError> {
    let Some(bytes) = records.raw(keys::HELD, deadline)? else { return Ok(Held::default()) };
    serde_json::from_slice(&bytes).map_err(damaged)
}

/// Keeps the document.
pub fn write(records: &Records, held: &Held, deadline: Deadline) -> Result<(), StoreError> {
    let mut changes = Changes::new();
    changes.put_raw(keys::HELD.to_owned(), serde_json::to_vec(held).map_err(damaged)?);
    records.commit(changes, deadline)
}

/// Whether an action has begun and has not ended yet, or has still to be undone.
pub fn is_under_way(records: &Records, action_id: &str, deadline: Deadline) -> Result<bool, StoreError> {
    let is_there = |key: String| records.raw(&key, deadline).map(|found| found.is_some());
    Ok(is_there(keys::intent(action_id))? || is_there(keys::repair(action_id))?)
}

fn damaged(error: serde_json::Error) -> StoreError {
    StoreError::Damaged { key: keys::HELD.to_owned(), reason: error.to_string() }
}
