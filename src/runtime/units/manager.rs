//! Whom units are asked of: the port to the node's systemd, or to BlueChi's controller.

use crossbeam_channel::Receiver;

use super::answers::JobEnd;
use super::journal::Journal;
use super::quadlets::is_quadlet;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::runtime::adapter::{Call, ContainerConfig, RtResult, RuntimeCapabilities, unsupported};
use crate::transport::dbus::{Properties, Value};

/// A unit, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// The node; empty for this daemon's own.
    pub node: String,
    /// Its name.
    pub name: String,
}

impl Unit {
    /// Whether it is on this daemon's node, whose files, processes and control groups can be seen.
    pub fn is_here(&self) -> bool {
        self.node.is_empty()
    }
}

/// Who answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// The version.
    pub version: String,
    /// What it is spoken to by.
    pub api: String,
    /// What can be done there.
    pub capabilities: RuntimeCapabilities,
}

/// What is told of units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// The unit of this name changed, on whichever node.
    Unit(String),
    /// Any may have changed.
    Any,
    /// Nothing in the time.
    Nothing,
}

/// What is told of units, until it is dropped.
pub trait Changes: Send {
    /// The next that is told; [`Told::Nothing`] once the deadline is over or `woken` was told something. Fails where no
    /// more can come.
    fn next(&mut self, deadline: Deadline, woken: &Receiver<()>) -> RtResult<Told>;
}

/// Who runs units. A refusal because nobody is there for a node is
/// [`EngineNotAvailable`](crate::runtime::adapter::RuntimeError::EngineNotAvailable), and of a unit that is not known
/// [`NotFound`](crate::runtime::adapter::RuntimeError::NotFound).
pub trait UnitManager: Send + Sync + 'static {
    /// The engine's name.
    fn engine(&self) -> &'static str;

    /// Who answers, and what can be done.
    fn probe(&self, call: &Call) -> RtResult<Answers>;

    /// Fails where it does not answer.
    fn check(&self, call: &Call) -> RtResult<()>;

    /// Refuses limits on this node by name that systemd would take without a word and without an effect.
    fn check_limits(&self, call: &Call, resources: &Resources) -> RtResult<()>;

    /// The unit of the container of this name, which is this node's: no other engine and no other daemon has one of it.
    fn unit_name(&self, owner: &str, container: &str) -> String;

    /// Whether some of its nodes may be away while it answers.
    fn has_nodes(&self) -> bool {
        false
    }

    /// The node that a container is for; empty for this daemon's own. Refuses what cannot be run there.
    fn node_of(&self, config: &ContainerConfig) -> RtResult<String>;

    /// Refuses a document's own text that could not become a unit here.
    fn check_text(&self, text: &str) -> RtResult<()> {
        if is_quadlet(text) {
            return Err(unsupported(self.engine(), "Podman's Quadlet files ([Container]): their node's systemd does"));
        }
        Ok(())
    }

    /// Gives the unit its text, where that is kept apart from its start.
    fn install(&self, call: &Call, unit: &Unit, text: &str) -> RtResult<()>;

    /// Takes the text away, which is kept no longer.
    fn uninstall(&self, call: &Call, unit: &Unit) -> RtResult<()>;

    /// Starts the unit, of which nothing is left, with this text, and waits for the job's end.
    fn start(&self, call: &Call, unit: &Unit, text: &str) -> RtResult<JobEnd>;

    /// Stops the unit, and waits for the job's end.
    fn stop(&self, call: &Call, unit: &Unit) -> RtResult<JobEnd>;

    /// Sends a signal to the first process (`main`), or to `all`.
    fn kill(&self, call: &Call, unit: &Unit, whom: &str, signal: i32) -> RtResult<()>;

    /// Freezes its processes.
    fn freeze(&self, call: &Call, unit: &Unit) -> RtResult<()>;

    /// Thaws them.
    fn thaw(&self, call: &Call, unit: &Unit) -> RtResult<()>;

    /// Takes back that it failed; nothing where it is not known.
    fn reset_failed(&self, call: &Call, unit: &Unit) -> RtResult<()>;

    /// Changes properties until the next boot.
    fn set_properties(&self, call: &Call, unit: &Unit, properties: &[(&str, Value<'_>)]) -> RtResult<()>;

    /// All properties of the unit, those of a service among them.
    fn properties(&self, call: &Call, unit: &Unit) -> RtResult<Properties>;

    /// The journal that has what units write, where there is one that can be read.
    fn journal(&self) -> Option<&Journal> {
        None
    }

    /// What is told of units from now on.
    fn watch(&self, call: &Call) -> RtResult<Box<dyn Changes>>;
}
