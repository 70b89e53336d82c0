//! [`Reporter`]: tells Pullpiri's services which containers this node has and how its resources are used, in place of a
//! NodeAgent.
//!
//! A thread for each engine looks and puts what it found on the board; a thread for each who is told reads it there. So
//! neither an engine nor a listener that hangs holds up another, and what is told is always the latest. Where a NodeAgent
//! may be on this node as well, a further thread looks whether it is, and nobody is told as long as it is there.

mod board;
mod containers;
mod look;
mod node;
mod presence;
mod proc;
mod tell;

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use self::board::Board;
use self::look::Looker;
use self::tell::Telling;
use super::audience::Audience;
use crate::cancel::CancelToken;
use crate::events::HubEvent;
use crate::runtime::registry::EngineRegistry;
use crate::storage::records::Records;

/// How often somebody is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// All of it, again and again.
    Regularly,
    /// The containers, when they have changed.
    OnChange,
}

/// What a reporter is like.
#[derive(Debug, Clone)]
pub struct ReportConfig {
    /// This node.
    pub node: String,
    /// Between two looks, and two reports to those who are told regularly.
    pub every: Duration,
    /// The port on which a NodeAgent would answer, during which nobody is told; `None`: that is of no interest.
    pub agent_port: Option<u16>,
}

/// The threads' handle.
pub struct Reporter {
    board: Arc<Board>,
    stop: CancelToken,
    threads: Vec<JoinHandle<()>>,
}

impl Reporter {
    /// Tells these listeners of the containers on all engines, and of the node.
    pub fn start(
        config: &ReportConfig,
        engines: &EngineRegistry,
        records: &Records,
        listeners: Vec<(Arc<dyn Audience>, Pace)>,
    ) -> std::io::Result<Self> {
        let (board, stop) = (Arc::new(Board::default()), CancelToken::new());
        let mut reporter = Self { board: Arc::clone(&board), stop: stop.clone(), threads: Vec::new() };
        let all: Vec<_> = engines.names().into_iter().filter_map(|name| engines.get(name)).collect();
        if all.is_empty() {
            board.put_nothing();
        }
        let every = config.every;
        for engine in all {
            let name = format!("report-{}", engine.name());
            let node = config.node.clone();
            let looker = Looker::new(engine, node, records.clone(), Arc::clone(&board), stop.clone());
            reporter.spawn(name, move || looker.run(every))?;
        }
        for (audience, pace) in listeners {
            let node = config.node.clone();
            let telling = Telling { audience, node, every, board: Arc::clone(&board), stop: stop.clone() };
            reporter.spawn("report-to".to_owned(), move || match pace {
                Pace::Regularly => telling.regularly(),
                Pace::OnChange => telling.on_change(),
            })?;
        }
        match config.agent_port {
            Some(port) => {
                let own = Arc::clone(&board);
                reporter.spawn("report-agent".to_owned(), move || presence::watch(&own, port, every))?;
            }
            None => drop(board.tell(true)),
        }
        Ok(reporter)
    }

    fn spawn(&mut self, name: String, run: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
        self.threads.push(thread::Builder::new().name(name).spawn(run)?);
        Ok(())
    }

    /// What it is told with that something has happened on an engine; never blocks.
    pub fn waker(&self) -> impl Fn(&HubEvent) + Send + Sync + use<> {
        let board = Arc::clone(&self.board);
        move |event| match event {
            HubEvent::Started(instance)
            | HubEvent::Hibernated(instance)
            | HubEvent::Woken(instance)
            | HubEvent::Removed(instance)
            | HubEvent::Stopped { instance, .. } => {
                board.ask(&instance.engine);
            }
            HubEvent::Listed { engine, .. } | HubEvent::Reconnected { engine } => board.ask(engine),
            HubEvent::Disconnected { .. } => {}
        }
    }

    /// Ends the threads.
    pub fn stop(self) {
        self.stop.cancel("the Action Controller is stopping");
        self.board.close();
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a reporter's thread panicked");
            }
        }
    }
}
