//! [`Dispatcher`]: the one implementation of [`Service`], and the owner of the workers, readers and the janitor.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures_channel::oneshot;
use futures_util::stream;

use super::batch_run::BatchRun;
use super::entry::{Entry, percent};
use super::janitor::{Janitor, Prune};
use super::lanes::{CallHelper, Lanes, Refusal};
use super::readers::Readers;
use super::scenarios::{Told, Triggers};
use super::service::{
    ActionView, Batch, Cancelled, ExecQuery, Later, ListActions, LogsQuery, NodeHealth, Page, PageQuery, PlanView,
    PolicyAnswer, Progress, Service, Stepwise, WaitQuery, WatchEvent, WorkloadView,
};
use super::worker::{Budgets, Shared, refusal_error, reused};
use crate::action::{Act, Recovery, fingerprint, normalize, plan};
use crate::application::faults::Faults;
use crate::application::health::Health;
use crate::application::history::History;
use crate::application::status::Status;
use crate::clock::{Clock, Deadline};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, ActionState, Lane, Outcome};
use crate::networks::NetworkAnswers;
use crate::realtime::keeper::{CoreKeeper, NodeCores};
use crate::runtime::adapter::{Call, ContainerStats, ExecOutcome, LogChunk, NoProgress};

/// The time that a short read has.
const READ_BUDGET: Duration = Duration::from_secs(10);

/// The time that a plan has: documents are loaded and engines asked.
const PLAN_BUDGET: Duration = Duration::from_secs(30);

/// The time that asking policy has: documents are loaded, and policy servers asked, each within its own time.
const POLICY_BUDGET: Duration = Duration::from_secs(25);

/// The most actions that one call plans.
const MAX_PLANNED: usize = 256;

/// Workers that are started for urgent actions while all others are busy, at most.
const MOST_HELPERS: usize = 32;

/// Sizes of the dispatcher.
#[derive(Debug, Clone, Copy)]
pub struct DispatchConfig {
    /// Threads that run actions.
    pub workers: usize,
    /// Of these, those that take nothing but urgent ones.
    pub urgent_workers: usize,
    /// Threads for short reads.
    pub readers: usize,
    /// Long reads at the same time.
    pub long_reads: usize,
    /// The bound of the urgent lane.
    pub urgent_queue: usize,
    /// The bound of the normal lane.
    pub normal_queue: usize,
    /// The time of an action that gives none.
    pub default_deadline: Duration,
    /// The most time that an action may ask for.
    pub max_deadline: Duration,
}

/// What the dispatcher works with.
pub struct DispatchPorts {
    /// What actions mean.
    pub act: Arc<dyn Act>,
    /// What is told of workloads.
    pub status: Arc<Status>,
    /// What is told of ended actions.
    pub history: Arc<History>,
    /// What is told of the node.
    pub health: Arc<Health>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// Forgets old outcomes.
    pub prune: Prune,
    /// Told of triggered actions that have ended.
    pub told: Option<Told>,
    /// Told that an action has ended. Does not block.
    pub ended: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Counts misses of real-time tasks.
    pub faults: Arc<Faults>,
    /// Where what is said of networks arrives.
    pub networks: Arc<NetworkAnswers>,
    /// CPUs that workloads have alone.
    pub cores: Arc<CoreKeeper>,
}

