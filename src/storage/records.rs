//! The typed door to the store: what is written under each key of [`super::keys`], as JSON.
//!
//! A record that cannot be read is an error that names the key; it is never taken for absent. Where many are read, it
//! is told beside those that can be: one damaged record takes none of the others with it.
//!
//! Records are read by older and newer daemons: fields that a reader does not know are passed over, and a field that is
//! added later has `serde(default)`, so that records without it are read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Batch, Entry, StateStore, StoreError, StoreStats, keys};
use crate::clock::Deadline;
use crate::model::action::{ActionRequest, Outcome};
use crate::model::cores::CpuSet;
use crate::model::plan::Plan;
use crate::model::pullpiri::NetworkOrder;
use crate::model::resources::Resources;
use crate::model::schedule::Schedule;
use crate::model::workload::WorkloadSpec;

/// What a workload shall be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Run.
    Running,
    /// Be there and not run.
    Stopped,
    /// Be frozen.
    Paused,
    /// Be on disk.
    Hibernated,
}

/// What is known of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadRecord {
    /// As its documents describe it.
    pub spec: WorkloadSpec,
    /// The fingerprint of `spec`.
    pub revision: String,
    /// The engine that has its containers.
    pub engine: String,
    /// What it shall be doing.
    pub desired: Desired,
    /// The action that last changed it.
    pub action_id: String,
    /// Milliseconds since the epoch of that change.
    pub updated_ms: u64,
    /// What it was before its description was replaced by `spec`: what a rollback returns to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Box<Previous>>,
    /// The fingerprint of the description that a rollback has left; empty where `spec` is not the result of one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub returned_from: String,
    /// Limits that were changed since its containers were made, by the containers' names within it: over those of `spec`, and
    /// 0 where one was taken away.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub scaled: BTreeMap<String, Resources>,
    /// The real-time tasks with which it was admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

impl WorkloadRecord {
    /// The limits that the container of this name within the workload shall have.
    pub fn limits(&self, container: &str) -> Resources {
        let spec = self.spec.all_containers().find(|spec| spec.name == container);
        let made_with = spec.map(|spec| spec.resources.clone()).unwrap_or_default();
        self.scaled.get(container).map(|scaled| scaled.over(&made_with)).unwrap_or(made_with).in_force()
    }
}

/// A description that was in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Previous {
    /// The workload as it was described.
    pub spec: WorkloadSpec,
    /// The fingerprint of `spec`.
    pub revision: String,
    /// The real-time tasks with which it was admitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
}

/// An action that was begun: enough to finish or undo it after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Intent {
    /// As asked for.
    pub request: ActionRequest,
    /// What it does.
    pub plan: Plan,
    /// The CPUs that its workloads hold alone while it runs, by workload.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cores: BTreeMap<String, CpuSet>,
    /// The workloads as they will be, for a verb that makes or changes them.
    pub specs: BTreeMap<String, WorkloadSpec>,
    /// The records as they were before; absent ones were unknown.
    pub before: BTreeMap<String, WorkloadRecord>,
    /// The engine of each workload.
    pub engines: BTreeMap<String, String>,
    /// The containers that existed before, by workload: undoing leaves them.
    pub existed: BTreeMap<String, Vec<String>>,
    /// Of the containers that existed before, those that ran: undoing leaves them running.
    pub ran: BTreeMap<String, Vec<String>>,
    /// The real-time tasks that are admitted before the first start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// The network that is set up for what starts.
    #[serde(default)]
    pub network: Option<NetworkOrder>,
    /// Of a partial action that ended: the workloads that are undone; empty is all.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub undone_alone: BTreeSet<String>,
    /// Milliseconds since the epoch.
    pub accepted_ms: u64,
}

/// An ended action as kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredOutcome {
    /// The fingerprint of the request, by which a repeated id is told from a reused one.
    pub fingerprint: String,
    /// What it came to.
    pub outcome: Outcome,
}

/// A record with the revision of its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The record.
    pub value: T,
    /// The key's revision, for a compare.
    pub revision: u64,
}

/// Every record of a kind, and what of it cannot be read.
#[derive(Debug, Clone)]
pub struct Walked<T> {
    /// The records, by key.
    pub whole: Vec<Versioned<T>>,
    /// What cannot be read, each with its key and why.
    pub damaged: Vec<DamagedRecord>,
}

impl<T> Walked<T> {
    /// The records that can be read; what cannot is logged with its key.
    pub fn logged(self) -> Vec<Versioned<T>> {
        for damaged in &self.damaged {
            crate::limited!(log::Level::Error, "{damaged}");
        }
        self.whole
    }
}

