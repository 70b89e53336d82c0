//! [`Outbox`]: what is to be written into a shared store, kept in the node's own store until it is there.
//!
//! An outcome is put in with the very batch that records it, so that a crash neither loses nor doubles one. One thread
//! (`deliver`) delivers in the order of the numbers, one after the other, each exactly once: with each document goes a
//! fence, the number of what was delivered last, which is read before and compared by the same write. A store without
//! compares takes a document twice where it died between the two; documents are whole, so twice is as good as once.
//!
//! What waits is bounded. At the bound normal actions are refused ([`Outbox::admit`]); outcomes of what ends things go on
//! into a reserve, and beyond that are left in the action log, from which they are delivered later (`owed`). A document of
//! a state takes the place of one of its key that waits, so that these are no more than there are workloads.

mod deliver;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::published::{self, PublishedAction};
use super::records::Changes;
use super::shared::{HeldKey, SharedStore};
use super::{Batch, StateStore, StoreError, keys};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::model::action::Outcome;

/// The time that one access to the node's own store has.
const OWN_BUDGET: Duration = Duration::from_secs(5);

/// Entries read at once.
const PAGE: usize = 256;

/// What an outbox is like.
#[derive(Debug, Clone)]
pub struct OutboxConfig {
    /// This node.
    pub node: String,
    /// Entries that wait at most before normal actions are refused.
    pub entries: usize,
    /// Entries beyond these for what ends things.
    pub reserve: usize,
    /// The time of one delivery.
    pub timeout: Duration,
}

/// What waits, in the node's own store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Waiting {
    /// The shared store's key.
    key: String,
    /// The document; `None` deletes the key.
    document: Option<String>,
    /// A state, which a newer one replaces. An outcome otherwise.
    is_state: bool,
}

/// How far delivery is, for health.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Outcomes that wait.
    pub waiting: usize,
    /// At so many normal actions are refused.
    pub bound: usize,
    /// States that wait.
    pub states: usize,
    /// Outcomes that wait in the action log.
    pub owed: usize,
    /// Documents that the store refused for good.
    pub set_aside: usize,
    /// Why nothing is delivered; empty where all is well.
    pub problem: String,
}

#[derive(Default)]
struct State {
    next: u64,
    /// Numbers that are given and whose batch is still to be committed: nothing behind them is delivered.
    held: BTreeSet<u64>,
    /// Numbers of waiting outcomes.
    outcomes: BTreeSet<u64>,
    /// Numbers of waiting states by key.
    states: BTreeMap<String, u64>,
    owed: BTreeSet<u64>,
    /// Under delivery: it is not replaced.
    sending: Option<u64>,
    set_aside: usize,
    problem: String,
}

/// The outbox.
pub struct Outbox {
    store: Arc<dyn StateStore>,
    shared: Arc<dyn SharedStore>,
    config: OutboxConfig,
    instance: String,
    /// The node's key, where the store has leases.
    owner: Option<Box<dyn HeldKey>>,
    state: Mutex<State>,
    changed: Condvar,
    stop: CancelToken,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Holds the place of an outcome until the batch that records it is committed, or is not.
pub struct Ticket {
    outbox: Arc<Outbox>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.outbox.lock().held.remove(&self.number);
        self.outbox.changed.notify_all();
    }
}

