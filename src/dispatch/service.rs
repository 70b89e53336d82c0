//! [`Service`]: what front ends ask of the program, in the program's own words.
//!
//! No call blocks: each returns a future or a stream that another thread completes, so that a gRPC poll thread can
//! carry many. A future that is dropped ends only the wait, never the work.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use futures_util::Stream;

use crate::error::Result;
use crate::model::action::{ActionRequest, ActionState, Outcome, StepState, Verb, Warning};
use crate::model::plan::{Plan, Step};
use crate::model::resources::Resources;
use crate::model::schedule::MissCounts;
use crate::model::state::WorkloadState;
use crate::networks::NetworkAnswer;
use crate::policy::WorkloadRuling;
use crate::realtime::keeper::NodeCores;
use crate::runtime::adapter::{Change, ContainerInstance, ContainerStats, ExecOutcome, LimitsInForce, LogChunk};
use crate::runtime::nodes::{
    InstalledService, ManagerOrder, ServiceFilter, ServiceNodes, ServiceState, UnitFileChange, UnitFilesOrder,
};
use crate::runtime::registry::EngineOverview;

/// An answer that comes later.
pub type Later<T> = Pin<Box<dyn Future<Output = Result<T>> + Send>>;

/// Answers that come one by one.
pub type Stepwise<T> = Pin<Box<dyn Stream<Item = T> + Send>>;

/// What front ends ask. An action that was begun and did not succeed is an `Ok` outcome here, with its `failure`; an
/// `Err` is a request that never became an action, or whose action cannot be told.
pub trait Service: Send + Sync {
    /// Runs the action; answers when it has ended.
    fn execute(&self, request: ActionRequest) -> Later<Outcome>;

    /// Accepts the action; answers with its present state (an outcome in state queued or running, or the final one).
    fn accept(&self, request: ActionRequest) -> Later<Outcome>;

    /// Cancels; with `wait` the answer comes when the action has ended and holds its outcome.
    fn cancel(&self, action_id: &str, reason: &str, wait: bool) -> Later<Cancelled>;

    /// Runs a batch; answers when each of its actions has a result, in the order of the entries.
    fn batch(&self, batch: Batch) -> Later<Vec<Outcome>>;

    /// Follows an action: a snapshot, then events, at last the outcome.
    fn watch(&self, action_id: &str) -> Later<Stepwise<WatchEvent>>;

    /// One action.
    fn get_action(&self, action_id: &str) -> Later<ActionView>;

    /// Actions under way, then ended ones from the latest on.
    fn list_actions(&self, query: ListActions) -> Later<Page<ActionView>>;

    /// What the actions would do.
    fn plan(&self, requests: Vec<ActionRequest>) -> Later<PlanView>;

    /// What policy says of the action, which is not done and not recorded.
    fn check_policy(&self, request: ActionRequest) -> Later<PolicyAnswer>;

    /// How the node is.
    fn node_health(&self) -> Later<NodeHealth>;

    /// The CPUs of the node, and who has them alone.
    fn list_cores(&self) -> Later<NodeCores>;

    /// Workloads by name, of one Package where `package` is not empty.
    fn list_workloads(&self, page: PageQuery, package: &str) -> Later<Page<WorkloadView>>;

    /// One workload.
    fn get_workload(&self, name: &str) -> Later<WorkloadView>;

    /// A container's output.
    fn logs(&self, query: LogsQuery) -> Later<Stepwise<Result<LogChunk>>>;

    /// Runs a command in a container.
    fn exec(&self, query: ExecQuery) -> Later<ExecOutcome>;

    /// Use of the node by each running container, by the container's name within the workload.
    fn stats(&self, workload: &str) -> Later<BTreeMap<String, ContainerStats>>;

    /// Answers when the condition holds; `None` where the workload is gone.
    fn wait(&self, query: WaitQuery) -> Later<Option<WorkloadView>>;

    /// Whether requests are taken, and the answer to a health check.
    fn is_serving(&self) -> bool;
}

/// The answer to a cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cancelled {
    /// Whether this call cancelled it.
    pub cancelled: bool,
    /// Its outcome where it has ended.
    pub outcome: Option<Outcome>,
}

/// Several actions with their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The actions, each with the ids of those that have to succeed before.
    pub entries: Vec<(ActionRequest, Vec<String>)>,
    /// Begin nothing more after a failure.
    pub stop_at_failure: bool,
}

/// How far an action is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// 0 to 100, never falling.
    pub percent: u32,
    /// The latest step begun; empty before the first.
    pub current_step: String,
    /// Steps ended.
    pub steps_done: u32,
    /// Steps in all.
    pub steps_total: u32,
    /// Of a pull under way, bytes.
    pub bytes_done: u64,
    /// 0 where not known.
    pub bytes_total: u64,
    /// What the bytes belong to.
    pub detail: String,
}

