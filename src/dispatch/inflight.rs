//! [`Inflight`]: which actions are under way, which workloads each has claimed, and what an urgent one has ended.
//!
//! Two actions on one workload never run at the same time. An urgent action is a barrier for its names: normal
//! actions accepted before it are cancelled wherever they are, those accepted after it wait until it has ended.
//!
//! An action claims all its workloads or none. One that had to wait keeps its turn: normal ones that rank after it
//! leave its workloads alone, so that it waits for those that run, and not for whatever else may come.
//!
//! Every wait here is for an action that ends: whenever one leaves, all that are parked are looked at again. What is
//! cancelled while it is parked is found there by its canceller, because claiming looks at the token under the lock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::entry::Entry;
use super::lanes::{Job, Rank, rank};
use crate::action::{Loaded, Recovery, SUPERSEDED};
use crate::clock::Deadline;
use crate::model::action::{Lane, Verb};

#[derive(Default)]
struct State {
    by_id: HashMap<String, Arc<Entry>>,
    /// The running action of each claimed workload.
    claims: HashMap<String, u64>,
    /// Running actions with all their names.
    running: BTreeMap<u64, (Arc<Entry>, BTreeSet<String>)>,
    /// Normal actions that were accepted and do not run yet.
    waiting: BTreeMap<u64, Waiting>,
    barriers: Vec<Barrier>,
    parked: Vec<Parked>,
}

/// A normal action that does not run yet.
struct Waiting {
    entry: Arc<Entry>,
    rank: Rank,
    is_recovery: bool,
    /// Its target as asked for, and once it was loaded all its names.
    names: BTreeSet<String>,
    /// Once it was loaded and had to wait; of a recovery from the beginning.
    workloads: Vec<String>,
    /// Whether `names` has all of them.
    is_read: bool,
}

/// A loaded job that waits for others to end.
struct Parked {
    job: Job,
    names: BTreeSet<String>,
    workloads: Vec<String>,
}

/// An urgent action, kept as long as an older normal one is waiting or it runs itself.
struct Barrier {
    sequence: u64,
    id: String,
    verb: Verb,
    /// Whether it also ends the grace of a running stop.
    ends_grace: bool,
    names: BTreeSet<String>,
    /// Names of actions that it ended before they had made anything that is left.
    ended: BTreeSet<String>,
    is_over: bool,
}

impl Barrier {
    fn of(entry: &Entry) -> Self {
        let request = &entry.request;
        let signal = request.parameters.signal.as_deref();
        Self {
            sequence: entry.sequence,
            id: request.id.clone(),
            verb: request.verb,
            ends_grace: request.verb == Verb::Kill && signal.is_none_or(|signal| signal == "SIGKILL"),
            names: own_names(entry),
            ended: BTreeSet::new(),
            is_over: false,
        }
    }

    fn reason(&self) -> String {
        format!("{SUPERSEDED}{} '{}'", self.verb, self.id)
    }

    fn covers(&self, names: &BTreeSet<String>) -> bool {
        !self.names.is_disjoint(names)
    }
}

/// What an action's names are before its documents are loaded.
fn own_names(entry: &Entry) -> BTreeSet<String> {
    Some(entry.request.target.clone()).into_iter().filter(|name| !name.is_empty()).collect()
}

/// What claiming came to.
pub enum Claim {
    /// The workloads are the job's; with the names of what it has ended before that was done.
    Granted(Box<Job>, BTreeSet<String>),
    /// An urgent action came after it; why.
    Superseded(Box<Job>, String),
    /// It was cancelled before it began.
    Cancelled(Box<Job>),
    /// It waits for another action and is queued again when that one ends.
    Parked,
}

impl State {
    fn barrier(&self, sequence: u64) -> Option<&Barrier> {
        self.barriers.iter().find(|barrier| barrier.sequence == sequence)
    }

    /// Whether a loaded job has to wait for another action.
    fn must_wait(&self, job: &Job, names: &BTreeSet<String>, workloads: &[String]) -> bool {
        let sequence = job.entry.sequence;
        if workloads.iter().any(|workload| self.claims.contains_key(workload)) {
            return true;
        }
        match job.lane() {
            // What it has cancelled is still being undone, perhaps under the name of a Package not recorded yet.
            Lane::Urgent => self.barrier(sequence).is_some_and(|own| {
                let older = self.running.range(..sequence).map(|(_, running)| running);
                older.into_iter().any(|(entry, of)| entry.request.verb.lane() == Lane::Normal && own.covers(of))
            }),
            Lane::Normal => {
                let is_barred = |b: &Barrier| !b.is_over && b.sequence < sequence && b.covers(names);
                let own_rank = rank(&job.entry, job.is_recovery());
                let goes_first = |other: &Waiting| {
                    other.rank < own_rank && other.workloads.iter().any(|workload| workloads.contains(workload))
                };
                (!job.is_recovery() && self.barriers.iter().any(is_barred)) || self.waiting.values().any(goes_first)
            }
        }
    }

