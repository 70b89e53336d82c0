//! Time: the clock that the rest of the program asks, and [`Deadline`], the time budget of one request.
//!
//! Nothing here sleeps. A blocking call takes a `Deadline` and derives its timeouts from it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the wall-clock time comes from, so that tests can set it.
pub trait Clock: Send + Sync {
    /// Milliseconds since the Unix epoch, UTC.
    fn now_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock that shows `now_ms` milliseconds since the Unix epoch.
    pub fn new(now_ms: u64) -> Self {
        Self(AtomicU64::new(now_ms))
    }

    /// Moves the clock forward by `by`.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// The instant at which a request's time is over. It is passed down through every blocking call; monotonic, so a
/// changed wall clock neither shortens nor lengthens it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

/// Further away than any configured limit; keeps `Instant` arithmetic from overflowing.
const FARTHEST: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

impl Deadline {
    /// The deadline that lies `budget` from now; budgets beyond ten years are cut to that.
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget.min(FARTHEST))
    }

    /// What is left, zero when the time is over.
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The earlier of this deadline and `budget` from now: the budget of a part of the work.
    pub fn at_most(&self, budget: Duration) -> Self {
        Self(self.0.min(Self::after(budget).0))
    }

    /// The instant itself, for waits that take one.
    pub fn instant(&self) -> Instant {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_of_a_deadline_never_ends_after_the_whole() {
        let whole = Deadline::after(Duration::from_secs(5));
        assert_eq!(whole.at_most(Duration::from_secs(60)), whole);
        assert!(whole.at_most(Duration::from_secs(1)) < whole);
    }

    #[test]
    fn endless_budget_does_not_overflow() {
        assert!(!Deadline::after(Duration::MAX).is_over());
    }

    #[test]
    fn past_deadline_has_nothing_left() {
        let past = Deadline::after(Duration::ZERO);
        assert!(past.is_over());
        assert_eq!(past.remaining(), Duration::ZERO);
    }

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::new(5);
        assert_eq!(clock.now_ms(), 5);
        clock.advance(Duration::from_millis(7));
        assert_eq!(clock.now_ms(), 12);
    }
}
