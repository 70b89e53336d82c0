//! What containers are specified as.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};

use super::*;
use crate::model::workload::{DeviceSpec, EnvVar, PortSpec, Protocol};
use crate::runtime::double;

/// A root file system with users.
fn rootfs() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("etc")).unwrap();
    fs::write(dir.path().join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nlane:x:31:32::/:/bin/sh\n").unwrap();
    fs::write(dir.path().join("etc/group"), "root:x:0:\nlane:x:32:\ncan:x:40:root,lane\n").unwrap();
    dir
}

fn place(rootfs: &Path) -> Place<'_> {
    Place { engine: "oci", rootfs, root_path: Path::new("root"), cgroup: "/ac/x", binds: &[], netns: None }
}

fn generated(config: &ContainerConfig, image: &ImageDefaults) -> RtResult<Value> {
    let rootfs = rootfs();
    generate(config, image, &place(rootfs.path())).map(|spec| serde_json::to_value(spec).unwrap())
}

/// A change of a configuration with the place that the refusal names.
type Refused = (fn(&mut ContainerConfig), &'static str);

#[test]
fn fields_are_where_the_runtime_looks_for_them() {
    let mut config = double::config("x");
    config.hostname = "lane-core".into();
    config.annotations.insert("a".into(), "b".into());
    config.spec.env = vec![EnvVar { name: "MODE".into(), value: "fast".into() }];
    config.spec.working_dir = "/work".into();
    config.spec.resources.cpu_millis = Some(500);
    config.spec.resources.cpu_shares = Some(512);
    config.spec.resources.memory_bytes = Some(1 << 20);
    config.spec.resources.pids = Some(7);
    config.spec.security.read_only_root = true;
    config.spec.security.no_new_privileges = Some(true);
    config.spec.devices =
        vec![DeviceSpec { host_path: "/dev/null".into(), path: "/dev/gpio".into(), permissions: "r".into() }];
    let image = ImageDefaults { env: vec!["MODE=slow".into(), "PATH=/bin".into()], ..ImageDefaults::default() };
    let spec = generated(&config, &image).unwrap();
    for (pointer, expected) in [
        ("/root", json!({"path": "root", "readonly": true})),
        ("/hostname", json!("lane-core")),
        ("/annotations/a", json!("b")),
        ("/process/args", json!(["run", "arg"])),
        ("/process/env", json!(["PATH=/bin", "MODE=fast"])),
        ("/process/cwd", json!("/work")),
        ("/process/noNewPrivileges", json!(true)),
        ("/linux/cgroupsPath", json!("/ac/x")),
        ("/linux/resources/cpu", json!({"quota": 50_000, "period": 100_000, "shares": 512})),
        ("/linux/resources/memory", json!({"limit": 1 << 20})),
        ("/linux/resources/pids/limit", json!(7)),
        ("/linux/resources/devices/0", json!({"allow": false, "access": "rwm"})),
        ("/linux/resources/devices/1", json!({"allow": true, "type": "c", "major": 1, "minor": 3, "access": "r"})),
        ("/linux/devices/0/path", json!("/dev/gpio")),
    ] {
        assert_eq!(spec.pointer(pointer), Some(&expected), "{pointer}");
    }
    assert!(spec.pointer("/process/rlimits").is_none(), "limits are inherited");
}

#[test]
fn command_of_the_document_replaces_entry_point_and_arguments() {
    let image =
        ImageDefaults { entrypoint: vec!["entry".into()], cmd: vec!["usual".into()], ..ImageDefaults::default() };
    for (command, args, expected) in [
        (vec![], vec![], json!(["entry", "usual"])),
        (vec![], vec!["a"], json!(["entry", "a"])),
        (vec!["own"], vec![], json!(["own"])),
        (vec!["own"], vec!["a"], json!(["own", "a"])),
    ] {
        let mut config = double::config("x");
        config.spec.command = command.into_iter().map(str::to_owned).collect();
        config.spec.args = args.into_iter().map(str::to_owned).collect();
        assert_eq!(generated(&config, &image).unwrap()["process"]["args"], expected);
    }
    let mut config = double::config("x");
    config.spec.command.clear();
    config.spec.args.clear();
    assert!(matches!(generated(&config, &ImageDefaults::default()), Err(RuntimeError::InvalidSpec { .. })));
}

#[test]
fn users_are_those_of_the_image() {
    for (user, uid, gid, groups) in [
        ("", 0, 0, json!([40])),
        ("lane", 31, 32, json!([40])),
        ("31", 31, 32, json!([40])),
        ("lane:root", 31, 0, json!([])),
        ("77", 77, 0, json!([])),
        ("77:78", 77, 78, json!([])),
    ] {
        let image = ImageDefaults { user: user.into(), ..ImageDefaults::default() };
        let spec = generated(&double::config("x"), &image).unwrap();
        let expected = json!({"uid": uid, "gid": gid, "additionalGids": groups});
        assert_eq!(spec["process"]["user"], expected, "{user}");
    }
    for user in ["nobody-here", "lane:no-group"] {
        let image = ImageDefaults { user: user.into(), ..ImageDefaults::default() };
        assert!(matches!(generated(&double::config("x"), &image), Err(RuntimeError::InvalidSpec { .. })), "{user}");
    }
}

#[test]
fn users_are_not_looked_up_outside_of_the_root() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("passwd"), "lane:x:0:0::/:\n").unwrap();
    let rootfs = rootfs();
    let passwd = rootfs.path().join("etc/passwd");
    fs::remove_file(&passwd).unwrap();
    symlink(outside.path().join("passwd"), &passwd).unwrap();
    let image = ImageDefaults { user: "lane".into(), ..ImageDefaults::default() };
    let specified = generate(&double::config("x"), &image, &place(rootfs.path()));
    assert!(matches!(specified, Err(RuntimeError::InvalidSpec { .. })), "{specified:?}");
}

