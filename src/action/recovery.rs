//! What a crash left under way, and what an undo could not reach: finished or undone, and said which.
//!
//! Stop, kill, remove and terminate are finished, and so is a restart. Everything else is finished where all of it
//! was done already, and undone otherwise. A workload that another action has changed since is left as it is.
//!
//! An engine goes on with what the dead daemon had asked of it, and may be done only after the undoing has looked. So
//! what is undone is looked at once more some seconds later, or before the next action on the workload.

use std::collections::BTreeSet;

use super::conclusion::left_of;
use super::executor::{Execution, OnFailure, execute};
use super::observe::Observer;
use super::outcome::{blank, failure_of, success, tell_steps};
use super::pipeline::{Meaning, Pipeline, STORE_BUDGET, fingerprint, success_means};
use super::steps::{self, Drawings};
use super::successor::{Successor, scaled};
use super::target::{self, Loaded};
use super::undo::Undo;
use super::{Context, Engines, Reporter, cores, plan, realtime};
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, ActionState, Outcome, StepResult, StepState, Verb};
use crate::model::plan::{NodeCommand, Plan, Step, StepOp};
use crate::model::state::ContainerStatus;
use crate::model::workload::{WorkloadSpec, labels};
use crate::runtime::adapter::{Call, ContainerInstance, NoProgress};
use crate::storage::StoreError;
use crate::storage::records::{Changes, Intent, StoredOutcome, WorkloadRecord};

/// A second look counts as a repair that was tried so often, and comes as late: after four seconds.
pub(super) const LOOK_AGAIN: u32 = 2;

/// Something that is still to be ended.
#[derive(Debug, Clone)]
pub struct Recovery {
    /// What was begun.
    pub intent: Intent,
    /// Whether the outcome is told already and only undoing is left.
    pub is_repair: bool,
    /// How often it was tried in vain.
    pub tries: u32,
}

impl Recovery {
    /// The same, with what is left of it where that is less.
    #[must_use]
    pub fn with_rest(self, rest: Option<Box<Intent>>) -> Self {
        match rest {
            Some(rest) => Self { intent: *rest, ..self },
            None => self,
        }
    }

    /// What it concerns.
    pub fn loaded(&self) -> Loaded {
        loaded(&self.intent)
    }
}

/// What a recovery came to.
pub enum Recovered {
    /// It is over; the outcome where it had none before.
    Ended(Option<Box<Outcome>>),
    /// The engine or the store is away: try again later.
    Later {
        /// Why.
        error: Error,
        /// What is left to be undone then, where some of it is by now.
        rest: Option<Box<Intent>>,
    },
}

/// A reporter for work that nobody follows.
pub struct Silent;

impl Reporter for Silent {
    fn planned(&self, _plan: &Plan) {}
    fn step(&self, _result: &StepResult) {}
    fn bytes(&self, _index: usize, _what: &str, _done: u64, _total: u64) {}
    fn state(&self, _state: ActionState) {}
}

/// Ends one recovery.
pub fn recover(pipeline: &Pipeline, recovery: &Recovery, context: Context) -> Recovered {
    let mut rest = None;
    let ended = match try_recover(pipeline, recovery, &context, &mut rest) {
        Err(error) if !is_passing(&error) && !recovery.is_repair => {
            given_up(pipeline, &recovery.intent, &error).map(Some)
        }
        other => other,
    };
    match ended {
        Ok(outcome) => Recovered::Ended(outcome.map(Box::new)),
        Err(error) => Recovered::Later { error, rest: rest.map(Box::new) },
    }
}

