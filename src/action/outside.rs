//! [`Outside`]: what an action reaches beside engines and the store of this node, and the steps that are done there:
//! orders to other nodes, admission of real-time tasks, networks between nodes, a model's place in its stored Package.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::steps::{Done, Drawings};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::manifest;
use crate::model::plan::{NodeCommand, StepOp};
use crate::model::pullpiri;
use crate::model::workload::WorkloadSpec;
use crate::networks::NetworkProvider;
use crate::nodes::{NodeControl, Order};
use crate::realtime::{Admission, Desk};
use crate::storage::documents::{Documents, Origin};

/// What lies outside of this node.
#[derive(Clone)]
pub struct Outside {
    /// Other nodes.
    pub nodes: Option<Arc<dyn NodeControl>>,
    /// The desk in front of the scheduler of real-time tasks.
    pub realtime: Option<Arc<Desk>>,
    /// Who sets up networks between nodes.
    pub networks: Option<Arc<dyn NetworkProvider>>,
    /// Stored documents.
    pub documents: Arc<Documents>,
}

impl Outside {
    /// A node by itself, with documents that it was given.
    pub fn none(documents: Documents) -> Self {
        Self { nodes: None, realtime: None, networks: None, documents: Arc::new(documents) }
    }
}

/// What a step outside runs with.
pub struct Reach<'a> {
    /// What lies outside.
    pub outside: &'a Outside,
    /// The workloads' descriptions.
    pub drawings: &'a Drawings<'a>,
    /// The time it has.
    pub deadline: Deadline,
    /// Ends it.
    pub cancel: &'a CancelToken,
}

impl Reach<'_> {
    /// Carries out a step; `None` where it is one of an engine.
    pub fn run(&self, workload: &str, op: &StepOp) -> Option<Result<Done>> {
        match op {
            StepOp::Delegate { node, command } => Some(self.order(workload, node, *command)),
            StepOp::Admit { .. } => Some(self.admit()),
            StepOp::Connect { pod } => Some(self.connect(pod)),
            StepOp::Place { package, node } => Some(self.place(package, workload, node)),
            StepOp::EnsureImage { .. }
            | StepOp::EnsurePath { .. }
            | StepOp::EnsureNetwork { .. }
            | StepOp::EnsureVolume { .. }
            | StepOp::EnsurePod { .. }
            | StepOp::Create { .. }
            | StepOp::Start { .. }
            | StepOp::AwaitCompletion { .. }
            | StepOp::Stop { .. }
            | StepOp::Kill { .. }
            | StepOp::Pause { .. }
            | StepOp::Resume { .. }
            | StepOp::Hibernate { .. }
            | StepOp::Wake { .. }
            | StepOp::Resize { .. }
            | StepOp::Remove { .. }
            | StepOp::StopPod { .. }
            | StepOp::RemovePod { .. }
            | StepOp::RemoveVolume { .. }
            | StepOp::RemoveNetwork { .. }
            | StepOp::Pin { .. } => None,
        }
    }

    /// Orders another node.
    pub fn order(&self, workload: &str, node: &str, command: NodeCommand) -> Result<Done> {
        let Some(nodes) = &self.outside.nodes else {
            let message = format!("'{workload}' is on node '{node}', and no other nodes are configured");
            let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::NodeUnknown, message);
            return Err(error.hint("pullpiri.enabled and nodes in the settings"));
        };
        let spec = self.drawings.delegated(workload, command).ok_or_else(|| no_document(workload))?;
        let delegate = spec.delegate.as_ref().ok_or_else(|| no_document(workload))?;
        let document = manifest::annotated(&delegate.document, &annotations(spec))?;
        let action_id = self.drawings.action_id;
        let order = Order { node, command, workload, document: &document, action_id };
        nodes.order(&order, self.deadline, self.cancel)?;
        Ok(Done { changed: true, container_id: None, note: String::new() })
    }

    fn admit(&self) -> Result<Done> {
        let (Some(desk), Some(schedule)) = (&self.outside.realtime, self.drawings.schedule) else {
            return Err(Error::internal("there is no scheduler for a Schedule that was to be admitted"));
        };
        let workloads: Vec<_> = self.drawings.specs.keys().cloned().collect();
        let admission = Admission { schedule, workloads: &workloads, action_id: self.drawings.action_id };
        desk.admit(&admission, self.deadline, self.cancel)?;
        Ok(Done { changed: true, container_id: None, note: String::new() })
    }

    fn connect(&self, pod: &str) -> Result<Done> {
        let (Some(networks), Some(order)) = (&self.outside.networks, self.drawings.network) else {
            return Err(Error::internal("there is nobody to set up the network that was to be set up"));
        };
        networks.set_up(pod, order, self.deadline, self.cancel)?;
        Ok(Done { changed: true, container_id: None, note: String::new() })
    }

    /// Writes a model's node into its stored Package, unless somebody else has changed that meanwhile.
    pub fn place(&self, package: &str, model: &str, node: &str) -> Result<Done> {
        let documents = &self.outside.documents;
        let found = documents.find(&[("Package", package)], self.deadline)?.pop().flatten();
        let Some(found) = found else {
            let message = format!("Package '{package}' is not stored any more");
            return Err(Error::new(ErrorKind::NotFound, ErrorCode::DocumentNotFound, message));
        };
        let revision = match found.origin {
            Origin::Shared { revision } => revision,
            Origin::Own => 0,
            Origin::Copy => {
                let message = format!("Package '{package}' cannot be changed: the store does not answer");
                return Err(Error::new(ErrorKind::Unavailable, ErrorCode::StoreUnavailable, message));
            }
        };
        let text = manifest::moved(&found.text, model, node)?;
        documents.replace("Package", package, revision, &text, self.deadline)?;
        Ok(Done { changed: true, container_id: None, note: String::new() })
    }
}

fn no_document(workload: &str) -> Error {
    Error::internal(format!("no document of workload '{workload}' for another node"))
}

/// The annotations by which Pullpiri's services know a workload, with its own ones.
fn annotations(spec: &WorkloadSpec) -> BTreeMap<String, String> {
    let mut all = spec.annotations.clone();
    all.extend(pullpiri::annotations(spec));
    all
}

#[cfg(test)]
mod tests;
