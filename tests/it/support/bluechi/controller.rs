//! The controller: its name on the bus, and the objects below it. It keeps nothing: one that is started anew counts jobs from
//! 1 and has no monitors.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crossbeam_channel::{Receiver, Sender, unbounded};
use zbus::Message;
use zbus::blocking::MessageIterator;
use zbus::message::Type;
use zbus::zvariant::{OwnedValue, Value};

use super::World;
use super::jobs::Jobs;
use super::monitor::Monitors;
use super::node::{FileShown, Node, UnitShown};
use super::wire::{
    Answer, CONTROLLER, Call, DRIVER, Fault, JOB, Link, MONITOR, NAME, NODE, PROPERTIES, ROOT, Shown, changed, object,
    properties,
};

const LOG_LEVELS: [&str; 4] = ["DEBUG", "INFO", "WARN", "ERROR"];

/// One run of the controller.
pub struct Controller {
    world: Arc<World>,
    link: Link,
    /// What is to be said, in its order. Nothing for the end.
    outbox: Sender<Option<Message>>,
    pub(super) jobs: Jobs,
    pub(super) monitors: Monitors,
    has_metrics: AtomicBool,
    log_level: Mutex<String>,
    /// What was told last.
    status: Mutex<&'static str>,
}

/// What an object is.
enum Place {
    Controller,
    Node(Arc<Node>),
    Job(u32, Shown),
    Monitor(u32),
}

impl Controller {
    /// Takes the name and answers from now on.
    pub fn start(world: &Arc<World>) -> Result<Arc<Self>, Fault> {
        let link = Link::open(&world.bus)?;
        let messages = link.messages();
        link.match_rule(&format!("type='signal',sender='{DRIVER}',interface='{DRIVER}',member='NameOwnerChanged'"))?;
        let (outbox, unsent) = unbounded();
        let controller = Arc::new(Self {
            world: Arc::clone(world),
            link,
            outbox,
            jobs: Jobs::default(),
            monitors: Monitors::default(),
            has_metrics: AtomicBool::new(false),
            log_level: Mutex::new("INFO".to_owned()),
            status: Mutex::new("down"),
        });
        controller.link.connection.request_name(NAME)?;
        let (serving, saying) = (Arc::clone(&controller), Arc::clone(&controller));
        world.spawn(move || serving.serve(messages));
        world.spawn(move || saying.say(&unsent));
        Ok(controller)
    }

    /// Leaves the bus at once.
    pub fn end(&self) {
        self.link.cut();
        let _ = self.outbox.send(None);
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.world.nodes.iter()
    }

