//! [`Pipeline`]: carries one action from its loaded documents to its recorded outcome, in the order of the module's
//! header.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::executor::{Executed, Execution, OnFailure, execute};
use super::observe::{Observed, Observer};
use super::outcome::{blank, failure_of, refused, success, tell_steps};
use super::phases::Phase;
use super::steps::Drawings;
use super::target::{self, Loaded};
use super::undo::Undo;
use super::unrecorded::Unrecorded;
use super::{Act, Context, Engines, Ports, Recovered, Recovery, plan, recovery, validation};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, ActionState, Lane, Outcome, StepState, Verb, Warning};
use crate::model::plan::{Plan, StepOp};
use crate::model::workload::WorkloadSpec;
use crate::policy::PolicyQuestion;
use crate::storage::StoreError;
use crate::storage::records::{Changes, Desired, Intent, StoredOutcome, WorkloadRecord};

/// The time a write to the store has beyond the action's own: what is done has to be recorded.
pub const STORE_BUDGET: Duration = Duration::from_secs(5);

/// The one implementation of [`Act`].
pub struct Pipeline {
    ports: Ports,
    unrecorded: Unrecorded,
    repairs: Mutex<Vec<Recovery>>,
}

/// What is known of an action once it is observed and planned.
struct Prepared {
    plan: Plan,
    engines: Engines,
    engine_reason: String,
    views: Vec<plan::View>,
    /// Of each workload whose record was read.
    revisions: Vec<(String, u64)>,
    warnings: Vec<Warning>,
}

