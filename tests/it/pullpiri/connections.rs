//! Connections: callers make one for each call, the daemon none.

use std::fs;
use std::time::Duration;

use actioncontroller::proto::actioncontroller::TriggerActionRequest;

use super::Rig;
use crate::support::daemon::options;
use crate::support::wait::until;

/// What the process has: descriptors, threads, and anonymous memory in KiB.
fn used(pid: i32) -> (usize, usize, u64) {
    let count = |folder: &str| fs::read_dir(format!("/proc/{pid}/{folder}")).unwrap().count();
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    (count("fd"), count("task"), line.trim().trim_end_matches(" kB").parse().unwrap())
}

fn call_on_a_fresh_connection(rig: &Rig) {
    let request = TriggerActionRequest { scenario_name: "absent".into(), ..Default::default() };
    rig.client().trigger_action(&request, options()).unwrap_err();
}

#[test]
fn two_hundred_fresh_connections_leave_descriptors_threads_and_memory_as_before() {
    let rig = Rig::start();
    // What is made once is made by then.
    (0..50).for_each(|_| call_on_a_fresh_connection(&rig));
    let (descriptors, threads, memory) = used(rig.daemon.pid());
    (0..200).for_each(|_| call_on_a_fresh_connection(&rig));
    let now = until("connections are closed", Duration::from_secs(20), || {
        let now = used(rig.daemon.pid());
        (now.0 <= descriptors && now.1 <= threads).then_some(now)
    });
    assert!(now.2 < memory + 1024, "{memory} KiB before, {} KiB after", now.2);
}

#[test]
fn trigger_makes_no_new_connection_to_any_peer() {
    let rig = Rig::start();
    rig.allowed.lock().unwrap().push("ZONE1".to_owned());
    let peers = [&rig.store, &rig.agent, &rig.policy, &rig.state];
    let connections = || peers.map(crate::support::peers::StandIn::connections);
    let round = || {
        rig.scenario("launch", &[("a", "ZONE1")], "  policy: pol\n");
        assert_eq!(rig.trigger("s").unwrap().status, 0);
        rig.scenario("terminate", &[("a", "ZONE1")], "  policy: pol\n");
        assert_eq!(rig.trigger("s").unwrap().status, 0);
    };
    round();
    let before = until("StateManager is connected", Duration::from_secs(20), || {
        let now = connections();
        now.iter().all(|count| *count > 0).then_some(now)
    });
    (0..5).for_each(|_| round());
    assert_eq!(connections(), before);
}
