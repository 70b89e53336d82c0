//! A real-time scheduler of this daemon's own kind, `timpani.v1.TimpaniScheduler`: cores are allocated on each node that
//! has tasks, then the tasks are applied; releasing the cores ends them.

use std::collections::BTreeMap;

use super::Called;
use super::timpani::{failed, refused};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::schedule::{Schedule, Task, TaskPolicy};
use crate::proto::timpani_scheduler as wire;
use crate::proto::timpani_scheduler_grpc::{
    TIMPANI_SCHEDULER_ALLOCATE_CORES, TIMPANI_SCHEDULER_APPLY_SCHEDULING, TIMPANI_SCHEDULER_RELEASE_CORES,
};
use crate::realtime::{AdmissionError, RealtimeScheduler};
use crate::transport::channel::{Bounds, Retry};

/// Who it is, in messages.
const NAME: &str = "TIMPANI (v1)";

/// The scheduler.
pub struct TimpaniScheduler {
    called: Called,
}

impl TimpaniScheduler {
    /// The scheduler as reached by `called`.
    pub fn new(called: Called) -> Self {
        Self { called }
    }

    fn bounds<'a>(&self, deadline: Deadline, cancel: &'a CancelToken) -> Bounds<'a> {
        Bounds { deadline: deadline.at_most(self.called.timeout), cancel }
    }
}

/// An answer's word.
fn accepted(schedule: &str, what: &str, is_accepted: bool, reason: &str) -> Result<(), AdmissionError> {
    if is_accepted { Ok(()) } else { Err(refused(NAME, schedule, format!("{what}: {reason}"))) }
}

impl RealtimeScheduler for TimpaniScheduler {
    fn admit(&self, schedule: &Schedule, deadline: Deadline, cancel: &CancelToken) -> Result<(), AdmissionError> {
        let (peer, name) = (&self.called.peer, &schedule.name);
        for (node, cpu_mask) in cpus_by_node(&schedule.tasks) {
            let node = node.to_owned();
            let what = format!("cores of node '{node}'");
            let request =
                wire::AllocateCoresRequest { workload_id: name.clone(), node, cpu_mask, ..Default::default() };
            let bounds = self.bounds(deadline, cancel);
            let answer = peer.call(&TIMPANI_SCHEDULER_ALLOCATE_CORES, &request, bounds, Retry::Idempotent);
            let answer = answer.map_err(failed(NAME, name))?;
            accepted(name, &what, answer.accepted, &answer.reason)?;
        }
        let threads = schedule.tasks.iter().map(|task| thread(task, schedule.sporadic)).collect();
        let request = wire::ApplySchedulingRequest { workload_id: name.clone(), threads, ..Default::default() };
        let bounds = self.bounds(deadline, cancel);
        let answer = peer.call(&TIMPANI_SCHEDULER_APPLY_SCHEDULING, &request, bounds, Retry::Idempotent);
        let answer = answer.map_err(failed(NAME, name))?;
        accepted(name, "its tasks", answer.accepted, &answer.reason)
    }

    fn release(&self, schedule: &str, deadline: Deadline, cancel: &CancelToken) -> Result<(), AdmissionError> {
        let request = wire::ReleaseCoresRequest { workload_id: schedule.to_owned(), ..Default::default() };
        let bounds = self.bounds(deadline, cancel);
        let method = &TIMPANI_SCHEDULER_RELEASE_CORES;
        let answer = self.called.peer.call(method, &request, bounds, Retry::Idempotent);
        let answer = answer.map_err(failed(NAME, schedule))?;
        accepted(schedule, "the release of its cores", answer.accepted, &answer.reason)
    }

    fn name(&self) -> &str {
        NAME
    }
}

/// The CPUs that a workload's tasks name on each node.
fn cpus_by_node(tasks: &[Task]) -> BTreeMap<&str, u64> {
    let mut cpus = BTreeMap::new();
    for task in tasks {
        // All of them is any, as none is.
        let named = if task.cpu_affinity == u64::MAX { 0 } else { task.cpu_affinity };
        *cpus.entry(task.node.as_str()).or_default() |= named;
    }
    cpus
}

fn thread(task: &Task, sporadic: bool) -> wire::ScheduledThread {
    let policy = match task.policy {
        TaskPolicy::Normal => wire::TaskPolicy::TASK_POLICY_NORMAL,
        TaskPolicy::Fifo => wire::TaskPolicy::TASK_POLICY_FIFO,
        TaskPolicy::RoundRobin => wire::TaskPolicy::TASK_POLICY_ROUND_ROBIN,
    };
    // Tested before: none is negative.
    let positive = |value: i32| u32::try_from(value).unwrap_or_default();
    wire::ScheduledThread {
        name: task.name.clone(),
        node: task.node.clone(),
        policy: policy.into(),
        priority: task.priority,
        cpu_mask: task.cpu_affinity,
        period_us: positive(task.period_us),
        release_us: positive(task.release_us),
        runtime_us: positive(task.runtime_us),
        deadline_us: positive(task.deadline_us),
        max_misses: positive(task.max_misses),
        sporadic,
        ..Default::default()
    }
}
