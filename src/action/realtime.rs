//! The real-time tasks of an action: which Schedule its workloads need, whether that can be admitted, what their records
//! say of it afterwards, and that what nobody needs any more is given back.

use std::time::Duration;

use super::Ports;
use super::plan::starts;
use super::target::Loaded;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, Ignorable, Verb, Warning};
use crate::model::plan::{Plan, StepOp};
use crate::model::schedule::Schedule;
use crate::realtime::Admission;
use crate::storage::StoreError;
use crate::storage::records::{Desired, WorkloadRecord};

/// The time that settling what is held has once an action has ended, the call to the scheduler included.
const SETTLE_BUDGET: Duration = Duration::from_secs(5);

/// Adds the Schedule that is recorded of the workloads, where the verb reads no documents and makes something run that does
/// not hold it. Gives what the caller should know.
pub(super) fn recall(
    ports: &Ports,
    request: &ActionRequest,
    loaded: &mut Loaded,
    deadline: Deadline,
) -> Result<Vec<Warning>> {
    let is_given_up = request.parameters.ignore.contains(&Ignorable::Schedule);
    // What the daemon starts again holds its Schedule all the time.
    let is_held = request.parameters.supervised;
    if ports.outside.realtime.is_none() || is_given_up || is_held || !may_need(request.verb) {
        return Ok(Vec::new());
    }
    if request.verb == Verb::Offload {
        let mut warnings = Vec::new();
        loaded.schedule = moved(ports, request, &loaded.target, &mut warnings, deadline)?;
        return Ok(warnings);
    }
    let mut needed: Vec<Schedule> = Vec::new();
    for workload in &loaded.workloads {
        let Some(record) = record(ports, workload, deadline)? else { continue };
        needed.extend(needed_of(request.verb, record).filter(|schedule| !needed.contains(schedule)));
    }
    if let [one, other, ..] = needed.as_slice() {
        let message = format!(
            "workloads of '{}' have different tasks, of Schedules '{}' and '{}'",
            loaded.target, one.name, other.name
        );
        let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::ScheduleHeld, message).at("target");
        return Err(error.hint("act on each workload by itself, or update the Package"));
    }
    loaded.schedule = needed.pop();
    Ok(Vec::new())
}

/// The record; `None` for one that is damaged, which is told where the workload is observed.
fn record(ports: &Ports, workload: &str, deadline: Deadline) -> Result<Option<WorkloadRecord>> {
    match ports.records.workload(workload, deadline) {
        Ok(found) => Ok(found.map(|found| found.value)),
        Err(StoreError::Damaged { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The Schedule of a workload that goes to another node, with its tasks there. Whose tasks those of a node are no Schedule
/// says: where another workload on its node has the same one they stay.
fn moved(
    ports: &Ports,
    request: &ActionRequest,
    workload: &str,
    warnings: &mut Vec<Warning>,
    deadline: Deadline,
) -> Result<Option<Schedule>> {
    let (Some(desk), Some(to)) = (&ports.outside.realtime, &request.parameters.target_node) else { return Ok(None) };
    let own = ports.settings.get().node.clone();
    let node_of = |record: &WorkloadRecord| record.spec.other_node().unwrap_or(&own).to_owned();
    let Some(found) = record(ports, workload, deadline)? else { return Ok(None) };
    let from = node_of(&found);
    let Some(mut schedule) = found.schedule.filter(|_| from != *to) else { return Ok(None) };
    let held = desk.held(deadline)?;
    let share = held.shares.iter().find(|share| share.schedule.name == schedule.name);
    for other in share.iter().flat_map(|share| share.holders.keys()).filter(|name| name.as_str() != workload) {
        if record(ports, other, deadline)?.is_some_and(|record| node_of(&record) == from) {
            let message =
                format!("tasks of Schedule '{}' stay on node '{from}', where '{other}' has it", schedule.name);
            warnings.push(Warning::new("", 0, message));
            return Ok((found.desired == Desired::Stopped).then_some(schedule));
        }
    }
    schedule.tasks.iter_mut().filter(|task| task.node == from).for_each(|task| task.node.clone_from(to));
    Ok(Some(schedule))
}

/// Whether the verb can make something run that does not hold its Schedule and is not read from documents.
fn may_need(verb: Verb) -> bool {
    match verb {
        Verb::Start | Verb::Restart | Verb::Rollback | Verb::Offload => true,
        Verb::Launch
        | Verb::Update
        | Verb::Stop
        | Verb::Kill
        | Verb::Remove
        | Verb::Terminate
        | Verb::Pause
        | Verb::Resume
        | Verb::Hibernate
        | Verb::Wake
        | Verb::Scale => false,
    }
}

fn needed_of(verb: Verb, record: WorkloadRecord) -> Option<Schedule> {
    let is_stopped = record.desired == Desired::Stopped;
    match verb {
        Verb::Rollback => {
            let before = record.previous.and_then(|previous| previous.schedule);
            before.filter(|before| is_stopped || record.schedule.as_ref() != Some(before))
        }
        _ => record.schedule.filter(|_| is_stopped),
    }
}

/// Refuses a plan whose Schedule would not be admitted as things are, before any effect.
pub(super) fn look(
    ports: &Ports,
    request: &ActionRequest,
    loaded: &Loaded,
    plan: &Plan,
    deadline: Deadline,
) -> Result<()> {
    let (Some(desk), Some(schedule)) = (&ports.outside.realtime, &loaded.schedule) else { return Ok(()) };
    if !admits(plan) {
        return Ok(());
    }
    let admission = Admission { schedule, workloads: &loaded.workloads, action_id: &request.id };
    Ok(desk.look(&admission, deadline)?)
}

/// Gives back what nobody needs any more, once an action on these workloads has ended.
pub(super) fn settle(ports: &Ports, workloads: &[String]) {
    if let Some(desk) = &ports.outside.realtime {
        desk.settle(workloads, Deadline::after(SETTLE_BUDGET));
    }
}

fn admits(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| matches!(step.op, StepOp::Admit { .. }))
}

/// The Schedule of a workload's record once an action has succeeded: what it was admitted with, where it was. `asked` is
/// the one that the action was about.
pub(super) fn recorded(
    verb: Verb,
    plan: &Plan,
    asked: Option<&Schedule>,
    workload: &str,
    before: Option<&WorkloadRecord>,
) -> Option<Schedule> {
    let was = || before.and_then(|before| before.schedule.clone());
    match verb {
        Verb::Launch | Verb::Update | Verb::Rollback | Verb::Offload if admits(plan) => asked.cloned(),
        // It was started without.
        Verb::Launch if plan.steps.iter().any(|step| step.workload == workload && starts(&step.op)) => None,
        // Its Package names none any more.
        Verb::Update if asked.is_none() => None,
        Verb::Rollback => match before.and_then(|before| before.previous.as_ref()) {
            Some(previous) => previous.schedule.clone(),
            None => was(),
        },
        _ => was(),
    }
}
