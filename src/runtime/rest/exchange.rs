//! How an exchange with an engine fails, in the words of the port, and what is looked for after one that was cut off.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cancel::Urge;
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::shared::calls::apart;
use crate::runtime::shared::verbs::Order;
use crate::transport::http::{HttpError, Response, encode};

/// The body of a request that has none.
pub const NO_BODY: Option<&()> = None;

/// The path of a container's resource.
pub fn path(id: &str, what: &str) -> String {
    format!("/containers/{}/{what}", encode(id))
}

/// The resource and query of an order, which both engines call the same.
pub fn word(order: Order) -> String {
    match order {
        Order::Start => "start".to_owned(),
        Order::Pause => "pause".to_owned(),
        Order::Thaw => "unpause".to_owned(),
        Order::Signal(name) => format!("kill?signal={}", encode(name)),
    }
}

/// A request's document.
pub fn to_json(op: &str, body: &impl Serialize) -> RtResult<Vec<u8>> {
    serde_json::to_vec(body).map_err(|error| RuntimeError::InvalidSpec { reason: format!("{op}: {error}") })
}

/// Reads an answer's document.
pub fn parse<T: DeserializeOwned>(engine: &str, op: &str, response: &Response) -> RtResult<T> {
    serde_json::from_slice(&response.body).map_err(|error| garbled(engine, op, response.status, &error.to_string()))
}

/// The error of an answer that is not what the API promises.
pub fn garbled(engine: &str, op: &str, status: u16, what: &str) -> RuntimeError {
    RuntimeError::Engine {
        engine: engine.to_owned(),
        op: op.to_owned(),
        code: i64::from(status),
        message: format!("the answer cannot be read: {what}"),
    }
}

/// The error of an engine that does not answer.
pub fn away(engine: &str, reason: String) -> RuntimeError {
    RuntimeError::EngineNotAvailable { engine: engine.to_owned(), reason }
}

/// What a failure of the wire means for the call.
pub fn wire_error(engine: &str, op: &str, error: HttpError) -> RuntimeError {
    match error {
        HttpError::NoSocket(_) | HttpError::Refused(_) | HttpError::Denied(_) => away(engine, error.to_string()),
        HttpError::Timeout(after) => RuntimeError::Timeout { op: op.to_owned(), after },
        HttpError::Cancelled => RuntimeError::Cancelled { op: op.to_owned() },
        HttpError::Closed(_) | HttpError::TooLarge(_) | HttpError::Protocol(_) | HttpError::Io(_) => {
            RuntimeError::Connection { engine: engine.to_owned(), op: op.to_owned(), reason: error.to_string() }
        }
    }
}

/// How long after a request that was cut off its object is looked for: the engine goes on with what it has begun, which
/// takes it some ten to some hundred milliseconds. Short, as a cancelled call answers within a second.
const CUT_OFF_WINDOW: Duration = Duration::from_millis(600);

/// Between two looks for it.
const CUT_OFF_POLL: Duration = Duration::from_millis(50);

/// What the engine made although its answer never came: looks until there is something, for a short time.
pub fn find_cut_off<T>(look: impl Fn(&Call) -> RtResult<Option<T>>) -> Option<T> {
    apart(|call| {
        let window = Deadline::after(CUT_OFF_WINDOW);
        while !window.is_over() {
            match look(&Call { deadline: window, ..*call }) {
                Ok(None) => {}
                Ok(found) => return found,
                Err(_) => return None,
            }
            call.cancel.wait(Urge::Cancel, window.at_most(CUT_OFF_POLL));
        }
        None
    })
}
