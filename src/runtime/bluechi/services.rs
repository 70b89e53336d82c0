//! BlueChi's own services, the controller and the agents, and a monitor of the services that they manage.
//!
//! Those of this node are systemd's to start and stop, whether BlueChi answers or not. Of another node's the agent alone is
//! in reach, and only as long as it is connected: it is told to stop or restart itself, and what comes of it is seen by its
//! node going away.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::controller::{Controller, Listed, OBJECT, Watched};
use super::{BluechiConfig, ENGINE};
use crate::clock::Deadline;
use crate::runtime::adapter::{BlockingStream, Call, Change, NoProgress, RtResult, RuntimeError};
use crate::runtime::nodes::{
    InstalledService, ManagerOrder, ManagerState, ManagerVerb, NodeServices, ServiceFilter, ServiceManager,
    ServiceNode, ServiceNodes, ServiceState, UnitFileChange, UnitFilesOrder,
};
use crate::runtime::shared::calls::late;
use crate::runtime::units::answers::{failure, limits, pause};
use crate::runtime::units::bus_at;
use crate::runtime::units::local::LocalManager;
use crate::runtime::units::manager::{Unit, UnitManager};
use crate::runtime::units::status::{has_job, text};
use crate::transport::dbus::Target;

/// The agent on its node's bus.
const ITS_AGENT: Target<'static> =
    Target { destination: "org.eclipse.bluechi.Agent", path: OBJECT, interface: "org.eclipse.bluechi.Agent" };

/// How long each of those may take who are asked for the nodes: one that hangs leaves the others their time.
const ASK: Duration = Duration::from_secs(2);

/// Between two looks at an agent or a node that is to come or go.
const POLL: Duration = Duration::from_millis(100);

/// How long a monitor waits for what is next before it looks whether it is still wanted.
const TICK: Duration = Duration::from_secs(5);

/// How BlueChi's own services are handled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicesConfig {
    /// The bus that this node's systemd is on, and its agent.
    pub systemd_bus: String,
    /// The controller that this node's agent is told to connect to once it was started; empty leaves that to the agent.
    pub controller_address: String,
    /// Whether they may be started and stopped.
    pub may_control: bool,
}

/// BlueChi's services.
pub struct Services {
    pub(super) controller: Arc<Controller>,
    /// This node's systemd; its agent is on the same bus.
    pub(super) systemd: LocalManager,
    /// What BlueChi calls this node.
    pub(super) own: String,
    pub(super) settings: ServicesConfig,
}

/// The unit of a manager.
fn unit_of(manager: ServiceManager) -> Unit {
    let name = match manager {
        ServiceManager::Controller => "bluechi-controller.service",
        ServiceManager::Agent => "bluechi-agent.service",
    };
    Unit { node: String::new(), name: name.to_owned() }
}

impl Services {
    /// Those of BlueChi as configured.
    pub fn open(config: &BluechiConfig, settings: ServicesConfig) -> RtResult<Self> {
        Ok(Self {
            controller: Arc::new(Controller::new(bus_at(&config.bus)?, config)),
            systemd: LocalManager::new(ENGINE, bus_at(&settings.systemd_bus)?, config.unit_dir.clone()),
            own: config.own.clone(),
            settings,
        })
    }

    /// A manager on this node as it is.
    fn state(&self, call: &Call, manager: ServiceManager) -> ManagerState {
        let unit = unit_of(manager);
        let properties = self.systemd.properties(call, &unit).unwrap_or_default();
        let (status, controller_address) = match manager {
            ServiceManager::Controller => (self.controller.status(call).unwrap_or_default(), String::new()),
            ServiceManager::Agent => {
                let of = |name: &str| self.agent(call, name).unwrap_or_default();
                (of("Status"), of("ControllerAddress"))
            }
        };
        let active = text(&properties, "ActiveState").to_owned();
        ManagerState { manager, unit: unit.name, active, status, controller_address }
    }

    /// A property of this node's agent.
    fn agent(&self, call: &Call, property: &str) -> RtResult<String> {
        let read = self.systemd.bus().property(limits(call), ITS_AGENT, property);
        let value = read.map_err(|error| failure(ENGINE, property, error))?;
        Ok(String::try_from(value).unwrap_or_default())
    }

