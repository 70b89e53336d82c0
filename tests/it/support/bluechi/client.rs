//! A client of the stand-in in plain messages, which keeps all that it hears in its order.

use std::path::Path;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, unbounded};
use serde::Serialize;
use zbus::Message;
use zbus::message::Type;
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue};

use super::wire::{CONTROLLER, DRIVER, Fault, Link, MONITOR, NAME, NODE, PROPERTIES, ROOT, text};

const LIMIT: Duration = Duration::from_secs(20);

/// In which what is not to come would have come.
const QUIET: Duration = Duration::from_millis(300);

/// A client on the controller's bus, or on a node's.
pub struct Client {
    pub link: Link,
    inbox: Receiver<Message>,
}

impl Client {
    pub fn new(bus: &Path) -> Self {
        let link = Link::open(bus).unwrap();
        let messages = link.messages();
        let (sender, inbox) = unbounded();
        std::thread::spawn(move || messages.map_while(Result::ok).for_each(|message| drop(sender.send(message))));
        link.match_rule("type='signal'").unwrap();
        let client = Self { link, inbox };
        client.drain();
        client
    }

    /// What has come so far is not looked at: all before the bus's answer to a question that is put now.
    pub fn drain(&self) {
        let question = Message::method_call("/org/freedesktop/DBus", "GetId").unwrap().destination(DRIVER).unwrap();
        let question = question.build(&()).unwrap();
        self.link.connection.send(&question).unwrap();
        let serial = question.primary_header().serial_num();
        self.await_message("the bus's answer", |message| message.header().reply_serial() == Some(serial));
    }

    /// Calls a method of one of BlueChi's objects.
    pub fn ask<B: Serialize + DynamicType>(
        &self,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) -> Result<Message, Fault> {
        self.link.ask(NAME, path, interface, member, body)
    }

    /// Has a node (its path) run a job, and does not wait for it: the job's path.
    pub fn job(&self, node: &str, member: &str, unit: &str) -> OwnedObjectPath {
        path_in(&self.ask(node, NODE, member, &(unit, "replace")).unwrap())
    }

    /// Waits for the job's end: its number and its result.
    pub fn run(&self, node: &str, member: &str, unit: &str) -> (u32, String) {
        self.drain();
        self.job(node, member, unit);
        let (id, _, _, _, result) = removed(&self.await_signal("JobRemoved"));
        (id, result)
    }

    /// A property, asked for by name.
    pub fn property(&self, path: &str, interface: &str, name: &str) -> Result<OwnedValue, Fault> {
        Ok(self.ask(path, PROPERTIES, "Get", &(interface, name))?.body().deserialize().unwrap())
    }

    /// A node's or the controller's status.
    pub fn status(&self, path: &str, interface: &str) -> String {
        text(&self.property(path, interface, "Status").unwrap()).unwrap()
    }

    /// A monitor of this, where `*` stands for all.
    pub fn monitor(&self, node: &str, unit: &str) -> OwnedObjectPath {
        let monitor = path_in(&self.ask(ROOT, CONTROLLER, "CreateMonitor", &()).unwrap());
        self.ask(&monitor, MONITOR, "Subscribe", &(node, unit)).unwrap();
        monitor
    }

    /// The next signal of that name, whatever comes before it.
    pub fn await_signal(&self, member: &str) -> Message {
        self.await_message(member, |message| said(message) == member)
    }

    /// The next that is wanted, whatever comes before it.
    pub fn await_message(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let begun = Instant::now();
        loop {
            let message = self.inbox.recv_timeout(LIMIT.saturating_sub(begun.elapsed()));
            let message = message.unwrap_or_else(|_| panic!("{what} has not come"));
            if wanted(&message) {
                return message;
            }
        }
    }

    /// What comes until nothing more does, or for as long as is waited for anything.
    pub fn rest(&self) -> Vec<Message> {
        let begun = Instant::now();
        let is_time = |_: &Message| begun.elapsed() < LIMIT;
        std::iter::from_fn(|| self.inbox.recv_timeout(QUIET).ok()).take_while(is_time).collect()
    }
}

/// A signal's name, an error's name, or `reply`.
pub fn said(message: &Message) -> String {
    let header = message.header();
    match message.message_type() {
        Type::Signal => header.member().unwrap().to_string(),
        Type::Error => header.error_name().unwrap().to_string(),
        Type::MethodReturn => "reply".to_owned(),
        Type::MethodCall => "call".to_owned(),
    }
}

pub fn all_said(messages: &[Message]) -> Vec<String> {
    messages.iter().map(said).collect()
}

pub fn path_in(message: &Message) -> OwnedObjectPath {
    message.body().deserialize().unwrap()
}

/// What a `JobRemoved` tells: number, path, node, unit, result.
pub fn removed(message: &Message) -> (u32, String, String, String, String) {
    let (id, path, node, unit, result): (u32, OwnedObjectPath, String, String, String) =
        message.body().deserialize().unwrap();
    (id, path.to_string(), node, unit, result)
}
