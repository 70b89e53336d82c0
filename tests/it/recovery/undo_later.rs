//! An engine that goes away in the middle of a launch: told at once with what is left, undone when it is back.

use std::time::{Duration, Instant};

use actioncontroller::grpc::status::details;
use actioncontroller::proto::actions::{ActionSpec, Outcome};

use super::{LONG, begin, listed, must, outcome, sim, sim_containers, sim_objects, with_id};
use crate::support::daemon::{DaemonProcess, launch, pod, with_podman};
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::wait::until;

fn document() -> String {
    pod("w", IMAGE, "sleep 1000")
}

/// The engine is away from the start of a container on, for so many looks at it: each undo looks twice.
fn away_from_the_start_on(looks: usize) -> String {
    let gone = "{kind: connection, message: connection refused}";
    let looks = (1..=looks).map(|nth| format!(", {{op: inspect, nth: {nth}, fail: {gone}}}"));
    format!("{{op: start, fail: {gone}}}{}", looks.collect::<String>())
}

fn assert_says_what_is_left(failed: &Outcome) {
    assert_eq!(failed.error.code, "ENGINE_UNAVAILABLE", "{failed:?}");
    assert!(failed.left.iter().any(|line| line.contains("w_main")), "{failed:?}");
    assert!(failed.left.iter().any(|line| line.contains("will be undone")), "{failed:?}");
}

#[test]
fn leftovers_on_the_simulator_go_without_anyone_asking() {
    let daemon = DaemonProcess::start(|folder| sim(folder, 0, &away_from_the_start_on(4)));
    begin(&daemon, with_id(launch(&document()), "a"));
    assert_says_what_is_left(&outcome(&daemon, "a"));
    assert_eq!(sim_containers(&daemon).len(), 1);
    until("the repair", LONG, || sim_objects(&daemon).is_empty().then_some(()));
    until("the log", LONG, || daemon.log().contains("is undone").then_some(()));
    assert!(listed(&daemon).is_empty());
}

#[test]
fn repair_leaves_alone_what_a_later_launch_made_its_own() {
    // The later launch comes before the repair, and the engine answers again just then.
    let mut daemon = DaemonProcess::start(|folder| sim(folder, 0, &away_from_the_start_on(2)));
    begin(&daemon, with_id(launch(&document()), "a"));
    outcome(&daemon, "a");
    daemon.kill();
    daemon.write_settings(&sim(&daemon.path(""), 0, ""));
    daemon.start_again();
    must(&daemon, launch(&document()));
    daemon.terminate();
    daemon.start_again();
    assert!(super::is_running(&listed(&daemon)["w"]));
    assert_eq!(sim_containers(&daemon).len(), 1);
}

/// A launch whose last step never gets its answer, because Podman's service is killed meanwhile.
fn lose_podman_in_a_launch(podman: &mut PodmanServer, daemon: &DaemonProcess) -> Outcome {
    let slow = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: w}}\nspec:\n  hostNetwork: true\n  initContainers:\n  \
         - {{name: first, image: '{IMAGE}', command: [sleep, '1000']}}\n  \
         containers:\n  - {{name: main, image: '{IMAGE}', command: [sleep, '1000']}}\n"
    );
    let action: ActionSpec = with_id(launch(&slow), "a");
    begin(daemon, action);
    until("the init container runs", LONG, || {
        assert!(!daemon.log().contains("action 'a' launch 'w' ended"), "{}", daemon.log());
        (!podman.run(&["ps", "-q"]).is_empty()).then_some(())
    });
    let begun = Instant::now();
    podman.stop_service();
    let failed = outcome(daemon, "a");
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    failed
}

#[test]
fn leftovers_on_podman_go_when_its_service_is_back() {
    let mut podman = PodmanServer::start();
    let daemon = DaemonProcess::start(|_| with_podman(&podman.socket()));
    assert_says_what_is_left(&lose_podman_in_a_launch(&mut podman, &daemon));
    podman.start_service();
    assert_eq!(podman.run(&["ps", "-aq"]).lines().count(), 2);
    until("the repair", LONG, || podman.run(&["ps", "-aq"]).is_empty().then_some(()));
}

#[test]
fn restart_of_the_daemon_does_not_lose_the_repair() {
    let mut podman = PodmanServer::start();
    let mut daemon = DaemonProcess::start(|_| with_podman(&podman.socket()));
    lose_podman_in_a_launch(&mut podman, &daemon);
    daemon.kill();
    daemon.start_again();
    assert_says_what_is_left(&outcome(&daemon, "a"));
    until("a try in vain", LONG, || daemon.log().contains("cannot be recovered yet").then_some(()));
    assert!(daemon.terminate().success());
    podman.start_service();
    daemon.start_again();
    until("the repair", LONG, || podman.run(&["ps", "-aq"]).is_empty().then_some(()));
    must(&daemon, launch(&document()));
}

#[test]
fn launch_while_podman_is_away_has_no_effect() {
    let mut podman = PodmanServer::start();
    let daemon = DaemonProcess::start(|_| with_podman(&podman.socket()));
    podman.stop_service();
    let refused = daemon.launch(&document()).unwrap_err();
    let grpcio::Error::RpcFailure(status) = &refused else { panic!("{refused}") };
    assert_eq!(status.code(), grpcio::RpcStatusCode::UNAVAILABLE);
    let error = details(status).unwrap().error;
    assert!(error.message.contains("podman"), "{error:?}");
    podman.start_service();
    assert_eq!(podman.run(&["ps", "-aq"]), "");
    must(&daemon, launch(&document()));
}
