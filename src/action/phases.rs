//! [`PhaseClock`]: where an action's time goes. The phases follow one another without a gap, so they add up.

use std::time::Instant;

use crate::model::action::Phases;

/// A sequential phase of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Waiting.
    Queue,
    /// Policy and security.
    Policy,
    /// Documents, observation, plan.
    Plan,
    /// Steps and their undoing.
    Run,
    /// The store.
    Store,
}

/// Gives the time since the last lap to a phase.
#[derive(Debug, Clone)]
pub struct PhaseClock {
    accepted: Instant,
    last: Instant,
    phases: Phases,
}

impl PhaseClock {
    /// A clock that starts at the action's acceptance.
    pub fn since(accepted: Instant) -> Self {
        Self { accepted, last: accepted, phases: Phases::default() }
    }

    /// The time since the last lap belongs to `phase`.
    pub fn lap(&mut self, phase: Phase) {
        let now = Instant::now();
        let took = micros(now.duration_since(self.last));
        self.last = now;
        let field = match phase {
            Phase::Queue => &mut self.phases.queue_us,
            Phase::Policy => &mut self.phases.policy_us,
            Phase::Plan => &mut self.phases.plan_us,
            Phase::Run => &mut self.phases.run_us,
            Phase::Store => &mut self.phases.store_us,
        };
        *field += took;
    }

    /// The phases so far; the total is up to the last lap.
    pub fn phases(&self) -> Phases {
        Phases { total_us: micros(self.last.duration_since(self.accepted)), ..self.phases }
    }
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_add_up_to_the_total() {
        let mut clock = PhaseClock::since(Instant::now());
        for phase in [Phase::Queue, Phase::Policy, Phase::Plan, Phase::Run, Phase::Store, Phase::Run] {
            std::thread::yield_now();
            clock.lap(phase);
        }
        let phases = clock.phases();
        let sum = phases.queue_us + phases.policy_us + phases.plan_us + phases.run_us + phases.store_us;
        assert!(phases.total_us.abs_diff(sum) <= 6, "{phases:?}");
    }
}
