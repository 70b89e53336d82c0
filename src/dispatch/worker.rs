//! What a worker does with a job: load, claim, run, answer. Also the shared state that workers and front end meet in.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::alarm::Alarm;
use super::ended::EndedIds;
use super::entry::Entry;
use super::inflight::{Claim, Inflight};
use super::lanes::{Job, Lanes, Refusal, Work};
use super::recoveries::{Retry, waits_for_recovery};
use super::shares::ShareOf;
use crate::action::{Act, Context, Loaded, PhaseClock, Recovered, Recovery, SUPERSEDED, refused};
use crate::clock::{Clock, Deadline};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, ActionState, Lane, Outcome};

/// After an action has ended the janitor looks what is to be recorded or forgotten; not more often than this.
const AFTER_AN_END: Duration = Duration::from_secs(1);

/// How long a worker that was called for urgent jobs waits for another one before it ends.
const HELPERS_PATIENCE: Duration = Duration::from_secs(10);

/// The time that recording a refusal has.
const RECORD_BUDGET: Duration = Duration::from_secs(5);

/// Waiting documents up to this size are read to see whether an urgent action is about them, bytes; larger ones only
/// where its name stands in them.
const READ_ANYWAY: usize = 64 * 1024;

/// The time of an action that gives none, and the most that one may give.
#[derive(Debug, Clone, Copy)]
pub struct Budgets {
    /// Where none is given.
    pub default: Duration,
    /// At most.
    pub most: Duration,
}

/// What workers, front end and janitor share.
pub struct Shared {
    /// What actions mean.
    pub act: Arc<dyn Act>,
    /// The queues.
    pub lanes: Lanes,
    /// What is under way.
    pub inflight: Inflight,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Times of actions.
    pub budgets: Mutex<Budgets>,
    /// Recoveries that wait for their next try.
    pub retries: Mutex<Vec<Retry>>,
    /// Recoveries that an action on their workloads tries before it begins.
    pub(super) tried_first: Mutex<Vec<Recovery>>,
    /// Wakes the janitor for what waits: brought forward after each change of `lanes`, `inflight` and `retries`.
    pub alarm: Alarm,
    /// Told that an action has ended.
    pub on_end: Option<Arc<dyn Fn() + Send + Sync>>,
    /// The ids of ended actions.
    pub ended: EndedIds,
    sequence: AtomicU64,
}

impl Shared {
    /// The state of a dispatcher that has not begun.
    pub fn new(act: Arc<dyn Act>, lanes: Lanes, clock: Arc<dyn Clock>, budgets: Budgets) -> Self {
        Self {
            act,
            lanes,
            inflight: Inflight::default(),
            clock,
            budgets: Mutex::new(budgets),
            retries: Mutex::default(),
            tried_first: Mutex::default(),
            alarm: Alarm::new(),
            on_end: None,
            ended: EndedIds::default(),
            sequence: AtomicU64::new(1),
        }
    }

    /// Notes that an action of this id has ended.
    pub fn note_ended(&self, id: &str) {
        self.ended.note(id);
        self.alarm.no_later_than(Instant::now() + AFTER_AN_END);
    }

    /// An entry for a request, accepted now.
    pub fn entry(&self, request: ActionRequest) -> Entry {
        let budgets = *self.budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let budget = request.deadline_ms.map_or(budgets.default, Duration::from_millis).min(budgets.most);
        let fingerprint = crate::action::fingerprint(&request);
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        Entry::new(request, fingerprint, sequence, self.clock.now_ms(), budget)
    }

    fn check_deadline(&self, request: &ActionRequest) -> Result<()> {
        let most = self.budgets.lock().unwrap_or_else(PoisonError::into_inner).most;
        if request.deadline_ms.is_none_or(|asked| Duration::from_millis(asked) <= most) {
            return Ok(());
        }
        let message = format!("an action's time is at most {} ms on this node", most.as_millis());
        Err(Error::invalid("action.deadline_ms", message)
            .hint("actions.max_deadline of the daemon's settings bounds it"))
    }

    /// Accepts a request: a new action in its lane, or the one that runs under its id with an equal request.
    pub fn submit(&self, request: ActionRequest) -> Result<Arc<Entry>> {
        self.submit_with(request, None)
    }

