//! Runs the steps of a plan: each after those that it waits for, independent ones side by side on helper threads.
//!
//! Never decides what a failure means: it reports which steps were begun and how they ended; `undo` takes it from there.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, unbounded};

use super::outside::Reach;
use super::steps::{self, Done, Drawings};
use super::{Engines, Outside, Reporter};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{StepResult, StepState};
use crate::model::plan::{Plan, StepOp};
use crate::realtime::keeper::CoreKeeper;
use crate::runtime::adapter::{Call, ProgressSink};

/// Steps of one action that run at the same time, at most: each is a thread and a call to the engine.
pub const MAX_PARALLEL: usize = 16;

/// How a failed step affects the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing more is begun and what runs is cancelled: all will be undone.
    EndAll,
    /// Only what waits for the failed step is skipped.
    SkipDependants,
}

/// What steps run with.
pub struct Execution<'a> {
    /// The engine of each workload.
    pub engines: &'a Engines,
    /// Other nodes, the scheduler, stored documents.
    pub outside: &'a Outside,
    /// CPUs that workloads have alone.
    pub cores: &'a CoreKeeper,
    /// The workloads' descriptions.
    pub drawings: &'a Drawings<'a>,
    /// The action's time.
    pub deadline: Deadline,
    /// Ends it.
    pub cancel: &'a CancelToken,
    /// Told of each step's start and end.
    pub reporter: &'a dyn Reporter,
    /// What a failure means for the rest.
    pub on_failure: OnFailure,
}

/// How the steps went.
pub struct Executed {
    /// By index.
    pub steps: Vec<StepResult>,
    /// The first failure.
    pub failure: Option<Error>,
    /// Engine ids by the containers' workloads and engine names.
    pub container_ids: BTreeMap<(String, String), String>,
    /// What the caller should know, with the container it is about.
    pub notes: Vec<(String, String)>,
    /// Why each step failed that did.
    pub errors: BTreeMap<usize, Error>,
}

impl Executed {
    /// Whether any step changed anything.
    pub fn changed(&self) -> bool {
        self.steps.iter().any(|step| step.state == StepState::Changed)
    }
}

/// Passes on bytes and phases of one step.
struct StepProgress<'a> {
    index: usize,
    reporter: &'a dyn Reporter,
}

impl ProgressSink for StepProgress<'_> {
    fn bytes(&self, what: &str, done: u64, total: u64) {
        self.reporter.bytes(self.index, what, done, total);
    }
}

type Ended = (usize, Duration, Result<Done>);

/// Runs the plan to its end.
pub fn execute(plan: &Plan, execution: &Execution) -> Executed {
    let group = execution.cancel.child();
    let mut table = Table::new(plan, execution);
    let (sender, receiver) = unbounded::<Ended>();
    thread::scope(|scope| {
        loop {
            table.skip_what_cannot_run(&group);
            let ready = table.ready();
            let alone = table.running == 0 && ready.len() == 1;
            for index in ready {
                table.begin(index);
                let work = || run_step(plan, execution, &group, index);
                if alone {
                    let ended = work();
                    table.end(ended, &group);
                    continue;
                }
                let (sender, step_group) = (sender.clone(), group.clone());
                let named = thread::Builder::new().name(format!("step-{index}"));
                let spawned = named.spawn_scoped(scope, move || {
                    send(&sender, run_step(plan, execution, &step_group, index));
                });
                if let Err(error) = spawned {
                    let error = Error::internal(format!("no thread for a step: {error}"));
                    table.end((index, Duration::ZERO, Err(error)), &group);
                }
            }
            if table.running > 0 {
                match receiver.recv() {
                    Ok(ended) => table.end(ended, &group),
                    Err(_) => break,
                }
                continue;
            }
            table.skip_what_cannot_run(&group);
            if table.ready().is_empty() {
                break;
            }
        }
    });
    table.finish()
}

fn send(sender: &Sender<Ended>, ended: Ended) {
    // The receiver outlives every step's thread.
    let _ = sender.send(ended);
}

fn run_step(plan: &Plan, execution: &Execution, group: &CancelToken, index: usize) -> Ended {
    let begun = Instant::now();
    let step = &plan.steps[index];
    let progress = StepProgress { index, reporter: execution.reporter };
    let cancel = if is_long(&step.op) { group } else { execution.cancel };
    let call = Call { deadline: execution.deadline, cancel, progress: &progress };
    let work = || {
        let (deadline, drawings) = (execution.deadline, execution.drawings);
        let reach = Reach { outside: execution.outside, drawings, deadline, cancel };
        if let Some(done) = reach.run(&step.workload, &step.op) {
            return done;
        }
        if let StepOp::Pin { container } = &step.op {
            return steps::pin(execution.cores, &call, drawings, &step.workload, container);
        }
        let adapter = execution.engines.of(&step.workload)?;
        let done = steps::run(adapter, &call, drawings, &step.workload, &step.op)?;
        if let StepOp::Start { container } | StepOp::Wake { container } = &step.op {
            steps::keep_off(execution.cores, &call, drawings, &step.workload, container);
        }
        Ok(done)
    };
    let result = catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Error::internal(format!("the step '{}' panicked", step.title()))));
    (index, begun.elapsed(), result)
}

