//! [`Desk`]: in front of a scheduler that holds one workload's tasks, as TIMPANI does, and has no call to take them back.
//!
//! 1. A Schedule is tested ([`super::admission`]); what cannot be scheduled goes no further.
//! 2. What the scheduler holds is read, less what nobody needs any more. A second Schedule is refused, or its tasks are
//!    handed over together with those that are there, under the name by which they are known.
//! 3. What it holds then is recorded, and only then is the scheduler asked: after a crash at any instant it is known.
//! 4. After an action has ended, the record is brought in line with what the workloads' own records say
//!    ([`Desk::settle`]): a workload holds its Schedule while it shall run, or while its action is under way or has still to
//!    be undone. So an action that failed gives back what it had, a stop frees, and a crash leaves nothing behind.
//!
//! One admission or settlement at a time; who waits for another does so within its own deadline.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::admission::{self, Inadmissible};
use super::{AdmissionError, RealtimeScheduler};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::schedule::Schedule;
use crate::storage::StoreError;
use crate::storage::held::{self, Held, Share};
use crate::storage::records::{Desired, Records, WorkloadRecord};

/// A scheduler that could not be told of what holds is told again after so long, at the earliest.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// What holds at the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// What a CPU may be used for, percent.
    pub limit: u32,
    /// Whether a second Schedule is handed over together with the first, rather than refused.
    pub merges: bool,
}

/// A Schedule that is to be admitted.
#[derive(Debug, Clone, Copy)]
pub struct Admission<'a> {
    /// Its tasks.
    pub schedule: &'a Schedule,
    /// For whom.
    pub workloads: &'a [String],
    /// The action that starts them.
    pub action_id: &'a str,
}

/// The desk.
pub struct Desk {
    scheduler: Arc<dyn RealtimeScheduler>,
    records: Records,
    rules: Rules,
    /// When the scheduler could not be told of what holds, where that is so still.
    failed_at: Mutex<Option<Instant>>,
    /// Holds one token: who has it is at the desk.
    gate: (Sender<()>, Receiver<()>),
}

/// Why a workload holds a Schedule.
enum Need {
    /// It does not any more.
    None,
    /// Its action is under way, or has still to be undone.
    UnderWay,
    /// It shall run with these tasks, as its record says since that time.
    Recorded(u64, Schedule),
}

/// Being at the desk, until it is dropped.
struct Turn<'a>(&'a Sender<()>);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // There is room for the one token.
        let _ = self.0.try_send(());
    }
}

impl Desk {
    /// A desk in front of `scheduler`; what that holds is in `records`.
    pub fn new(scheduler: Arc<dyn RealtimeScheduler>, records: Records, rules: Rules) -> Self {
        let gate = bounded(1);
        let _ = gate.0.try_send(());
        Self { scheduler, records, rules, failed_at: Mutex::default(), gate }
    }

