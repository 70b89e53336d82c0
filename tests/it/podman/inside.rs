//! What the configuration does inside the container.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use actioncontroller::model::resources::Resources;
use actioncontroller::model::state::ContainerStatus;
use actioncontroller::model::workload::{DeviceSpec, EnvVar, NetworkMode};
use actioncontroller::runtime::adapter::{
    Change, Mount, MountSource, RuntimeAdapter, RuntimeError, StopOptions, VolumeSpec,
};

use super::{Rig, STUBBORN, container};
use crate::support::podman::IMAGE;

#[test]
fn process_environment_and_user_are_as_asked() {
    let rig = Rig::new();
    let mut config = container("e", STUBBORN);
    let env = |name: &str, value: &str| EnvVar { name: name.to_owned(), value: value.to_owned() };
    config.spec.env = vec![env("ONE", "1 x"), env("EMPTY", "")];
    config.spec.working_dir = "/tmp".to_owned();
    config.spec.security.run_as_user = Some(1000);
    config.spec.security.run_as_group = Some(77);
    config.spec.security.supplemental_groups = [5, 6].into();
    config.spec.security.run_as_non_root = true;
    config.spec.security.read_only_root = true;
    config.spec.security.no_new_privileges = Some(true);
    config.spec.security.drop_capabilities = ["ALL".to_owned()].into();
    config.spec.security.add_capabilities = ["NET_BIND_SERVICE".to_owned()].into();
    config.hostname = "here".to_owned();
    let id = rig.run(&config);
    assert_eq!(rig.exec(&id, "tr '\\0' '\\n' < /proc/1/environ | grep -E '^(ONE|EMPTY)=' | sort"), "EMPTY=\nONE=1 x");
    assert_eq!(rig.exec(&id, "readlink /proc/1/cwd; hostname"), "/tmp\nhere");
    let status = rig.exec(&id, "grep -E '^(Uid|Gid|Groups|NoNewPrivs|CapBnd|Seccomp):' /proc/1/status");
    for line in ["Uid:\t1000\t1000", "Gid:\t77\t77", "Groups:\t5 6", "NoNewPrivs:\t1", "CapBnd:\t0000000000000400"] {
        assert!(status.contains(line), "{line} in {status}");
    }
    assert_eq!(rig.exec(&id, "touch /x 2>&1; ls /sys/class/net"), "touch: /x: Read-only file system\nlo");
}

#[test]
fn root_is_refused_where_it_is_not_wanted() {
    let rig = Rig::new();
    let mut config = container("r", "true");
    config.spec.security.run_as_non_root = true;
    let refused = rig.podman.create_container(&rig.call(), &config).unwrap_err();
    assert!(
        matches!(&refused, RuntimeError::InvalidSpec { reason } if reason.contains("run_as_non_root")),
        "{refused}"
    );
    // The image names its user by name, which could be anybody.
    config.spec.image = "localhost/volume:1".to_owned();
    let refused = rig.podman.create_container(&rig.call(), &config).unwrap_err();
    assert!(matches!(&refused, RuntimeError::InvalidSpec { reason } if reason.contains("run_as_user")), "{refused}");
    config.spec.security.run_as_non_root = false;
    config.spec.security.run_as_group = Some(33);
    config.spec.args = vec![STUBBORN.to_owned()];
    let id = rig.run(&config);
    assert_eq!(rig.exec(&id, "id -u; id -g"), "1000\n33");
}

