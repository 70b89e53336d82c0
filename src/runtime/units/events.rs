//! What happens to containers: noted by the verbs, or seen where a manager of units tells of a change, and passed on where it is
//! different from what was there before.
//!
//! Each note and look compares a container's start and state with those before, so that an end is told once for each start,
//! however many signals come of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Engine;
use super::lifecycle::NODE_BUDGET;
use super::manager::{Changes, Told, Unit, UnitManager};
use super::record::Record;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{BlockingStream, Call, EngineEvent, EngineEventKind, NoProgress, RtResult, RuntimeError};

/// How often all are looked at, whatever is told.
const SWEEP: Duration = Duration::from_secs(5);

/// How long a look may take.
const LOOK: Duration = Duration::from_secs(5);

/// The most notes that a subscriber may leave unread; one that leaves more is told so and has to look anew.
const MOST_UNREAD: usize = 4096;

/// A container as a verb left it; `None` for gone.
type Note = (Arc<Record>, Option<ContainerStatus>);

/// Those who are told of what this adapter does.
#[derive(Default)]
pub(super) struct Subscribers(Mutex<Vec<Weak<Queue>>>);

/// What one subscriber has not read.
struct Queue {
    notes: Mutex<VecDeque<Note>>,
    waker: Sender<()>,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscribers {
    /// Notes what a container is like now; `None` where it is gone.
    pub(super) fn note(&self, record: &Arc<Record>, status: Option<&ContainerStatus>) {
        let mut queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|queue| queue.strong_count() > 0);
        for queue in queues.iter().filter_map(Weak::upgrade) {
            let mut notes = queue.lock();
            // One more than is allowed is how the subscriber learns of it.
            if notes.len() <= MOST_UNREAD {
                notes.push_back((Arc::clone(record), status.cloned()));
            }
            drop(notes);
            // Where it is full, the subscriber is awake already.
            let _ = queue.waker.try_send(());
        }
    }

    fn add(&self) -> (Arc<Queue>, Receiver<()>) {
        let (waker, woken) = bounded(1);
        let queue = Arc::new(Queue { notes: Mutex::default(), waker });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&queue));
        (queue, woken)
    }
}

/// What is known of a container since the last look.
struct Known {
    record: Arc<Record>,
    started_ms: u64,
    status: ContainerStatus,
}

struct Watch<M: UnitManager> {
    engine: Arc<Engine<M>>,
    changes: Box<dyn Changes>,
    queue: Arc<Queue>,
    woken: Receiver<()>,
    cancel: CancelToken,
    known: BTreeMap<String, Known>,
    told: VecDeque<EngineEvent>,
    has_failed: bool,
}

/// What happens from now on.
pub(super) fn watch<M: UnitManager>(engine: &Arc<Engine<M>>, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
    let changes = engine.manager.watch(call)?;
    let (queue, woken) = engine.subscribers.add();
    let (engine, cancel) = (Arc::clone(engine), call.cancel.clone());
    let (known, told) = (BTreeMap::new(), VecDeque::new());
    let mut watch = Watch { engine, changes, queue, woken, cancel, known, told, has_failed: false };
    watch.look(|_| true)?;
    // What is there already is for who lists.
    watch.told.clear();
    Ok(Box::new(watch))
}

