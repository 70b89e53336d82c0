//! [`Pipeline`]: carries one action from its loaded documents to its recorded outcome, in the order of the module's
//! header.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::conclusion::Conclusion;
use super::executor::{Executed, Execution, OnFailure, execute};
use super::observe::{Observed, Observer};
use super::outcome::{blank, failure_of, refused};
use super::phases::Phase;
use super::plan::Asked;
use super::steps::Drawings;
use super::target::{self, Loaded};
use super::unrecorded::Unrecorded;
use super::{Act, Context, Engines, Ports, Recovered, Recovery, cores, plan, realtime, recovery, scenario, verdict};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, ActionState, Lane, Outcome, Verb, Warning};
use crate::model::plan::Plan;
use crate::policy::WorkloadRuling;
use crate::runtime::registry::SelectionRequest;
use crate::storage::StoreError;
use crate::storage::records::{Changes, Desired, Intent, StoredOutcome};

/// The time a write to the store has beyond the action's own: what is done has to be recorded.
pub const STORE_BUDGET: Duration = Duration::from_secs(5);

/// The one implementation of [`Act`].
pub struct Pipeline {
    ports: Ports,
    unrecorded: Unrecorded,
    repairs: Mutex<Vec<Recovery>>,
}

/// What is known of an action once it is observed and planned.
pub(super) struct Prepared {
    /// What it does.
    pub plan: Plan,
    /// The engine of each workload.
    pub engines: Engines,
    /// Why these engines.
    pub engine_reason: String,
    /// The workloads as they were found.
    pub views: Vec<plan::View>,
    /// Of each workload whose record was read.
    pub revisions: Vec<(String, u64)>,
    /// The CPUs that are asked for.
    pub cores: cores::Asked,
    /// Of a partial action: the workloads that cannot be, with the reason.
    pub failed: BTreeMap<String, Error>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

impl Pipeline {
    /// A pipeline over these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports, unrecorded: Unrecorded::default(), repairs: Mutex::default() }
    }

