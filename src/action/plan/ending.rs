//! What ends or halts a workload of this node: stop, kill, remove, terminate, pause and resume, hibernate and wake. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Builder, View};
use crate::action::blueprint;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{Parameters, Verb};
use crate::model::plan::StepOp;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::workload::labels;
use crate::runtime::adapter::ContainerInstance;

/// Whether a stop has something to end: processes, or a checkpoint, which is given up.
fn can_end(container: &&ContainerInstance) -> bool {
    container.status.is_live() || container.status == ContainerStatus::Hibernated
}

/// Stops what is live once `before` is done; gives the steps by container.
pub(super) fn stop_steps(
    builder: &mut Builder,
    view: &View,
    parameters: &Parameters,
    before: &[usize],
) -> BTreeMap<String, usize> {
    let signal = parameters.signal.clone().unwrap_or_else(|| "SIGTERM".to_owned());
    let grace_ms = view.grace_ms(parameters);
    let mut stopped = BTreeMap::new();
    for container in view.containers.iter().filter(can_end) {
        let name = container.name.clone();
        let op = StepOp::Stop { container: name.clone(), grace_ms, signal: signal.clone() };
        stopped.insert(name, builder.push(op, before));
    }
    stopped
}

pub(super) fn stop(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    if !view.is_known() && !view.superseded {
        return Err(view.unknown());
    }
    let stopped: Vec<_> = stop_steps(builder, view, parameters, &[]).into_values().collect();
    stop_pod(builder, view, &stopped);
    Ok(())
}

/// Once nothing of a workload runs, its pod holds no ports.
fn stop_pod(builder: &mut Builder, view: &View, ended: &[usize]) {
    let has_pod = view.record.as_ref().is_some_and(|record| record.spec.needs_pod());
    if has_pod && !ended.is_empty() {
        builder.push(StepOp::StopPod { pod: view.name.clone() }, ended);
    }
}

pub(super) fn kill(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    if !view.is_known() && !view.superseded {
        return Err(view.unknown());
    }
    let signal = parameters.signal.clone().unwrap_or_else(|| "SIGKILL".to_owned());
    let mut killed = Vec::new();
    let can_be_told = |container: &&ContainerInstance| container.status.is_live();
    let ends = signal == "SIGKILL";
    for container in view.containers.iter().filter(|found| if ends { can_end(found) } else { can_be_told(found) }) {
        killed.push(builder.push(StepOp::Kill { container: container.name.clone(), signal: signal.clone() }, &[]));
    }
    if signal == "SIGKILL" {
        stop_pod(builder, view, &killed);
    }
    Ok(())
}

pub(super) fn remove(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    if !parameters.force
        && let Some(live) = view.containers.iter().find(can_end)
    {
        return Err(view.invalid_state(Verb::Remove, live, "stop it first, or use terminate, or force"));
    }
    remove_steps(builder, view, parameters.force, &BTreeMap::new());
    Ok(())
}

pub(super) fn terminate(builder: &mut Builder, view: &View, parameters: &Parameters) {
    let stopped = stop_steps(builder, view, parameters, &[]);
    remove_steps(builder, view, true, &stopped);
}

fn remove_steps(builder: &mut Builder, view: &View, force: bool, stopped: &BTreeMap<String, usize>) {
    let mut gone = Vec::new();
    for container in &view.containers {
        let after: Vec<_> = stopped.get(&container.name).copied().into_iter().collect();
        let op = StepOp::Remove { container: container.name.clone(), force };
        gone.push(builder.push(op, &after));
    }
    for pod in &view.leftovers.pods {
        let after = gone.clone();
        gone.push(builder.push(StepOp::RemovePod { pod: pod.clone() }, &after));
    }
    for volume in &view.leftovers.volumes {
        builder.push(StepOp::RemoveVolume { volume: volume.clone() }, &gone);
    }
    let recorded = view.record.iter().flat_map(|record| blueprint::networks(&record.spec));
    leave_networks(builder, view, recorded.chain(&view.leftovers.networks), &gone);
}

