//! [`Teller`]: tells an audience how far Scenarios are, in order, without anybody waiting for it.
//!
//! One named thread per audience, so that one that hangs delays no other. Changes wait in a bounded queue; where it is
//! full the newest are dropped and that is logged: the audience is away for long then, and learns the state anew by the
//! next trigger.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::audience::Audience;
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::error::ErrorCode;
use crate::model::action::{ActionState, Outcome};
use crate::model::report::{ScenarioChange, ScenarioState};

/// Changes that wait, at most.
const MOST: usize = 256;

/// How long it is tried to tell one change.
const TELL_BUDGET: Duration = Duration::from_secs(30);

/// Between two tries.
const PAUSE: Duration = Duration::from_secs(1);

/// The handle of the threads.
pub struct Teller {
    senders: Vec<Sender<ScenarioChange>>,
    threads: Vec<JoinHandle<()>>,
    stop: CancelToken,
}

impl Teller {
    /// Starts a thread for each of these.
    pub fn start(audiences: Vec<Arc<dyn Audience>>) -> std::io::Result<Self> {
        let stop = CancelToken::new();
        let (mut senders, mut threads) = (Vec::new(), Vec::new());
        for audience in audiences {
            let (sender, receiver) = bounded(MOST);
            let token = stop.clone();
            let run = move || tell_all(audience.as_ref(), &receiver, &token);
            threads.push(thread::Builder::new().name("teller".to_owned()).spawn(run)?);
            senders.push(sender);
        }
        Ok(Self { senders, threads, stop })
    }

    /// What is told with: never blocks, and does nothing once the teller has stopped.
    pub fn tell(&self) -> impl Fn(&ScenarioChange) + Send + Sync + use<> {
        let senders = self.senders.clone();
        move |change| {
            for sender in &senders {
                if sender.try_send(change.clone()).is_err() {
                    let (scenario, to) = (&change.scenario, change.to.as_str());
                    crate::limited!(log::Level::Warn, "that Scenario '{scenario}' is {to} is told to nobody");
                }
            }
        }
    }

    /// Ends the threads; what waits is not told.
    pub fn stop(self) {
        self.stop.cancel("the Action Controller is stopping");
        drop(self.senders);
        for thread in self.threads {
            if thread.join().is_err() {
                log::error!("a teller's thread panicked");
            }
        }
    }
}

fn tell_all(audience: &dyn Audience, changes: &Receiver<ScenarioChange>, stop: &CancelToken) {
    // Woken for its end, because senders outlive it in the dispatcher.
    while !stop.is_cancelled() {
        let Ok(change) = changes.recv_timeout(PAUSE) else { continue };
        let deadline = Deadline::after(TELL_BUDGET);
        while let Err(error) = audience.scenario(&change, deadline, stop) {
            if deadline.is_over() || stop.is_cancelled() {
                crate::limited!(log::Level::Warn, "Scenario '{}': {error}", change.scenario);
                break;
            }
            stop.wait(Urge::Cancel, deadline.at_most(PAUSE));
        }
    }
}

/// How far a Scenario is after its triggered action: satisfied, then allowed and completed, or denied. `time_ns` tells
/// transitions apart.
pub fn changes_of(scenario: &str, outcome: &Outcome, time_ns: i64) -> Vec<ScenarioChange> {
    let denied = |code: &str| code == ErrorCode::PolicyDenied.as_str();
    let is_denied = outcome.failure.as_ref().is_some_and(|failure| denied(&failure.code))
        && outcome.failed.values().all(|failure| denied(&failure.code))
        && !outcome.changed;
    let change = |from: ScenarioState, to: ScenarioState, step: i64| ScenarioChange {
        scenario: scenario.to_owned(),
        from,
        to,
        // Upstream's word, which logs are searched for.
        transition_id: format!("actioncontroller-processing-complete-{}", time_ns + step),
        time_ns: time_ns + step,
    };
    if is_denied {
        return vec![change(ScenarioState::Satisfied, ScenarioState::Denied, 0)];
    }
    let mut changes = vec![change(ScenarioState::Satisfied, ScenarioState::Allowed, 0)];
    if outcome.state == ActionState::Succeeded {
        changes.push(change(ScenarioState::Allowed, ScenarioState::Completed, 1));
    }
    changes
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use super::*;
    use crate::action::{blank, failure_of, scenario};
    use crate::application::audience::NotTold;
    use crate::error::{Error, ErrorKind};
    use crate::model::action::Verb;

    #[derive(Default)]
    struct Listener {
        heard: Mutex<Vec<String>>,
        is_away: AtomicBool,
        hangs: bool,
    }

    impl Audience for Listener {
        fn name(&self) -> &str {
            "listener"
        }
        fn scenario(&self, change: &ScenarioChange, deadline: Deadline, cancel: &CancelToken) -> Result<(), NotTold> {
            if self.hangs {
                cancel.wait(Urge::Cancel, deadline);
            }
            if self.hangs || self.is_away.load(Ordering::SeqCst) {
                return Err(NotTold { listener: "listener".into(), reason: "as scripted".into() });
            }
            self.heard.lock().unwrap().push(format!("{} {}", change.from.as_str(), change.to.as_str()));
            Ok(())
        }
    }

    fn outcome(state: ActionState, error: Option<&Error>) -> Outcome {
        let mut outcome = blank(&scenario::request("a".into(), Verb::Launch, "s"), "s", state, 0);
        outcome.failure = error.map(failure_of);
        outcome
    }

    fn words(changes: &[ScenarioChange]) -> Vec<(&str, &str)> {
        changes.iter().map(|change| (change.from.as_str(), change.to.as_str())).collect()
    }

    #[test]
    fn scenario_goes_through_the_states_that_statemanager_takes() {
        let done = changes_of("s", &outcome(ActionState::Succeeded, None), 5);
        assert_eq!(words(&done), [("satisfied", "allowed"), ("allowed", "completed")]);
        assert!(done[0].transition_id != done[1].transition_id && done[0].time_ns > 0);
        let denial = Error::new(ErrorKind::PermissionDenied, ErrorCode::PolicyDenied, "no");
        let denied = changes_of("s", &outcome(ActionState::Refused, Some(&denial)), 5);
        assert_eq!(words(&denied), [("satisfied", "denied")]);
        let failed = changes_of("s", &outcome(ActionState::Failed, Some(&Error::internal("x"))), 5);
        assert_eq!(words(&failed), [("satisfied", "allowed")]);
    }

    #[test]
    fn what_an_audience_missed_while_it_was_away_is_told_in_order_and_one_that_hangs_delays_no_other() {
        let (away, hanging) =
            (Arc::new(Listener::default()), Arc::new(Listener { hangs: true, ..Listener::default() }));
        away.is_away.store(true, Ordering::SeqCst);
        let teller = Teller::start(vec![Arc::clone(&hanging) as _, Arc::clone(&away) as _]).unwrap();
        let tell = teller.tell();
        changes_of("s", &outcome(ActionState::Succeeded, None), 5).iter().for_each(&tell);
        away.is_away.store(false, Ordering::SeqCst);
        let until = Instant::now() + Duration::from_secs(20);
        while away.heard.lock().unwrap().len() < 2 && Instant::now() < until {
            thread::yield_now();
        }
        assert_eq!(*away.heard.lock().unwrap(), ["satisfied allowed", "allowed completed"]);
        teller.stop();
        (0..2 * MOST).for_each(|_| changes_of("s", &outcome(ActionState::Failed, None), 5).iter().for_each(&tell));
    }
}