fn try_recover(
    pipeline: &Pipeline,
    recovery: &Recovery,
    context: &Context,
    rest: &mut Option<Intent>,
) -> Result<Option<Outcome>> {
    let intent = &remaining(pipeline, &recovery.intent)?;
    let engines = engines(pipeline, intent)?;
    if recovery.is_repair {
        let undone = undo_all(pipeline, intent, &engines, context, rest);
        if let (Err(_), Some(rest)) = (&undone, rest.as_ref()) {
            let mut changes = Changes::new();
            changes.put_repair(rest)?;
            pipeline.ports().records.commit(changes, Deadline::after(STORE_BUDGET))?;
        }
        undone?;
        let mut changes = Changes::new();
        changes.delete_repair(&intent.request.id);
        pipeline.ports().records.commit(changes, Deadline::after(STORE_BUDGET))?;
        pipeline.ports().cores.nudge();
        return Ok(None);
    }
    let verb = intent.request.verb;
    if intent.existed.is_empty() && !recovery.intent.existed.is_empty() {
        let message = "the daemon ended while it ran, and a later action has changed its workloads since";
        let error = Error::new(ErrorKind::Aborted, ErrorCode::Superseded, message);
        return given_up(pipeline, intent, &error).map(Some);
    }
    let (mut changes, mut look_again) = (Changes::new(), None);
    let outcome = if !verb.is_undone() || verb == Verb::Restart {
        finish(pipeline, intent, &engines, context)?
    } else if let Some(views) = done(pipeline, intent, context)? {
        let mut outcome = ended(pipeline, intent, ActionState::Succeeded, "finished");
        tell_ids(&mut outcome, &views);
        outcome
    } else {
        let Undoing { steps, left, again } = undo_all(pipeline, intent, &engines, context, rest)?;
        changes.put_repair(&again)?;
        look_again = Some(again);
        Outcome { steps, left, ..ended(pipeline, intent, ActionState::Interrupted, "undone") }
    };
    store(pipeline, intent, &outcome, (changes, look_again.is_some()))?;
    if let Some(intent) = look_again {
        pipeline.add_repair(Recovery { intent, is_repair: true, tries: LOOK_AGAIN });
    }
    Ok(Some(outcome))
}

fn engines(pipeline: &Pipeline, intent: &Intent) -> Result<Engines> {
    let mut engines = Engines::default();
    for (workload, name) in &intent.engines {
        let engine = pipeline.ports().engines.get(name).ok_or_else(|| {
            let message = format!("workload '{workload}' is on runtime '{name}', which is not configured");
            Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, message)
        })?;
        engines.insert(workload, engine);
    }
    Ok(engines)
}

/// The intent without the workloads that another action has changed since it was begun: what it was to do with them
/// is no longer asked for.
fn remaining(pipeline: &Pipeline, intent: &Intent) -> Result<Intent> {
    let mut remaining = intent.clone();
    for workload in intent.existed.keys() {
        let deadline = Deadline::after(STORE_BUDGET);
        let record = match pipeline.ports().records.workload(workload, deadline) {
            Ok(found) => found.map(|found| found.value),
            // Whatever it says, the interrupted action is the last that is known of.
            Err(StoreError::Damaged { .. }) => continue,
            Err(error) => return Err(error.into()),
        };
        let now = record.as_ref().map(|record| (record.action_id.clone(), record.updated_ms));
        let before = intent.before.get(workload).map(|record| (record.action_id.clone(), record.updated_ms));
        if now != before {
            log::warn!("action '{}' leaves '{workload}' as a later action made it", intent.request.id);
            remaining.existed.remove(workload);
            // What this action started on another node is known to nobody else, unless it runs there by now as it shall.
            let is_stray = |step: &Step| match &step.op {
                StepOp::Delegate { node, command: NodeCommand::Start } => {
                    let is_there = |record: &WorkloadRecord| record.spec.other_node() == Some(node.as_str());
                    !record.as_ref().is_some_and(is_there)
                }
                _ => false,
            };
            remaining.plan.steps.retain(|step| step.workload != *workload || is_stray(step));
        }
    }
    Ok(remaining)
}

fn loaded(intent: &Intent) -> Loaded {
    let alone = &intent.undone_alone;
    let is_meant = |name: &&String| alone.is_empty() || alone.contains(*name);
    let workloads = intent.existed.keys().filter(is_meant).cloned().collect();
    Loaded { target: intent.plan.target.clone(), workloads, ..Loaded::default() }
}

/// Plans again from what is there: nothing left to do means that it was done. A start whose containers ended
/// meanwhile by themselves is undone as well; it was not told as done to anyone.
fn done(pipeline: &Pipeline, intent: &Intent, context: &Context) -> Result<Option<Vec<plan::View>>> {
    let mut loaded = loaded(intent);
    let verb = intent.request.verb;
    if verb == Verb::Offload {
        // What other nodes have done nobody can see.
        return Ok(None);
    }
    if matches!(verb, Verb::Hibernate | Verb::Wake) {
        let views = observe(pipeline, &intent.request, &loaded, context)?;
        let is_so = views.iter().all(|view| is_done(verb, view));
        return Ok(is_so.then_some(views));
    }
    let makes = matches!(verb, Verb::Launch | Verb::Update | Verb::Rollback);
    if makes {
        loaded.specs.clone_from(&intent.specs);
    }
    let mut views = observe(pipeline, &intent.request, &loaded, context)?;
    if makes {
        // The record is of what was there before; what was made is known by its labels.
        views.iter_mut().for_each(|view| view.record = None);
    }
    let node = pipeline.ports().settings.get().node.clone();
    let asked = asked(intent, verb, &loaded.target, &node);
    let planned = plan::plan(&plan::Asked { schedule: None, connects: false, ..asked }, "", &views);
    let is_done = planned.is_ok_and(|plan| plan.steps.is_empty()) && is_pinned(pipeline, intent, &views, context);
    Ok(is_done.then_some(views))
}

