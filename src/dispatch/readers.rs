//! [`Readers`]: threads for what changes nothing. Short reads share two bounded pools, one for those that ask engines and
//! one for those of the store; long ones (following a log, waiting for a condition, a command) have a thread each, up to
//! a bound.
//!
//! A read whose asker is gone is told so by its token.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, TrySendError, bounded};
use futures_channel::oneshot;
use std::future::Future;

use super::service::Later;
use crate::cancel::CancelToken;
use crate::error::{Error, ErrorCode, ErrorKind, Result};

/// Short reads that wait for a thread, at most.
const WAITING: usize = 1024;

type Work = Box<dyn FnOnce() + Send>;

/// Threads that read the store alone, beside those that ask engines: an engine that hangs holds back nobody who asks
/// for actions.
const STORE_READERS: usize = 2;

/// Threads that read documents of Scenarios, which may lie in a store that does not answer: they hold back nobody else.
const SCENARIO_READERS: usize = 2;

/// A bounded pool for short reads.
struct Pool {
    sender: Mutex<Option<Sender<Work>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Pool {
    fn start(name: &str, threads: usize) -> std::io::Result<Self> {
        let (sender, receiver) = bounded::<Work>(WAITING);
        let mut handles = Vec::with_capacity(threads);
        for number in 0..threads {
            let receiver = receiver.clone();
            let run = move || receiver.iter().for_each(|work| work());
            handles.push(thread::Builder::new().name(format!("{name}-{number}")).spawn(run)?);
        }
        Ok(Self { sender: Mutex::new(Some(sender)), threads: Mutex::new(handles) })
    }

    fn send(&self, work: Work) -> Result<()> {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        match sender.as_ref() {
            Some(sender) => sender.try_send(work).map_err(|error| match error {
                TrySendError::Full(_) => too_many("reads wait", WAITING),
                TrySendError::Disconnected(_) => stopping(),
            }),
            None => Err(stopping()),
        }
    }

    fn stop(&self) {
        drop(self.sender.lock().unwrap_or_else(PoisonError::into_inner).take());
        for thread in std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner)) {
            if thread.join().is_err() {
                log::error!("a reader thread panicked");
            }
        }
    }
}

/// The threads of reads.
pub struct Readers {
    engines: Pool,
    store: Pool,
    scenarios: Pool,
    long: Arc<AtomicUsize>,
    most_long: usize,
    stop: CancelToken,
}

impl Readers {
    /// A pool of `threads` for short reads that ask engines, another for those of the store, and at most `most_long`
    /// long ones.
    pub fn start(threads: usize, most_long: usize) -> std::io::Result<Self> {
        Ok(Self {
            engines: Pool::start("reader", threads)?,
            store: Pool::start("store-reader", STORE_READERS)?,
            scenarios: Pool::start("scenario", SCENARIO_READERS)?,
            long: Arc::default(),
            most_long,
            stop: CancelToken::new(),
        })
    }

    /// Runs a short read that asks engines; the answer comes later. Dropping it cancels the read's token.
    pub fn engine<T: Send + 'static>(&self, read: impl FnOnce(&CancelToken) -> Result<T> + Send + 'static) -> Later<T> {
        let (work, later) = self.work(read);
        sent(self.engines.send(work), later)
    }

    /// Runs a short read of the store alone.
    pub fn store<T: Send + 'static>(&self, read: impl FnOnce(&CancelToken) -> Result<T> + Send + 'static) -> Later<T> {
        let (work, later) = self.work(read);
        sent(self.store.send(work), later)
    }

    /// Runs a short piece of work on the store that nobody waits for. Where there is no room for it, it is dropped.
    pub fn detached(&self, work: impl FnOnce() + Send + 'static) {
        let guarded = move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                log::error!("a reader met a fault in this daemon");
            }
        };
        if let Err(error) = self.store.send(Box::new(guarded)) {
            log::debug!("no reader had room for a piece of work: {error}");
        }
    }

    /// Runs a short piece of work on the store, answered by whoever is waiting for it.
    pub fn spare(&self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let guarded = move || {
            if catch_unwind(AssertUnwindSafe(work)).is_err() {
                log::error!("a reader met a fault in this daemon");
            }
        };
        self.scenarios.send(Box::new(guarded))
    }

    /// Runs a long read on a thread of its own.
    pub fn long<T: Send + 'static>(&self, read: impl FnOnce(&CancelToken) -> Result<T> + Send + 'static) -> Later<T> {
        let (work, later) = self.work(read);
        sent(self.spawn(work), later)
    }

    fn spawn(&self, work: Work) -> Result<()> {
        let place =
            Place::take(&self.long, self.most_long).ok_or_else(|| too_many("long reads run", self.most_long))?;
        let run = move || {
            let _place = place;
            work();
        };
        let spawned = thread::Builder::new().name("reader-long".to_owned()).spawn(run);
        spawned.map(drop).map_err(|error| Error::internal(format!("no thread for a read: {error}")))
    }

    /// Runs a read that goes on after its answer, such as feeding a stream: `read` is given the answer's sender.
    pub fn feed(&self, read: impl FnOnce(&CancelToken) + Send + 'static) -> Result<CancelToken> {
        let token = self.stop.child();
        let own = token.clone();
        self.spawn(Box::new(move || read(&own)))?;
        Ok(token)
    }

    fn work<T: Send + 'static>(
        &self,
        read: impl FnOnce(&CancelToken) -> Result<T> + Send + 'static,
    ) -> (Work, Later<T>) {
        let token = self.stop.child();
        let (sender, receiver) = oneshot::channel();
        let own = token.clone();
        let work = move || {
            let read = || read(&own);
            let panicked = |_| Err(Error::internal("a read met a fault in this daemon"));
            let answer = catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(panicked);
            // Nobody may be left to hear it.
            let _ = sender.send(answer);
        };
        (Box::new(work), Box::pin(Awaited { receiver, token }))
    }

    /// Ends every read and joins the pools.
    pub fn stop(&self) {
        self.stop.cancel("the Action Controller is stopping");
        self.engines.stop();
        self.store.stop();
        self.scenarios.stop();
    }
}

