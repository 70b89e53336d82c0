//! Settings of a container that have to be seen inside it, on it, or in its cgroup.

use std::fs;
use std::net::TcpListener;

use actioncontroller::model::resources::Resources;
use actioncontroller::model::workload::{EnvVar, NetworkMode, PortSpec, Protocol};
use actioncontroller::runtime::adapter::{Change, Mount, MountSource, RuntimeError, VolumeSpec};

use super::behaviour::Behaviour;
use super::subject::{Made, Subject};
use super::suite::{Case, case, with};
use crate::support::rig::cgroup_value;

pub const CASES: &[Case] = &[
    case("environment_is_seen_inside", environment),
    with(|_, subject| subject.takes_any_user, "user_and_group_are_those_asked_for", user),
    case("network_none_has_loopback_alone", network_none),
    case("read_only_mount_refuses_writes_and_shows_content", read_only_mount),
    case("bind_mount_is_shared", bind_mount),
    case("read_only_root_refuses_writes", read_only_root),
    case("labels_and_annotations_are_told_back", labels_and_annotations),
    with(|caps, _| caps.supports_user_networks, "published_port_is_told_back", published_port),
    case("name_that_no_engine_takes_is_refused", wrong_name),
    with(|caps, subject| caps.supports_resource_limits && subject.has_processes, "limits_are_in_the_cgroup", limits),
    with(
        |caps, subject| caps.supports_resource_limits && subject.has_processes,
        "changed_limits_are_in_the_cgroup_of_what_runs_on",
        changed_limits,
    ),
    with(|caps, _| caps.supports_resource_limits, "limits_of_what_does_not_run_are_not_changed", changed_at_rest),
];

fn environment(subject: &Subject) {
    let mut config = subject.config(&subject.name("env"), &Behaviour::PrintEnv("GREETING"));
    config.spec.env = vec![EnvVar { name: "GREETING".into(), value: "hello, = \"you\" $HOME ü".into() }];
    assert_eq!(subject.run_to_end(&config).stdout, "hello, = \"you\" $HOME ü\n");
}

fn user(subject: &Subject) {
    let mut config = subject.config(&subject.name("user"), &Behaviour::PrintUser);
    config.spec.security.run_as_user = Some(1234);
    config.spec.security.run_as_group = Some(5678);
    assert_eq!(subject.run_to_end(&config).stdout, "1234:5678\n");
}

fn network_none(subject: &Subject) {
    let config = subject.config(&subject.name("none"), &Behaviour::PrintInterfaces);
    assert_eq!(config.network, NetworkMode::None);
    assert_eq!(subject.run_to_end(&config).stdout, "lo\n");
}

fn read_only_mount(subject: &Subject) {
    let name = subject.name("vol");
    subject.remember(Made::Volume(name.clone()));
    let spec = VolumeSpec { name: name.clone(), labels: subject.labels("w"), tmpfs_bytes: None };
    subject.adapter.ensure_volume(&subject.call(), &spec).unwrap();
    let with_mount = |behaviour: &Behaviour, read_only| {
        let mut config = subject.config(&subject.name("mount"), behaviour);
        let source = MountSource::Volume(name.clone(), String::new());
        config.mounts = vec![Mount { source, path: "/data".into(), read_only }];
        subject.run_to_end(&config)
    };
    let written = with_mount(&Behaviour::Write("/data/file", "first"), false);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let refused = with_mount(&Behaviour::Write("/data/file", "second"), true);
    assert_ne!(refused.code, Some(0));
    assert!(subject.complaint(&refused).contains("Read-only file system"), "{}", subject.complaint(&refused));
    assert_eq!(with_mount(&Behaviour::Read("/data/file"), true).stdout, "first\n");
}

fn bind_mount(subject: &Subject) {
    let folder = tempfile::tempdir().unwrap();
    let with_mount = |behaviour: &Behaviour| {
        let mut config = subject.config(&subject.name("bind"), behaviour);
        let source = MountSource::Bind(folder.path().to_str().unwrap().to_owned());
        config.mounts = vec![Mount { source, path: "/host".into(), read_only: false }];
        subject.run_to_end(&config)
    };
    let written = with_mount(&Behaviour::Write("/host/file", "shared"));
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert_eq!(with_mount(&Behaviour::Read("/host/file")).stdout, "shared\n");
    if subject.has_processes {
        assert_eq!(fs::read_to_string(folder.path().join("file")).unwrap(), "shared\n");
    }
}

fn read_only_root(subject: &Subject) {
    let write = |read_only| {
        let mut config = subject.config(&subject.name("root"), &Behaviour::Write("/file", "x"));
        config.spec.security.read_only_root = read_only;
        subject.run_to_end(&config)
    };
    assert_eq!(write(false).code, Some(0));
    let refused = write(true);
    assert_ne!(refused.code, Some(0));
    assert!(subject.complaint(&refused).contains("Read-only file system"), "{}", subject.complaint(&refused));
}

