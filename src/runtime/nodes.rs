//! The port to what manages services on several nodes: a controller, and an agent on each node; or this node's systemd alone.

use super::adapter::{BlockingStream, Call, Change, RtResult, unsupported};

/// What manages services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ServiceManager {
    /// The controller, which runs on one node.
    Controller,
    /// A node's agent.
    Agent,
}

impl ServiceManager {
    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Controller => "controller",
            Self::Agent => "agent",
        }
    }
}

/// What is done with a manager of services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ManagerVerb {
    /// Starts it.
    Start,
    /// Stops it.
    Stop,
    /// Stops and starts it.
    Restart,
}

/// An order to a manager of services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerOrder {
    /// Which.
    pub manager: ServiceManager,
    /// On which node; empty for this one. The controller is on this one.
    pub node: String,
    /// What is done.
    pub verb: ManagerVerb,
}

/// A node of the controller's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceNode {
    /// What the controller calls it.
    pub name: String,
    /// Whether it is this one.
    pub is_own: bool,
    /// Whether its agent is connected.
    pub is_online: bool,
    /// Its address as the controller sees it; empty for a unix socket, and while it is away.
    pub address: String,
}

/// A manager of services on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManagerState {
    /// Which.
    pub manager: ServiceManager,
    /// Its unit.
    pub unit: String,
    /// systemd's word for its state, `active` or `inactive` say; empty where systemd does not tell.
    pub active: String,
    /// Whether it is connected, in its own words: `online` or `offline` of an agent, `up`, `degraded` or `down` of the
    /// controller; empty where it does not answer.
    pub status: String,
    /// Of an agent: the address of its controller; empty where it does not tell.
    pub controller_address: String,
}

/// Nodes and managers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceNodes {
    /// The nodes by name; none where the controller is not here or does not answer.
    pub nodes: Vec<ServiceNode>,
    /// The managers on this node.
    pub managers: Vec<ManagerState>,
    /// Why there are no nodes; empty where there are.
    pub problem: String,
}

/// A service as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceState {
    /// Its node.
    pub node: String,
    /// Its unit; `*` stands for all of a node that was lost or came back.
    pub unit: String,
    /// systemd's word: `active`, `inactive`, `failed` and so on.
    pub active: String,
    /// Finer: `running`, `exited`, `dead`; of a whole node `agent-offline` or `agent-online`.
    pub sub: String,
}

/// Which services are watched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServiceFilter {
    /// Of this node; empty for all.
    pub node: String,
    /// This unit; empty for all services.
    pub unit: String,
}

impl ServiceFilter {
    /// Whether the service is meant. All of a node are meant with each of it.
    pub fn takes(&self, node: &str, unit: &str) -> bool {
        let is_unit = match self.unit.as_str() {
            "" => unit == "*" || unit.ends_with(".service"),
            wanted => unit == wanted || unit == "*",
        };
        (self.node.is_empty() || self.node == node) && is_unit
    }
}

/// A service that is loaded or installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledService {
    /// As it is now.
    pub state: ServiceState,
    /// systemd's word for whether it starts with the boot: `enabled`, `disabled`, `static`, `generated` and so on; empty where
    /// it has no file.
    pub start: String,
}

/// What is done with the files of units.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnitFilesVerb {
    /// They start with the boot, or with what their `[Install]` sections name.
    Enable,
    /// They do so no more. What runs goes on.
    Disable,
}

/// An order about files of units.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFilesOrder {
    /// On which node; empty for this one.
    pub node: String,
    /// Their names; no paths.
    pub units: Vec<String>,
    /// What is done.
    pub verb: UnitFilesVerb,
    /// What was asked holds up to the next boot alone.
    pub is_for_this_boot: bool,
    /// Links that are in the way are replaced.
    pub by_force: bool,
}

/// What was done to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitFileChange {
    /// systemd's word: `symlink` or `unlink`.
    pub kind: String,
    /// The link.
    pub path: String,
    /// Where it leads to; empty for one that is gone.
    pub target: String,
}

/// Logs what came of an order about files of units.
pub fn log_arranged(order: &UnitFilesOrder, node: &str, done: &RtResult<Vec<UnitFileChange>>) {
    let (verb, units) = (order.verb, order.units.join("', '"));
    match done {
        Ok(changes) => log::info!("{verb:?} of '{units}' on node '{node}': {} links changed", changes.len()),
        Err(error) => log::warn!("{verb:?} of '{units}' on node '{node}' failed: {error}"),
    }
}

/// Logs what came of reading unit files anew.
pub fn log_reloaded(node: &str, done: &RtResult<()>) {
    match done {
        Ok(()) => log::info!("unit files of node '{node}' were read anew"),
        Err(error) => log::warn!("unit files of node '{node}' could not be read anew: {error}"),
    }
}

/// Manages services on several nodes.
pub trait NodeServices: Send + Sync {
    /// Nodes and managers as they are now.
    fn nodes(&self, call: &Call) -> RtResult<ServiceNodes>;

    /// Starts or stops a manager, and waits until it is so. What is so already is `Unchanged`.
    fn control(&self, call: &Call, order: &ManagerOrder) -> RtResult<Change>;

    /// The services that there are, then each as it changes, until the call's token ends it. Fails where no more can come.
    fn watch(&self, call: &Call, filter: &ServiceFilter) -> RtResult<BlockingStream<ServiceState>>;

    /// The services that are loaded or installed, by node and name. Nodes that are away are left out where all are meant.
    fn list(&self, call: &Call, filter: &ServiceFilter) -> RtResult<Vec<InstalledService>>;

    /// Enables or disables units, all of them or none, and has unit files read anew. Nothing is changed where it was so.
    fn arrange(&self, call: &Call, order: &UnitFilesOrder) -> RtResult<Vec<UnitFileChange>>;

    /// Has the node, empty for this one, read its unit files anew.
    fn reload(&self, call: &Call, node: &str) -> RtResult<()>;
}

/// Where nothing manages services of several nodes: everything is refused by what would.
pub struct Nothing;

fn off<T>() -> RtResult<T> {
    Err(unsupported(
        "bluechi",
        "services of nodes: it is off here, and so is systemd (runtimes.bluechi.enabled, runtimes.systemd.enabled)",
    ))
}

impl NodeServices for Nothing {
    fn nodes(&self, _: &Call) -> RtResult<ServiceNodes> {
        off()
    }

    fn control(&self, _: &Call, _: &ManagerOrder) -> RtResult<Change> {
        off()
    }

    fn watch(&self, _: &Call, _: &ServiceFilter) -> RtResult<BlockingStream<ServiceState>> {
        off()
    }

    fn list(&self, _: &Call, _: &ServiceFilter) -> RtResult<Vec<InstalledService>> {
        off()
    }

    fn arrange(&self, _: &Call, _: &UnitFilesOrder) -> RtResult<Vec<UnitFileChange>> {
        off()
    }

    fn reload(&self, _: &Call, _: &str) -> RtResult<()> {
        off()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filter_takes_services_and_what_is_said_of_a_whole_node() {
        let all = ServiceFilter::default();
        assert!(all.takes("a", "x.service") && all.takes("a", "*") && !all.takes("a", "x.socket"));
        let one = ServiceFilter { node: "a".into(), unit: "x.socket".into() };
        assert!(one.takes("a", "x.socket") && one.takes("a", "*"));
        assert!(!one.takes("b", "x.socket") && !one.takes("a", "x.service"));
    }
}