impl<M: UnitManager> Watch<M> {
    /// Looks at the containers whose units are wanted, and notes what is different.
    fn look(&mut self, is_wanted: impl Fn(&Unit) -> bool) -> RtResult<()> {
        let cancel = self.cancel.clone();
        let call = Call { deadline: Deadline::after(LOOK), cancel: &cancel, progress: &NoProgress };
        let all: BTreeMap<String, Arc<Record>> =
            self.engine.records.all().into_iter().map(|record| (record.id.clone(), record)).collect();
        let gone: Vec<_> = self.known.keys().filter(|id| !all.contains_key(*id)).cloned().collect();
        // How they ended has been noted before they were gone.
        self.read_notes()?;
        gone.iter().for_each(|id| self.tell_gone(id));
        // One that is silent costs its time once.
        let mut away = BTreeSet::new();
        for id in all.keys() {
            // It may have gone meanwhile, or been started.
            let Some(record) = self.engine.records.find(id) else { continue };
            // What comes of it is noted.
            if self.engine.is_starting(&record) {
                continue;
            }
            let unit = record.unit();
            if (self.known.contains_key(&record.id) && !is_wanted(&unit)) || away.contains(&unit.node) {
                continue;
            }
            let bound = if self.engine.manager.has_nodes() { NODE_BUDGET } else { LOOK };
            match self.engine.see(&Call { deadline: call.deadline.at_most(bound), ..call }, &record) {
                Ok(seen) => self.compare(record, seen.status),
                // Its node alone is away, and what it was is not known to be otherwise.
                Err(error) if self.engine.is_node_away(&call, &error) => drop(away.insert(unit.node)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Passes on what the verbs have noted.
    fn read_notes(&mut self) -> RtResult<()> {
        let notes = std::mem::take(&mut *self.queue.lock());
        if notes.len() > MOST_UNREAD {
            let (engine, op) = (self.engine.name().to_owned(), "events".to_owned());
            let reason = format!("more than {MOST_UNREAD} events were left unread");
            return Err(RuntimeError::Connection { engine, op, reason });
        }
        for (record, status) in notes {
            match status {
                Some(status) => self.compare(record, status),
                None => self.tell_gone(&record.id),
            }
        }
        Ok(())
    }

    fn tell_gone(&mut self, id: &str) {
        let Some(known) = self.known.remove(id) else { return };
        if known.status.is_live() {
            self.tell_end(&known.record, None, false);
        }
        self.tell(&known.record, EngineEventKind::Removed);
    }

    fn compare(&mut self, record: Arc<Record>, status: ContainerStatus) {
        let started_ms = record.start_of(&status);
        let before = self.known.remove(&record.id);
        let (was, was_started) = match &before {
            Some(before) => (before.status.clone(), before.started_ms),
            None => {
                self.tell(&record, EngineEventKind::Created);
                (ContainerStatus::Created, 0)
            }
        };
        let is_anew = started_ms != was_started;
        if let (Some(before), false, true) = (&before, is_anew, matches!(was, ContainerStatus::Exited { .. })) {
            // A start has one end; what says that it lives was noted before.
            let (status, started_ms) = (before.status.clone(), before.started_ms);
            self.known.insert(record.id.clone(), Known { record, started_ms, status });
            return;
        }
        if is_anew && was.is_live() {
            // It ended, and was started again before anybody looked.
            let end = record.end.as_ref().filter(|end| end.started_ms == was_started);
            let (code, oom) = end.map_or((None, false), |end| (end.code, end.oom));
            self.tell_end(&record, code, oom);
        }
        let was_live = was.is_live() && !is_anew;
        if (is_anew && started_ms > 0) && (status.is_live() || matches!(status, ContainerStatus::Exited { .. })) {
            self.tell(&record, EngineEventKind::Started);
        }
        match (&status, was_live || is_anew) {
            (ContainerStatus::Exited { code, oom }, true) => self.tell_end(&record, *code, *oom),
            (ContainerStatus::Paused, _) if was != ContainerStatus::Paused => {
                self.tell(&record, EngineEventKind::Paused);
            }
            (ContainerStatus::Running { .. }, _) if was == ContainerStatus::Paused && !is_anew => {
                self.tell(&record, EngineEventKind::Resumed);
            }
            _ => {}
        }
        self.known.insert(record.id.clone(), Known { record, started_ms, status });
    }

    fn tell_end(&mut self, record: &Record, exit_code: Option<i32>, oom: bool) {
        if oom {
            self.tell(record, EngineEventKind::OutOfMemory);
        }
        self.tell(record, EngineEventKind::Died { exit_code });
    }

    fn tell(&mut self, record: &Record, kind: EngineEventKind) {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.told.push_back(EngineEvent {
            kind,
            id: record.id.clone(),
            name: record.config.name.clone(),
            labels: record.config.labels.clone(),
            time_ns: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
        });
    }

    /// Waits for what is told next, and looks.
    fn advance(&mut self) -> RtResult<()> {
        match self.changes.next(Deadline::after(SWEEP), &self.woken)? {
            Told::Unit(name) => self.look(|unit| unit.name == name),
            Told::Nothing if !self.queue.lock().is_empty() => self.read_notes(),
            Told::Nothing | Told::Any => self.look(|_| true),
        }
    }
}

impl<M: UnitManager> Iterator for Watch<M> {
    type Item = RtResult<EngineEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(event) = self.told.pop_front() {
                return Some(Ok(event));
            }
            if self.has_failed {
                return None;
            }
            if let Err(error) = self.advance() {
                self.has_failed = true;
                return Some(Err(error));
            }
        }
    }
}