/// Whether a step is cut off where another fails. What makes or changes something is soon done, and an engine goes on
/// with it even when nobody waits: it comes to its end, so that undoing finds it.
fn is_long(op: &StepOp) -> bool {
    matches!(
        op,
        StepOp::EnsureImage { .. }
            | StepOp::AwaitCompletion { .. }
            | StepOp::Stop { .. }
            | StepOp::Admit { .. }
            | StepOp::Connect { .. }
    )
}

/// Where each step stands.
struct Table<'a> {
    plan: &'a Plan,
    execution: &'a Execution<'a>,
    results: Vec<StepResult>,
    running: usize,
    failure: Option<Error>,
    container_ids: BTreeMap<(String, String), String>,
    notes: Vec<(String, String)>,
    errors: BTreeMap<usize, Error>,
}

impl<'a> Table<'a> {
    fn new(plan: &'a Plan, execution: &'a Execution<'a>) -> Self {
        let pending = |(index, step): (usize, &crate::model::plan::Step)| StepResult {
            index,
            title: step.title(),
            state: StepState::Pending,
            micros: 0,
            message: String::new(),
        };
        let results = plan.steps.iter().enumerate().map(pending).collect();
        let (container_ids, notes) = (BTreeMap::new(), Vec::new());
        let errors = BTreeMap::new();
        Self { plan, execution, results, running: 0, failure: None, container_ids, notes, errors }
    }

    fn state(&self, index: usize) -> StepState {
        self.results[index].state
    }

    fn is_done(&self, index: usize) -> bool {
        matches!(self.state(index), StepState::Changed | StepState::Unchanged)
    }

    /// Pending steps that may be begun now, as many as there is room for.
    fn ready(&self) -> Vec<usize> {
        let can_begin = |index: &usize| {
            self.state(*index) == StepState::Pending
                && self.plan.steps[*index].after.iter().all(|before| self.is_done(*before))
        };
        (0..self.results.len()).filter(can_begin).take(MAX_PARALLEL.saturating_sub(self.running)).collect()
    }

    fn skip_what_cannot_run(&mut self, group: &CancelToken) {
        if self.failure.is_none() {
            self.failure = self.interruption();
        }
        let end_all =
            self.failure.is_some() && (self.execution.on_failure == OnFailure::EndAll || self.is_interrupted());
        if end_all && self.running > 0 {
            group.cancel("another step failed");
        }
        for index in 0..self.results.len() {
            if self.state(index) != StepState::Pending {
                continue;
            }
            let after = &self.plan.steps[index].after;
            let is_lost = |before: &usize| matches!(self.state(*before), StepState::Failed | StepState::Skipped);
            if end_all || after.iter().any(is_lost) {
                let why = if self.is_interrupted() { "the action ended before" } else { "an earlier step failed" };
                self.set(index, StepState::Skipped, 0, why.to_owned());
            }
        }
    }

    fn is_interrupted(&self) -> bool {
        self.execution.cancel.is_cancelled() || self.execution.deadline.is_over()
    }

    /// The failure that lies in the action as a whole and not in a step.
    fn interruption(&self) -> Option<Error> {
        let left = self.results.iter().any(|result| result.state == StepState::Pending);
        if !left {
            return None;
        }
        if self.execution.cancel.is_cancelled() {
            return Some(cancelled(self.execution.cancel));
        }
        self.execution.deadline.is_over().then(deadline_over)
    }

    fn begin(&mut self, index: usize) {
        self.running += 1;
        self.set(index, StepState::Running, 0, String::new());
    }

    fn end(&mut self, (index, took, result): Ended, group: &CancelToken) {
        self.running -= 1;
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match result {
            Ok(done) => {
                let object = self.plan.steps[index].op.object().to_owned();
                if let Some(id) = done.container_id {
                    let workload = self.plan.steps[index].workload.clone();
                    self.container_ids.insert((workload, object.clone()), id);
                }
                if !done.note.is_empty() {
                    self.notes.push((object, done.note));
                }
                let state = if done.changed { StepState::Changed } else { StepState::Unchanged };
                self.set(index, state, micros, String::new());
            }
            Err(error) => {
                self.set(index, StepState::Failed, micros, error.message.clone());
                self.errors.insert(index, error.clone());
                self.fail(error, group);
            }
        }
    }