/// Runs actions and answers questions. Dropping it does not stop it; [`Dispatcher::stop`] does.
pub struct Dispatcher {
    pub(super) shared: Arc<Shared>,
    status: Arc<Status>,
    history: Arc<History>,
    health: Arc<Health>,
    cores: Arc<CoreKeeper>,
    pub(super) readers: Readers,
    pub(super) triggers: Arc<Triggers>,
    pub(super) told: Option<Told>,
    pub(super) faults: Arc<Faults>,
    pub(super) networks: Arc<NetworkAnswers>,
    janitor: Janitor,
    workers: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// Starts workers for urgent actions that find no idle one: a stop does not wait for the grace of another stop.
fn helpers(shared: &Arc<Shared>, workers: &Arc<Mutex<Vec<JoinHandle<()>>>>, permanent: usize) -> CallHelper {
    let (shared, workers) = (Arc::downgrade(shared), Arc::downgrade(workers));
    Box::new(move || {
        let (Some(shared), Some(workers)) = (shared.upgrade(), workers.upgrade()) else { return };
        let mut workers = workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.retain(|worker| !worker.is_finished());
        let number = workers.len();
        if number >= permanent + MOST_HELPERS {
            return;
        }
        match thread::Builder::new().name(format!("urgent-{number}")).spawn(move || shared.help()) {
            Ok(worker) => workers.push(worker),
            Err(error) => crate::limited!(log::Level::Warn, "no further worker for urgent actions: {error}"),
        }
    })
}

impl Dispatcher {
    /// Starts the threads.
    pub fn start(config: DispatchConfig, ports: DispatchPorts) -> io::Result<Self> {
        // One worker for normal actions is left to other engines, where there are several.
        let of_an_engine = config.workers.saturating_sub(config.urgent_workers).saturating_sub(1).max(1);
        let lanes = Lanes::new(config.urgent_queue, config.normal_queue, of_an_engine);
        let budgets = Budgets { default: config.default_deadline, most: config.max_deadline };
        let mut shared = Shared::new(ports.act, lanes, ports.clock, budgets);
        shared.on_end = ports.ended;
        let shared = Arc::new(shared);
        let mut workers = Vec::with_capacity(config.workers);
        for number in 0..config.workers {
            let own = Arc::clone(&shared);
            let urgent_only = number < config.urgent_workers;
            let name = if urgent_only { format!("urgent-{number}") } else { format!("worker-{number}") };
            workers.push(thread::Builder::new().name(name).spawn(move || own.work(urgent_only))?);
        }
        let workers = Arc::new(Mutex::new(workers));
        shared.lanes.set_helper(helpers(&shared, &workers, config.workers));
        Ok(Self {
            readers: Readers::start(config.readers, config.long_reads)?,
            janitor: Janitor::start(Arc::clone(&shared), ports.prune, Arc::clone(&ports.history))?,
            shared,
            triggers: Arc::default(),
            told: ports.told,
            faults: ports.faults,
            networks: ports.networks,
            status: ports.status,
            history: ports.history,
            health: ports.health,
            cores: ports.cores,
            workers,
        })
    }

    /// Notes the ids of actions that ended before this start.
    pub fn note_ended(&self, ids: impl IntoIterator<Item = String>) {
        ids.into_iter().for_each(|id| self.shared.note_ended(&id));
    }

    /// Ends what a crash left. To be called before front ends are served.
    pub fn recover(&self, recovery: Recovery) {
        self.shared.submit_recovery(recovery);
    }

    /// Puts other times of actions in force.
    pub fn set_deadlines(&self, default: Duration, most: Duration) {
        *self.shared.budgets.lock().unwrap_or_else(PoisonError::into_inner) = Budgets { default, most };
    }

    /// How many actions are under way.
    pub fn active(&self) -> usize {
        self.shared.inflight.count()
    }

    /// How many recoveries wait for an engine that is away.
    pub fn recoveries_waiting(&self) -> usize {
        self.shared.retries_waiting()
    }

    /// Takes nothing more, lets what runs end within `drain`, then cancels it and gives its undoing `undo`. Gives
    /// how many actions did not end even so; the next start ends those. Containers are left as they are.
    pub fn stop(&self, drain: Duration, undo: Duration) -> usize {
        let queued = self.shared.lanes.close();
        let parked = self.shared.inflight.take_parked(|_| true);
        for job in queued.into_iter().chain(parked) {
            let lane = job.lane();
            self.shared.refuse(job, &refusal_error(Refusal::Stopping, lane));
        }
        if !self.wait_idle(drain) {
            let running = self.shared.inflight.all();
            log::warn!("{} actions did not end within {} s and are cancelled", running.len(), drain.as_secs());
            running.iter().for_each(|entry| entry.token.cancel("the Action Controller is stopping"));
            self.wait_idle(undo);
        }
        self.janitor.stop();
        self.readers.stop();
        let unrecorded = self.shared.act.record_unrecorded(Deadline::after(Duration::from_secs(1)));
        if unrecorded > 0 {
            log::error!("{unrecorded} actions are not recorded; the next start finds out what was done");
        }
        let left = self.shared.inflight.count();
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        for worker in workers {
            // A worker that still runs an action is left to the end of the process.
            if (left == 0 || worker.is_finished()) && worker.join().is_err() {
                log::error!("a worker's thread panicked");
            }
        }
        left
    }

    fn wait_idle(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        loop {
            let Some(entry) = self.shared.inflight.all().into_iter().next() else { return true };
            if Instant::now() >= until {
                return false;
            }
            let (sender, receiver) = crossbeam_channel::bounded(1);
            entry.on_end(Box::new(move |_| sender.try_send(()).unwrap_or_default()));
            if receiver.recv_deadline(until).is_err() {
                return self.shared.inflight.count() == 0;
            }
        }
    }

