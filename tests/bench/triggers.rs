//! TriggerAction in the place of Pullpiri's ActionController: a Scenario with one model on another node, with stand-ins
//! of store, PolicyManager, StateManager and NodeAgent on loopback, all connections kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actioncontroller::proto::actioncontroller::TriggerActionRequest;
use actioncontroller::proto::actioncontroller_grpc::ActionControllerConnectionClient;
use actioncontroller::proto::nodeagent_grpc::NodeAgentConnectionClient;
use actioncontroller::proto::nodeagent_workload::{HandleWorkloadRequest, WorkloadCommand};
use actioncontroller::proto::policymanager::CheckNodePolicyRequest;
use actioncontroller::proto::policymanager_grpc::PolicyManagerConnectionClient;
use actioncontroller::proto::rocksdbservice::GetRequest;
use actioncontroller::proto::rocksdbservice_grpc::RocksDbServiceClient;

use super::calls::channel;
use super::launches::settings;
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, options};
use super::support::peers;

/// Triggers one after the other.
const ROUNDS: usize = 300;

/// What the median aims at, milliseconds.
const AIM_MS: f64 = 1.5;

fn documents() -> BTreeMap<String, String> {
    let scenario = |name: &str, action: &str| {
        format!(
            "apiVersion: v1\nkind: Scenario\nmetadata: {{name: {name}}}\nspec: {{condition: null, action: {action}, target: p}}\n"
        )
    };
    let package = "apiVersion: v1\nkind: Package\nmetadata: {label: null, name: p}\nspec:\n  policy: pol\n  \
                   pattern: [{type: plain}]\n  models: [{name: m, node: ZONE1, resources: {volume: null}}]\n";
    let of_kind = |kind: &str| {
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {{name: m}}\nspec:\n  hostNetwork: true\n  containers: [{{name: c, image: i}}]\n"
        )
    };
    [
        ("Scenario/go", scenario("go", "launch")),
        ("Scenario/end", scenario("end", "terminate")),
        ("Package/p", package.to_owned()),
        ("Model/m", of_kind("Model")),
        ("Pod/m", of_kind("Pod")),
    ]
    .map(|(key, text)| (key.to_owned(), text))
    .into()
}

pub fn measure(report: &mut Report) {
    report.part("triggers of Pullpiri");
    let (entries, running) = (Arc::new(Mutex::new(documents())), Arc::default());
    let allowed = Arc::new(Mutex::new(vec!["ZONE1".to_owned()]));
    let (store, agent) = (peers::rocksdb(entries), peers::node_agent(running));
    let (policy, state) = (peers::policy_manager(allowed), peers::state_manager(Arc::default()));
    let daemon = DaemonProcess::start(|_| {
        format!(
            "{}store: {{backend: rocksdb, rocksdb: {{address: '{}'}}}}\npolicy: {{server: {{address: '{}'}}}}\n\
             pullpiri: {{enabled: true, state_manager: '{}', report: never}}\nnodes: {{ZONE1: {{node_agent: '{}'}}}}\n",
            settings(""),
            store.address(),
            policy.address(),
            state.address(),
            agent.address(),
        )
    });
    let client = ActionControllerConnectionClient::new(channel(&daemon.address()));
    let trigger = |scenario: &str| {
        let request = TriggerActionRequest { scenario_name: scenario.to_owned(), ..Default::default() };
        let answer = client.trigger_action(&request, options()).expect("the trigger is taken");
        assert_eq!(answer.status, 0, "{}", answer.desc);
    };
    let direct = Direct::new([&store, &policy, &agent].map(peers::StandIn::address));
    // Connects everything.
    for scenario in ["go", "end"] {
        trigger(scenario);
    }
    let [mut launches, mut repeats, mut ends, mut calls] = [(); 4].map(|()| Samples::default());
    for _ in 0..ROUNDS {
        launches.time(|| trigger("go"));
        repeats.time(|| trigger("go"));
        ends.time(|| trigger("end"));
        calls.time(|| direct.launch());
        direct.end();
    }
    let beside = "the same calls of the peers, made directly";
    report.beside("TriggerAction that launches one model", &launches, beside, &calls);
    report.beside("TriggerAction that finds it running", &repeats, beside, &calls);
    report.beside("TriggerAction that terminates it", &ends, beside, &calls);
    let median = launches.median().as_secs_f64() * 1000.0;
    report.value("median of a launching trigger, ms", format!("{median:.2}"), &format!("aims at {AIM_MS}"));
}

/// What a launch asks of the peers, over connections that are kept.
struct Direct {
    store: RocksDbServiceClient,
    policy: PolicyManagerConnectionClient,
    agent: NodeAgentConnectionClient,
}

impl Direct {
    fn new([store, policy, agent]: [String; 3]) -> Self {
        Self {
            store: RocksDbServiceClient::new(channel(&store)),
            policy: PolicyManagerConnectionClient::new(channel(&policy)),
            agent: NodeAgentConnectionClient::new(channel(&agent)),
        }
    }

    fn launch(&self) {
        for key in ["Scenario/go", "Package/p", "Model/m", "Pod/m"] {
            let request = GetRequest { key: key.to_owned(), ..Default::default() };
            self.store.get(&request, options()).expect("the store answers");
        }
        let (policy_name, target_node) = ("pol".to_owned(), "ZONE1".to_owned());
        let question = CheckNodePolicyRequest { policy_name, target_node, ..Default::default() };
        self.policy.check_node_policy(&question, options()).expect("PolicyManager answers");
        self.order(WorkloadCommand::WORKLOAD_COMMAND_START);
    }

    fn end(&self) {
        self.order(WorkloadCommand::WORKLOAD_COMMAND_STOP);
    }

    fn order(&self, command: WorkloadCommand) {
        let pod = "metadata:\n  name: direct\n".to_owned();
        let order = HandleWorkloadRequest { workload_command: command.into(), pod, ..Default::default() };
        self.agent.handle_workload(&order, options()).expect("NodeAgent answers");
    }
}
