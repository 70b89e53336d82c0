//! Podman's service gone before a launch, gone in the middle of it, and hung in the middle of an answer.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionSpec, ActionState};
use actioncontroller::proto::workloads::WorkloadState;
use grpcio::RpcStatusCode;

use super::{LIMIT, RUNS, Rig, entry, one, pod};
use crate::support::daemon::launch;
use crate::support::wait::until;

/// What an answer may be late by: the engine is asked once more whether it answers, and the machine is busy.
const LATE: Duration = Duration::from_secs(4);

/// A launch of which an init container takes longer than any test, in the middle of all that a launch makes.
fn endless(rig: &Rig) -> String {
    let made = rig.daemon.path("made");
    let mounts = ", volumeMounts: [{name: scratch, mountPath: /s}, {name: made, mountPath: /m}]";
    let spec = format!(
        "initContainers:\n{}containers:\n{}volumes:\n- {{name: scratch, emptyDir: {{}}}}\n\
         - {{name: made, hostPath: {{path: '{}', type: DirectoryOrCreate}}}}\n",
        entry("init", RUNS, ""),
        entry("main", RUNS, mounts),
        made.display()
    );
    pod("w", &spec).replace("{name: w}", "{name: w, annotations: {actioncontroller.io/networks: net}}")
}

/// Begins the launch and waits until its init container is waited for.
fn begin(rig: &Rig, deadline: Duration) -> String {
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap();
    let id = rig.begin(ActionSpec { deadline_ms, ..launch(&endless(rig)) });
    until("the init container is waited for", LIMIT, || {
        let progress = rig.action(&id).progress.unwrap_or_default();
        assert!(progress.state != ActionState::ACTION_STATE_FAILED.into(), "{:?}", rig.action(&id));
        (progress.current_step == "await w_init").then_some(())
    });
    id
}

fn await_nothing_left(rig: &Rig) {
    until("it is undone", LIMIT, || rig.everything().is_nothing().then_some(()));
    assert!(!rig.daemon.path("made").exists());
}

#[test]
fn launch_without_podmans_socket_is_refused_at_once_with_the_socket_named() {
    let mut rig = Rig::new();
    rig.server.stop_service();
    let begun = Instant::now();
    let refused = rig.fails(launch(&one("w", RUNS, "")));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(refused.error.status, i32::from(RpcStatusCode::UNAVAILABLE), "{refused:?}");
    assert_eq!(refused.error.code, "ENGINE_UNAVAILABLE");
    let socket = rig.server.socket();
    assert!(refused.error.message.contains(&socket.display().to_string()), "{refused:?}");
    rig.server.start_service();
    // That it is away is held to be so for some seconds.
    until("Podman is noticed again", LIMIT, || rig.daemon.launch(&one("w", RUNS, "")).ok());
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);
}

#[test]
fn podman_gone_in_the_middle_fails_the_launch_which_is_undone_when_it_is_back() {
    let mut rig = Rig::new();
    let id = begin(&rig, LIMIT);
    rig.server.stop_service();
    let (outcome, took) = rig.outcome(&id);
    assert!(took < LATE, "{took:?}");
    assert_eq!(outcome.state.enum_value(), Ok(ActionState::ACTION_STATE_FAILED), "{outcome:?}");
    assert_eq!(outcome.error.status, i32::from(RpcStatusCode::UNAVAILABLE), "{outcome:?}");
    assert!(outcome.left.iter().any(|line| line.contains("will be undone")), "{outcome:?}");
    assert!(rig.server.run(&["ps", "--format", "{{.Names}}"]).contains("w_init"), "it runs on without the service");
    rig.server.start_service();
    await_nothing_left(&rig);
    // Nothing of it stands in the way of the next.
    rig.launch(&one("w", RUNS, ""));
}

#[test]
fn podman_hung_in_the_middle_of_an_answer_fails_the_launch_in_time_and_it_is_undone_later() {
    let rig = Rig::new();
    let deadline = Duration::from_secs(8);
    let begun = Instant::now();
    let id = begin(&rig, deadline);
    rig.server.freeze_service();
    let (outcome, _) = rig.outcome(&id);
    let took = begun.elapsed();
    assert!(took < deadline + LATE, "{took:?}");
    assert_eq!(outcome.state.enum_value(), Ok(ActionState::ACTION_STATE_FAILED), "{outcome:?}");
    assert_eq!(outcome.error.status, i32::from(RpcStatusCode::DEADLINE_EXCEEDED), "{outcome:?}");
    assert!(outcome.left.iter().any(|line| line.contains("will be undone")), "{outcome:?}");
    rig.server.thaw_service();
    await_nothing_left(&rig);
    rig.launch(&one("w", RUNS, ""));
}

#[test]
fn undoing_that_podman_could_not_do_outlives_the_daemon() {
    let mut rig = Rig::new();
    let id = begin(&rig, LIMIT);
    rig.server.stop_service();
    rig.outcome(&id);
    rig.daemon.kill();
    rig.server.start_service();
    rig.daemon.start_again();
    await_nothing_left(&rig);
}