    /// The action under this request, or its stored outcome where it has ended before.
    fn submit(&self, mut request: ActionRequest) -> Later<Submitted> {
        if let Err(error) = normalize(&mut request) {
            return ready(Err(error));
        }
        if request.id.is_empty() {
            request.id = uuid::Uuid::now_v7().to_string();
        }
        if !self.shared.ended.may_have(&request.id) {
            return ready(self.shared.submit(request).map(Submitted::Entered));
        }
        let (shared, history) = (Arc::clone(&self.shared), Arc::clone(&self.history));
        self.readers.store(move |_| match history.stored(&request.id, Deadline::after(READ_BUDGET))? {
            Some(stored) if stored.fingerprint == fingerprint(&request) => {
                Ok(Submitted::Ended(Box::new(stored.outcome)))
            }
            Some(_) => Err(reused(&request.id)),
            None => shared.submit(request).map(Submitted::Entered),
        })
    }

    fn dry_run(&self, mut request: ActionRequest) -> Later<Outcome> {
        if let Err(error) = normalize(&mut request) {
            return ready(Err(error));
        }
        let (act, now) = (Arc::clone(&self.shared.act), self.shared.clock.now_ms());
        self.readers.engine(move |token| {
            let deadline = Deadline::after(PLAN_BUDGET);
            let loaded = act.load(&request, deadline)?;
            let plan = act.dry_run(&request, &loaded, deadline, token)?;
            let mut outcome = crate::action::blank(&request, &loaded.target, ActionState::Succeeded, now);
            outcome.message = format!("{} steps would be run", plan.steps.len());
            outcome.engine.clone_from(&plan.engine);
            outcome.warnings.clone_from(&plan.warnings);
            outcome.plan = Some(plan);
            Ok(outcome)
        })
    }
}

/// Where a request led.
enum Submitted {
    /// To an action under way.
    Entered(Arc<Entry>),
    /// To one that had ended before.
    Ended(Box<Outcome>),
}

fn ready<T: Send + 'static>(result: Result<T>) -> Later<T> {
    Box::pin(std::future::ready(result))
}

/// The entry's outcome, once it has ended.
fn outcome_of(entry: &Entry) -> oneshot::Receiver<Outcome> {
    let (sender, receiver) = oneshot::channel();
    entry.on_end(Box::new(move |outcome| drop(sender.send(outcome.clone()))));
    receiver
}

fn unanswered() -> Error {
    Error::internal("the action was dropped without an answer")
}

impl Service for Dispatcher {
    fn execute(&self, request: ActionRequest) -> Later<Outcome> {
        if request.dry_run {
            return self.dry_run(request);
        }
        let submitted = self.submit(request);
        Box::pin(async move {
            match submitted.await? {
                Submitted::Entered(entry) => outcome_of(&entry).await.map_err(|_| unanswered()),
                Submitted::Ended(outcome) => Ok(*outcome),
            }
        })
    }

    fn accept(&self, request: ActionRequest) -> Later<Outcome> {
        if request.dry_run {
            return self.dry_run(request);
        }
        let submitted = self.submit(request);
        Box::pin(async move {
            Ok(match submitted.await? {
                Submitted::Entered(entry) => outcome_so_far(&entry),
                Submitted::Ended(outcome) => *outcome,
            })
        })
    }

    fn cancel(&self, action_id: &str, reason: &str, wait: bool) -> Later<Cancelled> {
        let reason = if reason.is_empty() { "asked for by a caller" } else { reason };
        let Some(entry) = self.shared.inflight.find(action_id) else {
            let (history, id) = (Arc::clone(&self.history), action_id.to_owned());
            return self.readers.store(move |_| {
                let stored = history.stored(&id, Deadline::after(READ_BUDGET))?.ok_or_else(|| unknown(&id))?;
                Ok(Cancelled { cancelled: false, outcome: Some(stored.outcome) })
            });
        };
        let first = !entry.token.is_cancelled() && !entry.is_ended();
        entry.token.cancel(reason);
        // Where it has not begun it is answered now; recording that is a reader's work, and without one the janitor's.
        let shared = Arc::clone(&self.shared);
        self.readers.detached(move || shared.end_overdue());
        self.shared.alarm.no_later_than(Instant::now());
        if !wait {
            return ready(Ok(Cancelled { cancelled: first, outcome: None }));
        }
        let outcome = outcome_of(&entry);
        Box::pin(async move {
            let outcome = outcome.await.map_err(|_| unanswered())?;
            let cancelled = first && outcome.state == ActionState::Cancelled;
            Ok(Cancelled { cancelled, outcome: Some(outcome) })
        })
    }

