//! What only the simulator has: scripted faults, the kept configuration, the state file. The verbs themselves are
//! proved by the conformance suite in `tests/it/conformance`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::SimRuntime;
use super::config::{SimConfig, SimFailure, SimFailureKind, SimFault, SimImage, SimImageState, SimOp};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::state::ContainerStatus;
use crate::model::workload::{ContainerSpec, EnvVar, PullPolicy};
use crate::runtime::adapter::{
    Call, Change, ContainerConfig, LogOptions, Probe, ProgressSink, RuntimeAdapter, RuntimeError, StopOptions,
};
use crate::runtime::double::{self, call};

const LONG: Duration = Duration::from_secs(60);

fn config(name: &str, words: &[&str]) -> ContainerConfig {
    let plain = double::config(name);
    ContainerConfig {
        spec: ContainerSpec {
            image: "app:1".into(),
            command: words.iter().map(|word| (*word).into()).collect(),
            args: vec![],
            env: vec![EnvVar { name: "A".into(), value: "b".into() }],
            ..plain.spec.clone()
        },
        labels: BTreeMap::from([("k".into(), "v".into())]),
        annotations: BTreeMap::from([("manifest".into(), "apiVersion: v1\n".into())]),
        ..plain
    }
}

fn open(config: SimConfig) -> SimRuntime {
    SimRuntime::open(config, "here").unwrap()
}

fn fault(op: SimOp) -> SimFault {
    SimFault { op: Some(op), ..SimFault::default() }
}

fn failure(kind: SimFailureKind, message: &str) -> Option<SimFailure> {
    Some(SimFailure { kind, message: message.into() })
}

fn running(sim: &SimRuntime, name: &str, words: &[&str]) -> String {
    let cancel = CancelToken::new();
    let created = sim.create_container(&call(&cancel, LONG), &config(name, words)).unwrap();
    sim.start_container(&call(&cancel, LONG), &created.id).unwrap();
    created.id
}

// req: BM-04
#[test]
fn configuration_is_kept_exactly_for_inspection_until_removal() {
    let sim = open(SimConfig::default());
    let id = running(&sim, "app_main", &["log:stdout:0ms:hello"]);
    let given = config("app_main", &["log:stdout:0ms:hello"]);
    assert_eq!(sim.config_of(&id), Some(given.clone()));
    assert_eq!(sim.config_of("app_main"), Some(given));
    let cancel = CancelToken::new();
    let seen = sim.inspect_container(&call(&cancel, LONG), "app_main").unwrap();
    assert_eq!(seen.annotations["manifest"], "apiVersion: v1\n");
    let all = LogOptions { follow: false, tail: None, since_ms: 0, stdout: true, stderr: true };
    let lines: Vec<_> = sim.container_logs(&call(&cancel, LONG), &id, &all).unwrap().map(Result::unwrap).collect();
    assert_eq!(lines[0].bytes, b"hello\n");
    assert_eq!(sim.remove_container(&call(&cancel, LONG), &id, true), Ok(Change::Changed));
    assert_eq!(sim.config_of(&id), None);
}

// req: BM-04
#[test]
fn fault_hits_the_nth_call_that_fits_and_no_other() {
    let fail = failure(SimFailureKind::Engine, "disk full");
    let faults = vec![SimFault { name: "app_*".into(), nth: Some(2), fail, ..fault(SimOp::Create) }];
    let sim = open(SimConfig { faults, ..SimConfig::default() });
    let cancel = CancelToken::new();
    let create = |name: &str| sim.create_container(&call(&cancel, LONG), &config(name, &[]));
    create("app_a").unwrap();
    create("other").unwrap();
    let error = create("app_b").unwrap_err();
    assert!(matches!(&error, RuntimeError::Engine { message, .. } if message == "disk full"), "{error}");
    create("app_b").unwrap();
    assert_eq!(sim.calls()[&SimOp::Create], 4);
}

#[test]
fn fault_after_the_effect_loses_the_answer_and_not_the_container() {
    let fail = failure(SimFailureKind::Connection, "reset");
    let sim = open(SimConfig {
        faults: vec![SimFault { fail, after_effect: true, ..fault(SimOp::Create) }],
        ..SimConfig::default()
    });
    let cancel = CancelToken::new();
    let error = sim.create_container(&call(&cancel, LONG), &config("a", &[])).unwrap_err();
    assert!(matches!(error, RuntimeError::Connection { .. }), "{error}");
    assert_eq!(sim.inspect_container(&call(&cancel, LONG), "a").unwrap().status, ContainerStatus::Created);
}

