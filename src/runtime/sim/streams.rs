//! Calls of the simulator that follow something: the wait for an end, logs, and events.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::cancel::CancelToken;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{
    BlockingStream, Call, EngineEvent, LogChunk, LogOptions, OutputStream, RtResult, RuntimeError,
};

use super::config::SimOp;
use super::script::NS_PER_MS;
use super::state::{Container, State};
use super::wake::Waiter;
use super::{Engine, NAME};

/// The most items that a stream takes at once.
const BATCH: usize = 256;

impl Engine {
    pub(super) fn wait(&self, call: &Call, id: &str) -> RtResult<Option<i32>> {
        let passage = self.faults.enter(call, SimOp::Wait, &self.name_of(id))?;
        let (id, ended_before, is_over) = self.look(|state| {
            let container = state.find(id)?;
            Ok((container.id.clone(), container.ended, last_code(container)))
        })?;
        if let Some(code) = is_over {
            return passage.leave(Some(code));
        }
        let waiter = self.lock().wakers.add(call.cancel);
        let outcome = loop {
            if let Err(error) = passage.check() {
                break Err(error);
            }
            let looked = self.look(|state| Ok((self.ended_since(state, &id, ended_before), state.next_end())));
            match looked {
                Err(error) => break Err(error),
                Ok((Some(code), _)) => break Ok(code),
                Ok((None, due)) => {
                    let due = due.map(|due| self.clock.instant(due));
                    waiter.wait(Some(due.map_or(call.deadline.instant(), |due| due.min(call.deadline.instant()))));
                }
            }
        };
        self.lock().wakers.remove(waiter.number);
        passage.leave(outcome?)
    }

    /// The exit code of a run that ended since; the inner is `None` where the container is gone with it.
    fn ended_since(&self, state: &State, id: &str, ended_before: u64) -> Option<Option<i32>> {
        match state.containers.get(id) {
            None => Some(None),
            Some(container) if container.ended > ended_before => Some(container.last.as_ref().map(|last| last.code)),
            Some(_) => None,
        }
    }

    pub(super) fn logs(
        self: &Arc<Self>,
        call: &Call,
        id: &str,
        options: &LogOptions,
    ) -> RtResult<BlockingStream<LogChunk>> {
        let passage = self.faults.enter(call, SimOp::Logs, &self.name_of(id))?;
        let options = options.clone();
        let (id, run, next, mut ready) = self.look(|state| {
            let container = state.find(id)?;
            let lines = &container.log.lines;
            let kept = lines.since(0).filter(|chunk| fits(&options, chunk));
            let most = options.tail.unwrap_or(usize::MAX);
            let ready: VecDeque<LogChunk> = kept.rev().take(most).cloned().collect();
            Ok((container.id.clone(), container.run.as_ref().map(|run| run.pid), lines.end(), ready))
        })?;
        // They were taken from the end.
        ready.make_contiguous().reverse();
        let follow = options.follow.then_some(Following { id, run, next, options });
        passage.leave(Box::new(Stream::open(self, call.cancel, ready, follow)))
    }

    pub(super) fn events(self: &Arc<Self>, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        let passage = self.faults.enter(call, SimOp::Events, "")?;
        let next = self.look(|state| Ok(state.events.end()))?;
        passage.leave(Box::new(Stream::open(self, call.cancel, VecDeque::new(), Some(Watching { next }))))
    }
}

/// The code of a container that has ended and does not run again.
fn last_code(container: &Container) -> Option<i32> {
    match container.status() {
        ContainerStatus::Exited { code, .. } => code,
        ContainerStatus::Created
        | ContainerStatus::Starting
        | ContainerStatus::Running { .. }
        | ContainerStatus::Paused
        | ContainerStatus::Hibernating
        | ContainerStatus::Hibernated
        | ContainerStatus::Waking
        | ContainerStatus::Restarting
        | ContainerStatus::Stopping
        | ContainerStatus::Failed { .. } => None,
    }
}

fn fits(options: &LogOptions, chunk: &LogChunk) -> bool {
    let wanted = match chunk.stream {
        OutputStream::Stdout => options.stdout,
        OutputStream::Stderr => options.stderr,
    };
    wanted && chunk.timestamp_ns >= options.since_ms.saturating_mul(NS_PER_MS)
}

/// Where a stream's items come from.
trait Source: Send {
    type Item: Send;

