//! What is said on a bus: connections that can be cut, calls, answers and refusals, with nothing of BlueChi's in them but
//! names.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::Message;
use zbus::blocking::connection::Builder;
use zbus::blocking::{Connection, MessageIterator};
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue, Structure, Type, Value};

/// The controller's name on its bus.
pub const NAME: &str = "org.eclipse.bluechi";
/// The controller's object, and what all others are below; the agent's object on its own bus.
pub const ROOT: &str = "/org/eclipse/bluechi";
pub const CONTROLLER: &str = "org.eclipse.bluechi.Controller";
pub const NODE: &str = "org.eclipse.bluechi.Node";
pub const JOB: &str = "org.eclipse.bluechi.Job";
pub const MONITOR: &str = "org.eclipse.bluechi.Monitor";
/// The agent's name on its node's bus, and its interface.
pub const AGENT: &str = "org.eclipse.bluechi.Agent";
pub const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
pub const DRIVER: &str = "org.freedesktop.DBus";
pub const SYSTEMD: &str = "org.freedesktop.systemd1";
pub const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
pub const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// The longest that an answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Messages that may wait for one that reads.
const MOST_UNREAD: usize = 4096;

/// How a call is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub name: String,
    pub text: String,
}

impl Fault {
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into() }
    }

    /// One of the bus's own errors.
    pub fn of_bus(name: &str, text: impl Into<String>) -> Self {
        Self::new(format!("org.freedesktop.DBus.Error.{name}"), text)
    }
}

impl From<zbus::Error> for Fault {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, text, _) => Self::new(name.to_string(), text.unwrap_or_default()),
            error => Self::of_bus("NoReply", error.to_string()),
        }
    }
}

/// A connection to a bus that can be cut, which needs nothing of the other side.
pub struct Link {
    pub connection: Connection,
    socket: UnixStream,
}

impl Link {
    pub fn open(bus: &Path) -> zbus::Result<Self> {
        let stream = UnixStream::connect(bus)?;
        let socket = stream.try_clone()?;
        #[allow(deprecated, reason = "the other one takes a type of a crate that is none of ours")]
        let builder = Builder::unix_stream(stream).method_timeout(ANSWER_LIMIT).max_queued(MOST_UNREAD);
        Ok(Self { connection: builder.build()?, socket })
    }

    /// All that comes from now on, until it is cut.
    pub fn messages(&self) -> MessageIterator {
        MessageIterator::from(&self.connection)
    }

    /// Its own name.
    pub fn name(&self) -> String {
        self.connection.unique_name().map(ToString::to_string).unwrap_or_default()
    }

    /// Calls a method and waits for its answer.
    pub fn ask<B>(&self, to: &str, path: &str, interface: &str, member: &str, body: &B) -> Result<Message, Fault>
    where
        B: Serialize + DynamicType,
    {
        Ok(self.connection.call_method(Some(to), path, Some(interface), member, body)?)
    }

    /// Calls a method of systemd's manager.
    pub fn ask_systemd<B: Serialize + DynamicType>(&self, member: &str, body: &B) -> Result<Message, Fault> {
        self.ask(SYSTEMD, MANAGER_PATH, MANAGER, member, body)
    }

    /// Has the bus tell what fits the rule.
    pub fn match_rule(&self, rule: &str) -> Result<(), Fault> {
        self.ask(DRIVER, "/org/freedesktop/DBus", DRIVER, "AddMatch", &rule).map(drop)
    }

    pub fn cut(&self) {
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Threads of zbus's hold the connection as well, and end with its socket.
        self.cut();
    }
}

/// What a call is answered with; `None` where that was sent already.
pub type Answer = Result<Option<Message>, Fault>;

/// A call that was received.
#[derive(Clone)]
pub struct Call(Message);

impl Call {
    pub fn new(message: Message) -> Self {
        Self(message)
    }

    pub fn member(&self) -> String {
        self.0.header().member().map(ToString::to_string).unwrap_or_default()
    }

    pub fn path(&self) -> String {
        self.0.header().path().map(ToString::to_string).unwrap_or_default()
    }

    pub fn interface(&self) -> String {
        self.0.header().interface().map(ToString::to_string).unwrap_or_default()
    }

    pub fn sender(&self) -> String {
        self.0.header().sender().map(ToString::to_string).unwrap_or_default()
    }

    /// Its signature.
    pub fn signature(&self) -> String {
        self.0.body().signature().to_string_no_parens()
    }

    /// What it brings; refused where that is of another type.
    pub fn args<T: DeserializeOwned + Type>(&self) -> Result<T, Fault> {
        let expected = T::SIGNATURE.to_string_no_parens();
        self.0.body().deserialize().map_err(|_| self.unfit(&expected))
    }

    /// As what brings something else is refused.
    pub fn unfit(&self, expected: &str) -> Fault {
        let (found, interface, member) = (self.signature(), self.interface(), self.member());
        let text = format!("Invalid arguments '{found}' to call {interface}.{member}(), expecting '{expected}'.");
        Fault::of_bus("InvalidArgs", text)
    }

