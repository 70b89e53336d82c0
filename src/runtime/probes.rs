//! Whether engines answer: probes with a bound of their own, and answers that hold for a while.
//!
//! A probe that hangs against its contract delays neither other engines nor anyone for more than its bound, and is never
//! begun a second time before it came back. Who cannot wait that long gives an engine up earlier, for everybody.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::adapter::{Probe, RuntimeAdapter};

/// How long a probe may take before its engine counts as away.
pub(super) const TIMEOUT: Duration = Duration::from_secs(2);

/// An engine that takes so long to be found away hangs.
const HANGS: Duration = Duration::from_secs(1);

/// How long an answer holds; that an engine is away at most so long.
const HOLDS: Duration = Duration::from_secs(5);

/// That an engine is away holds at least so long: many callers at once ask it once.
const AWAY_HOLDS: Duration = Duration::from_millis(20);

/// One probe: under way, or answered.
struct Attempt {
    began: Instant,
    state: Mutex<State>,
    answered: Condvar,
}

struct State {
    /// What is answered until it has: an engine that hung is taken to hang still, so that it costs nobody time again.
    meanwhile: Option<Probe>,
    answer: Option<(Instant, Probe)>,
}

/// A probe that was begun and is not waited for.
pub(super) struct Begun(Arc<Attempt>);

impl Begun {
    /// Its answer, where that is there. Otherwise the engine is taken to hang, by everybody, until it has answered.
    pub fn by_now(&self) -> Probe {
        let mut state = self.0.lock();
        if let Some(probe) = state.known() {
            return probe;
        }
        let probe = self.0.silence();
        state.meanwhile = Some(probe.clone());
        self.0.answered.notify_all();
        probe
    }
}

/// The last probe of each engine.
#[derive(Default)]
pub(super) struct Probes(Mutex<BTreeMap<String, Arc<Attempt>>>);

impl Probes {
    /// Whether each engine answers; all are asked at the same time.
    pub fn all(&self, engines: &BTreeMap<String, Arc<dyn RuntimeAdapter>>) -> BTreeMap<String, Probe> {
        let attempts: Vec<_> = engines.iter().map(|(name, engine)| (name.clone(), self.begin(engine))).collect();
        attempts.into_iter().map(|(name, attempt)| (name, attempt.outcome())).collect()
    }

    /// Whether the engine answers.
    pub fn one(&self, engine: &Arc<dyn RuntimeAdapter>) -> Probe {
        self.begin(engine).outcome()
    }

    /// What is known of the engine without waiting; where that holds no longer it is found out meanwhile.
    pub fn known(&self, engine: &Arc<dyn RuntimeAdapter>) -> Option<Probe> {
        self.begin(engine).lock().known()
    }

    /// A probe that is no older than `since`, or is under way: what was answered before that is not enough.
    pub fn afresh(&self, engine: &Arc<dyn RuntimeAdapter>, since: Instant) -> Begun {
        Begun(self.begin_unless(engine, |attempt| attempt.began >= since || attempt.is_under_way()))
    }

    /// The probe whose answer holds or that is under way, otherwise a new one.
    fn begin(&self, engine: &Arc<dyn RuntimeAdapter>) -> Arc<Attempt> {
        self.begin_unless(engine, Attempt::is_of_use)
    }

    fn begin_unless(&self, engine: &Arc<dyn RuntimeAdapter>, does: impl Fn(&Attempt) -> bool) -> Arc<Attempt> {
        // Nothing that can panic runs under this lock.
        let mut attempts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(attempt) = attempts.get(engine.name()).filter(|attempt| does(attempt)) {
            return Arc::clone(attempt);
        }
        let began = Instant::now();
        let meanwhile = attempts.get(engine.name()).and_then(|last| last.hung());
        let state = Mutex::new(State { meanwhile, answer: None });
        let attempt = Arc::new(Attempt { began, state, answered: Condvar::new() });
        attempts.insert(engine.name().to_owned(), Arc::clone(&attempt));
        let (asked, by) = (Arc::clone(engine), Arc::clone(&attempt));
        // Not joined: a probe that hangs must hold nobody up, at the end of the process neither. Each engine has one.
        let thread = thread::Builder::new().name(format!("probe-{}", engine.name())).spawn(move || {
            let answer = catch_unwind(AssertUnwindSafe(|| asked.probe()));
            by.put(answer.unwrap_or_else(|_| Probe::Unavailable { reason: "its probe panicked".to_owned() }));
        });
        if let Err(error) = thread {
            attempt.put(Probe::Unavailable { reason: format!("its probe could not be started: {error}") });
        }
        attempt
    }
}

impl State {
    /// What is answered now.
    fn known(&self) -> Option<Probe> {
        self.answer.as_ref().map(|(_, probe)| probe).or(self.meanwhile.as_ref()).cloned()
    }
}

impl Attempt {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_under_way(&self) -> bool {
        self.lock().answer.is_none()
    }

    /// Whether its answer holds or is still to come.
    fn is_of_use(&self) -> bool {
        let state = self.lock();
        state.answer.as_ref().is_none_or(|(when, probe)| when.elapsed() < self.holds(*when, probe))
    }

    /// An engine that is back is to be seen at once: one that refuses quickly is asked again soon, one that hangs not.
    fn holds(&self, answered: Instant, probe: &Probe) -> Duration {
        match probe {
            Probe::Available { .. } => HOLDS,
            Probe::Unavailable { .. } => {
                let took = answered.duration_since(self.began);
                took.saturating_mul(4).clamp(AWAY_HOLDS, HOLDS)
            }
        }
    }

    /// Its answer, where that is that the engine is away and it took its whole time to say so.
    fn hung(&self) -> Option<Probe> {
        let state = self.lock();
        let (when, probe) = state.answer.as_ref()?;
        let has_hung = when.duration_since(self.began) >= HANGS && matches!(probe, Probe::Unavailable { .. });
        has_hung.then(|| probe.clone())
    }

    fn put(&self, probe: Probe) {
        self.lock().answer = Some((Instant::now(), probe));
        self.answered.notify_all();
    }

    /// Its answer; away where that has not come in time.
    fn outcome(&self) -> Probe {
        let mut state = self.lock();
        loop {
            if let Some(probe) = state.known() {
                return probe;
            }
            let left = TIMEOUT.saturating_sub(self.began.elapsed());
            if left.is_zero() {
                return self.silence();
            }
            state = self.answered.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn silence(&self) -> Probe {
        let reason = format!("it has not answered a probe for {} ms", self.began.elapsed().as_millis());
        Probe::Unavailable { reason }
    }
}
