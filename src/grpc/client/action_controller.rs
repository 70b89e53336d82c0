//! Another node's own Action Controller, by our API: launch, terminate and restart of a document.

use super::Called;
use super::node_agent::failed;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::action::MAX_ACTION_ID;
use crate::model::plan::NodeCommand;
use crate::nodes::{NodeError, Order};
use crate::proto::actions::{ActionSpec, ExecuteActionRequest, Verb};
use crate::proto::actions_grpc::ACTION_CONTROLLER_EXECUTE_ACTION;
use crate::transport::channel::{Bounds, Retry};

/// Gives an order to an Action Controller. Trying it again is safe: it has an id of its own.
pub fn order(called: &Called, order: &Order<'_>, deadline: Deadline, cancel: &CancelToken) -> Result<(), NodeError> {
    let verb = match order.command {
        NodeCommand::Start => Verb::VERB_LAUNCH,
        NodeCommand::Stop => Verb::VERB_TERMINATE,
        NodeCommand::Restart => Verb::VERB_RESTART,
    };
    let manifest = if order.command == NodeCommand::Start { order.document.to_owned() } else { String::new() };
    let action = ActionSpec {
        action_id: action_id(order),
        verb: verb.into(),
        target: order.workload.to_owned(),
        manifest,
        ..ActionSpec::default()
    };
    let request = ExecuteActionRequest { action: Some(action).into(), ..ExecuteActionRequest::default() };
    let bounds = Bounds { deadline: deadline.at_most(called.timeout), cancel };
    let answer = called.peer.call(&ACTION_CONTROLLER_EXECUTE_ACTION, &request, bounds, Retry::Idempotent);
    answer.map(drop).map_err(|error| failed(order, error))
}

/// The id of the order: the same over its own tries, and another one each time that it is given, because its outcome
/// would be answered again otherwise. It begins with that of the action, by which people find it.
fn action_id(order: &Order<'_>) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
    let unique = format!(".{}.{}", order.command, uuid::Uuid::now_v7());
    let of_action = order.action_id.chars().filter(|c| allowed(*c)).take(MAX_ACTION_ID - unique.len());
    of_action.chain(unique.chars()).collect()
}
