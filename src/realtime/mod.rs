//! Real time: the port [`RealtimeScheduler`] by which the tasks of a Schedule are admitted before their workloads start,
//! the [`Desk`] in front of it, the test that tasks have to pass before it is asked, and CPUs that one workload has alone.
//!
//! CPUs, from the bottom: [`topology`] is what the kernel tells, [`cores`] the ledger's rules, `census` who runs where,
//! [`confine`] what is done about it, and [`keeper`] all of these with the store and the engines.
//!
//! Enters: who admits and schedules real-time tasks and what it holds, who may run on which CPU. Stays out: documents
//! (`manifest`) and the wire (`grpc::client`).

pub mod admission;
mod census;
pub mod confine;
pub mod cores;
mod desk;
#[cfg(test)]
pub(crate) mod fake;
pub mod keeper;
pub mod topology;

pub use admission::Inadmissible;
pub use desk::{Admission, Desk, Rules};

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::model::schedule::Schedule;

/// How admission fails: then nothing of the Schedule is in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
    /// The tasks cannot be scheduled, whoever is asked.
    #[error("Schedule '{schedule}' cannot be admitted: {reason}")]
    Inadmissible {
        /// Whose Schedule.
        schedule: String,
        /// Why not.
        reason: Inadmissible,
    },
    /// The scheduler holds the tasks of another one.
    #[error("Schedule '{schedule}' is not admitted: {scheduler} holds Schedule '{first}', and one alone")]
    Held {
        /// Whose Schedule.
        schedule: String,
        /// The one that it holds.
        first: String,
        /// Who holds it.
        scheduler: String,
    },
    /// The scheduler refuses the tasks.
    #[error("Schedule '{schedule}' is refused by {scheduler}: {reason}")]
    Refused {
        /// Whose Schedule.
        schedule: String,
        /// Who refuses.
        scheduler: String,
        /// Why.
        reason: String,
    },
    /// The scheduler was not reached, or did not answer in time.
    #[error("Schedule '{schedule}' is not admitted: {reason}")]
    Unavailable {
        /// Whose Schedule.
        schedule: String,
        /// Why.
        reason: String,
    },
    /// The action was cancelled meanwhile.
    #[error("asking for admission of Schedule '{schedule}' was cancelled")]
    Cancelled {
        /// Whose Schedule.
        schedule: String,
    },
}

impl AdmissionError {
    /// The same about the Schedule of this name.
    #[must_use]
    pub fn of(self, name: &str) -> Self {
        let schedule = name.to_owned();
        match self {
            Self::Inadmissible { reason, .. } => Self::Inadmissible { schedule, reason },
            Self::Held { first, scheduler, .. } => Self::Held { schedule, first, scheduler },
            Self::Refused { scheduler, reason, .. } => Self::Refused { schedule, scheduler, reason },
            Self::Unavailable { reason, .. } => Self::Unavailable { schedule, reason },
            Self::Cancelled { .. } => Self::Cancelled { schedule },
        }
    }
}

impl From<AdmissionError> for Error {
    fn from(error: AdmissionError) -> Self {
        let (kind, code) = match &error {
            AdmissionError::Inadmissible { reason, .. } if reason.is_of_document() => {
                (ErrorKind::InvalidArgument, ErrorCode::ScheduleRefused)
            }
            AdmissionError::Inadmissible { .. } => (ErrorKind::FailedPrecondition, ErrorCode::ScheduleRefused),
            AdmissionError::Held { .. } => (ErrorKind::FailedPrecondition, ErrorCode::ScheduleHeld),
            AdmissionError::Refused { .. } => (ErrorKind::FailedPrecondition, ErrorCode::ScheduleRefused),
            AdmissionError::Unavailable { .. } => (ErrorKind::Unavailable, ErrorCode::SchedulerUnavailable),
            AdmissionError::Cancelled { .. } => (ErrorKind::Cancelled, ErrorCode::Cancelled),
        };
        let told = Self::new(kind, code, error.to_string());
        match &error {
            AdmissionError::Inadmissible { reason, .. } => told.at(reason.path()),
            AdmissionError::Held { first, .. } => told
                .hint(format!("end what has Schedule '{first}', or have both merged: timpani.second in the settings")),
            AdmissionError::Refused { .. } | AdmissionError::Unavailable { .. } | AdmissionError::Cancelled { .. } => {
                told
            }
        }
    }
}

/// Admits real-time tasks.
pub trait RealtimeScheduler: Send + Sync {
    /// Hands over all tasks of the Schedule, before the first start of a workload that has them. Handing over the same
    /// Schedule again is harmless.
    fn admit(&self, schedule: &Schedule, deadline: Deadline, cancel: &CancelToken) -> Result<(), AdmissionError>;

    /// Tells that nobody needs the Schedule of this name any more. Success where the scheduler has no call for that, or
    /// does not know it.
    fn release(&self, schedule: &str, deadline: Deadline, cancel: &CancelToken) -> Result<(), AdmissionError>;

    /// Who it is, for messages.
    fn name(&self) -> &str;
}
