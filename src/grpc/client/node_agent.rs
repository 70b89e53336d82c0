//! Pullpiri's NodeAgent on another node: `HandleWorkload` with the Pod document.

use super::Called;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::plan::NodeCommand;
use crate::nodes::{NodeError, Order};
use crate::proto::nodeagent_grpc::NODE_AGENT_CONNECTION_HANDLE_WORKLOAD;
use crate::proto::nodeagent_workload::{HandleWorkloadRequest, HandleWorkloadResponse, WorkloadCommand};
use crate::transport::channel::{Bounds, PeerError, Retry};

/// Gives an order to a NodeAgent.
///
/// It refuses to start what it has already, as after an installation without this daemon, and from then on no longer cares
/// for it. So what it refuses to start is stopped and started once more.
pub fn order(called: &Called, order: &Order<'_>, deadline: Deadline, cancel: &CancelToken) -> Result<(), NodeError> {
    let answer = handle(called, order, order.command, deadline, cancel)?;
    if answer.status {
        return Ok(());
    }
    if order.command == NodeCommand::Start && handle(called, order, NodeCommand::Stop, deadline, cancel)?.status {
        let again = handle(called, order, NodeCommand::Start, deadline, cancel)?;
        return if again.status { Ok(()) } else { Err(refused(order, again.desc)) };
    }
    Err(refused(order, answer.desc))
}

fn handle(
    called: &Called,
    order: &Order<'_>,
    command: NodeCommand,
    deadline: Deadline,
    cancel: &CancelToken,
) -> Result<HandleWorkloadResponse, NodeError> {
    let word = match command {
        NodeCommand::Start => WorkloadCommand::WORKLOAD_COMMAND_START,
        NodeCommand::Stop => WorkloadCommand::WORKLOAD_COMMAND_STOP,
        NodeCommand::Restart => WorkloadCommand::WORKLOAD_COMMAND_RESTART,
    };
    let request = HandleWorkloadRequest {
        workload_command: word.into(),
        pod: order.document.to_owned(),
        ..HandleWorkloadRequest::default()
    };
    let bounds = Bounds { deadline: deadline.at_most(called.timeout), cancel };
    // What stops twice has stopped; a second start would be taken for a clash.
    let retry = if command == NodeCommand::Stop { Retry::Idempotent } else { Retry::Never };
    let answer = called.peer.call(&NODE_AGENT_CONNECTION_HANDLE_WORKLOAD, &request, bounds, retry);
    answer.map_err(|error| failed(order, error))
}

fn refused(order: &Order<'_>, reason: String) -> NodeError {
    NodeError::Refused {
        node: order.node.to_owned(),
        command: order.command,
        workload: order.workload.to_owned(),
        reason,
    }
}

/// A failed call in the words of the port.
pub(super) fn failed(order: &Order<'_>, error: PeerError) -> NodeError {
    let node = order.node.to_owned();
    match error {
        PeerError::Away { .. } => NodeError::Away { node, reason: error.to_string() },
        PeerError::Silent { .. } => NodeError::Silent { node, reason: error.to_string() },
        PeerError::Cancelled { .. } => NodeError::Cancelled { node },
        PeerError::Refused { .. } => refused(order, error.to_string()),
    }
}
