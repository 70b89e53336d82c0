//! A double of the service behind the gRPC server: it writes down what it is asked and answers by the names in the
//! request.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use actioncontroller::dispatch::service::{
    ActionView, Batch, Cancelled, ExecQuery, Later, ListActions, LogsQuery, NodeHealth, Page, PageQuery, PlanView,
    PolicyAnswer, Progress, Service, StepView, Stepwise, StoreHealth, WaitQuery, WatchEvent, WorkloadView,
};
use actioncontroller::error::{Error, ErrorCode, ErrorKind, Result};
use actioncontroller::model::action::{ActionRequest, ActionState, Failure, Outcome, Phases, StepState, Verb};
use actioncontroller::model::cores::{CpuSet, Holding};
use actioncontroller::model::plan::{Step, StepOp};
use actioncontroller::model::schedule::{Misses, TaskName};
use actioncontroller::model::state::WorkloadState;
use actioncontroller::policy::{Ruling, WorkloadRuling};
use actioncontroller::realtime::confine::Foreign;
use actioncontroller::realtime::cores::{CorePolicy, Grounds};
use actioncontroller::realtime::keeper::NodeCores;
use actioncontroller::realtime::topology::Topology;
use actioncontroller::runtime::adapter::{
    ContainerStats, ExecOutcome, LogChunk, OutputStream, Probe, RuntimeCapabilities,
};
use actioncontroller::runtime::registry::EngineOverview;
use futures_util::Stream;

/// Targets and workloads whose names say what becomes of them.
pub const NEVER: &str = "never";
pub const FAILS: &str = "fails";
pub const LARGE: &str = "large";
pub const PANICS: &str = "panics";
pub const ENDLESS: &str = "endless";
pub const FLOOD: &str = "flood";
pub const BREAKS: &str = "breaks";

/// The bytes of one chunk of [`FLOOD`].
pub const CHUNK: usize = 64 * 1024;

#[derive(Default)]
pub struct Double {
    /// Each call with its arguments, in order.
    pub seen: Mutex<Vec<String>>,
    pub not_serving: AtomicBool,
    /// Answers and streams that were given up.
    pub dropped: Arc<AtomicUsize>,
    /// Items taken from streams.
    pub taken: Arc<AtomicUsize>,
}

/// Counts when it goes.
struct Kept(Arc<AtomicUsize>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Double {
    pub fn note(&self, call: String) {
        self.seen.lock().unwrap().push(call);
    }

    /// The last call.
    pub fn last(&self) -> String {
        self.seen.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn never<T: 'static>(&self) -> Later<T> {
        let kept = Kept(Arc::clone(&self.dropped));
        Box::pin(async move {
            let _kept = kept;
            pending().await
        })
    }
}

pub fn now<T: Send + 'static>(value: T) -> Later<T> {
    Box::pin(ready(Ok(value)))
}

fn refuse<T: Send + 'static>(error: Error) -> Later<T> {
    Box::pin(ready(Err(error)))
}

pub fn outcome(id: &str, verb: Verb, target: &str, state: ActionState) -> Outcome {
    let failure = (state == ActionState::Failed).then(|| Failure {
        status: 14,
        code: ErrorCode::EngineUnavailable.as_str().to_owned(),
        message: "podman is not available: no such file".to_owned(),
        field: String::new(),
        hint: "start podman.socket".to_owned(),
    });
    Outcome {
        action_id: id.to_owned(),
        verb,
        target: target.to_owned(),
        state,
        changed: true,
        message: "done".to_owned(),
        failure,
        warnings: vec![],
        left: vec![],
        workloads: BTreeMap::new(),
        engine: "sim".to_owned(),
        engine_reason: "preference".to_owned(),
        steps: vec![],
        phases: Phases { total_us: 9, ..Phases::default() },
        accepted_ms: 1_700_000_000_000,
        ended_ms: 1_700_000_000_001,
        plan: None,
        recovered: String::new(),
        failed: BTreeMap::new(),
    }
}

/// More text than any trailer takes, in letters that take the most room there.
fn large(mut outcome: Outcome) -> Outcome {
    let text = "übel ".repeat(1000);
    outcome.failure.as_mut().unwrap().message = text.clone();
    outcome.message = text.clone();
    outcome.left = vec![text; 100];
    outcome
}

fn view(id: &str) -> ActionView {
    ActionView {
        action_id: id.to_owned(),
        verb: Verb::Launch,
        target: "lane".to_owned(),
        state: ActionState::Running,
        progress: Progress { percent: 50, ..Progress::default() },
        accepted_ms: 1,
        outcome: None,
    }
}

