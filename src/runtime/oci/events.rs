//! What happens to containers: told by this adapter of what it does itself, and by conmon's exit codes of what ends.
//!
//! The folder of exit codes is watched: conmon puts each there by rename. A death is told once, by whoever sees it first:
//! a subscriber, or the verb that makes an end of what the last start has left. An exit code that comes of a
//! checkpoint is no death: it is marked in the container's folder.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::record::{Record, Run};
use super::{ENGINE, Engine};
use crate::cancel::{CancelToken, Registration};
use crate::clock::Deadline;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{BlockingStream, Call, EngineEvent, EngineEventKind, RtResult, RuntimeError};

/// The most events that a subscriber may leave unread; one that leaves more is told so and has to look anew.
const MOST_UNREAD: usize = 4096;

/// How often all containers are looked at: one whose conmon was killed leaves no exit code.
const SWEEP: Duration = Duration::from_secs(2);

/// The mark of a checkpoint in the container's folder, from before it is written until the next start.
pub(super) const CHECKPOINTED: &str = "checkpointed";

/// Tells subscribers of what this adapter does.
#[derive(Default)]
pub(super) struct Bus {
    queues: Mutex<Vec<Weak<Queue>>>,
    told: Mutex<u64>,
    /// The last death of each container that was told, by the time of its start.
    deaths: Mutex<BTreeMap<String, u64>>,
    /// Containers of which a checkpoint is being written, by id.
    checkpointing: Mutex<BTreeSet<String>>,
    changed: Condvar,
}

/// What one subscriber has not read.
struct Queue {
    events: Mutex<VecDeque<EngineEvent>>,
    /// Makes the subscriber's end readable.
    waker: UnixStream,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<EngineEvent>> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // Where it is full, the subscriber is awake already.
        let _ = (&self.waker).write(&[0]);
    }
}

impl Bus {
    /// Tells of something that was done.
    pub(super) fn tell(&self, record: &Record, kind: EngineEventKind) {
        let event = event(record, kind);
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        for queue in queues.iter().filter_map(Weak::upgrade) {
            let mut events = queue.lock();
            // One more than is allowed is how the subscriber learns of it.
            if events.len() <= MOST_UNREAD {
                events.push_back(event.clone());
            }
            drop(events);
            queue.wake();
        }
        drop(queues);
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        self.changed.notify_all();
    }

    /// Tells of a death, once for each start.
    fn died(&self, record: &Record, run: &Run, exit_code: Option<i32>, oom: bool) {
        let before = {
            let mut deaths = self.deaths.lock().unwrap_or_else(PoisonError::into_inner);
            deaths.insert(record.id.clone(), run.started_ms)
        };
        if before == Some(run.started_ms) {
            return;
        }
        if oom {
            self.tell(record, EngineEventKind::OutOfMemory);
        }
        self.tell(record, EngineEventKind::Died { exit_code });
    }

    /// Notes whether a checkpoint of the container is being written.
    pub(super) fn set_checkpointing(&self, id: &str, is_so: bool) {
        let mut checkpointing = self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner);
        if is_so {
            checkpointing.insert(id.to_owned())
        } else {
            checkpointing.remove(id)
        };
    }

    fn is_checkpointing(&self, id: &str) -> bool {
        self.checkpointing.lock().unwrap_or_else(PoisonError::into_inner).contains(id)
    }

    /// Forgets a container that is gone.
    pub(super) fn forget(&self, id: &str) {
        self.deaths.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Blocks until something is told, or the time is over.
    pub(super) fn await_change(&self, deadline: Deadline) {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *told;
        // Whatever wakes it, the caller looks by itself.
        drop(self.changed.wait_timeout_while(told, deadline.remaining(), |now| *now == before));
    }

    /// A queue, and what is readable while something in it is new.
    fn subscribe(&self) -> io::Result<(Arc<Queue>, UnixStream)> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let queue = Arc::new(Queue { events: Mutex::default(), waker });
        self.queues.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&queue));
        Ok((queue, woken))
    }
}

fn event(record: &Record, kind: EngineEventKind) -> EngineEvent {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    EngineEvent {
        kind,
        id: record.id.clone(),
        name: record.config.name.clone(),
        labels: record.config.labels.clone(),
        time_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
    }
}

