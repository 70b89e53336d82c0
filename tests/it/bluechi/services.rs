//! BlueChi's own services, and the services that it manages, by way of the daemon.

use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::services::{
    ControlManagerRequest, ListNodesRequest, ListNodesResponse, ManagerState, ManagerVerb, ServiceManager,
    ServiceState, WatchServicesRequest,
};
use actioncontroller::proto::services_grpc::ServicesClient;
use futures_util::StreamExt;
use grpcio::{CallOption, ClientSStreamReceiver, RpcStatusCode};
use protobuf::EnumOrUnknown;

use super::{LIMIT, Rig, UNIT, launch, on, on_target, options};
use crate::support::wait::until;

const CONTROLLER: ServiceManager = ServiceManager::SERVICE_MANAGER_CONTROLLER;
const AGENT: ServiceManager = ServiceManager::SERVICE_MANAGER_AGENT;
const START: ManagerVerb = ManagerVerb::MANAGER_VERB_START;
const STOP: ManagerVerb = ManagerVerb::MANAGER_VERB_STOP;
const RESTART: ManagerVerb = ManagerVerb::MANAGER_VERB_RESTART;

impl Rig {
    fn services(&self) -> ServicesClient {
        ServicesClient::new(self.daemon.channel())
    }

    fn nodes(&self) -> ListNodesResponse {
        self.services().list_nodes(&ListNodesRequest::default(), options()).unwrap()
    }

    /// The nodes that are connected.
    fn online(&self) -> Vec<String> {
        self.nodes().nodes.into_iter().filter(|node| node.online).map(|node| node.name).collect()
    }

    /// A manager on this node.
    fn manager(&self, manager: ServiceManager) -> ManagerState {
        let is_it = |state: &ManagerState| state.manager == EnumOrUnknown::new(manager);
        self.nodes().managers.into_iter().find(is_it).unwrap()
    }

    /// Whether anything was done.
    fn control(&self, verb: ManagerVerb, manager: ServiceManager, node: &str) -> Result<bool, (RpcStatusCode, String)> {
        let (manager, verb, node) = (manager.into(), verb.into(), node.to_owned());
        let request = ControlManagerRequest { manager, verb, node, ..Default::default() };
        match self.services().control_manager(&request, options()) {
            Ok(answer) => Ok(answer.changed),
            Err(grpcio::Error::RpcFailure(status)) => Err((status.code(), status.message().to_owned())),
            Err(error) => panic!("{error}"),
        }
    }
}

// req: AC-15
#[test]
fn controller_and_agents_are_shown_stopped_and_started() {
    let rig = Rig::new();
    let found = rig.nodes();
    let nodes: Vec<_> = found.nodes.iter().map(|node| (node.name.as_str(), node.own, node.online)).collect();
    assert_eq!((nodes, found.problem.as_str()), (vec![("main", true, true), ("worker1", false, true)], ""));
    let states = |manager| (rig.manager(manager).active, rig.manager(manager).status);
    assert_eq!(states(CONTROLLER), ("active".into(), "up".into()));
    assert_eq!(states(AGENT), ("active".into(), "online".into()));
    assert!(!rig.manager(AGENT).controller_address.is_empty());

    // This node's agent.
    rig.daemon.done(launch(&on("main")));
    assert_eq!((rig.control(STOP, AGENT, ""), rig.control(STOP, AGENT, "main")), (Ok(true), Ok(false)));
    assert_eq!((rig.online(), states(AGENT)), (vec!["worker1".into()], ("inactive".into(), String::new())));
    assert_eq!(rig.manager(CONTROLLER).status, "degraded");
    let unit = "actioncontroller-test:lamp_unit.service";
    assert_eq!(rig.bluechi.server("main").show(unit, "ActiveState"), "active", "what it has started goes on");
    assert_eq!((rig.control(START, AGENT, ""), rig.control(START, AGENT, "")), (Ok(true), Ok(false)));
    until("the node is back", LIMIT, || (rig.online().len() == 2).then_some(()));

    // Another node's, as long as it is in reach.
    assert_eq!(rig.control(START, AGENT, "worker1"), Ok(false));
    assert_eq!((rig.control(RESTART, AGENT, "worker1"), rig.online().len()), (Ok(true), 2));
    assert_eq!((rig.control(STOP, AGENT, "worker1"), rig.online()), (Ok(true), vec!["main".into()]));
    assert_eq!(rig.control(STOP, AGENT, "worker1"), Ok(false));
    let (code, message) = rig.control(START, AGENT, "worker1").unwrap_err();
    assert_eq!(code, RpcStatusCode::FAILED_PRECONDITION);
    assert!(message.contains("only that node itself can start it"), "{message}");
    let (code, message) = rig.control(STOP, AGENT, "worker9").unwrap_err();
    assert_eq!(code, RpcStatusCode::UNAVAILABLE);
    assert!(message.contains("node 'worker9' is not known to BlueChi"), "{message}");

    // The controller.
    assert_eq!((rig.control(STOP, CONTROLLER, ""), rig.control(STOP, CONTROLLER, "")), (Ok(true), Ok(false)));
    let found = rig.nodes();
    assert!(found.nodes.is_empty() && found.problem.contains("bluechi"), "{found:?}");
    assert_eq!(states(CONTROLLER), ("inactive".into(), String::new()));
    assert_eq!(rig.control(START, CONTROLLER, "main"), Ok(true));
    until("the nodes are told of again", LIMIT, || (rig.online() == ["main"]).then_some(()));
    let (code, message) = rig.control(STOP, CONTROLLER, "worker1").unwrap_err();
    assert_eq!(code, RpcStatusCode::INVALID_ARGUMENT, "{message}");

    let shown = rig.daemon.ctl(&["services"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("worker1   offline") && shown.contains("this node"), "{shown}");
    let done = rig.daemon.ctl(&["services", "restart", "agent"]);
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "agent restarted", "{done:?}");
}

