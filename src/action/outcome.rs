//! Outcomes: how an action is told to have ended. Pure.

use std::collections::BTreeMap;

use super::executor::Executed;
use crate::error::{Error, ErrorKind};
use crate::model::action::{ActionRequest, ActionState, Failure, Outcome, Phases, Verb, Warning};

/// The failure as stored and told.
pub fn failure_of(error: &Error) -> Failure {
    Failure {
        status: error.kind.number(),
        code: error.code.as_str().to_owned(),
        message: error.to_string(),
        field: error.field.clone(),
        hint: error.hint.clone(),
    }
}

/// An outcome of `request` with nothing done yet.
pub fn blank(request: &ActionRequest, target: &str, state: ActionState, accepted_ms: u64) -> Outcome {
    Outcome {
        action_id: request.id.clone(),
        verb: request.verb,
        target: if target.is_empty() { request.target.clone() } else { target.to_owned() },
        state,
        changed: false,
        message: String::new(),
        failure: None,
        warnings: Vec::new(),
        left: Vec::new(),
        workloads: BTreeMap::new(),
        engine: String::new(),
        engine_reason: String::new(),
        steps: Vec::new(),
        phases: Phases::default(),
        accepted_ms,
        ended_ms: 0,
        plan: None,
        recovered: String::new(),
        failed: BTreeMap::new(),
    }
}

/// The outcome of an action that had no effect, because of `error`.
pub fn refused(request: &ActionRequest, target: &str, error: &Error, accepted_ms: u64) -> Outcome {
    let state = if error.kind == ErrorKind::Cancelled { ActionState::Cancelled } else { ActionState::Refused };
    let mut outcome = blank(request, target, state, accepted_ms);
    outcome.message = error.to_string();
    outcome.failure = Some(failure_of(error));
    outcome
}

/// Fills in how the steps of an action went.
pub fn tell_steps(outcome: &mut Outcome, executed: Executed) {
    outcome.changed = executed.changed();
    for (path, note) in &executed.notes {
        outcome.warnings.push(Warning::new(path.clone(), 0, note.clone()));
    }
    for ((workload, engine_name), id) in &executed.container_ids {
        let own_name = engine_name.strip_prefix(workload.as_str()).and_then(|rest| rest.strip_prefix('_'));
        let containers = outcome.workloads.entry(workload.clone()).or_default();
        containers.insert(own_name.unwrap_or(engine_name).to_owned(), id.clone());
    }
    match &executed.failure {
        None => {
            outcome.state = ActionState::Succeeded;
            outcome.message = success(outcome.verb, &outcome.target, outcome.changed);
        }
        Some(error) => {
            let is_cancel = error.kind == ErrorKind::Cancelled;
            outcome.state = if is_cancel { ActionState::Cancelled } else { ActionState::Failed };
            outcome.message = error.to_string();
            outcome.failure = Some(failure_of(error));
        }
    }
    outcome.steps = executed.steps;
}

/// The sentence of a success.
pub fn success(verb: Verb, target: &str, changed: bool) -> String {
    let done = match verb {
        Verb::Launch => "launched",
        Verb::Start => "started",
        Verb::Stop => "stopped",
        Verb::Restart => "restarted",
        Verb::Update => "updated",
        Verb::Rollback => "rolled back",
        Verb::Remove => "removed",
        Verb::Terminate => "terminated",
        Verb::Pause => "paused",
        Verb::Resume => "resumed",
        Verb::Hibernate => "hibernated",
        Verb::Wake => "woken",
        Verb::Kill => "killed",
        Verb::Scale => "scaled",
        Verb::Offload => "moved",
    };
    if changed { format!("{target} {done}") } else { format!("{target} unchanged: nothing had to be done") }
}
