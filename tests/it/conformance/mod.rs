//! One suite of cases for every runtime adapter: the same verbs mean the same on each engine.
//!
//! A case is a function over a [`Subject`], which is an adapter with what is needed to use it; it says what a caller
//! would see and nothing of the engine. To add an engine: write its `#[test]` below, which builds a `Subject` and calls
//! [`suite::run`] with the names of the cases that cannot apply to it. To add a case: a function in the file of its
//! subject and a line in that file's list.

mod behaviour;
mod events;
mod hibernating;
mod images;
mod lifecycle;
mod observe;
mod ownership;
mod pausing;
mod settings;
mod stopping;
mod subject;
mod suite;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actioncontroller::runtime::adapter::{Probe, RuntimeAdapter};
use actioncontroller::runtime::bluechi::{Bluechi, BluechiConfig};
use actioncontroller::runtime::containerd::{Containerd, ContainerdConfig};
use actioncontroller::runtime::docker::{Docker, DockerConfig};
use actioncontroller::runtime::hibernation::{Hibernation, HibernationConfig};
use actioncontroller::runtime::oci::{Oci, OciConfig};
use actioncontroller::runtime::podman::{Podman, PodmanConfig};
use actioncontroller::runtime::sim::SimRuntime;
use actioncontroller::runtime::sim::config::{
    SimConfig, SimFailure, SimFailureKind, SimFault, SimImage, SimImageState, SimOp,
};
use actioncontroller::runtime::systemd::{Systemd, SystemdConfig};
use actioncontroller::transport::channel::ChannelThreads;

use crate::support::bluechi::BluechiStandIn;
use crate::support::containerd::ContainerdServer;
use crate::support::docker::DockerServer;
use crate::support::oci::{ABSENT, OciRig};
use crate::support::podman::PodmanServer;
use crate::support::systemd::SystemdServer;
use subject::{Foreign, Root, Subject};

/// The adapter as the daemon has it, with what is the same of checkpoints on every engine in front of it; proved.
fn hibernating(adapter: Arc<dyn RuntimeAdapter>) -> Arc<dyn RuntimeAdapter> {
    let dir = std::env::temp_dir().join(format!("ac-conformance-{}", std::process::id()));
    let config = HibernationConfig {
        dir,
        max_bytes: 1 << 30,
        checkpoint_limit: Duration::from_secs(60),
        restore_limit: Duration::from_secs(60),
    };
    let hibernation = Hibernation::open(adapter, config).unwrap();
    let call = subject::call_within(Duration::from_secs(60), &subject::CALM);
    if let Err(error) = hibernation.prove_checkpoint(&call) {
        eprintln!("no checkpoints: {error}");
    }
    Arc::new(hibernation)
}

/// A simulator with these faults.
fn sim(faults: Vec<SimFault>) -> Subject {
    let image =
        |reference: &str, state| SimImage { reference: reference.into(), state, bytes: None, pull_ms: Some(100) };
    let images = vec![
        image("localhost/busybox:1", SimImageState::Present),
        image("registry.invalid/absent:1", SimImageState::Pullable),
        image("registry.invalid/missing:1", SimImageState::Missing),
    ];
    let sim = SimRuntime::open(SimConfig { images, faults, ..SimConfig::default() }, "here").unwrap();
    let away = SimConfig { unavailable: "nobody listens".into(), ..SimConfig::default() };
    Subject {
        adapter: hibernating(Arc::new(sim)),
        node: "here".into(),
        image: "localhost/busybox:1".into(),
        absent_image: Some("registry.invalid/absent:1".into()),
        missing_image: "registry.invalid/missing:1".into(),
        command: behaviour::for_sim,
        down: Box::new(move || Arc::new(SimRuntime::open(away.clone(), "here").unwrap()) as Arc<dyn RuntimeAdapter>),
        foreign: Box::new(Foreign::through_the_adapter),
        has_processes: false,
        tells_memory_kills: true,
        root: None,
        keeps_streams_apart: true,
        takes_any_user: true,
        made: Default::default(),
    }
}

// req: AC-10, BM-04
#[test]
fn sim_conforms() {
    suite::run(&sim(Vec::new()), &["limits_are_in_the_cgroup", "changed_limits_are_in_the_cgroup_of_what_runs_on"]);
}

