//! Pullpiri's Pharos as the provider of networks between nodes: `RequestNetworkPod`, and the answer that comes later as
//! our `CompleteNetworkSetting`.

use std::sync::Arc;
use std::time::Duration;

use super::Called;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::pullpiri::NetworkOrder;
use crate::networks::{NetworkAnswers, NetworkError, NetworkProvider};
use crate::proto::pharos::RequestNetworkPodRequest;
use crate::proto::pharos_grpc::PHAROS_NETWORK_SERVICE_CONNECTION_REQUEST_NETWORK_POD;
use crate::transport::channel::{Bounds, PeerError, Retry};

/// The provider.
pub struct Pharos {
    called: Called,
    answers: Arc<NetworkAnswers>,
    wait: Duration,
}

impl Pharos {
    /// Pharos as reached by `called`. What it says later arrives in `answers` and is waited for at most `wait`; zero
    /// takes the acceptance for the whole.
    pub fn new(called: Called, answers: Arc<NetworkAnswers>, wait: Duration) -> Self {
        Self { called, answers, wait }
    }
}

impl NetworkProvider for Pharos {
    fn set_up(
        &self,
        workload: &str,
        order: &NetworkOrder,
        deadline: Deadline,
        cancel: &CancelToken,
    ) -> Result<(), NetworkError> {
        let request = RequestNetworkPodRequest {
            node_yaml: order.node.clone(),
            pod_name: workload.to_owned(),
            networkYamls: order.network.clone(),
            ..RequestNetworkPodRequest::default()
        };
        let bounds = Bounds { deadline: deadline.at_most(self.called.timeout), cancel };
        let method = &PHAROS_NETWORK_SERVICE_CONNECTION_REQUEST_NETWORK_POD;
        // Whether it has acted is not known after silence, and a second order may be a second network.
        let answer = self.called.peer.call(method, &request, bounds, Retry::WhileAway);
        let workload = || workload.to_owned();
        let answer = answer.map_err(|error| match error {
            PeerError::Cancelled { .. } => NetworkError::Cancelled { workload: workload() },
            PeerError::Refused { .. } => NetworkError::Refused { workload: workload(), reason: error.to_string() },
            PeerError::Away { .. } | PeerError::Silent { .. } => {
                NetworkError::Unavailable { workload: workload(), reason: error.to_string() }
            }
        })?;
        if !answer.accepted {
            let reason = format!("Pharos does not take it: {}", answer.message);
            return Err(NetworkError::Refused { workload: workload(), reason });
        }
        if self.wait.is_zero() {
            return Ok(());
        }
        match self.answers.wait(&answer.request_id, deadline.at_most(self.wait), cancel) {
            Some(later) if later.is_set => Ok(()),
            Some(later) => {
                let reason = format!("Pharos could not do it: {}", later.details);
                Err(NetworkError::Refused { workload: workload(), reason })
            }
            None if cancel.is_cancelled() => Err(NetworkError::Cancelled { workload: workload() }),
            None => Err(NetworkError::Late { workload: workload(), after: self.wait }),
        }
    }
}