/// A step with how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepView {
    /// Its place in the plan.
    pub index: usize,
    /// The step.
    pub step: Step,
    /// Its stage in the plan.
    pub stage: usize,
    /// How far it is.
    pub state: StepState,
    /// Microseconds it took.
    pub micros: u64,
    /// Why it failed or was not done.
    pub message: String,
}

/// An action as told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionView {
    /// Its id.
    pub action_id: String,
    /// Its verb.
    pub verb: Verb,
    /// Its target.
    pub target: String,
    /// Where it is in its life.
    pub state: ActionState,
    /// How far it is.
    pub progress: Progress,
    /// Milliseconds since the epoch.
    pub accepted_ms: u64,
    /// Once it has ended.
    pub outcome: Option<Outcome>,
}

/// What a watcher is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// The action as a whole: first, and where events were dropped.
    Snapshot(Box<ActionView>),
    /// A step began or ended.
    Step(Box<StepView>, ActionState, Progress),
    /// State or bytes changed.
    Progress(ActionState, Progress),
    /// The last.
    Outcome(Box<Outcome>),
}

/// Which page of a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageQuery {
    /// 1 to 1,000; 0: 100.
    pub size: u32,
    /// From the page before; empty: the first.
    pub token: String,
}

/// One page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The entries.
    pub items: Vec<T>,
    /// For the next page; empty on the last.
    pub next_token: String,
}

/// Which actions are listed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListActions {
    /// Which page.
    pub page: PageQuery,
    /// Only of this target; empty: all.
    pub target: String,
    /// Only those under way.
    pub running_only: bool,
}

/// Merged plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanView {
    /// All steps, in an order in which they could run one by one.
    pub steps: Vec<StepView>,
    /// The number of stages.
    pub stages: usize,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
    /// Why an action would be refused.
    pub errors: Vec<crate::error::Error>,
}

impl PlanView {
    /// The view of one plan.
    pub fn of(plan: &Plan) -> Self {
        let stages = plan.stages();
        let mut stage_of = vec![0; plan.steps.len()];
        for (stage, indices) in stages.iter().enumerate() {
            for index in indices {
                stage_of[*index] = stage;
            }
        }
        let steps = plan.steps.iter().zip(stage_of).enumerate().map(|(index, (step, stage))| StepView {
            index,
            step: step.clone(),
            stage,
            state: StepState::Pending,
            micros: 0,
            message: String::new(),
        });
        Self { steps: steps.collect(), stages: stages.len(), warnings: plan.warnings.clone(), errors: Vec::new() }
    }
}

/// What policy says of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyAnswer {
    /// About each workload that documents or its record describe, or about the target alone.
    pub rulings: Vec<WorkloadRuling>,
    /// What the caller should know of the documents.
    pub warnings: Vec<Warning>,
}

/// How the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeHealth {
    /// Whether actions are taken.
    pub serving: bool,
    /// The node's name.
    pub node: String,
    /// The daemon's version.
    pub version: String,
    /// Its engines, by name.
    pub engines: BTreeMap<String, EngineOverview>,
    /// The store.
    pub store: StoreHealth,
    /// Missed deadlines by task.
    pub misses: MissCounts,
}

/// How the store is, and what waits for a shared one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// The kind of store, as the settings name it.
    pub backend: String,
    /// Why it does not take what it should; empty where all is well as far as is known.
    pub problem: String,
    /// Outcomes that wait.
    pub outcomes_waiting: usize,
    /// At so many normal actions are refused; 0 where nothing is shared.
    pub outcomes_bound: usize,
    /// States of workloads that wait.
    pub states_waiting: usize,
    /// Outcomes beyond the bound, to be delivered from the action log.
    pub outcomes_owed: usize,
    /// Documents that were refused for good.
    pub set_aside: usize,
}

/// A workload as told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkloadView {
    /// Its name.
    pub name: String,
    /// From its containers.
    pub state: WorkloadState,
    /// What it shall be doing; empty without a record.
    pub desired: String,
    /// Its Package; may be empty.
    pub package: String,
    /// Its engine.
    pub engine: String,
    /// The fingerprint of its document.
    pub revision: String,
    /// Its containers.
    pub containers: Vec<ContainerInstance>,
    /// Their limits, by id; of one workload in full alone.
    pub limits: BTreeMap<String, ContainerLimits>,
    /// The action that last changed it.
    pub last_action_id: String,
    /// Milliseconds since the epoch.
    pub updated_ms: u64,
    /// Why the state is unknown.
    pub message: String,
}

