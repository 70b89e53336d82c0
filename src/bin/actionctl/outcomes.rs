//! What actions came to, as it is told at the end: the answers on stdout, warnings and failures on stderr.

use crate::api::{ActionState, Outcome};
use crate::bundle::Bundle;
use crate::commands::plan;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::jobs::Job;
use crate::render::describe::{success, warning_line};
use crate::render::text::or_dash;
use crate::render::tree::{Node, ToNode, object};
use crate::render::words::word;
use crate::screen::{Format, Screen};

/// Shows what the actions came to.
pub fn show(jobs: &[Job], outcomes: &[Outcome], screen: &mut Screen) -> Result<Exit> {
    if outcomes.is_empty() {
        return Ok(Exit::Ok);
    }
    if let ([outcome], [job]) = (outcomes, jobs) {
        return show_one(outcome, job.bundle.as_ref(), screen);
    }
    if matches!(screen.format(), Format::Json | Format::Yaml) {
        screen.answer(|| outcomes_node(outcomes), |_| String::new())?;
    }
    let mut exit = Exit::Ok;
    for (job, outcome) in jobs.iter().zip(outcomes) {
        let this = match screen.format() {
            Format::Json | Format::Yaml => tell(outcome, job.bundle.as_ref(), screen),
            Format::Text | Format::Wide | Format::Name => show_one(outcome, job.bundle.as_ref(), screen)?,
        };
        if exit == Exit::Ok {
            exit = this;
        }
    }
    Ok(exit)
}

/// The outcomes for programs, in the form of the answer to a batch.
fn outcomes_node(outcomes: &[Outcome]) -> Node {
    object! { outcomes: Node::list(outcomes) }
}

/// Shows what one action came to: the answer on stdout, what else there is to say on stderr.
pub fn show_one(outcome: &Outcome, bundle: Option<&Bundle>, screen: &mut Screen) -> Result<Exit> {
    let exit = tell(outcome, bundle, screen);
    let went_well = exit == Exit::Ok;
    let is_quiet = screen.is_quiet();
    screen.answer(
        || outcome.node(),
        |format| match format {
            Format::Name if !is_final(outcome) => outcome.action_id.clone(),
            Format::Name if went_well => outcome.target.clone(),
            Format::Text | Format::Wide if !is_final(outcome) => accepted_line(outcome, is_quiet),
            Format::Text | Format::Wide if went_well && !is_quiet => success(outcome),
            Format::Text | Format::Wide | Format::Name | Format::Json | Format::Yaml => String::new(),
        },
    )?;
    Ok(exit)
}

/// An action that is left to itself; its id is all that a quiet caller needs.
fn accepted_line(outcome: &Outcome, is_quiet: bool) -> String {
    if is_quiet {
        return outcome.action_id.clone();
    }
    let what = format!("{} of {}", word(outcome.verb), or_dash(&outcome.target));
    format!("{what} accepted: {0}\nfollow it: actionctl actions --watch {0}", outcome.action_id)
}

/// Tells the warnings and, where it did not succeed, why; gives the exit code.
fn tell(outcome: &Outcome, bundle: Option<&Bundle>, screen: &Screen) -> Exit {
    for warning in &outcome.warnings {
        let (source, line) = bundle.map_or(("", warning.line), |bundle| bundle.locate(warning.line));
        let mut placed = warning.clone();
        placed.line = line;
        screen.warning(&warning_line(&placed, source));
    }
    let exit = Exit::of_outcome(outcome);
    if exit != Exit::Ok {
        screen.failure(&Failure::of_outcome(outcome.clone()));
    }
    exit
}

/// Shows the plans of a dry run.
pub fn show_plans(jobs: &[Job], outcomes: &[Outcome], screen: &mut Screen) -> Result<Exit> {
    if matches!(screen.format(), Format::Json | Format::Yaml) {
        return show(jobs, outcomes, screen);
    }
    let mut exit = Exit::Ok;
    for (job, outcome) in jobs.iter().zip(outcomes) {
        let this = tell(outcome, job.bundle.as_ref(), screen);
        if let Some(plan) = outcome.plan.as_ref() {
            if jobs.len() > 1 && screen.format() != Format::Name {
                screen.line(&format!("# {}", job.title()))?;
            }
            plan::show(plan, screen)?;
        }
        if exit == Exit::Ok {
            exit = this;
        }
    }
    Ok(exit)
}

/// Whether nothing more happens.
pub fn is_final(outcome: &Outcome) -> bool {
    match outcome.state.enum_value_or_default() {
        ActionState::ACTION_STATE_UNSPECIFIED
        | ActionState::ACTION_STATE_QUEUED
        | ActionState::ACTION_STATE_RUNNING
        | ActionState::ACTION_STATE_UNDOING => false,
        ActionState::ACTION_STATE_SUCCEEDED
        | ActionState::ACTION_STATE_REFUSED
        | ActionState::ACTION_STATE_FAILED
        | ActionState::ACTION_STATE_CANCELLED
        | ActionState::ACTION_STATE_SKIPPED
        | ActionState::ACTION_STATE_INTERRUPTED => true,
    }
}
