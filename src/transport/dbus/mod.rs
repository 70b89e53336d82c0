//! D-Bus over zbus, on a bus's unix socket: calls that end with a deadline or a cancelled token, and signals.
//!
//! [`Bus`] is the door; `live` is one connection, which is kept and made anew after it was lost, `address` where the bus
//! is. zbus writes and reads messages and says who we are; it calls nobody: its own calls know no token, and one deadline
//! for all. Whom the calls are for, and what their answers mean, stays out.
//!
//! A connection has two threads of ours, one that writes and one that reads, and one of zbus's. All end when its socket is
//! closed, which needs nothing of the peer, so that one that hangs keeps none of them.
//!
//! Source: the D-Bus specification 0.41.

mod address;
mod live;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, never, select};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::zvariant::{DynamicType, Type};
pub use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};
pub use zbus::{Message, zvariant};

pub use self::address::Address;
use self::live::{Live, Subscriber};
use crate::cancel::{CancelToken, Registration};
use crate::clock::Deadline;

/// The system's bus.
pub const SYSTEM_BUS: &str = "/run/dbus/system_bus_socket";

/// Signals that one subscriber may leave unread; more are dropped, and it is told so.
const MOST_SIGNALS: usize = 1024;

/// The bus itself.
pub const DRIVER: Target<'static> =
    Target { destination: "org.freedesktop.DBus", path: "/org/freedesktop/DBus", interface: "org.freedesktop.DBus" };

/// Properties of objects, and their changes.
pub const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// How a call fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DbusError {
    /// Nobody answers on the socket, or nobody has the name. Nothing was carried out.
    #[error("{0}")]
    Away(String),
    /// The time was over; whether the call was carried out is not known.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The token was cancelled; likewise.
    #[error("cancelled")]
    Cancelled,
    /// The connection broke; likewise.
    #[error("the connection to the bus broke: {0}")]
    Closed(String),
    /// The peer refused, in its words.
    #[error("{message} ({name})")]
    Refused {
        /// The error's name, as `org.freedesktop.systemd1.NoSuchUnit`.
        name: String,
        /// Its text.
        message: String,
    },
    /// What came, or was to be sent, is not what was agreed.
    #[error("{0}")]
    Protocol(String),
}

/// Whom a call is for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The peer's name on the bus.
    pub destination: &'a str,
    /// The object.
    pub path: &'a str,
    /// The interface.
    pub interface: &'a str,
}

/// What ends a call.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Its time.
    pub deadline: Deadline,
    /// Its token.
    pub cancel: &'a CancelToken,
}

/// Properties of an object as an answer has them.
pub type Properties = BTreeMap<String, OwnedValue>;

/// A bus. The connection is made with the first call.
pub struct Bus {
    address: Address,
    live: Mutex<Option<Arc<Live>>>,
}

/// Nothing that holds one of these locks can panic half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bus {
    /// The bus there.
    pub fn new(address: Address) -> Self {
        Self { address, live: Mutex::default() }
    }

    /// Calls a method and reads its answer.
    pub fn call<B, A>(&self, limits: Limits, target: Target, member: &str, body: &B) -> Result<A, DbusError>
    where
        B: Serialize + DynamicType,
        A: DeserializeOwned + Type,
    {
        ask(&*self.connection(limits)?, limits, target, member, body)
    }

    /// Reads a property of the target's.
    pub fn property(&self, limits: Limits, target: Target, name: &str) -> Result<OwnedValue, DbusError> {
        self.call(limits, Target { interface: PROPERTIES, ..target }, "Get", &(target.interface, name))
    }

    /// The signals of the bus itself and of who has the name `from` that fit one of the rules and that `wanted` takes, from
    /// when this returns on. Others' are none, whatever they pretend to be: a signal to one receiver passes every rule.
    ///
    /// The bus is told of a rule once for each connection, and keeps it as long as that: what is for whom is told apart
    /// by `wanted`, so rules are for a few kinds of signals and not for one of many objects.
    pub fn subscribe(
        &self,
        limits: Limits,
        from: &str,
        rules: &[&str],
        wanted: impl Fn(&Message) -> bool + Send + Sync + 'static,
    ) -> Result<Signals, DbusError> {
        let live = self.connection(limits)?;
        let owner: String = ask(&live, limits, DRIVER, "GetNameOwner", &from)?;
        let is_theirs = move |message: &Message| {
            let header = message.header();
            header.sender().is_some_and(|sender| sender.as_str() == owner || sender.as_str() == DRIVER.destination)
        };
        let wanted = move |message: &Message| is_theirs(message) && wanted(message);
        let (receiver, subscriber) = live.add_subscriber(MOST_SIGNALS, Box::new(wanted));
        let signals = Signals { receiver, subscriber, live: Arc::clone(&live) };
        for rule in rules {
            live.add_rule(limits, rule)?;
        }
        Ok(signals)
    }

    /// The connection, made anew where there is none.
    fn connection(&self, limits: Limits) -> Result<Arc<Live>, DbusError> {
        if let Some(found) = lock(&self.live).as_ref().filter(|live| live.is_open()) {
            return Ok(Arc::clone(found));
        }
        // Not under the lock, which nobody waits for with a deadline. Of two that are made at once the first is kept.
        let made = Live::connect(&self.address, limits)?;
        let mut live = lock(&self.live);
        match live.as_ref().filter(|live| live.is_open()) {
            Some(found) => Ok(Arc::clone(found)),
            None => Ok(Arc::clone(live.insert(made))),
        }
    }
}

