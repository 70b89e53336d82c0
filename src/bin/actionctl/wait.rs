//! Waiting for gRPC's futures and streams on the calling thread, with a limit. There is no executor here: the thread
//! parks until it is woken.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

/// Wakes a parked thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future to its end, or gives up after `limit` with `None`.
pub fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    let started = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
        // Woken early or for nothing, the loop only polls once more.
        match limit.checked_sub(started.elapsed()) {
            None | Some(Duration::ZERO) => return None,
            Some(rest) => thread::park_timeout(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[test]
    fn ready_future_is_taken_even_without_time() {
        assert_eq!(within(Duration::ZERO, ready(7)), Some(7));
    }

    #[test]
    fn future_that_never_ends_is_given_up() {
        let limit = Duration::from_millis(20);
        let started = Instant::now();
        assert_eq!(within(limit, pending::<()>()), None);
        assert!(started.elapsed() >= limit);
    }

    #[test]
    fn future_completed_by_another_thread_wakes_the_waiting_one() {
        let (sender, receiver) = crossbeam_channel::bounded::<Waker>(1);
        let thread = thread::Builder::new().name("waker".to_owned()).spawn(move || receiver.recv().unwrap().wake());
        let mut polled = false;
        let future = std::future::poll_fn(|context| {
            if polled {
                return Poll::Ready(());
            }
            polled = true;
            sender.send(context.waker().clone()).unwrap();
            Poll::Pending
        });
        assert_eq!(within(Duration::from_secs(30), future), Some(()));
        thread.unwrap().join().unwrap();
    }
}
