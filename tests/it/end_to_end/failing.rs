//! Launches that fail: told with the cause's own words, undone, nothing left.

use std::time::{Duration, Instant};

use actioncontroller::grpc::status::Details;
use actioncontroller::proto::actions::{ActionSpec, ActionState};
use grpcio::RpcStatusCode;

use super::{RUNS, Rig, entry, pod};
use crate::support::daemon::launch;
use crate::support::podman::{IMAGE, PodmanServer};

/// A workload with everything that a launch makes, and one image that is not to be had.
fn with_image(rig: &Rig, image: &str) -> String {
    let made = rig.daemon.path("made");
    let mounts = ", volumeMounts: [{name: scratch, mountPath: /s}, {name: made, mountPath: /m}]";
    let containers = format!("{}- {{name: b, image: '{image}'}}\n", entry("a", RUNS, mounts));
    let volumes = format!(
        "volumes:\n- {{name: scratch, emptyDir: {{}}}}\n\
         - {{name: made, hostPath: {{path: '{}', type: DirectoryOrCreate}}}}\n",
        made.display()
    );
    let document = pod("w", &format!("initContainers:\n{}containers:\n{containers}{volumes}", entry("i", "true", "")));
    document.replace("{name: w}", "{name: w, annotations: {actioncontroller.io/networks: net}}")
}

fn assert_undone(rig: &Rig, failed: &Details) {
    let outcome = failed.outcome.as_ref().expect("the outcome goes along");
    assert_eq!(outcome.state.enum_value(), Ok(ActionState::ACTION_STATE_FAILED), "{outcome:?}");
    assert!(outcome.left.is_empty(), "{outcome:?}");
    assert!(!outcome.changed, "{outcome:?}");
    rig.assert_nothing_left();
    assert!(!rig.daemon.path("made").exists());
}

#[test]
fn image_that_the_registry_does_not_have_fails_with_its_reason_and_leaves_nothing() {
    let rig = Rig::on(PodmanServer::start_with_registry());
    let image = rig.server.remote_image().replace("busybox:1", "absent:7");
    let begun = Instant::now();
    let failed = rig.fails(ActionSpec { deadline_ms: 30_000, ..launch(&with_image(&rig, &image)) });
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(failed.error.code, "IMAGE_UNAVAILABLE", "{failed:?}");
    assert!(failed.error.message.contains(&image), "{failed:?}");
    assert!(failed.error.message.contains("manifest unknown"), "the registry's own reason: {failed:?}");
    assert_undone(&rig, &failed);
}

#[test]
fn image_whose_registry_does_not_answer_fails_with_podmans_reason_and_leaves_nothing() {
    let rig = Rig::new();
    // Nothing listens there: the network is the rig's own.
    let image = "127.0.0.1:9/test/absent:1";
    let begun = Instant::now();
    let failed = rig.fails(ActionSpec { deadline_ms: 30_000, ..launch(&with_image(&rig, image)) });
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(failed.error.code, "IMAGE_UNAVAILABLE", "{failed:?}");
    assert!(failed.error.message.contains("connection refused"), "Podman's own reason: {failed:?}");
    assert_undone(&rig, &failed);
}

#[test]
fn command_that_is_not_in_the_image_fails_with_the_runtimes_reason_and_leaves_nothing() {
    let rig = Rig::new();
    let spec = format!("containers:\n{}- {{name: b, image: '{IMAGE}', command: [/no/such]}}\n", entry("a", RUNS, ""));
    let failed = rig.fails(launch(&pod("w", &spec)));
    assert!(failed.error.message.contains("/no/such"), "{failed:?}");
    assert_undone(&rig, &failed);
}

#[test]
fn init_container_that_fails_fails_the_launch_with_its_code_and_all_is_undone() {
    let rig = Rig::new();
    let init = format!("{}{}", entry("first", "true", ""), entry("second", "exit 7", ""));
    let spec = format!("initContainers:\n{init}containers:\n{}", entry("main", RUNS, ""));
    let failed = rig.fails(launch(&pod("w", &spec)));
    assert_eq!(failed.error.status, i32::from(RpcStatusCode::FAILED_PRECONDITION), "{failed:?}");
    assert_eq!(failed.error.code, "CONTAINER_EXITED");
    assert!(failed.error.message.contains("w_second") && failed.error.message.contains("code 7"), "{failed:?}");
    assert_undone(&rig, &failed);
}
