//! Recoveries on their way: what a crash or a failed undo left is queued like an action, tried again while its engine
//! or the store is away, and ended before anything new happens to its workloads.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::entry::Entry;
use super::lanes::{Job, Work};
use super::shares::ShareOf;
use super::worker::{Shared, lost};
use crate::action::{Context, Loaded, PhaseClock, Recovered, Recovery, refused};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionState, Lane};

/// Between two tries to recover, at least and at most.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// A recovery that waits for its next try.
pub struct Retry {
    /// When.
    pub at: Instant,
    /// What.
    pub recovery: Recovery,
}

/// Recoveries that are tried before an action, until their ends are stored or they wait again.
struct TriedFirst<'a> {
    shared: &'a Shared,
    ids: BTreeSet<String>,
}

impl Drop for TriedFirst<'_> {
    fn drop(&mut self) {
        let mut tried = self.shared.tried_first.lock().unwrap_or_else(PoisonError::into_inner);
        tried.retain(|recovery| !self.ids.contains(&recovery.intent.request.id));
    }
}

impl Shared {
    /// Queues what a crash or a failed undo left; not bound by the lanes' bounds.
    pub fn submit_recovery(&self, recovery: Recovery) {
        let mut request = recovery.intent.request.clone();
        if recovery.is_repair {
            // No caller can choose an id with a '/'.
            request.id = format!("repair/{}", request.id);
        }
        // Its own deadline was that of the first try.
        request.deadline_ms = None;
        let mut entry = self.entry(request);
        // Whoever repeats the request is given this one's outcome.
        entry.fingerprint = crate::action::fingerprint(&recovery.intent.request);
        let entry = Arc::new(entry);
        if self.inflight.enter(&entry, Some(&recovery)).is_some() {
            log::error!("action '{}' is under way and cannot be recovered beside", entry.request.id);
            return;
        }
        let work = Work::Recover(Box::new(recovery));
        if let Err(job) = self.queue(Job { entry, work, loaded: None, share: ShareOf::default() }) {
            // The daemon is stopping: the record is there for its next start.
            self.leave(&job.entry);
        }
    }

    /// What the last actions could not undo, or what is to be looked at again, is tried later.
    pub(super) fn retry_repairs(&self) {
        self.act.take_repairs().into_iter().for_each(|repair| self.retry_later(repair));
    }

    /// What an earlier action left undecided on these workloads is ended before a new one looks at them. Where that is
    /// not possible yet, what ends things goes on all the same; everything else is refused, of a partial action the workloads
    /// concerned alone. Gives the workloads whose
    /// launch is ended with that.
    pub(super) fn recover_first(
        &self,
        entry: &Arc<Entry>,
        loaded: &mut Loaded,
        ended: BTreeSet<String>,
    ) -> Result<BTreeSet<String>> {
        let mut superseded = ended;
        let taken = self.take_retries(&loaded.workloads);
        let ids = taken.iter().map(|recovery| recovery.intent.request.id.clone()).collect();
        let _tried = TriedFirst { shared: self, ids };
        let mut taken = taken.into_iter();
        while let Some(recovery) = taken.next() {
            let context = Context {
                deadline: entry.deadline,
                cancel: &entry.token,
                reporter: &crate::action::Silent,
                phases: PhaseClock::since(Instant::now()),
                accepted_ms: recovery.intent.accepted_ms,
                superseded: BTreeSet::new(),
            };
            match self.act.recover(&recovery, context) {
                Recovered::Ended(outcome) => {
                    if !recovery.is_repair {
                        superseded.extend(recovery.loaded().names());
                    }
                    log::info!("action '{}' was recovered before '{}'", recovery.intent.request.id, entry.request.id);
                    outcome.iter().for_each(|outcome| self.note_ended(&outcome.action_id));
                }
                Recovered::Later { error, rest } => {
                    let recovery = recovery.with_rest(rest);
                    let refusal = waits_for_recovery(&recovery);
                    let refusal = Error { message: format!("{}: {error}", refusal.message), ..refusal };
                    let concerned = recovery.loaded().workloads;
                    self.retry_later(recovery);
                    if entry.request.verb.lane() == Lane::Urgent {
                        continue;
                    }
                    if !entry.request.parameters.partial {
                        // The others wait on as they did.
                        taken.for_each(|recovery| self.retry_later(recovery));
                        return Err(refusal);
                    }
                    // Each workload counts by itself: the others go on.
                    let concerned = concerned.iter().filter(|name| loaded.workloads.contains(name));
                    for name in concerned.cloned().collect::<Vec<_>>() {
                        loaded.block(&name, refusal.clone());
                    }
                }
            }
        }
        Ok(superseded)
    }

