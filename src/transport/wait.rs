//! How a thread of ours waits for something that gRPC's poll threads complete: parked, until it is ready, the time is
//! over, or the work is cancelled. Never on a poll thread.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;

use crate::cancel::CancelToken;
use crate::clock::Deadline;

/// Wakes the thread that waits.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until `future` is ready or the time is over.
pub fn wait_for<F: Future + Unpin>(future: &mut F, deadline: Deadline) -> Option<F::Output> {
    wait_until(future, deadline, || false)
}

/// As [`wait_for`], and ended by the token as well: `None` then, too.
pub fn wait_for_or_cancel<F: Future + Unpin>(
    future: &mut F,
    deadline: Deadline,
    cancel: &CancelToken,
) -> Option<F::Output> {
    let waiting = std::thread::current();
    let _registration = cancel.on_cancel(move || waiting.unpark());
    wait_until(future, deadline, || cancel.is_cancelled())
}

fn wait_until<F: Future + Unpin>(
    future: &mut F,
    deadline: Deadline,
    is_cancelled: impl Fn() -> bool,
) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = Pin::new(&mut *future).poll(&mut cx) {
            return Some(output);
        }
        if deadline.is_over() || is_cancelled() {
            return None;
        }
        std::thread::park_timeout(deadline.remaining());
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use super::*;

    #[test]
    fn wait_ends_with_the_answer_the_deadline_or_the_cancel() {
        let far = Deadline::after(Duration::from_secs(60));
        assert_eq!(wait_for(&mut ready(7), far), Some(7));
        assert_eq!(wait_for(&mut Box::pin(pending::<()>()), Deadline::after(Duration::from_millis(5))), None);
        let token = CancelToken::new();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| wait_for_or_cancel(&mut Box::pin(pending::<()>()), far, &token));
            token.cancel("enough");
            assert_eq!(waiting.join().unwrap(), None);
        });
    }
}