#[test]
// req: LS-01
fn mounts_are_writable_or_not_and_volumes_outlive_the_container() {
    let rig = Rig::new();
    let podman = &rig.podman;
    let files = rig.server.files();
    fs::write(files.join("f"), "of the host").unwrap();
    let volume =
        |name: &str, tmpfs_bytes| VolumeSpec { name: name.to_owned(), labels: Default::default(), tmpfs_bytes };
    assert_eq!(podman.ensure_volume(&rig.call(), &volume("kept", None)).unwrap(), Change::Changed);
    assert_eq!(podman.ensure_volume(&rig.call(), &volume("kept", None)).unwrap(), Change::Unchanged);
    podman.ensure_volume(&rig.call(), &volume("memory", Some(1024 * 1024))).unwrap();
    let mount = |source, path: &str, read_only| Mount { source, path: path.to_owned(), read_only };
    let bind = || MountSource::Bind(files.to_string_lossy().into_owned());
    let named = |name: &str| MountSource::Volume(name.to_owned(), String::new());
    let mut config = container("m", STUBBORN);
    config.spec.image = "localhost/volume:1".to_owned();
    config.spec.security.run_as_user = Some(0);
    config.mounts = vec![
        mount(bind(), "/ro", true),
        mount(bind(), "/rw", false),
        mount(named("kept"), "/kept", false),
        mount(named("memory"), "/memory", false),
    ];
    let id = rig.run(&config);
    assert_eq!(
        rig.exec(&id, "cat /ro/f; touch /ro/g 2>&1; echo in > /rw/g; echo v > /kept/x"),
        "of the hosttouch: /ro/g: Read-only file system"
    );
    assert_eq!(fs::read_to_string(files.join("g")).unwrap(), "in\n");
    assert_eq!(
        rig.exec(&id, "grep ' /memory ' /proc/mounts | cut -d' ' -f3; df -k /memory | awk 'END {print $2}'"),
        "tmpfs\n1024"
    );
    // With the image's own, which has no name.
    assert_eq!(rig.server.run(&["volume", "ls", "-q"]).lines().count(), 3);

    let in_use = podman.remove_volume(&rig.call(), "kept").unwrap_err();
    assert!(matches!(in_use, RuntimeError::InvalidState { .. }), "{in_use}");
    podman.remove_container(&rig.call(), &id, true).unwrap();
    let left = rig.server.run(&["volume", "ls", "-q"]);
    assert_eq!(left.lines().collect::<Vec<_>>(), ["kept", "memory"]);
    assert_eq!(podman.remove_volume(&rig.call(), "kept").unwrap(), Change::Changed);
    assert_eq!(podman.remove_volume(&rig.call(), "kept").unwrap(), Change::Unchanged);

    rig.server.run(&["volume", "create", "foreign"]);
    assert!(matches!(
        podman.ensure_volume(&rig.call(), &volume("foreign", None)),
        Err(RuntimeError::AlreadyExists { .. })
    ));
    assert_eq!(podman.remove_volume(&rig.call(), "foreign").unwrap(), Change::Unchanged);
    config.mounts = vec![mount(named("missing"), "/m", false)];
    let missing = podman.create_container(&rig.call(), &config).unwrap_err();
    assert_eq!(missing, RuntimeError::NotFound { what: "volume 'missing'".to_owned() });
}

/// The file of a cgroup on either kind of tree.
fn cgroup_file(controller: &str, path: &str, names: [&str; 2]) -> String {
    let [v1, v2] = names;
    let first = PathBuf::from("/sys/fs/cgroup").join(controller).join(path.trim_start_matches('/')).join(v1);
    let second = PathBuf::from("/sys/fs/cgroup").join(path.trim_start_matches('/')).join(v2);
    let text = fs::read_to_string(&first).or_else(|_| fs::read_to_string(&second));
    text.unwrap_or_else(|error| panic!("{}: {error}", first.display())).trim().to_owned()
}

#[test]
fn limits_are_readable_in_the_cgroup() {
    let rig = Rig::new();
    let mut config = container("l", STUBBORN);
    config.spec.resources = Resources {
        cpu_millis: Some(250),
        cpu_shares: Some(512),
        memory_bytes: Some(64 * 1024 * 1024),
        memory_reservation_bytes: Some(32 * 1024 * 1024),
        pids: Some(20),
    };
    let id = rig.run(&config);
    let cgroup = rig.podman.inspect_container(&rig.call(), &id).unwrap().cgroup_path;
    let quota = cgroup_file("cpu", &cgroup, ["cpu.cfs_quota_us", "cpu.max"]);
    assert!(quota == "25000" || quota == "25000 100000", "{quota}");
    assert_eq!(cgroup_file("memory", &cgroup, ["memory.limit_in_bytes", "memory.max"]), "67108864");
    assert_eq!(cgroup_file("memory", &cgroup, ["memory.soft_limit_in_bytes", "memory.low"]), "33554432");
    assert_eq!(cgroup_file("pids", &cgroup, ["pids.max", "pids.max"]), "20");
    let stats = rig.podman.container_stats(&rig.call(), &id).unwrap();
    assert_eq!(stats.memory_limit_bytes, 64 * 1024 * 1024);
}

#[test]
fn kill_for_want_of_memory_is_told_alike_by_inspect_and_list() {
    let rig = Rig::new();
    let mut config = container("o", "x=; while :; do x=$x$x$(head -c 100000 /dev/zero | tr '\\0' a); done");
    config.spec.resources.memory_bytes = Some(8 * 1024 * 1024);
    let id = rig.run(&config);
    assert_eq!(rig.podman.wait_container(&rig.call(), &id).unwrap(), Some(137));
    // Whether conmon notices the cause depends on the kernel's cgroup version, so Podman's own word is the measure.
    let oom = rig.server.run(&["inspect", "--format", "{{.State.OOMKilled}}", &id]) == "true";
    let killed = ContainerStatus::Exited { code: Some(137), oom };
    assert_eq!(rig.status(&id), killed);
    let all = actioncontroller::runtime::adapter::ListFilter { all: true, ..Default::default() };
    assert_eq!(rig.podman.list_containers(&rig.call(), &all).unwrap()[0].status, killed);
}

