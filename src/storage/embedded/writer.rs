//! The writer: one thread that takes the batches that wait together, applies them in one transaction, makes the disk
//! keep them once, and answers each.
//!
//! After a failure it opens the database again, which tells for certain whether the group is in it. Nothing that was
//! taken from the queue stays without an answer, and no failure ends the thread before its queue is closed.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, SendTimeoutError, Sender, bounded};

use super::fault::{Fault, guarded, panic_text};
use super::open::Opener;
use super::slot::{Handle, Slot};
use super::table::{self, Answers, Applied};
use crate::clock::Deadline;
use crate::storage::{Batch, StoreError};

/// The most batches of one group.
const MAX_GROUP: usize = 256;
/// Bytes after which a group takes no further batch, so that one transaction stays small.
const MAX_GROUP_BYTES: usize = 8 << 20;
/// How long a group waits for as many batches as came together before: less than the sync that it saves.
const GATHER: Duration = Duration::from_millis(2);
/// After a failed attempt to open the database again, the next one waits this long.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A batch that waits for its answer.
pub(super) struct Job {
    batch: Batch,
    deadline: Deadline,
    reply: Sender<Result<(), StoreError>>,
}

impl Job {
    fn bytes(&self) -> usize {
        let put: usize = self.batch.put.iter().map(|(key, value)| key.len() + value.len()).sum();
        put + self.batch.delete.iter().map(String::len).sum::<usize>()
    }

    fn answer(&self, answer: Result<(), StoreError>) {
        // A caller that no longer waits was told that it is not known.
        let _ = self.reply.send(answer);
    }
}

/// The bounded way to the writer.
pub(super) struct Queue(Sender<Job>);

impl Queue {
    /// A queue of `length` and its end for the writer.
    pub(super) fn new(length: usize) -> (Self, Receiver<Job>) {
        let (sender, receiver) = bounded(length.max(1));
        (Self(sender), receiver)
    }

    /// Hands the batch to the writer and waits for its answer until the deadline. An empty batch is answered when the
    /// writer comes to it.
    pub(super) fn submit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
        let unavailable = |text: &str| Err(StoreError::Unavailable(text.to_owned()));
        if deadline.is_over() {
            return unavailable("the time was over before it was asked; nothing was applied");
        }
        let (reply, answer) = bounded(1);
        match self.0.send_deadline(Job { batch, deadline, reply }, deadline.instant()) {
            Ok(()) => {}
            Err(SendTimeoutError::Timeout(_)) => return unavailable("its queue stayed full; nothing was applied"),
            Err(SendTimeoutError::Disconnected(_)) => return unavailable("its writer is gone; nothing was applied"),
        }
        match answer.recv_deadline(deadline.instant()) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => {
                unavailable("no answer within the time; it is not known whether the change was applied")
            }
            Err(RecvTimeoutError::Disconnected) => {
                unavailable("its writer failed; it is not known whether the change was applied")
            }
        }
    }
}

/// The writer's state.
pub(super) struct Writer {
    /// Where batches come from.
    pub(super) jobs: Receiver<Job>,
    /// What readers use.
    pub(super) slot: Arc<Slot>,
    /// How the database is opened again.
    pub(super) opener: Opener,
    /// Batches committed.
    pub(super) commits: Arc<AtomicU64>,
    /// The last revision given.
    pub(super) sequence: u64,
    /// When opening again last failed, and why.
    pub(super) failed: Option<(Instant, String)>,
    /// Whether the last commit failed, so that the log tells only the change.
    pub(super) in_trouble: bool,
    /// How many batches come together these days; 1 where one caller is alone.
    pub(super) usual_group: usize,
}

/// What became of a group.
enum Outcome {
    /// It is kept; each batch has its answer.
    Done(Answers),
    /// Nothing of it was applied.
    NotApplied(Fault),
    /// The database cannot be opened to see.
    Unknown(String),
}