    pub(super) fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.world.node(name)
    }

    /// Says something, after all that was said before it. One that has left the bus meanwhile is not heard.
    pub(super) fn send(&self, message: zbus::Result<Message>) {
        let _ = self.outbox.send(Some(message.expect("a message")));
    }

    fn say(&self, unsent: &Receiver<Option<Message>>) {
        while let Ok(Some(message)) = unsent.recv() {
            self.world.gate.pass();
            let _ = self.link.connection.send(&message);
        }
    }

    /// Answers the call, where that is not done yet.
    pub(super) fn finish(&self, call: &Call, answer: Answer) {
        match answer {
            Ok(Some(message)) => self.send(Ok(message)),
            Ok(None) => {}
            Err(fault) => self.send(call.refusal(&fault)),
        }
    }

    fn serve(self: &Arc<Self>, messages: MessageIterator) {
        for message in messages.map_while(Result::ok) {
            self.world.gate.pass();
            match message.message_type() {
                Type::MethodCall => self.take(Call::new(message)),
                Type::Signal => self.heed(&message),
                Type::MethodReturn | Type::Error => {}
            }
        }
    }

    /// The one signal that it hears is about names that change hands.
    fn heed(&self, message: &Message) {
        if let Ok((name, _, owner)) = message.body().deserialize::<(String, String, String)>()
            && owner.is_empty()
        {
            self.forget_client(&name);
        }
    }

    fn take(self: &Arc<Self>, call: Call) {
        let answer = match self.place(&call) {
            Ok(_) if call.interface() == "org.freedesktop.DBus.Peer" && call.member() == "Ping" => call.answer(&()),
            Ok(place) if call.interface() == PROPERTIES => self.properties(&place, &call),
            Ok(Place::Controller) if call.interface() == CONTROLLER => self.call(&call),
            // Done by the node's own thread, so that one that is slow holds up no other.
            Ok(Place::Node(node)) if call.interface() == NODE => return node.take(Arc::clone(self), call),
            Ok(Place::Job(id, _)) if call.interface() == JOB && call.member() == "Cancel" => {
                self.cancel_job(id).and_then(|()| call.answer(&()))
            }
            Ok(Place::Monitor(id)) if call.interface() == MONITOR => self.call_monitor(id, &call),
            Ok(_) => Err(call.no_method()),
            Err(fault) => Err(fault),
        };
        self.finish(&call, answer);
    }

    fn place(&self, call: &Call) -> Result<Place, Fault> {
        let path = call.path();
        if path == ROOT {
            return Ok(Place::Controller);
        }
        let below = path.strip_prefix(ROOT).and_then(|below| below.strip_prefix('/')).unwrap_or_default();
        let found = match below.split_once('/') {
            Some(("node", _)) => self.nodes().find(|node| node.path() == path).cloned().map(Place::Node),
            Some(("job", id)) => {
                let id = id.parse().ok();
                id.and_then(|id| self.job_shown(id).map(|shown| Place::Job(id, shown)))
            }
            Some(("monitor", id)) => id.parse().ok().filter(|id| self.has_monitor(*id)).map(Place::Monitor),
            _ => None,
        };
        found.ok_or_else(|| call.no_object())
    }

    fn properties(&self, place: &Place, call: &Call) -> Answer {
        match place {
            Place::Controller => {
                let shown = vec![
                    ("Status", Value::from(self.condition()), false),
                    ("LogLevel", Value::from(self.log_level.lock().unwrap().clone()), true),
                    ("LogTarget", Value::from("journald"), false),
                ];
                properties(call, CONTROLLER, shown)
            }
            Place::Node(node) => properties(call, NODE, node.shown()),
            Place::Job(_, shown) => {
                let shown = shown.iter().map(|(name, value, explicit)| {
                    (*name, value.try_clone().expect("it holds no descriptor"), *explicit)
                });
                properties(call, JOB, shown.collect())
            }
            Place::Monitor(_) => properties(call, MONITOR, Vec::new()),
        }
    }

    fn call(&self, call: &Call) -> Answer {
        match call.member().as_str() {
            "ListNodes" => {
                let told = |node: &Arc<Node>| (node.name.clone(), object(&node.path()), node.status(), node.peer_ip());
                call.answer(&self.nodes().map(told).collect::<Vec<_>>())
            }
            "GetNode" => {
                let name: String = call.args()?;
                let found = self.node(&name).ok_or_else(|| Fault::of_bus("ServiceUnknown", "Node not found"))?;
                call.answer(&object(&found.path()))
            }
            "ListUnits" => call.answer(&self.listed::<UnitShown>("ListUnits")),
            "ListUnitFiles" => call.answer(&self.listed::<FileShown>("ListUnitFiles")),
            "CreateMonitor" => call.answer(&self.create_monitor(call.sender())),
            "EnableMetrics" | "DisableMetrics" => self.switch_metrics(call),
            "SetLogLevel" => {
                let level: String = call.args()?;
                if !LOG_LEVELS.contains(&level.as_str()) {
                    return Err(Fault::of_bus("InvalidArgs", format!("Invalid log level '{level}'")));
                }
                *self.log_level.lock().unwrap() = level;
                call.answer(&())
            }
            _ => Err(call.no_method()),
        }
    }

    /// What every node that is there lists; of others nothing is said.
    fn listed<T>(&self, member: &str) -> HashMap<String, Vec<T>>
    where
        Vec<T>: serde::de::DeserializeOwned + zbus::zvariant::Type,
    {
        let list = |node: &Arc<Node>| {
            let listed = node.link.ask_systemd(member, &()).ok()?;
            Some((node.name.clone(), listed.body().deserialize().ok()?))
        };
        self.nodes().filter(|node| node.is_online()).filter_map(list).collect()
    }

    fn switch_metrics(&self, call: &Call) -> Answer {
        let is_on = call.member() == "EnableMetrics";
        if self.has_metrics.swap(is_on, Ordering::SeqCst) == is_on {
            let state = if is_on { "enabled" } else { "disabled" };
            return Err(Fault::of_bus("InconsistentMessage", format!("Metrics already {state}")));
        }
        call.answer(&())
    }

    fn condition(&self) -> &'static str {
        match (self.nodes().any(|node| node.is_online()), self.nodes().all(|node| node.is_online())) {
            (false, _) => "down",
            (true, false) => "degraded",
            (true, true) => "up",
        }
    }

    /// The node's agent is there, or no longer.
    pub(super) fn node_turned(&self, node: &Node) {
        if node.is_online() {
            self.tell_return(node);
        } else {
            self.forget_jobs(&node.name);
            self.tell_loss(node);
        }
        self.send(changed(&node.path(), NODE, "Status", node.status()));
        let condition = self.condition();
        let before = std::mem::replace(&mut *self.status.lock().unwrap(), condition);
        if before != condition {
            self.send(changed(ROOT, CONTROLLER, "Status", condition));
        }
    }
}

/// Properties that have changed, as a signal brings them.
pub type Changes = HashMap<String, OwnedValue>;
