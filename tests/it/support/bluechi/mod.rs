//! [`BluechiStandIn`]: the D-Bus interface of Eclipse BlueChi 1.3.0 on a bus of its own, over nodes that are real systemds.
//!
//! BlueChi comes with no package that the tests could install, so this imitates what it was seen doing, where that differs
//! from its documents, too: a node's jobs vanish with its agent and are not told as removed, a refused start uses up a number,
//! a controller that is started anew counts from 1. `wire` is how things are said, `controller`, `node`, `jobs` and `monitor`
//! are its objects, `agent` is what it is on a node; `client` is for
//! tests that look at single messages.
//!
//! Controller and agents are units of the nodes' systemds, and whatever stops such a unit takes away what it stands for.

mod agent;
pub mod client;
mod controller;
mod jobs;
mod monitor;
mod node;
pub mod wire;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use actioncontroller::runtime::bluechi::{Bluechi, BluechiConfig};

use self::agent::Agent;
use self::controller::Controller;
use self::node::Node;
use self::wire::{Gate, Link, NAME, NODE};
use super::rig::START_LIMIT;
use super::systemd::SystemdServer;
use super::wait::until;

/// The unit that is a node's agent.
pub const AGENT_UNIT: &str = "bluechi-agent.service";

/// The unit of the first node that is the controller.
pub const CONTROLLER_UNIT: &str = "bluechi-controller.service";

/// A running controller with its nodes.
pub struct BluechiStandIn {
    world: Arc<World>,
    // Ended after the threads that speak to them.
    servers: Vec<SystemdServer>,
    bus: PrivateBus,
}

/// What its threads share.
struct World {
    bus: PathBuf,
    nodes: Vec<Arc<Node>>,
    controller: Mutex<Option<Arc<Controller>>>,
    gate: Gate,
    settling: Mutex<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl BluechiStandIn {
    /// Starts it with these nodes, and waits until all are online. The controller is on the first.
    pub fn start(names: &[&str]) -> Self {
        let bus = PrivateBus::start();
        let servers: Vec<_> = names.iter().map(|_| SystemdServer::start()).collect();
        let mut nodes = Vec::new();
        let mut beginnings = Vec::new();
        for (index, (name, server)) in names.iter().zip(&servers).enumerate() {
            agent::write_units(&server.units(), server.files(), index == 0);
            let (node, beginning) = Node::new(name, server.socket(), index == 0).expect("systemd answers");
            nodes.push(node);
            beginnings.push(beginning);
        }
        let world = Arc::new(World {
            bus: bus.socket(),
            nodes,
            controller: Mutex::default(),
            gate: Gate::default(),
            settling: Mutex::default(),
            threads: Mutex::default(),
        });
        for (node, beginning) in world.nodes.iter().zip(beginnings) {
            node.begin(&world, beginning);
        }
        let stand_in = Self { world, servers, bus };
        stand_in.start_controller();
        names.iter().for_each(|name| stand_in.bring_back(name));
        stand_in
    }

    /// The socket of the controller's bus.
    pub fn socket(&self) -> PathBuf {
        self.bus.socket()
    }

    /// Where whatever a test needs can lie.
    pub fn files(&self) -> PathBuf {
        self.bus.dir.path().to_owned()
    }

    /// An adapter's configuration, on the first of its nodes.
    pub fn config(&self) -> BluechiConfig {
        let server = &self.servers[0];
        BluechiConfig {
            node: server.config().node,
            own: self.world.nodes[0].name.clone(),
            dir: self.files().join("kept"),
            bus: self.socket().display().to_string(),
            unit_dir: server.units(),
        }
    }

    /// An adapter for it.
    pub fn adapter(&self) -> Bluechi {
        Bluechi::open(self.config()).expect("the folder can be used")
    }

    /// The systemd of a node.
    pub fn server(&self, name: &str) -> &SystemdServer {
        &self.servers[self.place(name)]
    }

    /// The same, to end it.
    pub fn server_mut(&mut self, name: &str) -> &mut SystemdServer {
        let place = self.place(name);
        &mut self.servers[place]
    }

    fn place(&self, name: &str) -> usize {
        self.world.nodes.iter().position(|node| node.name == name).unwrap_or_else(|| panic!("no node '{name}'"))
    }

    fn of(&self, name: &str) -> &Arc<Node> {
        &self.world.nodes[self.place(name)]
    }

    /// Kills the node's agent: the node is offline, its jobs are gone, and its units go on.
    pub fn lose(&self, name: &str) {
        let node = self.of(name);
        node.link.ask_systemd("KillUnit", &(AGENT_UNIT, "all", 9_i32)).expect("systemd answers");
        until("the node is offline", START_LIMIT, || (!node.has_agent() && !node.is_online()).then_some(()));
    }

    /// Starts the node's agent; online where there is a controller.
    pub fn bring_back(&self, name: &str) {
        let node = self.of(name);
        node.link.ask_systemd("StartUnit", &(AGENT_UNIT, "replace")).expect("systemd answers");
        let is_back =
            || node.has_agent() && node.is_online() == (node.is_reachable() && self.world.controller().is_some());
        until("the node is online", START_LIMIT, || is_back().then_some(()));
    }

    /// Cuts the way from the node's agent to the controller, or restores it: as when the agent is lost, but it goes on.
    pub fn link(&self, name: &str, is_linked: bool) {
        self.of(name).is_linked.store(is_linked, std::sync::atomic::Ordering::SeqCst);
        self.world.settle();
    }

    /// The controller's address as the node's agent tells it.
    pub fn controller_address(&self, name: &str) -> &'static str {
        self.of(name).controller_address()
    }

