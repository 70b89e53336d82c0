//! What StateManager and MonitoringServer are told of containers and the node.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::monitoringserver::{ContainerInfo, ContainerList, NodeInfo};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protobuf::Message;

use crate::support::daemon::{DaemonProcess, launch, on_target, with_podman, with_sim};
use crate::support::peers::{self, Behaviour, StandIn};
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(30);

/// A port on which nobody answers: not more likely than others to be taken.
const NO_AGENT: u16 = 9;

struct Rig {
    daemon: DaemonProcess,
    state: StandIn,
    monitoring: StandIn,
}

impl Rig {
    fn start(engine: impl Fn(&Path) -> String, report: &str, agent_port: u16) -> Self {
        let (state, monitoring) = (peers::state_manager(std::sync::Arc::default()), peers::monitoring_server());
        let daemon = DaemonProcess::start(|folder| {
            format!(
                "{}pullpiri: {{state_manager: '{}', monitoring_server: '{}', report: {report}, report_every: 200ms, \
                 node_agent_port: {agent_port}, timeout: 1s}}\n",
                engine(folder),
                state.address(),
                monitoring.address(),
            )
        });
        Self { daemon, state, monitoring }
    }

    /// Waits for a changed list in which `is_meant` holds; gives its containers by name.
    fn until_changed(&self, what: &str, is_meant: impl Fn(&BTreeMap<String, ContainerInfo>) -> bool) {
        until(what, LIMIT, || lists(&self.state).iter().any(&is_meant).then_some(()));
    }
}

/// The lists that a stand-in got since the last time, by the containers' names.
fn lists(stand_in: &StandIn) -> Vec<BTreeMap<String, ContainerInfo>> {
    let of_kind = |(method, bytes): (String, Vec<u8>)| {
        let list = method.ends_with("ContainerList").then(|| ContainerList::parse_from_bytes(&bytes).unwrap())?;
        assert_eq!(list.node_name, "test");
        Some(list.containers.into_iter().map(|container| (container.names[0].clone(), container)).collect())
    };
    stand_in.take().into_iter().filter_map(of_kind).collect()
}

fn package(image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Package\nmetadata: {{name: p}}\nspec:\n  pattern: [{{type: plain}}]\n  \
         models: [{{name: m, node: test, resources: {{}}}}]\n---\napiVersion: v1\nkind: Model\nmetadata: {{name: m}}\n\
         spec:\n  hostNetwork: true\n  restartPolicy: Never\n  \
         containers: [{{name: c, image: '{image}', command: [sh, -c, 'sleep 1000']}}]\n"
    )
}

fn has(container: Option<&ContainerInfo>, status: &str) -> bool {
    container.is_some_and(|container| container.state["Status"] == status)
}

