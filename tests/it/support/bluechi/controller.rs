//! The controller on its bus.
//!
//! Of what it does otherwise than one would expect it does all that a client sees: job ids have gaps and begin again at 1; a
//! job of a node that goes away vanishes without a word; transient units have no job here; monitors are told one by one.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use actioncontroller::transport::dbus::zvariant::{DynamicType, OwnedValue, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::Message;
use zbus::blocking::connection::Builder;
use zbus::blocking::{Connection, MessageIterator};
use zbus::message::Type;
use zbus::zvariant::OwnedObjectPath;

use super::node::{Node, Refusal};

const NAME: &str = "org.eclipse.bluechi";
const OBJECT: &str = "/org/eclipse/bluechi";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// A job that is under way.
struct Job {
    id: u32,
    node: String,
    unit: String,
    kind: &'static str,
    /// systemd's own.
    inner: OwnedObjectPath,
}

/// A monitor: who is told, and of which nodes and units.
#[derive(Default)]
struct Monitor {
    told: Vec<String>,
    subscriptions: BTreeMap<u32, (String, Vec<String>)>,
}

#[derive(Default)]
struct State {
    last_job: u32,
    last_monitor: u32,
    last_subscription: u32,
    jobs: BTreeMap<String, Job>,
    monitors: BTreeMap<String, Monitor>,
}

/// A controller.
pub struct Controller {
    address: String,
    connection: Connection,
    nodes: BTreeMap<String, Arc<Node>>,
    state: Mutex<State>,
    hangs: AtomicBool,
}

impl Controller {
    /// Takes the name on the bus and answers from then on.
    pub fn start(socket: &Path, nodes: BTreeMap<String, Arc<Node>>) -> Arc<Self> {
        let address = format!("unix:path={}", socket.display());
        let builder = Builder::address(address.as_str()).expect("an address");
        let connection = builder.build().expect("the bus");
        let messages = MessageIterator::from(&connection);
        let (state, hangs) = (Mutex::default(), AtomicBool::new(false));
        let controller = Arc::new(Self { address, connection, nodes, state, hangs });
        let own = Arc::clone(&controller);
        thread::spawn(move || own.serve(messages));
        for node in controller.nodes.values() {
            let (own, node) = (Arc::clone(&controller), Arc::clone(node));
            let changes = node.signals(PROPERTIES, "PropertiesChanged");
            thread::spawn(move || own.pass_on(&node, changes));
        }
        controller.connection.request_name(NAME).expect("the name");
        controller
    }

    /// Leaves the bus.
    pub fn stop(&self) {
        let _ = self.connection.release_name(NAME);
        self.hang(true);
        self.state.lock().unwrap().jobs.clear();
        let _ = self.connection.clone().close();
    }

    pub fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    /// Restarts a unit by a call on a connection of its own, and waits until the job is taken.
    pub fn run_for_somebody(&self, node: &str, unit: &str) {
        let address = self.address.as_str();
        let other = Builder::address(address).and_then(Builder::build).expect("the bus");
        let (path, interface) = (node_path(node), "org.eclipse.bluechi.Node");
        other.call_method(Some(NAME), path, Some(interface), "StartUnit", &(unit, "replace")).expect("a job");
    }

    /// A node's agent comes or goes.
    pub fn set_online(&self, name: &str, is_online: bool) {
        let node = &self.nodes[name];
        node.is_online.store(is_online, Ordering::SeqCst);
        if !is_online {
            self.state.lock().unwrap().jobs.retain(|_, job| job.node != name);
        }
        let status = if is_online { "online" } else { "offline" };
        self.tell_status(&node_path(name), "org.eclipse.bluechi.Node", status);
        self.tell_status(OBJECT, "org.eclipse.bluechi.Controller", self.status());
        if is_online {
            self.tell_monitors("UnitNew", name, "*", &(name, "*", "virtual"));
        } else {
            self.tell_monitors("UnitStateChanged", name, "*", &(name, "*", "inactive", "agent-offline", "virtual"));
            self.tell_monitors("UnitRemoved", name, "*", &(name, "*", "virtual"));
        }
    }

