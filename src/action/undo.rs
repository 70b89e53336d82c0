//! Takes back what an action did, in reverse. Safe to run any number of times, and for steps of which nobody knows
//! whether they happened: it looks first, and touches only what this very action made or changed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::blueprint;
use super::outside::Reach;
use super::steps::{Done, Drawings, limit_again, run};
use super::{Engines, Outside, Reporter, Settings};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::ErrorKind;
use crate::hooks;
use crate::model::action::{StepResult, StepState};
use crate::model::plan::{NodeCommand, Step, StepOp};
use crate::model::workload::labels;
use crate::runtime::adapter::{
    Call, Change, NoProgress, Probe, RestoreTo, RtResult, RuntimeAdapter, RuntimeError, StopOptions,
};
use crate::storage::records::{Desired, Intent};

/// The time that undoing an action has, beside the action's own.
pub const UNDO_BUDGET: Duration = Duration::from_secs(60);

/// Between SIGTERM and SIGKILL for containers that are about to be taken back.
const UNDO_GRACE: Duration = Duration::from_secs(2);

/// What undoing came to.
#[derive(Debug, Default)]
pub struct Undone {
    /// What could not be taken back, one line each.
    pub left: Vec<String>,
    /// Whether trying again later may take it back, because the engine did not answer.
    pub retry: bool,
    /// Whether anything was taken back.
    pub changed: bool,
    /// The steps that were taken back, or of which there was nothing to take back.
    pub settled: BTreeSet<usize>,
}

/// What is undone, and with what.
pub struct Undo<'a> {
    /// The engine of each workload.
    pub engines: &'a Engines,
    /// Other nodes, stored documents.
    pub outside: &'a Outside,
    /// What was begun.
    pub intent: &'a Intent,
    /// This node and what is set for it.
    pub settings: &'a Settings,
    /// Told of each step that is taken back.
    pub reporter: &'a dyn Reporter,
    /// Steps that failed without having reached anybody: there is nothing to take back.
    pub unreached: &'a BTreeSet<usize>,
}