fn step() -> StepView {
    let op = StepOp::Create { container: "lane_core".to_owned() };
    let step = Step { workload: "lane".to_owned(), op, after: [].into() };
    StepView { index: 0, step, stage: 0, state: StepState::Changed, micros: 3, message: String::new() }
}

fn workload(name: &str) -> WorkloadView {
    WorkloadView {
        name: name.to_owned(),
        state: WorkloadState::Running,
        desired: "running".to_owned(),
        package: String::new(),
        engine: "sim".to_owned(),
        revision: "r1".to_owned(),
        containers: vec![],
        last_action_id: "a".to_owned(),
        updated_ms: 1,
        message: String::new(),
        limits: BTreeMap::new(),
    }
}

/// Chunks without end, or one and then silence.
struct Output {
    flood: bool,
    breaks: bool,
    given: usize,
    taken: Arc<AtomicUsize>,
    _kept: Kept,
}

impl Stream for Output {
    type Item = Result<LogChunk>;

    fn poll_next(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Result<LogChunk>>> {
        self.given += 1;
        if self.breaks && self.given == 2 {
            let error = Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, "the engine went away");
            return Poll::Ready(Some(Err(error)));
        }
        if !self.flood && self.given > 1 {
            return Poll::Pending;
        }
        self.taken.fetch_add(1, Ordering::SeqCst);
        let bytes = if self.flood { vec![b'x'; CHUNK] } else { b"hello\n".to_vec() };
        Poll::Ready(Some(Ok(LogChunk { stream: OutputStream::Stdout, timestamp_ns: 5, bytes })))
    }
}

impl Service for Double {
    fn execute(&self, request: ActionRequest) -> Later<Outcome> {
        self.note(format!("execute {request:?}"));
        let ended = |state| now(outcome(&request.id, request.verb, &request.target, state));
        match request.target.as_str() {
            NEVER => self.never(),
            PANICS => panic!("scripted"),
            FAILS => ended(ActionState::Failed),
            LARGE => now(large(outcome(&request.id, request.verb, LARGE, ActionState::Failed))),
            _ => ended(ActionState::Succeeded),
        }
    }

    fn accept(&self, request: ActionRequest) -> Later<Outcome> {
        self.note(format!("accept {request:?}"));
        now(outcome(&request.id, request.verb, &request.target, ActionState::Queued))
    }

    fn cancel(&self, action_id: &str, reason: &str, wait: bool) -> Later<Cancelled> {
        self.note(format!("cancel {action_id} {reason} {wait}"));
        let outcome = wait.then(|| outcome(action_id, Verb::Launch, "lane", ActionState::Cancelled));
        now(Cancelled { cancelled: true, outcome })
    }

    fn batch(&self, batch: Batch) -> Later<Vec<Outcome>> {
        self.note(format!("batch {batch:?}"));
        let states = [ActionState::Failed, ActionState::Skipped];
        let entries = batch.entries.iter().zip(states);
        now(entries.map(|((action, _), state)| outcome(&action.id, action.verb, &action.target, state)).collect())
    }

    fn watch(&self, action_id: &str) -> Later<Stepwise<WatchEvent>> {
        self.note(format!("watch {action_id}"));
        let ended = outcome(action_id, Verb::Launch, "lane", ActionState::Failed);
        let events = vec![
            WatchEvent::Snapshot(Box::new(view(action_id))),
            WatchEvent::Step(Box::new(step()), ActionState::Running, Progress::default()),
            WatchEvent::Progress(ActionState::Undoing, Progress { percent: 99, ..Progress::default() }),
            WatchEvent::Outcome(Box::new(ended)),
        ];
        let stream: Stepwise<WatchEvent> = Box::pin(futures_util::stream::iter(events));
        now(stream)
    }

    fn get_action(&self, action_id: &str) -> Later<ActionView> {
        self.note(format!("get_action {action_id}"));
        if action_id == "unknown" {
            let message = "no action has the id 'unknown'";
            return refuse(Error::new(ErrorKind::NotFound, ErrorCode::ActionNotFound, message).at("action_id"));
        }
        now(view(action_id))
    }

    fn list_actions(&self, query: ListActions) -> Later<Page<ActionView>> {
        self.note(format!("list_actions {query:?}"));
        now(Page { items: vec![view("a"), view("b")], next_token: "more".to_owned() })
    }

    fn plan(&self, requests: Vec<ActionRequest>) -> Later<PlanView> {
        self.note(format!("plan {}", requests.len()));
        let errors = vec![Error::invalid("spec", "no")];
        now(PlanView { steps: vec![step()], stages: 1, warnings: vec![], errors })
    }

