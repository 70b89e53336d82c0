//! The simulator's clock: wall-clock nanoseconds that only go forward while this process lives.
//!
//! Wall-clock, because a state file outlives the process and its containers go on in between.

use std::time::{Duration, Instant};

use crate::clock::{Clock, SystemClock};

use super::script::NS_PER_MS;

/// Further than any script's time; keeps `Instant` arithmetic from overflowing.
const FARTHEST: Duration = Duration::from_secs(20 * 365 * 24 * 3600);

/// Tells the time and turns it into instants to wait for.
pub(super) struct SimClock {
    base_ns: u64,
    origin: Instant,
}

impl SimClock {
    pub fn new() -> Self {
        Self { base_ns: SystemClock.now_ms().saturating_mul(NS_PER_MS), origin: Instant::now() }
    }

    /// Nanoseconds since the epoch.
    pub fn now(&self) -> u64 {
        self.base_ns.saturating_add(u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    /// The instant at which [`SimClock::now`] is `ns`; times before this clock's beginning are its beginning.
    pub fn instant(&self, ns: u64) -> Instant {
        self.origin + Duration::from_nanos(ns.saturating_sub(self.base_ns)).min(FARTHEST)
    }
}