    /// The first failure counts, and a cancel of the whole action counts as that.
    fn fail(&mut self, error: Error, group: &CancelToken) {
        if self.failure.is_none() {
            let whole = self.execution.cancel;
            let is_cancel = error.kind == ErrorKind::Cancelled && whole.is_cancelled();
            self.failure = Some(if is_cancel { cancelled(whole) } else { error });
        }
        if self.execution.on_failure == OnFailure::EndAll {
            group.cancel("another step failed");
        }
    }

    fn set(&mut self, index: usize, state: StepState, micros: u64, message: String) {
        let result = &mut self.results[index];
        (result.state, result.micros, result.message) = (state, micros, message);
        self.execution.reporter.step(&self.results[index]);
    }

    fn is_over(&self) -> bool {
        self.results.iter().all(|result| !matches!(result.state, StepState::Pending | StepState::Running))
    }

    /// A step that is still open waits for one that comes after it: such a plan is not made here, but may be read from
    /// a damaged record.
    fn finish(mut self) -> Executed {
        if self.failure.is_none() && !self.is_over() {
            self.failure = Some(Error::internal("the plan has steps that wait for later ones"));
        }
        Executed {
            steps: self.results,
            failure: self.failure,
            container_ids: self.container_ids,
            notes: self.notes,
            errors: self.errors,
        }
    }
}

/// The failure of an action that was cancelled.
pub fn cancelled(token: &CancelToken) -> Error {
    let reason = token.reason();
    let code = if reason.starts_with(super::SUPERSEDED) { ErrorCode::Superseded } else { ErrorCode::Cancelled };
    let message =
        if reason.is_empty() { "the action was cancelled".to_owned() } else { format!("cancelled: {reason}") };
    Error::new(ErrorKind::Cancelled, code, message)
}

