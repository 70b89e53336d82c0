//! [`Unrecorded`]: what was done and could not be written to the store, in bounded memory until it can.
//!
//! What is here is written in the order in which it came, and nothing of the same kind goes past it: as long as
//! anything waits, later changes wait behind it. So no older record of a workload ever replaces a newer one. When the
//! process ends before, the intents in the store make the next start find out what was done.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Deadline;
use crate::storage::StoreError;
use crate::storage::records::{Changes, Records};

/// The most actions whose changes wait.
pub const MOST: usize = 1024;

/// Changes that wait for the store, each with its action.
#[derive(Default)]
pub struct Unrecorded {
    waiting: Mutex<VecDeque<(String, Changes)>>,
}

impl Unrecorded {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, Changes)>> {
        // Nothing that can panic runs under this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many actions wait.
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// Writes the changes of an action, after all that wait. On an error they are kept and written later; where too
    /// many wait they are not kept, which the log says.
    pub fn commit(
        &self,
        records: &Records,
        action_id: &str,
        changes: Changes,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let written = self.flush(records, deadline).and_then(|_| records.commit(changes.clone(), deadline));
        if let Err(error) = &written {
            let mut waiting = self.lock();
            if waiting.len() < MOST {
                waiting.push_back((action_id.to_owned(), changes));
            } else {
                log::error!(
                    "{MOST} actions wait for the store; '{action_id}' is not recorded before a restart: {error}"
                );
            }
        }
        written
    }

    /// Writes what waits, as far as the store takes it; gives how many actions were recorded.
    pub fn flush(&self, records: &Records, deadline: Deadline) -> Result<usize, StoreError> {
        let mut recorded = 0;
        // Held meanwhile: whoever finds something waiting has to wait for it, or go behind it.
        let mut waiting = self.lock();
        while let Some((action_id, changes)) = waiting.front() {
            records.commit(changes.clone(), deadline)?;
            log::info!("action '{action_id}' is recorded now");
            waiting.pop_front();
            recorded += 1;
        }
        Ok(recorded)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::storage::memory::MemoryStore;
    use crate::storage::{Batch, Entry, StateStore, StoreStats};

    #[derive(Default)]
    struct Door {
        store: MemoryStore,
        is_away: AtomicBool,
    }

    impl StateStore for Door {
        fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
            self.store.get(key, deadline)
        }
        fn scan(&self, prefix: &str, after: &str, limit: usize, at: Deadline) -> Result<Vec<Entry>, StoreError> {
            self.store.scan(prefix, after, limit, at)
        }
        fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
            if self.is_away.load(Ordering::SeqCst) {
                return Err(StoreError::Unavailable("away".to_owned()));
            }
            self.store.commit(batch, deadline)
        }
        fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
            self.store.check(deadline)
        }
        fn stats(&self) -> StoreStats {
            self.store.stats()
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn text(text: &str) -> Changes {
        let mut changes = Changes::new();
        changes.put_document("Pod", "w", text);
        changes
    }

    #[test]
    fn what_waits_is_written_first_so_that_the_latest_stays() {
        let door = Arc::new(Door::default());
        let records = Records::new(Arc::clone(&door) as Arc<dyn StateStore>);
        let unrecorded = Unrecorded::default();
        door.is_away.store(true, Ordering::SeqCst);
        assert!(unrecorded.commit(&records, "a", text("1"), soon()).is_err());
        assert!(unrecorded.commit(&records, "b", text("2"), soon()).is_err());
        assert!(unrecorded.flush(&records, soon()).is_err());
        assert_eq!(unrecorded.count(), 2);
        door.is_away.store(false, Ordering::SeqCst);
        unrecorded.commit(&records, "c", text("3"), soon()).unwrap();
        assert_eq!(unrecorded.count(), 0);
        assert_eq!(records.document("Pod", "w", soon()).unwrap().as_deref(), Some("3"));
    }

    #[test]
    fn no_more_wait_than_the_bound() {
        let door = Arc::new(Door::default());
        door.is_away.store(true, Ordering::SeqCst);
        let records = Records::new(Arc::clone(&door) as Arc<dyn StateStore>);
        let unrecorded = Unrecorded::default();
        for n in 0..=MOST {
            assert!(unrecorded.commit(&records, &n.to_string(), text("1"), soon()).is_err());
        }
        assert_eq!(unrecorded.count(), MOST);
    }
}
