//! How an action ends once its steps have: told, taken back where it failed, and noted where it succeeded. A partial
//! action does each of these for every workload by itself.

use std::collections::{BTreeMap, BTreeSet};

use super::executor::Executed;
use super::outcome::{failure_of, success, tell_steps};
use super::pipeline::{Meaning, Pipeline, Prepared, success_means};
use super::plan::View;
use super::recovery::{LOOK_AGAIN, to_look_at_again};
use super::successor::{Successor, is_recorded, scaled};
use super::target::Loaded;
use super::undo::Undo;
use super::{Context, Recovery, cores, realtime};
use crate::error::{Error, ErrorCode};
use crate::model::action::{ActionRequest, ActionState, Outcome, StepState, Verb, Warning};
use crate::model::plan::{Plan, StepOp};
use crate::storage::StoreError;
use crate::storage::records::{Changes, Intent};

/// An action whose steps have ended.
pub(super) struct Conclusion<'a> {
    /// The ports, and where repairs go.
    pub pipeline: &'a Pipeline,
    /// What was asked.
    pub request: &'a ActionRequest,
    /// What it concerns.
    pub loaded: &'a Loaded,
    /// What was found and planned.
    pub prepared: &'a Prepared,
}

impl Conclusion<'_> {
    /// Fills in the outcome and takes back what failed; gives what changes in the store.
    pub fn conclude(&self, intent: Intent, executed: Executed, outcome: &mut Outcome, context: &Context) -> Changes {
        let failing = self.failing(&executed, context);
        let unreached = unreached(&executed);
        tell_steps(outcome, executed);
        self.tell_failing(&failing, outcome);
        let mut changes = Changes::new();
        let is_partial = self.is_partial(context);
        if outcome.state == ActionState::Succeeded || is_partial {
            self.tell_unchanged_ids(outcome);
            self.note_success(&failing, &mut changes, outcome);
        }
        let (keeper, has_succeeded) = (&self.pipeline.ports().cores, outcome.state == ActionState::Succeeded);
        let has_failed = |name: &str| !has_succeeded && (!is_partial || failing.contains_key(name));
        if has_succeeded {
            cores::conclude(keeper, &intent, has_failed, false, &mut changes);
            return changes;
        }
        let mut is_open = false;
        if self.request.verb.is_undone() {
            let alone = if is_partial { failing.keys().cloned().collect() } else { BTreeSet::new() };
            let intent = Intent { undone_alone: alone, ..intent.clone() };
            is_open = self.take_back(intent, &unreached, &mut changes, outcome, context);
        } else {
            outcome.left = left_of(outcome);
        }
        cores::conclude(keeper, &intent, has_failed, is_open, &mut changes);
        changes
    }

    /// Whether each workload counts by itself. What ends the action as a whole is about all of them.
    fn is_partial(&self, context: &Context) -> bool {
        self.request.parameters.partial && !context.cancel.is_cancelled() && !context.deadline.is_over()
    }

    /// The workloads of a partial action that were refused or failed, with why.
    fn failing(&self, executed: &Executed, context: &Context) -> BTreeMap<String, Error> {
        let mut failing = self.prepared.failed.clone();
        if !self.is_partial(context) {
            return failing;
        }
        for result in &executed.steps {
            let Some(step) = self.prepared.plan.steps.get(result.index) else { continue };
            if !matches!(result.state, StepState::Failed | StepState::Skipped) {
                continue;
            }
            let known = failing.contains_key(&step.workload);
            let own = executed.errors.get(&result.index).cloned();
            match (own, known) {
                (Some(error), false) => drop(failing.insert(step.workload.clone(), error)),
                (None, false) => {
                    let first = executed.failure.clone().unwrap_or_else(|| Error::internal("a step was skipped"));
                    failing.insert(step.workload.clone(), first);
                }
                (_, true) => {}
            }
        }
        failing
    }

    fn tell_failing(&self, failing: &BTreeMap<String, Error>, outcome: &mut Outcome) {
        outcome.failed = failing.iter().map(|(name, error)| (name.clone(), failure_of(error))).collect();
        let Some(first) = failing.values().next() else { return };
        if outcome.state == ActionState::Cancelled {
            return;
        }
        let all = failing.len() + self.prepared.views.iter().filter(|view| !failing.contains_key(&view.name)).count();
        let reasons: Vec<_> = failing.iter().map(|(name, error)| format!("{name}: {error}")).collect();
        let message = format!("{} of {all} workloads failed: {}", failing.len(), reasons.join("; "));
        let nothing_ran = outcome.steps.is_empty() && failing.len() == all;
        outcome.state = if nothing_ran { ActionState::Refused } else { ActionState::Failed };
        outcome.message.clone_from(&message);
        outcome.failure = Some(failure_of(&Error { message, ..first.clone() }));
    }

    /// Gives whether something is still to be looked at.
    fn take_back(
        &self,
        intent: Intent,
        unreached: &BTreeSet<usize>,
        changes: &mut Changes,
        outcome: &mut Outcome,
        context: &Context,
    ) -> bool {
        let is_cut_off = makes_something_that_failed(&intent.plan, outcome);
        context.reporter.state(ActionState::Undoing);
        let settings = self.pipeline.ports().settings.get();
        let undo = Undo {
            engines: &self.prepared.engines,
            outside: &self.pipeline.ports().outside,
            intent: &intent,
            settings: &settings,
            reporter: context.reporter,
            unreached,
        };
        let undone = undo.run(&mut outcome.steps);
        outcome.left = undone.left;
        if undone.retry {
            outcome.left.push("it will be undone when who has to answer for that answers again".to_owned());
        }
        let is_partly_done = outcome.steps.iter().any(|step| step.state == StepState::Changed);
        outcome.changed = !outcome.left.is_empty() || (!intent.undone_alone.is_empty() && is_partly_done);
        if undone.retry || is_cut_off {
            let settled = undone.settled.union(unreached).copied().collect();
            let intent = to_look_at_again(&intent, &outcome.steps, &settled);
            note(changes.put_repair(&intent), outcome);
            let tries = if undone.retry { 0 } else { LOOK_AGAIN };
            self.pipeline.add_repair(Recovery { intent, is_repair: true, tries });
        }
        undone.retry || is_cut_off
    }

    /// What a success changes in the store.
    fn note_success(&self, failing: &BTreeMap<String, Error>, changes: &mut Changes, outcome: &mut Outcome) {
        let request = self.request;
        let is_replaced = |view: &View| view.record.as_ref().is_some_and(|record| record.revision != view.revision);
        let replaces = self.prepared.views.iter().any(is_replaced);
        for view in self.prepared.views.iter().filter(|view| !failing.contains_key(&view.name)) {
            let desired = match success_means(request) {
                Meaning::Forgotten => {
                    changes.delete_workload(&view.name);
                    continue;
                }
                Meaning::AsBefore => continue,
                Meaning::Scaled => {
                    if let Some(before) = &view.record {
                        let record = scaled(before, request, self.pipeline.ports().clock.now_ms());
                        if !is_recorded(Some(before), &record) {
                            note(changes.put_workload(&record), outcome);
                        }
                    }
                    continue;
                }
                // The daemon's own restart changes nothing of what is wanted.
                Meaning::Desired(_) if request.parameters.supervised => continue,
                Meaning::Desired(desired) => desired,
            };
            let Some(spec) = &view.spec else { continue };
            let engine = self.prepared.engines.of(&view.name).map(|engine| engine.name().to_owned());
            let successor = Successor {
                verb: request.verb,
                action_id: &request.id,
                before: view.record.as_ref(),
                spec,
                revision: &view.revision,
                engine: &engine.unwrap_or_default(),
                desired,
                schedule: realtime::recorded(
                    request.verb,
                    &self.prepared.plan,
                    self.loaded.schedule.as_ref(),
                    &view.name,
                    view.record.as_ref(),
                ),
                replaces,
                now_ms: self.pipeline.ports().clock.now_ms(),
            };
            let record = successor.record();
            if !is_recorded(view.record.as_ref(), &record) {
                note(changes.put_workload(&record), outcome);
            }
        }
        for (kind, name, text) in &self.loaded.documents {
            changes.put_document(kind, name, text);
        }
    }

    /// The ids of containers that no step touched.
    fn tell_unchanged_ids(&self, outcome: &mut Outcome) {
        if matches!(outcome.verb, Verb::Remove | Verb::Terminate) {
            return;
        }
        for view in &self.prepared.views {
            let ids = outcome.workloads.entry(view.name.clone()).or_default();
            for container in &view.containers {
                let own_name = container.labels.get(crate::model::workload::labels::CONTAINER);
                let own_name = own_name.unwrap_or(&container.name);
                ids.entry(own_name.clone()).or_insert_with(|| container.id.clone());
            }
        }
        if outcome.steps.is_empty() && outcome.state == ActionState::Succeeded {
            outcome.message = success(outcome.verb, &outcome.target, false);
        }
    }
}

