//! [`BluechiStandIn`]: what BlueChi's controller and agents are on the bus, over a real systemd for each node.
//!
//! BlueChi is in no package registry that this builds from. `controller` answers as its D-Bus API does, what it does wrong
//! included; units are run by the node's own [`SystemdServer`], so that processes, exit codes and refusals are real.

mod controller;
mod node;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use actioncontroller::runtime::bluechi::{Bluechi, BluechiConfig};

use self::controller::Controller;
use self::node::Node;
use super::rig::START_LIMIT;
use super::systemd::SystemdServer;
use super::wait::until;

/// A bus on which everybody may do everything.
const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>unix:path=SOCKET</listen>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
    <allow user="*"/>
  </policy>
</busconfig>
"#;

/// A controller with its nodes.
pub struct BluechiStandIn {
    controller: Option<Arc<Controller>>,
    nodes: BTreeMap<String, Arc<Node>>,
    servers: BTreeMap<String, SystemdServer>,
    bus: Child,
    dir: tempfile::TempDir,
}

impl BluechiStandIn {
    /// Starts a systemd for each node, and a controller of them.
    pub fn start(names: &[&str]) -> Self {
        let dir = tempfile::Builder::new().prefix("ac-bluechi-").tempdir().expect("a temporary folder");
        let socket = dir.path().join("bus");
        let config = dir.path().join("bus.conf");
        fs::write(&config, BUS.replace("SOCKET", &socket.display().to_string())).expect("a file");
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let mut command = Command::new("dbus-daemon");
        command.arg(format!("--config-file={}", config.display())).args(["--nofork", "--nopidfile"]);
        let bus = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("dbus-daemon");
        until("the bus", START_LIMIT, || UnixStream::connect(&socket).ok());
        let servers: BTreeMap<_, _> = names.iter().map(|name| ((*name).to_owned(), SystemdServer::start())).collect();
        let nodes = servers.iter().map(|(name, server)| (name.clone(), Arc::new(Node::new(name, &server.socket()))));
        let mut stand_in = Self { controller: None, nodes: nodes.collect(), servers, bus, dir };
        stand_in.start_controller();
        stand_in
    }

    fn start_controller(&mut self) {
        self.controller = Some(Controller::start(&self.socket(), self.nodes.clone()));
    }

    fn controller(&self) -> &Controller {
        self.controller.as_ref().expect("it was started")
    }

    /// The socket of its bus.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("bus")
    }

    /// Where whatever a test needs can lie.
    pub fn files(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The systemd of a node.
    pub fn server(&self, node: &str) -> &SystemdServer {
        &self.servers[node]
    }

    /// An adapter's configuration, on the first of its nodes.
    pub fn config(&self) -> BluechiConfig {
        let (own, server) = self.servers.iter().next().expect("a node");
        BluechiConfig {
            node: server.config().node,
            own: own.clone(),
            dir: self.dir.path().join("kept"),
            bus: self.socket().display().to_string(),
            unit_dir: server.units(),
        }
    }

    /// An adapter for it.
    pub fn adapter(&self) -> Bluechi {
        Bluechi::open(self.config()).expect("the folder can be used")
    }

    /// A node's agent goes away; what it runs goes on.
    pub fn lose(&self, node: &str) {
        self.controller().set_online(node, false);
    }

    /// And comes back.
    pub fn bring_back(&self, node: &str) {
        self.controller().set_online(node, true);
    }

    /// The controller ends; with it monitors, jobs and their numbers.
    pub fn stop_controller(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.stop();
        }
    }

    /// It ends and comes back.
    pub fn restart_controller(&mut self) {
        self.stop_controller();
        self.start_controller();
    }

    /// A job that somebody else asks for.
    pub fn run_job(&self, node: &str, unit: &str) {
        self.controller().run_for_somebody(node, unit);
    }

    /// Whether it answers nothing more.
    pub fn hang(&self, hangs: bool) {
        self.controller().hang(hangs);
    }
}

impl Drop for BluechiStandIn {
    fn drop(&mut self) {
        self.stop_controller();
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}
