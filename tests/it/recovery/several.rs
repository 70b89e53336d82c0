//! Crashes that meet: in an undo, in a recovery, with several actions under way, with the engine away at the start.

use std::time::Duration;

use actioncontroller::proto::actions::{ActionState, GetActionRequest, Verb};
use grpcio::RpcStatusCode;

use super::{
    LONG, Moment, assert_tells, begin, die_at, is_running, listed, must, outcome, sim, sim_containers, sim_objects,
    succeeded, target, with_id,
};
use crate::support::daemon::{DaemonProcess, launch, options, pod, with_podman};
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::wait::until;

fn document(name: &str) -> String {
    pod(name, "localhost/busybox:1", "sleep 1000")
}

/// The state of an action that is not over.
fn state(daemon: &DaemonProcess, id: &str) -> ActionState {
    let request = GetActionRequest { action_id: id.to_owned(), ..GetActionRequest::default() };
    daemon.actions().get_action(&request, options()).unwrap().progress.state.unwrap()
}

/// The start fails, and taking back what was created takes a while.
const FAILS_AND_UNDOES_SLOWLY: &str = "{op: start, name: 'w_*', fail: {kind: engine, message: no}}, \
    {op: remove, name: 'w_*', delay_ms: 300}";

#[test]
fn death_during_an_undo_is_undone_at_the_next_start() {
    let mut daemon = DaemonProcess::start(|folder| sim(folder, 1, FAILS_AND_UNDOES_SLOWLY));
    begin(&daemon, with_id(launch(&document("w")), "a"));
    until("the undo", LONG, || (state(&daemon, "a") == ActionState::ACTION_STATE_UNDOING).then_some(()));
    daemon.kill();
    assert_eq!(sim_containers(&daemon).len(), 1, "killed before it was undone");
    daemon.start_again();
    assert_tells(&outcome(&daemon, "a"), &["undone"]);
    assert!(sim_objects(&daemon).is_empty());
}

#[test]
fn death_during_a_recovery_is_recovered_again() {
    let slow = "{op: remove, delay_ms: 400}, {op: start, delay_ms: 200}";
    let mut daemon = DaemonProcess::start(|folder| sim(folder, 1, slow));
    // Dies after the container was created.
    die_at(&mut daemon, with_id(launch(&document("w")), "a"), Moment { events: 5, later: Duration::ZERO });
    for _ in 0..3 {
        daemon.start_again();
        daemon.kill();
        assert_eq!(sim_containers(&daemon).len(), 1);
    }
    daemon.start_again();
    assert_tells(&outcome(&daemon, "a"), &["undone"]);
    assert!(sim_objects(&daemon).is_empty());
    must(&daemon, launch(&document("w")));
    assert!(is_running(&listed(&daemon)["w"]));
}

#[test]
fn death_between_the_record_and_the_answer_leaves_the_outcome() {
    let mut daemon = DaemonProcess::on_sim();
    for number in 0..10 {
        let (name, id) = (format!("w{number}"), format!("a{number}"));
        let request = actioncontroller::proto::actions::ExecuteActionRequest {
            action: protobuf::MessageField::some(with_id(launch(&document(&name)), &id)),
            ..Default::default()
        };
        let client = daemon.actions();
        let answer = client.execute_action_async(&request, options()).unwrap();
        // Its last step is told before the outcome is written; killed within the few microseconds around that.
        until("the container runs", LONG, || {
            let file = std::fs::read_to_string(daemon.path("sim.json")).unwrap_or_default();
            (file.contains(&format!("\"{name}_main\"")) && file.matches("\"pid\"").count() > number).then_some(())
        });
        daemon.kill();
        drop(answer);
        daemon.start_again();
        let outcome = outcome(&daemon, &id);
        assert!(succeeded(&outcome), "{outcome:?}");
        // The caller that heard nothing asks again under the same id.
        let again = must(&daemon, with_id(launch(&document(&name)), &id));
        assert_eq!(again.recovered, outcome.recovered);
        assert_eq!(sim_containers(&daemon).len(), number + 1);
    }
}