#[test]
fn agent_is_connected_to_the_controller_that_is_configured() {
    let elsewhere = "unix:path=/run/elsewhere";
    let rig = Rig::with(&format!("manage: true, controller_address: \"{elsewhere}\""));
    assert_eq!(rig.control(RESTART, AGENT, ""), Ok(true));
    // The stand-in's nodes are online with its own controller alone.
    until("the agent has gone to another", LIMIT, || (rig.online() == ["worker1"]).then_some(()));
    let address = rig.bluechi.controller_address("main");
    let rig = Rig::with(&format!("manage: true, controller_address: \"{address}\""));
    assert_eq!(rig.control(START, AGENT, ""), Ok(false), "it is there already");
    assert_eq!((rig.control(RESTART, AGENT, ""), rig.online().len()), (Ok(true), 2));
}

#[test]
fn nobody_stops_the_controller_where_that_is_not_allowed() {
    let rig = Rig::with("manage: false");
    let (code, message) = rig.control(STOP, CONTROLLER, "").unwrap_err();
    assert_eq!(code, RpcStatusCode::PERMISSION_DENIED);
    assert!(message.contains("runtimes.bluechi.manage"), "{message}");
    assert_eq!(rig.nodes().nodes.len(), 2);
    let refused = rig.daemon.ctl(&["services", "stop", "agent"]);
    assert!(!refused.status.success() && rig.online().len() == 2, "{refused:?}");
}

// req: AC-15
#[test]
fn units_of_every_node_are_listed_enabled_and_disabled() {
    let rig = Rig::new();
    let said = |arguments: &[&str]| {
        let output = rig.daemon.ctl(&[&["services"], arguments].concat());
        (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap().trim().to_owned())
    };
    let radio = "[Service]\nExecStart=/bin/sleep 1000\n[Install]\nWantedBy=default.target\n";
    for node in ["main", "worker1"] {
        std::fs::write(rig.bluechi.server(node).units().join("radio.service"), radio).unwrap();
        let (is_done, told) = said(&["enable", "--node", node, "radio.service"]);
        assert!(is_done && told.contains("symlink "), "{told}");
        let wants = rig.bluechi.server(node).show("default.target", "Wants");
        assert!(wants.contains("radio.service"), "its files were read anew: {wants}");
        assert_eq!(said(&["enable", "--node", node, "radio.service"]), (true, "radio.service unchanged".into()));
        assert_eq!(said(&["reload", "--node", node]), (true, format!("unit files of node '{node}' read anew")));
    }
    let (_, list) = said(&["list", "radio.service"]);
    let states: Vec<Vec<_>> = list.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    let of = |node| vec![node, "radio.service", "inactive", "(dead)", "enabled"];
    assert_eq!(states, [of("main"), of("worker1")], "{list}");
    assert!(said(&["disable", "--node", "worker1", "radio.service"]).1.ends_with("radio.service disabled"));
    let (is_done, told) = said(&["enable", "--node", "worker1", "bluechi-agent.service"]);
    assert!(!is_done && told.contains("'bluechi-agent.service' is not possible while it is static"), "{told}");
    rig.bluechi.lose("worker1");
    let (is_done, told) = said(&["enable", "--node", "worker1", "radio.service"]);
    assert!(!is_done && told.contains("node 'worker1' is offline"), "{told}");
    let (_, list) = said(&["list", "radio.service"]);
    assert_eq!(list.lines().count(), 2, "one that is away is left out: {list}");
    // This node's own are systemd's to answer for.
    rig.bluechi.stop_controller();
    assert!(said(&["disable", "radio.service"]).1.ends_with("radio.service disabled"));
}

