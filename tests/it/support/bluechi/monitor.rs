//! Monitors: who is told of which units, by signals that are addressed to them alone.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::Serialize;
use zbus::zvariant::{DynamicType, OwnedObjectPath, OwnedValue};

use super::controller::Controller;
use super::node::Node;
use super::wire::{Answer, Call, Fault, MONITOR, ROOT, object, signal};

/// Stands for every node, and for every unit.
const ALL: &str = "*";

/// A unit as it is told of.
pub enum News<'a> {
    /// It is there; why it is told of, `real` or `virtual`.
    New(&'a str),
    /// It is gone.
    Removed(&'a str),
    /// Its state: active, sub, and why it is told of.
    State(&'a str, &'a str, &'a str),
    /// These properties of this interface.
    Properties(&'a str, &'a HashMap<String, OwnedValue>),
}

struct Monitor {
    owner: String,
    peers: BTreeMap<u32, String>,
    /// Nodes with their units.
    subscriptions: BTreeMap<u32, (String, Vec<String>)>,
}

impl Monitor {
    fn wants(&self, node: &str, unit: &str) -> bool {
        self.patterns(node).any(|pattern| pattern == ALL || pattern == unit)
    }

    fn patterns(&self, node: &str) -> impl Iterator<Item = &str> {
        let of_node = self.subscriptions.values().filter(move |(name, _)| name == ALL || name == node);
        of_node.flat_map(|(_, units)| units).map(String::as_str)
    }
}

/// What there is of them.
#[derive(Default)]
pub struct Monitors {
    last: AtomicU32,
    last_entry: AtomicU32,
    open: Mutex<BTreeMap<u32, Monitor>>,
}

fn path_of(id: u32) -> OwnedObjectPath {
    object(&format!("{ROOT}/monitor/{id}"))
}

impl Controller {
    /// One more, which is its maker's until that leaves the bus.
    pub fn create_monitor(&self, owner: String) -> OwnedObjectPath {
        let id = self.monitors.last.fetch_add(1, Ordering::SeqCst) + 1;
        let monitor = Monitor { owner, peers: BTreeMap::new(), subscriptions: BTreeMap::new() };
        self.monitors.open.lock().unwrap().insert(id, monitor);
        path_of(id)
    }

    pub fn has_monitor(&self, id: u32) -> bool {
        self.monitors.open.lock().unwrap().contains_key(&id)
    }

    /// Whoever this was has left the bus.
    pub fn forget_client(&self, name: &str) {
        let mut open = self.monitors.open.lock().unwrap();
        open.retain(|_, monitor| monitor.owner != name);
        open.values_mut().for_each(|monitor| monitor.peers.retain(|_, peer| peer != name));
    }

    pub fn call_monitor(&self, id: u32, call: &Call) -> Answer {
        match call.member().as_str() {
            "Subscribe" => {
                let (node, unit): (String, String) = call.args()?;
                self.subscribe(id, call, node, vec![unit])
            }
            "SubscribeList" => {
                let (node, units): (String, Vec<String>) = call.args()?;
                self.subscribe(id, call, node, units)
            }
            "Unsubscribe" => {
                let entry: u32 = call.args()?;
                let gone = self.with(id, call, |monitor| monitor.subscriptions.remove(&entry))?;
                gone.ok_or_else(|| Fault::of_bus("Failed", "Subscription not found"))?;
                call.answer(&())
            }
            "AddPeer" => {
                let name: String = call.args()?;
                let entry = self.next_entry();
                let is_taken = self.with(id, call, |monitor| {
                    let is_taken = monitor.owner == name || monitor.peers.values().any(|peer| *peer == name);
                    if !is_taken {
                        monitor.peers.insert(entry, name);
                    }
                    is_taken
                })?;
                if is_taken {
                    return Err(Fault::of_bus("InvalidArgs", "The peer gets this monitor's signals already"));
                }
                call.answer(&entry)
            }
            "RemovePeer" => {
                let (entry, reason): (u32, String) = call.args()?;
                let gone = self.with(id, call, |monitor| monitor.peers.remove(&entry))?;
                let peer = gone.ok_or_else(|| Fault::of_bus("Failed", "Peer not found"))?;
                self.send(signal(Some(&peer), &path_of(id), MONITOR, "PeerRemoved", &reason));
                call.answer(&())
            }
            "Close" => {
                self.monitors.open.lock().unwrap().remove(&id);
                call.answer(&())
            }
            _ => Err(call.no_method()),
        }
    }

    fn with<T>(&self, id: u32, call: &Call, change: impl FnOnce(&mut Monitor) -> T) -> Result<T, Fault> {
        self.monitors.open.lock().unwrap().get_mut(&id).map(change).ok_or_else(|| call.no_object())
    }

    fn next_entry(&self) -> u32 {
        self.monitors.last_entry.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Whoever subscribes to a unit by name is told of it as if it had just come; of all units nothing is told.
    fn subscribe(&self, id: u32, call: &Call, node: String, units: Vec<String>) -> Answer {
        let entry = self.next_entry();
        self.with(id, call, |monitor| monitor.subscriptions.insert(entry, (node.clone(), units.clone())))?;
        self.finish(call, call.answer(&entry));
        let nodes = self.nodes().filter(|found| node == ALL || found.name == node);
        for node in nodes.filter(|node| node.is_online()) {
            for unit in units.iter().filter(|unit| *unit != ALL) {
                self.introduce(id, node, unit);
            }
        }
        Ok(None)
    }

    fn introduce(&self, id: u32, node: &Node, unit: &str) {
        if let Some((active, sub)) = node.state_of(unit) {
            self.tell_one(id, &node.name, unit, &News::New("virtual"));
            self.tell_one(id, &node.name, unit, &News::State(&active, &sub, "virtual"));
        }
    }

    /// Tells every monitor that wants to know.
    pub fn tell(&self, node: &str, unit: &str, news: &News<'_>) {
        let open = self.monitors.open.lock().unwrap();
        let wanting = open.iter().filter(|(_, monitor)| monitor.wants(node, unit));
        let wanting: Vec<_> = wanting.map(|(id, _)| *id).collect();
        drop(open);
        wanting.into_iter().for_each(|id| self.tell_one(id, node, unit, news));
    }

    fn tell_one(&self, id: u32, node: &str, unit: &str, news: &News<'_>) {
        match *news {
            News::New(reason) => self.address(id, "UnitNew", &(node, unit, reason)),
            News::Removed(reason) => self.address(id, "UnitRemoved", &(node, unit, reason)),
            News::State(active, sub, reason) => {
                self.address(id, "UnitStateChanged", &(node, unit, active, sub, reason))
            }
            News::Properties(interface, properties) => {
                self.address(id, "UnitPropertiesChanged", &(node, unit, interface, properties));
            }
        }
    }

    /// To its owner and to its peers, one by one.
    fn address<B: Serialize + DynamicType>(&self, id: u32, member: &str, body: &B) {
        let open = self.monitors.open.lock().unwrap();
        let Some(monitor) = open.get(&id) else { return };
        let names: Vec<_> = std::iter::once(&monitor.owner).chain(monitor.peers.values()).cloned().collect();
        drop(open);
        for name in names {
            self.send(signal(Some(&name), &path_of(id), MONITOR, member, body));
        }
    }

    /// The node's agent is gone: who subscribed to all units is told so in one word for all.
    pub fn tell_loss(&self, node: &Node) {
        for (id, pattern) in self.patterns(node) {
            if pattern == ALL || node.state_of(&pattern).is_some() {
                self.tell_one(id, &node.name, &pattern, &News::State("inactive", "agent-offline", "virtual"));
                self.tell_one(id, &node.name, &pattern, &News::Removed("virtual"));
            }
        }
    }

    /// The node's agent is back. No states are told again but those of units that were subscribed to by name.
    pub fn tell_return(&self, node: &Node) {
        for (id, pattern) in self.patterns(node) {
            match pattern == ALL {
                true => self.tell_one(id, &node.name, ALL, &News::New("virtual")),
                false => self.introduce(id, node, &pattern),
            }
        }
    }

    fn patterns(&self, node: &Node) -> Vec<(u32, String)> {
        let open = self.monitors.open.lock().unwrap();
        let of_node =
            open.iter().flat_map(|(id, monitor)| monitor.patterns(&node.name).map(|unit| (*id, unit.to_owned())));
        of_node.collect()
    }
}
