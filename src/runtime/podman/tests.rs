//! The adapter against a fake Podman that misbehaves on the real wire. What a real one does is in `tests/it/podman`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{Podman, PodmanConfig, SOCKET};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::model::workload::{DeviceSpec, NetworkMode, PortSpec, Protocol, PullPolicy};
use crate::runtime::adapter::{
    Call, Change, ContainerConfig, LogOptions, Mount, MountSource, NetworkSpec, PodSpec, Probe, ProgressSink,
    RuntimeAdapter, RuntimeError, StopOptions, VolumeSpec,
};
use crate::runtime::double::{self, call};
use crate::runtime::rest::client::usual_sockets;
use crate::transport::fake::{Behaviour, FakeServer, Seen};

const SECOND: Duration = Duration::from_secs(1);

const INSPECT: &str = r#"{"Id":"0123456789ab","Name":"w_c","State":{"Status":"running","Pid":1},
    "Config":{"Labels":{"actioncontroller.io/node":"n"}},"BoundingCaps":["CAP_KILL"]}"#;

const MISSING: &str = r#"{"cause":"no such container","message":"no container with name or ID found","response":404}"#;

/// The answer to the greeting, whatever the version.
fn ping(version: &str) -> Behaviour {
    let head = if version == "5" { "Libpod-Api-Version: 5.4.2\r\n" } else { "Libpod-Api-Version: 4.3.1\r\n" };
    Behaviour::Answer(200, head, b"OK".to_vec())
}

/// A Podman 4 that answers all but the greeting as `script` says.
fn fake(script: impl Fn(&Seen) -> Behaviour + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |seen| if seen.line == "GET /libpod/_ping" { ping("4") } else { script(seen) })
}

fn adapter(server: &FakeServer) -> Podman {
    Podman::new(PodmanConfig { socket: Some(server.path()), node: "n".to_owned(), ..PodmanConfig::default() })
}

fn config() -> ContainerConfig {
    double::config("w_c")
}