/// Whether what runs is where its CPUs are, or need not be: between its start and that the daemon may have ended.
fn is_pinned(pipeline: &Pipeline, intent: &Intent, views: &[plan::View], context: &Context) -> bool {
    let call = Call { deadline: context.deadline, cancel: context.cancel, progress: &NoProgress };
    let node = pipeline.ports().settings.get().node.clone();
    let drawings = Drawings::of_intent(intent, &node);
    let holding = views.iter().filter(|view| intent.cores.contains_key(&view.name));
    let mut running =
        holding.flat_map(|view| view.containers.iter().filter(|c| c.status.is_live()).map(move |c| (view, c)));
    running.all(|(view, container)| {
        let pinned = steps::pin(&pipeline.ports().cores, &call, &drawings, &view.name, &container.name);
        pinned.inspect_err(|error| log::warn!("action '{}' is undone: {error}", intent.request.id)).is_ok()
    })
}

/// The intent as it is undone once more: without what other nodes were never asked for or have taken back (`settled`),
/// because they cannot be asked twice.
pub(super) fn to_look_at_again(intent: &Intent, results: &[StepResult], settled: &BTreeSet<usize>) -> Intent {
    let mut again = intent.clone();
    let never_begun = |result: &StepResult| matches!(result.state, StepState::Skipped | StepState::Pending);
    let is_over = |index: usize| settled.contains(&index) || results.get(index).is_some_and(never_begun);
    let mut index = 0;
    again.plan.steps.retain(|step| {
        index += 1;
        !(matches!(step.op, StepOp::Delegate { .. } | StepOp::Place { .. }) && is_over(index - 1))
    });
    // A step waits for none: undoing goes backwards through all of them.
    again.plan.steps.iter_mut().for_each(|step| step.after.clear());
    again
}

/// The ids of the containers that are there.
fn tell_ids(outcome: &mut Outcome, views: &[plan::View]) {
    for view in views {
        let own_name = |c: &ContainerInstance| c.labels.get(labels::CONTAINER).unwrap_or(&c.name).clone();
        let ids = view.containers.iter().map(|container| (own_name(container), container.id.clone()));
        outcome.workloads.insert(view.name.clone(), ids.collect());
    }
}

/// Whether containers that ran before a restart run on: then it has not come to them yet.
fn runs_on(intent: &Intent, views: &[plan::View]) -> bool {
    let before = |view: &plan::View, container: &ContainerInstance| {
        let ran = intent.ran.get(&view.name).is_some_and(|names| names.contains(&container.name));
        ran && container.status.is_live() && container.started_ms < intent.accepted_ms
    };
    views.iter().any(|view| view.mains().any(|container| before(view, container)))
}

fn asked<'a>(intent: &'a Intent, verb: Verb, target: &'a str, node: &'a str) -> plan::Asked<'a> {
    let (schedule, connects) = (intent.schedule.as_ref(), intent.network.is_some());
    plan::Asked { verb, target, parameters: &intent.request.parameters, node, schedule, connects }
}

fn observe(
    pipeline: &Pipeline,
    request: &ActionRequest,
    loaded: &Loaded,
    context: &Context,
) -> Result<Vec<plan::View>> {
    let observer = Observer::within(pipeline.ports(), request, context);
    loaded.workloads.iter().map(|name| observer.observe(loaded, name).map(|observed| observed.view)).collect()
}

