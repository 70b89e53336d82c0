//! Drives a batch: begins what may begin each time one of its actions ends. No thread waits meanwhile, so that any
//! number of batches can run beside each other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_channel::oneshot;

use super::service::Batch;
use super::worker::Shared;
use crate::action::batch::Order;
use crate::action::refused;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, ActionState, Outcome};

/// A batch under way.
pub struct BatchRun {
    shared: Arc<Shared>,
    requests: Vec<ActionRequest>,
    state: Mutex<State>,
}

struct State {
    order: Order,
    outcomes: Vec<Option<Outcome>>,
    reply: Option<oneshot::Sender<Result<Vec<Outcome>>>>,
}

impl BatchRun {
    /// Begins a batch; the outcomes come in the order of its entries.
    pub fn start(shared: &Arc<Shared>, batch: Batch) -> Result<oneshot::Receiver<Result<Vec<Outcome>>>> {
        let entries: Vec<(&str, &[String])> =
            batch.entries.iter().map(|(request, after)| (request.id.as_str(), after.as_slice())).collect();
        let order = Order::new(&entries, batch.stop_at_failure)?;
        let (sender, receiver) = oneshot::channel();
        let state = State { order, outcomes: vec![None; batch.entries.len()], reply: Some(sender) };
        let requests = batch.entries.into_iter().map(|(request, _)| request).collect();
        let run = Arc::new(Self { shared: Arc::clone(shared), requests, state: Mutex::new(state) });
        run.advance();
        Ok(receiver)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn advance(self: &Arc<Self>) {
        let ready = self.lock().order.begin();
        for place in ready {
            let request = self.requests[place].clone();
            match self.shared.submit(request) {
                Ok(entry) => {
                    let run = Arc::clone(self);
                    entry.on_end(Box::new(move |outcome| run.ended(place, outcome.clone())));
                }
                Err(error) => {
                    let now = self.shared.clock.now_ms();
                    let outcome = refused(&self.requests[place], "", &error, now);
                    self.ended(place, outcome);
                }
            }
        }
        self.reply_if_over();
    }

    fn ended(self: &Arc<Self>, place: usize, outcome: Outcome) {
        let mut state = self.lock();
        let skipped = state.order.end(place, outcome.state == ActionState::Succeeded);
        state.outcomes[place] = Some(outcome);
        for (other, cause) in skipped {
            let message = format!("not begun, because action '{}' did not succeed", self.requests[cause].id);
            let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::DependencyFailed, message);
            let mut outcome = refused(&self.requests[other], "", &error, self.shared.clock.now_ms());
            outcome.state = ActionState::Skipped;
            state.outcomes[other] = Some(outcome);
        }
        drop(state);
        self.advance();
    }

