//! The outbox's thread: delivers what waits, oldest first.

use std::sync::PoisonError;
use std::time::Duration;

use super::{OWN_BUDGET, Outbox, PAGE, Waiting, to_json};
use crate::cancel::Urge;
use crate::clock::Deadline;
use crate::storage::published::{self, PublishedAction, PublishedPackage};
use crate::storage::records::StoredOutcome;
use crate::storage::shared::Hold;
use crate::storage::{Batch, Entry, StoreError, keys};

/// Between two tries while nothing can be delivered, at least and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Times that a document which others write too is read and written again.
const MERGES: usize = 16;

impl Outbox {
    pub(super) fn deliver_all(&self) {
        let mut pause = PAUSE.0;
        while !self.stop.is_cancelled() {
            match self.deliver_next() {
                Ok(true) => {
                    pause = PAUSE.0;
                    self.note_problem(String::new());
                }
                Ok(false) => self.wait_for_more(),
                // The node's key was taken anew meanwhile, or an earlier try has arrived: nothing was written.
                Err(StoreError::RevisionMoved { key, .. })
                    if [published::owner(&self.config.node), published::delivered(&self.config.node)]
                        .contains(&key) =>
                {
                    self.stop.wait(Urge::Cancel, Deadline::after(PAUSE.0));
                }
                Err(error) => {
                    self.note_problem(error.to_string());
                    self.stop.wait(Urge::Cancel, Deadline::after(pause));
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    fn note_problem(&self, problem: String) {
        let mut state = self.lock();
        if state.problem != problem {
            if problem.is_empty() {
                log::info!("{} takes what waited for it", self.shared.name());
            } else {
                log::warn!("nothing is delivered to {}: {problem}", self.shared.name());
            }
            state.problem = problem;
        }
    }

    fn wait_for_more(&self) {
        let state = self.lock();
        let has_more = !state.outcomes.is_empty() || !state.states.is_empty() || !state.owed.is_empty();
        // What is held back by a batch under way is looked at again soon.
        let limit = if has_more { PAUSE.0 } else { PAUSE.1 };
        drop(self.changed.wait_timeout(state, limit).unwrap_or_else(PoisonError::into_inner));
    }

    /// Delivers the oldest that waits; `false` where nothing does.
    fn deliver_next(&self) -> Result<bool, StoreError> {
        let Some((number, entry)) = self.oldest()? else { return self.take_owed() };
        let Ok(waiting) = serde_json::from_slice::<Waiting>(&entry.value) else {
            self.set_aside(number, &entry.key, "it cannot be read")?;
            return Ok(true);
        };
        self.lock().sending = Some(number);
        let sent = self.send(number, &waiting);
        let forgotten = match sent {
            Ok(()) => self.forget(number, &waiting),
            Err(error @ StoreError::Damaged { .. }) => self.set_aside(number, &waiting.key, &error.to_string()),
            Err(error) => Err(error),
        };
        self.lock().sending = None;
        forgotten.map(|()| true)
    }

    /// The oldest that waits, unless something older is still to be committed.
    fn oldest(&self) -> Result<Option<(u64, Entry)>, StoreError> {
        // Looked at before the store: what is committed meanwhile comes later.
        let limit = {
            let state = self.lock();
            state.held.first().copied().unwrap_or(state.next)
        };
        let found = self.store.scan(keys::OUTBOX, "", 1, Deadline::after(OWN_BUDGET))?;
        let Some(entry) = found.into_iter().next() else {
            let mut state = self.lock();
            // What was counted and never committed is forgotten.
            state.outcomes.retain(|number| *number >= limit);
            state.states.retain(|_, number| *number >= limit);
            return Ok(None);
        };
        let number = keys::number_of(&entry.key, keys::OUTBOX).unwrap_or_default();
        Ok((number < limit).then_some((number, entry)))
    }

    fn fence(&self, number: u64) -> String {
        format!("{} {number}", self.instance)
    }

    fn send(&self, number: u64, waiting: &Waiting) -> Result<(), StoreError> {
        let deadline = Deadline::after(self.config.timeout);
        let fence = published::delivered(&self.config.node);
        let mut batch = Batch::default();
        if self.shared.abilities().compare {
            let last = self.shared.get(&fence, deadline)?;
            // Of an earlier run, or of a try whose answer did not come, it may be there already.
            if last.as_ref().is_some_and(|entry| entry.value == self.fence(number).as_bytes()) {
                return Ok(());
            }
            // A try that was taken for lost and arrives late does nothing then.
            batch.compare.push((fence.clone(), last.map_or(0, |entry| entry.revision)));
        }
        if let Some(owner) = &self.owner {
            match owner.state() {
                Hold::Ours { revision } => batch.compare.push((published::owner(&self.config.node), revision)),
                Hold::Theirs { value } => {
                    let node = &self.config.node;
                    let message = format!("node '{node}' is also run by another Action Controller, instance '{value}'");
                    return Err(StoreError::Unavailable(message));
                }
                Hold::Unknown { reason } => return Err(StoreError::Unavailable(reason)),
            }
        }
        batch.put.push((fence, self.fence(number).into_bytes()));
        if waiting.key.starts_with(&published::package("")) {
            self.send_package(waiting, batch)?;
        } else {
            match &waiting.document {
                Some(document) => batch.put.push((waiting.key.clone(), document.clone().into_bytes())),
                None => batch.delete.push(waiting.key.clone()),
            }
            self.shared.commit(batch, deadline)?;
        }
        Ok(())
    }

    /// A Package is written by several nodes: what others wrote meanwhile is kept.
    fn send_package(&self, waiting: &Waiting, batch: Batch) -> Result<(), StoreError> {
        let own: PublishedPackage = match &waiting.document {
            Some(document) => serde_json::from_str(document)
                .map_err(|error| StoreError::Damaged { key: waiting.key.clone(), reason: error.to_string() })?,
            None => PublishedPackage::default(),
        };
        for _ in 0..MERGES {
            let deadline = Deadline::after(self.config.timeout);
            let found = self.shared.get(&waiting.key, deadline)?;
            let other = found.as_ref().and_then(|entry| serde_json::from_slice(&entry.value).ok()).unwrap_or_default();
            let merged = own.clone().merged_over(other, &self.config.node);
            let mut batch = batch.clone();
            if self.shared.abilities().compare {
                batch.compare.push((waiting.key.clone(), found.as_ref().map_or(0, |entry| entry.revision)));
            }
            if merged.workloads.is_empty() {
                batch.delete.push(waiting.key.clone());
            } else {
                let name = waiting.key.rsplit('/').next().unwrap_or_default().to_owned();
                let document = to_json(&PublishedPackage { name, ..merged })?;
                batch.put.push((waiting.key.clone(), document.into_bytes()));
            }
            match self.shared.commit(batch, deadline) {
                Err(StoreError::RevisionMoved { key, .. }) if key == waiting.key => {
                    log::info!("'{key}' was changed by another node meanwhile; it is merged");
                }
                other => return other,
            }
        }
        Err(StoreError::Unavailable(format!("'{}' changes all the time", waiting.key)))
    }

    fn forget(&self, number: u64, waiting: &Waiting) -> Result<(), StoreError> {
        let delete = vec![keys::outbox(number)];
        // A number is never given again: the fence would take another document for this one.
        let put = vec![(keys::DELIVERED.to_owned(), number.to_string().into_bytes())];
        self.store.commit(Batch { put, delete, ..Batch::default() }, Deadline::after(OWN_BUDGET))?;
        let mut state = self.lock();
        state.outcomes.remove(&number);
        if state.states.get(&waiting.key) == Some(&number) {
            state.states.remove(&waiting.key);
        }
        Ok(())
    }

    /// Takes out what the store will never take, so that the rest is delivered.
    fn set_aside(&self, number: u64, key: &str, why: &str) -> Result<(), StoreError> {
        log::error!("'{key}' is not delivered to {}: {why}", self.shared.name());
        let waiting = Waiting { key: key.to_owned(), document: None, is_state: false };
        self.forget(number, &waiting)?;
        self.lock().set_aside += 1;
        Ok(())
    }

    /// Puts outcomes in that were left in the action log; `false` where there are none.
    fn take_owed(&self) -> Result<bool, StoreError> {
        let owed = self.store.scan(keys::OWED, "", PAGE.min(self.config.entries), Deadline::after(OWN_BUDGET))?;
        let first_held = self.lock().held.first().copied().unwrap_or(u64::MAX);
        let number_of = |entry: &Entry| keys::number_of(&entry.key, keys::OWED).unwrap_or_default();
        let ready: Vec<_> = owed.into_iter().filter(|entry| number_of(entry) < first_held).collect();
        if ready.is_empty() {
            return Ok(false);
        }
        let mut batch = Batch::default();
        let mut numbers = Vec::new();
        for entry in ready {
            let number = number_of(&entry);
            let id = String::from_utf8_lossy(&entry.value).into_owned();
            batch.delete.push(entry.key.clone());
            match self.logged(&id)? {
                Some(document) => {
                    let key = published::action(&self.config.node, &id);
                    let waiting = Waiting { key, document: Some(document), is_state: false };
                    batch.put.push((keys::outbox(number), to_json(&waiting)?.into_bytes()));
                    numbers.push((number, true));
                }
                None => {
                    log::warn!("the outcome of action '{id}' is not delivered: it is no longer kept");
                    numbers.push((number, false));
                }
            }
        }
        self.store.commit(batch, Deadline::after(OWN_BUDGET))?;
        let mut state = self.lock();
        for (number, waits) in numbers {
            state.owed.remove(&number);
            if waits {
                state.outcomes.insert(number);
            }
        }
        Ok(true)
    }

    fn logged(&self, id: &str) -> Result<Option<String>, StoreError> {
        let Some(entry) = self.store.get(&keys::outcome(id), Deadline::after(OWN_BUDGET))? else { return Ok(None) };
        let Ok(stored) = serde_json::from_slice::<StoredOutcome>(&entry.value) else { return Ok(None) };
        to_json(&PublishedAction::from(&stored.outcome)).map(Some)
    }
}
