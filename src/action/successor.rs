//! What a workload's record becomes by an action that succeeded. Pure.

use std::collections::BTreeMap;

use crate::model::action::{ActionRequest, Verb};
use crate::model::resources::Resources;
use crate::model::schedule::Schedule;
use crate::model::workload::WorkloadSpec;
use crate::storage::records::{Desired, Previous, WorkloadRecord};

/// What is known of the workload once the action is done.
#[derive(Debug, Clone)]
pub struct Successor<'a> {
    /// What was done.
    pub verb: Verb,
    /// The action.
    pub action_id: &'a str,
    /// What is recorded; `None` where nothing is.
    pub before: Option<&'a WorkloadRecord>,
    /// The workload as it is now.
    pub spec: &'a WorkloadSpec,
    /// The fingerprint of `spec`.
    pub revision: &'a str,
    /// Its engine; empty on another node.
    pub engine: &'a str,
    /// What it shall be doing.
    pub desired: Desired,
    /// The real-time tasks that it has.
    pub schedule: Option<Schedule>,
    /// Whether the action replaced the description of any of its workloads.
    pub replaces: bool,
    /// Milliseconds since the epoch.
    pub now_ms: u64,
}

impl Successor<'_> {
    /// The record. The description before the present one is kept by launch and update, and used up by a rollback, so
    /// that repeating a rollback does not go back and forth.
    pub fn record(&self) -> WorkloadRecord {
        let is_replaced = self.before.filter(|before| before.revision != self.revision);
        let (previous, returned_from) = match (self.verb, is_replaced, self.before) {
            (Verb::Rollback, Some(before), _) => (None, before.revision.clone()),
            (Verb::Launch | Verb::Update, Some(before), _) => {
                let (spec, revision) = (before.spec.clone(), before.revision.clone());
                let previous = Previous { spec, revision, schedule: before.schedule.clone() };
                (Some(Box::new(previous)), String::new())
            }
            // Of an update that replaced others: what was before it is the same.
            (Verb::Update, None, Some(_)) if self.replaces => (None, String::new()),
            (_, _, Some(before)) => (before.previous.clone(), before.returned_from.clone()),
            (_, _, None) => (None, String::new()),
        };
        WorkloadRecord {
            spec: self.spec.clone(),
            revision: self.revision.to_owned(),
            engine: if self.spec.delegate.is_some() { String::new() } else { self.engine.to_owned() },
            desired: self.desired,
            action_id: self.action_id.to_owned(),
            updated_ms: self.now_ms,
            previous,
            returned_from,
            scaled: self.scaled(),
            schedule: self.schedule.clone(),
        }
    }

    /// Limits that were changed belong to the description that they were changed of.
    fn scaled(&self) -> BTreeMap<String, Resources> {
        let before = self.before.filter(|before| before.revision == self.revision);
        before.map(|before| before.scaled.clone()).unwrap_or_default()
    }
}

/// The record once the request has changed limits of its containers. What the workload shall be doing is as before.
pub fn scaled(before: &WorkloadRecord, request: &ActionRequest, now_ms: u64) -> WorkloadRecord {
    let (containers, change) = (&request.parameters.containers, &request.parameters.resources);
    let mut record = before.clone();
    let is_meant = |name: &String| containers.is_empty() || containers.contains(name);
    let names = before.spec.containers.iter().map(|container| container.name.clone()).filter(is_meant);
    for name in names {
        let scaled = record.scaled.entry(name).or_default();
        *scaled = change.over(scaled);
    }
    WorkloadRecord { action_id: request.id.clone(), updated_ms: now_ms, ..record }
}

/// Whether the record says all that the new one would, the time and the action apart.
pub fn is_recorded(old: Option<&WorkloadRecord>, new: &WorkloadRecord) -> bool {
    old.is_some_and(|old| {
        let same =
            |record: &WorkloadRecord| WorkloadRecord { action_id: String::new(), updated_ms: 0, ..record.clone() };
        same(old) == same(new)
    })
}
