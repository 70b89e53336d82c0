//! [`Client`]: calls to a cluster of etcd: members in turn, users, and what its errors mean.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use grpcio::{CallOption, MetadataBuilder, Method, RpcStatusCode};

use super::{EtcdConfig, NAME, StoreError};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::proto::etcd::AuthenticateRequest;
use crate::proto::etcd_grpc::AUTH_AUTHENTICATE;
use crate::transport::channel::{Bounds, ChannelThreads, Peer, PeerError, Retry};
use crate::transport::duplex::Duplex;

/// Between two rounds over all members, at least and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(800));

/// The least that one member is given to answer, so that a busy one is not taken for a dead one.
const LEAST: Duration = Duration::from_millis(500);

/// A cluster.
pub struct Client {
    members: Vec<Peer>,
    /// The member that answered last.
    good: AtomicUsize,
    user: Option<(String, String)>,
    token: Mutex<String>,
    timeout: Duration,
}

/// What becomes of a call that failed at one member.
enum Failed {
    /// Nothing was done: another member, or a later try, may do it.
    Undone(String),
    /// The user's token is not taken.
    Token(String),
    /// It is over.
    Final(StoreError),
}

impl Client {
    /// The cluster of these members.
    pub fn new(config: EtcdConfig, threads: &ChannelThreads) -> Self {
        let peer = |endpoint: &String| Peer::new(NAME, endpoint.as_str(), threads, config.tls.as_ref());
        Self {
            members: config.endpoints.iter().map(peer).collect(),
            good: AtomicUsize::new(0),
            user: config.user,
            token: Mutex::default(),
            timeout: config.timeout,
        }
    }

