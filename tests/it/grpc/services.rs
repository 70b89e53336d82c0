//! Services of several nodes over the wire, and what becomes of who watches them.

use std::time::{Duration, Instant};

use actioncontroller::dispatch::service::{Later, Services, Stepwise};
use actioncontroller::error::Result;
use actioncontroller::proto::services::{
    ControlManagerRequest, ListNodesRequest, ListServicesRequest, ManagerVerb, ReloadUnitsRequest, ServiceManager,
    UnitFilesRequest, WatchServicesRequest,
};
use actioncontroller::proto::services_grpc::ServicesClient;
use actioncontroller::runtime::adapter::Change;
use actioncontroller::runtime::nodes::{
    InstalledService, ManagerOrder, ServiceFilter, ServiceNode, ServiceNodes, ServiceState, UnitFileChange,
    UnitFilesOrder,
};
use futures_util::{StreamExt, stream};
use grpcio::RpcStatusCode;

use super::double::{Double, now};
use super::{Rig, block_on, long, refusal};

impl Services for Double {
    fn list_nodes(&self) -> Later<ServiceNodes> {
        let node = ServiceNode { name: "a".into(), is_own: true, is_online: true, address: String::new() };
        now(ServiceNodes { nodes: vec![node], managers: vec![], problem: String::new() })
    }

    fn control_manager(&self, order: ManagerOrder) -> Later<Change> {
        self.note(format!("{order:?}"));
        now(Change::Changed)
    }

    fn watch_services(&self, filter: ServiceFilter) -> Later<Stepwise<Result<ServiceState>>> {
        let one = ServiceState { node: filter.node, unit: filter.unit, active: "active".into(), sub: "running".into() };
        let stream: Stepwise<Result<ServiceState>> = Box::pin(stream::iter([Ok(one)]).chain(stream::pending()));
        now(stream)
    }

    fn list_services(&self, filter: ServiceFilter) -> Later<Vec<InstalledService>> {
        let ServiceFilter { node, unit } = filter;
        let state = ServiceState { node, unit, active: "inactive".into(), sub: "dead".into() };
        now(vec![InstalledService { state, start: "disabled".into() }])
    }

    fn arrange_units(&self, order: UnitFilesOrder) -> Later<Vec<UnitFileChange>> {
        self.note(format!("{order:?}"));
        let unlinked = |unit| UnitFileChange { kind: "unlink".into(), path: unit, target: String::new() };
        now(order.units.into_iter().map(unlinked).collect())
    }

    fn reload_units(&self, node: String) -> Later<()> {
        self.note(format!("reload '{node}'"));
        now(())
    }
}

impl Rig {
    fn services(&self) -> ServicesClient {
        ServicesClient::new(self.channel())
    }
}

#[test]
fn nodes_are_listed_and_orders_arrive_or_are_refused_by_field() {
    let rig = Rig::new();
    let nodes = rig.services().list_nodes(&ListNodesRequest::default(), long()).unwrap().nodes;
    assert_eq!((nodes[0].name.as_str(), nodes[0].own, nodes[0].online), ("a", true, true));
    let mut request = ControlManagerRequest { node: "b".into(), ..Default::default() };
    request.manager = ServiceManager::SERVICE_MANAGER_AGENT.into();
    let (code, details) = refusal(rig.services().control_manager(&request, long()));
    assert_eq!((code, details.error.field.as_str()), (RpcStatusCode::INVALID_ARGUMENT, "verb"));
    request.verb = ManagerVerb::MANAGER_VERB_RESTART.into();
    assert!(rig.services().control_manager(&request, long()).unwrap().changed);
    assert_eq!(rig.service.last(), "ManagerOrder { manager: Agent, node: \"b\", verb: Restart }");
}

#[test]
fn units_are_listed_enabled_and_disabled_and_their_files_read_anew() {
    let rig = Rig::new();
    let request = ListServicesRequest { node: "a".into(), unit: "x.service".into(), ..Default::default() };
    let listed = rig.services().list_services(&request, long()).unwrap().services;
    assert_eq!((listed[0].state.unit.as_str(), listed[0].start.as_str()), ("x.service", "disabled"));
    let mut request = UnitFilesRequest { node: "b".into(), runtime: true, force: true, ..Default::default() };
    let (code, details) = refusal(rig.services().enable_units(&request, long()));
    assert_eq!((code, details.error.field.as_str()), (RpcStatusCode::INVALID_ARGUMENT, "units"));
    request.units = vec!["x.service".into()];
    let done = rig.services().enable_units(&request, long()).unwrap();
    assert!(done.changed && done.changes[0].path == "x.service", "{done:?}");
    let order = |verb: &str| {
        format!(
            "UnitFilesOrder {{ node: \"b\", units: [\"x.service\"], verb: {verb}, is_for_this_boot: true, by_force: true }}"
        )
    };
    assert_eq!(rig.service.last(), order("Enable"));
    rig.services().disable_units(&request, long()).unwrap();
    assert_eq!(rig.service.last(), order("Disable"));
    rig.services().reload_units(&ReloadUnitsRequest { node: "b".into(), ..Default::default() }, long()).unwrap();
    assert_eq!(rig.service.last(), "reload 'b'");
}

#[test]
fn stop_does_not_wait_for_who_watches() {
    let mut rig = Rig::new();
    let request = WatchServicesRequest { node: "a".into(), unit: "x.service".into(), ..Default::default() };
    let client = rig.services();
    let mut states = client.watch_services(&request, long()).unwrap();
    let first = block_on(states.next()).unwrap().unwrap();
    assert_eq!((first.node.as_str(), first.unit.as_str(), first.active.as_str()), ("a", "x.service", "active"));
    let start = Instant::now();
    rig.stop(Duration::from_secs(15));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let (code, details) = refusal(block_on(states.next()).unwrap());
    assert_eq!((code, details.error.code.as_str()), (RpcStatusCode::UNAVAILABLE, "STOPPING"));
}
