//! What changes limits of a workload that runs here. Pure.

use std::collections::BTreeSet;

use super::{Builder, View};
use crate::error::{Error, Result};
use crate::model::action::{Parameters, Verb, Warning};
use crate::model::plan::StepOp;
use crate::model::state::ContainerStatus;
use crate::model::workload::labels;
use crate::runtime::adapter::ContainerInstance;

/// The container's name within its workload.
fn own_name(container: &ContainerInstance) -> &str {
    container.labels.get(labels::CONTAINER).map_or(container.name.as_str(), String::as_str)
}

/// Changes limits of all containers, or of those that are named; all of them have to run.
pub(super) fn scale(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    if !view.is_known() {
        return Err(view.unknown());
    }
    if parameters.resources.is_empty() {
        return Err(Error::invalid("parameters.resources", "a scale changes limits, and none is given"));
    }
    let names: BTreeSet<_> = view.mains().map(own_name).collect();
    if let Some(absent) = parameters.containers.iter().find(|name| !names.contains(name.as_str())) {
        let has = names.into_iter().collect::<Vec<_>>().join(", ");
        let message = format!("workload '{}' has no container '{absent}'; it has {has}", view.name);
        return Err(Error::invalid("parameters.containers", message));
    }
    let is_meant = |container: &&ContainerInstance| {
        parameters.containers.is_empty() || parameters.containers.contains(own_name(container))
    };
    if view.mains().next().is_none() {
        let message = format!("workload '{}' has no containers whose limits could change", view.name);
        return Err(Error::invalid("target", message).hint("launch it first"));
    }
    if view.record.is_none() {
        let message = format!("'{}' is not recorded, so that its next runs do not have these limits", view.name);
        builder.warnings.push(Warning::new(&view.name, 0, message));
    }
    for container in view.mains().filter(is_meant) {
        if !container.status.is_running() && container.status != ContainerStatus::Paused {
            return Err(view.invalid_state(Verb::Scale, container, "start it first, or update its document"));
        }
        let op = StepOp::Resize {
            container: container.name.clone(),
            resources: parameters.resources.clone(),
            before: view.in_force.get(&container.name).cloned().unwrap_or_default(),
            force: parameters.force,
        };
        builder.push(op, &[]);
    }
    Ok(())
}