    fn turn(&self, deadline: Deadline) -> Option<Turn<'_>> {
        self.gate.1.recv_deadline(deadline.instant()).ok().map(|()| Turn(&self.gate.0))
    }

    /// Whether the Schedule would be admitted as things are, as far as can be said without asking the scheduler. Has no
    /// effect.
    pub fn look(&self, admission: &Admission<'_>, deadline: Deadline) -> Result<(), AdmissionError> {
        test(admission.schedule, self.rules.limit, &admission.schedule.name)?;
        self.after(admission, deadline).map(drop)
    }

    /// Has the Schedule admitted, before the first start of a workload that has it. Again for the same workloads is
    /// harmless.
    pub fn admit(
        &self,
        admission: &Admission<'_>,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<(), AdmissionError> {
        let name = &admission.schedule.name;
        test(admission.schedule, self.rules.limit, name)?;
        let reason = "others were being admitted all the time".to_owned();
        let _turn = self.turn(deadline).ok_or(AdmissionError::Unavailable { schedule: name.clone(), reason })?;
        let (before, after) = self.after(admission, deadline)?;
        held::write(&self.records, &after, deadline).map_err(not_recorded(name))?;
        let admitted = self.scheduler.admit(&after.union(), deadline, cancel);
        if admitted.is_err() {
            // Whether it has taken it nobody knows: settling tells it what holds.
            let name = if before.name.is_empty() { after.name.clone() } else { before.name };
            let unsure = Held { name, is_unsure: true, shares: before.shares };
            if let Err(error) = held::write(&self.records, &unsure, deadline) {
                log::warn!("what {} holds is not recorded: {error}", self.scheduler.name());
            }
        }
        // Merged tasks go by another name; what failed is this Schedule.
        admitted.map_err(|error| error.of(name))
    }

    /// What is held now, and what would be with this Schedule.
    fn after(&self, admission: &Admission<'_>, deadline: Deadline) -> Result<(Held, Held), AdmissionError> {
        let name = &admission.schedule.name;
        let before = held::read(&self.records, deadline).map_err(not_recorded(name))?;
        // Its workloads leave what they had.
        let leaving: BTreeSet<&str> = admission.workloads.iter().map(String::as_str).collect();
        let mut after = self.still_held(&before, &leaving, deadline).map_err(not_recorded(name))?;
        let other = after.shares.iter().find(|share| share.schedule.name != *name);
        if let Some(other) = other {
            let first = other.schedule.name.clone();
            if !self.rules.merges {
                let scheduler = self.scheduler.name().to_owned();
                return Err(AdmissionError::Held { schedule: name.clone(), first, scheduler });
            }
            if other.schedule.sporadic != admission.schedule.sporadic {
                return Err(inadmissible(name, Inadmissible::Classes { first }));
            }
        }
        let holders = admission.workloads.iter().map(|workload| (workload.clone(), admission.action_id.to_owned()));
        match after.shares.iter_mut().find(|share| share.schedule.name == *name) {
            Some(share) => {
                share.schedule.clone_from(admission.schedule);
                share.holders.extend(holders);
            }
            None => after.shares.push(Share { schedule: admission.schedule.clone(), holders: holders.collect() }),
        }
        if after.name.is_empty() {
            after.name.clone_from(name);
        }
        test(&after.union(), self.rules.limit, name)?;
        Ok((before, after))
    }

    /// What is held without `leaving` and those who do not need it any more.
    fn still_held(&self, held: &Held, leaving: &BTreeSet<&str>, deadline: Deadline) -> Result<Held, StoreError> {
        let mut still = Held { name: held.name.clone(), ..Held::default() };
        for share in &held.shares {
            let mut holders = BTreeMap::new();
            // The tasks that the holders have, by when; none where an action may change them still.
            let mut recorded = Some(BTreeMap::new());
            for (workload, action_id) in share.holders.iter().filter(|(name, _)| !leaving.contains(name.as_str())) {
                match self.need(share, workload, action_id, deadline)? {
                    Need::None => continue,
                    Need::UnderWay => recorded = None,
                    Need::Recorded(at_ms, schedule) => drop(recorded.as_mut().map(|all| all.insert(at_ms, schedule))),
                }
                holders.insert(workload.clone(), action_id.clone());
            }
            if holders.is_empty() {
                continue;
            }
            // Tasks of this name that failed to take the place of those before are nobody's.
            let is_of_nobody = |all: &BTreeMap<u64, Schedule>| !all.values().any(|other| *other == share.schedule);
            let latest = recorded.filter(is_of_nobody).and_then(|mut all| all.pop_last());
            let schedule = latest.map_or_else(|| share.schedule.clone(), |(_, schedule)| schedule);
            still.shares.push(Share { schedule, holders });
        }
        if still.shares.is_empty() {
            still.name.clear();
        }
        Ok(still)
    }

    fn need(&self, share: &Share, workload: &str, action_id: &str, deadline: Deadline) -> Result<Need, StoreError> {
        if held::is_under_way(&self.records, action_id, deadline)? {
            return Ok(Need::UnderWay);
        }
        let record = match self.record(workload, deadline) {
            Ok(record) => record,
            // Whatever it says, it may run.
            Err(StoreError::Damaged { .. }) => return Ok(Need::UnderWay),
            Err(error) => return Err(error),
        };
        let Some(record) = record.filter(|record| schedule_of(record) == Some(&share.schedule.name)) else {
            return Ok(Need::None);
        };
        let at_ms = record.updated_ms;
        Ok(record.schedule.map_or(Need::None, |schedule| Need::Recorded(at_ms, schedule)))
    }

    fn record(&self, workload: &str, deadline: Deadline) -> Result<Option<WorkloadRecord>, StoreError> {
        Ok(self.records.workload(workload, deadline)?.map(|found| found.value))
    }

    /// Brings what is held in line with what is recorded of these workloads and of those that hold anything, once their
    /// action has ended, and tells the scheduler where that is something else. What fails is logged, and done with the
    /// next.
    pub fn settle(&self, workloads: &[String], deadline: Deadline) {
        let Some(_turn) = self.turn(deadline) else {
            return crate::limited!(log::Level::Warn, "what {} holds is looked at later", self.scheduler.name());
        };
        if let Err(error) = self.settle_now(workloads, deadline) {
            crate::limited!(log::Level::Warn, "what {} holds is not settled: {error}", self.scheduler.name());
        }
    }

    fn settle_now(&self, workloads: &[String], deadline: Deadline) -> Result<(), StoreError> {
        let before = held::read(&self.records, deadline)?;
        if before == Held::default() {
            return Ok(());
        }
        let mut now = self.still_held(&before, &BTreeSet::new(), deadline)?;
        for workload in workloads {
            if !now.shares.iter().any(|share| share.holders.contains_key(workload)) {
                self.take_back(&mut now, workload, deadline)?;
            }
        }
        if now == before {
            return Ok(());
        }
        let is_same = now.union() == before.union();
        if is_same && before.is_unsure && self.has_just_failed() {
            // Whoever ends something else is not kept waiting by a scheduler that is away.
            return Ok(());
        }
        held::write(&self.records, &now, deadline)?;
        let is_told = (is_same && !before.is_unsure) || self.tell(&before, &now, deadline);
        *self.failed_at() = (!is_told).then(Instant::now);
        if is_told { Ok(()) } else { held::write(&self.records, &Held { is_unsure: true, ..now }, deadline) }
    }

    fn failed_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_just_failed(&self) -> bool {
        self.failed_at().is_some_and(|failed| failed.elapsed() < TELL_AGAIN)
    }

    /// A workload that runs as it did before an action failed has the Schedule that it had.
    fn take_back(&self, now: &mut Held, workload: &str, deadline: Deadline) -> Result<(), StoreError> {
        let record = match self.record(workload, deadline) {
            Err(StoreError::Damaged { .. }) => None,
            other => other?,
        };
        let Some(record) = record.filter(|record| schedule_of(record).is_some()) else { return Ok(()) };
        let Some(schedule) = record.schedule else { return Ok(()) };
        let holder = (workload.to_owned(), record.action_id);
        if now.shares.is_empty() {
            now.name.clone_from(&schedule.name);
        }
        match now.shares.iter_mut().find(|share| share.schedule.name == schedule.name) {
            Some(share) => share.holders.extend([holder]),
            None => now.shares.push(Share { schedule, holders: [holder].into() }),
        }
        Ok(())
    }

    /// Tells the scheduler; whether that worked.
    fn tell(&self, before: &Held, now: &Held, deadline: Deadline) -> bool {
        let cancel = CancelToken::new();
        let told = match now.shares.is_empty() {
            true if before.name.is_empty() => Ok(()),
            true => self.scheduler.release(&before.name, deadline, &cancel),
            false => self.scheduler.admit(&now.union(), deadline, &cancel),
        };
        match told {
            Ok(()) => {
                let shares: Vec<_> = now.shares.iter().map(|share| format!("'{}'", share.schedule.name)).collect();
                let what = if shares.is_empty() { "no Schedule".to_owned() } else { shares.join(", ") };
                log::info!("{} holds {what} from now on", self.scheduler.name());
                true
            }
            // With nothing held there is nothing that could be lost.
            Err(error) if now.shares.is_empty() => {
                let name = self.scheduler.name();
                let what = "keeps tasks that nobody needs until the next Schedule takes their place";
                crate::limited!(log::Level::Warn, "{name} was not told, and {what}: {error}");
                true
            }
            Err(error) => {
                crate::limited!(log::Level::Warn, "{} is told later: {error}", self.scheduler.name());
                false
            }
        }
    }

    /// What is held now.
    pub fn held(&self, deadline: Deadline) -> Result<Held, StoreError> {
        held::read(&self.records, deadline)
    }
}

/// The name of the Schedule that a workload needs: as long as it shall not be stopped.
fn schedule_of(record: &WorkloadRecord) -> Option<&String> {
    let schedule = record.schedule.as_ref().map(|schedule| &schedule.name);
    match record.desired {
        Desired::Running | Desired::Paused | Desired::Hibernated => schedule,
        Desired::Stopped => None,
    }
}

fn test(schedule: &Schedule, limit: u32, name: &str) -> Result<(), AdmissionError> {
    admission::test(schedule, limit).map_err(|reason| inadmissible(name, reason))
}

fn inadmissible(name: &str, reason: Inadmissible) -> AdmissionError {
    AdmissionError::Inadmissible { schedule: name.to_owned(), reason }
}

fn not_recorded(name: &str) -> impl Fn(StoreError) -> AdmissionError {
    move |error| AdmissionError::Unavailable { schedule: name.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests;
