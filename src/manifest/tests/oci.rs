//! Bundles of the OCI runtime specification.

use super::*;
use crate::model::workload::{HostPathKind, ManifestFormat, NetworkMode, RestartPolicy, VolumeSource};

const LAMP: &str = include_str!("../../../tests/fixtures/bundle.json");

/// The bundle with a part of its text replaced.
fn with(old: &str, new: &str) -> String {
    assert!(LAMP.contains(old), "{old}");
    LAMP.replacen(old, new, 1)
}

#[test]
fn bundle_is_a_workload_of_one_container_with_its_root() {
    let expansion = expand(&bundle(LAMP), "").unwrap();
    let spec = &expansion.workloads[0];
    assert_eq!((spec.name.as_str(), spec.format, spec.hostname.as_str()), ("lamp", ManifestFormat::Bundle, "lamp"));
    assert_eq!((&spec.network, spec.host_pid, spec.host_ipc), (&NetworkMode::None, false, false));
    assert_eq!((spec.annotations.len(), spec.annotations["vendor"].as_str()), (1, "x"));
    assert_eq!(spec.restart_policy, RestartPolicy::Never);
    let container = &spec.containers[0];
    assert_eq!((container.rootfs.as_str(), container.image.as_str()), ("/var/lib/lamp/rootfs", ""));
    assert_eq!((container.command.join(" "), container.working_dir.as_str()), ("/bin/lamp --bright".into(), "/"));
    assert_eq!((container.env[1].name.as_str(), container.env[1].value.as_str()), ("MODE", "a=b"));
    let security = &container.security;
    assert_eq!((security.run_as_user, security.run_as_group, security.read_only_root), (Some(1000), Some(100), true));
    assert_eq!(security.no_new_privileges, Some(true));
    assert_eq!(security.add_capabilities.iter().map(String::as_str).collect::<Vec<_>>(), ["KILL", "NET_BIND_SERVICE"]);
    assert!(security.drop_capabilities.contains("ALL") && security.supplemental_groups.contains(&5));
    let resources = &container.resources;
    assert_eq!((resources.cpu_millis, resources.cpu_shares, resources.pids), (Some(500), Some(512), Some(20)));
    assert_eq!((resources.memory_bytes, resources.memory_reservation_bytes), (Some(32 << 20), Some(16 << 20)));
    assert_eq!(
        (container.devices[0].host_path.as_str(), container.devices[0].permissions.as_str()),
        ("/dev/fuse", "rw")
    );
    let mounts: Vec<_> = container.mounts.iter().map(|mount| (mount.path.as_str(), mount.read_only)).collect();
    assert_eq!(mounts, [("/data", true), ("/more", false)]);
    let data = VolumeSource::HostPath { path: "/var/lib/lamp/data".into(), kind: HostPathKind::Any };
    assert_eq!(spec.volumes[&container.mounts[0].volume], data);
    assert_eq!(
        expansion.warnings.iter().map(|warning| warning.path.as_str()).collect::<Vec<_>>(),
        ["linux.devices[0]"]
    );
}

#[test]
fn namespace_that_is_not_named_is_the_hosts() {
    let spec = one(&with("{ \"type\": \"pid\" }, { \"type\": \"network\" }, { \"type\": \"ipc\" }, ", ""));
    assert_eq!((spec.network, spec.host_pid, spec.host_ipc), (NetworkMode::Host, true, true));
}

#[test]
fn name_is_the_annotation_or_the_target() {
    let nameless = with("\"actioncontroller.io/name\": \"lamp\", ", "");
    let error = refusal(&nameless);
    assert_eq!(error.path, "annotations.actioncontroller.io/name", "{error}");
    let named = Bundle::parse_named(&nameless, "light", &Limits::default()).unwrap();
    assert_eq!(expand(&named, "light").unwrap().workloads[0].name, "light");
}