impl Writer {
    /// Serves until every sender of the queue is gone and the queue is empty; then closes the database.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.jobs.recv() {
            let group = self.gather(first);
            // The jobs of a group that panics are dropped, which their callers are told of.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| self.serve(group))) {
                log::error!("the store's writer failed and goes on: {}", panic_text(&*panic));
            }
        }
        self.slot.close();
    }

    /// Everything that waits, within the bounds of a group. Where several batches came together lately, the others are
    /// on their way as well and are waited for, for a moment. Whose caller waits no longer is not applied.
    fn gather(&mut self, first: Job) -> Vec<Job> {
        let until = Instant::now() + GATHER;
        let mut bytes = first.bytes();
        let mut group = vec![first];
        while group.len() < MAX_GROUP && bytes < MAX_GROUP_BYTES {
            let waits = group.len() < self.usual_group;
            let next = if waits { self.jobs.recv_deadline(until).ok() } else { self.jobs.try_recv().ok() };
            let Some(job) = next else { break };
            bytes += job.bytes();
            group.push(job);
        }
        // Falls step by step, so that one small group does not end it.
        self.usual_group = group.len().max(self.usual_group * 3 / 4).max(1);
        let (group, late): (Vec<_>, Vec<_>) = group.into_iter().partition(|job| !job.deadline.is_over());
        let text = "the time was over before its turn; nothing was applied";
        answer_all(&late, &StoreError::Unavailable(text.to_owned()));
        group
    }

    fn serve(&mut self, group: Vec<Job>) {
        if group.is_empty() {
            return;
        }
        match self.commit(&group) {
            Outcome::NotApplied(Fault::Full(_)) if group.len() > 1 => self.serve_singly(group),
            outcome => settle(&group, outcome),
        }
    }

    /// Batches that do not fit together, one by one from the smallest on: a large one must not fail the others, least
    /// of all those that delete. Once one does not fit, those after it are not tried.
    fn serve_singly(&mut self, mut group: Vec<Job>) {
        group.sort_by_key(Job::bytes);
        for (at, job) in group.iter().enumerate() {
            match self.commit(std::slice::from_ref(job)) {
                full @ Outcome::NotApplied(Fault::Full(_)) => return settle(&group[at..], full),
                outcome => settle(std::slice::from_ref(job), outcome),
            }
        }
    }

    /// Applies the group and makes the disk keep it. After a failure the database is opened again: its sequence tells
    /// whether the group is in it. A handle that had failed before is replaced, and the group tried once more.
    fn commit(&mut self, group: &[Job]) -> Outcome {
        for retry in [true, false] {
            let handle = match self.handle() {
                Ok(handle) => handle,
                Err(reason) => return Outcome::NotApplied(Fault::Unopened(reason)),
            };
            self.opener.gauge.take_failure();
            let mut pending = None;
            let done = guarded(|| apply(&handle, group, self.sequence, &mut pending));
            drop(handle);
            let Err(fault) = done else { return self.done(pending) };
            let fault = match fault {
                Fault::Latched => self.opener.gauge.take_failure().unwrap_or(Fault::Latched),
                other => other,
            };
            self.note_trouble(&fault);
            if let Err(reason) = self.reopen() {
                return match pending {
                    Some(_) => Outcome::Unknown(reason),
                    None => Outcome::NotApplied(Fault::Unopened(reason)),
                };
            }
            if pending.as_ref().is_some_and(|applied| applied.sequence == self.sequence) {
                return self.done(pending);
            }
            if !(retry && matches!(fault, Fault::Latched)) {
                return Outcome::NotApplied(fault);
            }
        }
        Outcome::NotApplied(Fault::Latched)
    }

    fn done(&mut self, applied: Option<Applied>) -> Outcome {
        let Some(applied) = applied else { return Outcome::NotApplied(Fault::Latched) };
        self.sequence = applied.sequence;
        self.commits.fetch_add(applied.writing, Ordering::Relaxed);
        if applied.writing > 0 && std::mem::take(&mut self.in_trouble) {
            log::info!("the store takes changes again");
        }
        Outcome::Done(applied.answers)
    }

    fn note_trouble(&mut self, fault: &Fault) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            log::warn!("the store could not commit: {}", fault.text());
        }
    }

    /// The open handle; where there is none, one more attempt to open it, not more often than the pause allows.
    fn handle(&mut self) -> Result<Arc<Handle>, String> {
        if let Some(handle) = self.slot.open_handle() {
            return Ok(handle);
        }
        if let Some((when, reason)) = &self.failed
            && when.elapsed() < REOPEN_PAUSE
        {
            return Err(reason.clone());
        }
        self.reopen()?;
        self.slot.open_handle().ok_or_else(|| "it is closed".to_owned())
    }

    fn reopen(&mut self) -> Result<(), String> {
        let old = self.slot.give_up();
        // redb tries to close in order and may assert; the fence keeps that from reaching the file.
        let _ = guarded(|| {
            drop(old);
            Ok(())
        });
        match self.opener.open() {
            Ok(found) => {
                self.sequence = found.sequence;
                self.failed = None;
                self.slot.put(found.handle);
                Ok(())
            }
            Err(fault) => {
                let reason = format!("its file could not be opened again: {}", fault.text());
                log::error!("the store is away: {reason}");
                self.slot.fail(reason.clone());
                self.failed = Some((Instant::now(), reason.clone()));
                Err(reason)
            }
        }
    }
}

