//! [`Lanes`]: the two bounded queues. Urgent actions in the order of their arrival; normal ones by kind (update before
//! launch), then the caller's priority, then arrival.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, after, bounded, never, select, unbounded};

use super::entry::Entry;
use super::shares::{Share, ShareOf, Taken};
use crate::action::{Loaded, Recovery, refused};
use crate::clock::Deadline;
use crate::error::Error;
use crate::model::action::{ActionState, Lane, Verb};

/// What a worker is to do with an entry.
#[derive(Debug, Clone)]
pub enum Work {
    /// Run the action.
    Run,
    /// End what a crash or a failed undo left.
    Recover(Box<Recovery>),
}

/// An accepted action on its way to a worker. One that is dropped on the way is answered all the same.
pub struct Job {
    /// The action.
    pub entry: Arc<Entry>,
    /// What to do with it.
    pub work: Work,
    /// Its documents, once they are loaded.
    pub loaded: Option<Box<Loaded>>,
    /// Its share of its engine.
    pub share: ShareOf,
}

impl Job {
    /// The lane that it waits in.
    pub fn lane(&self) -> Lane {
        self.entry.request.verb.lane()
    }

    /// Whether it ends what a crash or a failed undo left: such a job is never refused, only tried again.
    pub fn is_recovery(&self) -> bool {
        matches!(self.work, Work::Recover(_))
    }

    fn rank(&self) -> Rank {
        rank(&self.entry, self.is_recovery())
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if self.entry.is_ended() {
            return;
        }
        let error = Error::internal(format!("action '{}' was lost by its worker", self.entry.request.id));
        let mut outcome = refused(&self.entry.request, "", &error, self.entry.accepted_ms);
        outcome.state = ActionState::Failed;
        // Only counts where nobody answered before.
        self.entry.end(outcome);
    }
}

/// What goes first: kind, priority, arrival.
pub type Rank = (u8, i64, u64);

/// An action's rank among normal ones.
pub fn rank(entry: &Entry, is_recovery: bool) -> Rank {
    let is_first = entry.request.verb == Verb::Update || is_recovery;
    (u8::from(!is_first), -i64::from(entry.request.priority), entry.sequence)
}

/// Why an action is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The lane holds as many as it may.
    Full {
        /// Its bound.
        bound: usize,
    },
    /// The daemon is stopping.
    Stopping,
}

#[derive(Default)]
struct Waiting {
    urgent: BTreeMap<u64, Job>,
    normal: BTreeMap<Rank, Job>,
    /// Accepted and not yet running, the parked ones too.
    urgent_places: usize,
    normal_places: usize,
    shares: Taken,
    is_closed: bool,
}

/// A channel that carries one token for each job of a lane, by which idle workers are woken.
struct Tokens {
    sender: Sender<()>,
    receiver: Receiver<()>,
}

impl Tokens {
    fn new() -> Self {
        let (sender, receiver) = unbounded();
        Self { sender, receiver }
    }

    fn put(&self) {
        // Both ends live as long as the lanes.
        let _ = self.sender.send(());
    }

    /// Takes a token back for a job that was taken out, so that they do not pile up while every worker is busy. Any
    /// token will do: at least one is left for each job that is left, in the channel or in a worker's hand.
    fn take_back(&self) {
        let _ = self.receiver.try_recv();
    }
}

/// The two queues.
pub struct Lanes {
    waiting: Mutex<Waiting>,
    urgent: Tokens,
    normal: Tokens,
    urgent_bound: usize,
    normal_bound: usize,
    open: Mutex<Option<Sender<Infallible>>>,
    closed: Receiver<Infallible>,
    /// Workers that wait for a job.
    idle: AtomicUsize,
    /// Has one more worker come for urgent jobs.
    call_helper: OnceLock<CallHelper>,
    /// How many workers normal jobs of one engine have at most.
    most_of_an_engine: usize,
}

/// Has one more worker come, where there may be more. Does not block.
pub type CallHelper = Box<dyn Fn() + Send + Sync>;

impl Lanes {
    /// Lanes that hold so many actions each, with so many workers at most for normal ones of one engine.
    pub fn new(urgent_bound: usize, normal_bound: usize, most_of_an_engine: usize) -> Self {
        let (open, closed) = bounded(0);
        Self {
            waiting: Mutex::default(),
            urgent: Tokens::new(),
            normal: Tokens::new(),
            urgent_bound,
            normal_bound,
            open: Mutex::new(Some(open)),
            closed,
            idle: AtomicUsize::new(0),
            call_helper: OnceLock::new(),
            most_of_an_engine,
        }
    }

    /// What is called where more urgent jobs wait than workers are idle. The first one counts.
    pub fn set_helper(&self, call_helper: CallHelper) {
        let _ = self.call_helper.set(call_helper);
    }

