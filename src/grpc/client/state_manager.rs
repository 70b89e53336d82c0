//! Pullpiri's StateManager, which is told how far Scenarios are and which containers the node has: `SendStateChange` and
//! `SendChangedContainerList`.

use super::Called;
use super::monitoring_server::container_list;
use crate::application::audience::{Audience, NotTold};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::report::{ContainerList, ScenarioChange};
use crate::proto::statemanager::{ErrorCode, ResourceType, StateChange};
use crate::proto::statemanager_grpc::{
    STATE_MANAGER_CONNECTION_SEND_CHANGED_CONTAINER_LIST, STATE_MANAGER_CONNECTION_SEND_STATE_CHANGE,
};
use crate::transport::channel::{Bounds, Retry};

const NAME: &str = "StateManager";

/// Who tells it.
const SOURCE: &str = "actioncontroller";

/// The listener.
pub struct StateManager {
    called: Called,
}

impl StateManager {
    /// StateManager as reached by `called`.
    pub fn new(called: Called) -> Self {
        Self { called }
    }
}

impl Audience for StateManager {
    fn name(&self) -> &str {
        NAME
    }

    fn scenario(&self, change: &ScenarioChange, deadline: Deadline, cancel: &CancelToken) -> Result<(), NotTold> {
        let request = StateChange {
            resource_type: ResourceType::RESOURCE_TYPE_SCENARIO.into(),
            resource_name: change.scenario.clone(),
            current_state: change.from.as_str().to_owned(),
            target_state: change.to.as_str().to_owned(),
            transition_id: change.transition_id.clone(),
            timestamp_ns: change.time_ns,
            source: SOURCE.to_owned(),
            ..StateChange::default()
        };
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        // A second one of the same transition changes nothing there.
        let method = &STATE_MANAGER_CONNECTION_SEND_STATE_CHANGE;
        let answer = self.called.peer.call(method, &request, bounds, Retry::Idempotent);
        let not_told = |reason: String| NotTold { listener: NAME.to_owned(), reason };
        let answer = answer.map_err(|error| not_told(error.to_string()))?;
        if answer.error_code == ErrorCode::SUCCESS.into() {
            return Ok(());
        }
        Err(not_told(format!("it answers error {}: {}", answer.error_code.value(), answer.error_details)))
    }
    fn containers(&self, list: &ContainerList, deadline: Deadline, cancel: &CancelToken) -> Result<(), NotTold> {
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        let method = &STATE_MANAGER_CONNECTION_SEND_CHANGED_CONTAINER_LIST;
        // The latest list is told by the next try, so that an old one is not.
        let answer = self.called.peer.call(method, &container_list(list), bounds, Retry::Never);
        answer.map(drop).map_err(|error| NotTold { listener: NAME.to_owned(), reason: error.to_string() })
    }
}
