//! The simulator `sim`: an engine in memory with the semantics of real ones, for tests, demonstrations and measuring.
//!
//! Enters: everything that makes the engine behave, its scripting included. Stays out: threads (a container is a
//! function of time, computed when somebody looks), files of the host (the state file apart), and knowledge of actions.
//! To add a word of the language: `script.rs`, and the table below. To add a call: `config::SimOp` and `adapter.rs`.
//!
//! # What a container does
//!
//! It runs until it is stopped and dies of SIGTERM at once with 143, unless its command says something else. Known are
//! `true`, `false`, `echo`, `sleep`, and `sh -c` with these and `exit` between `;`. Or all words of command and
//! arguments are of this language; the variable `SIM_SCRIPT` may hold such words too, with `;` between them:
//!
//! | word | what it does |
//! |---|---|
//! | `exit-after:TIME:CODE` | ends by itself |
//! | `crash-after:TIME:SIGNAL` | ends as by a signal: 128 + its number |
//! | `oom-after:TIME` | is killed for want of memory: 137 |
//! | `ignore-term` | SIGTERM does nothing |
//! | `on-term:TIME:CODE` | SIGTERM ends it after that time |
//! | `log:STREAM:TIME:TEXT` | prints a line at that time to `stdout` or `stderr` |
//! | `every:STREAM:TIME:TEXT` | prints a line at once and then each so often; `{n}` counts from 0 |
//! | `fail-start:TEXT` | the start fails with these words |
//! | `print-env:NAME`, `print-user`, `print-interfaces` | prints what it finds inside, at once |
//! | `write:PATH:TEXT`, `read:PATH` | a file, seen by others through the same mount; where it fails: stderr, code 1 |
//!
//! TIME is `500ms`, `2s` or `1m` from the start on, or for `on-term` from the signal on; it stands still while the
//! container is paused. A word that is wrong makes the creation fail. An exec takes the same words.
//!
//! Images, delays, failures and calls that hang are set by [`SimConfig`].

pub mod config;

mod adapter;
mod checkpoint;
mod exec;
mod faults;
mod images;
mod inside;
mod lifecycle;
mod objects;
mod persist;
mod run;
mod script;
mod shell;
mod state;
mod streams;
#[cfg(test)]
mod tests;
mod time;
mod wake;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::runtime::adapter::{ContainerConfig, RtResult, RuntimeError};

use config::{SimConfig, SimFault, SimOp};
use faults::Faults;
use state::State;
use time::SimClock;

/// The simulator's name as an engine.
pub const NAME: &str = "sim";

/// The simulated engine. Clones are the same engine.
#[derive(Clone)]
pub struct SimRuntime(Arc<Engine>);

impl SimRuntime {
    /// The engine as configured, for the node of this name, with what its state file keeps. Fails as
    /// [`RuntimeError::Io`] where there is a state file that cannot be read or written.
    pub fn open(config: SimConfig, node: &str) -> RtResult<Self> {
        let mut state = State::new();
        if !config.state_file.is_empty() {
            let path = Path::new(&config.state_file);
            state = persist::load(path)?.unwrap_or(state);
            persist::save(path, &state)?;
        }
        state.unavailable.clone_from(&config.unavailable);
        let faults = Faults::new(config.faults.clone());
        let (clock, state) = (SimClock::new(), Mutex::new(state));
        Ok(Self(Arc::new(Engine { config, node: node.to_owned(), clock, state, faults })))
    }

    /// Exactly what the container of this id or name was created from.
    pub fn config_of(&self, id: &str) -> Option<ContainerConfig> {
        self.0.lock().find(id).ok().map(|container| container.config.clone())
    }

    /// How often each call has come, those that failed included. A pull counts when it really fetches.
    pub fn calls(&self) -> BTreeMap<SimOp, u64> {
        self.0.faults.calls()
    }

    /// Replaces the scripted faults; their counts begin anew.
    pub fn set_faults(&self, faults: Vec<SimFault>) {
        self.0.faults.set(faults);
    }

    /// Takes the engine away with this reason, or brings it back with an empty one. Its containers go on meanwhile;
    /// open streams break.
    pub fn set_unavailable(&self, reason: &str) {
        let mut state = self.0.lock();
        state.unavailable = reason.to_owned();
        state.wakers.wake();
    }
}

/// What all clones and streams of one simulator share.
struct Engine {
    config: SimConfig,
    node: String,
    clock: SimClock,
    state: Mutex<State>,
    faults: Faults,
}

impl Engine {
    /// The state, brought up to the present.
    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves the state whole at each step, so that it is usable after a panic too.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.settle(self.clock.now());
        state
    }

    /// Looks at the present state, unless the engine is away.
    fn look<T>(&self, look: impl FnOnce(&mut State) -> RtResult<T>) -> RtResult<T> {
        let mut state = self.lock();
        if !state.unavailable.is_empty() {
            let reason = state.unavailable.clone();
            return Err(RuntimeError::EngineNotAvailable { engine: NAME.to_owned(), reason });
        }
        look(&mut state)
    }

    /// Changes the present state, keeps it in the state file and wakes who waits. `change` is told the time.
    fn change<T>(&self, change: impl FnOnce(&mut State, u64) -> RtResult<T>) -> RtResult<T> {
        self.look(|state| {
            let outcome = change(state, self.clock.now())?;
            state.settle(self.clock.now());
            state.wakers.wake();
            if !self.config.state_file.is_empty() {
                persist::save(Path::new(&self.config.state_file), state)?;
            }
            Ok(outcome)
        })
    }

    /// The name by which faults know a container: the one it has, or what it was called by.
    fn name_of(&self, id: &str) -> String {
        self.lock().find(id).map_or_else(|_| id.to_owned(), |container| container.config.name.clone())
    }
}

/// That there is no such thing.
fn not_found(what: &str, name: &str) -> RuntimeError {
    RuntimeError::NotFound { what: format!("{what} '{name}'") }
}

/// That a name is empty or has characters that engines refuse.
fn check_name(what: &str, name: &str) -> RtResult<()> {
    let is_word = |c: char| c.is_ascii_alphanumeric();
    if name.starts_with(is_word) && name.chars().all(|c| is_word(c) || matches!(c, '_' | '.' | '-')) {
        return Ok(());
    }
    let reason = format!("'{name}' is no name for a {what}: letters, digits, '_', '.' and '-', the first no mark");
    Err(RuntimeError::InvalidSpec { reason })
}