impl Undo<'_> {
    /// Takes back the steps that were begun. `results` has each step's state and is brought up to date.
    pub fn run(&self, results: &mut [StepResult]) -> Undone {
        let cancel = CancelToken::new();
        let call = Call { deadline: Deadline::after(UNDO_BUDGET), cancel: &cancel, progress: &NoProgress };
        let mut undone = Undone::default();
        let mut asked = BTreeMap::new();
        // Workloads that may still run on the node that they were to move to.
        let mut in_doubt = BTreeSet::new();
        let alone = &self.intent.undone_alone;
        for (index, step) in self.intent.plan.steps.iter().enumerate().rev() {
            let was_begun = matches!(results[index].state, StepState::Changed | StepState::Failed | StepState::Running);
            let is_meant = alone.is_empty() || alone.contains(&step.workload);
            if !was_begun || !is_meant || self.unreached.contains(&index) {
                continue;
            }
            if in_doubt.contains(&step.workload) && !self.settings.return_from_silent_node && runs_again(&step.op) {
                let message = format!("whether '{}' runs on its new node is not known", step.workload);
                undone.left.push(format!("{} '{}' is not undone: {message}", step.op.word(), step.op.object()));
                self.tell(&mut results[index], StepState::UndoFailed, message);
                continue;
            }
            let answers = self.engine_answers(step, &mut asked);
            let taken_back = answers.and_then(|()| self.step(&call, step, results[index].state));
            if taken_back.is_err() && matches!(step.op, StepOp::Delegate { command: NodeCommand::Start, .. }) {
                in_doubt.insert(step.workload.clone());
            }
            if taken_back.is_ok() {
                undone.settled.insert(index);
            }
            match taken_back {
                // After a crash nobody knows whether a running step was done: what is undone tells.
                Ok(Change::Unchanged) if results[index].state == StepState::Running => {
                    self.tell(&mut results[index], StepState::Skipped, String::new());
                }
                Ok(Change::Unchanged) => {}
                Ok(Change::Changed) => {
                    undone.changed = true;
                    if matches!(results[index].state, StepState::Changed | StepState::Running) {
                        self.tell(&mut results[index], StepState::Undone, String::new());
                    }
                }
                Err(error) => {
                    undone.retry |= is_worth_retrying(&error);
                    undone.left.push(format!("{} of '{}' is not undone: {error}", step.op.word(), step.op.object()));
                    self.tell(&mut results[index], StepState::UndoFailed, error.to_string());
                }
            }
        }
        undone
    }

    fn tell(&self, result: &mut StepResult, state: StepState, message: String) {
        result.state = state;
        if !message.is_empty() {
            result.message = message;
        }
        self.reporter.step(result);
    }

    /// Asks each engine once whether it answers: where it hangs, nobody is kept waiting until the budget is over.
    fn engine_answers(&self, step: &Step, asked: &mut BTreeMap<String, Probe>) -> RtResult<()> {
        if !needs_engine(&step.op) {
            return Ok(());
        }
        let adapter = self.engines.of(&step.workload)?;
        match asked.entry(adapter.name().to_owned()).or_insert_with(|| adapter.probe()) {
            Probe::Available { .. } => Ok(()),
            Probe::Unavailable { reason } => {
                Err(RuntimeError::EngineNotAvailable { engine: adapter.name().to_owned(), reason: reason.clone() })
            }
        }
    }

    /// Limits that were changed before come back with what comes back.
    fn limit_again(&self, adapter: &dyn RuntimeAdapter, call: &Call, step: &Step, container: &str) -> RtResult<()> {
        let scaled = self.intent.before.get(&step.workload).map(|record| &record.scaled);
        match scaled.filter(|scaled| !scaled.is_empty()) {
            Some(scaled) => {
                limit_again(adapter, call, Some(scaled), &adapter.inspect_container(call, container)?).map(drop)
            }
            None => Ok(()),
        }
    }

    fn existed(&self, step: &Step, container: &str) -> bool {
        let before = self.intent.existed.get(&step.workload);
        before.is_some_and(|names| names.iter().any(|name| name == container))
    }

    fn ran(&self, step: &Step, container: &str) -> bool {
        let before = self.intent.ran.get(&step.workload);
        before.is_some_and(|names| names.iter().any(|name| name == container))
    }

    /// Whether anything of the workload was there before, recorded or not.
    fn was_known(&self, step: &Step) -> bool {
        let existed = self.intent.existed.get(&step.workload);
        self.intent.before.contains_key(&step.workload) || existed.is_some_and(|names| !names.is_empty())
    }

    fn step(&self, call: &Call, step: &Step, state: StepState) -> RtResult<Change> {
        match &step.op {
            StepOp::Delegate { node, command } => return self.order_back(call, step, node, *command),
            StepOp::Place { package, .. } => return self.place_back(call, step, package),
            // What nobody needs any more is given back once the action has ended.
            StepOp::Admit { .. } => return Ok(Change::Unchanged),
            // Likewise: a network goes with its workload.
            StepOp::Connect { .. } => return Ok(Change::Unchanged),
            _ => {}
        }
        let adapter = self.engines.of(&step.workload)?;
        match &step.op {
            StepOp::Create { container } => self.remove_if_made(adapter, call, container),
            StepOp::Start { container } if self.ran(step, container) => Ok(Change::Unchanged),
            StepOp::Start { container }
                if self.existed(step, container) || self.is_made_here(adapter, call, container)? =>
            {
                none_is_unchanged(adapter.stop_container(call, container, &StopOptions::graceful(UNDO_GRACE)))
            }
            StepOp::Start { .. } => Ok(Change::Unchanged),
            StepOp::Stop { container, .. } if self.ran(step, container) => {
                let started = adapter.start_container(call, container)?;
                self.limit_again(adapter, call, step, container)?;
                Ok(started)
            }
            StepOp::Resize { container, resources, before, .. } => {
                none_is_unchanged(adapter.update_resources(call, container, &resources.undoing(before), true))
            }
            StepOp::Pause { container } => none_is_unchanged(adapter.resume_container(call, container)),
            StepOp::Resume { container } => none_is_unchanged(adapter.pause_container(call, container)),
            StepOp::Hibernate { container } if self.ran(step, container) => {
                let woken = none_is_unchanged(adapter.wake_container(call, container, RestoreTo::Running))?;
                self.limit_again(adapter, call, step, container)?;
                Ok(woken)
            }
            StepOp::Wake { container } if !self.ran(step, container) => {
                none_is_unchanged(adapter.hibernate_container(call, container))
            }
            StepOp::Remove { container, .. } => self.create_again(adapter, call, step, container),
            StepOp::RemovePod { pod } => self.again(adapter, call, step, &StepOp::EnsurePod { pod: pod.clone() }),
            StepOp::RemoveVolume { volume } => {
                self.again(adapter, call, step, &StepOp::EnsureVolume { volume: volume.clone() })
            }
            StepOp::EnsurePod { pod } if !self.was_known(step) => adapter.remove_pod(call, pod),
            // The one before is made again from its own description, once this one is out of its way.
            StepOp::EnsurePod { pod } if self.replaces(step, &StepOp::RemovePod { pod: pod.clone() }) => {
                none_is_unchanged(adapter.remove_pod(call, pod))
            }
            StepOp::RemoveNetwork { network } => {
                self.again(adapter, call, step, &StepOp::EnsureNetwork { network: network.clone() })
            }
            StepOp::EnsureVolume { volume } => self.remove_volume(adapter, call, step, volume),
            StepOp::EnsureNetwork { network } => adapter.remove_network(call, network),
            // One that failed made nothing: what is there was there before.
            StepOp::EnsurePath { path } if state == StepState::Changed => Ok(self.remove_path(step, path)),
            StepOp::EnsureImage { .. }
            | StepOp::EnsurePath { .. }
            | StepOp::EnsurePod { .. }
            | StepOp::AwaitCompletion { .. }
            | StepOp::Stop { .. }
            | StepOp::Kill { .. }
            | StepOp::Hibernate { .. }
            | StepOp::Wake { .. }
            | StepOp::StopPod { .. }
            | StepOp::Delegate { .. }
            | StepOp::Admit { .. }
            | StepOp::Connect { .. }
            | StepOp::Place { .. }
            // The ledger is taken back with the outcome, and a container that runs on is looked after then.
            | StepOp::Pin { .. } => Ok(Change::Unchanged),
        }
    }

    /// What another node was asked for is asked back: what it started is stopped, what it stopped is started again.
    fn order_back(&self, call: &Call, step: &Step, node: &str, command: NodeCommand) -> RtResult<Change> {
        let ran = self
            .intent
            .before
            .get(&step.workload)
            .is_some_and(|record| record.desired == Desired::Running && record.spec.other_node() == Some(node));
        let back = match command {
            NodeCommand::Start => NodeCommand::Stop,
            NodeCommand::Stop if ran || self.is_moved_from(node) => NodeCommand::Start,
            NodeCommand::Stop | NodeCommand::Restart => return Ok(Change::Unchanged),
        };
        let mut drawings = Drawings::of_intent(self.intent, &self.settings.node);
        if back == NodeCommand::Stop {
            // What is stopped is what this action started.
            drawings.before.remove(&step.workload);
        } else if drawings.before.contains_key(&step.workload) {
            drawings.specs.remove(&step.workload);
        }
        self.outside_step(&drawings, call, |reach| reach.order(&step.workload, node, back))
    }

    /// Whether the caller says that the workload was on this node, of which nothing is recorded.
    fn is_moved_from(&self, node: &str) -> bool {
        self.intent.request.parameters.source_node.as_deref() == Some(node)
    }

    fn place_back(&self, call: &Call, step: &Step, package: &str) -> RtResult<Change> {
        let before = self.intent.before.get(&step.workload).map(|record| record.spec.node.clone());
        let Some(node) = before.or_else(|| self.intent.request.parameters.source_node.clone()) else {
            return Ok(Change::Unchanged);
        };
        let drawings = Drawings::of_intent(self.intent, &self.settings.node);
        self.outside_step(&drawings, call, |reach| reach.place(package, &step.workload, &node))
    }

    fn outside_step(
        &self,
        drawings: &Drawings,
        call: &Call,
        step: impl FnOnce(&Reach) -> crate::error::Result<Done>,
    ) -> RtResult<Change> {
        let reach = Reach { outside: self.outside, drawings, deadline: call.deadline, cancel: call.cancel };
        match step(&reach) {
            Ok(_) => Ok(Change::Changed),
            Err(error) if error.kind == ErrorKind::Unavailable => {
                Err(RuntimeError::EngineNotAvailable { engine: "another node".to_owned(), reason: error.message })
            }
            Err(error) => Err(RuntimeError::Io { what: "outside of this node".to_owned(), reason: error.message }),
        }
    }

    fn is_made_here(&self, adapter: &dyn RuntimeAdapter, call: &Call, container: &str) -> RtResult<bool> {
        match adapter.inspect_container(call, container) {
            Ok(found) => Ok(found.labels.get(labels::ACTION) == Some(&self.intent.request.id)),
            Err(RuntimeError::NotFound { .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn remove_if_made(&self, adapter: &dyn RuntimeAdapter, call: &Call, container: &str) -> RtResult<Change> {
        if self.is_made_here(adapter, call, container)? {
            return adapter.remove_container(call, container, true);
        }
        Ok(Change::Unchanged)
    }

    /// Whether the action removes what the step makes anew.
    fn replaces(&self, step: &Step, removal: &StepOp) -> bool {
        self.intent.plan.steps.iter().any(|other| other.workload == step.workload && other.op == *removal)
    }

    /// Volumes of the workload's own go with it; those that outlive it stay, as does what was there before.
    fn remove_volume(&self, adapter: &dyn RuntimeAdapter, call: &Call, step: &Step, volume: &str) -> RtResult<Change> {
        let own = self
            .intent
            .specs
            .get(&step.workload)
            .is_some_and(|spec| blueprint::own_volumes(spec).iter().any(|name| name == volume));
        if own && !self.was_known(step) {
            return adapter.remove_volume(call, volume);
        }
        if own && self.replaces(step, &StepOp::RemoveVolume { volume: volume.to_owned() }) {
            return none_is_unchanged(adapter.remove_volume(call, volume));
        }
        Ok(Change::Unchanged)
    }

    fn remove_path(&self, step: &Step, path: &str) -> Change {
        let spec = self.intent.specs.get(&step.workload);
        if let Some(kind) = spec.and_then(|spec| blueprint::host_paths(spec).remove(path)) {
            hooks::storage::remove_made_path(path, kind);
        }
        Change::Changed
    }

    fn create_again(
        &self,
        adapter: &dyn RuntimeAdapter,
        call: &Call,
        step: &Step,
        container: &str,
    ) -> RtResult<Change> {
        match adapter.inspect_container(call, container) {
            Ok(_) => Ok(Change::Unchanged),
            Err(RuntimeError::NotFound { .. }) => {
                self.again(adapter, call, step, &StepOp::Create { container: container.to_owned() })
            }
            Err(error) => Err(error),
        }
    }

    /// Carries out `op` from the description that was in force before.
    fn again(&self, adapter: &dyn RuntimeAdapter, call: &Call, step: &Step, op: &StepOp) -> RtResult<Change> {
        let Some(before) = self.intent.before.get(&step.workload) else {
            // It was there without a record, so that nobody knows any more what it was made from.
            return Err(RuntimeError::NotFound { what: format!("a record of workload '{}'", step.workload) });
        };
        let specs = BTreeMap::from([(step.workload.clone(), (before.spec.clone(), before.revision.clone()))]);
        let drawings = Drawings {
            specs,
            before: BTreeMap::new(),
            schedule: None,
            network: None,
            scaled: BTreeMap::new(),
            node: &self.settings.node,
            action_id: &before.action_id,
        };
        match run(adapter, call, &drawings, &step.workload, op) {
            Ok(_) => Ok(Change::Changed),
            Err(error) if matches!(error.kind, ErrorKind::Unavailable | ErrorKind::DeadlineExceeded) => {
                Err(RuntimeError::EngineNotAvailable { engine: adapter.name().to_owned(), reason: error.message })
            }
            Err(error) => Err(RuntimeError::Engine {
                engine: adapter.name().to_owned(),
                op: op.word().to_owned(),
                code: 0,
                message: error.message,
            }),
        }
    }
}

/// Whether taking the step back makes a workload run again.
fn runs_again(op: &StepOp) -> bool {
    matches!(op, StepOp::Stop { .. } | StepOp::Remove { .. } | StepOp::Delegate { command: NodeCommand::Stop, .. })
}

/// Whether the engine is asked for anything when the step is taken back.
fn needs_engine(op: &StepOp) -> bool {
    match op {
        StepOp::EnsureImage { .. }
        | StepOp::EnsurePath { .. }
        | StepOp::AwaitCompletion { .. }
        | StepOp::Kill { .. }
        | StepOp::StopPod { .. }
        | StepOp::Delegate { .. }
        | StepOp::Admit { .. }
        | StepOp::Connect { .. }
        | StepOp::Place { .. }
        | StepOp::Pin { .. } => false,
        StepOp::EnsureNetwork { .. }
        | StepOp::EnsureVolume { .. }
        | StepOp::EnsurePod { .. }
        | StepOp::Create { .. }
        | StepOp::Start { .. }
        | StepOp::Stop { .. }
        | StepOp::Pause { .. }
        | StepOp::Resume { .. }
        | StepOp::Hibernate { .. }
        | StepOp::Wake { .. }
        | StepOp::Resize { .. }
        | StepOp::Remove { .. }
        | StepOp::RemovePod { .. }
        | StepOp::RemoveVolume { .. }
        | StepOp::RemoveNetwork { .. } => true,
    }
}

fn none_is_unchanged(result: RtResult<Change>) -> RtResult<Change> {
    match result {
        Err(RuntimeError::NotFound { .. } | RuntimeError::InvalidState { .. }) => Ok(Change::Unchanged),
        other => other,
    }
}

fn is_worth_retrying(error: &RuntimeError) -> bool {
    match error {
        RuntimeError::EngineNotAvailable { .. }
        | RuntimeError::Connection { .. }
        | RuntimeError::Timeout { .. }
        | RuntimeError::Cancelled { .. } => true,
        RuntimeError::NotFound { .. }
        | RuntimeError::AlreadyExists { .. }
        | RuntimeError::InvalidState { .. }
        | RuntimeError::InvalidSpec { .. }
        | RuntimeError::Unsupported { .. }
        | RuntimeError::ImagePull { .. }
        | RuntimeError::PermissionDenied { .. }
        | RuntimeError::NoRoom { .. }
        | RuntimeError::Io { .. }
        | RuntimeError::Engine { .. } => false,
    }
}
