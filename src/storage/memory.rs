//! [`MemoryStore`]: the store without a disk, for tests and for a daemon that shall keep nothing.
//!
//! It behaves as the embedded store does, except that everything ends with the process and nothing is ever synced.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Batch, Entry, StateStore, StoreError, StoreStats};
use crate::clock::Deadline;

/// A [`StateStore`] in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Key to revision and bytes.
    entries: BTreeMap<String, (u64, Vec<u8>)>,
    /// The last revision given; each batch that writes gets the next.
    sequence: u64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// The state, unless the deadline is over. No holder of the lock waits for anything.
    fn state(&self, deadline: Deadline) -> Result<MutexGuard<'_, State>, StoreError> {
        if deadline.is_over() {
            return Err(StoreError::Unavailable(
                "the time was over before it was asked; nothing was applied".to_owned(),
            ));
        }
        Ok(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl State {
    fn moved(&self, batch: &Batch) -> Option<StoreError> {
        batch.compare.iter().find_map(|(key, expected)| {
            let found = self.entries.get(key).map_or(0, |(revision, _)| *revision);
            (found != *expected).then(|| StoreError::RevisionMoved { key: key.clone(), expected: *expected, found })
        })
    }
}

impl StateStore for MemoryStore {
    fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
        let state = self.state(deadline)?;
        Ok(state.entries.get(key).map(|(revision, value)| entry(key, *revision, value)))
    }

    fn scan(&self, prefix: &str, after: &str, limit: usize, deadline: Deadline) -> Result<Vec<Entry>, StoreError> {
        let from = if after.is_empty() || after < prefix { Bound::Included(prefix) } else { Bound::Excluded(after) };
        let state = self.state(deadline)?;
        let found = state.entries.range::<str, _>((from, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, (revision, value))| entry(key, *revision, value)).collect())
    }

    fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
        let mut state = self.state(deadline)?;
        if let Some(moved) = state.moved(&batch) {
            return Err(moved);
        }
        if batch.put.is_empty() && batch.delete.is_empty() {
            return Ok(());
        }
        state.sequence += 1;
        let revision = state.sequence;
        state.entries.extend(batch.put.into_iter().map(|(key, value)| (key, (revision, value))));
        for key in &batch.delete {
            state.entries.remove(key);
        }
        Ok(())
    }

    fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        self.state(deadline).map(drop)
    }

    fn stats(&self) -> StoreStats {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        StoreStats { commits: state.sequence, syncs: 0 }
    }
}

fn entry(key: &str, revision: u64, value: &[u8]) -> Entry {
    Entry { key: key.to_owned(), value: value.to_vec(), revision }
}