    /// Starts or stops a manager of this node.
    fn control_here(&self, call: &Call, order: &ManagerOrder) -> RtResult<Change> {
        let unit = unit_of(order.manager);
        let before = self.systemd.properties(call, &unit)?;
        if text(&before, "LoadState") != "loaded" {
            let what = format!("unit '{}' on this node: it is '{}'", unit.name, text(&before, "LoadState"));
            return Err(RuntimeError::NotFound { what });
        }
        let method = match (order.verb, text(&before, "ActiveState")) {
            (ManagerVerb::Start, "active") => return self.connect(call, order.manager),
            (ManagerVerb::Stop, "inactive" | "failed") if !has_job(&before) => return Ok(Change::Unchanged),
            (ManagerVerb::Start, _) => "StartUnit",
            (ManagerVerb::Stop, _) => "StopUnit",
            (ManagerVerb::Restart, _) => "RestartUnit",
        };
        let end = self.systemd.run_job(call, method, &unit.name)?;
        let after = self.systemd.properties(call, &unit)?;
        let active = text(&after, "ActiveState");
        let is_done = match order.verb {
            ManagerVerb::Stop => matches!(active, "inactive" | "failed"),
            ManagerVerb::Start | ManagerVerb::Restart => active == "active",
        };
        if !is_done {
            let (engine, op) = (ENGINE.to_owned(), method.to_owned());
            let message = format!("unit '{}' is '{active}', its job ended as '{end}'", unit.name);
            return Err(RuntimeError::Engine { engine, op, code: 0, message });
        }
        if order.verb != ManagerVerb::Stop {
            self.connect(call, order.manager)?;
        }
        Ok(Change::Changed)
    }

    /// Tells this node's agent to connect to the controller that is configured. Whether it can is seen by its status.
    fn connect(&self, call: &Call, manager: ServiceManager) -> RtResult<Change> {
        if manager != ServiceManager::Agent || self.settings.controller_address.is_empty() {
            return Ok(Change::Unchanged);
        }
        let begun = Instant::now();
        // It is on the bus a moment after its unit is active.
        let present = loop {
            match self.agent(call, "ControllerAddress") {
                Err(RuntimeError::EngineNotAvailable { .. }) if !call.deadline.is_over() => pause(call, "start", POLL)?,
                Err(RuntimeError::EngineNotAvailable { .. }) => return Err(late("start of the agent", begun)),
                other => break other?,
            }
        };
        if present == self.settings.controller_address {
            return Ok(Change::Unchanged);
        }
        let bus = self.systemd.bus();
        let switched: Result<(), _> =
            bus.call(limits(call), ITS_AGENT, "SwitchController", &self.settings.controller_address);
        switched.map_err(|error| failure(ENGINE, "SwitchController", error))?;
        Ok(Change::Changed)
    }

    /// Has another node's agent stop or restart itself.
    fn control_there(&self, call: &Call, order: &ManagerOrder) -> RtResult<Change> {
        let node = &order.node;
        let is_online = self.controller.is_online(call, node)?;
        let method = match (order.verb, is_online) {
            (ManagerVerb::Start, true) | (ManagerVerb::Stop, false) => return Ok(Change::Unchanged),
            (ManagerVerb::Start | ManagerVerb::Restart, false) => {
                let (op, id) = ("start".to_owned(), format!("the agent of node '{node}'"));
                let state = "offline: only that node itself can start it".to_owned();
                return Err(RuntimeError::InvalidState { op, id, state });
            }
            (ManagerVerb::Stop, true) => "StopUnit",
            (ManagerVerb::Restart, true) => "RestartUnit",
        };
        let unit = Unit { node: node.clone(), name: unit_of(ServiceManager::Agent).name };
        self.controller.lose_node(call, method, &unit)?;
        if order.verb == ManagerVerb::Restart {
            self.controller.await_return(call, node)?;
        }
        Ok(Change::Changed)
    }
}