    fn call_helper_where_short(&self, urgent_waiting: usize) {
        if urgent_waiting > self.idle.load(Ordering::SeqCst)
            && let Some(call_helper) = self.call_helper.get()
        {
            call_helper();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic runs under this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a place in a lane, to be filled by [`Lanes::put`].
    pub fn reserve(&self, lane: Lane) -> Result<(), Refusal> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(Refusal::Stopping);
        }
        let (places, bound) = match lane {
            Lane::Urgent => (&mut waiting.urgent_places, self.urgent_bound),
            Lane::Normal => (&mut waiting.normal_places, self.normal_bound),
        };
        if *places >= bound {
            return Err(Refusal::Full { bound });
        }
        *places += 1;
        Ok(())
    }

    /// Gives a place back: its action runs, was attached to another, or has ended.
    pub fn give_back(&self, lane: Lane) {
        let mut waiting = self.lock();
        let places = match lane {
            Lane::Urgent => &mut waiting.urgent_places,
            Lane::Normal => &mut waiting.normal_places,
        };
        *places = places.saturating_sub(1);
    }

    /// Queues a job that has its place; also one that was parked. Hands it back when the daemon is stopping.
    pub fn put(&self, job: Job) -> Result<(), Job> {
        let mut waiting = self.lock();
        if waiting.is_closed {
            return Err(job);
        }
        match job.lane() {
            Lane::Urgent => {
                waiting.urgent.insert(job.entry.sequence, job);
                let urgent_waiting = waiting.urgent.len();
                drop(waiting);
                self.urgent.put();
                self.call_helper_where_short(urgent_waiting);
            }
            Lane::Normal => {
                waiting.normal.insert(job.rank(), job);
                drop(waiting);
                self.normal.put();
            }
        }
        Ok(())
    }

    /// Blocks for the next job, urgent before normal; `None` when the lanes are closed.
    pub fn next(&self, urgent_only: bool) -> Option<Job> {
        let nothing = never();
        self.take_next(if urgent_only { &nothing } else { &self.normal.receiver }, &never())
    }

    /// Blocks for the next urgent job, at most for `patience`; `None` also when the lanes are closed.
    pub fn next_urgent_within(&self, patience: Duration) -> Option<Job> {
        self.take_next(&never(), &after(patience))
    }

    fn take_next(&self, normal: &Receiver<()>, until: &Receiver<Instant>) -> Option<Job> {
        self.idle.fetch_add(1, Ordering::SeqCst);
        let job = self.await_next(normal, until);
        self.idle.fetch_sub(1, Ordering::SeqCst);
        // Whoever put an urgent job may have counted on this worker, which has another job now.
        let urgent_waiting = self.lock().urgent.len();
        self.call_helper_where_short(urgent_waiting);
        job
    }

    fn await_next(&self, normal: &Receiver<()>, until: &Receiver<Instant>) -> Option<Job> {
        loop {
            let job = if self.urgent.receiver.try_recv().is_ok() {
                self.lock().urgent.pop_first().map(|(_, job)| job)
            } else {
                select! {
                    recv(self.urgent.receiver) -> _ => self.lock().urgent.pop_first().map(|(_, job)| job),
                    recv(normal) -> _ => self.pop_normal(),
                    recv(until) -> _ => return None,
                    recv(self.closed) -> _ => return None,
                }
            };
            // A token without a job: it was taken out of the queue meanwhile.
            if job.is_some() {
                return job;
            }
        }
    }

    /// The first normal job whose engine, if it is known, has a share left, which is taken for it.
    fn pop_normal(&self) -> Option<Job> {
        let mut waiting = self.lock();
        let Waiting { normal, shares, .. } = &mut *waiting;
        let mut first = None;
        for (rank, job) in normal.iter_mut().filter(|(_, job)| !job.share.waits) {
            match &job.share.engine {
                Some(engine) if !shares.take(engine, self.most_of_an_engine) => job.share.waits = true,
                engine => {
                    job.share.is_held = engine.is_some();
                    first = Some(*rank);
                    break;
                }
            }
        }
        normal.remove(&first?)
    }