    /// A call that changes nothing: it may be asked again.
    pub fn read<Q, R: Unpin>(&self, method: &Method<Q, R>, request: &Q, deadline: Deadline) -> Result<R, StoreError> {
        let ask = |member: &Peer, options, bounds: Bounds<'_>| {
            member.call_with(method, request, options, bounds, Retry::Never)
        };
        self.call(ask, deadline, true)
    }

    /// A call that changes something: it is not sent again where it may have been done.
    pub fn write<Q, R: Unpin>(&self, method: &Method<Q, R>, request: &Q, deadline: Deadline) -> Result<R, StoreError> {
        let ask = |member: &Peer, options, bounds: Bounds<'_>| {
            member.call_with(method, request, options, bounds, Retry::Never)
        };
        self.call(ask, deadline, false)
    }

    /// One message and its answer, of a method that streams; it may be asked again.
    pub fn exchange<Q, R>(&self, method: &Method<Q, R>, message: &Q, deadline: Deadline) -> Result<R, StoreError>
    where
        Q: Clone + Unpin,
        R: Unpin,
    {
        let ask = |member: &Peer, options, bounds: Bounds<'_>| {
            Duplex::exchange(member, method, message.clone(), options, bounds)
        };
        self.call(ask, deadline, true)
    }

    /// Begins a method that streams, with its first messages, up to the first answer, which is given too. Ends with
    /// `cancel`.
    pub fn open<Q, R>(
        &self,
        method: &Method<Q, R>,
        messages: &[Q],
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<(Duplex<Q, R>, R), StoreError>
    where
        Q: Clone + Unpin,
        R: Unpin,
    {
        let ask = |member: &Peer, options, bounds: Bounds<'_>| {
            let bounds = Bounds { cancel, ..bounds };
            let mut call = Duplex::open(member, method, options)?;
            for message in messages {
                call.send(message.clone(), bounds)?;
            }
            match call.next(bounds)? {
                Some(answer) => Ok((call, answer)),
                None => Err(PeerError::Silent {
                    peer: NAME.to_owned(),
                    address: member.address().to_owned(),
                    method: method.name.to_owned(),
                    reason: "it did not answer in time".to_owned(),
                }),
            }
        };
        self.call(ask, deadline, true)
    }

    fn call<R>(
        &self,
        ask: impl Fn(&Peer, CallOption, Bounds<'_>) -> Result<R, PeerError>,
        deadline: Deadline,
        repeats: bool,
    ) -> Result<R, StoreError> {
        let deadline = deadline.at_most(self.timeout);
        let cancel = CancelToken::new();
        let (mut pause, mut renewed) = (PAUSE.0, false);
        let mut last = format!("the time for asking {NAME} was over");
        while !deadline.is_over() {
            let first = self.good.load(Ordering::Relaxed);
            for offset in 0..self.members.len() {
                let index = (first + offset) % self.members.len();
                match self.ask(index, &ask, deadline, repeats) {
                    Ok(answer) => {
                        self.good.store(index, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(Failed::Undone(why)) => last = why,
                    Err(Failed::Token(why)) if renewed => return Err(StoreError::Unavailable(why)),
                    Err(Failed::Token(why)) => {
                        renewed = true;
                        self.forget_token();
                        last = why;
                    }
                    Err(Failed::Final(error)) => return Err(error),
                }
                if deadline.is_over() {
                    break;
                }
            }
            cancel.wait(Urge::Cancel, deadline.at_most(pause));
            pause = (pause * 2).min(PAUSE.1);
        }
        Err(StoreError::Unavailable(last))
    }

    fn ask<R>(
        &self,
        index: usize,
        ask: impl Fn(&Peer, CallOption, Bounds<'_>) -> Result<R, PeerError>,
        deadline: Deadline,
        repeats: bool,
    ) -> Result<R, Failed> {
        let share = self.timeout / u32::try_from(self.members.len().clamp(1, 3)).unwrap_or(1);
        let own = deadline.at_most(share.max(LEAST));
        let member = &self.members[index];
        let options = self.options(member, own)?;
        let cancel = CancelToken::new();
        let bounds = Bounds { deadline: own, cancel: &cancel };
        ask(member, options, bounds).map_err(|error| meaning(error, repeats))
    }

    fn options(&self, member: &Peer, deadline: Deadline) -> Result<CallOption, Failed> {
        let Some((name, password)) = &self.user else { return Ok(CallOption::default()) };
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if token.is_empty() {
            let (name, password) = (name.clone(), password.clone());
            let request = AuthenticateRequest { name, password, ..AuthenticateRequest::default() };
            let cancel = CancelToken::new();
            let bounds = Bounds { deadline, cancel: &cancel };
            let answer = member.call(&AUTH_AUTHENTICATE, &request, bounds, Retry::Never);
            token = answer.map_err(|error| meaning(error, true))?.token;
            self.token.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&token);
        }
        let refused = |error: grpcio::Error| {
            Failed::Final(StoreError::Unavailable(format!("{NAME}'s token cannot be sent: {error}")))
        };
        let mut headers = MetadataBuilder::with_capacity(1);
        headers.add_str("token", &token).map_err(refused)?;
        Ok(CallOption::default().headers(headers.build()))
    }

    /// The next call asks another member first: this one failed in a way that no call has seen.
    pub fn pass_on(&self) {
        let next = (self.good.load(Ordering::Relaxed) + 1) % self.members.len().max(1);
        self.good.store(next, Ordering::Relaxed);
    }

    /// The user logs in again with the next call.
    pub fn forget_token(&self) {
        self.token.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

/// What a failure in the middle of a call means.
pub(super) fn meaning_of(error: PeerError) -> StoreError {
    match meaning(error, false) {
        Failed::Undone(why) | Failed::Token(why) => StoreError::Unavailable(why),
        Failed::Final(error) => error,
    }
}

/// What a failure means for a call that may be repeated, or may not.
fn meaning(error: PeerError, repeats: bool) -> Failed {
    let text = error.to_string();
    let away = |text: String| Failed::Final(StoreError::Unavailable(text));
    match error {
        PeerError::Away { .. } => Failed::Undone(text),
        // These etcd says before it does anything.
        PeerError::Silent { ref reason, .. } if reason.contains("etcdserver: no leader") => Failed::Undone(text),
        PeerError::Silent { .. } if repeats => Failed::Undone(text),
        PeerError::Silent { .. } | PeerError::Cancelled { .. } => away(text),
        PeerError::Refused { code, ref message, .. } => match code {
            RpcStatusCode::RESOURCE_EXHAUSTED if message.contains("space exceeded") => {
                Failed::Final(StoreError::Full(text))
            }
            RpcStatusCode::RESOURCE_EXHAUSTED if message.contains("too many requests") => Failed::Undone(text),
            RpcStatusCode::UNAUTHENTICATED => Failed::Token(text),
            // Users or roles have changed since the token was given.
            RpcStatusCode::INVALID_ARGUMENT
                if message.contains("auth store is old") || message.contains("user name is empty") =>
            {
                Failed::Token(text)
            }
            // etcd's own bound, and that of its gRPC server.
            RpcStatusCode::INVALID_ARGUMENT | RpcStatusCode::RESOURCE_EXHAUSTED
                if message.contains("too large") || message.contains("larger than max") =>
            {
                let key = "a batch".to_owned();
                Failed::Final(StoreError::Damaged { key, reason: message.clone() })
            }
            _ => away(text),
        },
    }
}