    fn check_policy(&self, request: ActionRequest) -> Later<PolicyAnswer> {
        self.note(format!("check_policy {} {}", request.verb, request.target));
        let ruled = |workload: &str, ruling| WorkloadRuling { workload: workload.to_owned(), ruling };
        let (rule, reason) = ("rule 'night' of /p.yaml".to_owned(), "not at night".to_owned());
        let denied = Ruling::Denied { rule, reason, suggested_node: "ZONE1".to_owned() };
        let rulings = match request.target.as_str() {
            FAILS => vec![ruled("core", Ruling::Allowed), ruled("log", denied)],
            _ => vec![ruled("", Ruling::Allowed)],
        };
        now(PolicyAnswer { rulings, warnings: vec![] })
    }

    fn node_health(&self) -> Later<NodeHealth> {
        self.note("node_health".to_owned());
        let away = Probe::Unavailable { reason: "no such socket".to_owned() };
        let here = Probe::Available { version: "5.4".to_owned(), api: "5".to_owned() };
        let capabilities = RuntimeCapabilities { supports_pause: true, ..RuntimeCapabilities::default() };
        let engine = |probe| EngineOverview { probe, capabilities, place: Some(2) };
        let (schedule, node, task) = ("s".to_owned(), "HPC".to_owned(), "t".to_owned());
        now(NodeHealth {
            serving: self.is_serving(),
            node: "HPC".to_owned(),
            version: "0.1.0".to_owned(),
            engines: BTreeMap::from([("docker".to_owned(), engine(away)), ("podman".to_owned(), engine(here))]),
            store: StoreHealth {
                backend: "etcd".to_owned(),
                problem: "away".to_owned(),
                outcomes_waiting: 1,
                outcomes_bound: 2,
                states_waiting: 3,
                outcomes_owed: 4,
                set_aside: 5,
            },
            misses: BTreeMap::from([(TaskName { schedule, node, task }, Misses { count: 6, last_ms: 7_000 })]),
        })
    }

    fn list_cores(&self) -> Later<NodeCores> {
        self.note("list_cores".to_owned());
        let set = |text: &str| text.parse::<CpuSet>().unwrap();
        let topology = Topology { online: set("0-1"), offline: set("2"), isolated: set("1"), ..Topology::default() };
        let policy = CorePolicy { reserved: set("0"), isolated: set("") };
        let holding = Holding { cpus: set("1-2"), action_id: "a".to_owned(), since_ms: 1, before: None };
        now(NodeCores {
            grounds: Grounds { topology, policy },
            holdings: BTreeMap::from([("lane".to_owned(), holding)]),
            foreign: vec![Foreign { pid: 7, name: "sshd".to_owned(), cpus: set("1") }],
            problems: vec!["CPUs 2 are held and offline".to_owned()],
        })
    }

    fn list_workloads(&self, page: PageQuery, package: &str) -> Later<Page<WorkloadView>> {
        self.note(format!("list_workloads {page:?} {package}"));
        now(Page { items: vec![workload("lane")], next_token: String::new() })
    }

    fn get_workload(&self, name: &str) -> Later<WorkloadView> {
        self.note(format!("get_workload {name}"));
        now(workload(name))
    }

    fn logs(&self, query: LogsQuery) -> Later<Stepwise<Result<LogChunk>>> {
        self.note(format!("logs {query:?}"));
        if query.workload == NEVER {
            return self.never();
        }
        let output = Output {
            flood: query.workload == FLOOD,
            breaks: query.workload == BREAKS,
            given: 0,
            taken: Arc::clone(&self.taken),
            _kept: Kept(Arc::clone(&self.dropped)),
        };
        let stream: Stepwise<Result<LogChunk>> = Box::pin(output);
        now(stream)
    }

    fn exec(&self, query: ExecQuery) -> Later<ExecOutcome> {
        self.note(format!("exec {query:?}"));
        now(ExecOutcome { exit_code: 3, stdout: b"out".to_vec(), stderr: b"err".to_vec(), truncated: true })
    }

    fn stats(&self, workload: &str) -> Later<BTreeMap<String, ContainerStats>> {
        self.note(format!("stats {workload}"));
        now(BTreeMap::from([("core".to_owned(), ContainerStats { cpu_ns: 1, pids: 5, ..ContainerStats::default() })]))
    }

    fn wait(&self, query: WaitQuery) -> Later<Option<WorkloadView>> {
        self.note(format!("wait {query:?}"));
        now(None)
    }

    fn is_serving(&self) -> bool {
        !self.not_serving.load(Ordering::SeqCst)
    }
}
