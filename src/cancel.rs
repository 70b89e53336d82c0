//! [`CancelToken`]: how work under way is told to end, also while it blocks.
//!
//! A call that blocks on a socket registers a hook that shuts the socket down; a call that waits does so on the token.
//! Hooks run on the cancelling thread and must not block.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

use crate::clock::Deadline;

/// What has been asked of the work. Only ever rises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Urge {
    /// Nothing: go on.
    #[default]
    None,
    /// End the grace of a stop now and kill; the work itself goes on to its end.
    Hasten,
    /// End the work.
    Cancel,
}

type Hook = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    urge: Urge,
    reason: String,
    hooks: BTreeMap<u64, Hook>,
    next_hook: u64,
    children: Vec<Weak<Shared>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

/// A shared flag with hooks. Clones are the same token.
#[derive(Clone, Default)]
pub struct CancelToken(Arc<Shared>);

impl CancelToken {
    /// A token of which nothing has been asked.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under this lock can only come from a hook, after which the state is still whole.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the work to end and says why; the first reason is kept. Runs every registered hook once.
    pub fn cancel(&self, reason: &str) {
        let mut state = self.lock();
        if state.urge == Urge::Cancel {
            return;
        }
        state.urge = Urge::Cancel;
        state.reason = reason.to_owned();
        for hook in std::mem::take(&mut state.hooks).into_values() {
            hook();
        }
        let children = std::mem::take(&mut state.children);
        drop(state);
        self.0.changed.notify_all();
        for child in children.iter().filter_map(Weak::upgrade) {
            Self(child).cancel(reason);
        }
    }

    /// A token that is told whatever this one is told, and that can be cancelled without it.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self::new();
        let mut state = self.lock();
        let (urge, reason) = (state.urge, state.reason.clone());
        state.children.retain(|other| other.strong_count() > 0);
        state.children.push(Arc::downgrade(&child.0));
        drop(state);
        match urge {
            Urge::None => {}
            Urge::Hasten => child.hasten(),
            Urge::Cancel => child.cancel(&reason),
        }
        child
    }

    /// Asks a stop to end its grace now. No effect on cancelled work, and none on calls that know no grace.
    pub fn hasten(&self) {
        let mut state = self.lock();
        state.urge = state.urge.max(Urge::Hasten);
        let children: Vec<_> = state.children.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        self.0.changed.notify_all();
        for child in children {
            Self(child).hasten();
        }
    }

    /// Whether the work has been asked to end.
    pub fn is_cancelled(&self) -> bool {
        self.lock().urge == Urge::Cancel
    }

    /// What has been asked so far.
    pub fn urge(&self) -> Urge {
        self.lock().urge
    }

    /// Why the work was cancelled; empty while it is not.
    pub fn reason(&self) -> String {
        self.lock().reason.clone()
    }

    /// Registers `hook` to run when the token is cancelled, at once if it already is. Dropping the registration takes
    /// the hook out.
    #[must_use = "the hook is taken out when the registration is dropped"]
    pub fn on_cancel(&self, hook: impl Fn() + Send + 'static) -> Registration {
        let mut state = self.lock();
        if state.urge == Urge::Cancel {
            drop(state);
            hook();
            return Registration { token: None, id: 0 };
        }
        let id = state.next_hook;
        state.next_hook += 1;
        state.hooks.insert(id, Box::new(hook));
        Registration { token: Some(self.clone()), id }
    }

    /// Blocks until at least `urge` is asked or `deadline` is over; says what is asked then.
    pub fn wait(&self, urge: Urge, deadline: Deadline) -> Urge {
        let mut state = self.lock();
        while state.urge < urge {
            let left = deadline.instant().saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state = self.0.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.urge
    }
}

/// Keeps a hook registered, see [`CancelToken::on_cancel`].
pub struct Registration {
    token: Option<CancelToken>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(token) = &self.token {
            token.lock().hooks.remove(&self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[test]
    fn hook_runs_once_and_not_after_its_registration_is_gone() {
        let token = CancelToken::new();
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = |runs: &Arc<AtomicUsize>| {
            let runs = Arc::clone(runs);
            move || {
                runs.fetch_add(1, Ordering::SeqCst);
            }
        };
        let _kept = token.on_cancel(counted(&runs));
        drop(token.on_cancel(counted(&runs)));
        token.cancel("first");
        token.cancel("second");
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert_eq!(token.reason(), "first");
        let _late = token.on_cancel(counted(&runs));
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn child_is_told_what_its_parent_is_told_and_not_the_other_way() {
        let parent = CancelToken::new();
        let (one, two) = (parent.child(), parent.child());
        one.cancel("alone");
        assert!(!parent.is_cancelled() && !two.is_cancelled());
        parent.hasten();
        assert_eq!(two.urge(), Urge::Hasten);
        parent.cancel("all");
        assert_eq!((one.reason(), two.reason()), ("alone".to_owned(), "all".to_owned()));
        assert_eq!(parent.child().reason(), "all");
    }

    #[test]
    fn wait_ends_at_the_deadline_when_nothing_is_asked() {
        let token = CancelToken::new();
        assert_eq!(token.wait(Urge::Hasten, Deadline::after(Duration::from_millis(5))), Urge::None);
    }

    #[test]
    fn hasten_wakes_a_waiting_grace_but_is_no_cancel() {
        let token = CancelToken::new();
        token.hasten();
        assert_eq!(token.wait(Urge::Hasten, Deadline::after(Duration::from_secs(60))), Urge::Hasten);
        assert!(!token.is_cancelled());
        token.cancel("x");
        token.hasten();
        assert_eq!(token.urge(), Urge::Cancel);
    }
}
