//! A node: a systemd, the agent that the controller reaches it by, and what the agent hears of it.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, Sender, unbounded};
use zbus::Message;
use zbus::blocking::MessageIterator;
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, OwnedValue, Value};

use super::agent::Agent;
use super::controller::{Changes, Controller};
use super::jobs::kind_of;
use super::monitor::News;
use super::wire::{
    Answer, Call, Fault, Link, MANAGER, MANAGER_PATH, PROPERTIES, ROOT, SYSTEMD, Shown, escaped, text, unescaped,
};
use super::{AGENT_UNIT, CONTROLLER_UNIT, World};

/// A unit as systemd's `ListUnits` has it.
pub type UnitShown = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A unit file as systemd's `ListUnitFiles` has it.
pub type FileShown = (String, String);

/// Methods that are put to systemd as they come, with what they take.
const PASSED: [(&str, &str); 15] = [
    ("StartTransientUnit", "ssa(sv)a(sa(sv))"),
    ("FreezeUnit", "s"),
    ("ThawUnit", "s"),
    ("ResetFailedUnit", "s"),
    ("ResetFailed", ""),
    ("Reload", ""),
    ("KillUnit", "ssi"),
    ("SetUnitProperties", "sba(sv)"),
    ("EnableUnitFiles", "asbb"),
    ("DisableUnitFiles", "asb"),
    ("GetUnitFileState", "s"),
    ("ListUnits", ""),
    ("ListUnitFiles", ""),
    ("GetDefaultTarget", ""),
    ("SetDefaultTarget", "sb"),
];

const UNIT_INTERFACE: &str = "org.freedesktop.systemd1.Unit";
const JOB_INTERFACE: &str = "org.freedesktop.systemd1.Job";

/// A call, and the controller that took it. Nothing for the end.
type Work = Option<(Arc<Controller>, Call)>;

pub struct Node {
    pub(super) name: String,
    /// The bus of its systemd.
    pub(super) bus: PathBuf,
    /// What systemd is asked by.
    pub(super) link: Link,
    /// What systemd tells by, so that one who waits for an answer is not in its way.
    events: Link,
    desk: Sender<Work>,
    is_local: bool,
    is_online: AtomicBool,
    /// Whether the agent speaks to this controller.
    pub(super) is_linked: AtomicBool,
    pub(super) agent: Mutex<Option<Agent>>,
    /// Nodes whose units may be started by its own, as `AllowDependenciesOn` says.
    pub(super) allowed: Mutex<BTreeSet<String>>,
    /// When it was last online, in microseconds since 1970.
    last_seen: AtomicU64,
    /// Active and sub state of units as they were told last.
    told: Mutex<HashMap<String, (String, String)>>,
}

/// Where a node's threads begin.
pub struct Beginning {
    events: MessageIterator,
    work: Receiver<Work>,
}

impl Node {
    /// A node on this bus of a systemd, with no agent yet.
    pub fn new(name: &str, bus: PathBuf, is_local: bool) -> Result<(Arc<Self>, Beginning), Fault> {
        let (link, events) = (Link::open(&bus)?, Link::open(&bus)?);
        let messages = events.messages();
        events.match_rule(&format!("type='signal',sender='{SYSTEMD}',path_namespace='{MANAGER_PATH}'"))?;
        events.ask_systemd("Subscribe", &())?;
        let (desk, work) = unbounded();
        let node = Arc::new(Self {
            name: name.to_owned(),
            bus,
            link,
            events,
            desk,
            is_local,
            is_online: AtomicBool::new(false),
            is_linked: AtomicBool::new(true),
            agent: Mutex::default(),
            allowed: Mutex::default(),
            last_seen: AtomicU64::new(0),
            told: Mutex::default(),
        });
        Ok((node, Beginning { events: messages, work }))
    }

