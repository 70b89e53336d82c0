//! [`Calls`]: what every handler does with a call. It begins the work on the poll thread, where nothing may block,
//! waits for it on the call's own executor, and answers.
//!
//! A call whose client is gone loses its stream within a wake-up; a unary one ends when its work does. Work that panics
//! answers INTERNAL and never takes a poll thread with it.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use futures_util::Sink;
use grpcio::{RpcContext, RpcStatus, ServerStreamingSink, UnarySink, WriteFlags};

use super::closing::Closing;
use super::streams::Streams;
use crate::dispatch::service::{Later, Pullpiri, Service, Services, Stepwise};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::grpc::status;

/// What handlers ask; a name for it, because only so closures take it whatever the lifetime of the reference.
pub(super) type Served = dyn Service;
/// Likewise.
pub(super) type ServedPullpiri = dyn Pullpiri;
/// Likewise.
pub(super) type ServedServices = dyn Services;

/// What all calls to one service share.
pub(super) struct Calls<S: ?Sized = dyn Service> {
    /// `None` once the server has stopped. gRPC keeps copies of handlers as long as it likes; this one reference is what
    /// they reach the service by, and it is taken away.
    service: RwLock<Option<Arc<S>>>,
    streams: Arc<Streams>,
    /// Ends the calls that may be without end.
    endless: Closing,
    /// Ends all others.
    closing: Closing,
}

/// What a call is about.
pub(super) struct Subject {
    /// Its object, for the log.
    about: String,
    /// Whether it may go on for as long as the daemon does, so that a stop does not wait for it.
    endless: bool,
}

impl From<String> for Subject {
    fn from(about: String) -> Self {
        Self { about, endless: false }
    }
}

impl Subject {
    /// A call that a stop does not wait for, where `endless` holds.
    pub fn new(about: String, endless: bool) -> Self {
        Self { about, endless }
    }
}

impl<S: ?Sized + Send + Sync + 'static> Calls<S> {
    /// Calls that reach `service`, with its streams counted by `streams`.
    pub fn new(service: Arc<S>, streams: Streams) -> Self {
        Self {
            service: RwLock::new(Some(service)),
            streams: Arc::new(streams),
            endless: Closing::default(),
            closing: Closing::default(),
        }
    }

    /// The service, or that the daemon is stopping.
    pub fn service(&self) -> Result<Arc<S>> {
        self.service.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(stopping)
    }

    /// Ends those calls with UNAVAILABLE that a stop does not wait for.
    pub fn close_endless(&self) {
        self.endless.close();
    }

    /// Lets go of the service and ends every waiting call with UNAVAILABLE.
    pub fn close(&self) {
        self.service.write().unwrap_or_else(PoisonError::into_inner).take();
        self.endless.close();
        self.closing.close();
    }

    /// Answers a unary call with what `begin` starts, once `finish` has put it into the wire's form.
    pub fn answer<T, Q>(
        self: &Arc<Self>,
        context: &RpcContext<'_>,
        sink: UnarySink<Q>,
        subject: impl Into<Subject>,
        begin: impl FnOnce(&S) -> Result<Later<T>>,
        finish: impl FnOnce(T) -> std::result::Result<Q, RpcStatus> + Send + 'static,
    ) where
        T: Send + 'static,
        Q: Send + 'static,
    {
        let calls = Arc::clone(self);
        let method = method(context);
        let Subject { about, endless } = subject.into();
        let begun = self.begin(begin);
        context.spawn(async move {
            let result = match begun {
                Ok(later) => calls.wait(later, endless).await,
                Err(error) => Err(error),
            };
            let sent = match result.map_err(|error| status::of_error(&error)).and_then(finish) {
                Ok(answer) => sink.success(answer),
                Err(status) => {
                    log::debug!("{method} of '{about}' answers {status}", status = brief(&status));
                    sink.fail(status)
                }
            };
            if let Err(error) = sent.await {
                log::debug!("the answer to {method} of '{about}' did not reach its caller: {error}");
            }
        });
    }

    /// Answers a streaming call with the items of the stream that `begin` starts, each put into the wire's form by
    /// `encode`. An item that cannot be encoded ends the stream with its error. The next item is taken only when the
    /// one before is out.
    pub fn stream<T, Q>(
        self: &Arc<Self>,
        context: &RpcContext<'_>,
        mut sink: ServerStreamingSink<Q>,
        subject: impl Into<Subject>,
        begin: impl FnOnce(&S) -> Result<Later<Stepwise<T>>>,
        encode: fn(T) -> Result<Q>,
    ) where
        T: Send + 'static,
        Q: Send + 'static,
    {
        let calls = Arc::clone(self);
        let method = method(context);
        let Subject { about, endless } = subject.into();
        let begun = self.streams.open(&context.peer()).and_then(|slot| Ok((slot, self.begin(begin)?)));
        context.spawn(async move {
            let ended = match begun {
                Ok((_slot, later)) => calls.forward(later, &mut sink, encode, endless).await,
                Err(error) => End::Failed(error),
            };
            let sent = match ended {
                End::Complete => poll_fn(|cx| Pin::new(&mut sink).poll_close(cx)).await,
                End::Failed(error) => sink.fail(status::of_error(&error)).await,
                End::Gone => Err(grpcio::Error::RemoteStopped),
            };
            if let Err(error) = sent {
                log::debug!("the stream of {method} of '{about}' ended early: {error}");
            }
        });
    }

    fn end_of(&self, endless: bool) -> &Closing {
        if endless { &self.endless } else { &self.closing }
    }

    fn begin<T>(&self, begin: impl FnOnce(&S) -> Result<T>) -> Result<T> {
        let service = self.service()?;
        guarded(|| begin(&*service))?
    }

    /// What `later` gives, or that the daemon is stopping.
    async fn wait<T>(&self, mut later: Later<T>, endless: bool) -> Result<T> {
        let polled = poll_fn(move |cx| flat(guarded(|| later.as_mut().poll(cx))));
        self.end_of(endless).or(polled).await.unwrap_or_else(|| Err(stopping()))
    }

    /// Sends items until there is no more, or no one to send them to.
    async fn forward<T, Q>(
        &self,
        mut later: Later<Stepwise<T>>,
        sink: &mut ServerStreamingSink<Q>,
        encode: fn(T) -> Result<Q>,
        endless: bool,
    ) -> End {
        let end = self.end_of(endless);
        let opened = poll_fn(|cx| {
            if ready_or_gone(sink, cx)?.is_pending() {
                return Poll::Pending;
            }
            flat(guarded(|| later.as_mut().poll(cx))).map_err(End::Failed)
        });
        let mut source = match end.or(opened).await {
            None => return End::Failed(stopping()),
            Some(Err(end)) => return end,
            Some(Ok(source)) => source,
        };
        drop(later);
        loop {
            let sent = poll_fn(|cx| send_next(&mut source, sink, encode, cx));
            match end.or(sent).await {
                None => return End::Failed(stopping()),
                Some(Err(end)) => return end,
                Some(Ok(())) => {}
            }
        }
    }
}

