//! Pullpiri's MonitoringServer, which is told of the node's containers and of the node: `SendContainerList` and
//! `SendNodeInfo`.

use protobuf::Message;

use super::Called;
use crate::application::audience::{Audience, NotTold};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::report::{ContainerList, NodeReport};
use crate::proto::monitoringserver as wire;
use crate::proto::monitoringserver_grpc::{
    MONITORING_SERVER_CONNECTION_SEND_CONTAINER_LIST, MONITORING_SERVER_CONNECTION_SEND_NODE_INFO,
};
use crate::transport::channel::{Bounds, Retry};

const NAME: &str = "MonitoringServer";

/// The listener.
pub struct MonitoringServer {
    called: Called,
}

impl MonitoringServer {
    /// MonitoringServer as reached by `called`.
    pub fn new(called: Called) -> Self {
        Self { called }
    }

    fn tell<Q: Message, R: Message + Unpin>(
        &self,
        method: &grpcio::Method<Q, R>,
        request: &Q,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<(), NotTold> {
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        // The next report comes soon: this one is not tried again.
        let answer = self.called.peer.call(method, request, bounds, Retry::Never);
        answer.map(drop).map_err(|error| NotTold { listener: NAME.to_owned(), reason: error.to_string() })
    }
}

impl Audience for MonitoringServer {
    fn name(&self) -> &str {
        NAME
    }

    fn containers(&self, list: &ContainerList, deadline: Deadline, cancel: &CancelToken) -> Result<(), NotTold> {
        self.tell(&MONITORING_SERVER_CONNECTION_SEND_CONTAINER_LIST, &container_list(list), deadline, cancel)
    }

    fn node(&self, node: &NodeReport, deadline: Deadline, cancel: &CancelToken) -> Result<(), NotTold> {
        let info = wire::NodeInfo {
            node_name: node.node.clone(),
            cpu_usage: node.cpu_percent,
            cpu_count: node.cpus,
            gpu_count: node.gpus,
            used_memory: node.used_memory,
            total_memory: node.total_memory,
            mem_usage: node.memory_percent(),
            rx_bytes: node.rx_bytes,
            tx_bytes: node.tx_bytes,
            read_bytes: node.read_bytes,
            write_bytes: node.write_bytes,
            os: node.os.clone(),
            arch: node.arch.clone(),
            ip: node.ip.clone(),
            ..wire::NodeInfo::default()
        };
        self.tell(&MONITORING_SERVER_CONNECTION_SEND_NODE_INFO, &info, deadline, cancel)
    }
}

/// The containers of a node on the wire.
pub(super) fn container_list(list: &ContainerList) -> wire::ContainerList {
    let containers = list.containers.iter().map(|container| wire::ContainerInfo {
        id: container.id.clone(),
        names: container.names.clone(),
        image: container.image.clone(),
        state: container.state.clone(),
        config: container.config.clone(),
        annotation: container.annotations.clone(),
        stats: container.stats.clone(),
        ..wire::ContainerInfo::default()
    });
    wire::ContainerList {
        node_name: list.node.clone(),
        containers: containers.collect(),
        ..wire::ContainerList::default()
    }
}
