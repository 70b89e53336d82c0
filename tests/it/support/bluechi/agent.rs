//! The agent's object on its node's bus, and the units that BlueChi itself is on a node: controller, agent and proxies, by
//! which a unit of one node starts one of another.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use zbus::blocking::MessageIterator;
use zbus::message::Type;
use zbus::zvariant::{OwnedObjectPath, Value};

use super::node::Node;
use super::wire::{AGENT, Answer, Call, Fault, Link, PROPERTIES, ROOT, SYSTEMD, changed, properties};
use super::{AGENT_UNIT, CONTROLLER_UNIT, World};

/// How long a unit of another node may take to start.
const START_LIMIT: Duration = Duration::from_secs(10);

/// An agent that is on its node's bus until it is dropped.
pub struct Agent(Arc<Link>);

impl Agent {
    pub fn start(world: &Arc<World>, node: &Arc<Node>) -> Result<Self, Fault> {
        let link = Arc::new(Link::open(&node.bus)?);
        let messages = link.messages();
        link.connection.request_name(AGENT)?;
        let (own, world_of, node) = (Arc::clone(&link), Arc::clone(world), Arc::clone(node));
        world.spawn(move || serve(&world_of, &node, &own, messages));
        Ok(Self(link))
    }

    pub fn tell_status(&self, node: &Node) {
        let _ = self.0.connection.send(&changed(ROOT, AGENT, "Status", node.status()).expect("a message"));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.0.cut();
    }
}

fn serve(world: &Arc<World>, node: &Arc<Node>, link: &Arc<Link>, messages: MessageIterator) {
    let calls = messages.map_while(Result::ok).filter(|message| message.message_type() == Type::MethodCall);
    for call in calls.map(Call::new) {
        let (world_of, node, link) = (Arc::clone(world), Arc::clone(node), Arc::clone(link));
        // A proxy waits until what it starts has started.
        world.spawn(move || {
            let answer = answer(&world_of, &node, &call);
            let message = answer.or_else(|fault| Ok::<_, zbus::Error>(Some(call.refusal(&fault)?)));
            if let Some(message) = message.expect("a message") {
                let _ = link.connection.send(&message);
            }
        });
    }
}

fn answer(world: &Arc<World>, node: &Arc<Node>, call: &Call) -> Answer {
    if call.path() != ROOT {
        return Err(call.no_object());
    }
    if call.interface() == PROPERTIES {
        return properties(call, AGENT, shown(node));
    }
    match (call.interface().as_str(), call.member().as_str()) {
        (AGENT, "CreateProxy") => {
            let (_, target, unit): (String, String, String) = call.args()?;
            start_elsewhere(world, node, &target, &unit)?;
            call.answer(&())
        }
        (AGENT, "RemoveProxy") => {
            let (_, target, unit): (String, String, String) = call.args()?;
            let target = other(world, node, &target)?;
            target.link.ask_systemd("StopUnit", &(dependency(&unit), "replace"))?;
            call.answer(&())
        }
        (AGENT, "SwitchController") => {
            let address: String = call.args()?;
            // Any other controller is none of ours.
            node.is_linked.store(address == node.controller_address(), Ordering::SeqCst);
            world.settle();
            call.answer(&())
        }
        (AGENT, "JobCancel") => {
            let id: u32 = call.args()?;
            let controller = world.controller().ok_or_else(|| Fault::of_bus("Failed", "Not connected"))?;
            controller.cancel_job(id)?;
            call.answer(&())
        }
        _ => Err(call.no_method()),
    }
}

fn shown(node: &Node) -> Vec<(&'static str, Value<'static>, bool)> {
    let lost = if node.is_online() { 0 } else { node.last_seen() };
    vec![
        ("Status", Value::from(node.status()), false),
        ("ControllerAddress", Value::from(node.controller_address()), false),
        ("LogLevel", Value::from("INFO"), true),
        ("LogTarget", Value::from("journald"), false),
        ("DisconnectTimestamp", Value::from(lost), true),
        ("DisconnectTimestampMonotonic", Value::from(lost), true),
        ("LastSeenTimestamp", Value::from(node.last_seen()), true),
        ("LastSeenTimestampMonotonic", Value::from(node.last_seen()), true),
    ]
}

/// The node whose units this one's may start.
fn other<'a>(world: &'a World, node: &Node, target: &str) -> Result<&'a Arc<Node>, Fault> {
    let is_allowed = node.allowed.lock().unwrap().contains(target);
    let found = world.node(target).filter(|_| is_allowed);
    let found =
        found.ok_or_else(|| Fault::of_bus("AccessDenied", format!("No dependencies on '{target}' are allowed")))?;
    match found.is_online() && node.is_online() {
        true => Ok(found),
        false => Err(Fault::of_bus("Failed", format!("Node '{target}' is offline"))),
    }
}

/// Starts the unit there by one that depends on it, so that it stays where it need not.
fn start_elsewhere(world: &World, node: &Node, target: &str, unit: &str) -> Result<(), Fault> {
    let target = other(world, node, target)?;
    let started = target.link.ask_systemd("StartUnit", &(dependency(unit), "replace"))?;
    let job: OwnedObjectPath = started.body().deserialize()?;
    let begun = Instant::now();
    let is_there = || {
        let asked = ("org.freedesktop.systemd1.Job", "Id");
        target.link.ask(SYSTEMD, &job, PROPERTIES, "Get", &asked).is_ok()
    };
    while is_there() {
        if begun.elapsed() > START_LIMIT {
            return Err(Fault::of_bus("Failed", format!("'{unit}' does not start")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    match target.state_of(unit) {
        Some((active, _)) if active == "active" => Ok(()),
        state => Err(Fault::of_bus("Failed", format!("'{unit}' has not started: {state:?}"))),
    }
}

/// The unit that keeps `unit` for those on other nodes.
fn dependency(unit: &str) -> String {
    format!("bluechi-dep@{}.service", unit.strip_suffix(".service").unwrap_or(unit))
}

/// Writes BlueChi's own units. `files` is a folder that the node sees.
pub fn write_units(units: &Path, files: &Path, is_local: bool) {
    // `worker1_foo` is foo.service of worker1.
    let script = "busctl --user call org.eclipse.bluechi.Agent /org/eclipse/bluechi org.eclipse.bluechi.Agent \"$1\" sss \
        \"bluechi-proxy@$2.service\" \"${2%%_*}\" \"${2#*_}.service\"\n";
    let script_path = files.join("bluechi-proxy.sh");
    fs::write(&script_path, script).expect("a script");
    let stays = "[Service]\nType=exec\nExecStart=/bin/sleep infinity\n".to_owned();
    let proxy = format!(
        "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/sh {0} CreateProxy %i\nExecStop=/bin/sh {0} RemoveProxy %i\n",
        script_path.display()
    );
    let dependency = "[Unit]\nBindsTo=%i.service\nAfter=%i.service\n\
        [Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true\n";
    let mut texts = vec![
        (AGENT_UNIT, stays.clone()),
        ("bluechi-proxy@.service", proxy),
        ("bluechi-dep@.service", dependency.to_owned()),
    ];
    texts.extend(is_local.then_some((CONTROLLER_UNIT, stays)));
    for (name, text) in texts {
        fs::write(units.join(name), text).expect("a unit");
    }
}