    /// Units of `node` may depend on such of `other`.
    pub fn allow_dependencies(&self, node: &str, other: &str) {
        self.of(node).allowed.lock().unwrap().insert(other.to_owned());
    }

    /// Takes the controller off its bus.
    pub fn stop_controller(&self) {
        let node = &self.world.nodes[0];
        node.link.ask_systemd("StopUnit", &(CONTROLLER_UNIT, "replace")).expect("systemd answers");
        until("the controller is gone", START_LIMIT, || {
            let is_gone = self.world.controller().is_none() && !self.world.nodes.iter().any(|node| node.is_online());
            is_gone.then_some(())
        });
    }

    /// Starts it anew, and waits until those nodes that have agents are back.
    pub fn start_controller(&self) {
        let node = &self.world.nodes[0];
        node.link.ask_systemd("StartUnit", &(CONTROLLER_UNIT, "replace")).expect("systemd answers");
        until("the controller is there", START_LIMIT, || {
            let is_settled = self.world.nodes.iter().all(|node| node.is_online() == node.is_reachable());
            (self.world.controller().is_some() && is_settled).then_some(())
        });
    }

    /// Both.
    pub fn restart_controller(&self) {
        self.stop_controller();
        self.start_controller();
    }

    /// A job that somebody else asks for, and that is not waited for.
    pub fn run_job(&self, node: &str, unit: &str) {
        let other = Link::open(&self.socket()).expect("the bus");
        other.ask(NAME, &self.of(node).path(), NODE, "StartUnit", &(unit, "replace")).expect("a job");
    }

    /// Whether the controller neither hears nor says anything. Its name stays; what has come meanwhile is answered when it
    /// goes on. One that is stopped hangs no more.
    pub fn hang(&self, hangs: bool) {
        if hangs { self.world.gate.close() } else { self.world.gate.open() }
    }
}

impl Drop for BluechiStandIn {
    fn drop(&mut self) {
        self.world.gate.open();
        if let Some(controller) = self.world.controller.lock().unwrap().take() {
            controller.end();
        }
        self.world.nodes.iter().for_each(|node| node.end());
        loop {
            let threads = std::mem::take(&mut *self.world.threads.lock().unwrap());
            if threads.is_empty() {
                break;
            }
            threads.into_iter().for_each(|thread| drop(thread.join()));
        }
    }
}

impl World {
    fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.threads.lock().unwrap().push(std::thread::spawn(work));
    }

    fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name == name)
    }

    fn controller(&self) -> Option<Arc<Controller>> {
        self.controller.lock().unwrap().clone()
    }

    /// The controller's unit is active, or no longer.
    fn set_controller(self: &Arc<Self>, is_active: bool) {
        let mut controller = self.controller.lock().unwrap();
        match (&*controller, is_active) {
            (None, true) => *controller = Some(Controller::start(self).expect("a bus")),
            (Some(running), false) => {
                running.end();
                self.gate.open();
                *controller = None;
            }
            (None, false) | (Some(_), true) => return,
        }
        drop(controller);
        self.settle();
    }

    /// An agent's unit is active, or no longer.
    fn set_agent(self: &Arc<Self>, node: &Arc<Node>, is_active: bool) {
        let mut agent = node.agent.lock().unwrap();
        match (&*agent, is_active) {
            // Of a systemd that is going away itself there is no more to be had.
            (None, true) => *agent = Agent::start(self, node).ok(),
            (Some(_), false) => *agent = None,
            (None, false) | (Some(_), true) => return,
        }
        drop(agent);
        self.settle();
    }

    /// Finds out who is online, and has it told where that has changed.
    fn settle(&self) {
        let _one_at_a_time = self.settling.lock().unwrap();
        let controller = self.controller();
        for node in &self.nodes {
            let is_online = controller.is_some() && node.is_reachable();
            if node.turn(is_online)
                && let Some(controller) = &controller
            {
                controller.node_turned(node);
            }
        }
    }
}

/// A bus that takes every name and every message.
struct PrivateBus {
    dir: tempfile::TempDir,
    child: Child,
}

impl PrivateBus {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ac-bluechi-").tempdir().expect("a temporary folder");
        let socket = dir.path().join("bus");
        let config = format!(
            "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
             \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\"><busconfig><type>session</type>\
             <listen>unix:path={}</listen><policy context=\"default\"><allow send_destination=\"*\"/>\
             <allow receive_sender=\"*\"/><allow own=\"*\"/></policy></busconfig>",
            socket.display()
        );
        fs::write(dir.path().join("config"), config).expect("a file");
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", dir.path().join("config").display()));
        command.args(["--nofork", "--nopidfile", "--nosyslog", "--print-address"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("dbus is installed");
        let mut address = String::new();
        let output = child.stdout.as_mut().expect("piped");
        BufReader::new(output).read_line(&mut address).expect("a line");
        assert!(address.starts_with("unix:path="), "{address}");
        Self { dir, child }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("bus")
    }
}

impl Drop for PrivateBus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