    /// As [`Shared::submit`], with what the action concerns where that is read already.
    pub(super) fn submit_with(&self, request: ActionRequest, loaded: Option<Loaded>) -> Result<Arc<Entry>> {
        self.check_deadline(&request)?;
        let lane = request.verb.lane();
        if let Some(running) = self.inflight.find(&request.id) {
            return attach(&running, &crate::action::fingerprint(&request));
        }
        if let Some(waiting) = self.waiting_recovery(&request.id) {
            return Err(waits_for_recovery(&waiting));
        }
        self.lanes.reserve(lane).map_err(|refusal| refusal_error(refusal, lane))?;
        let mut entry = self.entry(request);
        entry.loaded = loaded.map(Box::new);
        let entry = Arc::new(entry);
        if let Some(running) = self.inflight.enter(&entry, None) {
            self.lanes.give_back(lane);
            return attach(&running, &entry.fingerprint);
        }
        self.wake_for_superseded(lane);
        let job = Job { entry: Arc::clone(&entry), work: Work::Run, loaded: None, share: ShareOf::default() };
        if let Err(job) = self.queue(job) {
            self.refuse(job, &refusal_error(Refusal::Stopping, lane));
        }
        Ok(entry)
    }

    pub(super) fn queue(&self, job: Job) -> std::result::Result<(), Job> {
        let entry = Arc::clone(&job.entry);
        self.lanes.put(job)?;
        // Cancelled on its way here: whoever cancelled it has not found it.
        let is_cancelled = entry.token.is_cancelled();
        self.alarm.no_later_than(if is_cancelled { Instant::now() } else { entry.deadline.instant() });
        Ok(())
    }

    /// What waits and was cancelled by an urgent action is answered now, and not when a worker comes to it.
    fn wake_for_superseded(&self, lane: Lane) {
        if lane == Lane::Urgent {
            self.alarm.no_later_than(Instant::now());
        }
    }

    /// When the first deadline of what waits is over, or the first recovery is to be tried again.
    pub fn next_due(&self) -> Option<Instant> {
        let waiting = [self.lanes.first_deadline(), self.inflight.first_deadline_parked()];
        let waiting = waiting.into_iter().flatten().map(|deadline| deadline.instant()).min();
        let retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.into_iter().chain(retries.iter().map(|retry| retry.at)).min()
    }

    /// Takes jobs until the lanes are closed.
    pub fn work(&self, urgent_only: bool) {
        self.work_off(|| self.lanes.next(urgent_only));
    }

    /// Takes urgent jobs until none has come for a while.
    pub fn help(&self) {
        self.work_off(|| self.lanes.next_urgent_within(HELPERS_PATIENCE));
    }

    fn work_off(&self, next: impl Fn() -> Option<Job>) {
        while let Some(job) = next() {
            let entry = Arc::clone(&job.entry);
            if catch_unwind(AssertUnwindSafe(|| self.handle(job))).is_err() {
                log::error!("a worker met a fault with action '{}'", entry.request.id);
                self.leave(&entry);
                entry.end(lost(&entry));
            }
        }
    }