#[test]
fn what_cannot_take_effect_is_refused_by_path_and_line() {
    for (old, new, path) in [
        ("/var/lib/lamp/rootfs", "rootfs", "root.path"),
        ("\"1.2.0\"", "\"2.0.0\"", "ociVersion"),
        ("\"hostname\"", "\"domainname\": \"d\", \"hostname\"", "domainname"),
        ("\"hostname\"", "\"hooks\": {\"prestart\": [{\"path\": \"/x\"}]}, \"hostname\"", "hooks"),
        ("\"hostname\"", "\"colour\": 1, \"hostname\"", "colour"),
        ("\"hostname\"", "\"x-y\": 1, \"hostname\"", "x-y"),
        ("\"terminal\"", "\"rlimits\": [{\"type\": \"RLIMIT_NOFILE\"}], \"terminal\"", "process.rlimits"),
        ("\"terminal\"", "\"oomScoreAdj\": -5, \"terminal\"", "process.oomScoreAdj"),
        ("\"terminal\"", "\"apparmorProfile\": \"a\", \"terminal\"", "process.apparmorProfile"),
        ("[ \"/bin/lamp\", \"--bright\" ]", "[]", "process.args"),
        ("\"PATH=/bin\"", "\"PATH\"", "process.env[0]"),
        (
            "\"permitted\": [ \"CAP_NET_BIND_SERVICE\", \"CAP_KILL\" ]",
            "\"permitted\": []",
            "process.capabilities.permitted",
        ),
        ("\"bounding\"", "\"ambient\": [\"CAP_KILL\"], \"bounding\"", "process.capabilities.ambient"),
        ("\"uid\"", "\"umask\": 18, \"uid\"", "process.user.umask"),
        ("\"type\": \"bind\"", "\"type\": \"ext4\"", "mounts[3].type"),
        ("\"type\": \"proc\"", "\"type\": \"tmpfs\"", "mounts[0].type"),
        ("\"rbind\", \"ro\"", "\"rbind\", \"noexec\"", "mounts[3].options[1]"),
        ("\"/var/lib/lamp/data\"", "\"data\"", "mounts[3].source"),
        ("\"/more\"", "\"/data\"", "mounts[4].destination"),
        ("{ \"type\": \"pid\" }", "{ \"type\": \"pid\", \"path\": \"/proc/1/ns/pid\" }", "linux.namespaces[0].path"),
        ("{ \"type\": \"pid\" }", "{ \"type\": \"user\" }", "linux.namespaces[0].type"),
        (", { \"type\": \"uts\" }", "", "linux.namespaces"),
        ("\"namespaces\"", "\"seccomp\": {\"defaultAction\": \"SCMP_ACT_ALLOW\"}, \"namespaces\"", "linux.seccomp"),
        ("\"namespaces\"", "\"sysctl\": {\"a\": \"1\"}, \"namespaces\"", "linux.sysctl"),
        ("\"namespaces\"", "\"cgroupsPath\": \"/x\", \"namespaces\"", "linux.cgroupsPath"),
        ("\"/proc/kcore\"", "\"/etc\"", "linux.maskedPaths[0]"),
        ("\"quota\": 50000", "\"quota\": 50001, \"cpus\": \"0\"", "linux.resources.cpu.quota"),
        ("\"shares\"", "\"cpus\": \"0\", \"shares\"", "linux.resources.cpu.cpus"),
        ("\"reservation\"", "\"swap\": 1, \"reservation\"", "linux.resources.memory.swap"),
        ("\"minor\": 229, \"access\"", "\"minor\": 1, \"access\"", "linux.resources.devices[1]"),
        ("\"pids\": { \"limit\": 20 }", "\"blockIO\": {\"weight\": 1}", "linux.resources.blockIO"),
        ("\"vendor\"", "\"actioncontroller.io/networks\": \"n\", \"vendor\"", "annotations"),
    ] {
        let error = refusal(&with(old, new));
        assert_eq!(error.path, path, "{error}");
        assert!(error.line > 0 && error.document == "Bundle 'lamp'", "{error}");
    }
}

proptest! {
    #[test]
    fn arbitrary_changes_of_a_bundle_never_panic(
        position in 0_usize..2000,
        cut in 0_usize..40,
        insert in "[-a-z0-9:{}\\[\\],'\"/ \\n]{0,12}",
    ) {
        let mut text = LAMP.to_owned();
        let start = position.min(text.len());
        text.replace_range(start..(start + cut).min(text.len()), &insert);
        if let Ok(bundle) = Bundle::parse(&text, &Limits::default()) {
            let _ = expand(&bundle, "");
        }
    }
}