    /// Takes out the recoveries that wait for their next try and concern one of these workloads.
    pub(super) fn take_retries(&self, workloads: &[String]) -> Vec<Recovery> {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let concerns = |retry: &Retry| retry.recovery.loaded().workloads.iter().any(|name| workloads.contains(name));
        let (taken, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut *retries).into_iter().partition(concerns);
        *retries = kept;
        let taken: Vec<_> = taken.into_iter().map(|retry| retry.recovery).collect();
        // Still under the lock: at no time is one told to be unknown.
        self.tried_first.lock().unwrap_or_else(PoisonError::into_inner).extend(taken.iter().cloned());
        taken
    }

    /// The interrupted action of this id, where it waits for its next try, or another action tries it first.
    pub fn waiting_recovery(&self, id: &str) -> Option<Recovery> {
        let retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let tried = self.tried_first.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |recovery: &&Recovery| !recovery.is_repair && recovery.intent.request.id == id;
        retries.iter().map(|retry| &retry.recovery).chain(&*tried).find(is_it).cloned()
    }

    pub(super) fn recovered(&self, entry: &Arc<Entry>, recovery: &Recovery, recovered: Recovered) {
        self.retry_repairs();
        match recovered {
            Recovered::Ended(Some(outcome)) => {
                log::info!("action '{}' was {} after a restart", outcome.action_id, outcome.recovered);
                self.answer(entry, *outcome);
            }
            Recovered::Ended(None) => {
                log::info!("what action '{}' had left is undone", recovery.intent.request.id);
                let mut outcome = lost(entry);
                (outcome.state, outcome.failure, outcome.recovered) =
                    (ActionState::Succeeded, None, "undone".to_owned());
                outcome.message = format!("what action '{}' had left is undone", recovery.intent.request.id);
                self.leave(entry);
                entry.end(outcome);
            }
            Recovered::Later { error, rest } => {
                log::warn!("action '{}' cannot be recovered yet: {error}", recovery.intent.request.id);
                // First there, then gone from here: at no time is its id free for another action.
                self.retry_later(recovery.clone().with_rest(rest));
                self.leave(entry);
                entry.end(refused(&entry.request, "", &error, entry.accepted_ms));
            }
        }
    }

    /// How many recoveries wait for their next try.
    pub fn retries_waiting(&self) -> usize {
        self.retries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(super) fn retry_later(&self, recovery: Recovery) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = RETRY.0.saturating_mul(1 << recovery.tries.min(5)).min(RETRY.1);
        let recovery = Recovery { tries: recovery.tries.saturating_add(1), ..recovery };
        let at = Instant::now() + wait;
        retries.push(Retry { at, recovery });
        drop(retries);
        self.alarm.no_later_than(at);
    }

    /// Queues the recoveries whose time has come.
    pub fn retry_due(&self) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut *retries).into_iter().partition(|retry| retry.at <= now);
        *retries = later;
        // Still under the lock: at no time is the id of one free for another action.
        for retry in due {
            self.submit_recovery(retry.recovery);
        }
    }
}

/// The refusal of what cannot go on before an interrupted action is ended.
pub(super) fn waits_for_recovery(recovery: &Recovery) -> Error {
    let request = &recovery.intent.request;
    let message = format!("the interrupted {} '{}' waits for its runtime or the store", request.verb, request.id);
    Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, message)
        .hint("it is ended as soon as they answer; try again then")
}
