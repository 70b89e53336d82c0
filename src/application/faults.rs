//! Deadline misses of real-time tasks, as TIMPANI tells them: counted by task, kept in the node's own store, and written
//! into a shared one. What they lead to is for [`super::overruns`].
//!
//! [`Faults`] counts, at once and in memory, so that whoever tells of a miss never waits for a disk. [`FaultKeeper`] is the
//! thread that writes what has changed, not more often than flash can bear; what a power cut loses is the last seconds.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::clock::Deadline;
use crate::dispatch::service::Fault;
use crate::model::schedule::{MissCounts, TaskName};
use crate::storage::StoreError;
use crate::storage::misses::{self, MissesDocument};
use crate::storage::outbox::Outbox;
use crate::storage::published;
use crate::storage::records::Records;

/// Tasks that are counted, at most; further ones are counted together.
const MOST: usize = 1024;

/// Between two writings: tasks may miss at each of their periods.
const WRITE_PAUSE: Duration = Duration::from_secs(5);

/// The time that reading and writing the node's own store has.
const STORE_BUDGET: Duration = Duration::from_secs(5);

/// The misses of every task.
#[derive(Debug, Default)]
pub struct Faults {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    counts: MissCounts,
    /// Grows with each fault.
    version: u64,
    is_changed: bool,
    is_over: bool,
}

impl Faults {
    /// Goes on counting from what was kept.
    pub fn from(counts: MissCounts) -> Self {
        Self { state: Mutex::new(State { counts, ..State::default() }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a fault.
    pub fn note(&self, fault: &Fault, now_ms: u64) {
        let Fault { schedule, node, task, is_deadline_miss } = fault;
        let what = if *is_deadline_miss { "missed its deadline" } else { "had a fault of unknown kind" };
        crate::limited!(log::Level::Warn, "task '{task}' of Schedule '{schedule}' on node '{node}' {what}");
        let mut name = TaskName { schedule: schedule.clone(), node: node.clone(), task: task.clone() };
        let mut state = self.lock();
        if state.counts.len() >= MOST && !state.counts.contains_key(&name) {
            name = TaskName::default();
        }
        let misses = state.counts.entry(name).or_default();
        misses.count = misses.count.saturating_add(1);
        misses.last_ms = now_ms;
        state.is_changed = true;
        state.version += 1;
        drop(state);
        self.changed.notify_all();
    }

    /// Blocks until more is counted than at `version`, and gives all counts with theirs; `None` once `is_over` and
    /// [`Faults::wake`] was called. The first version is 0.
    pub fn wait_beyond(&self, version: u64, is_over: &AtomicBool) -> Option<(u64, MissCounts)> {
        let is_same = |state: &mut State| state.version == version && !is_over.load(Ordering::SeqCst);
        let state = self.changed.wait_while(self.lock(), is_same).unwrap_or_else(PoisonError::into_inner);
        if is_over.load(Ordering::SeqCst) { None } else { Some((state.version, state.counts.clone())) }
    }

    /// Has those who wait look whether they are over.
    pub fn wake(&self) {
        // Under the lock, so that nobody is between his look and his wait.
        let _state = self.lock();
        self.changed.notify_all();
    }

    /// All counts; those beyond the bound under empty names.
    pub fn all(&self) -> MissCounts {
        self.lock().counts.clone()
    }

    /// Blocks until something is to be written, and gives all counts; `None` once it is over and nothing is.
    fn next(&self) -> Option<MissCounts> {
        let mut state = self.lock();
        while !state.is_changed {
            if state.is_over {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.is_changed = false;
        Some(state.counts.clone())
    }

    /// Has the same written again.
    fn not_written(&self) {
        self.lock().is_changed = true;
    }

    /// Blocks for the pause between two writings, or until it is over; `false` then.
    fn pause(&self) -> bool {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, WRITE_PAUSE, |state| !state.is_over);
        !waited.unwrap_or_else(PoisonError::into_inner).0.is_over
    }

    fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }
}

/// Where counts are written.
pub struct Places {
    /// This node.
    pub node: String,
    /// The node's own store.
    pub records: Records,
    /// What goes into a shared store.
    pub outbox: Option<Arc<Outbox>>,
}

impl Places {
    fn write(&self, counts: &MissCounts) -> Result<(), StoreError> {
        let document = MissesDocument::text(counts)?;
        misses::write(&self.records, &document, Deadline::after(STORE_BUDGET))?;
        match &self.outbox {
            Some(outbox) => outbox.put_state(&published::misses(&self.node), Some(document)),
            None => Ok(()),
        }
    }
}

/// The thread's handle.
pub struct FaultKeeper {
    faults: Arc<Faults>,
    thread: JoinHandle<()>,
}

impl FaultKeeper {
    /// Starts the thread over what was kept in the node's own store.
    pub fn start(places: Places) -> std::io::Result<Self> {
        let kept = misses::read(&places.records, Deadline::after(STORE_BUDGET)).unwrap_or_else(|error| {
            log::error!("missed deadlines are counted from nothing again: {error}");
            MissCounts::new()
        });
        let faults = Arc::new(Faults::from(kept));
        let own = Arc::clone(&faults);
        let thread = thread::Builder::new().name("faults".to_owned()).spawn(move || keep(&own, &places))?;
        Ok(Self { faults, thread })
    }

    /// What counts.
    pub fn faults(&self) -> Arc<Faults> {
        Arc::clone(&self.faults)
    }

    /// Writes what is left and ends the thread.
    pub fn stop(self) {
        self.faults.end();
        if self.thread.join().is_err() {
            log::error!("the thread that keeps missed deadlines panicked");
        }
    }
}

fn keep(faults: &Faults, places: &Places) {
    while let Some(counts) = faults.next() {
        let written = places.write(&counts);
        if let Err(error) = &written {
            crate::limited!(log::Level::Warn, "missed deadlines are not kept: {error}");
            faults.not_written();
        }
        // At the end there is one try.
        if !faults.pause() && written.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::schedule::Misses;
    use crate::storage::memory::MemoryStore;

    fn fault(task: &str) -> Fault {
        Fault { schedule: "s".into(), node: "n".into(), task: task.into(), is_deadline_miss: true }
    }

    fn name(task: &str) -> TaskName {
        TaskName { schedule: "s".into(), node: "n".into(), task: task.into() }
    }

    #[test]
    fn misses_are_counted_by_task_in_bounded_memory() {
        let faults = Faults::default();
        faults.note(&fault("a"), 5);
        faults.note(&fault("a"), 7);
        assert_eq!(faults.all()[&name("a")], Misses { count: 2, last_ms: 7 });
        (0..2 * MOST).for_each(|number| faults.note(&fault(&number.to_string()), 9));
        assert_eq!(faults.all().len(), MOST + 1);
        assert_eq!(faults.all()[&TaskName::default()].count as usize, MOST + 1);
    }

    #[test]
    fn what_was_counted_is_there_after_a_restart_and_goes_on() {
        let records = Records::new(Arc::new(MemoryStore::new()));
        let places = || Places { node: "n".into(), records: records.clone(), outbox: None };
        let keeper = FaultKeeper::start(places()).unwrap();
        keeper.faults().note(&fault("a"), 5);
        keeper.stop();
        let keeper = FaultKeeper::start(places()).unwrap();
        keeper.faults().note(&fault("a"), 7);
        assert_eq!(keeper.faults().all()[&name("a")], Misses { count: 2, last_ms: 7 });
        keeper.stop();
        assert_eq!(misses::read(&records, Deadline::after(STORE_BUDGET)).unwrap()[&name("a")].count, 2);
    }
}
