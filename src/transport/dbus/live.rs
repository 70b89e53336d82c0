//! One connection to a bus, from its making to its end.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use zbus::Message;
use zbus::blocking::connection::Builder;
use zbus::blocking::{Connection, MessageIterator};
use zbus::message::Type;

use super::{Address, DRIVER, DbusError, Limits, await_one, lock, method_call, on_cancel};
use crate::transport::unix;

/// The longest that a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(2);

/// Calls that may be under way at once.
const MOST_CALLS: usize = 256;

/// Messages that may wait for a peer that reads slowly.
const MOST_UNSENT: usize = 64;

/// A connection. Closed when nobody has it any more.
pub(super) struct Live {
    outbox: Sender<Message>,
    /// The same socket, to end it by.
    socket: UnixStream,
    shared: Arc<Shared>,
    /// Rules that the bus was told.
    rules: Mutex<BTreeSet<String>>,
}

/// What the reading thread hands out to.
#[derive(Default)]
struct Shared {
    is_closed: AtomicBool,
    calls: Mutex<HashMap<u32, Sender<Message>>>,
    subscribers: Mutex<Vec<Weak<Subscriber>>>,
}

type Wanted = Box<dyn Fn(&Message) -> bool + Send + Sync>;

/// One that signals go to.
pub(super) struct Subscriber {
    wanted: Wanted,
    sender: Mutex<Option<Sender<Message>>>,
    pub(super) has_lost: AtomicBool,
}

impl Drop for Live {
    fn drop(&mut self) {
        // The threads hold the connection as well, and end with its socket.
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

impl Live {
    /// Makes one, and says who we are.
    pub(super) fn connect(address: &Address, limits: Limits) -> Result<Arc<Self>, DbusError> {
        let begun = Instant::now();
        let limits = Limits { deadline: limits.deadline.at_most(CONNECT), ..limits };
        let away = |error: &dyn std::fmt::Display| DbusError::Away(format!("'{address}': {error}"));
        let opened = unix::open_socket(address.socket(), limits.deadline, limits.cancel);
        let stream = opened.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => DbusError::Timeout(begun.elapsed()),
            io::ErrorKind::ConnectionAborted => DbusError::Cancelled,
            _ => away(&error),
        })?;
        let socket = stream.try_clone().map_err(|error| away(&error))?;
        let built = greet(stream, &socket, limits).map_err(|error| match error {
            DbusError::Away(reason) => away(&reason),
            error => error,
        })?;
        let shared = Arc::new(Shared::default());
        let (outbox, unsent) = bounded(MOST_UNSENT);
        let writing = socket.try_clone().map_err(|error| away(&error))?;
        let live = Arc::new(Self { outbox, socket, shared: Arc::clone(&shared), rules: Mutex::default() });
        let messages = MessageIterator::from(&built);
        spawn("dbus-read", move || read_all(messages, &shared)).map_err(|error| away(&error))?;
        spawn("dbus-write", move || write_all(&built, &writing, &unsent)).map_err(|error| away(&error))?;
        Ok(live)
    }

    /// Whether it can still be used.
    pub(super) fn is_open(&self) -> bool {
        !self.shared.is_closed.load(Ordering::SeqCst)
    }

    /// Sends a call and waits for its answer.
    pub(super) fn ask(&self, limits: Limits, message: &Message) -> Result<Message, DbusError> {
        let serial = message.primary_header().serial_num().get();
        let (sender, answers) = bounded(1);
        {
            let mut calls = lock(&self.shared.calls);
            if calls.len() >= MOST_CALLS {
                return Err(DbusError::Away(format!("{MOST_CALLS} calls are under way already")));
            }
            calls.insert(serial, sender);
        }
        // Looked at after the insertion: the reading thread clears what waits after it has said that it is over.
        let answered = match self.is_open() {
            true => self.send(limits, message).and_then(|()| await_one(&answers, limits)),
            false => Err(DbusError::Closed("it was closed".to_owned())),
        };
        lock(&self.shared.calls).remove(&serial);
        let answer = answered?;
        if answer.message_type() == Type::Error { Err(refusal(&answer)) } else { Ok(answer) }
    }

    fn send(&self, limits: Limits, message: &Message) -> Result<(), DbusError> {
        let begun = Instant::now();
        let (_registration, woken) = on_cancel(limits.cancel);
        select! {
            send(self.outbox, message.clone()) -> sent => sent.map_err(|_| DbusError::Closed("it was closed".to_owned())),
            recv(woken) -> _ => Err(DbusError::Cancelled),
            default(limits.deadline.remaining()) => Err(DbusError::Timeout(begun.elapsed())),
        }
    }

