//! [`Alarm`]: when the janitor looks next, so that it sleeps until then and an idle daemon is not woken.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

struct State {
    due: Option<Instant>,
    is_over: bool,
}

/// One time, which anybody may bring forward and one thread waits for.
pub struct Alarm {
    state: Mutex<State>,
    changed: Condvar,
}

impl Alarm {
    /// An alarm that goes off at once.
    pub fn new() -> Self {
        Self { state: Mutex::new(State { due: Some(Instant::now()), is_over: false }), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It goes off at `due`, or before. To be called after what is to be found then can be found.
    pub fn no_later_than(&self, due: Instant) {
        let mut state = self.lock();
        if state.due.is_none_or(|known| due < known) {
            state.due = Some(due);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Blocks until it goes off, which leaves it without a time; `false` once it is ended.
    pub fn wait(&self) -> bool {
        let mut state = self.lock();
        while !state.is_over {
            let left = state.due.map(|due| due.saturating_duration_since(Instant::now()));
            state = match left {
                Some(left) if left.is_zero() => {
                    state.due = None;
                    return true;
                }
                Some(left) => self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0,
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
        false
    }

    /// Whether it would go off now.
    #[cfg(test)]
    pub fn is_due(&self) -> bool {
        self.lock().due.is_some_and(|due| due <= Instant::now())
    }

    /// Whoever waits goes on at once, for the last time.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FAR: Duration = Duration::from_secs(600);

    #[test]
    fn time_brought_forward_wakes_whoever_waits() {
        let alarm = Alarm::new();
        assert!(alarm.wait());
        alarm.no_later_than(Instant::now() + FAR);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| alarm.wait());
            alarm.no_later_than(Instant::now() + Duration::from_millis(20));
            assert!(waiting.join().unwrap());
        });
    }

    #[test]
    fn later_time_does_not_put_it_off() {
        let alarm = Alarm::new();
        alarm.no_later_than(Instant::now() + FAR);
        assert!(alarm.wait());
    }

    #[test]
    fn end_wakes_whoever_waits_without_a_time() {
        let alarm = Alarm::new();
        assert!(alarm.wait());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| alarm.wait());
            alarm.end();
            assert!(!waiting.join().unwrap());
        });
        alarm.no_later_than(Instant::now());
        assert!(!alarm.wait());
    }
}