    fn batch(&self, mut batch: Batch) -> Later<Vec<Outcome>> {
        for (place, (request, _)) in batch.entries.iter_mut().enumerate() {
            if let Err(error) = normalize(request) {
                let field = format!("entries[{place}].action.{}", error.field);
                return ready(Err(error.at(field)));
            }
            if request.id.is_empty() {
                request.id = uuid::Uuid::now_v7().to_string();
            }
        }
        match BatchRun::start(&self.shared, batch) {
            Err(error) => ready(Err(error)),
            Ok(outcomes) => Box::pin(async move { outcomes.await.unwrap_or_else(|_| Err(unanswered())) }),
        }
    }

    fn watch(&self, action_id: &str) -> Later<Stepwise<WatchEvent>> {
        if let Some(entry) = self.shared.inflight.find(action_id) {
            return ready(Ok(Box::pin(entry.watch())));
        }
        let ended = self.get_action(action_id);
        Box::pin(async move {
            let view = ended.await?;
            let outcome = view.outcome.clone().ok_or_else(unanswered)?;
            let events = [WatchEvent::Snapshot(Box::new(view)), WatchEvent::Outcome(Box::new(outcome))];
            let events: Stepwise<WatchEvent> = Box::pin(stream::iter(events));
            Ok(events)
        })
    }

    fn get_action(&self, action_id: &str) -> Later<ActionView> {
        if let Some(entry) = self.shared.inflight.find(action_id) {
            return ready(Ok(entry.view()));
        }
        if let Some(recovery) = self.shared.waiting_recovery(action_id) {
            return ready(Ok(waiting_view(&recovery)));
        }
        // It may have been queued again between the two looks.
        if let Some(entry) = self.shared.inflight.find(action_id) {
            return ready(Ok(entry.view()));
        }
        let (history, id) = (Arc::clone(&self.history), action_id.to_owned());
        self.readers.store(move |_| {
            let stored = history.stored(&id, Deadline::after(READ_BUDGET))?.ok_or_else(|| unknown(&id))?;
            Ok(ended_view(stored.outcome))
        })
    }

    fn list_actions(&self, query: ListActions) -> Later<Page<ActionView>> {
        let is_first = query.page.token.is_empty();
        let is_meant = |view: &ActionView| query.target.is_empty() || view.target == query.target;
        let mut running: Vec<_> = self.shared.inflight.all().iter().rev().map(|entry| entry.view()).collect();
        running.retain(is_meant);
        if query.running_only {
            let page = Page { items: running, next_token: String::new() };
            return ready(Ok(page));
        }
        let history = Arc::clone(&self.history);
        self.readers.store(move |_| {
            let ended = history.list(&query.page, &query.target, Deadline::after(READ_BUDGET))?;
            let mut items = if is_first { running } else { Vec::new() };
            // What has ended since it was looked at is told once.
            let has_ended = |view: &ActionView| ended.items.iter().any(|outcome| outcome.action_id == view.action_id);
            items.retain(|view| !has_ended(view));
            items.extend(ended.items.into_iter().map(ended_view));
            Ok(Page { items, next_token: ended.next_token })
        })
    }

    fn plan(&self, requests: Vec<ActionRequest>) -> Later<PlanView> {
        if requests.is_empty() || requests.len() > MAX_PLANNED {
            return ready(Err(Error::invalid("actions", format!("1 to {MAX_PLANNED} actions are planned at once"))));
        }
        let act = Arc::clone(&self.shared.act);
        self.readers.engine(move |token| {
            let deadline = Deadline::after(PLAN_BUDGET);
            let (mut plans, mut errors) = (Vec::new(), Vec::new());
            for (place, mut request) in requests.into_iter().enumerate() {
                let planned = normalize(&mut request)
                    .and_then(|()| act.load(&request, deadline))
                    .and_then(|loaded| act.dry_run(&request, &loaded, deadline, token));
                match planned {
                    Ok(plan) => plans.push(plan),
                    Err(error) => {
                        let field = format!("actions[{place}].{}", error.field);
                        errors.push(error.at(field.trim_end_matches('.')));
                    }
                }
            }
            Ok(merged(&plans, errors))
        })
    }

    fn check_policy(&self, mut request: ActionRequest) -> Later<PolicyAnswer> {
        if let Err(error) = normalize(&mut request) {
            return ready(Err(error));
        }
        let act = Arc::clone(&self.shared.act);
        self.readers.engine(move |token| {
            let deadline = Deadline::after(POLICY_BUDGET);
            let loaded = act.load(&request, deadline)?;
            let rulings = act.check_policy(&request, &loaded, deadline, token);
            Ok(PolicyAnswer { rulings, warnings: loaded.warnings })
        })
    }