    fn reply_if_over(&self) {
        let mut state = self.lock();
        if !state.order.is_over() {
            return;
        }
        let Some(reply) = state.reply.take() else { return };
        let outcomes = std::mem::take(&mut state.outcomes).into_iter().flatten().collect();
        drop(state);
        // The asker may be gone; the actions are found by their ids.
        let _ = reply.send(Ok(outcomes));
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use futures_executor::block_on;

    use super::*;
    use crate::dispatch::double::{ScriptedAct, request, shared, until};
    use crate::model::action::Verb;

    struct Rig {
        act: Arc<ScriptedAct>,
        shared: Arc<Shared>,
        threads: Vec<thread::JoinHandle<()>>,
    }

    fn rig(workers: usize) -> Rig {
        let act = Arc::new(ScriptedAct::default());
        let shared = shared(&act);
        let start = |_| {
            let own = Arc::clone(&shared);
            thread::Builder::new().spawn(move || own.work(false)).unwrap()
        };
        let threads = (0..workers).map(start).collect();
        Rig { act, shared, threads }
    }

    impl Drop for Rig {
        fn drop(&mut self) {
            self.shared.lanes.close();
            self.threads.drain(..).for_each(|thread| assert!(thread.join().is_ok() || thread::panicking()));
        }
    }

    /// Launches, each of the workload of its id and after others: `("b", "a c")`.
    fn batch(entries: &[(&str, &str)], stop_at_failure: bool) -> Batch {
        let entry = |(id, after): &(&str, &str)| {
            (request(id, Verb::Launch, id), after.split_whitespace().map(str::to_owned).collect())
        };
        Batch { entries: entries.iter().map(entry).collect(), stop_at_failure }
    }

    fn states(outcomes: &[Outcome]) -> Vec<ActionState> {
        outcomes.iter().map(|outcome| outcome.state).collect()
    }

    // req: AC-04
    #[test]
    fn independent_actions_overlap_and_dependants_come_after() {
        let rig = rig(3);
        ["a", "b"].iter().for_each(|id| rig.act.hold(id));
        let outcomes = BatchRun::start(&rig.shared, batch(&[("a", ""), ("b", ""), ("c", "a b")], false)).unwrap();
        until("both", || rig.act.log().len() == 2);
        rig.act.release("a");
        until("the end of one", || rig.act.log().len() == 3);
        assert!(!rig.act.log().contains(&"begin c".to_owned()), "it waits for both");
        rig.act.release("b");
        assert_eq!(states(&block_on(outcomes).unwrap().unwrap()), [ActionState::Succeeded; 3]);
        assert_eq!(rig.act.log()[4..], ["begin c", "end c"]);
    }

    // req: AC-04
    #[test]
    fn failure_skips_its_dependants_alone_or_all_that_has_not_begun() {
        for stop in [false, true] {
            let rig = rig(1);
            rig.act.panics("a");
            let entries = [("a", ""), ("b", "a"), ("c", "b"), ("d", "e"), ("e", "")];
            let outcomes = BatchRun::start(&rig.shared, batch(&entries, stop)).unwrap();
            let outcomes = block_on(outcomes).unwrap().unwrap();
            let ids: Vec<_> = outcomes.iter().map(|outcome| outcome.action_id.as_str()).collect();
            assert_eq!(ids, ["a", "b", "c", "d", "e"], "one result for each, in the order of the entries");
            // 'e' was begun together with 'a'.
            let last = if stop { ActionState::Skipped } else { ActionState::Succeeded };
            let (failed, skipped) = (ActionState::Failed, ActionState::Skipped);
            assert_eq!(states(&outcomes), [failed, skipped, skipped, last, ActionState::Succeeded]);
            assert!(outcomes[1].message.contains("'a'") && outcomes[2].message.contains("'b'"));
        }
    }

    #[test]
    fn more_batches_than_workers_all_end() {
        let rig = rig(2);
        let run = |n: usize| {
            let ids: Vec<_> = (0..5).map(|place| format!("{n}-{place}")).collect();
            let after = |place: usize| if place == 0 { "" } else { ids[place - 1].as_str() };
            let entries: Vec<_> = (0..5).map(|place| (ids[place].as_str(), after(place))).collect();
            BatchRun::start(&rig.shared, batch(&entries, false)).unwrap()
        };
        for outcomes in (0..10).map(run).collect::<Vec<_>>() {
            assert_eq!(states(&block_on(outcomes).unwrap().unwrap()), [ActionState::Succeeded; 5]);
        }
    }

    #[test]
    fn batch_that_comes_again_is_answered_from_the_store() {
        let rig = rig(2);
        let ask = || block_on(BatchRun::start(&rig.shared, batch(&[("a", ""), ("b", "a")], false)).unwrap()).unwrap();
        let first = ask().unwrap();
        assert_eq!(ask().unwrap(), first);
        assert_eq!(rig.act.log().len(), 4, "{:?}", rig.act.log());
    }

    #[test]
    fn refused_entry_is_a_result_and_the_others_go_on() {
        let rig = rig(1);
        rig.act.hold("taken");
        let taken = rig.shared.submit(request("taken", Verb::Launch, "other")).unwrap();
        let entries = [("taken", ""), ("after", "taken"), ("alone", "")];
        let outcomes = BatchRun::start(&rig.shared, batch(&entries, false)).unwrap();
        rig.act.release("taken");
        let outcomes = block_on(outcomes).unwrap().unwrap();
        assert_eq!(states(&outcomes), [ActionState::Refused, ActionState::Skipped, ActionState::Succeeded]);
        assert_eq!(outcomes[0].failure.as_ref().unwrap().code, "ACTION_ID_REUSED");
        until("its end", || taken.is_ended());
    }

    // req: AC-04
    #[test]
    fn cycle_is_refused_and_named_and_nothing_is_begun() {
        let rig = rig(1);
        let error = BatchRun::start(&rig.shared, batch(&[("a", "b"), ("b", "a"), ("c", "")], false)).err().unwrap();
        assert!(error.message.contains("a -> b -> a"), "{error}");
        assert_eq!((rig.shared.inflight.count(), rig.act.log().len()), (0, 0));
    }
}
