//! `actionctl health` against the real daemon: engines, the store with what waits for it, and missed deadlines.

use std::time::Duration;

use actioncontroller::proto::actions::NodeHealthRequest;
use actioncontroller::proto::schedinfo::{FaultInfo, FaultType};
use actioncontroller::proto::schedinfo_grpc::FaultServiceClient;
use serde_json::Value;

use super::{LONG, QUICK, ctl, daemon, launch_of, settings, stop, within};
use crate::support::daemon::{DaemonProcess, options};
use crate::support::peers::{self, Behaviour};
use crate::support::wait::until;

/// Engines have 2 s and so has each store, beside them.
const LIMIT: Duration = Duration::from_secs(8);

fn health(daemon: &DaemonProcess) -> Value {
    let (out, _) = within(LIMIT, "a look at the node", || ctl(daemon, 0, &["health", "-o", "json"]));
    serde_json::from_str::<Value>(&out).unwrap()["health"].clone()
}

#[test]
fn node_on_its_own_tells_its_engines_and_that_its_store_is_fine() {
    let daemon = daemon("[]", "");
    let (out, err) = ctl(&daemon, 0, &["health"]);
    let lines: Vec<_> = out.lines().collect();
    assert_eq!((lines[0], lines[1], err.as_str()), ("serving", "Node:         test", ""), "{out}");
    assert!(out.contains("Store:        embedded\n") && !out.contains("Waiting"), "{out}");
    let told = health(&daemon);
    assert_eq!(told["engines"][0]["name"], "sim");
    assert_eq!((&told["engines"][0]["available"], &told["engines"][0]["reason"]), (&true.into(), &"".into()));
    assert_eq!((&told["serving"], &told["version"]), (&true.into(), &env!("CARGO_PKG_VERSION").into()));
    assert_eq!((&told["store"]["problem"], &told["store"]["outcomes_bound"]), (&"".into(), &0.into()));
    assert_eq!(told["deadline_misses"], Value::Array(vec![]));
}

#[test]
fn engine_that_hangs_is_told_as_unavailable_within_its_time() {
    let daemon = daemon("[{op: probe, hang: true}]", "");
    let told = health(&daemon);
    assert_eq!(told["engines"][0]["available"], false, "{told}");
    // Whichever bound is first: the probe's own or that of whoever asks for it.
    let reason = told["engines"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("has not answered") || reason.contains("did not end"), "{told}");
}

#[test]
fn store_that_is_away_is_told_with_what_waits_and_fine_again_when_it_is_back() {
    let store = peers::rocksdb(Default::default());
    let daemon = DaemonProcess::start(|folder| {
        let address = store.address();
        settings(
            folder,
            "[]",
            &format!("store: {{backend: rocksdb, timeout: 1s, rocksdb: {{address: '{address}'}}}}\n"),
        )
    });
    until("all is well", LONG, || (health(&daemon)["store"]["problem"] == "").then_some(()));
    store.behave(Behaviour::Silent);
    let told = health(&daemon);
    assert_ne!(told["store"]["problem"], "", "it is asked, also where nothing waits for it: {told}");
    daemon.execute(launch_of("web", QUICK)).unwrap();
    daemon.execute(stop("web", 0)).unwrap();
    let told = health(&daemon)["store"].clone();
    assert_eq!((&told["backend"], &told["outcomes_bound"]), (&"rocksdb".into(), &1000.into()));
    assert_eq!(told["outcomes_waiting"], 2, "{told}");
    assert_ne!(told["problem"], "", "{told}");
    let (out, _) = ctl(&daemon, 0, &["health"]);
    assert!(out.contains("Store:        rocksdb: ") && out.contains("Waiting:      2 of 1000 outcomes"), "{out}");
    store.behave(Behaviour::Well);
    until("what waited is delivered", LONG, || {
        let told = health(&daemon)["store"].clone();
        (told["outcomes_waiting"] == 0 && told["problem"] == "").then_some(())
    });
}

#[test]
fn missed_deadlines_are_counted_by_task() {
    let mut daemon = daemon("[]", "pullpiri: {enabled: true, faults: '127.0.0.1:0'}\n");
    let fault = FaultInfo {
        workload_id: "sched".into(),
        node_id: "test".into(),
        task_name: "steer".into(),
        type_: FaultType::DMISS.into(),
        ..Default::default()
    };
    let client = FaultServiceClient::new(daemon.channel());
    for _ in 0..2 {
        client.notify_fault(&fault, options()).unwrap();
    }
    let told = daemon.actions().node_health(&NodeHealthRequest::default(), options()).unwrap();
    let misses = &told.deadline_misses[0];
    assert_eq!((&*misses.schedule, &*misses.node, &*misses.task, misses.count), ("sched", "test", "steer", 2));
    assert!(misses.last_at.seconds > 0);
    let (out, _) = ctl(&daemon, 0, &["health"]);
    assert!(out.contains("Missed deadlines:") && out.contains("steer"), "{out}");
    daemon.terminate();
    daemon.start_again();
    let told = daemon.actions().node_health(&NodeHealthRequest::default(), options()).unwrap();
    assert_eq!(told.deadline_misses[0].count, 2, "they are kept over a restart");
}
