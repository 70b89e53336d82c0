//! [`Board`]: what is known of the node's containers, where those who look put it and those who tell read it.
//!
//! It is held for no longer than a comparison of lists takes, never over a call. An engine that does not answer keeps
//! its last list: a container that vanished without an end would be taken for one that died.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::containers::differ;
use crate::model::report::{ContainerList, ContainerReport};

/// What is known, and what is asked for.
#[derive(Default)]
pub(super) struct State {
    /// The last list of each engine.
    lists: BTreeMap<String, Vec<ContainerReport>>,
    /// Counts the changes of all lists; 0: nothing is known yet.
    version: u64,
    /// Engines that are to be looked at now.
    asked: BTreeSet<String>,
    /// Whether anybody is told at all.
    is_telling: bool,
    is_over: bool,
}

impl State {
    /// The number of the last change; 0: nothing is known yet.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Whether anybody is told at all.
    pub fn is_telling(&self) -> bool {
        self.is_telling
    }

    /// Takes out that this engine is to be looked at now.
    pub fn take_asked(&mut self, engine: &str) -> bool {
        self.asked.remove(engine)
    }

    /// What is told, in the engines' order.
    pub fn list(&self, node: &str) -> ContainerList {
        ContainerList { node: node.to_owned(), containers: self.lists.values().flatten().cloned().collect() }
    }
}

/// Shared by all threads of the reporter.
#[derive(Default)]
pub(super) struct Board {
    state: Mutex<State>,
    changed: Condvar,
}

impl Board {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an engine's new list.
    pub fn put(&self, engine: &str, list: Vec<ContainerReport>) {
        let mut state = self.lock();
        let is_new = state.lists.get(engine).is_none_or(|known| differ(known, &list));
        state.lists.insert(engine.to_owned(), list);
        if is_new {
            state.version += 1;
            drop(state);
            self.changed.notify_all();
        }
    }

    /// That no engine has any container, where there is no engine.
    pub fn put_nothing(&self) {
        self.lock().version += 1;
        self.changed.notify_all();
    }

    /// Has an engine looked at now. Does not block.
    pub fn ask(&self, engine: &str) {
        let mut state = self.lock();
        if state.is_telling && state.asked.insert(engine.to_owned()) {
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Whether anybody is told from now on; says whether that is a change.
    pub fn tell(&self, is_telling: bool) -> bool {
        let mut state = self.lock();
        let was = std::mem::replace(&mut state.is_telling, is_telling);
        drop(state);
        self.changed.notify_all();
        was != is_telling
    }

    /// Ends every wait.
    pub fn close(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }

    /// Waits until `look` gives something, which is `Some`, or until `until`, which is `None`. Gives `Err` once the board
    /// is closed.
    pub fn wait<T>(
        &self,
        until: Option<Instant>,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Result<Option<T>, Closed> {
        let mut state = self.lock();
        loop {
            if state.is_over {
                return Err(Closed);
            }
            if let Some(found) = look(&mut state) {
                return Ok(Some(found));
            }
            state = match until.map(|until| until.saturating_duration_since(Instant::now())) {
                Some(left) if left.is_zero() => return Ok(None),
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Waits without an end until anybody is told.
    pub fn wait_for_telling(&self) -> Result<(), Closed> {
        self.wait(None, |state| state.is_telling.then_some(())).map(|_| ())
    }
}

/// The reporter ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

#[cfg(test)]
mod tests {
    use super::*;

    fn container(id: &str) -> ContainerReport {
        ContainerReport { id: id.into(), ..ContainerReport::default() }
    }

    fn now(board: &Board) -> (u64, usize) {
        let look = |state: &mut State| Some((state.version(), state.list("ecu").containers.len()));
        board.wait(None, look).unwrap().unwrap()
    }

    #[test]
    fn list_that_is_the_same_is_no_change_and_engines_are_told_together() {
        let board = Board::default();
        assert_eq!(now(&board), (0, 0));
        board.put("podman", vec![container("a")]);
        assert_eq!(now(&board), (1, 1));
        board.put("podman", vec![container("a")]);
        board.put("sim", vec![]);
        assert_eq!(now(&board), (2, 1), "that an engine has nothing is known by then");
        board.put("sim", vec![container("b")]);
        assert_eq!(now(&board), (3, 2));
    }

    #[test]
    fn engine_is_looked_at_once_however_often_it_is_asked_for_and_not_while_nobody_is_told() {
        let board = Board::default();
        let take = || board.wait(Some(Instant::now()), |state| state.take_asked("sim").then_some(())).unwrap();
        board.ask("sim");
        assert_eq!(take(), None);
        assert!(board.tell(true) && !board.tell(true));
        board.ask("sim");
        board.ask("sim");
        assert_eq!((take(), take()), (Some(()), None));
    }

    #[test]
    fn closing_ends_every_wait() {
        let board = Board::default();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| board.wait_for_telling());
            board.close();
            assert_eq!(waits.join().unwrap(), Err(Closed));
        });
    }
}
