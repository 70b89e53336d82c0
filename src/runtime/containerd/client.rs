//! [`Client`]: calls to one containerd, in one of its namespaces and under a lease, and what its refusals mean.
//!
//! Source: the API of containerd 1.6 (`api/` there); namespaces and leases travel as metadata (`namespaces/grpc.go`,
//! `leases/grpc.go`). Codes say what a refusal is (`errdefs/grpc.go`).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use grpcio::{CallOption, MetadataBuilder, Method, RpcStatusCode};
use protobuf::MessageField;

use super::ENGINE;
use crate::cancel::Urge;
use crate::proto::containerd_namespaces::{CreateNamespaceRequest, Namespace};
use crate::proto::containerd_namespaces_grpc::NAMESPACES_CREATE;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::transport::channel::{Bounds, ChannelThreads, Peer, PeerError, Retry};
use crate::transport::duplex::Duplex;
use crate::transport::inflow::Inflow;
use crate::transport::unix;

/// How long a connection that somebody takes may need: gRPC's core leaves one that was refused alone for up to 2 s.
const RECONNECT_LIMIT: Duration = Duration::from_secs(3);

/// Between two tries to use it.
const RECONNECT_PAUSE: Duration = Duration::from_millis(50);

/// How long a look may take whether anybody takes connections.
const KNOCK_LIMIT: Duration = Duration::from_secs(1);

/// The most messages that one request is answered with.
const MOST_MESSAGES: usize = 65_536;

/// The namespace of the CRI, where its image service puts what it pulls.
pub(super) const CRI: &str = "k8s.io";

/// A refusal, before the caller says what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) op: String,
    pub(super) code: RpcStatusCode,
    pub(super) message: String,
}

/// How a call fails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// containerd says no.
    Refused(Refusal),
    /// It was not asked, or has not answered.
    Failed(RuntimeError),
}

/// What came of a call.
pub(super) type Asked<T> = Result<T, Failure>;

impl Failure {
    /// Whether it is a refusal with this code.
    pub(super) fn is(&self, code: RpcStatusCode) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.code == code)
    }

    /// The object is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.is(RpcStatusCode::NOT_FOUND)
    }

    /// The object is there already.
    pub(super) fn is_taken(&self) -> bool {
        self.is(RpcStatusCode::ALREADY_EXISTS)
    }
}

impl From<Failure> for RuntimeError {
    fn from(failure: Failure) -> Self {
        let refusal = match failure {
            Failure::Failed(error) => return error,
            Failure::Refused(refusal) => refusal,
        };
        let Refusal { op, code, message } = refusal;
        match code {
            RpcStatusCode::NOT_FOUND => Self::NotFound { what: message },
            RpcStatusCode::ALREADY_EXISTS => Self::AlreadyExists { what: message, detail: String::new() },
            RpcStatusCode::INVALID_ARGUMENT => Self::InvalidSpec { reason: message },
            RpcStatusCode::PERMISSION_DENIED => Self::PermissionDenied { reason: message },
            other => Self::Engine { engine: ENGINE.to_owned(), op, code: i64::from(i32::from(other)), message },
        }
    }
}

/// The answer where the object is there.
pub(super) fn present<T>(asked: Asked<T>) -> RtResult<Option<T>> {
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(failure) if failure.is_missing() => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

/// Whether it was deleted; it may be gone already.
pub(super) fn deleted<T>(asked: Asked<T>) -> RtResult<bool> {
    present(asked).map(|found| found.is_some())
}

/// Talks to one containerd.
pub(super) struct Client {
    socket: PathBuf,
    peer: Peer,
    namespace: String,
    /// Whether our namespace is known to be there.
    is_made: AtomicBool,
}

/// Where a call is carried out.
#[derive(Clone, Copy)]
pub(super) struct Scope<'a> {
    client: &'a Client,
    namespace: &'a str,
    /// What is made belongs to it.
    lease: Option<&'a str>,
}

impl Client {
    /// For a containerd on this socket, which need not be there yet.
    pub(super) fn new(socket: &Path, namespace: &str, threads: &ChannelThreads) -> Self {
        let peer = Peer::new(ENGINE, format!("unix://{}", socket.display()), threads, None);
        Self { socket: socket.to_owned(), peer, namespace: namespace.to_owned(), is_made: AtomicBool::new(false) }
    }

