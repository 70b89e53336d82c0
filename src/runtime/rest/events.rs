//! The stream of events: lines of JSON without an end of their own.

use std::time::{SystemTime, UNIX_EPOCH};

use super::exchange::{garbled, wire_error};
use super::wire::Event;
use crate::runtime::adapter::{BlockingStream, EngineEvent, RtResult, RuntimeError};
use crate::transport::http::Streaming;

const OP: &str = "events";

/// The present time as `since` of a request. These engines answer before they listen for events, so with the time before
/// the request as the beginning nothing that happens after its answer is missed.
pub fn since_now() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    format!("{}.{:09}", now.as_secs(), now.subsec_nanos())
}

/// The events of a body, those that `translate` has a word for; only the call's token ends it.
pub fn stream(
    engine: &'static str,
    body: Streaming,
    translate: fn(Event) -> Option<EngineEvent>,
) -> BlockingStream<EngineEvent> {
    body.lift_deadline();
    Box::new(Events { engine, body, translate, ended: false })
}

struct Events {
    engine: &'static str,
    body: Streaming,
    translate: fn(Event) -> Option<EngineEvent>,
    ended: bool,
}

impl Events {
    fn next_event(&mut self) -> RtResult<EngineEvent> {
        loop {
            let line = self.body.next_line().map_err(|error| wire_error(self.engine, OP, error))?;
            let Some(line) = line else {
                // The engine is going away.
                let (engine, reason) = (self.engine.to_owned(), "the engine ended the stream".to_owned());
                return Err(RuntimeError::Connection { engine, op: OP.to_owned(), reason });
            };
            let event = serde_json::from_slice(&line);
            let event = event.map_err(|error| garbled(self.engine, OP, 200, &error.to_string()))?;
            if let Some(event) = (self.translate)(event) {
                return Ok(event);
            }
        }
    }
}

impl Iterator for Events {
    type Item = RtResult<EngineEvent>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let event = self.next_event();
        self.ended = event.is_err();
        Some(event)
    }
}