/// A stored record that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("stored '{key}' is damaged and left as it is: {reason}")]
pub struct DamagedRecord {
    /// Its key.
    pub key: String,
    /// What is wrong with it.
    pub reason: String,
}

impl DamagedRecord {
    /// The key without what all keys of its kind begin with: the name of a workload, the id of an action.
    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(self.key.as_str(), |(_, name)| name)
    }
}

/// Typed access to a store.
#[derive(Clone)]
pub struct Records {
    store: Arc<dyn StateStore>,
}

/// Page size of internal walks through a prefix.
const PAGE: usize = 256;

impl Records {
    /// The door to `store`.
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store }
    }

    /// The document's text.
    pub fn document(&self, kind: &str, name: &str, deadline: Deadline) -> Result<Option<String>, StoreError> {
        let Some(entry) = self.store.get(&keys::document(kind, name), deadline)? else { return Ok(None) };
        String::from_utf8(entry.value)
            .map(Some)
            .map_err(|_| StoreError::Damaged { key: entry.key, reason: "it is no UTF-8".to_owned() })
    }

    /// The workload of this name.
    pub fn workload(&self, name: &str, deadline: Deadline) -> Result<Option<Versioned<WorkloadRecord>>, StoreError> {
        self.store.get(&keys::workload(name), deadline)?.map(|entry| read(&entry)).transpose()
    }

    /// Every workload, by name.
    pub fn workloads(&self, deadline: Deadline) -> Result<Walked<WorkloadRecord>, StoreError> {
        self.walk(keys::WORKLOADS, deadline)
    }

    /// Every failed action whose undoing has still to be done.
    pub fn repairs(&self, deadline: Deadline) -> Result<Walked<Intent>, StoreError> {
        self.walk(keys::REPAIRS, deadline)
    }

    /// Every action that was begun and has no outcome.
    pub fn intents(&self, deadline: Deadline) -> Result<Walked<Intent>, StoreError> {
        self.walk(keys::INTENTS, deadline)
    }

    /// The outcome of an ended action.
    pub fn outcome(&self, action_id: &str, deadline: Deadline) -> Result<Option<StoredOutcome>, StoreError> {
        let entry = self.store.get(&keys::outcome(action_id), deadline)?;
        Ok(entry.map(|entry| read::<StoredOutcome>(&entry)).transpose()?.map(|versioned| versioned.value))
    }

    /// Keys of ended actions that come after `after`, the latest first: (key, time, action id). A key that is no time
    /// and action id counts as one of time 0, so that it goes with the oldest.
    pub fn ended(
        &self,
        after: &str,
        limit: usize,
        deadline: Deadline,
    ) -> Result<Vec<(String, u64, String)>, StoreError> {
        let entries = self.store.scan(keys::ENDED, after, limit, deadline)?;
        let read = |entry: Entry| {
            let (time, id) = keys::parse_ended(&entry.key).unwrap_or_default();
            let id = id.to_owned();
            (entry.key, time, id)
        };
        Ok(entries.into_iter().map(read).collect())
    }

    /// A value as it is: what belongs to another part of this room.
    pub(super) fn raw(&self, key: &str, deadline: Deadline) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.store.get(key, deadline)?.map(|entry| entry.value))
    }

    /// The revision of a key; 0 where it is absent.
    pub(super) fn revision(&self, key: &str, deadline: Deadline) -> Result<u64, StoreError> {
        Ok(self.store.get(key, deadline)?.map_or(0, |entry| entry.revision))
    }

    /// Applies changes, see [`Changes`].
    pub fn commit(&self, changes: Changes, deadline: Deadline) -> Result<(), StoreError> {
        self.store.commit(changes.batch, deadline)
    }

    /// Whether the store answers.
    pub fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        self.store.check(deadline)
    }

    /// The store's counters.
    pub fn stats(&self) -> StoreStats {
        self.store.stats()
    }

    pub(super) fn walk<T: DeserializeOwned>(&self, prefix: &str, deadline: Deadline) -> Result<Walked<T>, StoreError> {
        let mut all = Walked { whole: Vec::new(), damaged: Vec::new() };
        let mut after = String::new();
        loop {
            let page = self.store.scan(prefix, &after, PAGE, deadline)?;
            let full = page.len() == PAGE;
            for entry in page {
                match parse(&entry) {
                    Ok(record) => all.whole.push(record),
                    Err(damaged) => all.damaged.push(damaged),
                }
                after = entry.key;
            }
            if !full {
                return Ok(all);
            }
        }
    }
}

/// Typed changes that are applied together.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    batch: Batch,
}

