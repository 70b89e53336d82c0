//! [`Proof`]: whether checkpoints work on an engine, asked seldom and by one caller at a time.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::runtime::adapter::{Call, RtResult, RuntimeAdapter, RuntimeError};

/// How long it holds that they work: another kernel needs a boot, another CRIU an installation.
const WORKS_HOLDS: Duration = Duration::from_secs(3600);

/// How long it holds that they do not: somebody may be repairing it.
const FAILS_HOLDS: Duration = Duration::from_secs(30);

/// The longest time of a proof.
const LIMIT: Duration = Duration::from_secs(30);

#[derive(Default)]
struct State {
    is_running: bool,
    last: Option<(RtResult<()>, Instant)>,
}

/// What is known.
#[derive(Default)]
pub(super) struct Proof {
    state: Mutex<State>,
    changed: Condvar,
}

/// Frees the place of the one that proves, whatever happened.
struct Place<'a>(&'a Proof);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).is_running = false;
        self.0.changed.notify_all();
    }
}

impl Proof {
    /// Whether the last proof, however old, found that they work.
    pub fn works(&self) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.last.as_ref().is_some_and(|(last, _)| last.is_ok())
    }

    /// What the last proof found, or a new one where that is too old. Whoever comes while one runs waits for it.
    pub fn ask(&self, engine: &dyn RuntimeAdapter, call: &Call) -> RtResult<()> {
        let begun = Instant::now();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some((last, at)) = &state.last {
                let holds = if last.is_ok() { WORKS_HOLDS } else { FAILS_HOLDS };
                if at.elapsed() < holds {
                    return last.clone();
                }
            }
            if !state.is_running {
                break;
            }
            let op = "the proof of checkpoints".to_owned();
            if call.cancel.is_cancelled() {
                return Err(RuntimeError::Cancelled { op });
            }
            if call.deadline.is_over() {
                return Err(RuntimeError::Timeout { op, after: begun.elapsed() });
            }
            // The tick is for the token alone, which does not wake this.
            let tick = call.deadline.remaining().min(Duration::from_millis(200));
            state = self.changed.wait_timeout(state, tick).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.is_running = true;
        drop(state);
        let place = Place(self);
        let found = engine.prove_checkpoint(&Call { deadline: call.deadline.at_most(LIMIT), ..*call });
        match &found {
            // The proof was not given the time that it may take. This and the next say nothing of checkpoints.
            Err(_) if call.deadline.is_over() => {
                let op = "the proof of checkpoints".to_owned();
                return Err(RuntimeError::Timeout { op, after: begun.elapsed() });
            }
            Err(RuntimeError::Cancelled { .. } | RuntimeError::EngineNotAvailable { .. }) => {}
            Ok(()) | Err(_) => {
                if let Err(error) = &found {
                    log::warn!("hibernation does not work on {}: {error}", engine.name());
                }
                let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                state.last = Some((found.clone(), Instant::now()));
            }
        }
        drop(place);
        found
    }
}