    /// What it brings, whatever that is, put to somebody else.
    pub fn pass_on(&self, link: &Link, to: &str, path: &str, interface: &str) -> Result<Message, Fault> {
        let (body, member) = (self.0.body(), self.member());
        if self.signature().is_empty() {
            return link.ask(to, path, interface, &member, &());
        }
        let brought: Structure<'_> = body.deserialize()?;
        link.ask(to, path, interface, &member, &brought)
    }

    pub fn answer<B: Serialize + DynamicType>(&self, body: &B) -> Answer {
        Ok(Some(Message::method_return(&self.0.header())?.build(body)?))
    }

    /// Answers with what somebody else has answered.
    pub fn answer_as(&self, other: &Message) -> Answer {
        let body = other.body();
        if body.signature().to_string_no_parens().is_empty() {
            return self.answer(&());
        }
        let brought: Structure<'_> = body.deserialize()?;
        self.answer(&brought)
    }

    pub fn refusal(&self, fault: &Fault) -> zbus::Result<Message> {
        Message::error(&self.0.header(), fault.name.as_str())?.build(&fault.text.as_str())
    }

    /// As an object that is not there answers.
    pub fn no_object(&self) -> Fault {
        Fault::of_bus("UnknownObject", format!("Unknown object '{}'.", self.path()))
    }

    pub fn no_method(&self) -> Fault {
        let text = format!("Unknown method {} or interface {}.", self.member(), self.interface());
        Fault::of_bus("UnknownMethod", text)
    }
}

/// A signal, to everybody or to one.
pub fn signal<B>(to: Option<&str>, path: &str, interface: &str, member: &str, body: &B) -> zbus::Result<Message>
where
    B: Serialize + DynamicType,
{
    let builder = Message::signal(path, interface, member)?;
    match to {
        Some(to) => builder.destination(to)?.build(body),
        None => builder.build(body),
    }
}

/// One property that has changed.
pub fn changed(path: &str, interface: &str, property: &str, value: &str) -> zbus::Result<Message> {
    let changed = [(property, Value::from(value))].into_iter().collect::<std::collections::HashMap<_, _>>();
    signal(None, path, PROPERTIES, "PropertiesChanged", &(interface, changed, Vec::<String>::new()))
}

/// Properties as an object has them: name, value, and whether it is told only when it is asked for by name.
pub type Shown = Vec<(&'static str, Value<'static>, bool)>;

/// Answers a call of the properties' interface, for an object that has these on `interface`.
pub fn properties(call: &Call, interface: &str, shown: Shown) -> Answer {
    let unknown = |asked: &str| Fault::of_bus("UnknownInterface", format!("Unknown interface '{asked}'."));
    match call.member().as_str() {
        "Get" => {
            let (asked, name): (String, String) = call.args()?;
            let found = shown.into_iter().find(|(own, ..)| asked == interface && *own == name);
            let Some((_, value, _)) = found else {
                return Err(Fault::of_bus("UnknownProperty", format!("Unknown property or interface '{name}'.")));
            };
            call.answer(&value)
        }
        "GetAll" => {
            let asked: String = call.args()?;
            if !asked.is_empty() && asked != interface {
                return Err(unknown(&asked));
            }
            let all = shown.into_iter().filter(|(.., is_explicit)| !is_explicit);
            call.answer(&all.map(|(name, value, _)| (name, value)).collect::<std::collections::HashMap<_, _>>())
        }
        "Set" => Err(Fault::of_bus("PropertyReadOnly", "Property is not writable.")),
        _ => Err(call.no_method()),
    }
}

/// A path that is written by us.
pub fn object(path: &str) -> OwnedObjectPath {
    path.to_owned().try_into().expect("a path")
}

/// The text that a variant holds, and not one in one more variant.
pub fn text(value: &OwnedValue) -> Option<String> {
    if let Value::Str(text) = &**value { Some(text.to_string()) } else { None }
}

/// A name as an element of a path, as systemd writes them.
pub fn escaped(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let plain = |(index, byte): (usize, u8)| match byte {
        b'a'..=b'z' | b'A'..=b'Z' => char::from(byte).to_string(),
        b'0'..=b'9' if index > 0 => char::from(byte).to_string(),
        _ => format!("_{byte:02x}"),
    };
    name.bytes().enumerate().map(plain).collect()
}

/// The name that an element of a path stands for.
pub fn unescaped(element: &str) -> String {
    let mut parts = element.split('_');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                bytes.extend_from_slice(&part.as_bytes()[2..]);
            }
            None => bytes.extend_from_slice(part.as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What is passed by whoever says or hears something, and held closed by one that hangs.
#[derive(Default)]
pub struct Gate {
    is_closed: Mutex<bool>,
    opened: Condvar,
}

impl Gate {
    pub fn close(&self) {
        *self.is_closed.lock().unwrap() = true;
    }

    pub fn open(&self) {
        *self.is_closed.lock().unwrap() = false;
        self.opened.notify_all();
    }

    /// Waits until it is open, which the stand-in's end makes it.
    pub fn pass(&self) {
        drop(self.opened.wait_while(self.is_closed.lock().unwrap(), |is_closed| *is_closed).unwrap());
    }
}