#[test]
fn controller_that_hangs_is_told_beside_an_agent_that_does_not() {
    let rig = Rig::new();
    rig.bluechi.hang(true);
    let found = rig.nodes();
    assert!(found.nodes.is_empty() && found.problem.contains("ListNodes"), "{found:?}");
    let states: Vec<_> =
        found.managers.iter().map(|manager| (manager.active.as_str(), manager.status.as_str())).collect();
    assert_eq!(states, [("active", ""), ("active", "online")]);
    rig.bluechi.hang(false);
    assert_eq!(rig.nodes().nodes.len(), 2);
}

/// The states of services as a monitor tells them.
struct Told {
    stream: ClientSStreamReceiver<ServiceState>,
    seen: Vec<String>,
    /// Whose connection it comes by.
    _client: ServicesClient,
}

impl Told {
    fn open(rig: &Rig, node: &str, unit: &str) -> Self {
        let request = WatchServicesRequest { node: node.to_owned(), unit: unit.to_owned(), ..Default::default() };
        let client = rig.services();
        let stream = client.watch_services(&request, CallOption::default().timeout(LIMIT)).unwrap();
        Self { stream, seen: Vec::new(), _client: client }
    }

    /// Reads on until this is told.
    fn until(&mut self, wanted: &str) {
        while self.seen.last().is_none_or(|last| last != wanted) {
            let next = futures_executor::block_on(self.stream.next());
            let state = next.unwrap_or_else(|| panic!("no '{wanted}' was told: {:?}", self.seen));
            let state = state.unwrap_or_else(|error| panic!("no '{wanted}': {error}; {:?}", self.seen));
            self.seen.push(format!("{} {} {} {}", state.node, state.unit, state.active, state.sub));
        }
    }

    /// How it ends.
    fn end(mut self) -> Option<grpcio::Error> {
        let mut next = || futures_executor::block_on(self.stream.next());
        std::iter::from_fn(&mut next).find_map(Result::err)
    }
}

// req: AC-15
#[test]
fn services_are_watched_on_all_nodes() {
    let rig = Rig::new();
    let unit = "actioncontroller-test:lamp_unit.service";
    let mut all = Told::open(&rig, "", "");
    // What there is comes first.
    all.until("main bluechi-controller.service active running");
    let mut one = Told::open(&rig, "worker1", unit);
    rig.daemon.done(launch(&on("worker1")));
    all.until(&format!("worker1 {unit} active running"));
    one.until(&format!("worker1 {unit} active running"));
    rig.daemon.done(on_target(Verb::VERB_STOP, "lamp"));
    all.until(&format!("worker1 {unit} failed failed"));
    assert!(all.seen.iter().all(|told| told.contains(".service ")), "{:?}", all.seen);
    assert!(one.seen.iter().all(|told| told.starts_with(&format!("worker1 {unit} "))), "{:?}", one.seen);
    let mut other = Told::open(&rig, "", unit);
    other.until(&format!("worker1 {unit} failed failed"));
    rig.bluechi.lose("worker1");
    all.until("worker1 * inactive agent-offline");
    other.until("worker1 * inactive agent-offline");
    rig.bluechi.bring_back("worker1");
    all.until("worker1 * active agent-online");
    // Each of its services follows.
    all.until("worker1 bluechi-agent.service active running");
    rig.bluechi.stop_controller();
    for told in [all, one] {
        let end = told.end();
        let Some(grpcio::Error::RpcFailure(status)) = end else { panic!("{end:?}") };
        assert_eq!(status.code(), RpcStatusCode::UNAVAILABLE, "{status:?}");
    }
}

// req: AC-15
#[test]
fn unit_brings_what_it_depends_on_with_it_on_another_node() {
    let rig = Rig::new();
    rig.bluechi.allow_dependencies("main", "worker1");
    let radio = UNIT.replace("Name=lamp", "Name=radio");
    std::fs::write(rig.bluechi.server("worker1").units().join("radio.service"), &radio).unwrap();
    let proxy = "bluechi-proxy@worker1_radio.service";
    let unit = on("main").replace("Description=Lamp", &format!("Description=Lamp\nWants={proxy}\nAfter={proxy}"));
    rig.daemon.done(launch(&unit));
    assert_eq!(rig.bluechi.server("worker1").show("radio.service", "ActiveState"), "active");
    rig.daemon.done(on_target(Verb::VERB_TERMINATE, "lamp"));
}