/// Does what is left of a verb that is never undone.
fn finish(pipeline: &Pipeline, intent: &Intent, engines: &Engines, context: &Context) -> Result<Outcome> {
    let loaded = loaded(intent);
    let mut request = intent.request.clone();
    let mut views = observe(pipeline, &request, &loaded, context)?;
    views.iter_mut().for_each(|view| view.superseded = true);
    if request.verb == Verb::Restart && !runs_on(intent, &views) {
        // It was stopped: what is left of the restart is that it runs.
        request.verb = Verb::Start;
    }
    let settings = pipeline.ports().settings.get();
    let asked = asked(intent, request.verb, &loaded.target, &settings.node);
    let plan = plan::plan(&asked, &engines.names(), &views)?;
    let execution = Execution {
        engines,
        outside: &pipeline.ports().outside,
        cores: &pipeline.ports().cores,
        drawings: &Drawings::of_intent(intent, &settings.node),
        deadline: context.deadline,
        cancel: context.cancel,
        reporter: context.reporter,
        on_failure: OnFailure::SkipDependants,
    };
    let executed = execute(&plan, &execution);
    if let Some(error) = executed.failure.clone().filter(is_passing) {
        return Err(error);
    }
    let mut outcome = ended(pipeline, intent, ActionState::Succeeded, "finished");
    let message = outcome.message.clone();
    tell_steps(&mut outcome, executed);
    match &outcome.failure {
        None => outcome.message = message,
        Some(_) => outcome.left = left_of(&outcome),
    }
    Ok(outcome)
}

/// Whether another try may do better: the engine or the store is away, or this daemon is stopping.
fn is_passing(error: &Error) -> bool {
    match error.kind {
        ErrorKind::Unavailable
        | ErrorKind::ResourceExhausted
        | ErrorKind::Aborted
        | ErrorKind::Cancelled
        | ErrorKind::DeadlineExceeded => true,
        ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::PermissionDenied
        | ErrorKind::FailedPrecondition
        | ErrorKind::Unimplemented
        | ErrorKind::Internal
        | ErrorKind::NotRecorded => false,
    }
}

/// The outcome of an action that can neither be finished nor undone: what is there stays as it is.
fn given_up(pipeline: &Pipeline, intent: &Intent, error: &Error) -> Result<Outcome> {
    let mut outcome = ended(pipeline, intent, ActionState::Interrupted, "");
    outcome.message = format!("what it had begun when the daemon ended stays as it is: {error}");
    outcome.left.push(outcome.message.clone());
    outcome.failure = Some(failure_of(error));
    // Which CPUs that means is decided by what is there.
    store(pipeline, intent, &outcome, (Changes::new(), true))?;
    Ok(outcome)
}

/// What undoing all steps came to.
struct Undoing {
    /// How each went.
    steps: Vec<StepResult>,
    /// What is left.
    left: Vec<String>,
    /// What is looked at once more.
    again: Intent,
}

/// Undoes all steps. Where some could not be reached, `rest` is what is to be tried again.
fn undo_all(
    pipeline: &Pipeline,
    intent: &Intent,
    engines: &Engines,
    context: &Context,
    rest: &mut Option<Intent>,
) -> Result<Undoing> {
    let mut steps: Vec<_> =
        intent.plan.steps.iter().enumerate().map(|(index, step)| maybe_begun(index, step)).collect();
    let settings = pipeline.ports().settings.get();
    let undo = Undo {
        engines,
        outside: &pipeline.ports().outside,
        intent,
        settings: &settings,
        reporter: context.reporter,
        unreached: &BTreeSet::new(),
    };
    let undone = undo.run(&mut steps);
    let again = to_look_at_again(intent, &steps, &undone.settled);
    if undone.retry {
        *rest = Some(again);
        let message = undone.left.join("; ");
        return Err(Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, message));
    }
    for left in &undone.left {
        log::error!("action '{}' left behind: {left}", intent.request.id);
    }
    Ok(Undoing { steps, left: undone.left, again })
}

/// Whether all containers are as the verb wants them; a hibernation counts only once its checkpoint is known to be whole.
fn is_done(verb: Verb, view: &plan::View) -> bool {
    let is_so = |container: &ContainerInstance| match verb {
        Verb::Hibernate => {
            container.status == ContainerStatus::Hibernated && !container.annotations.contains_key(labels::UNFINISHED)
        }
        _ => container.status.is_live(),
    };
    view.mains().next().is_some() && view.mains().all(is_so)
}

/// Nobody knows whether the step was begun. A made path is left alone: it may have been there before.
fn maybe_begun(index: usize, step: &Step) -> StepResult {
    let state = match step.op {
        StepOp::EnsurePath { .. } => StepState::Skipped,
        _ => StepState::Running,
    };
    StepResult { index, title: step.title(), state, micros: 0, message: String::new() }
}

