//! TIMPANI's timpani-o as the scheduler of real-time tasks: `AddSchedInfo`, and `EnforceRecoveryPolicy` where that is
//! configured.
//!
//! It keeps one workload: what is handed over takes the place of what was there. Only newer ones than May 2026 have a call
//! that lets go of tasks.

use super::Called;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::schedule::{Schedule, Task, TaskPolicy};
use crate::proto::schedinfo::{
    RecoveryCommand, RecoveryPolicy, Response, SchedInfo, SchedPolicy, TaskInfo, TemporalClass,
};
use crate::proto::schedinfo_grpc::{RECOVERY_SERVICE_ENFORCE_RECOVERY_POLICY, SCHED_INFO_SERVICE_ADD_SCHED_INFO};
use crate::realtime::{AdmissionError, RealtimeScheduler};
use crate::transport::channel::{Bounds, PeerError, Retry};

/// Who it is, in messages.
const NAME: &str = "TIMPANI";

/// What it is told of tasks that nobody needs any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// Nothing: they go with the next Schedule.
    Untold,
    /// To stop them.
    Stop,
    /// To terminate them.
    Terminate,
}

/// The scheduler.
pub struct Timpani {
    called: Called,
    release: Release,
}

impl Timpani {
    /// timpani-o as reached by `called`, told by `release` of what nobody needs any more.
    pub fn new(called: Called, release: Release) -> Self {
        Self { called, release }
    }
}

impl RealtimeScheduler for Timpani {
    fn admit(&self, schedule: &Schedule, deadline: Deadline, cancel: &CancelToken) -> Result<(), AdmissionError> {
        let class = if schedule.sporadic { TemporalClass::TEMPORAL_SPORADIC } else { TemporalClass::TEMPORAL_PERIODIC };
        let request = SchedInfo {
            workload_id: schedule.name.clone(),
            tasks: schedule.tasks.iter().map(task).collect(),
            temporal_class: class.into(),
            ..SchedInfo::default()
        };
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        let answer = self.called.peer.call(&SCHED_INFO_SERVICE_ADD_SCHED_INFO, &request, bounds, Retry::Idempotent);
        accepted(&schedule.name, answer)
    }

    fn release(&self, schedule: &str, deadline: Deadline, cancel: &CancelToken) -> Result<(), AdmissionError> {
        let policy = match self.release {
            Release::Untold => return Ok(()),
            Release::Stop => RecoveryPolicy::STOP,
            Release::Terminate => RecoveryPolicy::TERMINATE,
        };
        let request = RecoveryCommand {
            workload_id: schedule.to_owned(),
            recovery_policy: policy.into(),
            ..RecoveryCommand::default()
        };
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        let method = &RECOVERY_SERVICE_ENFORCE_RECOVERY_POLICY;
        accepted(schedule, self.called.peer.call(method, &request, bounds, Retry::Idempotent))
    }

    fn name(&self) -> &str {
        NAME
    }
}

/// A refusal inside an OK answer is a refusal.
fn accepted(schedule: &str, answer: Result<Response, PeerError>) -> Result<(), AdmissionError> {
    let answer = answer.map_err(failed(NAME, schedule))?;
    if answer.status == 0 { Ok(()) } else { Err(refused(NAME, schedule, format!("status {}", answer.status))) }
}

/// What a failed call to the scheduler `name` means for a Schedule.
pub(super) fn failed<'a>(name: &'a str, schedule: &'a str) -> impl Fn(PeerError) -> AdmissionError + 'a {
    move |error| match error {
        PeerError::Cancelled { .. } => AdmissionError::Cancelled { schedule: schedule.to_owned() },
        PeerError::Refused { message, .. } => refused(name, schedule, message),
        PeerError::Away { .. } | PeerError::Silent { .. } => {
            AdmissionError::Unavailable { schedule: schedule.to_owned(), reason: error.to_string() }
        }
    }
}

/// The scheduler `name` does not take the tasks.
pub(super) fn refused(name: &str, schedule: &str, reason: String) -> AdmissionError {
    AdmissionError::Refused { schedule: schedule.to_owned(), scheduler: name.to_owned(), reason }
}

fn task(task: &Task) -> TaskInfo {
    let policy = match task.policy {
        TaskPolicy::Normal => SchedPolicy::NORMAL,
        TaskPolicy::Fifo => SchedPolicy::FIFO,
        TaskPolicy::RoundRobin => SchedPolicy::RR,
    };
    TaskInfo {
        name: task.name.clone(),
        priority: task.priority,
        policy: policy.into(),
        cpu_affinity: task.cpu_affinity,
        period: task.period_us,
        release_time: task.release_us,
        runtime: task.runtime_us,
        deadline: task.deadline_us,
        node_id: task.node.clone(),
        max_dmiss: task.max_misses,
        ..TaskInfo::default()
    }
}