    fn status(&self) -> &'static str {
        match self.nodes.values().filter(|node| node.is_online()).count() {
            0 => "down",
            some if some == self.nodes.len() => "up",
            _ => "degraded",
        }
    }

    fn tell_status(&self, path: &str, interface: &str, status: &str) {
        let changed = BTreeMap::from([("Status", Value::from(status))]);
        self.signal(None, path, PROPERTIES, "PropertiesChanged", &(interface, changed, Vec::<String>::new()));
    }

    fn signal<B: Serialize + DynamicType>(
        &self,
        to: Option<&str>,
        path: &str,
        interface: &str,
        member: &str,
        body: &B,
    ) {
        let builder = Message::signal(path, interface, member).expect("a signal");
        let builder = match to {
            Some(to) => builder.destination(to).expect("a name"),
            None => builder,
        };
        // Nobody is there any more at the end.
        let _ = self.connection.send(&builder.build(body).expect("a signal"));
    }

    fn tell_monitors<B: Serialize + DynamicType>(&self, member: &str, node: &str, unit: &str, body: &B) {
        let state = self.state.lock().unwrap();
        for (path, monitor) in &state.monitors {
            let takes = |(of, units): &(String, Vec<String>)| {
                (of == "*" || of == node) && units.iter().any(|one| one == "*" || one == unit)
            };
            if monitor.subscriptions.values().any(takes) {
                for peer in &monitor.told {
                    self.signal(Some(peer), path, "org.eclipse.bluechi.Monitor", member, body);
                }
            }
        }
    }

    /// Passes a node's changes on to monitors.
    fn pass_on(&self, node: &Node, changes: MessageIterator) {
        for message in changes.flatten() {
            let header = message.header();
            let path = header.path().map(ToString::to_string).unwrap_or_default();
            let body = message.body();
            let Ok((_, changed, _)) = body.deserialize::<(String, BTreeMap<String, OwnedValue>, Vec<String>)>() else {
                continue;
            };
            let text = |name: &str| changed.get(name).and_then(|value| String::try_from(value.clone()).ok());
            let unit = actioncontroller::runtime::units::name_of_path(&path);
            if let (Some(unit), Some(active), Some(sub), true) =
                (unit, text("ActiveState"), text("SubState"), node.is_online())
            {
                let name = node.name.as_str();
                let body = (name, unit.as_str(), active.as_str(), sub.as_str(), "real");
                self.tell_monitors("UnitStateChanged", name, &unit, &body);
            }
        }
    }

    fn serve(self: &Arc<Self>, messages: MessageIterator) {
        for message in messages {
            let Ok(message) = message else { break };
            if message.message_type() != Type::MethodCall || self.hangs.load(Ordering::SeqCst) {
                continue;
            }
            let own = Arc::clone(self);
            // One that waits for its node holds up no other.
            thread::spawn(move || {
                if let Err((name, text)) = own.answer(&message) {
                    let error = Message::error(&message.header(), name).and_then(|error| error.build(&text));
                    let _ = own.connection.send(&error.expect("an error"));
                }
            });
        }
    }

    fn reply<B: Serialize + DynamicType>(&self, message: &Message, body: &B) -> Result<(), Refusal> {
        let reply = Message::method_return(&message.header()).and_then(|reply| reply.build(body)).expect("an answer");
        let _ = self.connection.send(&reply);
        Ok(())
    }

    fn answer(self: &Arc<Self>, message: &Message) -> Result<(), Refusal> {
        let header = message.header();
        let path = header.path().map(ToString::to_string).unwrap_or_default();
        let interface = header.interface().map(ToString::to_string).unwrap_or_default();
        let member = header.member().map(ToString::to_string).unwrap_or_default();
        if interface == PROPERTIES {
            let (_, name): (String, String) = body(message)?;
            return self.reply(message, &self.property(&path, &name)?);
        }
        let node = self.nodes.values().find(|node| node_path(&node.name) == path);
        match (interface.as_str(), node) {
            ("org.eclipse.bluechi.Node", Some(node)) => self.answer_node(message, node, &member),
            ("org.eclipse.bluechi.Controller", _) if path == OBJECT => self.answer_controller(message, &member),
            ("org.eclipse.bluechi.Job", _) => {
                let state = self.state.lock().unwrap();
                let job = state.jobs.get(&path).ok_or_else(|| unknown_object(&path))?;
                let (node, inner) = (Arc::clone(&self.nodes[&job.node]), job.inner.clone());
                drop(state);
                let job = "org.freedesktop.systemd1.Job";
                let asked =
                    node.systemd.call_method(Some("org.freedesktop.systemd1"), &inner, Some(job), "Cancel", &());
                drop(asked);
                self.reply(message, &())
            }
            ("org.eclipse.bluechi.Monitor", _) => self.answer_monitor(message, &path, &member),
            _ => Err(unknown_object(&path)),
        }
    }

    fn property(&self, path: &str, name: &str) -> Result<Value<'static>, Refusal> {
        if path == OBJECT && name == "Status" {
            return Ok(self.status().into());
        }
        if let Some(node) = self.nodes.values().find(|node| node_path(&node.name) == path) {
            return match name {
                "Status" => Ok(if node.is_online() { "online" } else { "offline" }.into()),
                "Name" => Ok(node.name.clone().into()),
                _ => Err(("org.freedesktop.DBus.Error.UnknownProperty".to_owned(), format!("no {name}"))),
            };
        }
        let state = self.state.lock().unwrap();
        let job = state.jobs.get(path).ok_or_else(|| unknown_object(path))?;
        Ok(match name {
            "Id" => job.id.into(),
            "Node" => job.node.clone().into(),
            "Unit" => job.unit.clone().into(),
            _ => job.kind.into(),
        })
    }

    fn answer_controller(&self, message: &Message, member: &str) -> Result<(), Refusal> {
        match member {
            "ListNodes" => {
                let nodes = self.nodes.values().map(|node| {
                    let status = if node.is_online() { "online" } else { "offline" };
                    (node.name.clone(), path(&node_path(&node.name)), status.to_owned(), String::new())
                });
                self.reply(message, &nodes.collect::<Vec<_>>())
            }
            "GetNode" => {
                let name: String = body(message)?;
                let gone = || ("org.freedesktop.DBus.Error.ServiceUnknown".to_owned(), "Node not found".to_owned());
                let node = self.nodes.get(&name).ok_or_else(gone)?;
                self.reply(message, &path(&node_path(&node.name)))
            }
            "CreateMonitor" => {
                let owner = message.header().sender().map(ToString::to_string).unwrap_or_default();
                let mut state = self.state.lock().unwrap();
                state.last_monitor += 1;
                let at = format!("{OBJECT}/monitor/{}", state.last_monitor);
                state.monitors.insert(at.clone(), Monitor { told: vec![owner], ..Monitor::default() });
                drop(state);
                self.reply(message, &path(&at))
            }
            _ => Err(("org.freedesktop.DBus.Error.UnknownMethod".to_owned(), format!("no {member}"))),
        }
    }

    fn answer_monitor(&self, message: &Message, at: &str, member: &str) -> Result<(), Refusal> {
        let mut state = self.state.lock().unwrap();
        let id = state.last_subscription + 1;
        let monitor = state.monitors.get_mut(at).ok_or_else(|| unknown_object(at))?;
        match member {
            "Subscribe" => {
                let (node, unit): (String, String) = body(message)?;
                monitor.subscriptions.insert(id, (node, vec![unit]));
                state.last_subscription = id;
                self.reply(message, &id)
            }
            "Close" => {
                state.monitors.remove(at);
                self.reply(message, &())
            }
            _ => Err(("org.freedesktop.DBus.Error.UnknownMethod".to_owned(), format!("no {member}"))),
        }
    }

    fn answer_node(self: &Arc<Self>, message: &Message, node: &Arc<Node>, member: &str) -> Result<(), Refusal> {
        if !node.is_online() {
            return Err(("org.eclipse.bluechi.Offline".to_owned(), "Node is offline".to_owned()));
        }
        match member {
            "StartUnit" => self.run_job(message, node, member, "start"),
            "StopUnit" => self.run_job(message, node, member, "stop"),
            "RestartUnit" => self.run_job(message, node, member, "restart"),
            "ReloadUnit" => self.run_job(message, node, member, "reload"),
            "StartTransientUnit" => {
                type Settings = Vec<(String, OwnedValue)>;
                let asked: (String, String, Settings, Vec<(String, Settings)>) = body(message)?;
                let job: OwnedObjectPath = body(&node.ask(member, &asked)?)?;
                self.reply(message, &job)
            }
            "FreezeUnit" | "ThawUnit" | "ResetFailedUnit" => {
                node.ask(member, &body::<String>(message)?)?;
                self.reply(message, &())
            }
            "Reload" | "ResetFailed" => {
                node.ask(member, &())?;
                self.reply(message, &())
            }
            "KillUnit" => {
                node.ask(member, &body::<(String, String, i32)>(message)?)?;
                self.reply(message, &())
            }
            "SetUnitProperties" => {
                node.ask(member, &body::<(String, bool, Vec<(String, OwnedValue)>)>(message)?)?;
                self.reply(message, &())
            }
            "GetUnitProperties" => {
                let (unit, interface): (String, String) = body(message)?;
                let found: BTreeMap<String, OwnedValue> = body(&node.properties(&unit, &interface)?)?;
                self.reply(message, &found)
            }
            "GetUnitProperty" => {
                let (unit, interface, name): (String, String, String) = body(message)?;
                let mut found: BTreeMap<String, OwnedValue> = body(&node.properties(&unit, &interface)?)?;
                let gone = || ("org.freedesktop.DBus.Error.UnknownProperty".to_owned(), format!("no {name}"));
                self.reply(message, &found.remove(&name).ok_or_else(gone)?)
            }
            "ListUnits" => {
                type Listed =
                    (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);
                let found: Vec<Listed> = body(&node.ask(member, &())?)?;
                self.reply(message, &found)
            }
            _ => Err(("org.freedesktop.DBus.Error.UnknownMethod".to_owned(), format!("no {member}"))),
        }
    }

    /// `JobNew`, the answer, and at the end `JobRemoved`, where its node has not been lost by then.
    fn run_job(
        self: &Arc<Self>,
        message: &Message,
        node: &Arc<Node>,
        method: &str,
        kind: &'static str,
    ) -> Result<(), Refusal> {
        let asked: (String, String) = body(message)?;
        // A job that is refused uses up its id.
        let id = {
            let mut state = self.state.lock().unwrap();
            state.last_job += 1;
            state.last_job
        };
        let ends = node.ends();
        let inner: OwnedObjectPath = body(&node.ask(method, &asked)?)?;
        let at = format!("{OBJECT}/job/{id}");
        let unit = asked.0;
        let job = Job { id, node: node.name.clone(), unit: unit.clone(), kind, inner: inner.clone() };
        self.state.lock().unwrap().jobs.insert(at.clone(), job);
        let controller = "org.eclipse.bluechi.Controller";
        self.signal(None, OBJECT, controller, "JobNew", &(id, path(&at)));
        self.reply(message, &path(&at))?;
        let result = ends.flatten().find_map(|end| {
            let (_, job, _, result) = end.body().deserialize::<(u32, OwnedObjectPath, String, String)>().ok()?;
            (job == inner).then_some(result)
        });
        if self.state.lock().unwrap().jobs.remove(&at).is_some() {
            let result = result.unwrap_or_else(|| "failed".to_owned());
            self.signal(None, OBJECT, controller, "JobRemoved", &(id, path(&at), node.name.as_str(), unit, result));
        }
        Ok(())
    }
}

fn body<T: DeserializeOwned + zbus::zvariant::Type>(message: &Message) -> Result<T, Refusal> {
    let read = message.body().deserialize();
    read.map_err(|error| ("org.freedesktop.DBus.Error.InvalidArgs".to_owned(), error.to_string()))
}

fn unknown_object(path: &str) -> Refusal {
    ("org.freedesktop.DBus.Error.UnknownObject".to_owned(), format!("Unknown object '{path}'."))
}

fn path(path: &str) -> OwnedObjectPath {
    OwnedObjectPath::try_from(path.to_owned()).expect("a path")
}

fn node_path(name: &str) -> String {
    format!("{OBJECT}/node/{}", actioncontroller::runtime::units::path_element(name))
}