fn ask<B, A>(live: &Live, limits: Limits, target: Target, member: &str, body: &B) -> Result<A, DbusError>
where
    B: Serialize + DynamicType,
    A: DeserializeOwned + Type,
{
    let message = method_call(target, member, body)
        .map_err(|error| DbusError::Protocol(format!("{member} of '{}' cannot be asked: {error}", target.path)))?;
    let answer = live.ask(limits, &message)?;
    let garbled = |error| DbusError::Protocol(format!("the answer to {member} cannot be read: {error}"));
    answer.body().deserialize().map_err(garbled)
}

fn method_call<B: Serialize + DynamicType>(target: Target, member: &str, body: &B) -> zbus::Result<Message> {
    let builder = Message::method_call(target.path, member)?;
    builder.destination(target.destination)?.interface(target.interface)?.build(body)
}

/// What is told once the token is cancelled, as long as the registration is kept.
fn on_cancel(cancel: &CancelToken) -> (Registration, Receiver<()>) {
    let (wake, woken) = bounded(1);
    let tell = move || {
        // One word is enough.
        let _ = wake.try_send(());
    };
    (cancel.on_cancel(tell), woken)
}

/// Waits for what comes on the channel, which is closed with the connection.
fn await_one<T>(channel: &Receiver<T>, limits: Limits) -> Result<T, DbusError> {
    let begun = Instant::now();
    let (_registration, woken) = on_cancel(limits.cancel);
    select! {
        recv(channel) -> item => item.map_err(|_| DbusError::Closed("it was closed".to_owned())),
        recv(woken) -> _ => Err(DbusError::Cancelled),
        default(limits.deadline.remaining()) => Err(DbusError::Timeout(begun.elapsed())),
    }
}

/// Signals of one subscription, which ends when this is dropped. They come by the connection on which it was made: when
/// that is lost they end with [`DbusError::Closed`], and whoever wants to go on subscribes again and looks at all.
pub struct Signals {
    receiver: Receiver<Message>,
    subscriber: Arc<Subscriber>,
    live: Arc<Live>,
}

impl Signals {
    /// The next signal; `None` where none came in the time, or `woken` was told something.
    pub fn next(&self, limits: Limits, woken: Option<&Receiver<()>>) -> Result<Option<Message>, DbusError> {
        let nobody = never();
        let (_registration, cancelled) = on_cancel(limits.cancel);
        select! {
            recv(self.receiver) -> message => {
                message.map(Some).map_err(|_| DbusError::Closed("it was closed".to_owned()))
            }
            recv(woken.unwrap_or(&nobody)) -> _ => Ok(None),
            recv(cancelled) -> _ => Err(DbusError::Cancelled),
            default(limits.deadline.remaining()) => Ok(None),
        }
    }

    /// Whether signals were dropped since the last time this was asked.
    pub fn has_lost(&self) -> bool {
        self.subscriber.has_lost.swap(false, Ordering::SeqCst)
    }

    /// Calls a method on the connection that the signals come by, so that its own are among them.
    pub fn call<B, A>(&self, limits: Limits, target: Target, member: &str, body: &B) -> Result<A, DbusError>
    where
        B: Serialize + DynamicType,
        A: DeserializeOwned + Type,
    {
        ask(&self.live, limits, target, member, body)
    }
}

/// A message's member; empty for none.
pub fn member(message: &Message) -> String {
    message.header().member().map(ToString::to_string).unwrap_or_default()
}

/// A message's object.
pub fn path(message: &Message) -> String {
    message.header().path().map(ToString::to_string).unwrap_or_default()
}