    /// Forgets barriers that nobody can run into any more. `left` is the urgent action that has ended just now.
    fn forget_barriers(&mut self, left: u64) {
        let oldest = self.waiting.keys().next().copied().unwrap_or(u64::MAX);
        self.barriers.retain(|barrier| !barrier.is_over || oldest < barrier.sequence);
        // Of those that are over, one is enough for the same names: the latest.
        let Some(own) = self.barrier(left).map(|own| own.names.clone()) else { return };
        if self.barriers.iter().any(|later| later.sequence > left && own.is_subset(&later.names)) {
            self.barriers.retain(|barrier| barrier.sequence != left);
        } else {
            self.barriers.retain(|b| !b.is_over || b.sequence >= left || !b.names.is_subset(&own));
        }
    }
}

/// Actions under way.
#[derive(Default)]
pub struct Inflight {
    state: Mutex<State>,
}

impl Inflight {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The action under way with this id.
    pub fn find(&self, id: &str) -> Option<Arc<Entry>> {
        self.lock().by_id.get(id).cloned()
    }

    /// All actions under way, by arrival.
    pub fn all(&self) -> Vec<Arc<Entry>> {
        let mut all: Vec<_> = self.lock().by_id.values().cloned().collect();
        all.sort_by_key(|entry| entry.sequence);
        all
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.lock().by_id.len()
    }

    /// Enters an action under its id; gives the one that has it already. Of a recovery the workloads are known: no
    /// other normal action comes before it there.
    pub fn enter(&self, entry: &Arc<Entry>, recovery: Option<&Recovery>) -> Option<Arc<Entry>> {
        let mut state = self.lock();
        if let Some(found) = state.by_id.get(&entry.request.id) {
            return Some(Arc::clone(found));
        }
        state.by_id.insert(entry.request.id.clone(), Arc::clone(entry));
        match entry.request.verb.lane() {
            Lane::Normal => {
                let (names, is_recovery) = (own_names(entry), recovery.is_some());
                let workloads = recovery.map(|recovery| recovery.loaded().workloads).unwrap_or_default();
                let rank = rank(entry, is_recovery);
                let waiting =
                    Waiting { entry: Arc::clone(entry), rank, is_recovery, names, workloads, is_read: is_recovery };
                state.waiting.insert(entry.sequence, waiting);
            }
            Lane::Urgent => state.barriers.push(Barrier::of(entry)),
        }
        drop(state);
        self.sweep(entry);
        None
    }

    /// An urgent action's workloads are known: it ends what runs on them as well.
    pub fn widen(&self, entry: &Arc<Entry>, loaded: &Loaded) {
        if entry.request.verb.lane() == Lane::Normal {
            return;
        }
        let mut state = self.lock();
        let own = state.barriers.iter_mut().find(|barrier| barrier.sequence == entry.sequence);
        if let Some(barrier) = own {
            barrier.names.extend(loaded.names());
        }
        drop(state);
        self.sweep(entry);
    }

    /// The normal actions that were accepted before this one, do not run, and whose names are not all known.
    pub fn unread_before(&self, urgent: &Entry) -> Vec<Arc<Entry>> {
        let state = self.lock();
        let older = state.waiting.range(..urgent.sequence).map(|(_, waiting)| waiting);
        older.filter(|waiting| !waiting.is_read).map(|waiting| Arc::clone(&waiting.entry)).collect()
    }

    /// All names of an action that waits are known.
    pub fn learn(&self, entry: &Entry, names: BTreeSet<String>) {
        if let Some(waiting) = self.lock().waiting.get_mut(&entry.sequence) {
            waiting.names.extend(names);
            waiting.is_read = true;
        }
    }

