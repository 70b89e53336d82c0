//! [`Telling`]: the thread that tells one listener.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Board, Closed};
use super::{node, proc};
use crate::application::audience::{Audience, NotTold};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;

/// The time that telling once has, beside the listener's own.
const TELL_BUDGET: Duration = Duration::from_secs(10);

/// Between two tries while a listener does not take it, at least and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5));

/// A list that has not changed is told again after this: the listener may have started anew and forgotten it.
const AGAIN: Duration = Duration::from_secs(10);

/// One listener.
pub(super) struct Telling {
    pub audience: Arc<dyn Audience>,
    pub node: String,
    pub every: Duration,
    pub board: Arc<Board>,
    pub stop: CancelToken,
}

impl Telling {
    /// Tells containers and node again and again, until the board is closed.
    pub fn regularly(&self) {
        let (mut before, mut next) = (None, Instant::now());
        while self.board.wait_for_telling().is_ok() {
            let look = |state: &mut super::board::State| {
                let is_due = state.is_telling() && Instant::now() >= next;
                // Before the first look there is no list, which is not an empty one.
                is_due.then(|| (state.version() != 0).then(|| state.list(&self.node)))
            };
            let list = match self.board.wait(Some(next.max(Instant::now())), look) {
                Ok(Some(list)) => list,
                Ok(None) => {
                    // Somebody else reports, or it was not quite time.
                    if self.pause(PAUSE.0.min(self.every)).is_err() {
                        return;
                    }
                    continue;
                }
                Err(Closed) => return,
            };
            next = Instant::now() + self.every;
            let (report, now) = node::report(&self.node, &proc::read(), before);
            let deadline = Deadline::after(TELL_BUDGET);
            let told = list.map_or(Ok(()), |list| self.audience.containers(&list, deadline, &self.stop));
            let told = told.and_then(|()| self.audience.node(&report, deadline, &self.stop));
            match told {
                Ok(()) => before = Some(now),
                Err(error) => {
                    self.log(&error);
                    if self.pause(PAUSE.0).is_err() {
                        return;
                    }
                }
            }
        }
    }

    /// Tells the containers when they have changed, until the board is closed.
    pub fn on_change(&self) {
        let (mut told, mut again, mut pause) = (0, Instant::now() + AGAIN, PAUSE.0);
        loop {
            let look = |state: &mut super::board::State| {
                let version = state.version();
                let is_due = version != told || Instant::now() >= again;
                (state.is_telling() && version != 0 && is_due).then(|| (version, state.list(&self.node)))
            };
            let (version, list) = match self.board.wait(Some(again), look) {
                Ok(Some(found)) => found,
                Ok(None) => {
                    again = Instant::now() + AGAIN;
                    continue;
                }
                Err(Closed) => return,
            };
            match self.audience.containers(&list, Deadline::after(TELL_BUDGET), &self.stop) {
                Ok(()) => (told, again, pause) = (version, Instant::now() + AGAIN, PAUSE.0),
                Err(error) => {
                    self.log(&error);
                    if self.pause(pause).is_err() {
                        return;
                    }
                    pause = (pause * 2).min(PAUSE.1);
                }
            }
        }
    }

    fn log(&self, error: &NotTold) {
        if !self.stop.is_cancelled() {
            crate::limited!(log::Level::Warn, "containers of this node: {error}");
        }
    }

    fn pause(&self, time: Duration) -> Result<(), Closed> {
        match self.stop.wait(Urge::Cancel, Deadline::after(time)) {
            Urge::Cancel => Err(Closed),
            Urge::None | Urge::Hasten => Ok(()),
        }
    }
}
