//! What an action means, from top to bottom.
//!
//! 1. `target`: the documents are read, or looked up by name; the workloads that the action concerns are known then.
//! 2. The dispatcher claims those workloads; from here on no other action touches them.
//! 3. `validation` and the policy gate: refused before any effect, or not at all.
//! 4. `observe`: what is recorded, what the engine has. `plan`: the steps between that and what is asked; pure. `cores`:
//!    CPUs that are asked for alone can be had.
//! 5. The intent is recorded, durably, and the CPUs taken with it. A stop, kill, remove or terminate goes on without.
//! 6. `executor`: the steps, independent ones side by side. A failure is undone in reverse by `undo`, except for the
//!    four that end things.
//! 7. The outcome is recorded with what changed, and given back. What could not be recorded waits in `unrecorded`,
//!    what could not be undone is a [`Recovery`] for later.
//!
//! `recovery` does the same for what a crash left. Never here: wire types, threads that outlive an action, queues.

pub mod batch;
pub mod blueprint;
mod conclusion;
mod cores;
pub mod difference;
pub mod executor;
mod observe;
mod outcome;
pub mod outside;
pub mod phases;
mod pipeline;
pub mod plan;
mod realtime;
mod recovery;
pub mod scenario;
pub mod steps;
mod successor;
mod target;
pub mod undo;
mod unrecorded;
mod validation;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError, RwLock};

pub use outcome::{blank, failure_of, refused};
pub use outside::Outside;
pub use phases::PhaseClock;
pub use pipeline::{Pipeline, fingerprint};
pub use recovery::{Recovered, Recovery, Silent};
pub use target::Loaded;
pub use validation::normalize;

use crate::cancel::CancelToken;
use crate::clock::{Clock, Deadline};
use crate::error::Result;
use crate::manifest::{Limits, Schedules};
use crate::model::action::{ActionRequest, ActionState, Outcome, StepResult, Verb};
use crate::model::plan::Plan;
use crate::policy::{PolicyGate, WorkloadRuling};
use crate::realtime::keeper::CoreKeeper;
use crate::runtime::adapter::{RtResult, RuntimeAdapter, RuntimeError};
use crate::runtime::registry::EngineRegistry;
use crate::security::ceiling::Ceiling;
use crate::storage::outbox::Outbox;
use crate::storage::records::{Records, StoredOutcome};

/// How the reason of a cancel by an urgent action begins.
pub const SUPERSEDED: &str = "superseded by ";

/// What can be changed while the daemon runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's name.
    pub node: String,
    /// Bounds on documents.
    pub limits: Limits,
    /// What documents may ask for at most.
    pub ceiling: Ceiling,
    /// What a Package's Schedule comes to.
    pub schedules: Schedules,
    /// Whether workloads of other nodes go to these.
    pub delegates: bool,
    /// What policy servers mean for an action.
    pub policy: PolicySettings,
    /// Start a workload on its old node although the new one does not answer and may run it as well.
    pub return_from_silent_node: bool,
}

/// What policy servers mean for an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PolicySettings {
    /// Whether one is asked what a Policy allows.
    pub is_asked: bool,
    /// Use the node that a refusal suggests.
    pub move_to_suggested: bool,
    /// Stop, kill, remove and terminate go on where one does not answer.
    pub end_without: bool,
}

impl Settings {
    /// A node by itself, with nobody to ask.
    pub fn alone(node: String, limits: Limits, ceiling: Ceiling) -> Self {
        Self {
            node,
            limits,
            ceiling,
            schedules: Schedules::Refused,
            delegates: false,
            policy: PolicySettings { is_asked: false, move_to_suggested: false, end_without: true },
            return_from_silent_node: false,
        }
    }
}

/// The settings in force.
#[derive(Debug)]
pub struct SettingsCell(RwLock<Arc<Settings>>);

impl SettingsCell {
    /// A cell with these settings.
    pub fn new(settings: Settings) -> Self {
        Self(RwLock::new(Arc::new(settings)))
    }

    /// The settings now; what has begun goes on with those it began with.
    pub fn get(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts others in force.
    pub fn set(&self, settings: Settings) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }
}

/// What the pipeline works with.
#[derive(Clone)]
pub struct Ports {
    /// The runtimes.
    pub engines: Arc<EngineRegistry>,
    /// The store.
    pub records: Records,
    /// Who may do what.
    pub policy: Arc<dyn PolicyGate>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Node, limits, ceiling.
    pub settings: Arc<SettingsCell>,
    /// Other nodes, the scheduler, stored documents.
    pub outside: Outside,
    /// CPUs that workloads have alone.
    pub cores: Arc<CoreKeeper>,
    /// Where outcomes go that a shared store gets.
    pub outbox: Option<Arc<Outbox>>,
}

