//! Services of several nodes: what is asked, and what is told.

use super::requests::{known, missing, name, optional_name};
use crate::error::{Error, Result};
use crate::proto::services as wire;
use crate::runtime::adapter::Change;
use crate::runtime::nodes::{
    InstalledService, ManagerOrder, ManagerState, ManagerVerb, ServiceFilter, ServiceManager, ServiceNode,
    ServiceNodes, ServiceState, UnitFileChange, UnitFilesOrder, UnitFilesVerb,
};

/// The most units of one order.
const MOST_UNITS: usize = 64;

/// What is done with which manager.
pub fn order(request: wire::ControlManagerRequest) -> Result<ManagerOrder> {
    let manager = match known(request.manager, "manager")? {
        wire::ServiceManager::SERVICE_MANAGER_UNSPECIFIED => return Err(missing("manager")),
        wire::ServiceManager::SERVICE_MANAGER_CONTROLLER => ServiceManager::Controller,
        wire::ServiceManager::SERVICE_MANAGER_AGENT => ServiceManager::Agent,
    };
    let verb = match known(request.verb, "verb")? {
        wire::ManagerVerb::MANAGER_VERB_UNSPECIFIED => return Err(missing("verb")),
        wire::ManagerVerb::MANAGER_VERB_START => ManagerVerb::Start,
        wire::ManagerVerb::MANAGER_VERB_STOP => ManagerVerb::Stop,
        wire::ManagerVerb::MANAGER_VERB_RESTART => ManagerVerb::Restart,
    };
    Ok(ManagerOrder { manager, node: optional_name(request.node, "node")?, verb })
}

/// Which services are watched.
pub fn filter(request: wire::WatchServicesRequest) -> Result<ServiceFilter> {
    Ok(ServiceFilter { node: optional_name(request.node, "node")?, unit: optional_name(request.unit, "unit")? })
}

/// Which services are listed.
pub fn listed(request: wire::ListServicesRequest) -> Result<ServiceFilter> {
    Ok(ServiceFilter { node: optional_name(request.node, "node")?, unit: optional_name(request.unit, "unit")? })
}

/// What is done with which files of units.
pub fn unit_files(verb: UnitFilesVerb, request: wire::UnitFilesRequest) -> Result<UnitFilesOrder> {
    if request.units.is_empty() {
        return Err(missing("units"));
    }
    if request.units.len() > MOST_UNITS {
        return Err(Error::invalid(
            "units",
            format!("are {}, and at most {MOST_UNITS} are taken", request.units.len()),
        ));
    }
    let units = request.units.into_iter().map(|unit| name(unit, "units"));
    Ok(UnitFilesOrder {
        node: optional_name(request.node, "node")?,
        units: units.collect::<Result<_>>()?,
        verb,
        is_for_this_boot: request.runtime,
        by_force: request.force,
    })
}

/// Which node reads its unit files anew.
pub fn reload(request: wire::ReloadUnitsRequest) -> Result<String> {
    optional_name(request.node, "node")
}

/// Nodes and managers.
pub fn nodes(found: ServiceNodes) -> wire::ListNodesResponse {
    wire::ListNodesResponse {
        nodes: found.nodes.into_iter().map(node).collect(),
        managers: found.managers.into_iter().map(manager).collect(),
        problem: found.problem,
        ..Default::default()
    }
}

fn node(ServiceNode { name, is_own, is_online, address }: ServiceNode) -> wire::ServiceNode {
    wire::ServiceNode { name, own: is_own, online: is_online, address, ..Default::default() }
}

fn manager(state: ManagerState) -> wire::ManagerState {
    let manager = match state.manager {
        ServiceManager::Controller => wire::ServiceManager::SERVICE_MANAGER_CONTROLLER,
        ServiceManager::Agent => wire::ServiceManager::SERVICE_MANAGER_AGENT,
    };
    wire::ManagerState {
        manager: manager.into(),
        unit: state.unit,
        active: state.active,
        status: state.status,
        controller_address: state.controller_address,
        ..Default::default()
    }
}

/// What came of an order.
pub fn controlled(change: Change) -> wire::ControlManagerResponse {
    wire::ControlManagerResponse { changed: change == Change::Changed, ..Default::default() }
}

/// What was done with files of units.
pub fn arranged(changes: Vec<UnitFileChange>) -> wire::UnitFilesResponse {
    let change =
        |UnitFileChange { kind, path, target }| wire::UnitFileChange { kind, path, target, ..Default::default() };
    let changes: Vec<_> = changes.into_iter().map(change).collect();
    wire::UnitFilesResponse { changed: !changes.is_empty(), changes, ..Default::default() }
}

/// Services that are loaded or installed.
pub fn services(services: Vec<InstalledService>) -> wire::ListServicesResponse {
    let service = |service: InstalledService| wire::InstalledService {
        state: Some(state(service.state)).into(),
        start: service.start,
        ..Default::default()
    };
    wire::ListServicesResponse { services: services.into_iter().map(service).collect(), ..Default::default() }
}

/// A service as it is now.
pub fn state(state: ServiceState) -> wire::ServiceState {
    let ServiceState { node, unit, active, sub } = state;
    wire::ServiceState { node, unit, active, sub, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_and_not_too_many() {
        let of = |units: Vec<String>| {
            let request = wire::UnitFilesRequest { units, ..Default::default() };
            unit_files(UnitFilesVerb::Enable, request).map_err(|error| error.to_string())
        };
        assert_eq!(of(vec!["a.service".into()]).unwrap().units, ["a.service"]);
        for refused in [vec![], vec![String::new()], vec!["a".into(); MOST_UNITS + 1], vec!["n".repeat(300)]] {
            assert!(of(refused).unwrap_err().contains("units"));
        }
    }

    #[test]
    fn orders_name_manager_and_verb_or_are_refused_by_field() {
        let mut request = wire::ControlManagerRequest { node: "a".into(), ..Default::default() };
        assert!(order(request.clone()).unwrap_err().to_string().contains("manager"));
        request.manager = wire::ServiceManager::SERVICE_MANAGER_AGENT.into();
        assert!(order(request.clone()).unwrap_err().to_string().contains("verb"));
        request.verb = wire::ManagerVerb::MANAGER_VERB_STOP.into();
        let expected = ManagerOrder { manager: ServiceManager::Agent, node: "a".into(), verb: ManagerVerb::Stop };
        assert_eq!(order(request.clone()), Ok(expected));
        request.node = "n".repeat(300);
        assert!(order(request).unwrap_err().to_string().contains("node"));
    }
}