impl Engine {
    /// Tells of the container's death, where it has died since its last start and that was no checkpoint.
    pub(super) fn note_death(&self, record: &Record) {
        // Before the run: whoever starts it anew forgets that first.
        let set_up = self.bridges.set_up_of(&record.id);
        let Ok(Some(run)) = self.records.run(&record.id) else { return };
        if self.records.folder(&record.id).join(CHECKPOINTED).exists() {
            if self.bus.is_checkpointing(&record.id) || !self.is_alive(record) {
                return;
            }
            // It was restored by what a daemon left at work that ended meanwhile.
            self.records.unmark(&record.id);
        }
        if let ContainerStatus::Exited { code, oom } = self.status(record) {
            self.bus.died(record, &run, code, oom);
            self.bridges.disconnect(&record.id, set_up);
        }
    }
}

/// What happens from now on.
pub(super) fn watch(engine: &Arc<Engine>, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
    engine.check(call, "events")?;
    let failed = |error: nix::Error| super::io("watching the folder of exit codes", &error.into());
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).map_err(failed)?;
    let flags = AddWatchFlags::IN_MOVED_TO | AddWatchFlags::IN_DELETE_SELF;
    inotify.add_watch(&engine.records.exits(), flags).map_err(failed)?;
    // What has ended before is for the list that follows.
    for record in engine.records.all() {
        engine.note_death(&record);
    }
    let (queue, woken) = engine.bus.subscribe().map_err(|error| super::io("watching for events", &error))?;
    let waked = Arc::downgrade(&queue);
    let hook = call.cancel.on_cancel(move || waked.upgrade().iter().for_each(|queue| queue.wake()));
    Ok(Box::new(Watch {
        queue,
        woken,
        inotify,
        engine: Arc::clone(engine),
        cancel: call.cancel.clone(),
        _hook: hook,
        swept: Instant::now(),
    }))
}

/// A subscription.
struct Watch {
    queue: Arc<Queue>,
    woken: UnixStream,
    inotify: Inotify,
    engine: Arc<Engine>,
    cancel: CancelToken,
    _hook: Registration,
    swept: Instant,
}

fn broken(reason: &str) -> RuntimeError {
    let (engine, op) = (ENGINE.to_owned(), "events".to_owned());
    RuntimeError::Connection { engine, op, reason: reason.to_owned() }
}

impl Watch {
    /// Tells of what has ended.
    fn look(&mut self) -> RtResult<()> {
        let ended = match self.inotify.read_events() {
            Ok(ended) => ended,
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => Vec::new(),
            Err(error) => return Err(broken(&error.to_string())),
        };
        if ended.iter().any(|file| file.mask.intersects(AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_Q_OVERFLOW)) {
            return Err(broken("exit codes are not watched any more"));
        }
        let ids = ended.iter().filter_map(|file| file.name.as_ref()?.to_str());
        for record in ids.filter_map(|id| self.engine.records.find(id)) {
            self.engine.note_death(&record);
        }
        if self.swept.elapsed() >= SWEEP {
            self.swept = Instant::now();
            self.engine.records.all().iter().for_each(|record| self.engine.note_death(record));
        }
        Ok(())
    }

    fn next_event(&mut self) -> RtResult<EngineEvent> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(RuntimeError::Cancelled { op: "events".to_owned() });
            }
            self.look()?;
            let mut told = self.queue.lock();
            if told.len() > MOST_UNREAD {
                return Err(broken("more happened than was read"));
            }
            if let Some(event) = told.pop_front() {
                return Ok(event);
            }
            drop(told);
            let sources = [self.inotify.as_fd(), self.woken.as_fd()];
            let mut polled = sources.map(|source| PollFd::new(source, PollFlags::POLLIN));
            let until_sweep = SWEEP.saturating_sub(self.swept.elapsed()) + Duration::from_millis(1);
            let wait = PollTimeout::try_from(until_sweep).unwrap_or(PollTimeout::ZERO);
            // Whatever comes of it, the next round looks.
            let _ = poll(&mut polled, wait);
            while matches!(self.woken.read(&mut [0; 64]), Ok(read) if read > 0) {}
        }
    }
}

impl Iterator for Watch {
    type Item = RtResult<EngineEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.next_event())
    }
}
