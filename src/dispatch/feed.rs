//! What blocks as a stream: a thread takes items from it, a bounded channel carries them, and a reader that is gone or slow
//! holds the thread back instead of filling memory.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_channel::{mpsc, oneshot};
use futures_util::Stream;

use super::readers::Readers;
use super::service::{Later, Stepwise};
use crate::cancel::CancelToken;
use crate::error::{Error, Result};
use crate::runtime::adapter::BlockingStream;

/// Items that wait for a slow reader; of output at most 64 KiB each.
const WAITING: usize = 16;

/// Opens it; what cannot be opened is told before the first item.
pub fn open<T: Send + 'static>(
    readers: &Readers,
    open: impl FnOnce(&CancelToken) -> Result<BlockingStream<T>> + Send + 'static,
) -> Later<Stepwise<Result<T>>> {
    let (opened, is_open) = oneshot::channel::<Result<()>>();
    let (sender, receiver) = mpsc::channel(WAITING);
    let token = match readers.feed(move |token| feed(open, token, opened, sender)) {
        Ok(token) => token,
        Err(error) => return Box::pin(std::future::ready(Err(error))),
    };
    let feed = Feed { receiver, token };
    Box::pin(async move {
        let lost = |_| Err(Error::internal("a reader met a fault in this daemon"));
        is_open.await.unwrap_or_else(lost)?;
        let stream: Stepwise<Result<T>> = Box::pin(feed);
        Ok(stream)
    })
}

fn feed<T>(
    open: impl FnOnce(&CancelToken) -> Result<BlockingStream<T>>,
    token: &CancelToken,
    opened: oneshot::Sender<Result<()>>,
    mut sender: mpsc::Sender<Result<T>>,
) {
    let items = match open(token) {
        Ok(items) => items,
        Err(error) => {
            // The asker may be gone.
            let _ = opened.send(Err(error));
            return;
        }
    };
    if opened.send(Ok(())).is_err() {
        return;
    }
    for item in items {
        let item = item.map_err(Error::from);
        let is_last = item.is_err();
        let sent = futures_executor::block_on(futures_util::SinkExt::send(&mut sender, item));
        if sent.is_err() || is_last || token.is_cancelled() {
            return;
        }
    }
}

/// The reader's end; dropping it ends the thread.
struct Feed<T> {
    receiver: mpsc::Receiver<Result<T>>,
    token: CancelToken,
}

impl<T> Stream for Feed<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

impl<T> Drop for Feed<T> {
    fn drop(&mut self) {
        self.token.cancel("nobody reads it any more");
    }
}
