//! Workloads that run on other nodes: what those are asked for. Pure.
//!
//! What runs there is known by the record alone: another node is told what to do and says whether it has done it. So a
//! workload that is recorded as running is not started there again, which NodeAgent would take for a clash of names;
//! only a reconciling launch, whose caller has seen that it does not run, does so.

use super::{Builder, View, differs, is_same_revision};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{Parameters, Verb};
use crate::model::plan::{NodeCommand, StepOp};
use crate::storage::records::Desired;

impl View {
    /// The node that the workload is on or, where nothing of it is there yet, that it is meant for; `None` is this one.
    pub(super) fn other_node(&self) -> Option<&str> {
        match &self.record {
            Some(record) => record.spec.other_node(),
            None if !self.containers.is_empty() => None,
            None => self.spec.as_ref().and_then(|spec| spec.other_node()),
        }
    }

    /// Whether the workload is meant for another place than where it is.
    pub(super) fn is_elsewhere_than_meant(&self) -> bool {
        self.is_known() && self.spec.as_ref().is_some_and(|spec| spec.other_node() != self.other_node())
    }

    fn is_recorded_running(&self) -> bool {
        self.record.as_ref().is_some_and(|record| record.desired == Desired::Running)
    }
}

/// The steps of a verb on a workload of the node `node`.
pub(super) fn plan(builder: &mut Builder, view: &View, verb: Verb, node: &str, parameters: &Parameters) -> Result<()> {
    let runs = view.is_recorded_running();
    let command = match verb {
        Verb::Launch if view.is_known() && !is_same_revision(view) && runs => return Err(changed(view, node)),
        Verb::Launch if runs && parameters.reconcile => Some(NodeCommand::Restart),
        Verb::Launch => (!runs).then_some(NodeCommand::Start),
        // What has no record, Pullpiri may have started before this daemon was there.
        Verb::Terminate => Some(NodeCommand::Stop),
        // Likewise, where the caller names its Package.
        Verb::Stop | Verb::Restart if !view.is_known() && parameters.package.is_some() => {
            Some(if verb == Verb::Stop { NodeCommand::Stop } else { NodeCommand::Restart })
        }
        _ if !view.is_known() && !view.superseded => return Err(view.unknown()),
        Verb::Start => (!runs).then_some(NodeCommand::Start),
        Verb::Stop | Verb::Kill => runs.then_some(NodeCommand::Stop),
        Verb::Restart => Some(NodeCommand::Restart),
        Verb::Remove if runs && !parameters.force => return Err(still_runs(view, node)),
        Verb::Remove => runs.then_some(NodeCommand::Stop),
        Verb::Pause
        | Verb::Resume
        | Verb::Update
        | Verb::Rollback
        | Verb::Hibernate
        | Verb::Wake
        | Verb::Scale
        | Verb::Offload => return Err(not_there(view, verb, node)),
    };
    if let Some(command) = command {
        push(builder, node, command, &[]);
    }
    Ok(())
}

/// Adds an order to another node; gives its step.
pub(super) fn push(builder: &mut Builder, node: &str, command: NodeCommand, after: &[usize]) -> usize {
    builder.push(StepOp::Delegate { node: node.to_owned(), command }, after)
}

fn changed(view: &View, node: &str) -> Error {
    match &view.spec {
        Some(spec) => differs(view, spec, &format!("runs on node '{node}'")),
        None => view.unknown(),
    }
}

fn still_runs(view: &View, node: &str) -> Error {
    let message = format!("remove of '{}' is not possible: it runs on node '{node}'", view.name);
    Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidState, message)
        .hint("stop it first, or use terminate, or force")
}

fn not_there(view: &View, verb: Verb, node: &str) -> Error {
    let message = format!("{verb} of '{}' is not possible: it is on node '{node}', which does not take it", view.name);
    Error::new(ErrorKind::Unimplemented, ErrorCode::NotImplemented, message)
}