impl Changes {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.batch == Batch::default()
    }

    /// Keeps a document.
    pub fn put_document(&mut self, kind: &str, name: &str, text: &str) {
        self.batch.put.push((keys::document(kind, name), text.as_bytes().to_vec()));
    }

    /// Keeps a workload.
    pub fn put_workload(&mut self, record: &WorkloadRecord) -> Result<(), StoreError> {
        self.put(keys::workload(&record.spec.name), record)
    }

    /// Forgets a workload.
    pub fn delete_workload(&mut self, name: &str) {
        self.batch.delete.push(keys::workload(name));
    }

    /// Fails the whole if the workload's revision is not this; 0: unknown.
    pub fn compare_workload(&mut self, name: &str, revision: u64) {
        self.batch.compare.push((keys::workload(name), revision));
    }

    /// Records that an action is begun.
    pub fn put_intent(&mut self, intent: &Intent) -> Result<(), StoreError> {
        self.put(keys::intent(&intent.request.id), intent)
    }

    /// Records that a failed action has still to be undone, beside its outcome.
    pub fn put_repair(&mut self, intent: &Intent) -> Result<(), StoreError> {
        self.put(keys::repair(&intent.request.id), intent)
    }

    /// Records that nothing is left of a failed action.
    pub fn delete_repair(&mut self, action_id: &str) {
        self.batch.delete.push(keys::repair(action_id));
    }

    /// Records how an action ended, in place of its intent.
    pub fn put_outcome(&mut self, stored: &StoredOutcome) -> Result<(), StoreError> {
        let id = &stored.outcome.action_id;
        self.batch.delete.push(keys::intent(id));
        self.batch.put.push((keys::ended(stored.outcome.ended_ms, id), Vec::new()));
        self.put(keys::outcome(id), stored)
    }

    /// Forgets an outcome by the key and id that [`Records::ended`] gave.
    pub fn delete_outcome(&mut self, ended_key: &str, action_id: &str) {
        self.batch.delete.push(ended_key.to_owned());
        self.batch.delete.push(keys::outcome(action_id));
    }

    /// Writes a value as it is: what belongs to another part of this room.
    pub(super) fn put_raw(&mut self, key: String, value: Vec<u8>) {
        self.batch.put.push((key, value));
    }

    /// Deletes a key that belongs to another part of this room.
    pub(super) fn delete_raw(&mut self, key: String) {
        self.batch.delete.push(key);
    }

    /// Fails the whole if the revision of a key that belongs to another part of this room is not this; 0: absent.
    pub(super) fn compare_raw(&mut self, key: String, revision: u64) {
        self.batch.compare.push((key, revision));
    }

    pub(super) fn put<T: Serialize>(&mut self, key: String, value: &T) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| StoreError::Damaged { key: key.clone(), reason: error.to_string() })?;
        self.batch.put.push((key, bytes));
        Ok(())
    }
}

fn read<T: DeserializeOwned>(entry: &Entry) -> Result<Versioned<T>, StoreError> {
    parse(entry).map_err(|DamagedRecord { key, reason }| StoreError::Damaged { key, reason })
}