/// How a stream ends.
enum End {
    /// There is no more.
    Complete,
    /// With an error for the client.
    Failed(Error),
    /// The client is gone.
    Gone,
}

/// Whether the sink takes an item; an error when the client is gone. Asked even while there is nothing to send, because
/// asking is what makes the client's end wake the call.
fn ready_or_gone<Q>(sink: &mut ServerStreamingSink<Q>, cx: &mut Context<'_>) -> std::result::Result<Poll<()>, End> {
    match Pin::new(sink).poll_ready(cx) {
        Poll::Pending => Ok(Poll::Pending),
        Poll::Ready(Ok(())) => Ok(Poll::Ready(())),
        Poll::Ready(Err(_)) => Err(End::Gone),
    }
}

/// Hands the next item to the sink once the one before is out.
fn send_next<T, Q>(
    source: &mut Stepwise<T>,
    sink: &mut ServerStreamingSink<Q>,
    encode: fn(T) -> Result<Q>,
    cx: &mut Context<'_>,
) -> Poll<std::result::Result<(), End>> {
    if ready_or_gone(sink, cx)?.is_pending() {
        return Poll::Pending;
    }
    let item = match ready!(guarded(|| source.as_mut().poll_next(cx)).map_err(End::Failed)?) {
        None => return Poll::Ready(Err(End::Complete)),
        Some(item) => encode(item).map_err(End::Failed)?,
    };
    // Without a buffer hint the sink gives the item to gRPC at once; `poll_ready` says when it is out.
    let sent = Pin::new(sink).start_send((item, WriteFlags::default()));
    Poll::Ready(sent.map_err(|_| End::Gone))
}

/// Runs foreign code so that its panic is an error.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| Error::internal("a fault in the daemon ended the call"))
}

fn flat<T>(polled: Result<Poll<Result<T>>>) -> Poll<Result<T>> {
    polled.unwrap_or_else(|error| Poll::Ready(Err(error)))
}

fn method(context: &RpcContext<'_>) -> String {
    String::from_utf8_lossy(context.method()).into_owned()
}

/// Code and message, without the bytes of the details.
fn brief(status: &RpcStatus) -> String {
    format!("{}: {}", status.code(), status.message())
}

/// The refusal of a daemon that ends.
fn stopping() -> Error {
    Error::new(ErrorKind::Unavailable, ErrorCode::Stopping, "the daemon is stopping")
        .hint("an accepted action is recorded; ask for it by its id when the daemon is back")
}
