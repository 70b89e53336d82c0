//! The daemon with a real etcd as its store: documents are read there, outcomes and states are written there, and while
//! it is away everything goes on.

use std::time::Duration;

use actioncontroller::proto::actioncontroller::TriggerActionRequest;
use actioncontroller::proto::actions::Verb;
use serde_json::Value;

use crate::support::daemon::{DaemonProcess, on_target, options, pod, with_sim};
use crate::support::etcd::EtcdCluster;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

fn daemon(cluster: &EtcdCluster, more: &str) -> DaemonProcess {
    let endpoints = cluster.endpoints().join("', '");
    DaemonProcess::start(|folder| {
        format!(
            "{}store: {{backend: etcd, timeout: 1s, etcd: {{endpoints: ['{endpoints}'], lease: 5s}}{more}}}\n\
             pullpiri: {{enabled: true}}\n",
            with_sim(folder)
        )
    })
}

fn store_documents(cluster: &EtcdCluster, action: &str) {
    let scenario =
        format!("apiVersion: v1\nkind: Scenario\nmetadata: {{name: s}}\nspec: {{action: {action}, target: p}}\n");
    let package = "apiVersion: v1\nkind: Package\nmetadata: {name: p}\n\
        spec: {pattern: [{type: plain}], models: [{name: m, node: test}]}\n";
    let model = "apiVersion: v1\nkind: Model\nmetadata: {name: m}\n\
        spec: {hostNetwork: true, restartPolicy: Never, containers: [{name: c, image: i}]}\n";
    for (key, text) in [("Scenario/s", scenario.as_str()), ("Package/p", package), ("Model/m", model)] {
        cluster.ctl(&["put", key, text]);
    }
}

fn trigger(daemon: &DaemonProcess) -> (i32, String) {
    let request = TriggerActionRequest { scenario_name: "s".into(), ..Default::default() };
    let answer = daemon.pullpiri().trigger_action(&request, options()).unwrap();
    (answer.status, answer.desc)
}

/// The document under a key.
fn document(cluster: &EtcdCluster, key: &str) -> Option<Value> {
    let text = cluster.try_ctl(&["get", key, "--print-value-only"])?;
    serde_json::from_str(&text).ok()
}

/// The ids of the actions that arrived, in the order in which they did, each with how often it was written.
fn arrived(cluster: &EtcdCluster) -> Vec<(String, i64)> {
    let prefix = "/actioncontroller/v1/nodes/test/actions/";
    let text = cluster.ctl(&["get", prefix, "--prefix", "-w", "json"]);
    let answer: Value = serde_json::from_str(&text).unwrap();
    let mut kvs: Vec<Value> = answer["kvs"].as_array().cloned().unwrap_or_default();
    kvs.sort_by_key(|kv| kv["create_revision"].as_i64());
    let ids = kvs.iter().map(|kv| {
        let value = base64(kv["value"].as_str().unwrap());
        let document: Value = serde_json::from_slice(&value).unwrap();
        (document["id"].as_str().unwrap().to_owned(), kv["version"].as_i64().unwrap())
    });
    ids.collect()
}

/// Standard base64, which etcdctl prints.
fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => u32::from(byte - b'A'),
        b'a'..=b'z' => u32::from(byte - b'a') + 26,
        b'0'..=b'9' => u32::from(byte - b'0') + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'=').collect();
    let mut bytes = Vec::new();
    for some in digits.chunks(4) {
        let bits = some.iter().fold(0, |bits, byte| bits << 6 | digit(*byte)) << (6 * (4 - some.len()));
        bytes.extend(bits.to_be_bytes()[1..].iter().take(some.len() * 6 / 8));
    }
    bytes
}

fn named(daemon: &DaemonProcess, id: &str, verb: Verb, target: &str, manifest: &str) -> bool {
    let action = actioncontroller::proto::actions::ActionSpec {
        action_id: id.into(),
        manifest: manifest.into(),
        ..on_target(verb, target)
    };
    daemon.execute(action).is_ok()
}