// req: AC-23
#[test]
fn containers_of_a_model_are_told_by_it_as_they_change() {
    let rig = Rig::start(with_sim, "always", NO_AGENT);
    rig.until_changed("that there is none", BTreeMap::is_empty);
    rig.daemon.execute(launch(&package("i"))).unwrap();
    rig.until_changed("that it runs", |list| {
        has(list.get("m_c"), "running") && list["m_c"].annotation.get("model").is_some_and(|model| model == "m")
    });
    rig.daemon.execute(on_target(Verb::VERB_PAUSE, "m")).unwrap();
    rig.until_changed("that it is frozen", |list| has(list.get("m_c"), "paused"));
    rig.daemon.execute(on_target(Verb::VERB_RESUME, "m")).unwrap();
    rig.daemon.execute(on_target(Verb::VERB_STOP, "m")).unwrap();
    rig.until_changed("that it has ended", |list| has(list.get("m_c"), "exited"));
    rig.daemon.execute(on_target(Verb::VERB_TERMINATE, "m")).unwrap();
    rig.until_changed("that it is gone", BTreeMap::is_empty);
    // What does not change is not told again and again.
    let over = Instant::now() + Duration::from_secs(2);
    while Instant::now() < over {
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(lists(&rig.state).len() <= 1);
}

#[test]
fn monitoring_server_gets_containers_and_node_again_and_again_also_while_state_manager_is_silent() {
    let rig = Rig::start(with_sim, "always", NO_AGENT);
    rig.state.behave(Behaviour::Silent);
    rig.daemon.execute(launch(&package("i"))).unwrap();
    let node = |(method, bytes): &(String, Vec<u8>)| {
        method.ends_with("SendNodeInfo").then(|| NodeInfo::parse_from_bytes(bytes).unwrap())
    };
    for _ in 0..3 {
        let mut seen = Vec::new();
        until("containers and node are told", LIMIT, || {
            seen.extend(rig.monitoring.take());
            let has_list = seen.iter().any(|(method, _)| method.ends_with("SendContainerList"));
            (has_list && seen.iter().any(|call| node(call).is_some())).then_some(())
        });
        let told = seen.iter().find_map(node).unwrap();
        assert_eq!(told.node_name, "test");
        assert!(told.cpu_count > 0 && told.total_memory > told.used_memory && told.used_memory > 0, "{told:?}");
        assert!((0.0..=100.0).contains(&told.cpu_usage) && told.mem_usage > 0.0, "{told:?}");
    }
    rig.state.behave(Behaviour::Well);
    rig.until_changed("that it runs", |list| has(list.get("m_c"), "running"));
}

#[test]
fn nobody_is_told_while_a_node_agent_answers_on_this_node_unless_that_is_wanted() {
    let agent = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = agent.local_addr().unwrap().port();
    let rig = Rig::start(with_sim, "auto", port);
    until("it is said", LIMIT, || rig.daemon.log().contains("a NodeAgent answers").then_some(()));
    rig.daemon.execute(launch(&package("i"))).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((rig.state.count(), rig.monitoring.count()), (0, 0));
    drop(agent);
    rig.until_changed("that it runs", |list| has(list.get("m_c"), "running"));
    let agent = TcpListener::bind("127.0.0.1:0").unwrap();
    let always = Rig::start(with_sim, "always", agent.local_addr().unwrap().port());
    until("it is told", LIMIT, || (always.monitoring.count() > 0).then_some(()));
    let never = Rig::start(with_sim, "never", NO_AGENT);
    never.daemon.execute(launch(&package("i"))).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((never.state.count(), never.monitoring.count()), (0, 0));
}

// req: AC-23
#[test]
fn on_podman_containers_of_others_are_told_too_and_a_death_goes_out() {
    let server = PodmanServer::start();
    server.run(&["run", "-d", "--network=none", "--name", "foreign", "--label", "of=somebody", IMAGE, "sleep", "1000"]);
    let rig = Rig::start(|_| with_podman(&server.socket()), "always", NO_AGENT);
    rig.until_changed("the foreign one", |list| {
        has(list.get("foreign"), "running")
            && list["foreign"].annotation["of"] == "somebody"
            && !list["foreign"].annotation.contains_key("model")
    });
    rig.daemon.execute(launch(&package(IMAGE))).unwrap();
    let mut pid = 0;
    until("that it runs", LIMIT, || {
        let all = lists(&rig.state);
        let own = all.iter().filter_map(|list| list.get("m_c")).find(|own| own.state["Status"] == "running")?;
        assert_eq!((own.annotation["model"].as_str(), own.annotation["pullpiri.model"].as_str()), ("m", "m"));
        assert_eq!(own.annotation["io.pullpiri.annotations.package"], "p");
        pid = own.state["Pid"].parse().unwrap();
        (pid > 0).then_some(())
    });
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    rig.until_changed("that it has died", |list| {
        has(list.get("m_c"), "exited") && list["m_c"].state["ExitCode"] == "137" && has(list.get("foreign"), "running")
    });
    rig.daemon.execute(on_target(Verb::VERB_TERMINATE, "m")).unwrap();
}
