//! A container's output as a stream: a thread reads it from the engine, a bounded channel carries it, and a reader
//! that is gone or slow holds the thread back instead of filling memory.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_channel::{mpsc, oneshot};
use futures_util::Stream;

use super::readers::Readers;
use super::service::{Later, LogsQuery, Stepwise};
use crate::application::status::Status;
use crate::cancel::CancelToken;
use crate::error::{Error, Result};
use crate::runtime::adapter::LogChunk;

/// Chunks of at most 64 KiB each that wait for a slow reader.
const WAITING: usize = 16;

/// Opens the output; what cannot be opened is told before the first chunk.
pub fn open(readers: &Readers, status: Arc<Status>, query: LogsQuery) -> Later<Stepwise<Result<LogChunk>>> {
    let (opened, is_open) = oneshot::channel::<Result<()>>();
    let (sender, receiver) = mpsc::channel(WAITING);
    let token = match readers.feed(move |token| feed(&status, &query, token, opened, sender)) {
        Ok(token) => token,
        Err(error) => return Box::pin(std::future::ready(Err(error))),
    };
    let feed = LogFeed { receiver, token };
    Box::pin(async move {
        let lost = |_| Err(Error::internal("the reader of a log met a fault in this daemon"));
        is_open.await.unwrap_or_else(lost)?;
        let stream: Stepwise<Result<LogChunk>> = Box::pin(feed);
        Ok(stream)
    })
}

fn feed(
    status: &Status,
    query: &LogsQuery,
    token: &CancelToken,
    opened: oneshot::Sender<Result<()>>,
    mut sender: mpsc::Sender<Result<LogChunk>>,
) {
    let chunks = match status.logs(query, token) {
        Ok(chunks) => chunks,
        Err(error) => {
            // The asker may be gone.
            let _ = opened.send(Err(error));
            return;
        }
    };
    if opened.send(Ok(())).is_err() {
        return;
    }
    for chunk in chunks {
        let chunk = chunk.map_err(Error::from);
        let is_last = chunk.is_err();
        let sent = futures_executor::block_on(futures_util::SinkExt::send(&mut sender, chunk));
        if sent.is_err() || is_last || token.is_cancelled() {
            return;
        }
    }
}

/// The reader's end; dropping it ends the thread.
struct LogFeed {
    receiver: mpsc::Receiver<Result<LogChunk>>,
    token: CancelToken,
}

impl Stream for LogFeed {
    type Item = Result<LogChunk>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.receiver).poll_next(context)
    }
}

impl Drop for LogFeed {
    fn drop(&mut self) {
        self.token.cancel("nobody reads it any more");
    }
}