#[test]
fn host_namespaces_devices_terminal_and_standard_input_take_effect() {
    let rig = Rig::new();
    let mut config = container("h", STUBBORN);
    config.network = NetworkMode::Host;
    config.host_pid = true;
    config.host_ipc = true;
    config.spec.devices =
        vec![DeviceSpec { host_path: "/dev/null".into(), path: "/dev/nothing".into(), permissions: "rw".into() }];
    let id = rig.run(&config);
    assert_eq!(rig.exec(&id, "test -c /dev/nothing && echo device"), "device");
    // The process sees itself under the host's number.
    let pid = rig.podman.inspect_container(&rig.call(), &id).unwrap().pid;
    assert_eq!(rig.exec(&id, &format!("tr '\\0' ' ' < /proc/{pid}/cmdline | cut -c1-5")), "sh -c");
    let ipc = fs::read_link("/proc/self/ns/ipc").unwrap();
    assert_eq!(rig.exec(&id, "readlink /proc/self/ns/ipc"), ipc.to_string_lossy());

    let mut terminal = container("t", "tty; read line; echo after");
    terminal.spec.tty = true;
    terminal.spec.stdin = true;
    let id = rig.run(&terminal);
    rig.await_output(&id, "/dev/");
    assert!(rig.status(&id).is_running(), "it waits for input");

    let mut privileged = container("p", STUBBORN);
    privileged.spec.security.privileged = true;
    privileged.spec.security.seccomp_profile = Some("unconfined".to_owned());
    let id = rig.run(&privileged);
    assert_eq!(rig.exec(&id, "grep Seccomp: /proc/1/status | cut -f2"), "0");
}

#[test]
fn what_podman_would_drop_in_silence_is_refused_and_leaves_nothing() {
    let rig = Rig::new();
    let mut config = container("d", "true");
    let unsupported = |config: &_, what: &str| {
        let refused = rig.podman.create_container(&rig.call(), config).unwrap_err();
        assert!(matches!(&refused, RuntimeError::Unsupported { what: found, .. } if found.contains(what)), "{refused}");
        let left = rig.server.run(&["ps", "-aq"]);
        assert_eq!(left, "");
    };
    // No process of this machine has this one, so neither has the engine.
    config.spec.security.add_capabilities = ["SYS_RESOURCE".to_owned()].into();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let bounding = own.lines().find_map(|line| line.strip_prefix("CapBnd:\t")).unwrap();
    if u64::from_str_radix(bounding, 16).unwrap() & (1 << 24) == 0 {
        unsupported(&config, "SYS_RESOURCE");
    }
    let mut config = container("d", "true");
    config.ports = vec![super::tcp(1, 80)];
    unsupported(&config, "ports");
    let mut config = container("d", "true");
    config.spec.security.add_capabilities = ["NO_SUCH".to_owned()].into();
    let refused = rig.podman.create_container(&rig.call(), &config).unwrap_err();
    assert!(refused.to_string().contains("NO_SUCH"), "{refused}");
    let mut config = container("d", "true");
    config.mounts =
        vec![Mount { source: MountSource::Bind("/no/such/path".into()), path: "/x".into(), read_only: true }];
    let refused = rig.podman.create_container(&rig.call(), &config).unwrap_err();
    assert!(refused.to_string().contains("/no/such/path"), "{refused}");
    assert_eq!(rig.server.run(&["ps", "-aq"]), "");
}

#[test]
fn path_within_a_volume_is_mounted_or_refused_by_name() {
    let rig = Rig::new();
    let volume = VolumeSpec { name: "v".to_owned(), labels: Default::default(), tmpfs_bytes: None };
    rig.podman.ensure_volume(&rig.call(), &volume).unwrap();
    let mount = |sub_path: &str| {
        let source = MountSource::Volume("v".to_owned(), sub_path.to_owned());
        vec![Mount { source, path: "/v".to_owned(), read_only: false }]
    };
    let mut config = container("writer", "mkdir /v/sub; echo in > /v/sub/f");
    config.mounts = mount("");
    let writer = rig.run(&config);
    assert_eq!(rig.podman.wait_container(&rig.call(), &writer).unwrap(), Some(0));
    let mut config = container("reader", STUBBORN);
    config.mounts = mount("sub");
    if rig.server.run(&["--version"]).contains(" 4.") {
        let refused = rig.podman.create_container(&rig.call(), &config).unwrap_err();
        assert!(matches!(&refused, RuntimeError::Unsupported { what, .. } if what.contains("sub_path")), "{refused}");
    } else {
        let reader = rig.run(&config);
        assert_eq!(rig.exec(&reader, "cat /v/f"), "in");
    }
}

#[test]
fn image_arguments_and_entry_point_follow_the_document() {
    let rig = Rig::new();
    let mut config = container("i", "");
    config.spec.command = Vec::new();
    config.spec.args = ["echo", "from arguments"].map(str::to_owned).to_vec();
    config.spec.image = IMAGE.to_owned();
    let id = rig.run(&config);
    assert_eq!(rig.podman.wait_container(&rig.call(), &id).unwrap(), Some(0));
    rig.await_output(&id, "from arguments");
    rig.podman.restart_container(&rig.call(), &id, &StopOptions::graceful(Duration::ZERO)).unwrap();
}
