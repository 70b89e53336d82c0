//! `health`: whether the daemon takes requests, and how its node is.

use jiff::Timestamp;

use super::Context;
use crate::api::{NodeHealthResponse, ServingStatus};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::render::health;
use crate::render::tree::{Node, object};
use crate::screen::Format;

/// Asks whether the daemon takes requests, and how the node is. An older daemon tells only the first.
pub fn health(context: &mut Context) -> Result<Exit> {
    let client = context.connect()?;
    let status = client.health()?;
    let node = client.node_health().unwrap_or_else(|failure| {
        // The first answer says enough of a daemon that is ending.
        context.screen.warning(&format!("how the node is could not be asked: {}", failure.message));
        None
    });
    let text = match status {
        ServingStatus::SERVING => "serving",
        ServingStatus::NOT_SERVING => "not serving",
        ServingStatus::UNKNOWN | ServingStatus::SERVICE_UNKNOWN => "unknown",
    };
    context.screen.answer(
        || object! { status: text.replace(' ', "_"), health: Node::from(node.as_ref()) },
        |format| match format {
            Format::Name => text.to_owned(),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => block(text, node.as_ref()),
        },
    )?;
    match status {
        ServingStatus::SERVING => Ok(Exit::Ok),
        ServingStatus::NOT_SERVING | ServingStatus::UNKNOWN | ServingStatus::SERVICE_UNKNOWN => {
            Err(Failure::new(Exit::Unreachable, "the daemon does not take requests")
                .hint("it is starting or stopping; see journalctl -u actioncontroller"))
        }
    }
}

/// The word for scripts on the first line, and below it how the node is.
fn block(word: &str, node: Option<&NodeHealthResponse>) -> String {
    match node {
        Some(node) => format!("{word}\n{}", health::node(node, Timestamp::now())),
        None => word.to_owned(),
    }
}