#[test]
fn documents_come_from_etcd_and_states_go_there_and_nowhere_else() {
    let cluster = EtcdCluster::start(1);
    store_documents(&cluster, "launch");
    let daemon = daemon(&cluster, "");
    assert_eq!(trigger(&daemon).0, 0);
    let workload = until("the workload is told", LIMIT, || {
        document(&cluster, "/actioncontroller/v1/nodes/test/workloads/m").filter(|found| found["actual"] == "running")
    });
    assert_eq!(
        (&workload["desired"], &workload["package"], &workload["engine"]),
        (&"running".into(), &"p".into(), &"sim".into())
    );
    assert_eq!(workload["containers"][0]["name"], "m_c");
    let package = until("the package is told", LIMIT, || document(&cluster, "/actioncontroller/v1/packages/p"));
    assert_eq!(package["workloads"]["m"]["runs_on"], "test");
    until("the action is told", LIMIT, || (arrived(&cluster).len() == 1).then_some(()));
    store_documents(&cluster, "terminate");
    assert_eq!(trigger(&daemon).0, 0);
    let gone = |key: &str| document(&cluster, key).is_none().then_some(());
    until("the workload is gone", LIMIT, || gone("/actioncontroller/v1/nodes/test/workloads/m"));
    until("the package is gone", LIMIT, || gone("/actioncontroller/v1/packages/p"));
    let keys = cluster.ctl(&["get", "", "--prefix", "--keys-only"]);
    let foreign = |key: &&str| !key.is_empty() && !key.starts_with("/actioncontroller/v1/") && *key != "ready";
    let foreign: Vec<_> = keys.lines().filter(foreign).collect();
    assert_eq!(foreign, ["Model/m", "Package/p", "Scenario/s"]);
}

// req: AC-21
#[test]
fn while_etcd_is_away_work_goes_on_and_outcomes_arrive_later_in_order_and_once_also_over_a_kill() {
    let mut cluster = EtcdCluster::start(1);
    store_documents(&cluster, "launch");
    let mut daemon = daemon(&cluster, "");
    assert_eq!(trigger(&daemon).0, 0);
    until("the action is told", LIMIT, || (arrived(&cluster).len() == 1).then_some(()));
    cluster.kill(0);
    assert!(named(&daemon, "stop-1", Verb::VERB_STOP, "m", ""));
    assert_eq!(trigger(&daemon).0, 0, "the last good copies serve");
    assert!(named(&daemon, "stop-2", Verb::VERB_STOP, "m", ""));
    daemon.kill();
    daemon.start_again();
    assert!(named(&daemon, "remove-1", Verb::VERB_TERMINATE, "m", ""));
    cluster.restart(0);
    cluster.wait_ready();
    let all = until("all outcomes have arrived", LIMIT, || {
        let all = arrived(&cluster);
        all.iter().any(|(id, _)| id == "remove-1").then_some(all)
    });
    assert!(all.iter().all(|(_, version)| *version == 1), "each once: {all:?}");
    let named: Vec<_> = all.iter().map(|(id, _)| id.as_str()).filter(|id| id.contains('-') && id.len() < 10).collect();
    assert_eq!((named.as_slice(), all.len()), (["stop-1", "stop-2", "remove-1"].as_slice(), 5));
    let gone = || document(&cluster, "/actioncontroller/v1/nodes/test/workloads/m").is_none().then_some(());
    until("the workload is gone", LIMIT, gone);
}