#[test]
fn several_interrupted_actions_are_each_ended() {
    let slow = "{op: start, name: 'new*', delay_ms: 3000}, {op: stop, delay_ms: 3000}";
    let mut daemon = DaemonProcess::start(|folder| sim(folder, 1, slow));
    for name in ["old0", "old1"] {
        must(&daemon, launch(&document(name)));
    }
    for name in ["new0", "new1"] {
        begin(&daemon, with_id(launch(&document(name)), name));
    }
    begin(&daemon, with_id(target(Verb::VERB_STOP, "old0"), "old0"));
    until("two are created", LONG, || (sim_containers(&daemon).len() == 4).then_some(()));
    until("the stop runs", LONG, || (state(&daemon, "old0") == ActionState::ACTION_STATE_RUNNING).then_some(()));
    daemon.kill();
    daemon.write_settings(&sim(&daemon.path(""), 1, ""));
    daemon.start_again();
    for name in ["new0", "new1"] {
        assert_tells(&outcome(&daemon, name), &["undone"]);
    }
    assert_tells(&outcome(&daemon, "old0"), &["finished"]);
    let listed = listed(&daemon);
    assert_eq!(listed.keys().collect::<Vec<_>>(), ["old0", "old1"]);
    assert!(!is_running(&listed["old0"]) && is_running(&listed["old1"]));
}

#[test]
fn podman_away_at_the_start_is_waited_for_while_the_daemon_serves() {
    let mut podman = PodmanServer::start();
    let mut daemon = DaemonProcess::start(|_| with_podman(&podman.socket()));
    let document = pod("w", IMAGE, "sleep 1000");
    die_at(&mut daemon, with_id(launch(&document), "a"), Moment { events: 4, later: Duration::ZERO });
    podman.stop_service();
    daemon.start_again();
    until("a try in vain", LONG, || daemon.log().contains("cannot be recovered yet").then_some(()));
    // It serves, tells of the action, and takes no second launch of what is undecided.
    assert_eq!(state(&daemon, "a"), ActionState::ACTION_STATE_UNDOING);
    assert!(listed(&daemon).is_empty());
    let refused = daemon.launch(&document).unwrap_err();
    let grpcio::Error::RpcFailure(status) = &refused else { panic!("{refused}") };
    assert_eq!(status.code(), RpcStatusCode::UNAVAILABLE, "{refused}");
    podman.start_service();
    let outcome = outcome(&daemon, "a");
    assert_tells(&outcome, &["undone", "finished"]);
    let expected = usize::from(outcome.recovered == "finished");
    until("nothing is left", LONG, || (podman.run(&["ps", "-aq"]).lines().count() == expected).then_some(()));
    must(&daemon, launch(&document));
    assert_eq!(podman.run(&["ps", "-aq"]).lines().count(), 1);
}

#[test]
fn what_the_engine_finishes_after_the_undo_is_found_and_taken_back() {
    let mut daemon = DaemonProcess::start(|folder| sim(folder, 1, "{op: start, delay_ms: 3000}"));
    begin(&daemon, with_id(launch(&document("w")), "a"));
    let file = daemon.path("sim.json");
    until("it is created", LONG, || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.contains("\"w_main\"").then_some(())
    });
    daemon.kill();
    // The engine as it is before it has done what was asked of it, and as it is afterwards.
    let late = std::fs::read_to_string(&file).unwrap();
    let mut early: serde_json::Value = serde_json::from_str(&late).unwrap();
    early["state"]["containers"] = serde_json::json!({});
    std::fs::write(&file, early.to_string()).unwrap();
    daemon.start_again();
    assert_tells(&outcome(&daemon, "a"), &["undone"]);
    daemon.kill();
    std::fs::write(&file, late).unwrap();
    daemon.start_again();
    until("it is taken back", LONG, || sim_objects(&daemon).is_empty().then_some(()));
}