fn parse<T: DeserializeOwned>(entry: &Entry) -> Result<Versioned<T>, DamagedRecord> {
    let value = serde_json::from_slice(&entry.value)
        .map_err(|error| DamagedRecord { key: entry.key.clone(), reason: error.to_string() })?;
    Ok(Versioned { value, revision: entry.revision })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::action::{ActionState, Parameters, Phases, Verb};
    use crate::storage::memory::MemoryStore;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn door() -> (Records, Arc<MemoryStore>) {
        let store = Arc::new(MemoryStore::new());
        (Records::new(Arc::clone(&store) as Arc<dyn StateStore>), store)
    }

    fn commit(records: &Records, change: impl FnOnce(&mut Changes)) -> Result<(), StoreError> {
        let mut changes = Changes::new();
        change(&mut changes);
        records.commit(changes, soon())
    }

    fn intent(id: &str) -> Intent {
        let verb = Verb::Stop;
        let request = ActionRequest {
            id: id.to_owned(),
            verb,
            target: "w".to_owned(),
            manifest: String::new(),
            parameters: Parameters::default(),
            deadline_ms: Some(5),
            priority: -1,
            dry_run: false,
        };
        let (target, engine) = ("w".to_owned(), "sim".to_owned());
        let plan = Plan { verb, target, engine, steps: Vec::new(), warnings: Vec::new() };
        let (specs, before, existed, ran) = Default::default();
        Intent {
            request,
            plan,
            cores: BTreeMap::new(),
            specs,
            before,
            engines: BTreeMap::new(),
            existed,
            ran,
            schedule: None,
            network: None,
            undone_alone: BTreeSet::new(),
            accepted_ms: 7,
        }
    }

    fn outcome(id: &str, ended_ms: u64) -> StoredOutcome {
        let outcome = Outcome {
            action_id: id.to_owned(),
            verb: Verb::Stop,
            target: "w".to_owned(),
            state: ActionState::Succeeded,
            changed: true,
            message: "stopped".to_owned(),
            failure: None,
            warnings: Vec::new(),
            left: Vec::new(),
            workloads: BTreeMap::new(),
            engine: "sim".to_owned(),
            engine_reason: String::new(),
            steps: Vec::new(),
            phases: Phases::default(),
            accepted_ms: 1,
            ended_ms,
            plan: None,
            recovered: String::new(),
            failed: BTreeMap::new(),
        };
        StoredOutcome { fingerprint: "f".to_owned(), outcome }
    }

    #[test]
    fn outcome_takes_the_place_of_its_intent_and_is_listed_by_time() {
        let (records, _store) = door();
        commit(&records, |changes| changes.put_intent(&intent("a")).unwrap()).unwrap();
        let intents = records.intents(soon()).unwrap();
        assert_eq!(intents.whole.into_iter().map(|found| found.value).collect::<Vec<_>>(), [intent("a")]);

        for (id, ended_ms) in [("a", 20), ("b", 3)] {
            commit(&records, |changes| changes.put_outcome(&outcome(id, ended_ms)).unwrap()).unwrap();
        }
        assert_eq!(records.intents(soon()).unwrap().whole, []);
        assert_eq!(records.outcome("a", soon()).unwrap(), Some(outcome("a", 20)));
        let ended = records.ended("", 10, soon()).unwrap();
        assert_eq!(ended.iter().map(|(_, _, id)| id.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(records.ended(&ended[0].0, 10, soon()).unwrap(), ended[1..]);

        commit(&records, |changes| changes.delete_outcome(&ended[0].0, "a")).unwrap();
        assert_eq!(records.outcome("a", soon()).unwrap(), None);
        assert_eq!(records.ended("", 10, soon()).unwrap(), ended[1..]);
    }

    #[test]
    fn walk_gives_every_record_over_several_pages() {
        let (records, _store) = door();
        for n in 0..2 * PAGE {
            commit(&records, |changes| changes.put_intent(&intent(&format!("{n:05}"))).unwrap()).unwrap();
        }
        assert_eq!(records.intents(soon()).unwrap().whole.len(), 2 * PAGE);
    }

    #[test]
    fn record_that_cannot_be_read_is_an_error_with_its_key() {
        let (records, store) = door();
        let broken = [
            (keys::workload("w"), b"{}".to_vec()),
            (keys::intent("i"), b"nonsense".to_vec()),
            (keys::document("Pod", "d"), vec![0xFF]),
            (format!("{}soon", keys::ENDED), Vec::new()),
        ];
        store.commit(Batch { put: broken.to_vec(), ..Batch::default() }, soon()).unwrap();
        let errors = [records.workload("w", soon()).unwrap_err(), records.document("Pod", "d", soon()).unwrap_err()];
        for (key, error) in [&broken[0].0, &broken[2].0].into_iter().zip(errors) {
            assert!(matches!(&error, StoreError::Damaged { key: at, .. } if at == key), "{error}");
        }
        commit(&records, |changes| changes.put_intent(&intent("whole")).unwrap()).unwrap();
        let walked = records.intents(soon()).unwrap();
        assert_eq!((walked.whole.len(), walked.damaged[0].name()), (1, "i"));
        assert_eq!(records.ended("", 10, soon()).unwrap(), [(broken[3].0.clone(), 0, String::new())]);
    }

    #[test]
    fn document_comes_back_as_it_was_and_a_moved_workload_stops_the_whole() {
        let (records, _store) = door();
        let text = "kind: Pod\n# as it came\n";
        commit(&records, |changes| changes.put_document("Pod", "p", text)).unwrap();
        assert_eq!(records.document("Pod", "p", soon()).unwrap().as_deref(), Some(text));
        assert_eq!(records.document("Pod", "q", soon()).unwrap(), None);

        let moved = commit(&records, |changes| {
            changes.compare_workload("w", 3);
            changes.put_document("Pod", "q", "x");
        });
        assert!(matches!(moved, Err(StoreError::RevisionMoved { expected: 3, found: 0, .. })));
        assert_eq!(records.document("Pod", "q", soon()).unwrap(), None);
        assert!(Changes::new().is_empty());
    }
}
