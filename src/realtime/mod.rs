//! Real time: the port [`RealtimeScheduler`] by which the tasks of a Schedule are admitted before their workloads start,
//! and CPUs that one workload has alone.
//!
//! CPUs, from the bottom: [`topology`] is what the kernel tells, [`cores`] the ledger's rules, `census` who runs where,
//! `confine` what is done about it, and [`keeper`] all of these with the store and the engines.
//!
//! Enters: who admits and schedules real-time tasks, who may run on which CPU. Stays out: documents (`manifest`) and the
//! wire (`grpc::client`).

mod census;
pub mod confine;
pub mod cores;
#[cfg(test)]
pub(crate) mod fake;
pub mod keeper;
pub mod topology;

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind};
use crate::model::schedule::Schedule;

/// How admission fails: then nothing of the Schedule is in force.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdmissionError {
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

impl From<AdmissionError> for Error {
    fn from(error: AdmissionError) -> Self {
        let (kind, code) = match &error {
            AdmissionError::Refused { .. } => (ErrorKind::FailedPrecondition, ErrorCode::ScheduleRefused),
            AdmissionError::Unavailable { .. } => (ErrorKind::Unavailable, ErrorCode::SchedulerUnavailable),
            AdmissionError::Cancelled { .. } => (ErrorKind::Cancelled, ErrorCode::Cancelled),
        };
        Self::new(kind, code, error.to_string())
    }
}

/// Admits real-time tasks.
pub trait RealtimeScheduler: Send + Sync {
    /// Hands over all tasks of the Schedule, before the first start of a workload that has them. Handing over the same
    /// Schedule again is harmless.
    fn admit(&self, schedule: &Schedule, deadline: Deadline, cancel: &CancelToken) -> Result<(), AdmissionError>;
}