fn ended(pipeline: &Pipeline, intent: &Intent, state: ActionState, how: &str) -> Outcome {
    let request = &intent.request;
    let mut outcome = blank(request, &intent.plan.target, state, intent.accepted_ms);
    outcome.ended_ms = pipeline.ports().clock.now_ms();
    outcome.engine.clone_from(&intent.plan.engine);
    outcome.recovered = how.to_owned();
    outcome.changed = state == ActionState::Succeeded;
    outcome.message = format!("the daemon ended while it ran; after its restart it was {how}");
    if state == ActionState::Succeeded {
        outcome.message = format!("{}; {}", success(request.verb, &outcome.target, true), outcome.message);
    } else {
        let error = Error::new(ErrorKind::Aborted, ErrorCode::Interrupted, outcome.message.clone());
        outcome.failure = Some(failure_of(&error.hint("ask for it again")));
    }
    outcome
}

/// Records how it ended, with `changes`; whether something is still to be undone goes with them.
fn store(
    pipeline: &Pipeline,
    intent: &Intent,
    outcome: &Outcome,
    (mut changes, is_open): (Changes, bool),
) -> Result<()> {
    if outcome.failure.is_none() {
        for workload in intent.existed.keys() {
            record(pipeline, intent, workload, &mut changes)?;
        }
        put_documents(pipeline, intent, &mut changes);
    }
    let has_failed = outcome.failure.is_some();
    cores::conclude(&pipeline.ports().cores, intent, |_| has_failed, is_open, &mut changes);
    let stored = StoredOutcome { fingerprint: fingerprint(&intent.request), outcome: outcome.clone() };
    let is_urgent = intent.request.verb.lane() == crate::model::action::Lane::Urgent;
    let outbox = pipeline.ports().outbox.as_ref();
    let _ticket = outbox.map(|outbox| outbox.add(&mut changes, outcome, is_urgent, true)).transpose()?;
    changes.put_outcome(&stored)?;
    pipeline.ports().records.commit(changes, Deadline::after(STORE_BUDGET))?;
    pipeline.ports().cores.nudge_if_noted();
    Ok(())
}

/// Keeps the documents of a finished launch, as its own end would have.
fn put_documents(pipeline: &Pipeline, intent: &Intent, changes: &mut Changes) {
    if intent.request.verb != Verb::Launch || intent.request.manifest.is_empty() {
        return;
    }
    match target::load(pipeline.ports(), &intent.request, Deadline::after(STORE_BUDGET)) {
        Ok(loaded) => {
            for (kind, name, text) in &loaded.documents {
                changes.put_document(kind, name, text);
            }
        }
        // They were read once; a limit that was lowered meanwhile can refuse them now.
        Err(error) => log::warn!("documents of action '{}' are not kept: {error}", intent.request.id),
    }
}

fn record(pipeline: &Pipeline, intent: &Intent, workload: &str, changes: &mut Changes) -> Result<()> {
    let desired = match success_means(&intent.request) {
        Meaning::Forgotten => {
            changes.delete_workload(workload);
            return Ok(());
        }
        Meaning::AsBefore => return Ok(()),
        Meaning::Scaled => {
            if let Some(before) = intent.before.get(workload) {
                changes.put_workload(&scaled(before, &intent.request, pipeline.ports().clock.now_ms()))?;
            }
            return Ok(());
        }
        Meaning::Desired(desired) => desired,
    };
    let Some(spec) = intent.specs.get(workload) else { return Ok(()) };
    let is_replaced = |(name, spec): (&String, &WorkloadSpec)| {
        intent.before.get(name).is_some_and(|before| before.revision != super::difference::revision(spec))
    };
    let successor = Successor {
        verb: intent.request.verb,
        action_id: &intent.request.id,
        before: intent.before.get(workload),
        spec,
        revision: &super::difference::revision(spec),
        engine: intent.engines.get(workload).map(String::as_str).unwrap_or_default(),
        desired,
        schedule: realtime::recorded(
            intent.request.verb,
            &intent.plan,
            intent.schedule.as_ref(),
            workload,
            intent.before.get(workload),
        ),
        replaces: intent.specs.iter().any(is_replaced),
        now_ms: pipeline.ports().clock.now_ms(),
    };
    changes.put_workload(&successor.record())?;
    Ok(())
}