// req: AC-20
#[test]
fn leader_that_is_killed_while_actions_run_fails_none_of_them_and_loses_no_outcome() {
    const ROUNDS: usize = 40;
    let mut cluster = EtcdCluster::start(3);
    store_documents(&cluster, "launch");
    let daemon = daemon(&cluster, "");
    assert_eq!(trigger(&daemon).0, 0);
    let (half, reached) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let daemon = &daemon;
        scope.spawn(move || {
            for n in 0..ROUNDS {
                if n == ROUNDS / 4 {
                    half.send(()).unwrap();
                }
                assert!(named(daemon, &format!("stop-{n}"), Verb::VERB_STOP, "m", ""), "stop {n}");
                // Reads its documents in etcd, or the last good copies of them.
                let (status, desc) = trigger(daemon);
                assert_eq!(status, 0, "{n}: {desc}");
            }
        });
        reached.recv().unwrap();
        let leader = cluster.leader();
        cluster.kill(leader);
    });
    cluster.wait_ready();
    let all = until("all outcomes have arrived", LIMIT, || {
        let all = arrived(&cluster);
        (all.len() == 1 + 2 * ROUNDS).then_some(all)
    });
    assert!(all.iter().all(|(_, version)| *version == 1), "each once: {all:?}");
    let stops: Vec<_> = all.iter().filter(|(id, _)| id.starts_with("stop-")).map(|(id, _)| id.clone()).collect();
    assert_eq!(stops, (0..ROUNDS).map(|n| format!("stop-{n}")).collect::<Vec<_>>(), "in their order");
}

// req: AC-21
#[test]
fn scenario_that_was_never_triggered_before_is_launched_while_etcd_is_away() {
    let mut cluster = EtcdCluster::start(1);
    store_documents(&cluster, "launch");
    let mut daemon = daemon(&cluster, "");
    until("documents are copied", LIMIT, || daemon.log().contains("3 documents of etcd are copied").then_some(()));
    cluster.kill(0);
    daemon.kill();
    daemon.start_again();
    let (status, desc) = trigger(&daemon);
    assert_eq!(status, 0, "{desc}");
}

#[test]
fn at_the_backlogs_bound_launches_are_refused_and_stops_go_on_and_arrive() {
    let mut cluster = EtcdCluster::start(1);
    let daemon = daemon(&cluster, ", backlog: {entries: 16, reserve: 2}");
    assert!(named(&daemon, "launch", Verb::VERB_LAUNCH, "", &pod("w", "i", "sleep 60")));
    until("the action is told", LIMIT, || (arrived(&cluster).len() == 1).then_some(()));
    cluster.kill(0);
    for n in 0..8 {
        assert!(named(&daemon, &format!("stop-{n}"), Verb::VERB_STOP, "w", ""));
        assert!(named(&daemon, &format!("start-{n}"), Verb::VERB_START, "w", ""));
    }
    let refused = daemon.launch(&pod("v", "i", "sleep 60")).unwrap_err();
    assert!(refused.to_string().contains("wait for etcd"), "{refused}");
    for n in 8..13 {
        assert!(named(&daemon, &format!("stop-{n}"), Verb::VERB_STOP, "w", ""));
    }
    cluster.restart(0);
    cluster.wait_ready();
    let all = until("all outcomes have arrived", LIMIT, || {
        let all = arrived(&cluster);
        all.iter().any(|(id, _)| id == "stop-12").then_some(all)
    });
    let stops: Vec<_> = all.iter().filter(|(id, _)| id.starts_with("stop-")).map(|(id, _)| id.clone()).collect();
    assert_eq!(stops, (0..13).map(|n| format!("stop-{n}")).collect::<Vec<_>>());
    assert!(all.iter().all(|(_, version)| *version == 1), "{all:?}");
    until("launches are taken again", LIMIT, || daemon.launch(&pod("v", "i", "sleep 60")).ok());
}

#[test]
fn of_two_daemons_of_one_node_one_writes_and_the_other_says_so() {
    let cluster = EtcdCluster::start(1);
    let one = daemon(&cluster, "");
    assert!(named(&one, "one", Verb::VERB_LAUNCH, "", &pod("w", "i", "sleep 60")));
    until("the first writes", LIMIT, || (arrived(&cluster).len() == 1).then_some(()));
    let other = daemon(&cluster, "");
    assert!(named(&other, "other", Verb::VERB_LAUNCH, "", &pod("w", "i", "sleep 60")));
    until("the other says so", LIMIT, || other.log().contains("also run by another Action Controller").then_some(()));
    assert_eq!(arrived(&cluster).len(), 1);
    let mut one = one;
    one.terminate();
    until("the other takes over", LIMIT, || (arrived(&cluster).len() == 2).then_some(()));
}