impl Outbox {
    /// The outbox in `store`, with what waits there, delivered to `shared`.
    pub fn open(
        store: Arc<dyn StateStore>,
        shared: Arc<dyn SharedStore>,
        config: OutboxConfig,
    ) -> Result<Arc<Self>, StoreError> {
        let instance = instance(&*store)?;
        let state = Mutex::new(read(&*store)?);
        let owner = match shared.abilities().leases {
            true => Some(shared.hold(&published::owner(&config.node), &instance)?),
            false => None,
        };
        let (changed, stop, thread) = (Condvar::new(), CancelToken::new(), Mutex::default());
        let outbox = Arc::new(Self { store, shared, config, instance, owner, state, changed, stop, thread });
        let own = Arc::clone(&outbox);
        let spawned = thread::Builder::new().name("outbox".to_owned()).spawn(move || own.deliver_all());
        let spawned = spawned.map_err(|error| StoreError::Unavailable(format!("no thread for the outbox: {error}")))?;
        *outbox.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(spawned);
        Ok(outbox)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a normal action may begin: its outcome has to have a place.
    pub fn admit(&self) -> Result<(), Error> {
        let state = self.lock();
        // What waits in the action log goes first.
        if state.outcomes.len() < self.config.entries && state.owed.is_empty() {
            return Ok(());
        }
        let (waiting, name) = (state.outcomes.len(), self.shared.name());
        let problem = if state.problem.is_empty() { "it does not answer" } else { &state.problem };
        let message = format!("{waiting} outcomes wait for {name}, more are not taken: {problem}");
        let error = Error::new(ErrorKind::ResourceExhausted, ErrorCode::BacklogFull, message);
        Err(error.hint("stop, kill, remove and terminate go on; store.backlog.entries sets the bound"))
    }

    /// Adds an outcome to the changes that record it. The ticket is to be kept until they are committed or given up; where
    /// they are kept in memory to be committed later, it may be dropped. What had no effect gets no place where there is none.
    pub fn add(
        self: &Arc<Self>,
        changes: &mut Changes,
        outcome: &Outcome,
        is_urgent: bool,
        has_effect: bool,
    ) -> Result<Option<Ticket>, StoreError> {
        let document = to_json(&PublishedAction::from(outcome))?;
        let key = published::action(&self.config.node, &outcome.action_id);
        let mut state = self.lock();
        let number = state.next;
        let most = self.config.entries + if is_urgent { self.config.reserve } else { 0 };
        // Behind one that waits in the log the next ones wait there too, so that they arrive in their order.
        let is_full = state.outcomes.len() >= most || (is_urgent && !state.owed.is_empty());
        if is_full && !has_effect {
            return Ok(None);
        }
        // What a normal action was admitted for is kept in any case.
        if !is_full || !is_urgent {
            let waiting = Waiting { key, document: Some(document), is_state: false };
            changes.put_raw(keys::outbox(number), to_json(&waiting)?.into_bytes());
            state.outcomes.insert(number);
        } else {
            changes.put_raw(keys::owed(number), outcome.action_id.clone().into_bytes());
            state.owed.insert(number);
        }
        state.next += 1;
        state.held.insert(number);
        drop(state);
        Ok(Some(Ticket { outbox: Arc::clone(self), number }))
    }

    /// Puts a document of a state in, in place of one of its key that waits; `None` deletes the key.
    pub fn put_state(&self, key: &str, document: Option<String>) -> Result<(), StoreError> {
        let waiting = Waiting { key: key.to_owned(), document, is_state: true };
        let mut batch = Batch::default();
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        batch.put.push((keys::outbox(number), to_json(&waiting)?.into_bytes()));
        let replaced = state.states.get(key).copied().filter(|old| state.sending != Some(*old));
        batch.delete.extend(replaced.map(keys::outbox));
        state.held.insert(number);
        drop(state);
        let written = self.store.commit(batch, Deadline::after(OWN_BUDGET));
        let mut state = self.lock();
        state.held.remove(&number);
        if written.is_ok() {
            state.states.insert(key.to_owned(), number);
        }
        drop(state);
        self.changed.notify_all();
        written
    }

    /// How far delivery is; never blocks for longer than a look.
    pub fn backlog(&self) -> Backlog {
        let state = self.lock();
        Backlog {
            waiting: state.outcomes.len(),
            bound: self.config.entries,
            states: state.states.len(),
            owed: state.owed.len(),
            set_aside: state.set_aside,
            problem: state.problem.clone(),
        }
    }

    /// Ends delivery; what waits is delivered after the next start.
    pub fn stop(&self) {
        self.stop.cancel("the Action Controller is stopping");
        self.changed.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            log::error!("the outbox's thread panicked");
        }
    }
}

fn to_json(value: &impl Serialize) -> Result<String, StoreError> {
    let damaged =
        |error: serde_json::Error| StoreError::Damaged { key: "outbox".to_owned(), reason: error.to_string() };
    serde_json::to_string(value).map_err(damaged)
}

/// This daemon's own name, the same over its restarts.
fn instance(store: &dyn StateStore) -> Result<String, StoreError> {
    let deadline = Deadline::after(OWN_BUDGET);
    if let Some(entry) = store.get(keys::INSTANCE, deadline)? {
        return Ok(String::from_utf8_lossy(&entry.value).into_owned());
    }
    let instance = uuid::Uuid::now_v7().to_string();
    let put = vec![(keys::INSTANCE.to_owned(), instance.clone().into_bytes())];
    store.commit(Batch { put, ..Batch::default() }, deadline)?;
    Ok(instance)
}

/// What an earlier run left.
fn read(store: &dyn StateStore) -> Result<State, StoreError> {
    let last = store.get(keys::DELIVERED, Deadline::after(OWN_BUDGET))?;
    let last = last.and_then(|entry| String::from_utf8_lossy(&entry.value).parse::<u64>().ok()).unwrap_or_default();
    let mut state = State { next: last + 1, ..State::default() };
    for prefix in [keys::OUTBOX, keys::OWED] {
        let mut after = String::new();
        loop {
            let page = store.scan(prefix, &after, PAGE, Deadline::after(OWN_BUDGET))?;
            let Some(last) = page.last() else { break };
            after.clone_from(&last.key);
            for entry in page {
                let number = keys::number_of(&entry.key, prefix).unwrap_or_default();
                state.next = state.next.max(number + 1);
                match serde_json::from_slice::<Waiting>(&entry.value) {
                    _ if prefix == keys::OWED => drop(state.owed.insert(number)),
                    Ok(waiting) if waiting.is_state => drop(state.states.insert(waiting.key, number)),
                    // One that cannot be read is set aside when its turn comes.
                    Ok(_) | Err(_) => drop(state.outcomes.insert(number)),
                }
            }
        }
    }
    Ok(state)
}