    fn handle(&self, mut job: Job) {
        let mut share = self.lanes.take_share(&mut job);
        let entry = Arc::clone(&job.entry);
        if !job.is_recovery() {
            if let Some(error) = ended_early(&entry) {
                return self.refuse(job, &error);
            }
            if let Some(outcome) = self.ended_before(&entry) {
                return self.settle(&job, outcome);
            }
        }
        let loaded = match &job.work {
            Work::Recover(recovery) => Ok(recovery.loaded()),
            Work::Run => self.load(&entry),
        };
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => return self.refuse(job, &error),
        };
        let lane = job.lane();
        entry.resolved(&loaded.target);
        if share.is_none()
            && lane == Lane::Normal
            && let Some(engine) = self.act.engine_of(&entry.request, &loaded)
        {
            // Where its engine has all the workers that it may have, the job waits and this one is for others.
            let Some((shared_job, its_share)) = self.lanes.share_or_wait(job, engine) else { return };
            (job, share) = (shared_job, Some(its_share));
        }
        if job.lane() == Lane::Urgent {
            self.read_waiting(&entry, &loaded);
        }
        self.inflight.widen(&entry, &loaded);
        self.wake_for_superseded(lane);
        match self.inflight.claim(job, loaded) {
            Claim::Granted(job, superseded) => self.run(*job, superseded),
            Claim::Superseded(job, reason) => self.refuse(*job, &cancelled_early(&reason)),
            Claim::Cancelled(job) => self.refuse(*job, &cancelled_early(&entry.token.reason())),
            Claim::Parked => self.alarm.no_later_than(entry.deadline.instant()),
        }
        drop(share);
    }

    /// Reads the documents of older launches that wait, for the names in them: what an urgent action ends has to be
    /// known before it looks for its workloads.
    fn read_waiting(&self, urgent: &Entry, loaded: &Loaded) {
        let sought = loaded.names();
        for older in self.inflight.unread_before(urgent) {
            let manifest = &older.request.manifest;
            let is_large = manifest.len() > READ_ANYWAY;
            if is_large && !sought.iter().any(|name| manifest.contains(name.as_str())) {
                continue;
            }
            let load = || self.act.load(&older.request, urgent.deadline);
            // What cannot be read is refused for that when its turn comes.
            if let Ok(Ok(found)) = catch_unwind(AssertUnwindSafe(load)) {
                self.inflight.learn(&older, found.names());
            }
        }
    }

    /// The outcome of an action whose id had an outcome when it was accepted, or got one in that very moment: the
    /// stored one, or that the id belongs to another request. Nothing is recorded for it.
    fn ended_before(&self, entry: &Entry) -> Option<Outcome> {
        let (request, id) = (&entry.request, &entry.request.id);
        if !self.ended.may_have(id) {
            return None;
        }
        let stored = match self.act.stored(id, entry.deadline.at_most(RECORD_BUDGET)) {
            Ok(stored) => stored?,
            // What ends things goes on without the store; to do it twice changes nothing.
            Err(_) if request.verb.lane() == Lane::Urgent => return None,
            Err(error) => return Some(refused(request, "", &error, entry.accepted_ms)),
        };
        if stored.fingerprint == entry.fingerprint {
            return Some(stored.outcome);
        }
        Some(refused(request, "", &reused(id), entry.accepted_ms))
    }

    fn load(&self, entry: &Entry) -> Result<Loaded> {
        if let Some(loaded) = &entry.loaded {
            return Ok(loaded.as_ref().clone());
        }
        let load = || self.act.load(&entry.request, entry.deadline);
        catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| Err(panicked(entry)))
    }

    fn run(&self, mut job: Job, superseded: BTreeSet<String>) {
        if !job.is_recovery() {
            self.lanes.give_back(job.lane());
        }
        let entry = Arc::clone(&job.entry);
        let mut loaded = job.loaded.take().map(|loaded| *loaded).unwrap_or_default();
        let mut phases = PhaseClock::since(entry.accepted);
        phases.lap(crate::action::phases::Phase::Queue);
        let context = Context {
            deadline: entry.deadline,
            cancel: &entry.token,
            reporter: entry.as_ref(),
            phases,
            accepted_ms: entry.accepted_ms,
            superseded,
        };
        match &job.work {
            Work::Run => {
                let run = || match self.recover_first(&entry, &mut loaded, context.superseded.clone()) {
                    Ok(superseded) => self.act.run(&entry.request, &loaded, Context { superseded, ..context }),
                    Err(error) => {
                        let mut outcome = refused(&entry.request, &loaded.target, &error, entry.accepted_ms);
                        self.act.record(&entry.request, &mut outcome, Deadline::after(RECORD_BUDGET));
                        outcome
                    }
                };
                let outcome = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| lost(&entry));
                self.retry_repairs();
                self.answer(&entry, outcome);
            }
            Work::Recover(recovery) => {
                let recover = || self.act.recover(recovery, context);
                let recovered = catch_unwind(AssertUnwindSafe(recover));
                self.recovered(
                    &entry,
                    recovery,
                    recovered.unwrap_or_else(|_| Recovered::Later { error: panicked(&entry), rest: None }),
                );
            }
        }
    }

    /// The outcome of an action that ran goes to everyone who waits for it.
    pub(super) fn answer(&self, entry: &Arc<Entry>, outcome: Outcome) {
        log_outcome(&outcome);
        if entry.token.is_cancelled() {
            self.inflight.note_superseded(entry);
        }
        // A trigger that had nothing to do is not recorded: nobody knows its id, and there are many.
        if entry.loaded.is_none() || !outcome.is_nothing() {
            self.note_ended(&entry.request.id);
        }
        self.leave(entry);
        entry.end(outcome);
        if let Some(on_end) = &self.on_end {
            on_end();
        }
    }

    /// Ends an action that never ran: recorded, answered, its place given back.
    pub fn refuse(&self, job: Job, error: &Error) {
        let entry = Arc::clone(&job.entry);
        let target = entry.view().target;
        let mut outcome = refused(&entry.request, &target, error, entry.accepted_ms);
        let mut phases = PhaseClock::since(entry.accepted);
        phases.lap(crate::action::phases::Phase::Queue);
        outcome.phases = phases.phases();
        // A recovery that does not get its turn is tried again; its record is there until it is over.
        if let Work::Recover(recovery) = &job.work
            && error.code != ErrorCode::Stopping
        {
            self.retry_later(recovery.as_ref().clone());
        }
        // What was never begun by this daemon is left to its next start.
        if !job.is_recovery() && error.code != ErrorCode::Stopping {
            let record = || self.act.record(&entry.request, &mut outcome, Deadline::after(RECORD_BUDGET));
            if catch_unwind(AssertUnwindSafe(record)).is_err() {
                log::error!("recording the refusal of action '{}' panicked", entry.request.id);
            }
            self.note_ended(&entry.request.id);
        }
        phases.lap(crate::action::phases::Phase::Store);
        outcome.phases = phases.phases();
        log_outcome(&outcome);
        self.settle(&job, outcome);
    }

    /// Gives back the place of an action that never ran, and its outcome to everyone who waits for it.
    fn settle(&self, job: &Job, outcome: Outcome) {
        if !job.is_recovery() {
            self.lanes.give_back(job.lane());
        }
        self.leave(&job.entry);
        job.entry.end(outcome);
    }

    /// Answers queued and parked actions that were cancelled or whose time is over. Recoveries are neither.
    pub fn end_overdue(&self) {
        let is_meant =
            |job: &Job| !job.is_recovery() && (job.entry.token.is_cancelled() || job.entry.deadline.is_over());
        let mut overdue = self.lanes.take(is_meant);
        overdue.extend(self.inflight.take_parked(is_meant));
        for job in overdue {
            let error = ended_early(&job.entry).unwrap_or_else(|| panicked(&job.entry));
            self.refuse(job, &error);
        }
    }

    pub(super) fn leave(&self, entry: &Entry) {
        for parked in self.inflight.leave(entry) {
            self.requeue(parked);
        }
    }

    fn requeue(&self, job: Job) {
        let lane = job.lane();
        if let Err(job) = self.queue(job) {
            self.refuse(job, &refusal_error(Refusal::Stopping, lane));
        }
    }
}

