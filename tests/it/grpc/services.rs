//! Services of several nodes over the wire, and what becomes of who watches them.

use std::time::{Duration, Instant};

use actioncontroller::dispatch::service::{Later, Services, Stepwise};
use actioncontroller::error::Result;
use actioncontroller::proto::services::{
    ControlManagerRequest, ListNodesRequest, ManagerVerb, ServiceManager, WatchServicesRequest,
};
use actioncontroller::proto::services_grpc::ServicesClient;
use actioncontroller::runtime::adapter::Change;
use actioncontroller::runtime::nodes::{ManagerOrder, ServiceFilter, ServiceNode, ServiceNodes, ServiceState};
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