impl NodeServices for Services {
    fn nodes(&self, call: &Call) -> RtResult<ServiceNodes> {
        let soon = || Call { deadline: call.deadline.at_most(ASK), ..*call };
        let managers = [ServiceManager::Controller, ServiceManager::Agent].map(|manager| self.state(&soon(), manager));
        let listed = self.controller.list_nodes(&soon());
        let (nodes, problem) = match listed {
            Ok(listed) => (listed, String::new()),
            Err(error) => (Vec::new(), error.to_string()),
        };
        let node = |(name, _, status, address): Listed| ServiceNode {
            is_own: name == self.own,
            is_online: status == "online",
            name,
            address,
        };
        let mut nodes: Vec<_> = nodes.into_iter().map(node).collect();
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ServiceNodes { nodes, managers: managers.to_vec(), problem })
    }

    fn control(&self, call: &Call, order: &ManagerOrder) -> RtResult<Change> {
        if !self.settings.may_control {
            let reason = "starting and stopping BlueChi itself is off (runtimes.bluechi.manage)".to_owned();
            return Err(RuntimeError::PermissionDenied { reason });
        }
        let done = match (order.manager, self.controller.is_here(&order.node)) {
            (_, true) => self.control_here(call, order),
            (ServiceManager::Agent, false) => self.control_there(call, order),
            (ServiceManager::Controller, false) => Err(RuntimeError::InvalidSpec {
                reason: format!("node: the controller is on this node, not on '{}'", order.node),
            }),
        };
        let (manager, node) = (order.manager.word(), if order.node.is_empty() { &self.own } else { &order.node });
        match &done {
            Ok(change) => log::info!("{:?} of BlueChi's {manager} of node '{node}': {change:?}", order.verb),
            Err(error) => log::warn!("{:?} of BlueChi's {manager} of node '{node}' failed: {error}", order.verb),
        }
        done
    }

    fn watch(&self, call: &Call, filter: &ServiceFilter) -> RtResult<BlockingStream<ServiceState>> {
        if !filter.node.is_empty() {
            // It has to be known. One that is away is told of once it is back.
            self.controller.is_online(call, &filter.node)?;
        }
        let node = if filter.node.is_empty() { "*" } else { &filter.node };
        let unit = if filter.unit.is_empty() { "*" } else { &filter.unit };
        // What changes while they are listed is told twice, and nothing is missed.
        let watched = self.controller.monitor(call, node, unit, |_| true)?;
        let mut present = self.controller.list_units(call)?;
        present.retain(|state| filter.takes(&state.node, &state.unit));
        present.sort_by(|a, b| (&a.node, &a.unit).cmp(&(&b.node, &b.unit)));
        let (controller, filter) = (Arc::clone(&self.controller), filter.clone());
        Ok(Box::new(Monitor { controller, watched, filter, present: present.into(), has_failed: false }))
    }

    fn list(&self, call: &Call, filter: &ServiceFilter) -> RtResult<Vec<InstalledService>> {
        self.listed(call, filter)
    }

    fn arrange(&self, call: &Call, order: &UnitFilesOrder) -> RtResult<Vec<UnitFileChange>> {
        self.arranged(call, order)
    }

    fn reload(&self, call: &Call, node: &str) -> RtResult<()> {
        self.reloaded(call, node)
    }
}

/// Services as they change.
struct Monitor {
    controller: Arc<Controller>,
    watched: Watched,
    filter: ServiceFilter,
    present: VecDeque<ServiceState>,
    has_failed: bool,
}

impl Monitor {
    /// What is told next; `None` for nothing yet.
    fn advance(&mut self) -> RtResult<Option<ServiceState>> {
        let told = self.watched.next_state(Deadline::after(TICK))?;
        let Some(state) = told.filter(|state| self.filter.takes(&state.node, &state.unit)) else { return Ok(None) };
        if state.unit == "*" && state.active == "active" {
            // Of a node that is back nothing is told again.
            let cancel = self.watched.cancel().clone();
            let call = Call { deadline: Deadline::after(TICK), cancel: &cancel, progress: &NoProgress };
            let is_its = |unit: &ServiceState| unit.node == state.node && self.filter.takes(&unit.node, &unit.unit);
            self.present.extend(self.controller.list_units(&call)?.into_iter().filter(is_its));
        }
        Ok(Some(state))
    }
}

impl Iterator for Monitor {
    type Item = RtResult<ServiceState>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(state) = self.present.pop_front() {
            return Some(Ok(state));
        }
        while !self.has_failed {
            match self.advance() {
                Ok(Some(state)) => return Some(Ok(state)),
                Ok(None) => {}
                Err(error) => {
                    self.has_failed = true;
                    let is_over = matches!(error, RuntimeError::Cancelled { .. });
                    return (!is_over).then_some(Err(error));
                }
            }
        }
        None
    }
}