/// Notes networks that a workload leaves with the steps `gone`.
pub(super) fn leave_networks<'a>(
    builder: &mut Builder,
    view: &View,
    networks: impl Iterator<Item = &'a String>,
    gone: &[usize],
) {
    for network in networks {
        let left = builder.left_networks.entry((view.engine.clone(), network.clone()));
        let (_, after) = left.or_insert_with(|| (view.name.clone(), BTreeSet::new()));
        after.extend(gone);
    }
}

/// Networks go once all members that the plan removes are gone, those of several workloads once.
pub(super) fn remove_networks(builder: &mut Builder) {
    for ((_, network), (workload, after)) in std::mem::take(&mut builder.left_networks) {
        builder.workload = workload;
        let after: Vec<usize> = after.into_iter().collect();
        builder.push(StepOp::RemoveNetwork { network }, &after);
    }
}

pub(super) fn freeze(builder: &mut Builder, view: &View, transition: Transition) -> Result<()> {
    let verb = if transition == Transition::Pause { Verb::Pause } else { Verb::Resume };
    if !view.is_known() {
        return Err(view.unknown());
    }
    if view.mains().next().is_none() {
        let message = format!("{verb} of '{}' is not possible: it has no container", view.name);
        let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidState, message);
        return Err(error.hint("launch or start it first"));
    }
    for container in view.mains() {
        match container.status.allows(transition) {
            Allowed::Unchanged => {}
            Allowed::No => {
                return Err(view.invalid_state(verb, container, "start it first"));
            }
            Allowed::Yes => {
                let container = container.name.clone();
                let op = if verb == Verb::Pause { StepOp::Pause { container } } else { StepOp::Resume { container } };
                builder.push(op, &[]);
            }
        }
    }
    Ok(())
}

/// Checkpoints all main containers, or wakes them. What is so already is left alone.
pub(super) fn hibernate(builder: &mut Builder, view: &View, transition: Transition) -> Result<()> {
    let verb = if transition == Transition::Hibernate { Verb::Hibernate } else { Verb::Wake };
    if !view.is_known() {
        return Err(view.unknown());
    }
    if view.mains().next().is_none() {
        let message = format!("{verb} of '{}' is not possible: it has no container", view.name);
        let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidState, message);
        return Err(error.hint("launch or start it first"));
    }
    let holds = view.record.as_ref().and_then(|record| record.spec.cores.as_ref());
    if verb == Verb::Hibernate && holds.is_some_and(|cores| !cores.may_hibernate) {
        let message = format!("hibernate of '{}' is not possible: it has CPUs alone", view.name);
        let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidState, message);
        return Err(error.hint("the annotation actioncontroller.io/hibernate-with-cores: \"true\" allows it"));
    }
    for container in view.mains() {
        let is_woken = container.status.is_live() && container.annotations.contains_key(labels::WOKEN);
        match container.status.allows(transition) {
            Allowed::Unchanged => continue,
            Allowed::No if verb == Verb::Wake && is_woken => continue,
            Allowed::No => return Err(view.invalid_state(verb, container, hint(verb, &container.status))),
            Allowed::Yes => {}
        }
        let container = container.name.clone();
        let op = if verb == Verb::Hibernate { StepOp::Hibernate { container } } else { StepOp::Wake { container } };
        builder.push(op, &[]);
    }
    Ok(())
}

/// What leads from a state to one that allows the verb.
fn hint(verb: Verb, status: &ContainerStatus) -> &'static str {
    match (verb, status) {
        (Verb::Hibernate, ContainerStatus::Paused) => "resume it first",
        (Verb::Hibernate, _) => "start it first",
        (_, ContainerStatus::Running { .. } | ContainerStatus::Paused) => "it was never hibernated",
        (_, _) => "only what is hibernated can be woken: start it",
    }
}
