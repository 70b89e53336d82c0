//! [`NetworkAnswers`]: what a provider says later of the orders that it took, for those who wait for it.
//!
//! An answer may be here before the call that placed the order has returned with its id, so a number of the latest is
//! kept.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::cancel::CancelToken;
use crate::clock::Deadline;

/// Answers that nobody has waited for yet, at most; the oldest go first.
const MOST_KEPT: usize = 256;

/// What a provider says of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkAnswer {
    /// The order's id.
    pub request_id: String,
    /// Whether the network is there.
    pub is_set: bool,
    /// The provider's words.
    pub details: String,
}

#[derive(Default)]
struct State {
    early: VecDeque<NetworkAnswer>,
    waiting: HashMap<String, Sender<NetworkAnswer>>,
}

/// Where answers arrive and are waited for.
#[derive(Default)]
pub struct NetworkAnswers(Mutex<State>);

impl NetworkAnswers {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer has come. Does not block.
    pub fn note(&self, answer: NetworkAnswer) {
        let mut state = self.lock();
        if let Some(waiting) = state.waiting.remove(&answer.request_id) {
            // Whoever waited may have given up this moment.
            let _ = waiting.try_send(answer);
            return;
        }
        if state.early.len() >= MOST_KEPT {
            state.early.pop_front();
        }
        state.early.push_back(answer);
    }

    /// Blocks for the answer to an order; `None` where the time was over or the work was cancelled before.
    pub fn wait(&self, request_id: &str, deadline: Deadline, cancel: &CancelToken) -> Option<NetworkAnswer> {
        let answers = match self.register(request_id) {
            Ok(answer) => return Some(answer),
            Err(answers) => answers,
        };
        let (sender, cancelled) = bounded(1);
        let _registration = cancel.on_cancel(move || sender.try_send(()).unwrap_or_default());
        let answer = crossbeam_channel::select! {
            recv(answers) -> answer => answer.ok(),
            recv(cancelled) -> _ => None,
            default(deadline.remaining()) => None,
        };
        self.lock().waiting.remove(request_id);
        answer
    }

    /// The answer that is there already, or what to wait for.
    fn register(&self, request_id: &str) -> Result<NetworkAnswer, Receiver<NetworkAnswer>> {
        let mut state = self.lock();
        if let Some(index) = state.early.iter().position(|answer| answer.request_id == request_id)
            && let Some(answer) = state.early.remove(index)
        {
            return Ok(answer);
        }
        let (sender, answers) = bounded(1);
        state.waiting.insert(request_id.to_owned(), sender);
        Err(answers)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn answer(request_id: &str) -> NetworkAnswer {
        NetworkAnswer { request_id: request_id.into(), is_set: true, details: String::new() }
    }

    fn in_a_minute() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    #[test]
    fn answer_is_found_whether_it_comes_before_or_after_it_is_waited_for() {
        let answers = NetworkAnswers::default();
        let cancel = CancelToken::new();
        answers.note(answer("early"));
        assert_eq!(answers.wait("early", in_a_minute(), &cancel), Some(answer("early")));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| answers.wait("late", in_a_minute(), &cancel));
            while answers.lock().waiting.is_empty() {
                std::thread::yield_now();
            }
            answers.note(answer("other"));
            answers.note(answer("late"));
            assert_eq!(waiting.join().unwrap(), Some(answer("late")));
        });
        assert!(answers.lock().waiting.is_empty());
    }

    #[test]
    fn wait_ends_with_its_time_or_a_cancel_and_what_nobody_waits_for_is_bounded() {
        let answers = NetworkAnswers::default();
        let cancel = CancelToken::new();
        assert_eq!(answers.wait("a", Deadline::after(Duration::from_millis(1)), &cancel), None);
        cancel.cancel("enough");
        assert_eq!(answers.wait("a", in_a_minute(), &cancel), None);
        (0..2 * MOST_KEPT).for_each(|number| answers.note(answer(&number.to_string())));
        let state = answers.lock();
        assert_eq!((state.early.len(), state.waiting.len()), (MOST_KEPT, 0));
    }
}
