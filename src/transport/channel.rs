//! [`Peer`]: one gRPC server that this daemon calls, over one connection that is kept.
//!
//! The connection is made at the first call and again by gRPC's core when it broke; a call while it cannot be had fails
//! at once instead of waiting. A call is bounded by its deadline and ended by its token. Retries are the caller's to
//! choose ([`Retry`]), because only it knows what may be done twice.

use std::sync::Arc;
use std::time::Duration;

use grpcio::{
    CallOption, ChannelBuilder, ChannelCredentials, ChannelCredentialsBuilder, Client, EnvBuilder, Environment, Method,
    RpcStatus, RpcStatusCode,
};

use super::wait::wait_for_or_cancel;
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;

/// The longest that a broken connection is left alone before it is tried again.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Between two tries of a call that may be repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// The largest answer that is taken, bytes: what peers of Pullpiri take as well.
const MAX_ANSWER: i32 = 4 << 20;

/// After this long without an answer to anything a connection with calls under way is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(20);

/// How long the peer has to give one.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The threads that carry the calls of all peers.
#[derive(Clone)]
pub struct ChannelThreads(Arc<Environment>);

impl ChannelThreads {
    /// One thread: calls are few, and answers are handed on at once.
    pub fn start() -> Self {
        Self(Arc::new(EnvBuilder::new().cq_count(1).name_prefix("grpc-client").build()))
    }
}

/// What a connection is secured with: PEM texts.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of the authorities that are trusted; empty takes the system's.
    pub authorities: Vec<u8>,
    /// This client's own certificate and key; `None` shows none.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in the server's certificate; empty takes the address's host.
    pub server_name: String,
}

/// How a call fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peer was not reached: it has not acted.
    #[error("{peer} does not answer at '{address}': {reason}")]
    Away {
        /// Who.
        peer: String,
        /// Where.
        address: String,
        /// Why, in gRPC's words.
        reason: String,
    },
    /// The connection broke during the call, or the time was over: whether the peer has acted is not known.
    #[error("{peer} at '{address}' did not answer {method}: {reason}")]
    Silent {
        /// Who.
        peer: String,
        /// Where.
        address: String,
        /// What was asked.
        method: String,
        /// Why, in gRPC's words, or how long was waited.
        reason: String,
    },
    /// The call was cancelled by its token.
    #[error("asking {peer} was cancelled")]
    Cancelled {
        /// Who.
        peer: String,
    },
    /// The peer answered with an error.
    #[error("{peer} answers {method} with {code}: {message}")]
    Refused {
        /// Who.
        peer: String,
        /// What was asked.
        method: String,
        /// gRPC's code.
        code: RpcStatusCode,
        /// The peer's words.
        message: String,
    },
}

impl PeerError {
    /// Whether the peer has certainly not acted.
    pub fn is_without_effect(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Silent { .. } | Self::Cancelled { .. } | Self::Refused { .. } => false,
        }
    }
}

/// Whether a call is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Not at all.
    Never,
    /// While the peer is away, until the deadline: it has not acted then.
    WhileAway,
    /// Also after silence: doing it twice is doing it once.
    Idempotent,
}

/// The bounds of a call.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// When its time is over.
    pub deadline: Deadline,
    /// Ends it.
    pub cancel: &'a CancelToken,
}

/// A server that is called. Clones share the connection.
#[derive(Clone)]
pub struct Peer {
    name: String,
    address: String,
    client: Client,
}

impl Peer {
    /// The peer `name` (as errors call it) at `address`, `host:port` or `unix:///path`. Connects at the first call.
    pub fn new(
        name: impl Into<String>,
        address: impl Into<String>,
        threads: &ChannelThreads,
        tls: Option<&Tls>,
    ) -> Self {
        let (name, address) = (name.into(), address.into());
        let mut builder = ChannelBuilder::new(Arc::clone(&threads.0))
            .initial_reconnect_backoff(RECONNECT.0)
            .max_reconnect_backoff(RECONNECT.1)
            .max_receive_message_len(MAX_ANSWER)
            .keepalive_time(KEEPALIVE)
            .keepalive_timeout(KEEPALIVE_TIMEOUT)
            .enable_http_proxy(false)
            // Two peers at one address are two connections: what one does to its own does not touch the other.
            .use_local_subchannel_pool(true);
        builder = match tls {
            Some(tls) => {
                let secured = builder.set_credentials(credentials(tls));
                if tls.server_name.is_empty() { secured } else { secured.override_ssl_target(tls.server_name.as_str()) }
            }
            None => builder.set_credentials(ChannelCredentials::insecure()),
        };
        let client = Client::new(builder.connect(&address));
        Self { name, address, client }
    }

