//! [`Entry`]: one action under way, with everyone who waits for it or follows it.

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use futures_util::Stream;

use super::service::{ActionView, PlanView, Progress, StepView, WatchEvent};
use crate::action::{Loaded, Reporter};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::action::{ActionRequest, ActionState, Outcome, StepResult, StepState};
use crate::model::plan::Plan;

/// Events kept for slow watchers; one that falls further behind is given a snapshot.
const KEPT_EVENTS: usize = 1024;

/// Bytes of a pull are told at most this often.
const BYTES_INTERVAL: Duration = Duration::from_millis(100);

/// Called with the outcome, once.
pub type OnEnd = Box<dyn FnOnce(&Outcome) + Send>;

/// One action under way.
pub struct Entry {
    /// As asked for, in its one form.
    pub request: ActionRequest,
    /// What tells it from another request under the same id.
    pub fingerprint: String,
    /// Its place among all accepted actions.
    pub sequence: u64,
    /// When it was accepted.
    pub accepted: Instant,
    /// When it was accepted, milliseconds since the epoch.
    pub accepted_ms: u64,
    /// Its own time.
    pub deadline: Deadline,
    /// What it concerns, where that was read before it was accepted.
    pub loaded: Option<Box<Loaded>>,
    /// Ends it.
    pub token: CancelToken,
    state: Mutex<State>,
}

struct State {
    action: ActionState,
    target: String,
    steps: Vec<StepView>,
    progress: Progress,
    events: VecDeque<WatchEvent>,
    /// The number of the first kept event.
    first: u64,
    watchers: BTreeMap<u64, Waker>,
    next_watcher: u64,
    enders: Vec<OnEnd>,
    outcome: Option<Arc<Outcome>>,
    bytes_told: Option<Instant>,
}