    fn node_health(&self) -> Later<NodeHealth> {
        let (health, serving) = (Arc::clone(&self.health), self.is_serving());
        // On a thread of its own: it has to be told just when every engine's reader hangs.
        self.readers.long(move |_| Ok(health.look(serving)))
    }

    fn list_cores(&self) -> Later<NodeCores> {
        let cores = Arc::clone(&self.cores);
        self.readers.engine(move |token| {
            cores.look(&Call { deadline: Deadline::after(READ_BUDGET), cancel: token, progress: &NoProgress })
        })
    }

    fn list_workloads(&self, page: PageQuery, package: &str) -> Later<Page<WorkloadView>> {
        let (status, package) = (Arc::clone(&self.status), package.to_owned());
        self.readers.engine(move |token| status.list(&page, &package, Deadline::after(READ_BUDGET), token))
    }

    fn get_workload(&self, name: &str) -> Later<WorkloadView> {
        let (status, name) = (Arc::clone(&self.status), name.to_owned());
        self.readers.engine(move |token| status.get(&name, Deadline::after(READ_BUDGET), token))
    }

    fn logs(&self, query: LogsQuery) -> Later<Stepwise<Result<LogChunk>>> {
        let status = Arc::clone(&self.status);
        super::feed::open(&self.readers, move |token| status.logs(&query, token))
    }

    fn exec(&self, query: ExecQuery) -> Later<ExecOutcome> {
        let status = Arc::clone(&self.status);
        self.readers.long(move |token| status.exec(&query, token))
    }

    fn stats(&self, workload: &str) -> Later<BTreeMap<String, ContainerStats>> {
        let (status, name) = (Arc::clone(&self.status), workload.to_owned());
        self.readers.engine(move |token| status.stats(&name, Deadline::after(READ_BUDGET), token))
    }

    fn wait(&self, query: WaitQuery) -> Later<Option<WorkloadView>> {
        let status = Arc::clone(&self.status);
        self.readers.long(move |token| status.wait(&query, token))
    }

    fn is_serving(&self) -> bool {
        self.shared.lanes.is_open()
    }
}

fn unknown(id: &str) -> Error {
    let message = format!("no action '{id}' is known");
    let error = Error::new(ErrorKind::NotFound, ErrorCode::ActionNotFound, message).at("action_id");
    error.hint("outcomes are kept for a time only, see actions.keep_for")
}

/// An action that a crash interrupted and whose end waits for its runtime or the store.
fn waiting_view(recovery: &Recovery) -> ActionView {
    let request = &recovery.intent.request;
    ActionView {
        action_id: request.id.clone(),
        verb: request.verb,
        target: recovery.intent.plan.target.clone(),
        state: ActionState::Undoing,
        progress: Progress::default(),
        accepted_ms: recovery.intent.accepted_ms,
        outcome: None,
    }
}

fn ended_view(outcome: Outcome) -> ActionView {
    let steps = u32::try_from(outcome.steps.len()).unwrap_or(u32::MAX);
    let is_success = outcome.state == ActionState::Succeeded;
    let percent = if is_success { 100 } else { percent(outcome.steps.iter().map(|step| step.state)) };
    let progress = Progress { percent, steps_done: steps, steps_total: steps, ..Progress::default() };
    ActionView {
        action_id: outcome.action_id.clone(),
        verb: outcome.verb,
        target: outcome.target.clone(),
        state: outcome.state,
        progress,
        accepted_ms: outcome.accepted_ms,
        outcome: Some(outcome),
    }
}

/// What an accepted action is told as before it has ended.
fn outcome_so_far(entry: &Entry) -> Outcome {
    let view = entry.view();
    view.outcome.unwrap_or_else(|| {
        let lane = if entry.request.verb.lane() == Lane::Urgent { "urgent" } else { "normal" };
        let mut outcome = crate::action::blank(&entry.request, &view.target, view.state, entry.accepted_ms);
        outcome.message = format!("accepted into the {lane} lane; follow it by its id");
        outcome
    })
}

fn merged(plans: &[crate::model::plan::Plan], errors: Vec<Error>) -> PlanView {
    let Some(first) = plans.first() else {
        return PlanView { steps: Vec::new(), stages: 0, warnings: Vec::new(), errors };
    };
    let mut whole = first.clone();
    whole.steps = plan::merge(plans);
    whole.warnings = plans.iter().flat_map(|plan| plan.warnings.iter().cloned()).collect();
    let mut view = PlanView::of(&whole);
    view.errors = errors;
    view
}