fn labels_and_annotations(subject: &Subject) {
    let mut config = subject.config(&subject.name("labels"), &Behaviour::Stay);
    config.labels.insert("vendor.example/key".into(), "a value = with, marks".into());
    config.annotations.insert("vendor.example/note".into(), "{\"json\": [1]}".into());
    let seen = subject.inspect(&subject.create(&config));
    for (key, value) in &config.labels {
        assert_eq!(seen.labels.get(key), Some(value));
    }
    assert_eq!(seen.annotations.get("vendor.example/note").map(String::as_str), Some("{\"json\": [1]}"));
}

fn published_port(subject: &Subject) {
    // Free a moment ago; the container is only created, so that nothing binds it.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut config = subject.config(&subject.name("ports"), &Behaviour::Stay);
    config.network = NetworkMode::Bridge;
    let protocol = Protocol::Tcp;
    let port = PortSpec { host_ip: "127.0.0.1".into(), host_port: Some(free), container_port: 8080, protocol };
    config.ports = vec![port.clone()];
    assert_eq!(subject.inspect(&subject.create(&config)).ports, [port]);
}

fn wrong_name(subject: &Subject) {
    for name in ["", "a/b", "-a", "a b", "ä"] {
        let config = subject.config(name, &Behaviour::Stay);
        let error = subject.adapter.create_container(&subject.call(), &config).unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidSpec { .. }), "'{name}': {error}");
    }
}

fn limits(subject: &Subject) {
    let mut config = subject.config(&subject.name("limits"), &Behaviour::Stay);
    config.spec.resources.memory_bytes = Some(48 * 1024 * 1024);
    config.spec.resources.pids = Some(37);
    config.spec.resources.cpu_millis = Some(250);
    let pid = subject.inspect(&subject.start(&config)).pid;
    assert_limits(pid, 48, 37, "25000");
}

fn assert_limits(pid: i32, mebibytes: u64, pids: u64, quota: &str) {
    assert_eq!(cgroup_value(pid, &["memory.max", "memory.limit_in_bytes"]), (mebibytes << 20).to_string());
    assert_eq!(cgroup_value(pid, &["pids.max"]), pids.to_string());
    let found = cgroup_value(pid, &["cpu.max", "cpu.cfs_quota_us"]);
    assert_eq!(found.split(' ').next(), Some(quota), "of a period of 100 ms");
}

fn changed_limits(subject: &Subject) {
    let mut config = subject.config(&subject.name("resized"), &Behaviour::Stay);
    config.spec.resources = Resources { memory_bytes: Some(48 << 20), cpu_millis: Some(250), ..Resources::default() };
    let id = subject.start(&config);
    let pid = subject.inspect(&id).pid;
    let update = |asked: &Resources| subject.adapter.update_resources(&subject.call(), &id, asked, false);
    let up = Resources { memory_bytes: Some(96 << 20), cpu_millis: Some(500), pids: Some(40), ..Resources::default() };
    assert_eq!(update(&up), Ok(Change::Changed));
    assert_limits(pid, 96, 40, "50000");
    assert_eq!(update(&up), Ok(Change::Unchanged));
    // What is not named stays.
    assert_eq!(update(&Resources { memory_bytes: Some(32 << 20), ..Resources::default() }), Ok(Change::Changed));
    assert_limits(pid, 32, 40, "50000");
    let too_little = update(&Resources { memory_bytes: Some(4096), ..Resources::default() });
    assert!(
        matches!(&too_little, Err(RuntimeError::InvalidSpec { reason }) if reason.contains("memory_bytes")),
        "{too_little:?}"
    );
    assert_limits(pid, 32, 40, "50000");
    let none = Resources { memory_bytes: Some(0), cpu_millis: Some(0), pids: Some(0), ..Resources::default() };
    assert_eq!(update(&none), Ok(Change::Changed));
    let of = |files: &[&str]| cgroup_value(pid, files).split(' ').next().unwrap().to_owned();
    let endless =
        |value: &str| value == "max" || value == "-1" || value.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60);
    for files in [&["memory.max", "memory.limit_in_bytes"][..], &["cpu.max", "cpu.cfs_quota_us"], &["pids.max"]] {
        assert!(endless(&of(files)), "{files:?}: {}", of(files));
    }
    assert_eq!(update(&none), Ok(Change::Unchanged));
    assert_eq!(subject.inspect(&id).pid, pid, "it was not restarted");
}

fn changed_at_rest(subject: &Subject) {
    let id = subject.create(&subject.config(&subject.name("rest"), &Behaviour::Stay));
    let asked = Resources { pids: Some(9), ..Resources::default() };
    let updated = subject.adapter.update_resources(&subject.call(), &id, &asked, false);
    assert!(matches!(updated, Err(RuntimeError::InvalidState { .. })), "{updated:?}");
}
