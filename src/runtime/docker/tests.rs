//! The adapter against a fake Docker that misbehaves on the real wire. What a real one does is in the conformance suite.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::{Docker, DockerConfig};
use crate::cancel::CancelToken;
use crate::model::resources::Resources;
use crate::model::security::SecurityContext;
use crate::model::workload::{NetworkMode, PortSpec, Protocol, PullPolicy};
use crate::runtime::adapter::{
    Change, ContainerConfig, Mount, MountSource, Probe, RuntimeAdapter, RuntimeError, StopOptions,
};
use crate::runtime::double::{self, call};
use crate::transport::fake::{Behaviour, FakeServer, Seen};

const SECOND: Duration = Duration::from_secs(1);

const VERSION: &str = r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#;

const INSPECT: &str = r#"{"Id":"0123456789ab","Name":"/w_c","State":{"Status":"running","Pid":1},
    "Config":{"Labels":{"actioncontroller.io/node":"n"}}}"#;

const MISSING: &str = r#"{"message":"No such container: w_c"}"#;

/// A Docker 20.10 that answers all but the greeting as `script` says.
fn fake(script: impl Fn(&Seen) -> Behaviour + Send + Sync + 'static) -> FakeServer {
    FakeServer::start(move |seen| match seen.line.as_str() {
        "GET /version" => Behaviour::json(200, VERSION),
        _ => script(seen),
    })
}

fn adapter(server: &FakeServer) -> Docker {
    Docker::new(DockerConfig { socket: Some(server.path()), node: "n".to_owned(), ..DockerConfig::default() })
}

fn config() -> ContainerConfig {
    double::config("w_c")
}