    /// Its socket.
    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// The name of our namespace.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Our namespace.
    pub(super) fn own(&self) -> Scope<'_> {
        Scope { client: self, namespace: &self.namespace, lease: None }
    }

    /// That of the CRI.
    pub(super) fn cri(&self) -> Scope<'_> {
        Scope { client: self, namespace: CRI, lease: None }
    }

    /// Makes our namespace, where it is not known to be there. Without it nothing can be made in it.
    pub(super) fn ensure_namespace(&self, call: &Call) -> RtResult<()> {
        if self.is_made.load(Ordering::Relaxed) {
            return Ok(());
        }
        let namespace = Namespace { name: self.namespace.clone(), ..Namespace::default() };
        let request = CreateNamespaceRequest { namespace: MessageField::some(namespace), ..Default::default() };
        match self.own().ask(call, "namespace create", &NAMESPACES_CREATE, &request) {
            Err(failure) if !failure.is_taken() => return Err(failure.into()),
            Ok(_) | Err(_) => {}
        }
        self.is_made.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// After a time of absence it may be another containerd, which knows no namespace of ours.
    pub(super) fn forget(&self) {
        self.is_made.store(false, Ordering::Relaxed);
    }

    /// Runs `ask`, again for a while where gRPC's core still holds the connection for broken and somebody takes
    /// connections again: nothing was sent then.
    fn reaching<T>(&self, call: &Call, op: &str, mut ask: impl FnMut() -> Result<T, PeerError>) -> Asked<T> {
        let begun = Instant::now();
        let limit = call.deadline.at_most(RECONNECT_LIMIT);
        loop {
            let error = match ask() {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let PeerError::Away { .. } = error else { return Err(self.failure(call, op, begun, error)) };
            self.forget();
            if let Err(error) = unix::knock(&self.socket, call.deadline.at_most(KNOCK_LIMIT), call.cancel) {
                return Err(Failure::Failed(self.away(&error)));
            }
            if limit.is_over() || call.cancel.wait(Urge::Cancel, limit.at_most(RECONNECT_PAUSE)) == Urge::Cancel {
                return Err(self.failure(call, op, begun, error));
            }
        }
    }

    fn away(&self, error: &io::Error) -> RuntimeError {
        let reason = match error.kind() {
            io::ErrorKind::NotFound => format!("there is no socket at {}", self.socket.display()),
            _ => format!("{} takes no connections: {error}", self.socket.display()),
        };
        RuntimeError::EngineNotAvailable { engine: ENGINE.to_owned(), reason }
    }

    fn failure(&self, call: &Call, op: &str, begun: Instant, error: PeerError) -> Failure {
        let (engine, op) = (ENGINE.to_owned(), op.to_owned());
        let reason = error.to_string();
        Failure::Failed(match error {
            PeerError::Refused { code, message, .. } => return Failure::Refused(Refusal { op, code, message }),
            PeerError::Cancelled { .. } => RuntimeError::Cancelled { op },
            PeerError::Away { reason, .. } => RuntimeError::EngineNotAvailable { engine, reason },
            PeerError::Silent { .. } if call.cancel.is_cancelled() => RuntimeError::Cancelled { op },
            PeerError::Silent { .. } if call.deadline.is_over() => RuntimeError::Timeout { op, after: begun.elapsed() },
            PeerError::Silent { .. } => RuntimeError::Connection { engine, op, reason },
        })
    }
}

fn bounds<'a>(call: &Call<'a>) -> Bounds<'a> {
    Bounds { deadline: call.deadline, cancel: call.cancel }
}

impl<'a> Scope<'a> {
    /// The same, with what is made belonging to a lease.
    pub(super) fn under(self, lease: &'a str) -> Self {
        Self { lease: Some(lease), ..self }
    }

    /// The containerd.
    pub(super) fn client(self) -> &'a Client {
        self.client
    }

    fn options(self, op: &str) -> Asked<CallOption> {
        let mut headers = MetadataBuilder::with_capacity(2);
        let pairs = [("containerd-namespace", Some(self.namespace)), ("containerd-lease", self.lease)];
        for (key, value) in pairs {
            let Some(value) = value else { continue };
            headers.add_str(key, value).map_err(|error| {
                Failure::Failed(RuntimeError::InvalidSpec { reason: format!("{op}: {key} '{value}': {error}") })
            })?;
        }
        Ok(CallOption::default().headers(headers.build()))
    }

    /// One request, one answer.
    pub(super) fn ask<Q, R: Unpin>(self, call: &Call, op: &str, method: &Method<Q, R>, request: &Q) -> Asked<R> {
        let options = self.options(op)?;
        let peer = &self.client.peer;
        self.client.reaching(call, op, || peer.call_with(method, request, options.clone(), bounds(call), Retry::Never))
    }

    /// One request, and messages until there are no more; of too many none are given.
    pub(super) fn collect<Q, R: Unpin>(
        self,
        call: &Call,
        op: &str,
        method: &Method<Q, R>,
        request: &Q,
    ) -> Asked<Vec<R>> {
        let options = self.options(op)?.timeout(call.deadline.remaining());
        self.client.reaching(call, op, || {
            let mut stream = Inflow::open(&self.client.peer, method, request, options.clone())?;
            let mut messages = Vec::new();
            while let Some(message) = stream.next(bounds(call))? {
                if messages.len() == MOST_MESSAGES {
                    let (peer, method) = (ENGINE.to_owned(), op.to_owned());
                    let message = format!("there are more than {MOST_MESSAGES} messages");
                    return Err(PeerError::Refused { peer, method, code: RpcStatusCode::RESOURCE_EXHAUSTED, message });
                }
                messages.push(message);
            }
            Ok(messages)
        })
    }

    /// One request, with messages that come until it is cancelled.
    pub(super) fn open<Q, R: Unpin>(self, op: &str, method: &Method<Q, R>, request: &Q) -> Asked<Inflow<R>> {
        let options = self.options(op)?;
        Inflow::open(&self.client.peer, method, request, options).map_err(|error| {
            let engine = ENGINE.to_owned();
            let (op, reason) = (op.to_owned(), error.to_string());
            Failure::Failed(RuntimeError::Connection { engine, op, reason })
        })
    }

    /// The next message of such a call; `None` at its end.
    pub(super) fn next<R: Unpin>(self, call: &Call, op: &str, stream: &mut Inflow<R>) -> Asked<Option<R>> {
        let begun = Instant::now();
        stream.next(bounds(call)).map_err(|error| self.client.failure(call, op, begun, error))
    }

    /// One message of a call in which both sides may send several, and the answer to it.
    pub(super) fn exchange<Q, R>(self, call: &Call, op: &str, method: &Method<Q, R>, message: &Q) -> Asked<R>
    where
        Q: Clone + Unpin,
        R: Unpin,
    {
        let options = self.options(op)?;
        self.client.reaching(call, op, || {
            Duplex::exchange(&self.client.peer, method, message.clone(), options.clone(), bounds(call))
        })
    }
}

/// A call whose time is this deadline at most.
pub(super) fn within<'a>(call: &Call<'a>, limit: Duration) -> Call<'a> {
    Call { deadline: call.deadline.at_most(limit), ..*call }
}
