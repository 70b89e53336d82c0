//! `runtimes`: the engines of the node, what they can do, and why one is not there.

use super::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::render::runtimes;
use crate::render::tree::{Node, object};
use crate::screen::Format;

/// Shows the engines. Ends with 0 whether they answer or not.
pub fn runtimes(context: &mut Context) -> Result<Exit> {
    let client = context.connect()?;
    let Some(node) = client.node_health()? else {
        let failure = Failure::new(Exit::Failed, "the daemon is too old to tell of its runtimes");
        return Err(failure.hint("actionctl health says what it knows"));
    };
    context.screen.answer(
        || object! { runtimes: Node::list(&node.engines) },
        |format| match format {
            Format::Name => runtimes::names(&node.engines),
            Format::Text => runtimes::engines(&node.engines, false),
            Format::Wide | Format::Json | Format::Yaml => runtimes::engines(&node.engines, true),
        },
    )?;
    Ok(Exit::Ok)
}
