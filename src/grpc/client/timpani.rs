//! TIMPANI's timpani-o as the scheduler of real-time tasks: `AddSchedInfo`.
//!
//! It keeps one workload: what is handed over takes the place of what was there. It has no call that takes tasks back.

use super::Called;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::schedule::{Schedule, Task, TaskPolicy};
use crate::proto::schedinfo::{SchedInfo, SchedPolicy, TaskInfo};
use crate::proto::schedinfo_grpc::SCHED_INFO_SERVICE_ADD_SCHED_INFO;
use crate::realtime::{AdmissionError, RealtimeScheduler};
use crate::transport::channel::{Bounds, PeerError, Retry};

/// The scheduler.
pub struct Timpani {
    called: Called,
}

impl Timpani {
    /// timpani-o as reached by `called`.
    pub fn new(called: Called) -> Self {
        Self { called }
    }
}

impl RealtimeScheduler for Timpani {
    fn admit(&self, schedule: &Schedule, deadline: Deadline, cancel: &CancelToken) -> Result<(), AdmissionError> {
        let request = SchedInfo {
            workload_id: schedule.name.clone(),
            tasks: schedule.tasks.iter().map(task).collect(),
            ..SchedInfo::default()
        };
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        let answer = self.called.peer.call(&SCHED_INFO_SERVICE_ADD_SCHED_INFO, &request, bounds, Retry::Idempotent);
        let name = schedule.name.clone();
        let answer = answer.map_err(|error| match error {
            PeerError::Cancelled { .. } => AdmissionError::Cancelled { schedule: name.clone() },
            PeerError::Refused { ref message, .. } => refused(&name, message.clone()),
            PeerError::Away { .. } | PeerError::Silent { .. } => {
                AdmissionError::Unavailable { schedule: name.clone(), reason: error.to_string() }
            }
        })?;
        if answer.status == 0 { Ok(()) } else { Err(refused(&name, format!("status {}", answer.status))) }
    }
}

fn refused(schedule: &str, reason: String) -> AdmissionError {
    AdmissionError::Refused { schedule: schedule.to_owned(), scheduler: "TIMPANI".to_owned(), reason }
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