/// Limits of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerLimits {
    /// Those that it shall have.
    pub wanted: Resources,
    /// Those that it has, where that can be told.
    pub in_force: Option<LimitsInForce>,
}

/// Which output is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogsQuery {
    /// The workload.
    pub workload: String,
    /// The container within it; may be empty where it has one.
    pub container: String,
    /// Which output.
    pub options: crate::runtime::adapter::LogOptions,
}

/// What is run in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecQuery {
    /// The workload.
    pub workload: String,
    /// The container within it; may be empty where it has one.
    pub container: String,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Milliseconds; 0: 60,000.
    pub timeout_ms: u64,
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Condition {
    /// All containers run.
    Running,
    /// All are healthy, or run without a check.
    Healthy,
    /// All have ended.
    Exited,
    /// None is there.
    Gone,
}

/// A wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitQuery {
    /// The workload.
    pub workload: String,
    /// Until when.
    pub condition: Condition,
    /// Milliseconds; 0: 60,000.
    pub timeout_ms: u64,
}

/// What is asked about services of several nodes. As with [`Service`], no call blocks.
pub trait Services: Send + Sync {
    /// The nodes, and what manages services on this one.
    fn list_nodes(&self) -> Later<ServiceNodes>;

    /// Starts or stops a manager of services.
    fn control_manager(&self, order: ManagerOrder) -> Later<Change>;

    /// The services that there are, then each as it changes.
    fn watch_services(&self, filter: ServiceFilter) -> Later<Stepwise<Result<ServiceState>>>;

    /// The services that are loaded or installed.
    fn list_services(&self, filter: ServiceFilter) -> Later<Vec<InstalledService>>;

    /// Enables or disables units.
    fn arrange_units(&self, order: UnitFilesOrder) -> Later<Vec<UnitFileChange>>;

    /// Has a node, empty for this one, read its unit files anew.
    fn reload_units(&self, node: String) -> Later<()>;
}

/// What the services of Eclipse Pullpiri ask: its `ActionControllerConnection`, in our words. As with [`Service`], no
/// call blocks.
pub trait Pullpiri: Send + Sync {
    /// Does what the Scenario says with its Package. A trigger equal to one that waits or runs is answered with that one.
    fn trigger(&self, scenario: &str) -> Later<Triggered>;

    /// Brings the Package of the Scenario from what it is found to be in to what it shall be in.
    fn reconcile(&self, scenario: &str, current: PodState, desired: PodState) -> Later<Triggered>;

    /// Pharos has ended what it was asked for under this id.
    fn network_set(&self, answer: NetworkAnswer) -> Later<()>;

    /// Moves a model to another node.
    fn offload(&self, offload: OffloadOrder) -> Later<Offloaded>;

    /// Stops a model; gives a sentence for people.
    fn stop_workload(&self, stop: StopOrder) -> Later<String>;

    /// A real-time task missed its deadline.
    fn fault(&self, fault: Fault) -> Later<()>;
}

/// What a trigger came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Triggered {
    /// The action that was done; empty where nothing had to be.
    pub action_id: String,
    /// The models that were refused, skipped or failed, each with why; empty where all is well.
    pub failed: BTreeMap<String, String>,
    /// One sentence for people.
    pub message: String,
}

/// The states that Pullpiri has for a Package, a model or a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PodState {
    /// Not there.
    None,
    /// Being made.
    Init,
    /// Made.
    Ready,
    /// Under way.
    Running,
    /// Ended well.
    Done,
    /// Ended badly.
    Failed,
    /// Not known.
    Unknown,
}

/// A model's move to another node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffloadOrder {
    /// The Scenario.
    pub scenario: String,
    /// The Package.
    pub package: String,
    /// The model.
    pub model: String,
    /// Where it is.
    pub source_node: String,
    /// Where it shall be.
    pub target_node: String,
    /// The Policy that led to it; may be empty.
    pub policy: String,
    /// Why; may be empty.
    pub reason: String,
}

/// What a move came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offloaded {
    /// Whether the model runs on its new node.
    pub success: bool,
    /// One sentence for people: where the model runs now, or that this is not known.
    pub message: String,
    /// The move's id, `offload-{model}-{milliseconds}`.
    pub transition_id: String,
}

/// A model that is to be stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StopOrder {
    /// The Package.
    pub package: String,
    /// The model.
    pub model: String,
    /// Where it runs.
    pub node: String,
    /// Why; may be empty.
    pub reason: String,
    /// TIMPANI's name of it; may be empty.
    pub workload_id: String,
}

/// A missed deadline of a real-time task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The Schedule.
    pub schedule: String,
    /// The node.
    pub node: String,
    /// The task.
    pub task: String,
    /// Whether it is a missed deadline; otherwise its kind is not known.
    pub is_deadline_miss: bool,
}