fn attach(running: &Arc<Entry>, fingerprint: &str) -> Result<Arc<Entry>> {
    if running.fingerprint == fingerprint {
        return Ok(Arc::clone(running));
    }
    Err(reused(&running.request.id))
}

/// The refusal of an id that belongs to another request.
pub fn reused(id: &str) -> Error {
    let message = format!("action id '{id}' belongs to another request");
    Error::new(ErrorKind::AlreadyExists, ErrorCode::ActionIdReused, message)
        .at("action.action_id")
        .hint("give every new request its own id")
}

/// The refusal of an action that no lane takes.
pub fn refusal_error(refusal: Refusal, lane: Lane) -> Error {
    match refusal {
        Refusal::Full { bound } => {
            let lane = if lane == Lane::Urgent { "urgent" } else { "normal" };
            let message = format!("the {lane} queue is full with {bound} actions");
            Error::new(ErrorKind::ResourceExhausted, ErrorCode::QueueFull, message)
                .hint("try again later; dispatch.normal_queue and dispatch.urgent_queue set the bounds")
        }
        Refusal::Stopping => {
            Error::new(ErrorKind::Unavailable, ErrorCode::Stopping, "the Action Controller is stopping")
        }
    }
}

/// Why an action that has not begun shall not begin.
fn ended_early(entry: &Entry) -> Option<Error> {
    if entry.token.is_cancelled() {
        return Some(cancelled_early(&entry.token.reason()));
    }
    entry.deadline.is_over().then(|| {
        let message = "the action's deadline passed before it began";
        Error::new(ErrorKind::DeadlineExceeded, ErrorCode::DeadlineExceeded, message).at("action.deadline_ms")
    })
}

fn cancelled_early(reason: &str) -> Error {
    let code = if reason.starts_with(SUPERSEDED) { ErrorCode::Superseded } else { ErrorCode::Cancelled };
    Error::new(ErrorKind::Cancelled, code, format!("cancelled before it began: {reason}"))
}

fn panicked(entry: &Entry) -> Error {
    Error::internal(format!("action '{}' met a fault in this daemon", entry.request.id))
}

/// The outcome of an action whose run panicked: its record is there, so the next start ends it.
pub(super) fn lost(entry: &Entry) -> Outcome {
    let mut outcome = refused(&entry.request, "", &panicked(entry), entry.accepted_ms);
    outcome.state = ActionState::Failed;
    outcome.left.push("what was begun is ended at the next start of the daemon".to_owned());
    outcome
}

fn log_outcome(outcome: &Outcome) {
    let millis = outcome.phases.total_us / 1000;
    let (verb, id, target) = (outcome.verb, &outcome.action_id, &outcome.target);
    match &outcome.failure {
        None => log::info!("action '{id}' {verb} '{target}' succeeded in {millis} ms, changed: {}", outcome.changed),
        Some(failure) => {
            log::warn!(
                "action '{id}' {verb} '{target}' ended after {millis} ms: {} ({})",
                failure.message,
                failure.code
            );
        }
    }
}

#[cfg(test)]
mod tests;