#[test]
fn capabilities_of_a_user_are_those_that_were_asked_for() {
    let sets = |user: u32, add: &[&str], drop: &[&str]| {
        let mut config = double::config("x");
        config.spec.security.run_as_user = Some(user);
        config.spec.security.add_capabilities = add.iter().map(|name| (*name).to_owned()).collect();
        config.spec.security.drop_capabilities = drop.iter().map(|name| (*name).to_owned()).collect();
        let spec = generated(&config, &ImageDefaults::default()).unwrap();
        let names = |set: &str| {
            let mut names: Vec<_> = spec["process"]["capabilities"][set].as_array().cloned().unwrap_or_default();
            names.sort_by_key(ToString::to_string);
            names
        };
        (names("bounding"), names("effective"), names("ambient"))
    };
    let (bounding, effective, ambient) = sets(0, &["SYS_NICE"], &["ALL"]);
    assert_eq!((&bounding, &effective, ambient.len()), (&vec![json!("CAP_SYS_NICE")], &bounding, 0));
    let (bounding, effective, ambient) = sets(7, &["SYS_NICE"], &[]);
    assert!(bounding.contains(&json!("CAP_CHOWN")), "{bounding:?}");
    assert_eq!((effective, ambient), (vec![json!("CAP_SYS_NICE")], vec![json!("CAP_SYS_NICE")]));
    assert!(!sets(0, &[], &["CHOWN"]).0.contains(&json!("CAP_CHOWN")));
}

#[test]
fn privileged_container_is_not_confined() {
    let mut config = double::config("x");
    let confined = generated(&config, &ImageDefaults::default()).unwrap();
    assert!(confined.pointer("/linux/seccomp/syscalls/0/names").is_some());
    assert_ne!(confined["linux"]["maskedPaths"], json!([]));
    config.spec.security.privileged = true;
    let privileged = generated(&config, &ImageDefaults::default()).unwrap();
    assert_eq!(privileged["linux"]["maskedPaths"], json!([]));
    assert!(privileged["linux"].get("seccomp").is_none());
    assert_eq!(privileged["linux"]["resources"]["devices"], json!([{"allow": true, "access": "rwm"}]));
    let nodes = privileged["linux"]["devices"].as_array().unwrap();
    assert!(nodes.iter().any(|node| node["path"] == "/dev/null"));
}