    fn prepare(
        &self,
        request: &ActionRequest,
        loaded: &Loaded,
        observer: &Observer,
        superseded: &BTreeSet<String>,
    ) -> Result<Prepared> {
        let settings = self.ports.settings.get();
        let asked = Asked {
            verb: request.verb,
            target: &loaded.target,
            parameters: &request.parameters,
            node: &settings.node,
            schedule: loaded.schedule.as_ref(),
            connects: loaded.network.is_some(),
        };
        let mut failed = BTreeMap::new();
        let mut engines = Engines::default();
        let mut reasons = Vec::new();
        let (mut views, mut revisions, mut warnings) = (Vec::new(), Vec::new(), Vec::new());
        for name in &loaded.workloads {
            let observed = observer.observe(loaded, name).and_then(|mut observed| {
                let view = &mut observed.view;
                view.superseded = superseded.contains(name) || superseded.contains(&loaded.target);
                if request.parameters.partial {
                    plan::plan(&asked, "", std::slice::from_ref(view))?;
                }
                Ok(observed)
            });
            let Observed { view, engine, reason, record_revision, warnings: more } = match observed {
                Ok(observed) => observed,
                Err(error) if request.parameters.partial && is_of_one(&error) => {
                    failed.insert(name.clone(), error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Some(engine) = engine {
                engines.insert(name, engine);
            }
            if !reason.is_empty() && !reasons.contains(&reason) {
                reasons.push(reason);
            }
            warnings.extend(more);
            revisions.extend(record_revision.map(|revision| (name.clone(), revision)));
            views.push(view);
        }
        let mut plan = plan::plan(&asked, &engines.names(), &views)?;
        let of = |plan: &Plan, views: &[plan::View]| match plan.steps.is_empty() {
            true => Vec::new(),
            false => cores::asked(request.verb, views),
        };
        let refused = cores::check(&self.ports.cores, &of(&plan, &views))?;
        if let Some((_, refusal)) = refused.iter().next().filter(|_| !request.parameters.partial) {
            return Err(refusal.clone());
        }
        if !refused.is_empty() {
            views.retain(|view| !refused.contains_key(&view.name));
            revisions.retain(|(workload, _)| !refused.contains_key(workload));
            failed.extend(refused);
            plan = plan::plan(&asked, &engines.names(), &views)?;
        }
        let cores = of(&plan, &views);
        realtime::look(&self.ports, request, loaded, &plan, observer.deadline)?;
        Ok(Prepared { plan, engines, engine_reason: reasons.join(","), views, revisions, cores, failed, warnings })
    }

    fn intent(&self, request: &ActionRequest, loaded: &Loaded, prepared: &Prepared, accepted_ms: u64) -> Intent {
        let mut intent = Intent {
            request: request.clone(),
            plan: prepared.plan.clone(),
            cores: BTreeMap::new(),
            specs: BTreeMap::new(),
            before: BTreeMap::new(),
            engines: prepared.engines.by_workload(),
            existed: BTreeMap::new(),
            ran: BTreeMap::new(),
            schedule: loaded.schedule.clone(),
            network: loaded.network.clone(),
            undone_alone: BTreeSet::new(),
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

    /// Records the intent and takes the CPUs that are asked for; what ends things goes on without, with a warning.
    fn record_intent(&self, intent: &mut Intent, prepared: &Prepared, outcome: &mut Outcome) -> Result<()> {
        let (verb, action_id) = (intent.request.verb, intent.request.id.clone());
        let write = |mut changes: Changes, cores| -> std::result::Result<(), StoreError> {
            for (workload, revision) in &prepared.revisions {
                changes.compare_workload(workload, *revision);
            }
            intent.cores = cores;
            changes.put_intent(intent)?;
            self.ports.records.commit(changes, Deadline::after(STORE_BUDGET))
        };
        let by = (action_id.as_str(), self.ports.clock.now_ms());
        match cores::take(&self.ports.cores, &prepared.cores, by, write) {
            Ok(()) => Ok(()),
            Err(error) if verb.lane() == Lane::Urgent => {
                let message = format!("the intent was not recorded: {error}");
                outcome.warnings.push(Warning::new("", 0, message));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn execute(&self, prepared: &Prepared, intent: &Intent, context: &Context) -> Executed {
        let settings = self.ports.settings.get();
        let drawings = Drawings::of_intent(intent, &settings.node);
        let ends_all = intent.request.verb.is_undone() && !intent.request.parameters.partial;
        let on_failure = if ends_all { OnFailure::EndAll } else { OnFailure::SkipDependants };
        let execution = Execution {
            engines: &prepared.engines,
            outside: &self.ports.outside,
            cores: &self.ports.cores,
            drawings: &drawings,
            deadline: context.deadline,
            cancel: context.cancel,
            reporter: context.reporter,
            on_failure,
        };
        execute(&prepared.plan, &execution)
    }

    fn run_prepared(&self, request: &ActionRequest, loaded: &Loaded, prepared: &Prepared, run: Run) -> Outcome {
        let Run { mut context, mut outcome } = run;
        outcome.engine = prepared.plan.engine.clone();
        outcome.engine_reason.clone_from(&prepared.engine_reason);
        outcome.warnings.extend(prepared.plan.warnings.iter().cloned());
        context.reporter.planned(&prepared.plan);
        let mut intent = self.intent(request, loaded, prepared, context.accepted_ms);
        if !prepared.plan.steps.is_empty() {
            context.phases.lap(Phase::Plan);
            let has_place = match &self.ports.outbox {
                Some(outbox) if request.verb.lane() == Lane::Normal => outbox.admit(),
                Some(_) | None => Ok(()),
            };
            let recorded = has_place.and_then(|()| self.record_intent(&mut intent, prepared, &mut outcome));
            if let Err(error) = recorded {
                context.phases.lap(Phase::Store);
                outcome.state = ActionState::Refused;
                outcome.message = error.to_string();
                outcome.failure = Some(failure_of(&error));
                return self.finish(request, outcome, Changes::new(), context);
            }
            context.phases.lap(Phase::Store);
        }
        let executed = self.execute(prepared, &intent, &context);
        let conclusion = Conclusion { pipeline: self, request, loaded, prepared };
        let changes = conclusion.conclude(intent, executed, &mut outcome, &context);
        context.phases.lap(Phase::Run);
        if loaded.is_trigger && outcome.is_nothing() && changes.is_empty() {
            outcome.ended_ms = self.ports.clock.now_ms();
            outcome.phases = context.phases.phases();
            return outcome;
        }
        let outcome = self.finish(request, outcome, changes, context);
        realtime::settle(&self.ports, &loaded.workloads);
        outcome
    }

    /// Records the outcome with what changed, and completes it.
    fn finish(&self, request: &ActionRequest, mut outcome: Outcome, changes: Changes, context: Context) -> Outcome {
        let mut phases = context.phases;
        outcome.ended_ms = self.ports.clock.now_ms();
        outcome.phases = phases.phases();
        self.store(request, &mut outcome, changes, Deadline::after(STORE_BUDGET));
        self.ports.cores.nudge_if_noted();
        phases.lap(Phase::Store);
        outcome.phases = phases.phases();
        outcome
    }

    fn store(&self, request: &ActionRequest, outcome: &mut Outcome, mut changes: Changes, deadline: Deadline) {
        let stored = StoredOutcome { fingerprint: fingerprint(request), outcome: outcome.clone() };
        // A refusal is told and need not be kept at any price.
        let had_no_effect = changes.is_empty() && outcome.steps.is_empty() && outcome.failure.is_some();
        let is_urgent = request.verb.lane() == Lane::Urgent;
        // Whatever a caller repeats without an effect takes no place where there is none.
        let has_effect = !outcome.steps.is_empty() || (is_urgent && !had_no_effect);
        let outbox = self.ports.outbox.as_ref();
        // Held until the changes are committed, so that outcomes are delivered in their order.
        let ticket = outbox.map(|outbox| outbox.add(&mut changes, outcome, is_urgent, has_effect)).transpose();
        let written = changes.put_outcome(&stored).and_then(|()| ticket.as_ref().map(drop).map_err(Clone::clone));
        let written = written.and_then(|()| match had_no_effect {
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
    fn load_scenario(&self, scenario: &str, deadline: Deadline) -> Result<(Verb, Loaded)> {
        scenario::load(&self.ports, scenario, deadline)
    }

    fn load(&self, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
        target::load(&self.ports, request, deadline)
    }

    fn engine_of(&self, request: &ActionRequest, loaded: &Loaded) -> Option<String> {
        let engines = &self.ports.engines;
        let name = loaded.workloads.first().filter(|_| engines.names().len() > 1)?;
        let record = self.ports.records.workload(name, Deadline::after(STORE_BUDGET)).ok()?.map(|found| found.value);
        match (record, loaded.specs.get(name)) {
            (Some(record), _) => Some(record.engine).filter(|engine| !engine.is_empty()),
            (None, Some(spec)) if spec.delegate.is_none() => {
                let requested = request.parameters.engine.as_deref().unwrap_or_default();
                engines.likely(&SelectionRequest {
                    requested,
                    annotation: &spec.engine,
                    require: spec.engine_required,
                    format: spec.format,
                    names_node: !spec.node.is_empty(),
                    needs: &[],
                })
            }
            (None, Some(_) | None) => None,
        }
    }

    fn run(&self, request: &ActionRequest, loaded: &Loaded, mut context: Context) -> Outcome {
        let mut outcome = blank(request, &loaded.target, ActionState::Running, context.accepted_ms);
        outcome.warnings.clone_from(&loaded.warnings);
        context.reporter.state(ActionState::Running);
        // What is planned from here on is planned from records that are up to date, as far as the store takes them.
        self.record_unrecorded(Deadline::after(STORE_BUDGET));
        let mut loaded = loaded.clone();
        let checked = verdict::check(&self.ports, request, &mut loaded, &context);
        let checked = checked.and_then(|checked| {
            outcome.warnings.extend(realtime::recall(&self.ports, request, &mut loaded, context.deadline)?);
            Ok(checked)
        });
        context.phases.lap(Phase::Policy);
        let loaded = &loaded;
        let prepared = checked.and_then(|checked| {
            outcome.warnings.extend(checked.warnings);
            let observer = Observer::within(&self.ports, request, &context);
            let mut prepared = self.prepare(request, loaded, &observer, &context.superseded)?;
            prepared.failed.extend(checked.refused);
            Ok(prepared)
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
            superseded: BTreeSet::new(),
        };
        let mut loaded = loaded.clone();
        let checked = verdict::check(&self.ports, request, &mut loaded, &context)?;
        let recalled = realtime::recall(&self.ports, request, &mut loaded, deadline)?;
        let (loaded, mut warnings) = (&loaded, checked.warnings);
        warnings.extend(recalled);
        let observer = Observer::within(&self.ports, request, &context);
        let prepared = self.prepare(request, loaded, &observer, &context.superseded)?;
        let mut plan = prepared.plan;
        warnings.extend(loaded.warnings.iter().cloned());
        warnings.extend(prepared.warnings);
        warnings.append(&mut plan.warnings);
        plan.warnings = warnings;
        Ok(plan)
    }

    fn check_policy(
        &self,
        request: &ActionRequest,
        loaded: &Loaded,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Vec<WorkloadRuling> {
        verdict::rule(&self.ports, request, loaded, deadline, cancel)
    }

    fn recover(&self, recovery: &Recovery, context: Context) -> Recovered {
        self.record_unrecorded(Deadline::after(STORE_BUDGET));
        let recovered = recovery::recover(self, recovery, context);
        if let Recovered::Ended(_) = recovered {
            realtime::settle(&self.ports, &recovery.loaded().workloads);
        }
        recovered
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
    /// The workloads have other limits than their descriptions say.
    Scaled,
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
        Verb::Hibernate => Meaning::Desired(Desired::Hibernated),
        Verb::Scale => Meaning::Scaled,
        Verb::Launch
        | Verb::Start
        | Verb::Restart
        | Verb::Update
        | Verb::Rollback
        | Verb::Resume
        | Verb::Wake
        | Verb::Offload => Meaning::Desired(Desired::Running),
    }
}

/// Whether an error is about one workload and says nothing of the others.
fn is_of_one(error: &Error) -> bool {
    match error.kind {
        ErrorKind::Cancelled | ErrorKind::DeadlineExceeded | ErrorKind::Internal | ErrorKind::NotRecorded => false,
        ErrorKind::InvalidArgument
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::PermissionDenied
        | ErrorKind::FailedPrecondition
        | ErrorKind::ResourceExhausted
        | ErrorKind::Unavailable
        | ErrorKind::Aborted
        | ErrorKind::Unimplemented => true,
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