/// A Docker on which the image is present and the name free until the create, which is answered as given.
fn creating(answer: Behaviour) -> FakeServer {
    let created = AtomicUsize::new(0);
    fake(move |seen| match seen.line.as_str() {
        "POST /v1.41/containers/create?name=w_c" => {
            created.store(1, Ordering::SeqCst);
            answer.clone()
        }
        "GET /v1.41/containers/w_c/json" if created.load(Ordering::SeqCst) == 0 => Behaviour::json(404, MISSING),
        line if line.starts_with("GET /v1.41/images/") => Behaviour::json(200, r#"{"Id":"i","Config":{"User":""}}"#),
        line if line.starts_with("GET /v1.41/containers/") => Behaviour::json(200, INSPECT),
        _ => Behaviour::json(200, "[]"),
    })
}

fn deleted(server: &FakeServer) -> bool {
    server.seen().iter().any(|seen| seen.line.starts_with("DELETE /v1.41/containers/0123456789ab?force=true"))
}

fn created(server: &FakeServer, config: &ContainerConfig) -> Result<(), RuntimeError> {
    let cancel = CancelToken::new();
    adapter(server).create_container(&call(&cancel, SECOND * 5), config).map(drop)
}

#[test]
fn probe_of_what_is_away_hung_or_something_else_is_unavailable_in_time() {
    let nowhere = Docker::new(DockerConfig { socket: Some("/nowhere/x.sock".into()), ..DockerConfig::default() });
    assert!(matches!(nowhere.probe(), Probe::Unavailable { reason } if reason.contains("/nowhere/x.sock")));
    let old = r#"{"Version":"19.03","ApiVersion":"1.40","MinAPIVersion":"1.12"}"#;
    let future = r#"{"Version":"99","ApiVersion":"1.99","MinAPIVersion":"1.90"}"#;
    let cases = [
        (Behaviour::SaysNothing, "does not answer"),
        (Behaviour::ClosesAtOnce, "closed the connection"),
        (Behaviour::json(404, "{}"), "is not Docker"),
        (Behaviour::json(200, "{}"), "is not Docker"),
        (Behaviour::Answer(200, "Server: Libpod/4.3.1 (linux)\r\n", VERSION.as_bytes().to_vec()), "is Podman"),
        (Behaviour::json(200, old), "it speaks 1.12 to 1.40"),
        (Behaviour::json(200, future), "it speaks 1.90 to 1.99"),
        (Behaviour::Raw(b"SSH-2.0-x\r\n".to_vec()), ""),
    ];
    for (behaviour, word) in cases {
        let server = FakeServer::start(move |_| behaviour.clone());
        let begun = Instant::now();
        let probe = adapter(&server).probe();
        assert!(matches!(&probe, Probe::Unavailable { reason } if reason.contains(word)), "{word}: {probe:?}");
        assert!(
            matches!(&probe, Probe::Unavailable { reason } if !reason.contains("docker is")),
            "said by who tells it"
        );
        assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
    }
}

#[test]
fn newest_version_that_both_speak_is_spoken_and_taken_up_again_after_a_restart() {
    let times = AtomicUsize::new(0);
    let server = FakeServer::start(move |seen| match seen.line.as_str() {
        "GET /version" if times.fetch_add(1, Ordering::SeqCst) == 0 => Behaviour::json(200, VERSION),
        "GET /version" => Behaviour::json(200, r#"{"Version":"29.0","ApiVersion":"1.52","MinAPIVersion":"1.44"}"#),
        _ => Behaviour::json(200, r#"{"MemoryLimit":true,"CpuCfsQuota":true,"PidsLimit":true}"#),
    });
    let docker = adapter(&server);
    for (version, api) in [("20.10.24", "1.41"), ("29.0", "1.47")] {
        assert_eq!(docker.probe(), Probe::Available { version: version.to_owned(), api: api.to_owned() });
        assert_eq!(server.seen().last().unwrap().line, format!("GET /v{api}/info"));
        assert!(docker.capabilities().supports_resource_limits && !docker.capabilities().supports_pods);
    }
}

#[test]
fn field_that_docker_drops_with_a_warning_is_refused_and_the_container_deleted() {
    let answer = |warning: &str| Behaviour::json(201, &format!(r#"{{"Id":"0123456789ab","Warnings":["{warning}"]}}"#));
    let dropped = creating(answer("Your kernel does not support memory limit capabilities. Limitation discarded."));
    let error = created(&dropped, &config()).unwrap_err();
    assert!(matches!(&error, RuntimeError::Unsupported { what, .. } if what.starts_with("resources.memory_bytes")));
    assert!(deleted(&dropped), "{:?}", dropped.seen());
    let unknown = creating(answer("Something else was dropped."));
    assert!(matches!(created(&unknown, &config()), Err(RuntimeError::Unsupported { .. })));
    let harmless =
        creating(answer("Your kernel does not support swap limit capabilities. Memory limited without swap."));
    assert_eq!(created(&harmless, &config()), Ok(()));
    assert!(!deleted(&harmless));
}

#[test]
fn create_whose_answer_never_comes_leaves_nothing() {
    let server = creating(Behaviour::ClosesAtOnce);
    assert!(matches!(created(&server, &config()), Err(RuntimeError::Connection { .. })));
    assert!(deleted(&server), "{:?}", server.seen());
}

#[test]
fn what_docker_cannot_do_is_refused_by_field_before_anything_is_asked_for() {
    let port = |host_ip: &str, host_port| PortSpec {
        host_ip: host_ip.to_owned(),
        host_port: Some(host_port),
        container_port: 80,
        protocol: Protocol::Tcp,
    };
    let mount = |source| Mount { source, path: "/data".to_owned(), read_only: false };
    let volume = MountSource::Volume("v".to_owned(), "inner".to_owned());
    let cases = [
        (ContainerConfig { pod: Some("p".to_owned()), ..config() }, "pods"),
        (ContainerConfig { ports: vec![port("", 80)], ..config() }, "ports without a network"),
        (
            ContainerConfig { network: NetworkMode::Host, ports: vec![port("", 8080)], ..config() },
            "ports that differ from the host's",
        ),
        (ContainerConfig { mounts: vec![mount(volume)], ..config() }, "mounts[0].sub_path before version 1.45"),
        (ContainerConfig { network: NetworkMode::Named(vec![]), ..config() }, "the list of networks is empty"),
        (
            ContainerConfig { mounts: vec![mount(MountSource::Bind("data".to_owned()))], ..config() },
            "'data' is not absolute",
        ),
    ];
    for (config, word) in cases {
        let server = creating(Behaviour::json(500, "{}"));
        let error = created(&server, &config).unwrap_err();
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert!(server.seen().iter().all(|seen| seen.line.starts_with("GET ")), "{:?}", server.seen());
    }
}

#[test]
fn create_asks_for_everything_in_dockers_words() {
    let mut config = config();
    config.annotations.insert("a/b".to_owned(), "c".to_owned());
    config.spec.resources = Resources { cpu_millis: Some(250), memory_bytes: Some(1 << 26), ..Resources::default() };
    config.spec.security =
        SecurityContext { run_as_user: Some(7), no_new_privileges: Some(true), ..SecurityContext::default() };
    let server = creating(Behaviour::json(201, r#"{"Id":"0123456789ab","Warnings":null}"#));
    created(&server, &config).unwrap();
    let sent = server.seen().into_iter().find(|seen| seen.line.starts_with("POST ")).unwrap().body;
    let sent: serde_json::Value = serde_json::from_str(&sent).unwrap();
    let host = &sent["HostConfig"];
    assert_eq!((&sent["Entrypoint"][0], &sent["Cmd"][0], &sent["User"]), (&"run".into(), &"arg".into(), &"7".into()));
    assert_eq!(sent["Labels"]["actioncontroller.io/annotation.a/b"], "c");
    assert_eq!(sent["Labels"]["actioncontroller.io/node"], "n");
    assert_eq!(
        (&host["CpuQuota"], &host["CpuPeriod"], &host["Memory"]),
        (&25000.into(), &100000.into(), &67108864.into())
    );
    assert_eq!((&host["RestartPolicy"]["Name"], &host["NetworkMode"]), (&"no".into(), &"none".into()));
    assert_eq!(host["SecurityOpt"][0], "no-new-privileges:true");
}

#[test]
fn error_inside_a_pulls_stream_is_a_failed_pull() {
    let lines = "{\"status\":\"Pulling\"}\n{\"errorDetail\":{},\"error\":\"manifest unknown\"}\n";
    let server = fake(move |seen| match seen.line.starts_with("POST /v1.41/images/create") {
        true => Behaviour::Answer(200, "", lines.as_bytes().to_vec()),
        false => Behaviour::json(404, r#"{"message":"no such image"}"#),
    });
    let cancel = CancelToken::new();
    let pulled = adapter(&server).ensure_image(&call(&cancel, SECOND * 5), "q/i", PullPolicy::IfNotPresent);
    assert!(
        matches!(&pulled, Err(RuntimeError::ImagePull { reason, .. }) if reason == "manifest unknown"),
        "{pulled:?}"
    );
    let asked = server.seen().into_iter().find(|seen| seen.line.starts_with("POST")).unwrap().line;
    assert!(asked.ends_with("fromImage=q%2Fi%3Alatest"), "{asked}");
}

#[test]
fn start_of_a_command_that_is_not_there_is_no_missing_container() {
    let server = fake(|seen| match seen.line.as_str() {
        "POST /v1.41/containers/0123456789ab/start" => {
            Behaviour::json(404, r#"{"message":"exec: \"x\": executable file not found in $PATH"}"#)
        }
        _ => Behaviour::json(200, &INSPECT.replace("running", "created")),
    });
    let cancel = CancelToken::new();
    let started = adapter(&server).start_container(&call(&cancel, SECOND * 5), "w_c");
    assert!(matches!(started, Err(RuntimeError::Engine { code: 404, .. })), "{started:?}");
}

#[test]
fn stop_that_docker_never_carries_out_is_late_within_its_deadline() {
    let server = fake(|seen| match seen.line.starts_with("POST ") {
        true => Behaviour::Answer(204, "", Vec::new()),
        false => Behaviour::json(200, INSPECT),
    });
    let (cancel, begun) = (CancelToken::new(), Instant::now());
    let options = StopOptions::graceful(Duration::from_millis(100));
    let stopped = adapter(&server).stop_container(&call(&cancel, SECOND), "w_c", &options);
    assert!(matches!(stopped, Err(RuntimeError::Timeout { .. })), "{stopped:?}");
    assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
}

#[test]
fn removal_that_somebody_else_began_is_waited_for() {
    let looks = AtomicUsize::new(0);
    let server = fake(move |seen| match seen.line.starts_with("DELETE ") {
        true => Behaviour::json(409, r#"{"message":"removal of container w_c is already in progress"}"#),
        false if looks.fetch_add(1, Ordering::SeqCst) < 3 => Behaviour::json(200, INSPECT),
        false => Behaviour::json(404, MISSING),
    });
    let cancel = CancelToken::new();
    assert_eq!(adapter(&server).remove_container(&call(&cancel, SECOND * 5), "w_c", true), Ok(Change::Changed));
}

#[test]
fn what_is_not_ours_is_not_removed() {
    let server = fake(|_| Behaviour::json(200, &INSPECT.replace("\"n\"", "\"other\"")));
    let cancel = CancelToken::new();
    let removed = adapter(&server).remove_container(&call(&cancel, SECOND * 5), "w_c", true);
    assert!(matches!(removed, Err(RuntimeError::PermissionDenied { .. })), "{removed:?}");
}