#[test]
fn capability_opens_the_calls_that_need_it() {
    let refused = |add: &str| {
        let mut config = double::config("x");
        config.spec.security.add_capabilities.insert(add.into());
        generated(&config, &ImageDefaults::default()).unwrap()["linux"]["seccomp"]["syscalls"].to_string()
    };
    assert!(refused("CHOWN").contains("\"mount\"") && refused("CHOWN").contains("\"clone3\""));
    assert!(!refused("SYS_ADMIN").contains("\"mount\"") && !refused("SYS_ADMIN").contains("\"clone3\""));
    assert!(refused("SYS_ADMIN").contains("\"kexec_load\""));
}

#[test]
fn seccomp_profile_of_a_file_is_taken_as_it_is_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let profile = |text: &str| {
        let path = dir.path().join("profile.json");
        fs::write(&path, text).unwrap();
        let mut config = double::config("x");
        config.spec.security.seccomp_profile = Some(path.display().to_string());
        generated(&config, &ImageDefaults::default())
    };
    let own =
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["chmod"], "action": "SCMP_ACT_ERRNO"}]});
    assert_eq!(profile(&own.to_string()).unwrap()["linux"]["seccomp"], own);
    let foreign = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG", "includes": {}}]});
    let error = profile(&foreign.to_string()).unwrap_err();
    assert!(
        matches!(&error, RuntimeError::Unsupported { what, .. } if what.contains("syscalls[0].includes")),
        "{error}"
    );
    assert!(matches!(profile("{"), Err(RuntimeError::InvalidSpec { .. })));
    fs::remove_file(dir.path().join("profile.json")).unwrap();
    let mut config = double::config("x");
    for path in [dir.path().join("profile.json"), dir.path().to_owned()] {
        config.spec.security.seccomp_profile = Some(path.display().to_string());
        let specified = generated(&config, &ImageDefaults::default());
        assert!(matches!(specified, Err(RuntimeError::InvalidSpec { .. })), "{path:?}");
    }
}

#[test]
fn namespaces_are_own_but_those_that_are_shared() {
    let mut config = double::config("x");
    config.host_ipc = true;
    config.network = NetworkMode::Host;
    let spec = generated(&config, &ImageDefaults::default()).unwrap();
    let kinds: Vec<_> = spec["linux"]["namespaces"].as_array().unwrap().iter().map(|n| n["type"].clone()).collect();
    assert_eq!(kinds, ["pid", "uts", "mount", "cgroup"]);
    let shm = spec["mounts"].as_array().unwrap().iter().find(|mount| mount["destination"] == "/dev/shm").unwrap();
    assert_eq!(shm["source"], "/dev/shm");
}

#[test]
fn what_cannot_take_effect_is_refused_by_name() {
    let port = |host_port| PortSpec { host_ip: "".into(), host_port, container_port: 1, protocol: Protocol::Tcp };
    let refused: [Refused; 6] = [
        (|c| c.pod = Some("p".into()), "pods"),
        (|c| c.spec.unit = "[Service]".into(), "unit"),
        (|c| c.network = NetworkMode::Bridge, "networks"),
        (|c| c.spec.security.add_capabilities = ["FLY".to_owned()].into(), "'FLY'"),
        (|c| c.spec.working_dir = "here".into(), "working_dir"),
        (
            |c| {
                c.spec.devices =
                    vec![DeviceSpec { host_path: "/dev".into(), path: String::new(), permissions: String::new() }]
            },
            "devices[0].host_path",
        ),
    ];
    for (change, named) in refused {
        let mut config = double::config("x");
        change(&mut config);
        let error = generated(&config, &ImageDefaults::default()).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
    let mut config = double::config("x");
    config.ports = vec![port(Some(80))];
    assert!(generated(&config, &ImageDefaults::default()).is_err());
    config.network = NetworkMode::Host;
    assert!(generated(&config, &ImageDefaults::default()).is_err());
    config.ports = vec![port(Some(1)), port(None)];
    assert!(generated(&config, &ImageDefaults::default()).is_ok());
}