    /// The share that was taken for the job when it was handed out.
    pub fn take_share(&self, job: &mut Job) -> Option<Share<'_>> {
        let is_held = std::mem::take(&mut job.share.is_held);
        let engine = job.share.engine.clone().filter(|_| is_held)?;
        Some(Share::counted(self, engine))
    }

    /// Takes a share of the engine for the job. Where none is left the job is queued again, until one is.
    pub fn share_or_wait(&self, mut job: Job, engine: String) -> Option<(Job, Share<'_>)> {
        let mut waiting = self.lock();
        job.share.engine = Some(engine.clone());
        // At the end of the daemon nothing is queued any more: what a worker has it carries out.
        let most = if waiting.is_closed { usize::MAX } else { self.most_of_an_engine };
        if waiting.shares.take(&engine, most) {
            return Some((job, Share::counted(self, engine)));
        }
        job.share.waits = true;
        waiting.normal.insert(job.rank(), job);
        None
    }

    /// Lets the first job that waits for a share of the engine be handed out.
    pub(super) fn give_share_back(&self, engine: &str) {
        let mut waiting = self.lock();
        waiting.shares.give_back(engine);
        let is_its = |job: &&mut Job| job.share.waits && job.share.engine.as_deref() == Some(engine);
        let Some(job) = waiting.normal.values_mut().find(is_its) else { return };
        job.share.waits = false;
        drop(waiting);
        self.normal.put();
    }

    /// Takes out the queued jobs for which `is_meant` holds. Their places stay taken.
    pub fn take(&self, is_meant: impl Fn(&Job) -> bool) -> Vec<Job> {
        let mut waiting = self.lock();
        let mut taken = Vec::new();
        let urgent: Vec<_> = waiting.urgent.iter().filter(|(_, job)| is_meant(job)).map(|(key, _)| *key).collect();
        for key in urgent {
            taken.extend(waiting.urgent.remove(&key));
            self.urgent.take_back();
        }
        let normal: Vec<_> = waiting.normal.iter().filter(|(_, job)| is_meant(job)).map(|(key, _)| *key).collect();
        for key in normal {
            let job = waiting.normal.remove(&key);
            if job.as_ref().is_some_and(|job| !job.share.waits) {
                self.normal.take_back();
            }
            taken.extend(job);
        }
        taken
    }

    /// The deadline of a queued job that is over first.
    pub fn first_deadline(&self) -> Option<Deadline> {
        let waiting = self.lock();
        waiting.urgent.values().chain(waiting.normal.values()).map(|job| job.entry.deadline).min()
    }

    /// Nothing more is taken, and workers end once they are idle. Gives what was queued.
    pub fn close(&self) -> Vec<Job> {
        self.lock().is_closed = true;
        let queued = self.take(|_| true);
        drop(self.open.lock().unwrap_or_else(PoisonError::into_inner).take());
        queued
    }

    /// Whether requests are taken.
    pub fn is_open(&self) -> bool {
        !self.lock().is_closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::double::{entry, request};
    use crate::model::action::ActionRequest;

    fn job(sequence: u64, verb: Verb, priority: i32) -> Job {
        let request = ActionRequest { priority, ..request(&format!("a{sequence}"), verb, "w") };
        super::super::double::job(&entry(sequence, request))
    }

    fn put(lanes: &Lanes, job: Job) {
        lanes.reserve(job.lane()).unwrap();
        assert!(lanes.put(job).is_ok());
    }

    fn next_id(lanes: &Lanes, urgent_only: bool) -> String {
        lanes.next(urgent_only).unwrap().entry.request.id.clone()
    }

    #[test]
    fn urgent_goes_first_then_kind_then_priority_then_arrival() {
        let lanes = Lanes::new(8, 8, 8);
        put(&lanes, job(1, Verb::Launch, 0));
        put(&lanes, job(2, Verb::Launch, 5));
        put(&lanes, job(3, Verb::Update, -5));
        put(&lanes, job(4, Verb::Launch, 0));
        put(&lanes, job(5, Verb::Stop, 0));
        let order: Vec<_> = (0..5).map(|_| next_id(&lanes, false)).collect();
        assert_eq!(order, ["a5", "a3", "a2", "a1", "a4"]);
    }

    #[test]
    fn taking_some_out_keeps_the_order_of_the_others_and_wakes_nobody_for_them() {
        let lanes = Lanes::new(8, 8, 8);
        for (sequence, verb, priority) in
            [(1, Verb::Launch, 0), (2, Verb::Launch, 5), (3, Verb::Launch, 9), (4, Verb::Stop, 0), (5, Verb::Kill, 0)]
        {
            put(&lanes, job(sequence, verb, priority));
        }
        let taken = lanes.take(|job| matches!(job.entry.sequence, 2 | 4));
        assert_eq!(taken.len(), 2);
        assert_eq!((lanes.urgent.receiver.len(), lanes.normal.receiver.len()), (1, 2));
        let order: Vec<_> = (0..3).map(|_| next_id(&lanes, false)).collect();
        assert_eq!(order, ["a5", "a3", "a1"]);
    }

    #[test]
    fn each_lane_has_its_own_bound() {
        let lanes = Lanes::new(1, 2, 8);
        lanes.reserve(Lane::Normal).unwrap();
        lanes.reserve(Lane::Normal).unwrap();
        assert_eq!(lanes.reserve(Lane::Normal), Err(Refusal::Full { bound: 2 }));
        lanes.reserve(Lane::Urgent).unwrap();
        assert_eq!(lanes.reserve(Lane::Urgent), Err(Refusal::Full { bound: 1 }));
        lanes.give_back(Lane::Normal);
        lanes.reserve(Lane::Normal).unwrap();
    }

    #[test]
    fn reserved_worker_leaves_normal_jobs_alone() {
        let lanes = Lanes::new(8, 8, 8);
        put(&lanes, job(1, Verb::Launch, 0));
        put(&lanes, job(2, Verb::Kill, 0));
        assert_eq!(next_id(&lanes, true), "a2");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| lanes.next(true).is_none());
            assert_eq!(lanes.close().len(), 1);
            assert!(waiting.join().unwrap());
        });
        assert_eq!(lanes.reserve(Lane::Urgent), Err(Refusal::Stopping));
    }

    #[test]
    fn helper_is_called_where_more_urgent_jobs_wait_than_workers_are_idle() {
        let lanes = Lanes::new(8, 8, 8);
        let (sender, calls) = unbounded();
        lanes.set_helper(Box::new(move || sender.send(()).unwrap()));
        put(&lanes, job(1, Verb::Launch, 0));
        assert!(calls.is_empty(), "normal jobs wait for their turn");
        put(&lanes, job(2, Verb::Stop, 0));
        put(&lanes, job(3, Verb::Stop, 0));
        assert_eq!(calls.try_iter().count(), 2);
        assert_eq!(lanes.next_urgent_within(Duration::from_secs(60)).unwrap().entry.request.id, "a2");
        assert_eq!(calls.try_iter().count(), 1, "another one still waits");
        assert_eq!(next_id(&lanes, true), "a3");
        assert!(calls.is_empty());
        assert!(lanes.next_urgent_within(Duration::from_millis(1)).is_none());
    }

    #[test]
    fn engine_that_has_its_workers_leaves_the_others_to_other_engines() {
        let lanes = Lanes::new(8, 8, 1);
        for (sequence, priority) in [(1, 9), (2, 8), (3, 7), (4, 0)] {
            put(&lanes, job(sequence, Verb::Launch, priority));
        }
        let of = |lanes: &Lanes| lanes.next(false).unwrap();
        let (first, held) = lanes.share_or_wait(of(&lanes), "docker".into()).unwrap();
        assert!(
            lanes.share_or_wait(of(&lanes), "docker".into()).is_none()
                && lanes.share_or_wait(of(&lanes), "docker".into()).is_none()
        );
        let (other, of_other) = lanes.share_or_wait(of(&lanes), "podman".into()).unwrap();
        assert_eq!((first.entry.sequence, other.entry.sequence), (1, 4));
        assert!(lanes.normal.receiver.is_empty(), "nobody is woken for what has to wait");
        drop(held);
        let mut second = of(&lanes);
        assert_eq!(second.entry.sequence, 2);
        let its = lanes.take_share(&mut second).expect("taken when it was handed out");
        assert!(lanes.normal.receiver.is_empty());
        assert_eq!(lanes.take(|job| job.entry.sequence == 3).len(), 1, "what waits can be cancelled");
        drop((its, of_other));
        assert!(lanes.normal.receiver.is_empty());
    }

    #[test]
    fn job_whose_engine_is_known_and_busy_is_passed_over() {
        let lanes = Lanes::new(8, 8, 1);
        let known = |sequence, priority, engine: &str| {
            let mut job = job(sequence, Verb::Launch, priority);
            job.share.engine = Some(engine.to_owned());
            job
        };
        for (sequence, priority, engine) in [(1, 9, "a"), (2, 8, "a"), (3, 7, "b")] {
            put(&lanes, known(sequence, priority, engine));
        }
        let mut taken: Vec<_> = (0..2).map(|_| lanes.next(false).unwrap()).collect();
        assert_eq!(taken.iter().map(|job| job.entry.sequence).collect::<Vec<_>>(), [1, 3]);
        drop(lanes.take_share(&mut taken[0]));
        assert_eq!(lanes.next(false).unwrap().entry.sequence, 2);
    }

    #[test]
    fn dropped_job_is_answered_as_lost() {
        let job = job(7, Verb::Launch, 0);
        let (sender, receiver) = bounded(1);
        job.entry.on_end(Box::new(move |outcome| sender.send(outcome.clone()).unwrap()));
        drop(job);
        let outcome = receiver.recv().unwrap();
        assert_eq!(outcome.failure.unwrap().code, "INTERNAL");
        assert_eq!(outcome.action_id, "a7");
    }
}
