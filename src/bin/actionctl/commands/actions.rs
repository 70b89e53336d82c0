//! `actions` and `cancel`: actions under way and ended ones.

use std::time::Instant;

use clap::Args;
use jiff::Timestamp;

use super::Context;
use crate::api::CancelActionRequest;
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::follow::Follower;
use crate::interrupt::Interrupt;
use crate::outcomes::show_one;
use crate::progress::Display;
use crate::render::table;
use crate::render::text::or_dash;
use crate::render::tree::ToNode;
use crate::render::words::word;
use crate::screen::Format;

/// Options of `actions`.
#[derive(Debug, Clone, Args)]
pub struct ActionsArgs {
    /// Follow this action to its end, with its exit code
    #[arg(short, long, value_name = "ID", conflicts_with_all = ["target", "running", "limit"])]
    pub watch: Option<String>,
    /// Only actions on this target
    #[arg(long, value_name = "TARGET")]
    pub target: Option<String>,
    /// Only actions under way
    #[arg(long)]
    pub running: bool,
    /// At most so many, the latest first
    #[arg(short = 'n', long, value_name = "NUMBER", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
}

/// Lists actions, or follows one.
pub fn actions(args: ActionsArgs, context: &mut Context) -> Result<Exit> {
    let client = context.connect()?;
    if let Some(id) = args.watch {
        return watch(&id, &client, context);
    }
    let list = client.actions(&args.target.unwrap_or_default(), args.running, args.limit)?;
    context.screen.answer(
        || list.node(),
        |format| match format {
            Format::Name => list.actions.iter().map(|action| action.action_id.clone()).collect::<Vec<_>>().join("\n"),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => {
                table::actions(&list.actions, format == Format::Wide, Timestamp::now())
            }
        },
    )?;
    Ok(Exit::Ok)
}

/// Follows an action that somebody asked for, to its end.
fn watch(id: &str, client: &Client, context: &mut Context) -> Result<Exit> {
    let interrupt = Interrupt::remember();
    let until = client.timeout().map(|timeout| Instant::now() + timeout);
    if matches!(context.screen.format(), Format::Json | Format::Yaml) {
        let follower = Follower { id, client, interrupt: &interrupt, until };
        return follower.documents(&mut context.screen);
    }
    let action = client.action(id)?;
    let title = format!("{} {}", word(action.verb), or_dash(&action.target));
    let display = Display::new(&context.screen, &title, &action.target);
    let followed = Follower { id, client, interrupt: &interrupt, until }.follow(&display, None);
    display.end();
    show_one(&followed?, None, &mut context.screen)
}

/// Options of `cancel`.
#[derive(Debug, Clone, Args)]
pub struct CancelArgs {
    /// The action
    #[arg(value_name = "ACTION_ID")]
    pub action_id: String,
    /// Why, for its outcome
    #[arg(long, value_name = "TEXT", default_value_t, hide_default_value = true)]
    pub reason: String,
    /// Do not wait for the action's end
    #[arg(long = "async")]
    pub no_wait: bool,
}

/// Cancels an action. One that had ended already is no failure: nothing is under way then either.
pub fn cancel(args: CancelArgs, context: &mut Context) -> Result<Exit> {
    let id = args.action_id.clone();
    let request = CancelActionRequest {
        action_id: args.action_id,
        reason: args.reason,
        no_wait: args.no_wait,
        ..Default::default()
    };
    let answer = context.connect()?.cancel(&request)?;
    let text = match (answer.cancelled, answer.outcome.as_ref()) {
        (true, Some(_)) => format!("{id} cancelled"),
        (true, None) => format!("{id} is being cancelled"),
        (false, Some(outcome)) => format!("{id} had ended already: {}", word(outcome.state)),
        (false, None) => format!("{id} was not cancelled"),
    };
    context.screen.answer(
        || answer.node(),
        |format| match format {
            Format::Name => id.clone(),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => text,
        },
    )?;
    let outcome = answer.outcome.as_ref().filter(|outcome| !outcome.left.is_empty());
    if let Some(outcome) = outcome {
        let failure = Failure::of_outcome(outcome.clone());
        for (_, left) in failure.notes.iter().filter(|(label, _)| *label == "left") {
            context.screen.warning(&format!("left: {left}"));
        }
    }
    Ok(Exit::Ok)
}
