//! A workload in place of the one before: update, rollback, and the move to another node. Pure.
//!
//! What was there is taken down whole, then the new one is made, each on the node that it is on or meant for. Images
//! come first, so that nothing is taken down before what replaces it can be had.

use super::ending::{leave_networks, stop_steps};
use super::{Builder, View, create_and_start, elsewhere, images, is_same_revision};
use crate::action::blueprint;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{Parameters, Verb, Warning};
use crate::model::plan::{NodeCommand, StepOp};
use crate::model::workload::WorkloadSpec;

/// Replaces a workload by a changed document; one that is not changed is started where it does not run. What is not
/// known yet is made.
pub(super) fn update(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    let Some(spec) = &view.spec else { return Err(view.unknown()) };
    if !view.is_known() {
        let message = format!("workload '{}' was not there before, it is launched", view.name);
        builder.warnings.push(Warning::new("", 0, message));
        return super::launch(builder, view, parameters);
    }
    if is_same_revision(view) && !view.is_elsewhere_than_meant() {
        return match view.other_node() {
            Some(node) => elsewhere::plan(builder, view, Verb::Launch, node, parameters),
            None => super::start(builder, view, parameters),
        };
    }
    replace(builder, view, spec, parameters);
    Ok(())
}

/// Moves a workload: `view.spec` is the one on the new node.
pub(super) fn offload(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    let Some(spec) = &view.spec else { return Err(view.unknown()) };
    if !view.is_known() && parameters.source_node.is_none() {
        return Err(view.unknown());
    }
    if let (Some(source), Some(record)) = (&parameters.source_node, &view.record)
        && record.spec.node != *source
        && record.spec.node != spec.node
    {
        let message = format!("workload '{}' is on node '{}', not on '{source}'", view.name, record.spec.node);
        let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidState, message);
        return Err(error.at("parameters.source_node"));
    }
    if view.is_known() && !view.is_elsewhere_than_meant() {
        return update(builder, view, parameters);
    }
    let made = replace(builder, view, spec, parameters);
    if !spec.package.is_empty() {
        let op = StepOp::Place { package: spec.package.clone(), node: spec.node.clone() };
        builder.push(op, &made);
    }
    Ok(())
}

/// Takes down what is there and makes the new one; gives the steps after which it runs.
pub(super) fn replace(builder: &mut Builder, view: &View, spec: &WorkloadSpec, parameters: &Parameters) -> Vec<usize> {
    let fetched: Vec<usize> = match spec.other_node() {
        Some(_) => Vec::new(),
        None => images(builder, spec).into_values().collect(),
    };
    let source = match (view.other_node(), &parameters.source_node) {
        // Nothing is recorded: it is where the caller says.
        (_, Some(source)) if view.record.is_none() && view.containers.is_empty() => Some(source.as_str()),
        (node, _) => node,
    };
    let gone = match source.filter(|source| Some(*source) != builder.own_node.as_deref()) {
        Some(node) => vec![elsewhere::push(builder, node, NodeCommand::Stop, &fetched)],
        None => take_down(builder, view, spec, parameters, &fetched),
    };
    let first = builder.steps.len();
    match spec.other_node() {
        Some(node) => drop(elsewhere::push(builder, node, NodeCommand::Start, &gone)),
        None => {
            let at_rest = View { containers: Vec::new(), ..view.clone() };
            create_and_start(builder, &at_rest, spec, &gone);
        }
    }
    (first..builder.steps.len()).collect()
}

fn take_down(
    builder: &mut Builder,
    view: &View,
    spec: &WorkloadSpec,
    parameters: &Parameters,
    before: &[usize],
) -> Vec<usize> {
    let stopped = stop_steps(builder, view, parameters, before);
    let mut gone = Vec::new();
    for container in &view.containers {
        let after: Vec<_> = stopped.get(&container.name).map_or_else(|| before.to_vec(), |stop| vec![*stop]);
        let op = StepOp::Remove { container: container.name.clone(), force: false };
        gone.push(builder.push(op, &after));
    }
    for pod in &view.leftovers.pods {
        let after = gone.clone();
        gone.push(builder.push(StepOp::RemovePod { pod: pod.clone() }, &after));
    }
    let containers = gone.clone();
    for volume in &view.leftovers.volumes {
        gone.push(builder.push(StepOp::RemoveVolume { volume: volume.clone() }, &containers));
    }
    let stays = |network: &&String| spec.other_node().is_none() && blueprint::networks(spec).contains(*network);
    let old = view.record.iter().flat_map(|record| blueprint::networks(&record.spec));
    leave_networks(builder, view, old.filter(|network| !stays(network)), &containers);
    gone
}
