//! Launching the same document again, a changed one, and either after a stop.

use actioncontroller::proto::actions::{StepState, Verb};
use actioncontroller::proto::workloads::{ContainerState, WorkloadState};
use grpcio::RpcStatusCode;

use super::{RUNS, Rig, container_state, entry, ids, one, pod};
use crate::support::daemon::launch;
use crate::support::podman::IMAGE;

/// Another image that is there.
const OTHER_IMAGE: &str = "localhost/volume:1";

#[test]
fn second_launch_of_the_same_document_is_unchanged_and_of_a_changed_one_refused() {
    let rig = Rig::new();
    let document = one("w", RUNS, "");
    let first = rig.launch(&document);
    assert!(first.changed);
    let started = rig.podman_says("w_main", "{{.State.StartedAt}} {{.Id}}");
    let again = rig.launch(&document);
    assert!(!again.changed && again.steps.is_empty(), "{again:?}");
    assert_eq!(ids(&again), ids(&first));
    assert_eq!(rig.podman_says("w_main", "{{.State.StartedAt}} {{.Id}}"), started);

    let changes = [
        (document.replace(IMAGE, OTHER_IMAGE), "spec.containers[0].image"),
        (document.replace("'exit 0' TERM", "'exit 1' TERM"), "spec.containers[0].command[2]"),
        (one("w", RUNS, ", env: [{name: A, value: b}]"), "spec.containers[0].env[0]"),
    ];
    for (changed, field) in changes {
        let refused = rig.fails(launch(&changed));
        assert_eq!(refused.error.status, i32::from(RpcStatusCode::FAILED_PRECONDITION), "{refused:?}");
        assert_eq!((refused.error.code.as_str(), refused.error.field.as_str()), ("WORKLOAD_DIFFERS", field));
        assert!(refused.error.message.contains(field), "{refused:?}");
        assert!(refused.error.hint.contains("'update'"), "{refused:?}");
    }
    assert_eq!(rig.podman_says("w_main", "{{.State.StartedAt}} {{.Id}}"), started);
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);
}

#[test]
fn after_a_stop_the_same_document_is_started_again_and_a_changed_one_recreated() {
    let rig = Rig::new();
    let document = one("w", RUNS, "");
    let first = rig.launch(&document);
    rig.verb(Verb::VERB_STOP, "w");
    let again = rig.launch(&document);
    assert!(again.changed);
    assert_eq!(ids(&again), ids(&first), "the same container is started again");
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);

    rig.verb(Verb::VERB_STOP, "w");
    let changed = document.replace(IMAGE, OTHER_IMAGE);
    let recreated = rig.launch(&changed);
    assert_ne!(ids(&recreated), ids(&first));
    assert_eq!(rig.podman_says("w_main", "{{.ImageName}}"), OTHER_IMAGE);
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);
    assert!(!rig.launch(&changed).changed, "it is the document in force now");
    rig.verb(Verb::VERB_TERMINATE, "w");
    rig.assert_nothing_left();
}

#[test]
fn recreate_whose_image_is_missing_leaves_the_stopped_containers_in_place() {
    let rig = Rig::new();
    let spec = format!("containers:\n{}{}", entry("a", RUNS, ""), entry("b", RUNS, ""));
    let document = pod("w", &spec);
    let first = rig.launch(&document);
    rig.verb(Verb::VERB_STOP, "w");
    let failed = rig.fails(launch(&document.replacen(IMAGE, "localhost/none:1", 1)));
    assert_eq!(failed.error.code, "IMAGE_UNAVAILABLE", "{failed:?}");
    assert!(failed.outcome.unwrap().left.is_empty());
    for (name, id) in ids(&first) {
        let container = rig.container("w", &name);
        assert_eq!((&container.id, container_state(&container)), (&id, ContainerState::CONTAINER_STATE_EXITED));
    }
    let started = rig.verb(Verb::VERB_START, "w");
    assert_eq!(ids(&started), ids(&first));
    assert!(!rig.launch(&document).changed, "the old document is in force still");
}

#[test]
fn recreate_that_fails_on_its_way_brings_back_what_was_there() {
    let rig = Rig::new();
    let with_port = |port: u16, more: &str| {
        let ports = format!(", ports: [{{containerPort: 80, hostPort: {port}}}]");
        pod("w", &format!("containers:\n{}{}{more}", entry("a", RUNS, &ports), entry("b", RUNS, "")))
    };
    let document = with_port(8080, "");
    rig.launch(&document);
    rig.verb(Verb::VERB_STOP, "w");
    // Podman refuses the container only when all before it is made: the path is not there.
    let missing = rig.daemon.path("missing");
    let mount = format!(
        "{}volumes: [{{name: v, hostPath: {{path: '{}'}}}}]\n",
        entry("c", RUNS, ", volumeMounts: [{name: v, mountPath: /v}]"),
        missing.display()
    );
    let failed = rig.fails(launch(&with_port(9090, &mount)));
    assert!(failed.error.message.contains(&missing.display().to_string()), "{failed:?}");
    let outcome = failed.outcome.unwrap();
    assert!(outcome.left.is_empty(), "{outcome:?}");
    assert!(outcome.steps.iter().any(|step| step.state == StepState::STEP_STATE_UNDONE.into()), "{outcome:?}");
    let there = rig.everything();
    assert_eq!(there.containers, ["w-infra", "w_a", "w_b"], "{there:?}");
    let again = rig.launch(&document);
    assert!(again.changed);
    assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);
    let infra = rig.podman_says("w-infra", "{{json .HostConfig.PortBindings}}");
    assert!(infra.contains("8080") && !infra.contains("9090"), "{infra}");
}
