//! Actions from the command line to the last line: they are accepted one after another, run side by side in the daemon,
//! and are then followed one by one to their ends.

use std::time::Instant;

use crate::api::{ActionSpec, ActionState, Outcome};
use crate::bundle::Bundle;
use crate::client::Client;
use crate::commands::Context;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::follow::Follower;
use crate::interrupt::Interrupt;
use crate::outcomes::{is_final, show, show_plans};
use crate::progress::Display;
use crate::render::text::or_dash;
use crate::render::words::word;
use crate::screen::Screen;

/// An action to be asked for.
pub struct Job {
    /// The action.
    pub spec: ActionSpec,
    /// The files that its documents come from.
    pub bundle: Option<Bundle>,
}

impl Job {
    /// An action without files.
    pub fn new(spec: ActionSpec) -> Self {
        Self { spec, bundle: None }
    }

    /// An action whose documents come from files, which its warnings then name.
    pub fn of_bundle(spec: ActionSpec, bundle: Bundle) -> Self {
        Self { spec, bundle: Some(bundle) }
    }

    /// `launch web`.
    pub fn title(&self) -> String {
        format!("{} {}", word(self.spec.verb), or_dash(&self.spec.target))
    }
}

/// How actions are carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Planned, with nothing touched.
    DryRun,
    /// Accepted, and left alone.
    Accept,
    /// Followed to their ends.
    Follow,
}

/// Asks for the actions. The exit code is that of the first that did not succeed.
pub fn carry_out(mut jobs: Vec<Job>, manner: Manner, context: &mut Context) -> Result<Exit> {
    let client = context.connect()?;
    for job in &mut jobs {
        if job.spec.action_id.is_empty() {
            // Known before the daemon answers, so that a lost answer does not lose the action.
            job.spec.action_id = uuid::Uuid::now_v7().to_string();
        }
    }
    let came = match manner {
        Manner::DryRun => each(&jobs, |job| client.dry_run(&job.spec)),
        Manner::Accept => each(&jobs, |job| client.accept(&job.spec)),
        Manner::Follow => follow_all(&jobs, each(&jobs, |job| client.accept(&job.spec)), &client, &context.screen),
    };
    let exit = match manner {
        Manner::DryRun => show_plans(&jobs, &came.outcomes, &mut context.screen)?,
        Manner::Accept | Manner::Follow => show(&jobs, &came.outcomes, &mut context.screen)?,
    };
    came.stopped.map_or(Ok(exit), Err)
}

/// What came of actions: an outcome for each of the first ones, and why there are no more.
#[derive(Default)]
struct Came {
    outcomes: Vec<Outcome>,
    stopped: Option<Failure>,
}

/// What came of each job; a refusal is an outcome too. A daemon that does not answer is asked no further.
fn each(jobs: &[Job], ask: impl Fn(&Job) -> Result<Outcome>) -> Came {
    let mut came = Came::default();
    for job in jobs {
        match ask(job).or_else(|failure| refused(job, failure)) {
            Ok(outcome) => came.outcomes.push(outcome),
            Err(failure) => {
                came.stopped = Some(failure);
                break;
            }
        }
    }
    came
}

/// The outcome of an action that was refused, so that programs see each action in one form. What has no word of the
/// daemon in it is no outcome.
fn refused(job: &Job, failure: Failure) -> Result<Outcome> {
    if let Some(outcome) = failure.outcome {
        return Ok(*outcome);
    }
    let Some(detail) = failure.detail.as_deref().cloned() else {
        return Err(failure);
    };
    Ok(Outcome {
        action_id: job.spec.action_id.clone(),
        verb: job.spec.verb,
        target: job.spec.target.clone(),
        state: ActionState::ACTION_STATE_REFUSED.into(),
        message: detail.message.clone(),
        error: Some(detail).into(),
        ..Default::default()
    })
}

/// Follows what has not ended yet. Where following stops, what goes on without it is named.
fn follow_all(jobs: &[Job], accepted: Came, client: &Client, screen: &Screen) -> Came {
    let interrupt = Interrupt::remember();
    let until = client.timeout().map(|timeout| Instant::now() + timeout);
    let mut came = Came { outcomes: Vec::new(), stopped: accepted.stopped };
    for (job, outcome) in jobs.iter().zip(accepted.outcomes) {
        let id = &job.spec.action_id;
        if let Some(failure) = came.stopped.take() {
            came.stopped = Some(if is_final(&outcome) { failure } else { failure.note("action", &**id) });
            continue;
        }
        if is_final(&outcome) {
            came.outcomes.push(outcome);
            continue;
        }
        let display = Display::new(screen, &job.title(), &job.spec.target);
        let followed = Follower { id, client, interrupt: &interrupt, until }.follow(&display, Some(&job.spec));
        display.end();
        match followed.or_else(|failure| failure.outcome.clone().map_or(Err(failure), |outcome| Ok(*outcome))) {
            Ok(outcome) => came.outcomes.push(outcome),
            Err(failure) => came.stopped = Some(failure),
        }
    }
    came
}