// req: BM-04
#[test]
fn engine_that_misbehaves_fails_the_cases_that_are_about_it() {
    let delayed = |op, delay_ms| SimFault { op: Some(op), delay_ms, ..SimFault::default() };
    let failing = |op, kind| {
        let fail = Some(SimFailure { kind, message: "scripted".into() });
        SimFault { op: Some(op), fail, ..SimFault::default() }
    };
    for (fault, case) in [
        (delayed(SimOp::Stop, 1_500), "grace_of_500_ms_is_500_ms"),
        (failing(SimOp::Remove, SimFailureKind::NotFound), "remove_of_unknown_is_unchanged"),
        (failing(SimOp::Inspect, SimFailureKind::Engine), "unknown_or_empty_id_is_not_found_to_every_verb_but_remove"),
        (failing(SimOp::Pull, SimFailureKind::Engine), "create_pulls_the_missing_image_and_tells_its_bytes"),
        (failing(SimOp::EnsureNetwork, SimFailureKind::NotFound), "foreign_network_is_neither_taken_nor_removed"),
        (failing(SimOp::Restore, SimFailureKind::Engine), "hibernated_container_goes_on_where_it_was"),
        (failing(SimOp::Events, SimFailureKind::Connection), "events_tell_a_life_in_order_with_one_death"),
    ] {
        assert_eq!(suite::outcome_of(case, &sim(vec![fault])), "FAIL", "{case}");
        assert_eq!(suite::outcome_of(case, &sim(Vec::new())), "ok", "{case}");
    }
}

/// A private Podman with a registry, of the version that the environment asks for.
fn podman(server: &Arc<PodmanServer>) -> Subject {
    let away = PodmanConfig { socket: Some(server.files().join("nobody.sock")), ..server.config() };
    let outside = Arc::clone(server);
    let adapter = server.adapter();
    // Abilities are what a probe has proved.
    assert!(matches!(adapter.probe(), Probe::Available { .. }));
    Subject {
        adapter: hibernating(Arc::new(adapter)),
        node: server.config().node,
        image: "localhost/busybox:1".into(),
        absent_image: Some(server.remote_image()),
        missing_image: format!("{}-that-is-nowhere", server.remote_image()),
        command: behaviour::for_busybox,
        down: Box::new(move || Arc::new(Podman::new(away.clone())) as Arc<dyn RuntimeAdapter>),
        foreign: Box::new(move |_, kind, name| {
            // By hand, as somebody else would: without our label.
            let arguments = match kind {
                Foreign::Container => vec!["create", "--name", name, "localhost/busybox:1", "sleep", "1000"],
                Foreign::Network => vec!["network", "create", name],
                Foreign::Volume => vec!["volume", "create", name],
                Foreign::Pod => vec!["pod", "create", "--name", name],
            };
            outside.run(&arguments);
        }),
        has_processes: true,
        tells_memory_kills: false,
        root: None,
        keeps_streams_apart: true,
        takes_any_user: true,
        made: Default::default(),
    }
}

// req: AC-10, AC-11
#[test]
fn podman_conforms() {
    let server = Arc::new(PodmanServer::start_with_registry());
    let mut not_applicable = vec!["death_for_want_of_memory_is_flagged"];
    if std::env::var("ACTIONCONTROLLER_PODMAN").as_deref() == Ok("5") {
        // CRIU ends with SIGABRT where the rig has laid another system's /usr over this one's.
        not_applicable.extend(hibernating::CASES.iter().map(|case| case.name));
    }
    suite::run(&podman(&server), &not_applicable);
}

/// crun or runc with no engine daemon.
fn oci(rig: &Arc<OciRig>) -> Subject {
    let away = OciConfig { dir: rig.files().join("away"), runtime: "no-such-runtime".into(), ..rig.config() };
    let adapter = rig.adapter();
    assert!(matches!(adapter.probe(), Probe::Available { .. }), "{:?}", adapter.probe());
    Subject {
        adapter: hibernating(Arc::new(adapter)),
        node: rig.config().node,
        image: "localhost/busybox:1".into(),
        absent_image: Some(ABSENT.into()),
        missing_image: "localhost/missing:1".into(),
        command: behaviour::for_busybox,
        down: Box::new(move || Arc::new(Oci::open(away.clone()).unwrap()) as Arc<dyn RuntimeAdapter>),
        foreign: Box::new(Foreign::through_the_adapter),
        has_processes: true,
        tells_memory_kills: true,
        root: None,
        keeps_streams_apart: true,
        takes_any_user: true,
        made: Default::default(),
    }
}

/// What is about pods.
const NO_PODS: [&str; 4] = [
    "pod_is_made_once_and_removed_after_its_members",
    "stopped_pod_comes_back_with_its_first_member",
    "foreign_pod_is_neither_taken_nor_removed",
    "leftovers_are_those_of_the_workload",
];

