//! [`Follower`]: one action is followed to its end, with its progress.
//!
//! The action never depends on this process. Ctrl-C once tells how to follow and to cancel it, twice leaves it alone;
//! a lost connection or `--timeout` leaves it alone too.

use std::time::{Duration, Instant};

use crate::api::{ActionSpec, Event, Outcome, WatchActionResponse};
use crate::client::{Client, Messages, Next};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::interrupt::Interrupt;
use crate::progress::{Display, TICK};
use crate::render::tree::ToNode;
use crate::screen::Screen;

/// Follows one action.
pub struct Follower<'a> {
    /// The action.
    pub id: &'a str,
    /// Where it runs.
    pub client: &'a Client,
    /// Ctrl-C.
    pub interrupt: &'a Interrupt,
    /// When to leave it alone.
    pub until: Option<Instant>,
}

impl Follower<'_> {
    /// Shows every event, and gives the outcome. Where the daemon has no stream left, the action is attended without
    /// its progress, for which its request has to be known.
    pub fn follow(&self, display: &Display<'_>, spec: Option<&ActionSpec>) -> Result<Outcome> {
        let mut messages = self.client.watch(self.id)?;
        let mut patience = Patience::default();
        loop {
            match messages.next(TICK) {
                Ok(Next::Message(message)) => {
                    display.event(&message);
                    if let WatchActionResponse { event: Some(Event::Outcome(outcome)), .. } = message {
                        return Ok(drained(outcome, &mut messages));
                    }
                }
                Ok(Next::Quiet) => display.tick(),
                Ok(Next::End) => return self.look_up(),
                Err(failure) => match spec {
                    Some(spec) if has_no_stream_left(&failure) => return self.attend(display, spec),
                    Some(_) | None => return Err(self.lost(failure)),
                },
            }
            self.check(&mut patience, |text| display.say(text))?;
        }
    }

    /// Waits for the outcome alone.
    fn attend(&self, display: &Display<'_>, spec: &ActionSpec) -> Result<Outcome> {
        let mut attendance = self.client.attend(spec)?;
        let mut patience = Patience::default();
        loop {
            if let Some(outcome) = attendance.outcome(TICK).map_err(|failure| self.lost(failure))? {
                return Ok(outcome);
            }
            display.tick();
            self.check(&mut patience, |text| display.say(text))?;
        }
    }

    /// Prints every event as a document of its own, for programs.
    pub fn documents(&self, screen: &mut Screen) -> Result<Exit> {
        let mut messages = self.client.watch(self.id)?;
        let mut patience = Patience::default();
        let mut exit = Exit::Failed;
        while !screen.is_closed() {
            match messages.next(TICK).map_err(|failure| self.lost(failure))? {
                Next::Message(message) => {
                    screen.document(&message.node())?;
                    if let Some(Event::Outcome(outcome)) = &message.event {
                        exit = Exit::of_outcome(outcome);
                    }
                }
                Next::Quiet => {}
                Next::End => return Ok(exit),
            }
            self.check(&mut patience, |text| screen.note(text))?;
        }
        Ok(Exit::Ok)
    }

    /// Ends the following, and nothing else, at the second Ctrl-C and when the time is over.
    fn check(&self, patience: &mut Patience, say: impl Fn(&str)) -> Result<()> {
        if self.interrupt.was_pressed() {
            if patience.was_told {
                return Err(self.left_alone(Exit::Interrupted, "interrupted"));
            }
            patience.was_told = true;
            say(&format!("The action goes on. {} Press Ctrl-C again to leave it alone.", self.ways()));
        }
        match self.until {
            Some(until) if Instant::now() >= until => {
                Err(self.left_alone(Exit::Timeout, "the action has not ended in time"))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// A failure in the middle of following: a daemon that went away or stops leaves the ways back.
    fn lost(&self, failure: Failure) -> Failure {
        match failure.exit == Exit::Unreachable {
            true => failure.note("action", self.id).hint(format!("the action is the daemon's. {}", self.ways())),
            false => failure,
        }
    }

    /// A stream that ended without an outcome.
    fn look_up(&self) -> Result<Outcome> {
        let action = self.client.action(self.id)?;
        action
            .outcome
            .into_option()
            .ok_or_else(|| self.left_alone(Exit::Failed, "the daemon stopped telling of the action"))
    }

    fn left_alone(&self, exit: Exit, message: &str) -> Failure {
        Failure::new(exit, message).note("action", self.id).hint(format!("it goes on. {}", self.ways()))
    }

    /// How to come back to the action.
    fn ways(&self) -> String {
        format!("Follow it: actionctl actions --watch {0}. Cancel it: actionctl cancel {0}.", self.id)
    }
}

/// How often Ctrl-C was answered.
#[derive(Default)]
struct Patience {
    was_told: bool,
}

/// Whether the daemon refused just the stream.
fn has_no_stream_left(failure: &Failure) -> bool {
    failure.detail.as_ref().is_some_and(|detail| detail.code == "TOO_MANY_STREAMS")
}

/// Reads the stream's end, which comes right after the outcome, so that the call ends well and is not cut off.
fn drained(outcome: Outcome, messages: &mut Messages<WatchActionResponse>) -> Outcome {
    // Whatever comes, the outcome is there.
    let _ = messages.next(Duration::from_millis(200));
    outcome
}