impl Entry {
    /// An accepted action.
    pub fn new(request: ActionRequest, fingerprint: String, sequence: u64, accepted_ms: u64, budget: Duration) -> Self {
        let state = State {
            action: ActionState::Queued,
            target: request.target.clone(),
            steps: Vec::new(),
            progress: Progress::default(),
            events: VecDeque::new(),
            first: 0,
            watchers: BTreeMap::new(),
            next_watcher: 0,
            enders: Vec::new(),
            outcome: None,
            bytes_told: None,
        };
        Self {
            request,
            fingerprint,
            sequence,
            accepted: Instant::now(),
            accepted_ms,
            deadline: Deadline::after(budget),
            loaded: None,
            token: CancelToken::new(),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `on_end` called with the outcome: when the action ends, or now where it has.
    pub fn on_end(&self, on_end: OnEnd) {
        let mut state = self.lock();
        match state.outcome.clone() {
            Some(outcome) => {
                drop(state);
                on_end(&outcome);
            }
            None => state.enders.push(on_end),
        }
    }

    /// The action as it is now.
    pub fn view(&self) -> ActionView {
        self.view_of(&self.lock())
    }

    fn view_of(&self, state: &State) -> ActionView {
        ActionView {
            action_id: self.request.id.clone(),
            verb: self.request.verb,
            target: state.target.clone(),
            state: state.action,
            progress: state.progress.clone(),
            accepted_ms: self.accepted_ms,
            outcome: state.outcome.as_deref().cloned(),
        }
    }

    /// Whether it has its outcome.
    pub fn is_ended(&self) -> bool {
        self.lock().outcome.is_some()
    }

    /// The target is resolved.
    pub fn resolved(&self, target: &str) {
        target.clone_into(&mut self.lock().target);
    }

    /// Ends the action: whoever waits gets the outcome. Only the first call counts.
    pub fn end(&self, outcome: Outcome) {
        let mut state = self.lock();
        if state.outcome.is_some() {
            return;
        }
        state.action = outcome.state;
        state.target.clone_from(&outcome.target);
        if outcome.state == ActionState::Succeeded {
            state.progress.percent = 100;
        }
        let outcome = Arc::new(outcome);
        state.outcome = Some(Arc::clone(&outcome));
        let enders = std::mem::take(&mut state.enders);
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        for on_end in enders {
            on_end(&outcome);
        }
        watchers.into_values().for_each(Waker::wake);
    }

    /// Follows the action from its present state on.
    pub fn watch(self: &Arc<Self>) -> Watch {
        let mut state = self.lock();
        let id = state.next_watcher;
        state.next_watcher += 1;
        drop(state);
        Watch { entry: Arc::clone(self), id, next: None, is_over: false }
    }

    fn publish(&self, mut state: MutexGuard<'_, State>, event: WatchEvent) {
        if state.events.len() == KEPT_EVENTS {
            state.events.pop_front();
            state.first += 1;
        }
        state.events.push_back(event);
        let watchers = std::mem::take(&mut state.watchers);
        drop(state);
        watchers.into_values().for_each(Waker::wake);
    }
}

impl Reporter for Entry {
    fn planned(&self, plan: &Plan) {
        let mut state = self.lock();
        state.steps = PlanView::of(plan).steps;
        state.progress.steps_total = u32::try_from(plan.steps.len()).unwrap_or(u32::MAX);
        let event = WatchEvent::Progress(state.action, state.progress.clone());
        self.publish(state, event);
    }

    fn step(&self, result: &StepResult) {
        let mut state = self.lock();
        let Some(view) = state.steps.get_mut(result.index) else { return };
        (view.state, view.micros) = (result.state, result.micros);
        view.message.clone_from(&result.message);
        let view = view.clone();
        if result.state == StepState::Running {
            state.progress.current_step = view.step.title();
        }
        (state.progress.bytes_done, state.progress.bytes_total) = (0, 0);
        state.progress.detail.clear();
        let is_open = |step: &&StepView| matches!(step.state, StepState::Pending | StepState::Running);
        let (total, open) = (state.steps.len(), state.steps.iter().filter(is_open).count());
        state.progress.steps_done = u32::try_from(total - open).unwrap_or(u32::MAX);
        let percent = percent(state.steps.iter().map(|step| step.state));
        state.progress.percent = state.progress.percent.max(percent);
        let event = WatchEvent::Step(Box::new(view), state.action, state.progress.clone());
        self.publish(state, event);
    }

    fn bytes(&self, _index: usize, what: &str, done: u64, total: u64) {
        let mut state = self.lock();
        let is_last = total > 0 && done >= total;
        if !is_last && state.bytes_told.is_some_and(|told| told.elapsed() < BYTES_INTERVAL) {
            return;
        }
        state.bytes_told = Some(Instant::now());
        (state.progress.bytes_done, state.progress.bytes_total) = (done, total);
        what.clone_into(&mut state.progress.detail);
        let event = WatchEvent::Progress(state.action, state.progress.clone());
        self.publish(state, event);
    }

    fn state(&self, action: ActionState) {
        let mut state = self.lock();
        state.action = action;
        let event = WatchEvent::Progress(action, state.progress.clone());
        self.publish(state, event);
    }
}

/// How many of an action's steps were done, in percent; what was skipped is no progress. The last percent is the
/// outcome's.
pub fn percent(steps: impl Iterator<Item = StepState>) -> u32 {
    let (mut done, mut total) = (0_usize, 0_usize);
    for state in steps {
        total += 1;
        match state {
            StepState::Changed | StepState::Unchanged | StepState::Undone | StepState::UndoFailed => done += 1,
            StepState::Pending | StepState::Running | StepState::Failed | StepState::Skipped => {}
        }
    }
    u32::try_from(done * 99 / total.max(1)).unwrap_or(99)
}

/// Follows one action: a snapshot, what happens from then on, at last the outcome.
pub struct Watch {
    entry: Arc<Entry>,
    id: u64,
    next: Option<u64>,
    is_over: bool,
}

impl Stream for Watch {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        let entry = Arc::clone(&self.entry);
        let mut state = entry.lock();
        let end = state.first + state.events.len() as u64;
        let event = match self.next {
            Some(next) if next >= state.first && next < end => {
                self.next = Some(next + 1);
                // The range was just looked at.
                state.events.get(usize::try_from(next - state.first).unwrap_or(usize::MAX)).cloned()
            }
            Some(next) if next == end => state.outcome.clone().map(|outcome| {
                self.is_over = true;
                WatchEvent::Outcome(Box::new((*outcome).clone()))
            }),
            _ => {
                self.next = Some(end);
                Some(WatchEvent::Snapshot(Box::new(entry.view_of(&state))))
            }
        };
        if event.is_none() {
            state.watchers.insert(self.id, context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(event)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.entry.lock().watchers.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use futures_util::{FutureExt, StreamExt};

    use super::*;
    use crate::action::blank;
    use crate::dispatch::double::{entry, request};
    use crate::model::action::Verb;
    use crate::model::plan::{Step, StepOp};

    fn running(steps: usize) -> Arc<Entry> {
        let entry = entry(1, request("a", Verb::Launch, "w"));
        let op = |n: usize| StepOp::Start { container: format!("w_{n}") };
        let steps = (0..steps).map(|n| Step { workload: "w".into(), op: op(n), after: Default::default() }).collect();
        let (target, engine, warnings) = ("w".to_owned(), "sim".to_owned(), Vec::new());
        entry.planned(&Plan { verb: Verb::Launch, target, engine, steps, warnings });
        entry
    }

    fn step(entry: &Entry, index: usize, state: StepState) {
        entry.step(&StepResult { index, title: String::new(), state, micros: 1, message: String::new() });
    }

    fn end(entry: &Entry, state: ActionState) {
        entry.end(blank(&entry.request, "w", state, 0));
    }

    fn percents(events: &[WatchEvent]) -> Vec<u32> {
        let percent = |event: &WatchEvent| match event {
            WatchEvent::Snapshot(view) => Some(view.progress.percent),
            WatchEvent::Step(_, _, progress) | WatchEvent::Progress(_, progress) => Some(progress.percent),
            WatchEvent::Outcome(_) => None,
        };
        events.iter().filter_map(percent).collect()
    }

    #[test]
    fn watcher_is_told_each_step_and_at_last_the_outcome() {
        let entry = running(2);
        let watch = entry.watch();
        // It follows from the moment in which it is asked for the first time.
        let mut watch = watch.peekable();
        assert!(matches!(block_on(Pin::new(&mut watch).peek()), Some(WatchEvent::Snapshot(_))));
        for index in 0..2 {
            step(&entry, index, StepState::Running);
            step(&entry, index, StepState::Changed);
        }
        end(&entry, ActionState::Succeeded);
        let events: Vec<_> = block_on(watch.collect());
        let steps = events.iter().filter(|event| matches!(event, WatchEvent::Step(..))).count();
        assert_eq!((events.len(), steps), (6, 4));
        assert!(matches!(events.last(), Some(WatchEvent::Outcome(_))));
        assert_eq!(percents(&events), [0, 0, 49, 49, 99]);
    }

    #[test]
    fn late_watcher_gets_the_present_state_and_then_what_comes() {
        let entry = running(2);
        step(&entry, 0, StepState::Changed);
        let mut watch = entry.watch();
        let Some(WatchEvent::Snapshot(view)) = block_on(watch.next()) else { panic!("a snapshot comes first") };
        assert_eq!((view.progress.steps_done, view.progress.percent), (1, 49));
        assert!(watch.next().now_or_never().is_none(), "nothing is told twice");
        step(&entry, 1, StepState::Running);
        assert!(matches!(block_on(watch.next()), Some(WatchEvent::Step(..))));
    }

    #[test]
    fn watcher_of_an_ended_action_gets_snapshot_and_outcome() {
        let entry = running(1);
        end(&entry, ActionState::Failed);
        let events: Vec<_> = block_on(entry.watch().collect());
        assert!(matches!(events.as_slice(), [WatchEvent::Snapshot(_), WatchEvent::Outcome(_)]));
    }

    #[test]
    fn lagging_watcher_gets_a_snapshot_and_memory_is_bounded() {
        let entry = running(1);
        let mut watch = entry.watch();
        block_on(watch.next());
        for _ in 0..3 * KEPT_EVENTS {
            entry.state(ActionState::Running);
        }
        assert_eq!(entry.lock().events.len(), KEPT_EVENTS);
        assert!(matches!(block_on(watch.next()), Some(WatchEvent::Snapshot(_))));
        end(&entry, ActionState::Succeeded);
        assert!(matches!(block_on(watch.next()), Some(WatchEvent::Outcome(_))));
        assert_eq!(block_on(watch.next()), None);
    }

    #[test]
    fn percent_never_falls_and_is_100_only_with_success() {
        for state in [ActionState::Succeeded, ActionState::Failed, ActionState::Cancelled] {
            let entry = running(3);
            let mut watch = entry.watch();
            let mut events = vec![block_on(watch.next()).unwrap()];
            for (index, to) in [(0, StepState::Changed), (1, StepState::Unchanged), (2, StepState::Failed)] {
                step(&entry, index, to);
            }
            step(&entry, 0, StepState::Undone);
            while let Some(Some(event)) = watch.next().now_or_never() {
                events.push(event);
            }
            let told = percents(&events);
            assert!(told.is_sorted() && *told.last().unwrap() < 100, "{told:?}");
            end(&entry, state);
            assert_eq!(entry.view().progress.percent == 100, state == ActionState::Succeeded);
        }
    }

    #[test]
    fn skipped_steps_are_no_progress() {
        let entry = running(4);
        step(&entry, 0, StepState::Failed);
        (1..4).for_each(|index| step(&entry, index, StepState::Skipped));
        assert_eq!(entry.view().progress.percent, 0);
    }

    #[test]
    fn only_the_first_end_counts_and_everyone_hears_it_once() {
        let entry = running(1);
        let heard = Arc::new(Mutex::new(Vec::new()));
        let listen = |heard: &Arc<Mutex<Vec<ActionState>>>| {
            let heard = Arc::clone(heard);
            entry.on_end(Box::new(move |outcome| heard.lock().unwrap().push(outcome.state)));
        };
        listen(&heard);
        end(&entry, ActionState::Cancelled);
        end(&entry, ActionState::Succeeded);
        listen(&heard);
        assert_eq!(*heard.lock().unwrap(), [ActionState::Cancelled, ActionState::Cancelled]);
    }

    #[test]
    fn dropped_watchers_leave_nothing() {
        let entry = running(1);
        for _ in 0..10 {
            let mut watch = entry.watch();
            block_on(watch.next());
            assert!(watch.next().now_or_never().is_none());
        }
        assert!(entry.lock().watchers.is_empty());
    }
}
