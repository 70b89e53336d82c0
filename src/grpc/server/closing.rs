//! [`Closing`]: how calls that wait are told that the server ends, so that none of them holds it up.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

#[derive(Default)]
struct State {
    closed: bool,
    waiting: BTreeMap<u64, Waker>,
    next: u64,
}

/// A flag that wakes those who wait beside it.
#[derive(Default)]
pub(super) struct Closing(Mutex<State>);

impl Closing {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends every wait, those to come too.
    pub fn close(&self) {
        let waiting = {
            let mut state = self.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }

    /// What `future` gives, or `None` once closed.
    pub fn or<F: Future + Unpin>(&self, future: F) -> OrClosed<'_, F> {
        OrClosed { closing: self, id: None, future }
    }
}

/// See [`Closing::or`].
pub(super) struct OrClosed<'a, F> {
    closing: &'a Closing,
    id: Option<u64>,
    future: F,
}

impl<F: Future + Unpin> Future for OrClosed<'_, F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        {
            // Registered before the future is asked: a close between the two is not missed.
            let mut state = self.closing.lock();
            if state.closed {
                return Poll::Ready(None);
            }
            let id = self.id.unwrap_or(state.next);
            state.next = state.next.max(id + 1);
            state.waiting.insert(id, cx.waker().clone());
            drop(state);
            self.id = Some(id);
        }
        Pin::new(&mut self.future).poll(cx).map(Some)
    }
}

impl<F> Drop for OrClosed<'_, F> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.closing.lock().waiting.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl Wake for Counted {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn close_wakes_each_wait_once_and_ends_it() {
        let closing = Closing::default();
        let woken = Arc::new(Counted::default());
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut first = closing.or(std::future::pending::<()>());
        let mut second = closing.or(std::future::pending::<()>());
        assert!(Pin::new(&mut first).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut first).poll(&mut cx).is_pending());
        assert!(Pin::new(&mut second).poll(&mut cx).is_pending());
        closing.close();
        assert_eq!(woken.0.load(Ordering::SeqCst), 2);
        assert_eq!(Pin::new(&mut first).poll(&mut cx), Poll::Ready(None));
    }

    #[test]
    fn wait_that_is_over_is_forgotten() {
        let closing = Closing::default();
        let mut cx = Context::from_waker(Waker::noop());
        let mut wait = closing.or(std::future::ready(7));
        assert_eq!(Pin::new(&mut wait).poll(&mut cx), Poll::Ready(Some(7)));
        drop(wait);
        assert!(closing.lock().waiting.is_empty());
    }
}