/// A Podman on which the image is present and the name free until the create, which is answered as given.
fn creating(answer: Behaviour) -> FakeServer {
    let created = AtomicUsize::new(0);
    fake(move |seen| match seen.line.as_str() {
        "POST /v4.0.0/libpod/containers/create" => {
            created.store(1, Ordering::SeqCst);
            answer.clone()
        }
        "GET /v4.0.0/libpod/containers/w_c/json" if created.load(Ordering::SeqCst) == 0 => {
            Behaviour::json(404, MISSING)
        }
        line if line.starts_with("GET /v4.0.0/libpod/images/") => Behaviour::json(200, r#"{"Id":"i","User":""}"#),
        line if line.starts_with("GET /v4.0.0/libpod/containers/") => Behaviour::json(200, INSPECT),
        _ => Behaviour::json(200, "[]"),
    })
}

fn deleted(server: &FakeServer) -> bool {
    server.seen().iter().any(|seen| seen.line.starts_with("DELETE /v4.0.0/libpod/containers/0123456789ab?force=true"))
}

#[test]
fn own_service_is_looked_for_before_the_other_one() {
    let (system, user) = ("/run/podman/podman.sock", "/run/user/5/podman/podman.sock");
    let found = |is_root| usual_sockets(SOCKET, Some("/run/user/5".as_ref()), is_root);
    assert_eq!(found(true), [PathBuf::from(system), PathBuf::from(user)]);
    assert_eq!(found(false), [PathBuf::from(user), PathBuf::from(system)]);
    assert_eq!(usual_sockets(SOCKET, None, false), [PathBuf::from(system)]);
}

#[test]
fn probe_of_what_is_away_hung_or_something_else_is_unavailable_in_time() {
    let nowhere = Podman::new(PodmanConfig { socket: Some("/nowhere/x.sock".into()), ..PodmanConfig::default() });
    assert!(matches!(nowhere.probe(), Probe::Unavailable { reason } if reason.contains("/nowhere/x.sock")));
    let cases = [
        (Behaviour::SaysNothing, "does not answer"),
        (Behaviour::ClosesAtOnce, "closed the connection"),
        (Behaviour::json(200, "{}"), "is not Podman"),
        (Behaviour::Answer(200, "Libpod-Api-Version: 3.4.0\r\n", Vec::new()), "older than 4.0.0"),
        (Behaviour::Raw(b"SSH-2.0-x\r\n".to_vec()), ""),
    ];
    for (behaviour, word) in cases {
        let server = FakeServer::start(move |_| behaviour.clone());
        let begun = Instant::now();
        let probe = adapter(&server).probe();
        assert!(matches!(&probe, Probe::Unavailable { reason } if reason.contains(word)), "{word}: {probe:?}");
        assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
    }
}

#[test]
fn version_five_is_spoken_to_as_such_and_taken_up_again_after_a_restart() {
    let times = AtomicUsize::new(0);
    let server = FakeServer::start(move |seen| match seen.line.as_str() {
        "GET /libpod/_ping" => ping(if times.fetch_add(1, Ordering::SeqCst) == 0 { "4" } else { "5" }),
        _ => Behaviour::json(200, r#"{"host":{}}"#),
    });
    let podman = adapter(&server);
    for (version, path) in [("4.3.1", "/v4.0.0/libpod/info"), ("5.4.2", "/v5.0.0/libpod/info")] {
        assert_eq!(podman.probe(), Probe::Available { version: version.to_owned(), api: version.to_owned() });
        assert!(server.seen().iter().any(|seen| seen.line == format!("GET {path}")), "{path}");
    }
}

#[test]
fn engine_that_greets_but_is_slow_to_describe_its_node_is_available_and_keeps_what_was_proved() {
    let times = AtomicUsize::new(0);
    let rootless = r#"{"host":{"cgroupVersion":"v1","eventLogger":"file","security":{"rootless":true}}}"#;
    let server = fake(move |_| match times.fetch_add(1, Ordering::SeqCst) {
        1 => Behaviour::json(200, rootless),
        _ => Behaviour::SaysNothing,
    });
    let podman = adapter(&server);
    for limits in [true, false, false] {
        let begun = Instant::now();
        assert!(matches!(podman.probe(), Probe::Available { .. }));
        assert_eq!(podman.capabilities().supports_resource_limits, limits);
        assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
    }
}

#[test]
fn every_way_to_fail_on_the_wire_has_its_own_error() {
    let cancel = CancelToken::new();
    let inspect = |behaviour: Behaviour| {
        let server = fake(move |_| behaviour.clone());
        adapter(&server).inspect_container(&call(&cancel, SECOND / 2), "w_c").unwrap_err()
    };
    assert!(matches!(inspect(Behaviour::SaysNothing), RuntimeError::Timeout { .. }));
    assert!(matches!(inspect(Behaviour::HangsInBody(b"{".to_vec())), RuntimeError::Timeout { .. }));
    assert!(matches!(inspect(Behaviour::ClosesInBody(b"{".to_vec())), RuntimeError::Connection { .. }));
    assert!(matches!(inspect(Behaviour::Raw(b"nonsense\r\n\r\n".to_vec())), RuntimeError::Connection { .. }));
    let garbled = inspect(Behaviour::json(200, "{\"Id\": "));
    assert!(garbled.to_string().contains("cannot be read"), "{garbled}");
    let two = r#"{"cause":"c","message":"the first reason","response":500}{"cause":"d","message":"x"}"#;
    let refused = inspect(Behaviour::json(500, two));
    assert_eq!(refused.to_string(), "podman answered 500 to inspect: the first reason");
    assert!(matches!(inspect(Behaviour::json(404, MISSING)), RuntimeError::NotFound { .. }));
    assert!(matches!(inspect(Behaviour::Answer(502, "", b"bad gateway".to_vec())),
        RuntimeError::Engine { code: 502, message, .. } if message == "bad gateway"));
}

#[test]
fn body_beyond_the_bound_is_refused() {
    let server = fake(|_| Behaviour::NeverEnds);
    let cancel = CancelToken::new();
    let error = adapter(&server).inspect_container(&call(&cancel, SECOND * 20), "w_c").unwrap_err();
    assert!(matches!(&error, RuntimeError::Connection { reason, .. } if reason.contains("longer")), "{error}");
}

#[test]
fn process_that_ends_while_podman_looks_at_it_is_looked_at_again() {
    let looks = AtomicUsize::new(0);
    let server = fake(move |_| match looks.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => {
            Behaviour::json(500, r#"{"cause":"no such process","message":"read /proc/7/cgroup: no such process"}"#)
        }
        _ => Behaviour::json(200, INSPECT),
    });
    let found = adapter(&server).inspect_container(&call(&CancelToken::new(), SECOND * 5), "w_c").unwrap();
    assert_eq!(found.name, "w_c");
}

#[test]
fn another_container_whose_id_begins_like_the_name_is_not_found() {
    let server = fake(|_| Behaviour::json(200, INSPECT));
    let cancel = CancelToken::new();
    let error = adapter(&server).inspect_container(&call(&cancel, SECOND), "0123").unwrap_err();
    assert!(matches!(error, RuntimeError::NotFound { .. }), "{error}");
}

#[test]
fn create_sends_every_field_and_never_a_restart_policy() {
    let server = creating(Behaviour::json(201, r#"{"Id":"0123456789ab","Warnings":[]}"#));
    let mut config = config();
    config.spec.security.add_capabilities = ["KILL".to_owned()].into();
    config.spec.security.run_as_user = Some(7);
    config.spec.security.seccomp_profile = Some("unconfined".to_owned());
    config.spec.resources.cpu_millis = Some(5);
    config.spec.resources.pids = Some(9);
    config.spec.devices =
        vec![DeviceSpec { host_path: "/dev/a".into(), path: "/dev/b".into(), permissions: "rwm".into() }];
    config.mounts = vec![Mount { source: MountSource::Bind("/h".into()), path: "/c".into(), read_only: true }];
    config.labels = BTreeMap::from([("k".to_owned(), "v".to_owned())]);
    let cancel = CancelToken::new();
    adapter(&server).create_container(&call(&cancel, SECOND * 5), &config).unwrap();
    let seen = server.seen();
    let create = seen.iter().find(|seen| seen.line.ends_with("/containers/create")).unwrap();
    let sent: serde_json::Value = serde_json::from_str(&create.body).unwrap();
    let expected = serde_json::json!({
        "name": "w_c", "image": "localhost/i:1", "entrypoint": ["run"], "command": ["arg"], "env": {},
        "httpproxy": false, "labels": {"actioncontroller.io/node": "n", "k": "v"}, "annotations": {},
        "stdin": false, "terminal": false, "netns": {"nsmode": "none"},
        "mounts": [{"destination": "/c", "type": "bind", "source": "/h", "options": ["rbind", "ro"]}],
        "devices": [{"path": "/dev/a:/dev/b:rwm"}], "privileged": false, "user": "7", "cap_add": ["KILL"],
        "no_new_privileges": false, "seccomp_profile_path": "unconfined", "read_only_filesystem": false,
        "read_write_tmpfs": false,
        "resource_limits": {"cpu": {"quota": 5000, "period": 1_000_000}, "pids": {"limit": 9}},
        "log_configuration": {"driver": "k8s-file", "size": 16_777_216}, "restart_policy": "no",
    });
    assert_eq!(sent, expected);
}

#[test]
fn warning_of_a_dropped_field_removes_the_container_and_names_the_field() {
    let dropped = r#"{"Id":"0123456789ab","Warnings":["Your kernel does not support pids limit capabilities or the
        cgroup is not mounted. PIDs limit discarded."]}"#
        .replace('\n', " ");
    let server = creating(Behaviour::json(201, &dropped));
    let cancel = CancelToken::new();
    let error = adapter(&server).create_container(&call(&cancel, SECOND * 5), &config()).unwrap_err();
    assert!(
        matches!(&error, RuntimeError::Unsupported { what, .. } if what.starts_with("resources.pids: ")),
        "{error}"
    );
    assert!(deleted(&server));

    let harmless = r#"{"Id":"0123456789ab","Warnings":["Your kernel does not support swap limit capabilities or the
        cgroup is not mounted. Memory limited without swap."]}"#
        .replace('\n', " ");
    let server = creating(Behaviour::json(201, &harmless));
    adapter(&server).create_container(&call(&cancel, SECOND * 5), &config()).unwrap();
    assert!(!deleted(&server));
}

#[test]
fn capability_that_the_engine_dropped_without_a_word_removes_the_container() {
    let server = creating(Behaviour::json(201, r#"{"Id":"0123456789ab","Warnings":null}"#));
    let mut config = config();
    config.spec.security.add_capabilities = ["KILL".to_owned(), "SYS_TIME".to_owned()].into();
    let cancel = CancelToken::new();
    let error = adapter(&server).create_container(&call(&cancel, SECOND * 5), &config).unwrap_err();
    assert!(matches!(&error, RuntimeError::Unsupported { what, .. } if what.contains("'SYS_TIME'")), "{error}");
    assert!(deleted(&server));
}

#[test]
fn cancelled_create_answers_within_a_second_and_removes_what_came_of_it() {
    let server = creating(Behaviour::SaysNothing);
    let podman = adapter(&server);
    let cancel = CancelToken::new();
    thread::scope(|scope| {
        let creating = scope.spawn(|| podman.create_container(&call(&cancel, SECOND * 60), &config()));
        let begun = Instant::now();
        while !server.seen().iter().any(|seen| seen.line.ends_with("/containers/create")) {
            assert!(begun.elapsed() < SECOND * 5);
            thread::sleep(Duration::from_millis(2));
        }
        let begun = Instant::now();
        cancel.cancel("test");
        assert!(matches!(creating.join().unwrap(), Err(RuntimeError::Cancelled { .. })));
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    });
    assert!(deleted(&server));
}

#[test]
fn what_cannot_take_effect_is_refused_by_name_before_anything_is_created() {
    let server = creating(Behaviour::json(201, r#"{"Id":"0123456789ab"}"#));
    let podman = adapter(&server);
    let cancel = CancelToken::new();
    let refused = |change: &dyn Fn(&mut ContainerConfig), word: &str| {
        let mut config = config();
        change(&mut config);
        let error = podman.create_container(&call(&cancel, SECOND * 5), &config).unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
    };
    let port = |host_ip: &str, host_port, container_port| PortSpec {
        host_ip: host_ip.to_owned(),
        host_port: Some(host_port),
        container_port,
        protocol: Protocol::Tcp,
    };
    refused(&|config| config.name = String::new(), "name");
    refused(&|config| config.spec.image = String::new(), "image");
    refused(&|config| config.ports = vec![port("", 1, 1)], "ports without a network");
    refused(
        &|config| {
            config.network = NetworkMode::Host;
            config.ports = vec![port("", 1, 2)];
        },
        "ports that differ",
    );
    refused(&|config| config.network = NetworkMode::Named(Vec::new()), "network");
    refused(&|config| config.spec.resources.cpu_millis = Some(0), "resources.cpu_millis");
    refused(&|config| config.spec.resources.cpu_millis = Some(u64::MAX / 4), "resources.cpu_millis");
    refused(&|config| config.spec.resources.memory_bytes = Some(u64::MAX), "resources.memory_bytes");
    refused(&|config| config.spec.security.run_as_non_root = true, "security.run_as_non_root");
    let mount = |source| Mount { source, path: "/x".to_owned(), read_only: false };
    refused(&|config| config.mounts = vec![mount(MountSource::Bind("relative".into()))], "'relative'");
    refused(&|config| config.mounts = vec![mount(MountSource::Volume("v".into(), "s".into()))], "sub_path");
    let device = |host: &str, inside: &str| {
        vec![DeviceSpec { host_path: host.to_owned(), path: inside.to_owned(), permissions: "r".to_owned() }]
    };
    refused(&|config| config.spec.devices = device("/dev/a:b", "/dev/c"), "devices[0]");
    refused(
        &|config| {
            config.spec.security.privileged = true;
            config.spec.devices = device("/dev/a", "/dev/c");
        },
        "devices[0].path",
    );
    assert!(!server.seen().iter().any(|seen| seen.line.starts_with("POST")), "{:?}", server.seen());
}

#[derive(Default)]
struct Told(Mutex<Vec<(String, u64, u64)>>);

impl ProgressSink for Told {
    fn bytes(&self, what: &str, done: u64, total: u64) {
        self.0.lock().unwrap().push((what.to_owned(), done, total));
    }
}

/// A Podman without the image, whose pull gives this.
fn pulling(behaviour: Behaviour) -> FakeServer {
    fake(move |seen| match seen.line.as_str() {
        line if line.starts_with("POST ") => behaviour.clone(),
        _ => Behaviour::json(404, r#"{"cause":"image not known","message":"no image"}"#),
    })
}

#[test]
fn error_inside_a_pulls_stream_is_the_pulls_error_after_its_progress() {
    let stream = "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":5,\"total\":9},\"id\":\"ab\"}\n\
        {\"progressDetail\":{},\"errorDetail\":{\"message\":\"no space\"},\"error\":\"no space left\"}\n";
    let server = pulling(Behaviour::json(200, stream));
    let (cancel, told) = (CancelToken::new(), Told::default());
    let call = Call { progress: &told, ..call(&cancel, SECOND * 5) };
    let error = adapter(&server).ensure_image(&call, "quay.io/a/b:1", PullPolicy::Always).unwrap_err();
    let expected = RuntimeError::ImagePull { image: "quay.io/a/b:1".into(), reason: "no space left".into() };
    assert_eq!(error, expected);
    assert_eq!(told.0.into_inner().unwrap(), [("Downloading ab".to_owned(), 5, 9)]);
    let pull = server.seen().pop().unwrap().line;
    assert_eq!(pull, "POST /v1.40/images/create?fromImage=quay.io%2Fa%2Fb%3A1");
}

#[test]
fn pull_that_ends_without_an_image_or_in_the_middle_is_no_success() {
    let cancel = CancelToken::new();
    let pull = |behaviour: Behaviour, image: &str| {
        adapter(&pulling(behaviour)).ensure_image(&call(&cancel, SECOND), image, PullPolicy::IfNotPresent).unwrap_err()
    };
    let vanished = pull(Behaviour::json(200, "{\"stream\":\"Trying\"}\n"), "short");
    assert!(
        matches!(&vanished, RuntimeError::ImagePull { reason, .. } if reason.contains("not present after")),
        "{vanished}"
    );
    let cut = pull(Behaviour::ClosesInBody(b"{\"stream\":\"x\"}\n".to_vec()), "short");
    assert!(matches!(cut, RuntimeError::Connection { .. }), "{cut}");
    let stalled = pull(Behaviour::HangsInBody(b"{\"stream\":\"x\"}\n".to_vec()), "short");
    assert!(matches!(&stalled, RuntimeError::Timeout { op, .. } if op == "pull of short"), "{stalled}");
    let refused = pull(Behaviour::json(500, r#"{"message":"normalizing image: bad"}"#), "a.b/c");
    assert!(matches!(&refused, RuntimeError::ImagePull { reason, .. } if reason.contains("normalizing")), "{refused}");
}

#[test]
fn cancel_in_a_stalled_pull_closes_the_connection_within_a_second() {
    let server = pulling(Behaviour::HangsInBody(b"{\"stream\":\"x\"}\n".to_vec()));
    let podman = adapter(&server);
    let cancel = CancelToken::new();
    thread::scope(|scope| {
        let pulling = scope.spawn(|| podman.ensure_image(&call(&cancel, SECOND * 600), "a.b/c:1", PullPolicy::Always));
        cancel.wait(Urge::Cancel, Deadline::after(Duration::from_millis(200)));
        let begun = Instant::now();
        cancel.cancel("test");
        assert!(matches!(pulling.join().unwrap(), Err(RuntimeError::Cancelled { .. })));
        assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
    });
    server.await_client_gone();
}

#[test]
fn container_that_outlives_sigkill_is_a_timeout_at_the_deadline() {
    let server = fake(|seen| match seen.line.as_str() {
        line if line.starts_with("POST ") => Behaviour::Answer(204, "", Vec::new()),
        _ => Behaviour::json(200, INSPECT),
    });
    let cancel = CancelToken::new();
    let begun = Instant::now();
    let options = StopOptions::graceful(Duration::from_millis(100));
    let error = adapter(&server).stop_container(&call(&cancel, SECOND / 2), "w_c", &options).unwrap_err();
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
    assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
    let signals: Vec<_> = server.seen().into_iter().filter(|seen| seen.line.starts_with("POST")).collect();
    assert!(signals[0].line.ends_with("/kill?signal=SIGTERM") && signals[1].line.ends_with("/kill?signal=SIGKILL"));
    assert_eq!(signals.len(), 2, "never Podman's own stop: {signals:?}");
}

#[test]
fn death_between_look_and_signal_is_a_stop() {
    let looks = AtomicUsize::new(0);
    let server = fake(move |seen| match seen.line.as_str() {
        line if line.starts_with("POST ") => {
            Behaviour::json(500, r#"{"cause":"container state improper","message":"can only kill running containers"}"#)
        }
        _ if looks.fetch_add(1, Ordering::SeqCst) == 0 => Behaviour::json(200, INSPECT),
        _ => Behaviour::json(200, &INSPECT.replace("running", "exited")),
    });
    let cancel = CancelToken::new();
    let stopped = adapter(&server).stop_container(&call(&cancel, SECOND * 5), "w_c", &StopOptions::graceful(SECOND));
    assert_eq!(stopped.unwrap(), Change::Changed);
}

#[test]
fn removal_that_reports_an_error_with_200_is_no_success() {
    let server = fake(|seen| match seen.line.as_str() {
        line if line.starts_with("DELETE ") => Behaviour::json(200, r#"[{"Id":"x","Err":"still mounted"}]"#),
        _ => Behaviour::json(200, INSPECT),
    });
    let cancel = CancelToken::new();
    let error = adapter(&server).remove_container(&call(&cancel, SECOND * 5), "w_c", true).unwrap_err();
    assert!(error.to_string().contains("still mounted"), "{error}");
}

#[test]
fn what_is_not_ours_is_never_made_or_removed() {
    let foreign = r#"{"name":"x","Name":"x","Id":"0123456789ab","labels":{"actioncontroller.io/node":"other"},
        "Labels":{"actioncontroller.io/node":"other"}}"#;
    let server = fake(move |_| Behaviour::json(200, foreign));
    let (podman, cancel) = (adapter(&server), CancelToken::new());
    let call = call(&cancel, SECOND * 5);
    let labels = BTreeMap::new();
    let volume = VolumeSpec { name: "x".into(), labels: labels.clone(), tmpfs_bytes: None };
    let network = NetworkSpec { name: "x".into(), labels: labels.clone() };
    let pod =
        PodSpec { name: "x".into(), labels, network: NetworkMode::Bridge, ports: Vec::new(), hostname: String::new() };
    for made in
        [podman.ensure_volume(&call, &volume), podman.ensure_network(&call, &network), podman.ensure_pod(&call, &pod)]
    {
        assert!(matches!(made, Err(RuntimeError::AlreadyExists { .. })), "{made:?}");
    }
    let removed = [podman.remove_volume(&call, "x"), podman.remove_network(&call, "x"), podman.remove_pod(&call, "x")];
    assert!(removed.iter().all(|removed| *removed == Ok(Change::Unchanged)), "{removed:?}");
    assert!(server.seen().iter().all(|seen| seen.line.starts_with("GET")), "{:?}", server.seen());
}

#[test]
fn stream_that_is_no_multiplex_is_told_and_ends() {
    let server = fake(|seen| match seen.line.as_str() {
        line if line.contains("/logs?") => Behaviour::Answer(200, "", b"this is no frame at all".to_vec()),
        _ => Behaviour::json(200, INSPECT),
    });
    let cancel = CancelToken::new();
    let options = LogOptions { follow: false, tail: None, since_ms: 0, stdout: true, stderr: true };
    let mut logs = adapter(&server).container_logs(&call(&cancel, SECOND * 5), "w_c", &options).unwrap();
    assert!(matches!(logs.next(), Some(Err(RuntimeError::Connection { .. }))));
    assert!(logs.next().is_none());
}

#[test]
fn frame_cut_short_is_an_error_and_a_long_one_comes_in_pieces() {
    let mut frame = vec![1, 0, 0, 0];
    frame.extend(100_000_u32.to_be_bytes());
    frame.extend(b"2026-01-01T00:00:00.000000005Z ");
    frame.resize(8 + 100_000, b'x');
    let mut bytes = frame.clone();
    bytes.extend([2, 0, 0, 0, 0, 0, 0, 9, b'c', b'u', b't']);
    let server = fake(move |seen| match seen.line.as_str() {
        line if line.contains("/logs?") => Behaviour::Answer(200, "", bytes.clone()),
        _ => Behaviour::json(200, INSPECT),
    });
    let cancel = CancelToken::new();
    let options = LogOptions { follow: true, tail: None, since_ms: 0, stdout: true, stderr: true };
    let logs: Vec<_> = adapter(&server).container_logs(&call(&cancel, SECOND * 5), "w_c", &options).unwrap().collect();
    let lengths: Vec<_> = logs.iter().flatten().map(|chunk| chunk.bytes.len()).collect();
    assert_eq!(lengths, [65_536 - 31, 100_000 - 65_536]);
    assert!(logs.iter().flatten().all(|chunk| chunk.timestamp_ns == 1_767_225_600_000_000_005));
    assert!(matches!(logs[2], Err(RuntimeError::Connection { .. })) && logs.len() == 3, "{:?}", logs[2]);
}