    /// Listens to systemd and does what it is asked, in the order of the calls, until its end.
    pub fn begin(self: &Arc<Self>, world: &Arc<World>, beginning: Beginning) {
        let (listening, worker) = (Arc::clone(self), Arc::clone(self));
        let own = Arc::clone(world);
        world.spawn(move || listening.listen(&own, beginning.events));
        world.spawn(move || {
            while let Ok(Some((controller, call))) = beginning.work.recv() {
                controller.finish(&call, worker.call(&controller, &call));
            }
        });
    }

    pub fn end(&self) {
        let _ = self.desk.send(None);
        self.agent.lock().unwrap().take();
        self.link.cut();
        self.events.cut();
    }

    pub fn path(&self) -> String {
        format!("{ROOT}/node/{}", escaped(&self.name))
    }

    pub fn is_online(&self) -> bool {
        self.is_online.load(Ordering::SeqCst)
    }

    pub fn has_agent(&self) -> bool {
        self.agent.lock().unwrap().is_some()
    }

    /// Whether a controller would have it online.
    pub fn is_reachable(&self) -> bool {
        self.has_agent() && self.is_linked.load(Ordering::SeqCst)
    }

    pub fn status(&self) -> &'static str {
        if self.is_online() { "online" } else { "offline" }
    }

    /// The first node's agent comes by a unix socket, the others by TCP.
    pub fn peer_ip(&self) -> &'static str {
        if self.is_local || !self.is_online() { "" } else { "::ffff:127.0.0.1" }
    }

    pub fn controller_address(&self) -> &'static str {
        if self.is_local { "unix:path=/run/bluechi/bluechi.sock" } else { "tcp:host=127.0.0.1,port=842" }
    }

    /// When it was last online, in microseconds since 1970.
    pub fn last_seen(&self) -> u64 {
        if self.is_online() { now() } else { self.last_seen.load(Ordering::SeqCst) }
    }

    pub fn shown(&self) -> Shown {
        vec![
            ("Name", Value::from(self.name.clone()), false),
            ("Status", Value::from(self.status()), false),
            ("PeerIp", Value::from(self.peer_ip()), true),
            ("LastSeenTimestamp", Value::from(self.last_seen()), true),
            ("LastSeenTimestampMonotonic", Value::from(self.last_seen()), true),
        ]
    }

    /// Whether it is online has been settled; whether that is news.
    pub(super) fn turn(&self, is_online: bool) -> bool {
        let is_news = self.is_online.swap(is_online, Ordering::SeqCst) != is_online;
        if is_news {
            self.last_seen.store(now(), Ordering::SeqCst);
            if let Some(agent) = &*self.agent.lock().unwrap() {
                agent.tell_status(self);
            }
        }
        is_news
    }

    /// Has its thread do this.
    pub fn take(&self, controller: Arc<Controller>, call: Call) {
        let _ = self.desk.send(Some((controller, call)));
    }

    fn call(&self, controller: &Controller, call: &Call) -> Answer {
        if !self.is_online() {
            return Err(Fault::new("org.eclipse.bluechi.Offline", "Node is offline"));
        }
        let member = call.member();
        if let Some(kind) = kind_of(&member) {
            return controller.start_job(self, kind, call);
        }
        match member.as_str() {
            "GetUnitProperties" => {
                let (unit, interface): (String, String) = call.args()?;
                let path = unit_path(&unit);
                call.answer_as(&self.link.ask(SYSTEMD, &path, PROPERTIES, "GetAll", &interface)?)
            }
            "GetUnitProperty" => {
                let (unit, interface, name): (String, String, String) = call.args()?;
                let path = unit_path(&unit);
                call.answer_as(&self.link.ask(SYSTEMD, &path, PROPERTIES, "Get", &(interface, name))?)
            }
            "SetLogLevel" => {
                let _: String = call.args()?;
                call.answer(&())
            }
            _ => {
                let (_, takes) = PASSED.iter().find(|(name, _)| *name == member).ok_or_else(|| call.no_method())?;
                if call.signature() != *takes {
                    return Err(call.unfit(takes));
                }
                call.answer_as(&call.pass_on(&self.link, SYSTEMD, MANAGER_PATH, MANAGER)?)
            }
        }
    }

    /// Active and sub state of a unit that systemd has loaded.
    pub fn state_of(&self, unit: &str) -> Option<(String, String)> {
        let path: OwnedObjectPath = self.link.ask_systemd("GetUnit", &unit).ok()?.body().deserialize().ok()?;
        let state = |name: &str| {
            let answer = self.link.ask(SYSTEMD, &path, PROPERTIES, "Get", &(UNIT_INTERFACE, name)).ok()?;
            text(&answer.body().deserialize::<OwnedValue>().ok()?)
        };
        Some((state("ActiveState")?, state("SubState")?))
    }

    fn listen(self: &Arc<Self>, world: &Arc<World>, messages: MessageIterator) {
        for message in messages.map_while(Result::ok).filter(|message| message.message_type() == Type::Signal) {
            // What cannot be read is none of what is listened for.
            let _ = self.hear(world, &message);
        }
        world.set_agent(self, false);
    }

    fn hear(self: &Arc<Self>, world: &Arc<World>, message: &Message) -> zbus::Result<()> {
        let header = message.header();
        let member = header.member().map(ToString::to_string).unwrap_or_default();
        let path = header.path().map(ToString::to_string).unwrap_or_default();
        let body = message.body();
        // Without its agent nothing of it reaches the controller.
        let controller = world.controller().filter(|_| self.is_online());
        match member.as_str() {
            "JobRemoved" => {
                let (_, job, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize()?;
                controller.inspect(|controller| controller.end_jobs(&self.name, &job, &result));
            }
            "UnitNew" => {
                let (unit, _): (String, OwnedObjectPath) = body.deserialize()?;
                controller.inspect(|controller| controller.tell(&self.name, &unit, &News::New("real")));
            }
            "UnitRemoved" => {
                let (unit, _): (String, OwnedObjectPath) = body.deserialize()?;
                self.told.lock().unwrap().remove(&unit);
                controller.inspect(|controller| controller.tell(&self.name, &unit, &News::Removed("real")));
            }
            "PropertiesChanged" => {
                let (interface, changes, _): (String, Changes, Vec<String>) = body.deserialize()?;
                let element = path.rsplit('/').next().unwrap_or_default();
                if interface == JOB_INTERFACE {
                    if let (Some(controller), Some(state)) = (controller, changes.get("State").and_then(text)) {
                        controller.change_jobs(&self.name, &path, &state);
                    }
                } else if path.starts_with("/org/freedesktop/systemd1/unit/") {
                    self.unit_changed(world, controller.as_deref(), &unescaped(element), &interface, &changes);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn unit_changed(
        self: &Arc<Self>,
        world: &Arc<World>,
        controller: Option<&Controller>,
        unit: &str,
        interface: &str,
        changes: &Changes,
    ) {
        let state = self.new_state(unit, changes).filter(|_| interface == UNIT_INTERFACE);
        if let Some(controller) = controller {
            if let Some((active, sub)) = &state {
                controller.tell(&self.name, unit, &News::State(active, sub, "real"));
            }
            controller.tell(&self.name, unit, &News::Properties(interface, changes));
        }
        let is_active = state.map(|(active, _)| active == "active");
        match (unit, is_active) {
            (AGENT_UNIT, Some(is_active)) => world.set_agent(self, is_active),
            (CONTROLLER_UNIT, Some(is_active)) if self.is_local => world.set_controller(is_active),
            _ => {}
        }
    }

    /// The unit's state, where it is another than was told last.
    fn new_state(&self, unit: &str, changes: &Changes) -> Option<(String, String)> {
        let (active, sub) = (changes.get("ActiveState").and_then(text)?, changes.get("SubState").and_then(text)?);
        let before = self.told.lock().unwrap().insert(unit.to_owned(), (active.clone(), sub.clone()));
        (before.as_ref() != Some(&(active.clone(), sub.clone()))).then_some((active, sub))
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A unit's object.
pub fn unit_path(unit: &str) -> String {
    format!("{MANAGER_PATH}/unit/{}", escaped(unit))
}
