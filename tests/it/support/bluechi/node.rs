//! A node: its systemd over the bus that it is on.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actioncontroller::transport::dbus::zvariant::{DynamicType, OwnedObjectPath};
use serde::Serialize;
use zbus::blocking::connection::Builder;
use zbus::blocking::{Connection, MessageIterator};
use zbus::{MatchRule, Message};

const SYSTEMD: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// What a job of systemd's may take.
const LIMIT: Duration = Duration::from_secs(60);

/// A name and a text of an error.
pub type Refusal = (String, String);

/// A node of the controller's.
pub struct Node {
    pub name: String,
    pub systemd: Connection,
    pub is_online: AtomicBool,
}

impl Node {
    /// The one whose systemd is on the bus with this socket.
    pub fn new(name: &str, socket: &Path) -> Self {
        let address = format!("unix:path={}", socket.display());
        let builder = Builder::address(address.as_str()).expect("an address").method_timeout(LIMIT);
        let systemd = builder.build().expect("the node's bus");
        let node = Self { name: name.to_owned(), systemd, is_online: AtomicBool::new(true) };
        // It tells of nothing before.
        node.ask("Subscribe", &()).expect("systemd answers");
        node
    }

    pub fn is_online(&self) -> bool {
        self.is_online.load(Ordering::SeqCst)
    }

    /// Asks its systemd.
    pub fn ask<B: Serialize + DynamicType>(&self, member: &str, body: &B) -> Result<Message, Refusal> {
        self.systemd.call_method(Some(SYSTEMD), OBJECT, Some(MANAGER), member, body).map_err(refusal)
    }

    /// All properties of a unit in an interface.
    pub fn properties(&self, unit: &str, interface: &str) -> Result<Message, Refusal> {
        let path: OwnedObjectPath = self.ask("LoadUnit", &unit)?.body().deserialize().expect("a path");
        let properties = "org.freedesktop.DBus.Properties";
        let asked = self.systemd.call_method(Some(SYSTEMD), path.as_str(), Some(properties), "GetAll", &interface);
        asked.map_err(refusal)
    }

    /// Signals of its systemd from now on.
    pub fn signals(&self, interface: &str, member: &str) -> MessageIterator {
        let rule = MatchRule::builder()
            .msg_type(zbus::message::Type::Signal)
            .interface(interface.to_owned())
            .and_then(|rule| rule.member(member.to_owned()))
            .expect("a rule")
            .build();
        MessageIterator::for_match_rule(rule, &self.systemd, Some(1024)).expect("the node's bus")
    }

    /// Signals of the ends of its jobs from now on.
    pub fn ends(&self) -> MessageIterator {
        self.signals(MANAGER, "JobRemoved")
    }
}

/// How systemd refuses.
fn refusal(error: zbus::Error) -> Refusal {
    match error {
        zbus::Error::MethodError(name, text, _) => (name.to_string(), text.unwrap_or_default()),
        other => ("org.freedesktop.DBus.Error.Failed".to_owned(), other.to_string()),
    }
}