    /// What there is since the last time; `None` where nothing will come any more.
    fn more(&mut self, state: &State) -> RtResult<Option<VecDeque<Self::Item>>>;

    /// When there may be more, nanoseconds since the epoch.
    fn due(&self, state: &State, now: u64) -> Option<u64>;
}

/// One run's output.
struct Following {
    id: String,
    run: Option<i32>,
    next: u64,
    options: LogOptions,
}

impl Source for Following {
    type Item = LogChunk;

    fn more(&mut self, state: &State) -> RtResult<Option<VecDeque<LogChunk>>> {
        let Some(container) = state.containers.get(&self.id) else { return Ok(None) };
        let lines = &container.log.lines;
        let from = self.next + lines.lost(self.next);
        let batch: Vec<&LogChunk> = lines.since(from).take(BATCH).collect();
        self.next = from + batch.len() as u64;
        let goes_on = container.run.as_ref().is_some_and(|run| Some(run.pid) == self.run);
        if batch.is_empty() && !goes_on {
            return Ok(None);
        }
        Ok(Some(batch.into_iter().filter(|chunk| fits(&self.options, chunk)).cloned().collect()))
    }

    fn due(&self, state: &State, now: u64) -> Option<u64> {
        let container = state.containers.get(&self.id)?;
        if container.log.lines.end() > self.next {
            return Some(now);
        }
        let run = container.run.as_ref()?;
        run.line_due(now).into_iter().chain(run.end_due()).min()
    }
}

/// What happens on the engine.
struct Watching {
    next: u64,
}

impl Source for Watching {
    type Item = EngineEvent;

    fn more(&mut self, state: &State) -> RtResult<Option<VecDeque<EngineEvent>>> {
        let lost = state.events.lost(self.next);
        if lost > 0 {
            return Err(broken(&format!("the reader fell behind and {lost} events are lost")));
        }
        let batch: VecDeque<EngineEvent> = state.events.since(self.next).take(BATCH).cloned().collect();
        self.next += batch.len() as u64;
        Ok(Some(batch))
    }

    fn due(&self, state: &State, now: u64) -> Option<u64> {
        if state.events.end() > self.next { Some(now) } else { state.next_end() }
    }
}

fn broken(reason: &str) -> RuntimeError {
    RuntimeError::Connection { engine: NAME.to_owned(), op: "a stream".to_owned(), reason: reason.to_owned() }
}

/// A stream over a source, ended by the source, by the token or by the engine going away.
struct Stream<S: Source> {
    engine: Arc<Engine>,
    cancel: CancelToken,
    waiter: Waiter,
    ready: VecDeque<S::Item>,
    source: Option<S>,
}

impl<S: Source> Stream<S> {
    fn open(engine: &Arc<Engine>, cancel: &CancelToken, ready: VecDeque<S::Item>, source: Option<S>) -> Self {
        let waiter = engine.lock().wakers.add(cancel);
        Self { engine: Arc::clone(engine), cancel: cancel.clone(), waiter, ready, source }
    }

    /// Takes what there is; otherwise says when there may be more.
    fn refill(&mut self) -> RtResult<Option<Instant>> {
        let Some(source) = &mut self.source else { return Ok(None) };
        let state = self.engine.lock();
        if !state.unavailable.is_empty() {
            return Err(broken(&state.unavailable));
        }
        match source.more(&state)? {
            Some(batch) => self.ready = batch,
            None => self.source = None,
        }
        let due = self.source.as_ref().and_then(|source| source.due(&state, self.engine.clock.now()));
        Ok(due.map(|due| self.engine.clock.instant(due)))
    }
}

impl<S: Source> Iterator for Stream<S> {
    type Item = RtResult<S::Item>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if self.cancel.is_cancelled() && (self.source.is_some() || !self.ready.is_empty()) {
                self.source = None;
                self.ready.clear();
                return Some(Err(RuntimeError::Cancelled { op: "a stream".to_owned() }));
            }
            if let Some(item) = self.ready.pop_front() {
                return Some(Ok(item));
            }
            self.source.as_ref()?;
            match self.refill() {
                Err(error) => {
                    self.source = None;
                    return Some(Err(error));
                }
                Ok(due) if self.ready.is_empty() && self.source.is_some() => self.waiter.wait(due),
                Ok(_) => {}
            }
        }
    }
}

impl<S: Source> Drop for Stream<S> {
    fn drop(&mut self) {
        self.engine.lock().wakers.remove(self.waiter.number);
    }
}