impl Pipeline {
    /// A pipeline over these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports, unrecorded: Unrecorded::default(), repairs: Mutex::default() }
    }

    fn check(&self, request: &ActionRequest, loaded: &Loaded, context: &Context) -> Result<Vec<Warning>> {
        let settings = self.ports.settings.get();
        validation::check_ceiling(&settings, loaded)?;
        let workloads: Vec<WorkloadSpec> = loaded.specs.values().cloned().collect();
        let question = PolicyQuestion { verb: request.verb, target: &loaded.target, workloads: &workloads, caller: "" };
        match self.ports.policy.check(&question, context.deadline, context.cancel) {
            Ok(verdict) => match verdict.refusal(&question) {
                Some(refusal) => Err(refusal),
                None => Ok(Vec::new()),
            },
            // What ends things goes on without the policy service; everything else does not.
            Err(error) if request.verb.lane() == Lane::Urgent => {
                Ok(vec![Warning::new("", 0, format!("policy was not asked: {error}"))])
            }
            Err(error) => Err(error.into()),
        }
    }

    fn prepare(
        &self,
        request: &ActionRequest,
        loaded: &Loaded,
        observer: &Observer,
        superseded: &std::collections::BTreeSet<String>,
    ) -> Result<Prepared> {
        let mut engines = Engines::default();
        let mut reasons = Vec::new();
        let (mut views, mut revisions, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for name in &loaded.workloads {
            let Observed { mut view, engine, reason, record_revision, warnings: more } =
                observer.observe(loaded, name)?;
            if let Some(engine) = engine {
                engines.insert(name, engine);
            }
            view.superseded = superseded.contains(name) || superseded.contains(&loaded.target);
            if !reason.is_empty() && !reasons.contains(&reason) {
                reasons.push(reason);
            }
            warnings.extend(more);
            revisions.extend(record_revision.map(|revision| (name.clone(), revision)));
            views.push(view);
        }
        let plan = plan::plan(request.verb, &loaded.target, &engines.names(), &request.parameters, &views)?;
        Ok(Prepared { plan, engines, engine_reason: reasons.join(","), views, revisions, warnings })
    }

    fn intent(&self, request: &ActionRequest, prepared: &Prepared, accepted_ms: u64) -> Intent {
        let mut intent = Intent {
            request: request.clone(),
            plan: prepared.plan.clone(),
            specs: BTreeMap::new(),
            before: BTreeMap::new(),
            engines: prepared.engines.by_workload(),
            existed: BTreeMap::new(),
            ran: BTreeMap::new(),
            accepted_ms,
        };
        for view in &prepared.views {
            if let Some(spec) = &view.spec {
                intent.specs.insert(view.name.clone(), spec.clone());
            }
            if let Some(record) = &view.record {
                intent.before.insert(view.name.clone(), record.clone());
            }
            let names = |live: bool| {
                let chosen = view.containers.iter().filter(|container| !live || container.status.is_live());
                chosen.map(|container| container.name.clone()).collect::<Vec<_>>()
            };
            intent.existed.insert(view.name.clone(), names(false));
            intent.ran.insert(view.name.clone(), names(true));
        }
        intent
    }

    /// Records the intent; what ends things goes on without, with a warning.
    fn record_intent(&self, intent: &Intent, revisions: &[(String, u64)], outcome: &mut Outcome) -> Result<()> {
        let write = || -> std::result::Result<(), StoreError> {
            let mut changes = Changes::new();
            for (workload, revision) in revisions {
                changes.compare_workload(workload, *revision);
            }
            changes.put_intent(intent)?;
            self.ports.records.commit(changes, Deadline::after(STORE_BUDGET))
        };
        match write() {
            Ok(()) => Ok(()),
            Err(error) if intent.request.verb.lane() == Lane::Urgent => {
                let message = format!("the intent was not recorded: {error}");
                outcome.warnings.push(Warning::new("", 0, message));
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn execute(&self, prepared: &Prepared, intent: &Intent, context: &Context) -> Executed {
        let settings = self.ports.settings.get();
        let drawings = Drawings::of_intent(intent, &settings.node);
        let on_failure = if intent.request.verb.is_undone() { OnFailure::EndAll } else { OnFailure::SkipDependants };
        let execution = Execution {
            engines: &prepared.engines,
            drawings: &drawings,
            deadline: context.deadline,
            cancel: context.cancel,
            reporter: context.reporter,
            on_failure,
        };
        execute(&prepared.plan, &execution)
    }

    /// Undoes what failed. Gives whether undoing has to be tried again later.
    fn undo(&self, prepared: &Prepared, intent: &Intent, outcome: &mut Outcome, context: &Context) -> bool {
        context.reporter.state(ActionState::Undoing);
        let settings = self.ports.settings.get();
        let undo = Undo { engines: &prepared.engines, intent, node: &settings.node, reporter: context.reporter };
        let undone = undo.run(&mut outcome.steps);
        outcome.left = undone.left;
        if undone.retry {
            outcome.left.push("it will be undone when the runtime answers again".to_owned());
        }
        outcome.changed = !outcome.left.is_empty();
        undone.retry
    }

    fn run_prepared(&self, request: &ActionRequest, loaded: &Loaded, prepared: &Prepared, run: Run) -> Outcome {
        let Run { mut context, mut outcome } = run;
        outcome.engine = prepared.plan.engine.clone();
        outcome.engine_reason.clone_from(&prepared.engine_reason);
        outcome.warnings.extend(prepared.plan.warnings.iter().cloned());
        context.reporter.planned(&prepared.plan);
        let intent = self.intent(request, prepared, context.accepted_ms);
        if !prepared.plan.steps.is_empty() {
            context.phases.lap(Phase::Plan);
            if let Err(error) = self.record_intent(&intent, &prepared.revisions, &mut outcome) {
                context.phases.lap(Phase::Store);
                outcome.state = ActionState::Refused;
                outcome.message = error.to_string();
                outcome.failure = Some(failure_of(&error));
                return self.finish(request, outcome, Changes::new(), context);
            }
            context.phases.lap(Phase::Store);
        }
        let executed = self.execute(prepared, &intent, &context);
        tell_steps(&mut outcome, executed);
        let mut changes = Changes::new();
        if outcome.state == ActionState::Succeeded {
            tell_unchanged_ids(&mut outcome, prepared);
            self.note_success(request, loaded, prepared, &mut changes, &mut outcome);
        } else if request.verb.is_undone() {
            let is_cut_off = makes_something_that_failed(&intent.plan, &outcome);
            let is_left = self.undo(prepared, &intent, &mut outcome, &context);
            if is_left || is_cut_off {
                note(changes.put_repair(&intent), &mut outcome);
                let tries = if is_left { 0 } else { recovery::LOOK_AGAIN };
                self.add_repair(Recovery { intent, is_repair: true, tries });
            }
        } else {
            outcome.left = left_of(&outcome);
        }
        context.phases.lap(Phase::Run);
        self.finish(request, outcome, changes, context)
    }

    /// What a success changes in the store.
    fn note_success(
        &self,
        request: &ActionRequest,
        loaded: &Loaded,
        prepared: &Prepared,
        changes: &mut Changes,
        outcome: &mut Outcome,
    ) {
        for view in &prepared.views {
            let desired = match success_means(request) {
                Meaning::Forgotten => {
                    changes.delete_workload(&view.name);
                    continue;
                }
                Meaning::AsBefore => continue,
                Meaning::Desired(desired) => desired,
            };
            let Some(spec) = &view.spec else { continue };
            let record = WorkloadRecord {
                spec: spec.clone(),
                revision: view.revision.clone(),
                engine: prepared.engines.of(&view.name).map(|engine| engine.name().to_owned()).unwrap_or_default(),
                desired,
                action_id: request.id.clone(),
                updated_ms: self.ports.clock.now_ms(),
            };
            if !is_recorded(view.record.as_ref(), &record) {
                note(changes.put_workload(&record), outcome);
            }
        }
        for (kind, name, text) in &loaded.documents {
            changes.put_document(kind, name, text);
        }
    }

    /// Records the outcome with what changed, and completes it.
    fn finish(&self, request: &ActionRequest, mut outcome: Outcome, changes: Changes, context: Context) -> Outcome {
        let mut phases = context.phases;
        outcome.ended_ms = self.ports.clock.now_ms();
        outcome.phases = phases.phases();
        self.store(request, &mut outcome, changes, Deadline::after(STORE_BUDGET));
        phases.lap(Phase::Store);
        outcome.phases = phases.phases();
        outcome
    }

    fn store(&self, request: &ActionRequest, outcome: &mut Outcome, mut changes: Changes, deadline: Deadline) {
        let stored = StoredOutcome { fingerprint: fingerprint(request), outcome: outcome.clone() };
        // A refusal is told and need not be kept at any price.
        let had_no_effect = changes.is_empty() && outcome.steps.is_empty() && outcome.failure.is_some();
        let written = changes.put_outcome(&stored).and_then(|()| match had_no_effect {
            true => self.ports.records.commit(changes, deadline),
            false => self.unrecorded.commit(&self.ports.records, &request.id, changes, deadline),
        });
        let Err(error) = written else { return };
        crate::limited!(log::Level::Error, "outcome of action '{}' was not recorded: {error}", request.id);
        if request.verb.lane() == Lane::Urgent || outcome.failure.is_some() {
            outcome.warnings.push(Warning::new("", 0, format!("the outcome was not recorded: {error}")));
            return;
        }
        let message = format!("{} is done, but it could not be recorded: {error}", outcome.message);
        let error = Error::new(ErrorKind::NotRecorded, ErrorCode::NotRecorded, message)
            .hint("it is recorded as soon as the store answers; asking again does nothing twice");
        outcome.state = ActionState::Failed;
        outcome.message.clone_from(&error.message);
        outcome.failure = Some(failure_of(&error));
    }

    /// Hands on what is to be undone later.
    pub(super) fn add_repair(&self, repair: Recovery) {
        self.repairs.lock().unwrap_or_else(PoisonError::into_inner).push(repair);
    }

    /// The ports, for recovery.
    pub(super) fn ports(&self) -> &Ports {
        &self.ports
    }
}

/// What a planned action runs with, and what is told of it so far.
struct Run<'a> {
    context: Context<'a>,
    outcome: Outcome,
}

impl Act for Pipeline {
    fn load(&self, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
        target::load(&self.ports, request, deadline)
    }

    fn run(&self, request: &ActionRequest, loaded: &Loaded, mut context: Context) -> Outcome {
        let mut outcome = blank(request, &loaded.target, ActionState::Running, context.accepted_ms);
        outcome.warnings.clone_from(&loaded.warnings);
        context.reporter.state(ActionState::Running);
        // What is planned from here on is planned from records that are up to date, as far as the store takes them.
        self.record_unrecorded(Deadline::after(STORE_BUDGET));
        let checked = self.check(request, loaded, &context);
        context.phases.lap(Phase::Policy);
        let prepared = checked.and_then(|warnings| {
            outcome.warnings.extend(warnings);
            let observer = Observer::within(&self.ports, request, &context);
            self.prepare(request, loaded, &observer, &context.superseded)
        });
        match prepared {
            Ok(mut prepared) => {
                outcome.warnings.append(&mut prepared.warnings);
                self.run_prepared(request, loaded, &prepared, Run { context, outcome })
            }
            Err(error) => {
                context.phases.lap(Phase::Plan);
                let warnings = std::mem::take(&mut outcome.warnings);
                let mut outcome = refused(request, &loaded.target, &error, context.accepted_ms);
                outcome.warnings = warnings;
                self.finish(request, outcome, Changes::new(), context)
            }
        }
    }

    fn record(&self, request: &ActionRequest, outcome: &mut Outcome, deadline: Deadline) {
        outcome.ended_ms = self.ports.clock.now_ms();
        self.store(request, outcome, Changes::new(), deadline);
    }

    fn stored(&self, action_id: &str, deadline: Deadline) -> Result<Option<StoredOutcome>> {
        Ok(self.ports.records.outcome(action_id, deadline)?)
    }

    fn dry_run(
        &self,
        request: &ActionRequest,
        loaded: &Loaded,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<Plan> {
        let context = Context {
            deadline,
            cancel,
            reporter: &recovery::Silent,
            phases: super::PhaseClock::since(std::time::Instant::now()),
            accepted_ms: 0,
            superseded: std::collections::BTreeSet::new(),
        };
        let mut warnings = self.check(request, loaded, &context)?;
        let observer = Observer::within(&self.ports, request, &context);
        let prepared = self.prepare(request, loaded, &observer, &context.superseded)?;
        let mut plan = prepared.plan;
        warnings.extend(loaded.warnings.iter().cloned());
        warnings.extend(prepared.warnings);
        warnings.append(&mut plan.warnings);
        plan.warnings = warnings;
        Ok(plan)
    }

    fn recover(&self, recovery: &Recovery, context: Context) -> Recovered {
        self.record_unrecorded(Deadline::after(STORE_BUDGET));
        recovery::recover(self, recovery, context)
    }

    fn take_repairs(&self) -> Vec<Recovery> {
        std::mem::take(&mut *self.repairs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn record_unrecorded(&self, deadline: Deadline) -> usize {
        if let Err(error) = self.unrecorded.flush(&self.ports.records, deadline) {
            crate::limited!(log::Level::Warn, "{} actions wait to be recorded: {error}", self.unrecorded.count());
        }
        self.unrecorded.count()
    }
}

/// What the success of an action means for the records of its workloads.
pub(super) enum Meaning {
    /// They are deleted.
    Forgotten,
    /// They stay as they are.
    AsBefore,
    /// This is what the workloads shall be doing.
    Desired(Desired),
}

/// What the success of this request means for the records of its workloads.
pub(super) fn success_means(request: &ActionRequest) -> Meaning {
    match request.verb {
        Verb::Remove | Verb::Terminate => Meaning::Forgotten,
        Verb::Kill if request.parameters.signal.as_deref().is_some_and(|signal| signal != "SIGKILL") => {
            Meaning::AsBefore
        }
        Verb::Stop | Verb::Kill => Meaning::Desired(Desired::Stopped),
        Verb::Pause => Meaning::Desired(Desired::Paused),
        Verb::Launch
        | Verb::Start
        | Verb::Restart
        | Verb::Update
        | Verb::Rollback
        | Verb::Resume
        | Verb::Hibernate
        | Verb::Wake
        | Verb::Scale
        | Verb::Offload => Meaning::Desired(Desired::Running),
    }
}

/// Whether the record says all that the new one would, the time and the action apart.
fn is_recorded(old: Option<&WorkloadRecord>, new: &WorkloadRecord) -> bool {
    old.is_some_and(|old| {
        old.revision == new.revision && old.desired == new.desired && old.engine == new.engine && old.spec == new.spec
    })
}

/// The ids of containers that no step touched.
fn tell_unchanged_ids(outcome: &mut Outcome, prepared: &Prepared) {
    if matches!(outcome.verb, Verb::Remove | Verb::Terminate) {
        return;
    }
    for view in &prepared.views {
        let ids = outcome.workloads.entry(view.name.clone()).or_default();
        for container in &view.containers {
            let own_name = container.labels.get(crate::model::workload::labels::CONTAINER);
            let own_name = own_name.unwrap_or(&container.name);
            ids.entry(own_name.clone()).or_insert_with(|| container.id.clone());
        }
    }
    if outcome.steps.is_empty() {
        outcome.message = success(outcome.verb, &outcome.target, false);
    }
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

fn note(result: std::result::Result<(), StoreError>, outcome: &mut Outcome) {
    if let Err(error) = result {
        outcome.warnings.push(Warning::new("", 0, error.to_string()));
    }
}

/// What tells one request from another under the same id.
pub fn fingerprint(request: &ActionRequest) -> String {
    use sha2::{Digest, Sha256};
    // A request is plain data with text keys; it always has a JSON form.
    let text = serde_json::to_string(request).unwrap_or_default();
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