    /// As errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// For calls that stream.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// One request, one answer.
    pub fn call<Q, R: Unpin>(
        &self,
        method: &Method<Q, R>,
        request: &Q,
        bounds: Bounds<'_>,
        retry: Retry,
    ) -> Result<R, PeerError> {
        self.call_with(method, request, CallOption::default(), bounds, retry)
    }

    /// As [`Peer::call`], with options of the call's own such as headers.
    pub fn call_with<Q, R: Unpin>(
        &self,
        method: &Method<Q, R>,
        request: &Q,
        options: CallOption,
        bounds: Bounds<'_>,
        retry: Retry,
    ) -> Result<R, PeerError> {
        // After a silence nobody knows whether the peer has acted, also where it is away by now.
        let mut silence = None;
        loop {
            let error = match self.call_once(method, request, options.clone(), bounds) {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            if matches!(error, PeerError::Silent { .. }) {
                silence.get_or_insert_with(|| error.clone());
            }
            let again = match (&error, retry) {
                (PeerError::Away { .. }, Retry::WhileAway | Retry::Idempotent) => true,
                (PeerError::Silent { .. }, Retry::Idempotent) => true,
                (
                    PeerError::Away { .. }
                    | PeerError::Silent { .. }
                    | PeerError::Cancelled { .. }
                    | PeerError::Refused { .. },
                    _,
                ) => false,
            };
            let pause = bounds.deadline.at_most(RETRY_PAUSE);
            if !again || bounds.deadline.is_over() || bounds.cancel.wait(Urge::Cancel, pause) == Urge::Cancel {
                return Err(match error {
                    PeerError::Away { .. } => silence.unwrap_or(error),
                    PeerError::Silent { .. } | PeerError::Cancelled { .. } | PeerError::Refused { .. } => error,
                });
            }
        }
    }

    fn call_once<Q, R: Unpin>(
        &self,
        method: &Method<Q, R>,
        request: &Q,
        options: CallOption,
        bounds: Bounds<'_>,
    ) -> Result<R, PeerError> {
        if bounds.cancel.is_cancelled() {
            return Err(self.cancelled());
        }
        let budget = bounds.deadline.remaining();
        let sent = self.client.unary_call_async(method, request, options.timeout(budget));
        let mut answer = sent.map_err(|error| self.error(method.name, error))?;
        match wait_for_or_cancel(&mut answer, bounds.deadline, bounds.cancel) {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(error)) => Err(self.error(method.name, error)),
            None => {
                answer.cancel();
                if bounds.cancel.is_cancelled() {
                    return Err(self.cancelled());
                }
                Err(self.silent(method.name, format!("no answer within {} ms", budget.as_millis())))
            }
        }
    }

    /// gRPC's failure of a call in our words.
    pub fn error(&self, method: &str, error: grpcio::Error) -> PeerError {
        match error {
            grpcio::Error::RpcFailure(status) | grpcio::Error::RpcFinished(Some(status)) => self.failed(method, status),
            other => self.silent(method, other.to_string()),
        }
    }

    fn failed(&self, method: &str, status: RpcStatus) -> PeerError {
        match status.code() {
            RpcStatusCode::UNAVAILABLE if was_not_reached(status.message()) => PeerError::Away {
                peer: self.name.clone(),
                address: self.address.clone(),
                reason: status.message().to_owned(),
            },
            // A server that dies in a call, or whose handler panics, ends the stream with one of these.
            RpcStatusCode::UNAVAILABLE | RpcStatusCode::DEADLINE_EXCEEDED | RpcStatusCode::CANCELLED => {
                self.silent(method, status.message().to_owned())
            }
            code => PeerError::Refused {
                peer: self.name.clone(),
                method: short(method),
                code,
                message: status.message().to_owned(),
            },
        }
    }

    pub(super) fn cancelled(&self) -> PeerError {
        PeerError::Cancelled { peer: self.name.clone() }
    }

    pub(super) fn silent(&self, method: &str, reason: String) -> PeerError {
        PeerError::Silent { peer: self.name.clone(), address: self.address.clone(), method: short(method), reason }
    }
}

/// Whether gRPC's core says that it had no connection: then nothing was sent.
fn was_not_reached(message: &str) -> bool {
    ["failed to connect", "Failed to connect", "DNS resolution failed", "Empty update", "connections to all backends"]
        .iter()
        .any(|words| message.contains(words))
}

/// `/package.Service/Method` without the package.
fn short(method: &str) -> String {
    let path = method.trim_start_matches('/');
    path.rsplit_once('.').map_or(path, |(_, rest)| rest).replace('/', ".")
}

fn credentials(tls: &Tls) -> ChannelCredentials {
    let mut builder = ChannelCredentialsBuilder::new();
    if !tls.authorities.is_empty() {
        builder = builder.root_cert(tls.authorities.clone());
    }
    if let Some((certificate, key)) = &tls.identity {
        builder = builder.cert(certificate.clone(), key.clone());
    }
    builder.build()
}
