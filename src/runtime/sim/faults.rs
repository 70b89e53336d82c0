//! The gate that every call of the simulator passes: the call is counted, its deadline and cancel are looked at, and
//! the scripted faults that fit it take effect.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, RtResult, RuntimeError, unsupported};

use super::NAME;
use super::config::{SimFailure, SimFailureKind, SimFault, SimOp};

/// Faults with how often each has fitted, and calls with how often each has come.
#[derive(Default)]
pub(super) struct Faults(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    faults: Vec<(SimFault, u64)>,
    calls: BTreeMap<SimOp, u64>,
}

/// A call on its way through the engine.
pub(super) struct Passage<'a> {
    op: SimOp,
    name: String,
    began: Instant,
    deadline: Deadline,
    cancel: &'a CancelToken,
    after: Vec<SimFault>,
}

impl Faults {
    pub fn new(faults: Vec<SimFault>) -> Self {
        let this = Self::default();
        this.set(faults);
        this
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the faults; their counts begin anew.
    pub fn set(&self, faults: Vec<SimFault>) {
        self.lock().faults = faults.into_iter().map(|fault| (fault, 0)).collect();
    }

    /// How often each call has come.
    pub fn calls(&self) -> BTreeMap<SimOp, u64> {
        self.lock().calls.clone()
    }

    /// Lets a call in: counts it and lets the faults that come before its effect act.
    pub fn enter<'a>(&self, call: &Call<'a>, op: SimOp, name: &str) -> RtResult<Passage<'a>> {
        let fitting = self.count(op, name);
        let (after, before): (Vec<_>, Vec<_>) = fitting.into_iter().partition(|fault| fault.after_effect);
        let (began, deadline, cancel) = (Instant::now(), call.deadline, call.cancel);
        let passage = Passage { op, name: name.to_owned(), began, deadline, cancel, after };
        passage.check()?;
        passage.suffer(&before)?;
        Ok(passage)
    }

    fn count(&self, op: SimOp, name: &str) -> Vec<SimFault> {
        let mut inner = self.lock();
        *inner.calls.entry(op).or_insert(0) += 1;
        let mut fitting = Vec::new();
        for (fault, count) in &mut inner.faults {
            if fault.op.is_none_or(|of| of == op) && fits(&fault.name, name) {
                *count += 1;
                if fault.nth.is_none_or(|nth| nth == *count) {
                    fitting.push(fault.clone());
                }
            }
        }
        fitting
    }
}

impl Passage<'_> {
    /// Fails where the call is cancelled or late.
    pub fn check(&self) -> RtResult<()> {
        if self.cancel.is_cancelled() {
            return Err(RuntimeError::Cancelled { op: self.what() });
        }
        if self.deadline.is_over() {
            return Err(RuntimeError::Timeout { op: self.what(), after: self.began.elapsed() });
        }
        Ok(())
    }

    /// Waits so long, or fails where the call is cancelled or late before.
    pub fn wait(&self, how_long: Duration) -> RtResult<()> {
        let until = self.deadline.at_most(how_long);
        let whole = until < self.deadline;
        if self.cancel.wait(Urge::Cancel, until) == Urge::Cancel || !whole {
            return self.check();
        }
        Ok(())
    }

    /// Lets the faults act that come after the effect.
    pub fn leave<T>(self, outcome: T) -> RtResult<T> {
        self.suffer(&self.after)?;
        Ok(outcome)
    }

    fn suffer(&self, faults: &[SimFault]) -> RtResult<()> {
        for fault in faults {
            if fault.hang {
                self.wait(Duration::MAX)?;
            }
            if fault.delay_ms > 0 {
                self.wait(Duration::from_millis(fault.delay_ms))?;
            }
            if let Some(failure) = &fault.fail {
                return Err(self.error(failure));
            }
        }
        Ok(())
    }

    fn what(&self) -> String {
        if self.name.is_empty() { self.op.word().to_owned() } else { format!("{} of '{}'", self.op.word(), self.name) }
    }

    fn error(&self, failure: &SimFailure) -> RuntimeError {
        let engine = NAME.to_owned();
        let (op, name) = (self.op.word().to_owned(), self.name.clone());
        let reason = failure.message.clone();
        match failure.kind {
            SimFailureKind::EngineNotAvailable => RuntimeError::EngineNotAvailable { engine, reason },
            SimFailureKind::Connection => RuntimeError::Connection { engine, op, reason },
            SimFailureKind::NotFound => RuntimeError::NotFound { what: reason },
            SimFailureKind::AlreadyExists => RuntimeError::AlreadyExists { what: reason, detail: String::new() },
            SimFailureKind::InvalidState => RuntimeError::InvalidState { op, id: name, state: reason },
            SimFailureKind::InvalidSpec => RuntimeError::InvalidSpec { reason },
            SimFailureKind::Unsupported => unsupported(NAME, reason),
            SimFailureKind::Timeout => RuntimeError::Timeout { op: self.what(), after: self.began.elapsed() },
            SimFailureKind::ImagePull => RuntimeError::ImagePull { image: name, reason },
            SimFailureKind::PermissionDenied => RuntimeError::PermissionDenied { reason },
            SimFailureKind::Io => RuntimeError::Io { what: self.what(), reason },
            SimFailureKind::Engine => RuntimeError::Engine { engine, op, code: 500, message: reason },
        }
    }
}

/// Whether a name fits a pattern with `*` (any characters) and `?` (one).
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on when what was tried after the last `*` does not fit.
    let mut retry = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                p = star + 1;
                n = from + 1;
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_fits_as_in_a_shell() {
        for (pattern, name) in [("*", ""), ("*", "x"), ("web_*", "web_main"), ("*a?c", "aabc"), ("a*b*c", "axxbyybzc")]
        {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "x"), ("web_*", "db_main"), ("?", ""), ("a*b", "ab_"), ("*x", "")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