#[test]
fn call_that_hangs_ends_at_its_deadline_or_its_cancel() {
    let sim = open(SimConfig { faults: vec![SimFault { hang: true, ..fault(SimOp::Start) }], ..SimConfig::default() });
    let cancel = CancelToken::new();
    sim.create_container(&call(&cancel, LONG), &config("a", &[])).unwrap();
    let late = sim.start_container(&call(&cancel, Duration::from_millis(50)), "a").unwrap_err();
    assert!(matches!(late, RuntimeError::Timeout { .. }), "{late}");
    let began = Instant::now();
    thread::scope(|scope| {
        let hanging = scope.spawn(|| sim.start_container(&call(&cancel, LONG), "a"));
        wait_until(|| sim.calls()[&SimOp::Start] == 2);
        cancel.cancel("test");
        let error = hanging.join().unwrap().unwrap_err();
        assert!(matches!(error, RuntimeError::Cancelled { .. }), "{error}");
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    let fresh = CancelToken::new();
    assert_eq!(sim.inspect_container(&call(&fresh, LONG), "a").unwrap().status, ContainerStatus::Created);
}

#[test]
fn probe_that_hangs_says_so_within_two_seconds() {
    let sim = open(SimConfig { faults: vec![SimFault { hang: true, ..fault(SimOp::Probe) }], ..SimConfig::default() });
    let began = Instant::now();
    assert!(matches!(sim.probe(), Probe::Unavailable { .. }));
    assert!(began.elapsed() < Duration::from_secs(3));
}

struct Seen(Mutex<Vec<(u64, u64)>>);

impl ProgressSink for Seen {
    fn bytes(&self, _what: &str, done: u64, total: u64) {
        self.0.lock().unwrap().push((done, total));
    }
}

#[test]
fn pull_tells_its_bytes_and_a_cancelled_one_leaves_no_image() {
    let slow =
        SimImage { reference: "slow:1".into(), state: SimImageState::Pullable, bytes: None, pull_ms: Some(60_000) };
    let quick = SimImage { pull_ms: Some(200), bytes: Some(1_000), reference: "quick:1".into(), ..slow.clone() };
    let sim = open(SimConfig { images: vec![slow, quick], ..SimConfig::default() });
    let (cancel, seen) = (CancelToken::new(), Seen(Mutex::default()));
    let call = Call { deadline: Deadline::after(LONG), cancel: &cancel, progress: &seen };
    assert_eq!(sim.ensure_image(&call, "quick:1", PullPolicy::IfNotPresent), Ok(Change::Changed));
    let bytes = std::mem::take(&mut *seen.0.lock().unwrap());
    assert_eq!((bytes[0], *bytes.last().unwrap()), ((0, 1_000), (1_000, 1_000)));
    assert!(bytes.len() > 2 && bytes.is_sorted(), "{bytes:?}");
    assert_eq!(sim.ensure_image(&call, "quick:1", PullPolicy::IfNotPresent), Ok(Change::Unchanged));
    assert_eq!(sim.ensure_image(&call, "quick:1", PullPolicy::Always), Ok(Change::Changed));
    thread::scope(|scope| {
        let pulling = scope.spawn(|| sim.ensure_image(&call, "slow:1", PullPolicy::IfNotPresent));
        wait_until(|| seen.0.lock().unwrap().iter().any(|(_, total)| *total == 4 * 1024 * 1024));
        cancel.cancel("test");
        assert!(matches!(pulling.join().unwrap(), Err(RuntimeError::Cancelled { .. })));
    });
    let fresh = CancelToken::new();
    let never = sim.ensure_image(&Call { cancel: &fresh, ..call }, "slow:1", PullPolicy::Never);
    assert!(matches!(never, Err(RuntimeError::ImagePull { .. })), "{never:?}");
}

// req: BM-04
#[test]
fn containers_go_on_while_the_process_is_away_and_are_adopted_with_their_pids() {
    let folder = tempfile::tempdir().unwrap();
    let state_file = folder.path().join("sim.json").to_str().unwrap().to_owned();
    let settings = SimConfig { state_file, ..SimConfig::default() };
    let cancel = CancelToken::new();
    let (stays, ends, pid) = {
        let sim = open(settings.clone());
        let stays = running(&sim, "stays", &["on-term:0ms:7"]);
        let ends = running(&sim, "ends", &["exit-after:300ms:5"]);
        let pid = sim.inspect_container(&call(&cancel, LONG), &stays).unwrap().pid;
        (stays, ends, pid)
        // Dropped without a word to it, as by a kill.
    };
    let sim = open(settings);
    let seen = sim.inspect_container(&call(&cancel, LONG), "stays").unwrap();
    assert_eq!((seen.id.as_str(), seen.pid), (stays.as_str(), pid));
    assert!(pid > 1 << 22, "could be taken for a real process");
    assert_eq!(sim.wait_container(&call(&cancel, LONG), &ends), Ok(Some(5)));
    let ended = sim.inspect_container(&call(&cancel, LONG), "ends").unwrap();
    assert!((250..=350).contains(&(ended.finished_ms - ended.started_ms)), "{ended:?}");
    let grace = StopOptions::graceful(Duration::from_secs(10));
    assert_eq!(sim.stop_container(&call(&cancel, LONG), &stays, &grace), Ok(Change::Changed));
    let ended = sim.inspect_container(&call(&cancel, LONG), "stays").unwrap();
    assert_eq!(ended.status, ContainerStatus::Exited { code: Some(7), oom: false });
}

#[test]
fn state_file_that_cannot_be_read_is_an_error_that_names_it_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    for text in ["", "{\"version\":1", "{\"version\":9,\"state\":{}}", "not json"] {
        let path = folder.path().join("sim.json");
        std::fs::write(&path, text).unwrap();
        let state_file = path.to_str().unwrap().to_owned();
        let Err(error) = SimRuntime::open(SimConfig { state_file, ..SimConfig::default() }, "here") else {
            panic!("'{text}' was taken for a state");
        };
        assert!(error.to_string().contains("sim.json"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn wrong_script_is_refused_at_creation_with_the_word() {
    let sim = open(SimConfig::default());
    let cancel = CancelToken::new();
    let error = sim.create_container(&call(&cancel, LONG), &config("a", &["exit-after:soon:0"])).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidSpec { .. }));
    assert!(error.to_string().contains("exit-after:soon:0"), "{error}");
    let mut by_env = config("a", &["nginx"]);
    by_env.spec.env.push(EnvVar { name: "SIM_SCRIPT".into(), value: "ignore-term; exit-after:0ms:9".into() });
    let created = sim.create_container(&call(&cancel, LONG), &by_env).unwrap();
    sim.start_container(&call(&cancel, LONG), &created.id).unwrap();
    assert_eq!(sim.wait_container(&call(&cancel, LONG), &created.id), Ok(Some(9)));
}

#[test]
fn failed_start_leaves_the_container_created() {
    let sim = open(SimConfig::default());
    let cancel = CancelToken::new();
    sim.create_container(&call(&cancel, LONG), &config("a", &["fail-start:no such program"])).unwrap();
    let error = sim.start_container(&call(&cancel, LONG), "a").unwrap_err();
    assert_eq!(error.to_string(), "no such program");
    assert_eq!(sim.inspect_container(&call(&cancel, LONG), "a").unwrap().status, ContainerStatus::Created);
}

#[test]
fn engine_taken_away_breaks_open_streams_and_its_containers_go_on() {
    let sim = open(SimConfig::default());
    let id = running(&sim, "a", &[]);
    let cancel = CancelToken::new();
    let mut events = sim.watch_events(&call(&cancel, LONG)).unwrap();
    sim.set_unavailable("stopped for a test");
    assert!(matches!(events.next(), Some(Err(RuntimeError::Connection { .. }))));
    assert!(events.next().is_none());
    let error = sim.inspect_container(&call(&cancel, LONG), &id).unwrap_err();
    assert_eq!(error.to_string(), "sim is not available: stopped for a test");
    sim.set_unavailable("");
    assert!(sim.inspect_container(&call(&cancel, LONG), &id).unwrap().status.is_running());
}

#[test]
fn reader_that_falls_behind_is_told_so() {
    let sim = open(SimConfig::default());
    let cancel = CancelToken::new();
    let mut events = sim.watch_events(&call(&cancel, LONG)).unwrap();
    let id = running(&sim, "a", &[]);
    for _ in 0..2_100 {
        sim.pause_container(&call(&cancel, LONG), &id).unwrap();
        sim.resume_container(&call(&cancel, LONG), &id).unwrap();
    }
    let error = events.next().unwrap().unwrap_err();
    assert!(error.to_string().contains("events are lost"), "{error}");
}

#[test]
fn many_callers_at_once_create_one_container_of_a_name() {
    let sim = Arc::new(open(SimConfig { pull_ms: 50, ..SimConfig::default() }));
    let made = thread::scope(|scope| {
        let callers: Vec<_> = (0..8)
            .map(|_| {
                let sim = Arc::clone(&sim);
                scope.spawn(move || sim.create_container(&call(&CancelToken::new(), LONG), &config("a", &[])).is_ok())
            })
            .collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).filter(|made| *made).count()
    });
    assert_eq!(made, 1);
}

/// Waits for a condition, a minute at most.
fn wait_until(condition: impl Fn() -> bool) {
    let deadline = Deadline::after(LONG);
    while !condition() {
        assert!(!deadline.is_over(), "the condition never came true");
        thread::yield_now();
    }
}