    /// Hands signals out to one more, of which this many may wait.
    pub(super) fn add_subscriber(&self, most: usize, wanted: Wanted) -> (Receiver<Message>, Arc<Subscriber>) {
        let (sender, receiver) = bounded(most);
        let (sender, has_lost) = (Mutex::new(Some(sender)), AtomicBool::new(false));
        let subscriber = Arc::new(Subscriber { wanted, sender, has_lost });
        let mut subscribers = lock(&self.shared.subscribers);
        subscribers.retain(|other| other.strong_count() > 0);
        subscribers.push(Arc::downgrade(&subscriber));
        drop(subscribers);
        if !self.is_open() {
            lock(&subscriber.sender).take();
        }
        (receiver, subscriber)
    }

    /// Tells the bus of the rule, where it was not told yet.
    pub(super) fn add_rule(&self, limits: Limits, rule: &str) -> Result<(), DbusError> {
        if lock(&self.rules).contains(rule) {
            return Ok(());
        }
        let message = method_call(DRIVER, "AddMatch", &rule)
            .map_err(|error| DbusError::Protocol(format!("the rule '{rule}' cannot be sent: {error}")))?;
        self.ask(limits, &message)?;
        lock(&self.rules).insert(rule.to_owned());
        Ok(())
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

/// Authentication and `Hello`, which zbus does without a deadline: where the time is over the socket is closed beneath it,
/// and the thread ends.
fn greet(stream: UnixStream, socket: &UnixStream, limits: Limits) -> Result<Connection, DbusError> {
    let (sender, made) = bounded(1);
    let build = move || {
        #[allow(deprecated, reason = "the other one takes a type of a crate that is none of ours")]
        let built = Builder::unix_stream(stream).build();
        // Nobody waits any more where the time was over.
        let _ = sender.send(built);
    };
    spawn("dbus-connect", build).map_err(|error| DbusError::Away(error.to_string()))?;
    match await_one(&made, limits) {
        Ok(built) => built.map_err(|error| DbusError::Away(error.to_string())),
        Err(error) => {
            let _ = socket.shutdown(Shutdown::Both);
            Err(error)
        }
    }
}

/// Sends what is given until nobody can give more, or the connection is closed. One by which nothing can be sent any more
/// is closed.
fn write_all(connection: &Connection, socket: &UnixStream, unsent: &Receiver<Message>) {
    for message in unsent {
        if connection.send(&message).is_err() {
            let _ = socket.shutdown(Shutdown::Both);
            break;
        }
    }
}

/// Hands out what comes until the connection is closed.
fn read_all(messages: MessageIterator, shared: &Shared) {
    let _end = End(shared);
    for message in messages {
        let Ok(message) = message else { break };
        match message.message_type() {
            Type::MethodReturn | Type::Error => {
                let serial = message.header().reply_serial().map_or(0, |serial| serial.get());
                if let Some(waiting) = lock(&shared.calls).remove(&serial) {
                    // Who has given up waiting is gone.
                    let _ = waiting.try_send(message);
                }
            }
            Type::Signal => hand_out(&message, shared),
            Type::MethodCall => {}
        }
    }
}

/// Tells everybody who waits that nothing more is read, however that came.
struct End<'a>(&'a Shared);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::SeqCst);
        lock(&self.0.calls).clear();
        for subscriber in lock(&self.0.subscribers).iter().filter_map(Weak::upgrade) {
            lock(&subscriber.sender).take();
        }
    }
}

fn hand_out(message: &Message, shared: &Shared) {
    let subscribers: Vec<_> = lock(&shared.subscribers).iter().filter_map(Weak::upgrade).collect();
    for subscriber in subscribers.iter().filter(|one| (one.wanted)(message)) {
        let sent = lock(&subscriber.sender).as_ref().map(|sender| sender.try_send(message.clone()));
        if let Some(Err(TrySendError::Full(_))) = sent {
            subscriber.has_lost.store(true, Ordering::SeqCst);
        }
    }
}

/// What was answered in place of what was asked.
fn refusal(answer: &Message) -> DbusError {
    let name = answer.header().error_name().map(ToString::to_string).unwrap_or_default();
    let message = answer.body().deserialize::<String>().unwrap_or_default();
    // Peers use the bus's own names of errors as well: BlueChi has ServiceUnknown for a node.
    let is_of_bus = answer.header().sender().is_some_and(|sender| sender.as_str() == DRIVER.destination);
    match name.strip_prefix("org.freedesktop.DBus.Error.").filter(|_| is_of_bus) {
        Some("ServiceUnknown" | "NameHasNoOwner") => DbusError::Away(message),
        // The peer has left with the call unanswered.
        Some("NoReply") => DbusError::Closed(message),
        _ => DbusError::Refused { name, message },
    }
}
