//! The services of the node's own systemd, where no BlueChi manages those of several nodes: this one is the only node there is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::never;

use super::{ENGINE, SystemdConfig};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::runtime::adapter::{BlockingStream, Call, Change, NoProgress, RtResult, RuntimeError, unsupported};
use crate::runtime::nodes::{
    InstalledService, ManagerOrder, NodeServices, ServiceFilter, ServiceNode, ServiceNodes, ServiceState,
    UnitFileChange, UnitFilesOrder, log_arranged, log_reloaded,
};
use crate::runtime::units::bus_at;
use crate::runtime::units::installed::{self, Asked, ListedUnit};
use crate::runtime::units::local::{Direct, LocalManager};
use crate::runtime::units::manager::{Changes, Told, Unit, UnitManager};
use crate::runtime::units::status::text;

/// How long who watches waits for what is next before it looks whether it is still wanted.
const TICK: Duration = Duration::from_secs(5);

/// The node's own services.
pub struct Services {
    systemd: Arc<LocalManager>,
    /// What this node is called.
    node: String,
    /// Whether they may be enabled and disabled, and their files read anew.
    may_manage: bool,
}

impl Services {
    /// Those of this systemd.
    pub fn open(config: &SystemdConfig, may_manage: bool) -> RtResult<Self> {
        let systemd = LocalManager::new(ENGINE, bus_at(&config.bus)?, config.unit_dir.clone());
        Ok(Self { systemd: Arc::new(systemd), node: config.node.clone(), may_manage })
    }

    fn check_node(&self, node: &str) -> RtResult<()> {
        if node.is_empty() || node == self.node {
            return Ok(());
        }
        let what = format!("node '{node}': services of other nodes take BlueChi (runtimes.bluechi.enabled)");
        Err(RuntimeError::NotFound { what })
    }

    fn check_manage(&self) -> RtResult<()> {
        if self.may_manage {
            return Ok(());
        }
        let reason = "changing which units start, and reading their files anew, is off (runtimes.systemd.manage)";
        Err(RuntimeError::PermissionDenied { reason: reason.to_owned() })
    }
}

impl NodeServices for Services {
    fn nodes(&self, call: &Call) -> RtResult<ServiceNodes> {
        let answers = self.systemd.check(call);
        let (name, address) = (self.node.clone(), String::new());
        let node = ServiceNode { name, is_own: true, is_online: answers.is_ok(), address };
        let problem = answers.err().map_or_else(String::new, |error| error.to_string());
        Ok(ServiceNodes { nodes: vec![node], managers: Vec::new(), problem })
    }

    fn control(&self, _: &Call, _: &ManagerOrder) -> RtResult<Change> {
        Err(unsupported(
            ENGINE,
            "a controller or agents: they are BlueChi's, which is off here (runtimes.bluechi.enabled)",
        ))
    }

    fn watch(&self, call: &Call, filter: &ServiceFilter) -> RtResult<BlockingStream<ServiceState>> {
        self.check_node(&filter.node)?;
        // What changes while they are listed is told after it.
        let changes = self.systemd.watch(call)?;
        let mut monitor = Monitor {
            systemd: Arc::clone(&self.systemd),
            node: self.node.clone(),
            filter: filter.clone(),
            changes,
            cancel: call.cancel.clone(),
            told: BTreeMap::new(),
            ready: VecDeque::new(),
            has_failed: false,
        };
        monitor.list(call)?;
        Ok(Box::new(monitor))
    }

    fn list(&self, call: &Call, filter: &ServiceFilter) -> RtResult<Vec<InstalledService>> {
        self.check_node(&filter.node)?;
        let mut all = installed::services(&Direct { systemd: &self.systemd, call }, &self.node)?;
        all.retain(|service| filter.takes(&service.state.node, &service.state.unit));
        all.sort_by(|a, b| a.state.unit.cmp(&b.state.unit));
        Ok(all)
    }

    fn arrange(&self, call: &Call, order: &UnitFilesOrder) -> RtResult<Vec<UnitFileChange>> {
        self.check_manage()?;
        self.check_node(&order.node)?;
        let done = installed::arrange(&Direct { systemd: &self.systemd, call }, order);
        log_arranged(order, &self.node, &done);
        done
    }

    fn reload(&self, call: &Call, node: &str) -> RtResult<()> {
        self.check_manage()?;
        self.check_node(node)?;
        let done = self.systemd.reload(call);
        log_reloaded(&self.node, &done);
        done
    }
}

/// Services as they change.
struct Monitor {
    systemd: Arc<LocalManager>,
    node: String,
    filter: ServiceFilter,
    changes: Box<dyn Changes>,
    cancel: CancelToken,
    /// What was told last of each.
    told: BTreeMap<String, ServiceState>,
    ready: VecDeque<ServiceState>,
    has_failed: bool,
}

impl Monitor {
    /// Tells of it where it is wanted, and other than before.
    fn see(&mut self, state: ServiceState) {
        if self.filter.takes(&state.node, &state.unit) && self.told.get(&state.unit) != Some(&state) {
            self.told.insert(state.unit.clone(), state.clone());
            self.ready.push_back(state);
        }
    }

    fn list(&mut self, call: &Call) -> RtResult<()> {
        let systemd = Arc::clone(&self.systemd);
        let units: Vec<ListedUnit> = Direct { systemd: &systemd, call }.ask("ListUnits", &())?;
        let mut states: Vec<_> = units.into_iter().map(|unit| installed::state(&self.node, unit)).collect();
        states.sort_by(|a, b| a.unit.cmp(&b.unit));
        states.into_iter().for_each(|state| self.see(state));
        Ok(())
    }

    /// Waits for what is told next, and looks.
    fn advance(&mut self) -> RtResult<()> {
        let told = self.changes.next(Deadline::after(TICK), &never())?;
        let cancel = self.cancel.clone();
        let call = Call { deadline: Deadline::after(TICK), cancel: &cancel, progress: &NoProgress };
        match told {
            Told::Unit(name) if self.filter.takes(&self.node, &name) => {
                let unit = Unit { node: String::new(), name };
                let properties = self.systemd.properties(&call, &unit)?;
                let of = |property: &str| text(&properties, property).to_owned();
                let (active, sub) = (of("ActiveState"), of("SubState"));
                self.see(ServiceState { node: self.node.clone(), unit: unit.name, active, sub });
                Ok(())
            }
            Told::Any => self.list(&call),
            Told::Unit(_) | Told::Nothing => Ok(()),
        }
    }
}

impl Iterator for Monitor {
    type Item = RtResult<ServiceState>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.has_failed {
            if let Some(state) = self.ready.pop_front() {
                return Some(Ok(state));
            }
            if let Err(error) = self.advance() {
                self.has_failed = true;
                let is_over = matches!(error, RuntimeError::Cancelled { .. });
                return (!is_over).then_some(Err(error));
            }
        }
        None
    }
}