/// Steps that failed because nobody was reached: they had no effect.
fn unreached(executed: &Executed) -> BTreeSet<usize> {
    let is_unreached = |error: &Error| matches!(error.code, ErrorCode::NodeUnavailable | ErrorCode::NodeUnknown);
    executed.errors.iter().filter(|(_, error)| is_unreached(error)).map(|(index, _)| *index).collect()
}

/// Whether a step that makes something did not come to its end: the engine may make it after the undoing has looked.
fn makes_something_that_failed(plan: &Plan, outcome: &Outcome) -> bool {
    let makes = |op: &StepOp| {
        matches!(
            op,
            StepOp::Create { .. }
                | StepOp::EnsurePod { .. }
                | StepOp::EnsureVolume { .. }
                | StepOp::EnsureNetwork { .. }
        )
    };
    outcome.steps.iter().any(|step| {
        step.state == StepState::Failed && plan.steps.get(step.index).is_some_and(|planned| makes(&planned.op))
    })
}

/// What an action that is not undone leaves when it fails.
pub(super) fn left_of(outcome: &Outcome) -> Vec<String> {
    let is_open = |state| matches!(state, StepState::Failed | StepState::Skipped | StepState::Pending);
    let open = outcome.steps.iter().filter(|step| is_open(step.state));
    open.map(|step| format!("{} is not done: {}", step.title, step.message)).collect()
}

fn note(result: Result<(), StoreError>, outcome: &mut Outcome) {
    if let Err(error) = result {
        outcome.warnings.push(Warning::new("", 0, error.to_string()));
    }
}
