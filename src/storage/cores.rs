//! Which workload holds which CPUs, as it is kept: a key for each holding, and one that whoever takes CPUs writes, so that
//! of two who take at once the second looks again.

use std::collections::BTreeMap;

use super::records::{Changes, DamagedRecord, Records};
use super::{StoreError, keys};
use crate::clock::Deadline;
use crate::model::cores::{CpuSet, Holding};

/// The holdings as they are kept.
#[derive(Debug, Clone)]
pub struct StoredCores {
    /// By workload.
    pub holdings: BTreeMap<String, Holding>,
    /// What cannot be read.
    pub damaged: Vec<DamagedRecord>,
    /// Of the key that is compared by who takes or frees.
    pub revision: u64,
}

/// Reads them. The revision is read first: what is taken meanwhile makes a commit that compares it fail.
pub fn read(records: &Records, deadline: Deadline) -> Result<StoredCores, StoreError> {
    let revision = records.revision(keys::CORES, deadline)?;
    let walked = records.walk::<(String, Holding)>(keys::HOLDINGS, deadline)?;
    let holdings = walked.whole.into_iter().map(|record| record.value).collect();
    Ok(StoredCores { holdings, damaged: walked.damaged, revision })
}

/// The CPUs that others are kept off; what cannot be read is none.
pub fn withheld(records: &Records, deadline: Deadline) -> Result<CpuSet, StoreError> {
    let bytes = records.raw(keys::WITHHELD, deadline)?.unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).parse().unwrap_or_default())
}

/// Keeps which CPUs others are kept off.
pub fn put_withheld(records: &Records, cpus: &CpuSet, deadline: Deadline) -> Result<(), StoreError> {
    let mut changes = Changes::new();
    match cpus.is_empty() {
        true => changes.delete_raw(keys::WITHHELD.to_owned()),
        false => changes.put_raw(keys::WITHHELD.to_owned(), cpus.to_string().into_bytes()),
    }
    records.commit(changes, deadline)
}

impl Changes {
    /// Fails the whole if CPUs were taken since this revision, and marks that `action_id` takes or relies on some now.
    pub fn take_cores(&mut self, revision: u64, action_id: &str) {
        self.compare_cores(revision);
        self.put_raw(keys::CORES.to_owned(), action_id.as_bytes().to_vec());
    }

    /// Fails the whole if CPUs were taken since this revision.
    pub fn compare_cores(&mut self, revision: u64) {
        self.compare_raw(keys::CORES.to_owned(), revision);
    }

    /// Keeps what a workload holds.
    pub fn put_holding(&mut self, workload: &str, holding: &Holding) -> Result<(), StoreError> {
        self.put(keys::holding(workload), &(workload, holding))
    }

    /// Frees what a workload holds.
    pub fn delete_holding(&mut self, workload: &str) {
        self.delete_raw(keys::holding(workload));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::storage::memory::MemoryStore;
    use crate::storage::{Batch, StateStore};

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn holding(cpus: &str) -> Holding {
        Holding { cpus: cpus.parse().unwrap(), action_id: "a".into(), since_ms: 7, before: None }
    }

    fn take(records: &Records, revision: u64, workload: &str, cpus: &str) -> Result<(), StoreError> {
        let mut changes = Changes::new();
        changes.take_cores(revision, "a");
        changes.put_holding(workload, &holding(cpus))?;
        records.commit(changes, soon())
    }

    #[test]
    fn of_two_who_take_at_once_the_second_is_refused_whole() {
        let records = Records::new(Arc::new(MemoryStore::new()) as _);
        let seen = read(&records, soon()).unwrap();
        assert_eq!((seen.revision, seen.holdings.len()), (0, 0));
        take(&records, seen.revision, "first", "1").unwrap();
        let late = take(&records, seen.revision, "second", "1");
        assert!(matches!(late, Err(StoreError::RevisionMoved { .. })), "{late:?}");
        let seen = read(&records, soon()).unwrap();
        assert_eq!(seen.holdings, BTreeMap::from([("first".to_owned(), holding("1"))]));
        take(&records, seen.revision, "second", "2").unwrap();
        let mut changes = Changes::new();
        changes.delete_holding("first");
        records.commit(changes, soon()).unwrap();
        assert_eq!(read(&records, soon()).unwrap().holdings.keys().collect::<Vec<_>>(), ["second"]);
    }

    #[test]
    fn damaged_holding_is_named_and_takes_no_other_with_it() {
        let store = Arc::new(MemoryStore::new());
        let records = Records::new(Arc::clone(&store) as _);
        take(&records, 0, "w", "1").unwrap();
        let put = vec![(keys::holding("x"), b"{".to_vec())];
        store.commit(Batch { put, ..Batch::default() }, soon()).unwrap();
        let seen = read(&records, soon()).unwrap();
        assert_eq!((seen.holdings.len(), seen.damaged[0].name()), (1, "x"));
    }

    #[test]
    fn withheld_cpus_are_kept_until_there_are_none() {
        let records = Records::new(Arc::new(MemoryStore::new()) as _);
        for cpus in ["", "1-2", "2", ""] {
            put_withheld(&records, &cpus.parse().unwrap(), soon()).unwrap();
            assert_eq!(withheld(&records, soon()).unwrap().to_string(), cpus);
        }
    }
}
