//! The daemon as a process: how it starts, is configured, watched, reloaded and ended.

mod configuration;
mod ending;
mod reload;
mod retention;
mod supervised;

use actioncontroller::grpc::status::details;
use actioncontroller::proto::actions::{ActionSpec, ErrorDetail, ExecuteActionRequest, ExecuteActionResponse, Outcome};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use futures_executor::block_on;
use protobuf::MessageField;

use crate::support::daemon::{DaemonProcess, options};

/// A call under way. Its client is kept: a connection that goes takes calls that have not been sent with it.
struct Answer {
    receiver: grpcio::ClientUnaryReceiver<ExecuteActionResponse>,
    _client: ActionControllerClient,
}

/// Begins an action and leaves the call open.
fn ask(daemon: &DaemonProcess, action: ActionSpec) -> Answer {
    let request = ExecuteActionRequest { action: MessageField::some(action), ..ExecuteActionRequest::default() };
    let client = daemon.actions();
    Answer { receiver: client.execute_action_async(&request, options()).unwrap(), _client: client }
}

/// What the call came to: the outcome, or why it failed.
fn answer(answer: Answer) -> Result<Outcome, ErrorDetail> {
    match block_on(answer.receiver) {
        Ok(response) => Ok(response.outcome.unwrap_or_default()),
        Err(grpcio::Error::RpcFailure(status)) => {
            Err(details(&status).unwrap_or_else(|| panic!("no details: {status:?}")).error)
        }
        Err(error) => panic!("{error}"),
    }
}

/// Why an action is refused.
fn refusal(daemon: &DaemonProcess, action: ActionSpec) -> ErrorDetail {
    answer(ask(daemon, action)).unwrap_err()
}
