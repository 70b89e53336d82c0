//! The probe, images and an engine that is away.

use std::sync::Mutex;
use std::time::Duration;

use actioncontroller::model::workload::PullPolicy;
use actioncontroller::runtime::adapter::{Call, Change, Probe, ProgressSink, RuntimeAdapter, RuntimeError};

use super::{LIMIT, Rig, container, timed};
use crate::support::podman::PodmanServer;
use crate::support::wait::until;

#[derive(Default)]
struct Told(Mutex<Vec<(String, u64, u64)>>);

impl ProgressSink for Told {
    fn bytes(&self, what: &str, done: u64, total: u64) {
        self.0.lock().unwrap().push((what.to_owned(), done, total));
    }
}

#[test]
fn probe_tells_version_and_abilities_and_notices_that_the_engine_is_gone() {
    let mut rig = Rig::new();
    assert!(!rig.podman.capabilities().supports_exec, "nothing is proved before a probe");
    let (version, api) = match rig.podman.probe() {
        Probe::Available { version, api } => (version, api),
        Probe::Unavailable { reason } => panic!("{reason}"),
    };
    assert_eq!(version, api);
    assert!(rig.server.run(&["--version"]).ends_with(&version), "{version}");
    let able = rig.podman.capabilities();
    assert!(able.supports_pause && able.supports_logs && able.supports_events && able.supports_pods);
    assert!(!able.supports_checkpoint, "not built yet");

    rig.server.stop_service();
    let (probe, took) = timed(|| rig.podman.probe());
    assert!(matches!(probe, Probe::Unavailable { .. }), "{probe:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    let away = rig.podman.inspect_container(&rig.call(), "x").unwrap_err();
    assert!(matches!(away, RuntimeError::EngineNotAvailable { .. }), "{away}");
    rig.server.start_service();
    assert!(matches!(rig.podman.probe(), Probe::Available { .. }));
}

#[test]
// req: LS-01
fn create_pulls_what_is_absent_and_tells_the_bytes() {
    let rig = Rig::of(PodmanServer::start_with_registry());
    let remote = rig.server.remote_image();
    let told = Told::default();
    let call = Call { progress: &told, ..rig.call() };
    // A layer that the engine does not have, slow enough for its bytes to be told while they come.
    rig.server.limit_loopback();
    let mut config = container("pulled", "echo hi");
    config.spec.image = remote.clone();
    config.spec.pull = PullPolicy::Never;
    let absent = rig.podman.create_container(&call, &config).unwrap_err();
    assert!(matches!(absent, RuntimeError::ImagePull { .. }), "{absent}");
    config.spec.pull = PullPolicy::IfNotPresent;
    let id = rig.run_with(&call, &config);
    assert_eq!(rig.podman.wait_container(&rig.call(), &id).unwrap(), Some(0));
    let told = told.0.into_inner().unwrap();
    assert!(told.iter().any(|(_, done, total)| *done > 0 && total >= done), "{told:?}");

    let again = |policy| rig.podman.ensure_image(&rig.call(), &remote, policy).unwrap();
    assert_eq!(again(PullPolicy::IfNotPresent), Change::Unchanged);
    assert_eq!(again(PullPolicy::Always), Change::Unchanged);
    assert_eq!(again(PullPolicy::Never), Change::Unchanged);
    assert_eq!(rig.podman.remove_container(&rig.call(), &id, false).unwrap(), Change::Changed);
}

#[test]
fn cancelled_pull_ends_within_a_second_and_leaves_no_image() {
    let rig = Rig::of(PodmanServer::start_with_registry());
    rig.server.limit_loopback();
    let remote = rig.server.remote_image();
    let told = Told::default();
    std::thread::scope(|scope| {
        let call = Call { progress: &told, ..rig.call() };
        let podman = &rig.podman;
        let pulling = scope.spawn(move || podman.ensure_image(&call, &remote, PullPolicy::IfNotPresent));
        until("the pull's first progress", LIMIT, || (!told.0.lock().unwrap().is_empty()).then_some(()));
        let begun = std::time::Instant::now();
        rig.cancel.cancel("test");
        let ended = pulling.join().unwrap();
        assert!(matches!(ended, Err(RuntimeError::Cancelled { .. })), "{ended:?}");
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    });
    assert!(!rig.server.run(&["images"]).contains("test/busybox"));
}

#[test]
fn image_that_does_not_exist_fails_with_the_registrys_reason() {
    let rig = Rig::of(PodmanServer::start_with_registry());
    let missing = rig.server.remote_image().replace("busybox", "missing");
    let failed = rig.podman.ensure_image(&rig.call(), &missing, PullPolicy::IfNotPresent).unwrap_err();
    assert!(
        matches!(&failed, RuntimeError::ImagePull { image, reason } if *image == missing && reason.contains("manifest")),
        "{failed}"
    );
    let mut config = container("c", "true");
    config.spec.image = missing;
    assert!(matches!(rig.podman.create_container(&rig.call(), &config), Err(RuntimeError::ImagePull { .. })));
    assert_eq!(rig.server.run(&["ps", "-aq"]), "");
}