/// The answer to a read that was taken, or at once why it was not.
fn sent<T: Send + 'static>(taken: Result<()>, later: Later<T>) -> Later<T> {
    match taken {
        Ok(()) => later,
        Err(error) => Box::pin(std::future::ready(Err(error))),
    }
}

/// One of a bounded number; given back when dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, most: usize) -> Option<Self> {
        let take = |now: usize| (now < most).then_some(now + 1);
        taken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).ok()?;
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The answer to a read; when it is dropped the read is told.
struct Awaited<T> {
    receiver: oneshot::Receiver<Result<T>>,
    token: CancelToken,
}

impl<T> Future for Awaited<T> {
    type Output = Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<T>> {
        Pin::new(&mut self.receiver).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(stopping())))
    }
}

impl<T> Drop for Awaited<T> {
    fn drop(&mut self) {
        self.token.cancel("nobody waits for it any more");
    }
}

fn too_many(what: &str, bound: usize) -> Error {
    let message = format!("{bound} {what} already");
    Error::new(ErrorKind::ResourceExhausted, ErrorCode::TooManyStreams, message).hint("try again later")
}

fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, ErrorCode::Stopping, "the Action Controller is stopping")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_executor::block_on;

    use super::*;
    use crate::cancel::Urge;
    use crate::clock::Deadline;

    fn readers() -> Readers {
        Readers::start(1, 1).unwrap()
    }

    /// A read that hangs until it is told to end.
    fn hang(token: &CancelToken) -> Result<()> {
        token.wait(Urge::Cancel, Deadline::after(Duration::from_secs(60)));
        Ok(())
    }

    #[test]
    fn reads_of_the_store_answer_while_every_engine_hangs() {
        let readers = readers();
        let _hung: Vec<_> = (0..8).map(|_| readers.engine(hang)).collect();
        assert_eq!(block_on(readers.store(|_| Ok(7))), Ok(7));
        readers.stop();
    }

    #[test]
    fn read_whose_asker_is_gone_is_told_so_and_makes_room() {
        let readers = readers();
        drop(readers.engine(hang));
        assert_eq!(block_on(readers.engine(|_| Ok(7))), Ok(7));
        readers.stop();
    }

    #[test]
    fn panic_of_a_read_is_answered_and_its_thread_goes_on() {
        let readers = readers();
        let fault = block_on(readers.engine::<()>(|_| unreachable!("as scripted"))).unwrap_err();
        assert_eq!(fault.code, ErrorCode::Internal);
        assert_eq!(block_on(readers.engine(|_| Ok(7))), Ok(7));
        readers.stop();
    }

    #[test]
    fn long_reads_are_bounded_and_nothing_is_read_once_stopped() {
        let readers = readers();
        let first = readers.long(hang);
        let error = block_on(readers.long(hang)).unwrap_err();
        assert_eq!(error.kind, ErrorKind::ResourceExhausted);
        readers.stop();
        assert_eq!(block_on(first), Ok(()));
        assert_eq!(block_on(readers.store(|_| Ok(7))).unwrap_err().code, ErrorCode::Stopping);
    }
}