// req: AC-10
#[test]
fn oci_conforms_with_crun() {
    suite::run_as("oci/crun", &oci(&Arc::new(OciRig::with_crun())), &NO_PODS);
}

// req: RM-02
// req: RM-03
// req: RM-04
// req: AC-10, RM-05
#[test]
fn oci_conforms_with_runc() {
    suite::run_as("oci/runc", &oci(&Arc::new(OciRig::with_runc())), &NO_PODS);
}

/// A private Docker with a registry.
fn docker(server: &Arc<DockerServer>) -> Subject {
    let away = DockerConfig { socket: Some(server.nowhere()), ..server.config() };
    let outside = Arc::clone(server);
    let adapter = server.adapter();
    assert!(matches!(adapter.probe(), Probe::Available { .. }));
    Subject {
        adapter: Arc::new(adapter),
        node: server.config().node,
        image: "localhost/busybox:1".into(),
        absent_image: Some(server.remote_image()),
        missing_image: format!("{}-that-is-nowhere", server.remote_image()),
        command: behaviour::for_busybox,
        down: Box::new(move || Arc::new(Docker::new(away.clone())) as Arc<dyn RuntimeAdapter>),
        foreign: Box::new(move |_, kind, name| {
            let arguments = match kind {
                Foreign::Container => vec!["create", "--name", name, "localhost/busybox:1", "sleep", "1000"],
                Foreign::Network => vec!["network", "create", name],
                Foreign::Volume => vec!["volume", "create", name],
                Foreign::Pod => panic!("Docker has no pods"),
            };
            outside.run(&arguments);
        }),
        has_processes: true,
        tells_memory_kills: true,
        root: None,
        keeps_streams_apart: true,
        takes_any_user: true,
        made: Default::default(),
    }
}

// req: AC-10, AC-12
#[test]
fn docker_conforms() {
    let server = Arc::new(DockerServer::start_with_registry());
    // Its own checkpoints are an experiment of Docker's.
    let checkpoints = hibernating::CASES.iter().map(|case| case.name);
    let not_applicable: Vec<_> = NO_PODS.into_iter().chain(checkpoints).collect();
    suite::run(&docker(&server), &not_applicable);
}

/// A private containerd with a registry.
fn containerd(server: &Arc<ContainerdServer>) -> Subject {
    let away = ContainerdConfig { socket: server.nowhere(), dir: server.files().join("away"), ..server.config() };
    let outside = Arc::clone(server);
    let adapter = server.adapter();
    assert!(matches!(adapter.probe(), Probe::Available { .. }));
    let threads = ChannelThreads::start();
    Subject {
        adapter: hibernating(Arc::new(adapter)),
        node: server.config().node,
        image: "localhost/busybox:1".into(),
        absent_image: Some(server.remote_image()),
        missing_image: format!("{}-that-is-nowhere", server.remote_image()),
        command: behaviour::for_busybox,
        down: Box::new(move || Arc::new(Containerd::open(away.clone(), &threads).unwrap()) as Arc<dyn RuntimeAdapter>),
        foreign: Box::new(move |subject, kind, name| match kind {
            Foreign::Container => {
                outside.run(&["containers", "create", "localhost/busybox:1", name, "sleep", "1000"]);
            }
            Foreign::Network | Foreign::Pod => panic!("containerd has none"),
            // They are this daemon's own: another node's is made by way of it.
            Foreign::Volume => Foreign::through_the_adapter(subject, kind, name),
        }),
        has_processes: true,
        tells_memory_kills: true,
        root: None,
        keeps_streams_apart: true,
        takes_any_user: true,
        made: Default::default(),
    }
}

/// What is about output, of which BlueChi's services have none.
const OUTPUT: [&str; 6] = [
    "cancel_ends_followed_logs_within_a_second",
    "followed_logs_come_while_it_runs",
    "followed_logs_end_with_the_container",
    "log_times_are_monotone_and_of_now",
    "logs_of_a_container_that_never_ran_are_empty",
    "tail_gives_the_last_lines",
];