/// The failure of an action whose time is over.
pub fn deadline_over() -> Error {
    let message = "the action did not end within its deadline";
    Error::new(ErrorKind::DeadlineExceeded, ErrorCode::DeadlineExceeded, message).at("deadline_ms")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::action::recovery::Silent;
    use crate::model::action::{ActionState, Verb};
    use crate::model::plan::{Step, StepOp};
    use crate::realtime::cores::CorePolicy;
    use crate::runtime::sim::SimRuntime;
    use crate::runtime::sim::config::{SimConfig, SimFault, SimOp};
    use crate::storage::documents::Documents;
    use crate::storage::memory::MemoryStore;
    use crate::storage::records::Records;

    /// A plan that fetches images, each after those before it that are named by their index.
    fn pulls(steps: &[(&str, &[usize])]) -> Plan {
        let step = |(image, after): &(&str, &[usize])| Step {
            workload: "w".into(),
            op: StepOp::EnsureImage { image: (*image).into() },
            after: after.iter().copied().collect(),
        };
        let (target, engine, warnings) = ("w".to_owned(), "sim".to_owned(), Vec::new());
        Plan { verb: Verb::Launch, target, engine, steps: steps.iter().map(step).collect(), warnings }
    }

    fn fault(image: &str, hang: bool) -> SimFault {
        use crate::runtime::sim::config::{SimFailure, SimFailureKind};
        let failure = SimFailure { kind: SimFailureKind::ImagePull, message: "as scripted".into() };
        SimFault {
            op: Some(SimOp::Pull),
            name: image.into(),
            hang,
            fail: (!hang).then_some(failure),
            ..Default::default()
        }
    }

    struct Rig {
        cancel: CancelToken,
        faults: Vec<SimFault>,
        on_failure: OnFailure,
        deadline: Duration,
    }

    fn rig(faults: Vec<SimFault>) -> Rig {
        Rig { cancel: CancelToken::new(), faults, on_failure: OnFailure::EndAll, deadline: Duration::from_secs(60) }
    }

    impl Rig {
        fn run(&self, plan: &Plan, reporter: &dyn Reporter) -> Executed {
            let sim = SimRuntime::open(SimConfig { faults: self.faults.clone(), ..SimConfig::default() }, "n").unwrap();
            let mut engines = Engines::default();
            engines.insert("w", Arc::new(sim));
            let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: w}\nspec:\n  containers: [{name: a, image: i}]\n";
            let bundle = crate::manifest::Bundle::parse(text, &crate::manifest::Limits::default()).unwrap();
            let ignore = BTreeSet::new();
            let options = crate::manifest::ExpandOptions::new(Verb::Launch, "w", "n", &ignore);
            let spec = bundle.expand(&options).unwrap().workloads.remove(0);
            let specs = BTreeMap::from([("w".to_owned(), (spec, String::new()))]);
            let records = Records::new(Arc::new(MemoryStore::new()));
            let outside = Outside::none(Documents::own(records.clone()));
            let cores = CoreKeeper::of_this_machine(CorePolicy::default(), &Arc::default(), &records, "n");
            execute(
                plan,
                &Execution {
                    engines: &engines,
                    outside: &outside,
                    cores: &cores,
                    drawings: &Drawings {
                        specs,
                        before: BTreeMap::new(),
                        scaled: BTreeMap::new(),
                        schedule: None,
                        network: None,
                        node: "n",
                        action_id: "1",
                    },
                    deadline: Deadline::after(self.deadline),
                    cancel: &self.cancel,
                    reporter,
                    on_failure: self.on_failure,
                },
            )
        }
    }

    fn states(executed: &Executed) -> Vec<StepState> {
        executed.steps.iter().map(|step| step.state).collect()
    }

    /// Keeps which steps ran at the same time.
    #[derive(Default)]
    struct Watcher(Mutex<(BTreeSet<usize>, usize, Vec<usize>)>);

    impl Reporter for Watcher {
        fn planned(&self, _plan: &Plan) {}
        fn step(&self, result: &StepResult) {
            let (running, most, order) = &mut *self.0.lock().unwrap();
            if result.state == StepState::Running {
                running.insert(result.index);
                *most = running.len().max(*most);
            } else {
                running.remove(&result.index);
                order.push(result.index);
            }
        }
        fn bytes(&self, _index: usize, _what: &str, _done: u64, _total: u64) {}
        fn state(&self, _state: ActionState) {}
    }

    // req: AC-09
    #[test]
    fn independent_steps_overlap_up_to_a_bound_and_others_keep_their_order() {
        let names: Vec<_> = (0..2 * MAX_PARALLEL).map(|n| format!("i{n}")).collect();
        let wide: Vec<(&str, &[usize])> = names.iter().map(|name| (name.as_str(), &[] as &[usize])).collect();
        let watcher = Watcher::default();
        let late = SimFault { op: Some(SimOp::Pull), delay_ms: 20, ..SimFault::default() };
        assert!(rig(vec![late]).run(&pulls(&wide), &watcher).failure.is_none());
        assert_eq!(watcher.0.lock().unwrap().1, MAX_PARALLEL);
        let watcher = Watcher::default();
        rig(Vec::new()).run(&pulls(&[("a", &[]), ("b", &[0]), ("c", &[1])]), &watcher);
        let seen = watcher.0.lock().unwrap();
        assert_eq!((seen.1, seen.2.as_slice()), (1, [0, 1, 2].as_slice()));
    }

    #[test]
    fn failure_ends_what_runs_beside_it_and_begins_nothing_more() {
        let rig = rig(vec![fault("bad", false), fault("slow", true)]);
        let executed = rig.run(&pulls(&[("slow", &[]), ("bad", &[]), ("next", &[0])]), &Silent);
        assert_eq!(states(&executed), [StepState::Failed, StepState::Failed, StepState::Skipped]);
        assert_eq!(executed.failure.unwrap().code, ErrorCode::ImageUnavailable, "the cause, not its consequence");
    }

    #[test]
    fn what_is_never_undone_goes_on_beside_a_failure() {
        let rig = Rig { on_failure: OnFailure::SkipDependants, ..rig(vec![fault("bad", false)]) };
        let executed =
            rig.run(&pulls(&[("bad", &[]), ("after-bad", &[0]), ("good", &[]), ("after-good", &[2])]), &Silent);
        let expected = [StepState::Failed, StepState::Skipped, StepState::Changed, StepState::Changed];
        assert_eq!(states(&executed), expected);
    }

    #[test]
    fn cancel_and_deadline_end_a_step_that_hangs_and_say_which_it_was() {
        let hung = rig(vec![fault("slow", true)]);
        hung.cancel.cancel("superseded by stop 's'");
        let plan = pulls(&[("slow", &[]), ("next", &[0])]);
        let executed = hung.run(&plan, &Silent);
        assert_eq!(executed.failure.unwrap().code, ErrorCode::Superseded);
        let late = Rig { deadline: Duration::from_millis(20), ..rig(vec![fault("slow", true)]) };
        let executed = late.run(&plan, &Silent);
        assert_eq!(executed.failure.as_ref().unwrap().code, ErrorCode::DeadlineExceeded);
        assert_eq!(states(&executed), [StepState::Failed, StepState::Skipped]);
        assert_eq!(executed.steps[1].message, "the action ended before");
    }

    #[test]
    fn plan_whose_steps_wait_for_each_other_is_an_error_and_no_hang() {
        let executed = rig(Vec::new()).run(&pulls(&[("a", &[1]), ("b", &[0])]), &Silent);
        assert_eq!(executed.failure.unwrap().code, ErrorCode::Internal);
    }
}
