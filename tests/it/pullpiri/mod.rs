//! The daemon in the place of Pullpiri's ActionController: triggered as its services do, with stand-ins of all of them on
//! the real wire.

mod connections;
mod etcd;
mod misbehaviour;
mod networks;
mod reports;
mod store;
mod timpani;
mod triggers;
pub mod wire;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actioncontroller::proto::actioncontroller::{
    OffloadModelRequest, OffloadModelResponse, TriggerActionRequest, TriggerActionResponse,
};
use actioncontroller::proto::actioncontroller_grpc::ActionControllerConnectionClient;
use actioncontroller::proto::nodeagent_workload::HandleWorkloadRequest;
use protobuf::Message;

use crate::support::daemon::{DaemonProcess, options, with_sim};
use crate::support::peers::{self, StandIn};

/// The daemon with all its peers.
struct Rig {
    daemon: DaemonProcess,
    entries: Arc<Mutex<BTreeMap<String, String>>>,
    running: Arc<Mutex<Vec<String>>>,
    allowed: Arc<Mutex<Vec<String>>>,
    states: Arc<Mutex<BTreeMap<String, String>>>,
    store: StandIn,
    agent: StandIn,
    policy: StandIn,
    state: StandIn,
    timpani: StandIn,
}

impl Rig {
    fn start() -> Self {
        Self::start_with("")
    }

    /// With these settings beside the rig's own.
    fn start_with(settings: &str) -> Self {
        let (entries, running, allowed, states) = (Arc::default(), Arc::default(), Arc::default(), Arc::default());
        let (store, agent) = (peers::rocksdb(Arc::clone(&entries)), peers::node_agent(Arc::clone(&running)));
        let (policy, state) = (peers::policy_manager(Arc::clone(&allowed)), peers::state_manager(Arc::clone(&states)));
        let timpani = peers::timpani("refused");
        let daemon = DaemonProcess::start(|folder| {
            format!(
                "{}store: {{backend: rocksdb, timeout: 1s, rocksdb: {{address: '{}'}}}}\n\
                 policy: {{server: {{address: '{}', timeout: 1s}}}}\n\
                 pullpiri: {{enabled: true, state_manager: '{}', report: never, timeout: 2s, start_timeout: 2s}}\n\
                 timpani: {{address: '{}', timeout: 1s}}\n\
                 nodes: {{ZONE1: {{node_agent: '{}'}}, GONE: {{node_agent: '127.0.0.1:1'}}}}\n{settings}",
                with_sim(folder),
                store.address(),
                policy.address(),
                state.address(),
                timpani.address(),
                agent.address(),
            )
        });
        Self { daemon, entries, running, allowed, states, store, agent, policy, state, timpani }
    }

    fn put(&self, key: &str, text: &str) {
        self.entries.lock().unwrap().insert(key.to_owned(), text.to_owned());
    }

    /// Stores a Scenario `s` that does `action` with a Package `p` of these models with their nodes.
    fn scenario(&self, action: &str, models: &[(&str, &str)], more: &str) {
        let list: String = models
            .iter()
            .map(|(name, node)| format!("    - {{name: {name}, node: {node}, resources: {{volume: null}}}}\n"))
            .collect();
        self.put("Scenario/s", &format!(
            "apiVersion: v1\nkind: Scenario\nmetadata: {{name: s}}\nspec: {{condition: null, action: {action}, target: p}}\n"
        ));
        self.put("Package/p", &format!(
            "apiVersion: v1\nkind: Package\nmetadata: {{label: null, name: p}}\nspec:\n{more}  pattern: [{{type: plain}}]\n  models:\n{list}"
        ));
        models.iter().for_each(|(name, _)| self.model(name, "i"));
    }

    fn model(&self, name: &str, image: &str) {
        let spec = format!(
            "spec:\n  hostNetwork: true\n  volumes: null\n  restartPolicy: Never\n  containers: [{{name: c, image: {image}, tty: null}}]\n"
        );
        self.put(
            &format!("Model/{name}"),
            &format!("apiVersion: v1\nkind: Model\nmetadata: {{name: {name}, labels: {{of: model}}}}\n{spec}"),
        );
        self.put(
            &format!("Pod/{name}"),
            &format!(
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels: null\n  annotations: null\n{spec}"
            ),
        );
    }

    fn client(&self) -> ActionControllerConnectionClient {
        self.daemon.pullpiri()
    }

    fn trigger(&self, scenario: &str) -> grpcio::Result<TriggerActionResponse> {
        let request = TriggerActionRequest { scenario_name: scenario.into(), ..Default::default() };
        self.client().trigger_action(&request, options())
    }

    fn offload(&self, model: &str, source: &str, target: &str) -> OffloadModelResponse {
        let request = OffloadModelRequest {
            package_name: "p".into(),
            model_name: model.into(),
            source_node: source.into(),
            target_node: target.into(),
            ..Default::default()
        };
        self.client().offload_model(&request, options()).unwrap()
    }

    /// The orders that the NodeAgent got: command numbers with the name in the document.
    fn orders(&self) -> Vec<HandleWorkloadRequest> {
        self.agent
            .take()
            .into_iter()
            .map(|(_, bytes)| HandleWorkloadRequest::parse_from_bytes(&bytes).unwrap())
            .collect()
    }
}

/// The code of a refusal.
fn code(answer: grpcio::Result<TriggerActionResponse>) -> (grpcio::RpcStatusCode, String) {
    match answer.unwrap_err() {
        grpcio::Error::RpcFailure(status) => (status.code(), status.message().to_owned()),
        other => panic!("{other}"),
    }
}