    /// Cancels what runs or waits under the names of an urgent action; a kill ends the grace of a running stop.
    fn sweep(&self, entry: &Arc<Entry>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(barrier) = state.barriers.iter_mut().find(|barrier| barrier.sequence == entry.sequence) else {
            return;
        };
        let mut hit = Vec::new();
        for (running, names) in state.running.range(..entry.sequence).map(|(_, running)| running) {
            if barrier.covers(names) {
                hit.push(Arc::clone(running));
            }
        }
        for waiting in state.waiting.range(..entry.sequence).map(|(_, waiting)| waiting) {
            if !waiting.is_recovery && barrier.covers(&waiting.names) {
                barrier.ended.extend(waiting.names.iter().cloned());
                hit.push(Arc::clone(&waiting.entry));
            }
        }
        let (reason, ends_grace) = (barrier.reason(), barrier.ends_grace);
        drop(guard);
        // Hooks run outside the lock.
        for other in hit {
            match other.request.verb.lane() {
                Lane::Normal => other.token.cancel(&reason),
                Lane::Urgent if ends_grace => other.token.hasten(),
                Lane::Urgent => {}
            }
        }
    }

    /// Claims the workloads of a loaded job, or parks it.
    pub fn claim(&self, mut job: Job, loaded: Loaded) -> Claim {
        let mut state = self.lock();
        let names = loaded.names();
        let sequence = job.entry.sequence;
        let is_recovery = job.is_recovery();
        if !is_recovery && job.lane() == Lane::Normal {
            let over = state.barriers.iter_mut().find(|b| b.sequence > sequence && b.covers(&names));
            if let Some(barrier) = over {
                barrier.ended.extend(names);
                let reason = barrier.reason();
                return Claim::Superseded(Box::new(job), reason);
            }
        }
        if !is_recovery && job.entry.token.is_cancelled() {
            return Claim::Cancelled(Box::new(job));
        }
        if state.must_wait(&job, &names, &loaded.workloads) {
            if let Some(waiting) = state.waiting.get_mut(&sequence) {
                waiting.names.extend(names.iter().cloned());
                waiting.is_read = true;
                waiting.workloads.clone_from(&loaded.workloads);
            }
            state.parked.push(Parked { job, names, workloads: loaded.workloads });
            return Claim::Parked;
        }
        for workload in &loaded.workloads {
            state.claims.insert(workload.clone(), sequence);
        }
        state.waiting.remove(&sequence);
        // A kill that came while it was on its way here has found nothing to hasten.
        let is_hurried = job.lane() == Lane::Urgent
            && state.barriers.iter().any(|b| b.sequence > sequence && b.ends_grace && b.covers(&names));
        state.running.insert(sequence, (Arc::clone(&job.entry), names));
        let ended = state.barrier(sequence).map(|barrier| barrier.ended.clone()).unwrap_or_default();
        drop(state);
        if is_hurried {
            job.entry.token.hasten();
        }
        job.loaded = Some(Box::new(loaded));
        Claim::Granted(Box::new(job), ended)
    }

    /// An action that ran was cancelled by an urgent one: that one is not surprised to find nothing.
    pub fn note_superseded(&self, entry: &Entry) {
        let mut state = self.lock();
        let Some((_, names)) = state.running.get(&entry.sequence).cloned() else { return };
        for barrier in &mut state.barriers {
            if barrier.sequence > entry.sequence && barrier.covers(&names) {
                barrier.ended.extend(names.iter().cloned());
            }
        }
    }

    /// The action has ended, wherever it was: its claims are free. Gives the parked jobs whose turn it is now; they
    /// are to be queued again.
    pub fn leave(&self, entry: &Entry) -> Vec<Job> {
        let mut state = self.lock();
        if state.by_id.get(&entry.request.id).is_some_and(|found| found.sequence == entry.sequence) {
            state.by_id.remove(&entry.request.id);
        }
        state.claims.retain(|_, sequence| *sequence != entry.sequence);
        state.running.remove(&entry.sequence);
        state.waiting.remove(&entry.sequence);
        if let Some(own) = state.barriers.iter_mut().find(|barrier| barrier.sequence == entry.sequence) {
            own.is_over = true;
        }
        state.forget_barriers(entry.sequence);
        let parked = std::mem::take(&mut state.parked);
        let (kept, free): (Vec<_>, Vec<_>) =
            parked.into_iter().partition(|parked| state.must_wait(&parked.job, &parked.names, &parked.workloads));
        state.parked = kept;
        free.into_iter().map(|parked| parked.job).collect()
    }

    /// The deadline of a parked job that is over first.
    pub fn first_deadline_parked(&self) -> Option<Deadline> {
        self.lock().parked.iter().map(|parked| parked.job.entry.deadline).min()
    }

    /// Takes out the parked jobs for which `is_meant` holds.
    pub fn take_parked(&self, is_meant: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut state = self.lock();
        let (taken, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.parked).into_iter().partition(|parked| is_meant(&parked.job));
        state.parked = kept;
        taken.into_iter().map(|parked| parked.job).collect()
    }
}

#[cfg(test)]
mod tests;
