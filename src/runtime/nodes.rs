//! The port to what manages services on several nodes: a controller, and an agent on each node.

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

/// Manages services on several nodes.
pub trait NodeServices: Send + Sync {
    /// Nodes and managers as they are now.
    fn nodes(&self, call: &Call) -> RtResult<ServiceNodes>;

    /// Starts or stops a manager, and waits until it is so. What is so already is `Unchanged`.
    fn control(&self, call: &Call, order: &ManagerOrder) -> RtResult<Change>;

    /// The services that there are, then each as it changes, until the call's token ends it. Fails where no more can come.
    fn watch(&self, call: &Call, filter: &ServiceFilter) -> RtResult<BlockingStream<ServiceState>>;
}

/// Where nothing manages services of several nodes: everything is refused by what would.
pub struct Nothing;

fn off<T>() -> RtResult<T> {
    Err(unsupported("bluechi", "services of several nodes: it is off here (runtimes.bluechi.enabled)"))
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