/// Told how far an action is. Implementations do not block.
pub trait Reporter: Send + Sync {
    /// The steps are known.
    fn planned(&self, plan: &Plan);
    /// A step's state changed.
    fn step(&self, result: &StepResult);
    /// Bytes of a step: `done` of `total`, 0 where unknown.
    fn bytes(&self, index: usize, what: &str, done: u64, total: u64);
    /// The action's state changed.
    fn state(&self, state: ActionState);
}

/// What an action is given to run with.
pub struct Context<'a> {
    /// Its own time.
    pub deadline: Deadline,
    /// Ends it.
    pub cancel: &'a CancelToken,
    /// Told how far it is.
    pub reporter: &'a dyn Reporter,
    /// Where its time goes.
    pub phases: PhaseClock,
    /// When it was accepted, milliseconds since the epoch.
    pub accepted_ms: u64,
    /// Workloads whose launch it ended before it began.
    pub superseded: BTreeSet<String>,
}

/// What the dispatcher asks of this room.
pub trait Act: Send + Sync {
    /// What a Scenario asks for: its verb, and what that concerns. Bounded by `deadline`; no effect.
    fn load_scenario(&self, scenario: &str, deadline: Deadline) -> Result<(Verb, Loaded)>;

    /// Reads or looks up the documents: what the action concerns. Bounded by `deadline`; no effect.
    fn load(&self, request: &ActionRequest, deadline: Deadline) -> Result<Loaded>;

    /// The engine that the action will most likely use, where this node has several; a guess that costs one look at the
    /// node's own store.
    fn engine_of(&self, _request: &ActionRequest, _loaded: &Loaded) -> Option<String> {
        None
    }

    /// Runs the action to its outcome. The workloads of `loaded` are claimed.
    fn run(&self, request: &ActionRequest, loaded: &Loaded, context: Context) -> Outcome;

    /// Records an outcome that [`Act::run`] did not come to: a refusal, a cancel in the queue.
    fn record(&self, request: &ActionRequest, outcome: &mut Outcome, deadline: Deadline);

    /// The recorded outcome of an action that has ended.
    fn stored(&self, action_id: &str, deadline: Deadline) -> Result<Option<StoredOutcome>>;

    /// Plans without touching anything.
    fn dry_run(
        &self,
        request: &ActionRequest,
        loaded: &Loaded,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<Plan>;

    /// What policy says of the action, asked as [`Act::run`] asks: for each workload that documents or its record describe,
    /// or for the target alone. Has no effect and records nothing. Bounded by `deadline`, ended by `cancel`.
    fn check_policy(
        &self,
        request: &ActionRequest,
        loaded: &Loaded,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Vec<WorkloadRuling>;

    /// Finishes or undoes what a crash or a failed undo left. The workloads of the recovery are claimed.
    fn recover(&self, recovery: &Recovery, context: Context) -> Recovered;

    /// What actions since the last call could not undo, because their engine was away: to be recovered later.
    fn take_repairs(&self) -> Vec<Recovery> {
        Vec::new()
    }

    /// Records what was done while the store was away. Gives how many actions still wait for it.
    fn record_unrecorded(&self, _deadline: Deadline) -> usize {
        0
    }
}

/// The engine of each workload of an action.
#[derive(Default, Clone)]
pub struct Engines(BTreeMap<String, Arc<dyn RuntimeAdapter>>);

impl Engines {
    /// Notes a workload's engine.
    pub fn insert(&mut self, workload: &str, engine: Arc<dyn RuntimeAdapter>) {
        self.0.insert(workload.to_owned(), engine);
    }

    /// The workload's engine.
    pub fn of(&self, workload: &str) -> RtResult<&dyn RuntimeAdapter> {
        self.0.get(workload).map(|engine| engine.as_ref()).ok_or_else(|| RuntimeError::EngineNotAvailable {
            engine: "runtime".to_owned(),
            reason: format!("no engine is known to have workload '{workload}'"),
        })
    }

    /// The names of all engines, joined.
    pub fn names(&self) -> String {
        let names: BTreeSet<_> = self.0.values().map(|engine| engine.name()).collect();
        names.into_iter().collect::<Vec<_>>().join(",")
    }

    /// Each workload's engine by name.
    pub fn by_workload(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(workload, engine)| (workload.clone(), engine.name().to_owned())).collect()
    }
}