/// Applies the group in one transaction and commits it; `pending` holds it from the moment at which it may be in the
/// file.
fn apply(handle: &Handle, group: &[Job], sequence: u64, pending: &mut Option<Applied>) -> Result<(), Fault> {
    let transaction = handle.database.begin_write()?;
    let applied = table::apply(&transaction, group.iter().map(|job| &job.batch), sequence)?;
    let writing = applied.writing > 0;
    *pending = Some(applied);
    if writing { Ok(transaction.commit()?) } else { Ok(transaction.abort()?) }
}

/// Answers each job by what became of the group.
fn settle(jobs: &[Job], outcome: Outcome) {
    match outcome {
        Outcome::Done(answers) => jobs.iter().zip(answers).for_each(|(job, answer)| job.answer(answer)),
        Outcome::NotApplied(fault) => answer_all(jobs, &fault.for_commit()),
        Outcome::Unknown(reason) => {
            let text = format!("{reason}; it is not known whether the change was applied");
            answer_all(jobs, &StoreError::Unavailable(text));
        }
    }
}

fn answer_all(jobs: &[Job], error: &StoreError) {
    jobs.iter().for_each(|job| job.answer(Err(error.clone())));
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(30))
    }

    fn text(result: Result<(), StoreError>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn caller_past_its_deadline_is_not_queued() {
        let (queue, jobs) = Queue::new(4);
        assert!(text(queue.submit(Batch::default(), Deadline::after(Duration::ZERO))).contains("nothing was applied"));
        assert!(jobs.is_empty());
    }

    #[test]
    fn full_queue_refuses_at_the_deadline_and_says_that_nothing_was_applied() {
        let (queue, _jobs) = Queue::new(1);
        assert!(text(queue.submit(Batch::default(), soon())).contains("not known"));
        assert!(text(queue.submit(Batch::default(), soon())).contains("stayed full; nothing was applied"));
    }

    #[test]
    fn callers_of_a_writer_that_dies_get_an_answer_at_once() {
        let (queue, jobs) = Queue::new(4);
        let writer = thread::Builder::new().name("dying".to_owned()).spawn(move || {
            let _job = jobs.recv();
            panic!("the writer dies");
        });
        let begun = Instant::now();
        let far = Deadline::after(Duration::from_secs(60));
        assert!(text(queue.submit(Batch::default(), far)).contains("not known"));
        assert!(writer.unwrap().join().is_err());
        assert!(text(queue.submit(Batch::default(), far)).contains("gone; nothing was applied"));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }

    /// A writer over a new database that has not begun, with its queue.
    fn waiting_writer(dir: &std::path::Path) -> (Queue, Writer) {
        let opener = Opener { dir: dir.to_owned(), cache_bytes: 1 << 20, gauge: Arc::default() };
        let (found, _report) = opener.start().unwrap();
        let (queue, jobs) = Queue::new(16);
        let slot = Arc::new(Slot::new(found.handle));
        let commits = Arc::default();
        (
            queue,
            Writer {
                jobs,
                slot,
                opener,
                commits,
                sequence: found.sequence,
                failed: None,
                in_trouble: false,
                usual_group: 1,
            },
        )
    }

    fn put(key: &str) -> Batch {
        Batch { put: vec![(key.to_owned(), b"x".to_vec())], ..Batch::default() }
    }

    #[test]
    fn what_waits_goes_in_one_sync_and_whose_caller_gave_up_not_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, mut writer) = waiting_writer(dir.path());
        let (gauge, slot) = (Arc::clone(&writer.opener.gauge), Arc::clone(&writer.slot));
        assert!(text(queue.submit(put("late"), soon())).contains("not known"));
        let far = Deadline::after(Duration::from_secs(60));
        let answers: Vec<_> = thread::scope(|scope| {
            let submit = |n: usize| queue.submit(put(&n.to_string()), far);
            let callers: Vec<_> = (0..8).map(|n| scope.spawn(move || submit(n))).collect();
            while writer.jobs.len() < 9 {
                thread::yield_now();
            }
            let before = gauge.syncs();
            let group = writer.gather(writer.jobs.recv().unwrap());
            let mut writer = writer;
            writer.serve(group);
            assert_eq!(gauge.syncs() - before, 1);
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        assert_eq!(answers, vec![Ok(()); 8]);
        let handle = slot.current(far).unwrap();
        assert_eq!(table::scan(&handle.database, "", "", 100).unwrap().len(), 8);
    }

    #[test]
    fn everything_queued_is_answered_before_the_writer_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (queue, writer) = waiting_writer(dir.path());
        let answers: Vec<_> = (0..5)
            .map(|n| {
                let (reply, answer) = bounded(1);
                let deadline = Deadline::after(Duration::from_secs(60));
                queue.0.send(Job { batch: put(&n.to_string()), deadline, reply }).unwrap();
                answer
            })
            .collect();
        drop(queue);
        writer.run();
        assert!(answers.into_iter().all(|answer| answer.recv() == Ok(Ok(()))));
    }

    #[test]
    fn handle_that_failed_is_replaced_and_the_batch_still_applied() {
        let dir = tempfile::tempdir().unwrap();
        let (_queue, mut writer) = waiting_writer(dir.path());
        let far = Deadline::after(Duration::from_secs(60));
        let old = writer.slot.current(far).unwrap();
        old.fence.close();
        let (reply, answer) = bounded(1);
        let job = |key: &str| Job { batch: put(key), deadline: far, reply: reply.clone() };
        // The first finds the failure out, which latches the handle; what fails is answered as not applied.
        writer.serve(vec![job("a")]);
        let first = answer.recv().unwrap();
        writer.serve(vec![job("b")]);
        assert_eq!(answer.recv().unwrap(), Ok(()));
        let handle = writer.slot.current(far).unwrap();
        assert!(!Arc::ptr_eq(&handle, &old));
        assert_eq!(table::get(&handle.database, "a").unwrap().is_some(), first.is_ok(), "{first:?}");
    }

    #[test]
    fn file_that_is_gone_makes_it_unavailable_and_not_a_hang() {
        let dir = tempfile::tempdir().unwrap();
        let (_queue, mut writer) = waiting_writer(dir.path());
        let far = Deadline::after(Duration::from_secs(60));
        writer.slot.current(far).unwrap().fence.close();
        std::fs::remove_file(dir.path().join("state.redb")).unwrap();
        for _ in 0..2 {
            let (reply, answer) = bounded(1);
            writer.serve(vec![Job { batch: put("a"), deadline: far, reply }]);
            assert!(text(answer.recv().unwrap()).contains("could not be opened again"));
            assert!(matches!(writer.slot.current(far), Err(StoreError::Unavailable(_))));
        }
    }
}