/// Cases for what a node without controllers for its systemd has not, and services never have: images, networks, pods, streams
/// that are apart, commands, checkpoints.
const NOT_OF_SYSTEMD: &[&str] = &[
    "changed_limits_are_in_the_cgroup_of_what_runs_on",
    "container_in_a_network_that_is_not_there_is_refused",
    "create_pulls_the_missing_image_and_tells_its_bytes",
    "death_for_want_of_memory_is_flagged",
    "exec_ends_at_its_deadline_and_at_its_cancel",
    "exec_gives_code_and_both_streams",
    "exec_in_what_does_not_run_is_refused",
    "foreign_network_is_neither_taken_nor_removed",
    "foreign_pod_is_neither_taken_nor_removed",
    "hibernate_is_only_from_running",
    "hibernated_container_goes_on_where_it_was",
    "hibernated_container_has_no_process_and_is_listed_as_such",
    "hibernated_container_is_removed_by_force",
    "image_that_is_nowhere_fails_with_its_name_and_leaves_nothing",
    "leftovers_are_those_of_the_workload",
    "limits_are_in_the_cgroup",
    "limits_of_what_does_not_run_are_not_changed",
    "logs_keep_stdout_and_stderr_apart",
    "logs_of_one_stream_have_that_alone",
    "network_goes_with_its_last_member",
    "pod_is_made_once_and_removed_after_its_members",
    "present_image_is_unchanged",
    "published_port_is_told_back",
    "pull_policy_never_does_not_pull",
    "second_hibernate_and_wake_are_unchanged",
    "start_pause_and_remove_while_hibernated_are_invalid_state",
    "stats_of_what_does_not_run_are_refused",
    "stats_show_use_of_what_runs",
    "stop_during_a_checkpoint_ends_clean",
    "stop_while_hibernated_ends_it",
    "stopped_pod_comes_back_with_its_first_member",
    "user_and_group_are_those_asked_for",
    "wake_of_what_never_hibernated_is_invalid_state",
    "wake_to_paused_is_paused",
];

/// A private systemd.
fn systemd(server: &Arc<SystemdServer>) -> Subject {
    let nowhere = server.files().join("nowhere").display().to_string();
    let away = SystemdConfig { bus: nowhere, dir: server.files().join("away"), ..server.config() };
    let down = move || Arc::new(Systemd::open(away.clone()).unwrap()) as Arc<dyn RuntimeAdapter>;
    let subject = of_units(Arc::new(server.adapter()), server, None, Box::new(down));
    // A journal has both streams as one.
    Subject { keeps_streams_apart: false, command: behaviour::for_journal, ..subject }
}

/// A BlueChi, and its own node.
fn bluechi(stand_in: &BluechiStandIn) -> Subject {
    let nowhere = stand_in.files().join("nowhere").display().to_string();
    let away = BluechiConfig { bus: nowhere, dir: stand_in.files().join("away"), ..stand_in.config() };
    let down = move || Arc::new(Bluechi::open(away.clone()).unwrap()) as Arc<dyn RuntimeAdapter>;
    let server = stand_in.server(&stand_in.config().own);
    let outputs = server.files().join("outputs");
    std::fs::create_dir(&outputs).unwrap();
    of_units(Arc::new(stand_in.adapter()), server, Some(outputs), Box::new(down))
}

/// An engine whose units run on this systemd.
fn of_units(
    adapter: Arc<dyn RuntimeAdapter>,
    server: &SystemdServer,
    outputs: Option<PathBuf>,
    down: Box<dyn Fn() -> Arc<dyn RuntimeAdapter> + Send + Sync>,
) -> Subject {
    assert!(matches!(adapter.probe(), Probe::Available { .. }), "{:?}", adapter.probe());
    Subject {
        adapter,
        node: server.config().node,
        image: String::new(),
        absent_image: None,
        missing_image: String::new(),
        command: behaviour::for_busybox,
        down,
        foreign: Box::new(Foreign::through_the_adapter),
        has_processes: true,
        tells_memory_kills: false,
        root: Some(Root { tree: server.tree(), outputs }),
        keeps_streams_apart: true,
        takes_any_user: false,
        made: Default::default(),
    }
}

// req: AC-10, AC-13
#[test]
fn containerd_conforms() {
    let server = Arc::new(ContainerdServer::start_with_registry());
    // It has none but none and the host's.
    let networks = [
        "network_goes_with_its_last_member",
        "foreign_network_is_neither_taken_nor_removed",
        "container_in_a_network_that_is_not_there_is_refused",
        "published_port_is_told_back",
    ];
    let not_applicable: Vec<_> = NO_PODS.into_iter().chain(networks).collect();
    suite::run(&containerd(&server), &not_applicable);
}

// req: AC-10
#[test]
fn bluechi_conforms() {
    let stand_in = BluechiStandIn::start(&["main"]);
    suite::run(&bluechi(&stand_in), &[NOT_OF_SYSTEMD, &OUTPUT].concat());
}

// req: AC-10
#[test]
fn systemd_conforms() {
    let server = Arc::new(SystemdServer::start_with_journal());
    suite::run(&systemd(&server), NOT_OF_SYSTEMD);
}
