//! [`EndedIds`]: which ids of actions may have an outcome, without asking the store.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::error::Result;

/// Hashes of the ids of ended actions: an id that is not here is new. As many as there are outcomes in the store,
/// and those that came since they were counted last.
#[derive(Default)]
struct Hashes {
    counted: HashSet<u64>,
    since: HashSet<u64>,
}

/// The ids of ended actions.
#[derive(Default)]
pub struct EndedIds {
    hashes: Mutex<Hashes>,
    /// Actions that ended and that the janitor has not counted yet.
    newly: AtomicUsize,
}

impl EndedIds {
    fn lock(&self) -> MutexGuard<'_, Hashes> {
        // Nothing that can panic runs under this lock.
        self.hashes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an action of this id may have ended before.
    pub fn may_have(&self, id: &str) -> bool {
        let (hashes, hash) = (self.lock(), hash(id));
        hashes.since.contains(&hash) || hashes.counted.contains(&hash)
    }

    /// Notes that an action of this id has ended.
    pub fn note(&self, id: &str) {
        self.lock().since.insert(hash(id));
        self.newly.fetch_add(1, Ordering::Relaxed);
    }

    /// How many actions ended since the last call.
    pub fn take_newly(&self) -> usize {
        self.newly.swap(0, Ordering::Relaxed)
    }

    /// Counts the ids anew, as `ids` reads them from the store: what was pruned is forgotten.
    pub fn recount(&self, ids: impl FnOnce() -> Result<Vec<String>>) -> Result<()> {
        let mut hashes = self.lock();
        let since = std::mem::take(&mut hashes.since);
        // An outcome is in the store before its id is noted: these are among those that are read now.
        hashes.counted.extend(since);
        drop(hashes);
        let counted = ids()?.iter().map(|id| hash(id)).collect();
        self.lock().counted = counted;
        Ok(())
    }
}

fn hash(id: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    id.hash(&mut hasher);
    hasher.finish()
}
