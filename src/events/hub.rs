//! [`Hub`]: one thread per engine that watches it, and finds it again when it was away.
//!
//! It subscribes first and lists second, so that nothing falls in between. While an engine is away what is known of it is
//! kept; when it is back the difference is told before that it is back.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::tracked::Tracked;
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::model::workload::labels;
use crate::runtime::adapter::{
    BlockingStream, Call, ContainerInstance, EngineEvent, EngineEventKind, ListFilter, NoProgress, RtResult,
    RuntimeAdapter, RuntimeError,
};
use crate::runtime::registry::EngineRegistry;

/// Between two tries to reach an engine that is away, at least and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Between two looks at an engine that tells nothing by itself.
const POLL: Duration = Duration::from_secs(2);

/// The time of one look.
const LOOK_BUDGET: Duration = Duration::from_secs(10);

/// What the hub tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HubEvent {
    /// All our containers of an engine, after each time that it was found: at the start, and when it was away.
    Listed {
        /// The engine.
        engine: String,
        /// Its containers of ours.
        containers: Vec<ContainerInstance>,
    },
    /// A container runs.
    Started(ContainerInstance),
    /// A container has ended; told once for each time that it ran.
    Stopped {
        /// As it is now, or was known last.
        instance: ContainerInstance,
        /// Its exit code, where that is known.
        exit_code: Option<i32>,
    },
    /// A container was checkpointed to disk: its run is not over.
    Hibernated(ContainerInstance),
    /// A container goes on from its checkpoint.
    Woken(ContainerInstance),
    /// A container is gone.
    Removed(ContainerInstance),
    /// An engine does not answer; what is known of it is kept.
    Disconnected {
        /// The engine.
        engine: String,
        /// Why.
        reason: String,
    },
    /// An engine answers again; what has changed meanwhile was told before.
    Reconnected {
        /// The engine.
        engine: String,
    },
}

/// Told of everything, from the threads of the engines. Does not block.
pub type Listener = Arc<dyn Fn(HubEvent) + Send + Sync>;

/// The threads' handle.
pub struct Hub {
    stop: CancelToken,
    threads: Vec<JoinHandle<()>>,
}

impl Hub {
    /// Watches every engine for containers of `node`.
    pub fn start(engines: &EngineRegistry, node: &str, listener: &Listener) -> std::io::Result<Self> {
        let stop = CancelToken::new();
        let mut threads = Vec::new();
        for name in engines.names() {
            let Some(engine) = engines.get(name) else { continue };
            let watched = Watched {
                engine,
                filter: ListFilter { all: true, labels: [(labels::NODE.to_owned(), node.to_owned())].into() },
                node: node.to_owned(),
                listener: Arc::clone(listener),
                stop: stop.clone(),
                tracked: Tracked::default(),
            };
            threads.push(thread::Builder::new().name(format!("hub-{name}")).spawn(move || watched.run())?);
        }
        Ok(Self { stop, threads })
    }

    /// Ends watching. Takes no longer than a look at an engine.
    pub fn stop(self) {
        self.stop.cancel("the Action Controller is stopping");
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a hub's thread panicked");
            }
        }
    }
}

/// One engine.
struct Watched {
    engine: Arc<dyn RuntimeAdapter>,
    filter: ListFilter,
    node: String,
    listener: Listener,
    stop: CancelToken,
    tracked: Tracked,
}

impl Watched {
    fn run(mut self) {
        let mut backoff = BACKOFF.0;
        let mut is_away = false;
        while !self.stop.is_cancelled() {
            let error = match self.watch(is_away) {
                // An engine that ended its stream was there until now.
                Ok(error) => {
                    (backoff, is_away) = (BACKOFF.0, false);
                    error
                }
                Err(error) => error,
            };
            if self.stop.is_cancelled() {
                return;
            }
            if !is_away {
                is_away = true;
                let engine = self.engine.name().to_owned();
                self.tell(HubEvent::Disconnected { engine, reason: error.to_string() });
            }
            self.stop.wait(Urge::Cancel, Deadline::after(jittered(backoff)));
            backoff = (backoff * 2).min(BACKOFF.1);
        }
    }

    fn tell(&self, event: HubEvent) {
        (self.listener)(event);
    }

    fn look(&self) -> Call<'_> {
        Call { deadline: Deadline::after(LOOK_BUDGET), cancel: &self.stop, progress: &NoProgress }
    }

    /// Watches until the engine goes away, which is `Ok` where it was there at first.
    fn watch(&mut self, was_away: bool) -> RtResult<RuntimeError> {
        let events = match self.engine.watch_events(&self.look()) {
            Ok(events) => Some(events),
            Err(RuntimeError::Unsupported { .. }) => None,
            Err(error) => return Err(error),
        };
        self.list()?;
        if was_away {
            self.tell(HubEvent::Reconnected { engine: self.engine.name().to_owned() });
        }
        Ok(match events {
            Some(events) => self.drain(events),
            None => self.poll(),
        })
    }

    fn list(&mut self) -> RtResult<()> {
        let containers = self.engine.list_containers(&self.look(), &self.filter)?;
        for event in self.tracked.listed(&containers) {
            self.tell(event);
        }
        self.tell(HubEvent::Listed { engine: self.engine.name().to_owned(), containers });
        Ok(())
    }

    fn poll(&mut self) -> RuntimeError {
        loop {
            if self.stop.wait(Urge::Cancel, Deadline::after(POLL)) == Urge::Cancel {
                return RuntimeError::Cancelled { op: "watch".to_owned() };
            }
            if let Err(error) = self.list() {
                return error;
            }
        }
    }

    fn drain(&mut self, events: BlockingStream<EngineEvent>) -> RuntimeError {
        for event in events {
            let handled = event.and_then(|event| self.handle(&event));
            if let Err(error) = handled {
                return error;
            }
        }
        RuntimeError::Connection {
            engine: self.engine.name().to_owned(),
            op: "events".to_owned(),
            reason: "the stream ended".to_owned(),
        }
    }

    /// What an engine says is looked at before it is told: a signal to a living container is no death.
    fn handle(&mut self, event: &EngineEvent) -> RtResult<()> {
        let is_ours = event.labels.get(labels::NODE).is_none_or(|node| *node == self.node);
        if !is_ours {
            return Ok(());
        }
        let exit_code = if let EngineEventKind::Died { exit_code } = event.kind { exit_code } else { None };
        let found = self.engine.inspect_container(&self.look(), &event.id);
        let events = match (found, event.kind) {
            (Ok(instance), _) if instance.labels.get(labels::NODE) != Some(&self.node) => Vec::new(),
            (Ok(instance), EngineEventKind::Started) => self.tracked.started(instance),
            (Ok(instance), EngineEventKind::Died { .. }) => self.tracked.died(instance, exit_code),
            (
                Ok(instance),
                EngineEventKind::Created
                | EngineEventKind::OutOfMemory
                | EngineEventKind::Paused
                | EngineEventKind::Resumed
                | EngineEventKind::Hibernated
                | EngineEventKind::Woken
                | EngineEventKind::Removed,
            ) => self.tracked.seen(instance),
            (Err(RuntimeError::NotFound { .. }), _) => self.tracked.removed(&event.id, exit_code),
            (Err(error), _) => return Err(error),
        };
        events.into_iter().for_each(|event| self.tell(event));
        Ok(())
    }
}

/// A wait that differs from one engine and node to the next, so that not all try at the same moment.
fn jittered(wait: Duration) -> Duration {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    wait.mul_f64(0.75 + f64::from(nanos % 1000) / 2000.0)
}
