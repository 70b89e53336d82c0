//! What the ceiling refuses and allows, on documents as they come.

use super::*;
use crate::manifest::{Bundle, ExpandOptions, Limits};
use crate::model::action::Verb;

fn spec(pod: &str, container: &str) -> WorkloadSpec {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - {{name: c, image: i{container}}}\n{pod}"
    );
    let bundle = Bundle::parse(&text, &Limits::default()).unwrap();
    let ignore = BTreeSet::new();
    let options = ExpandOptions::new(Verb::Launch, "", "n", &ignore);
    bundle.expand(&options).unwrap().workloads.remove(0)
}

fn violations(ceiling: &Ceiling, pod: &str, container: &str) -> Vec<String> {
    let found = ceiling.check(&spec(pod, container)).err().unwrap_or_default();
    found.into_iter().map(|violation| violation.path).collect()
}

fn mount(path: &str, read_only: bool) -> (String, String) {
    (
        format!("  volumes: [{{name: v, hostPath: {{path: \"{path}\"}}}}]\n"),
        format!(", volumeMounts: [{{name: v, mountPath: /v, readOnly: {read_only}}}]"),
    )
}

fn mount_is_allowed(ceiling: &Ceiling, path: &str, read_only: bool) -> bool {
    let (pod, container) = mount(path, read_only);
    violations(ceiling, &pod, &container).is_empty()
}

#[test]
fn ordinary_workload_is_allowed_by_default() {
    assert_eq!(violations(&Ceiling::default(), "  hostNetwork: true\n", ""), Vec::<String>::new());
    assert_eq!(Ceiling::default().problems(), Vec::<String>::new());
}

/// Raises a ceiling.
type Raise = fn(&mut Ceiling);

#[test]
fn each_privilege_is_refused_by_default_and_allowed_where_the_ceiling_says_so() {
    let security = "spec.containers[0].securityContext";
    let raise: [(&str, &str, String, Raise); 6] = [
        ("", ", securityContext: {privileged: true}", format!("{security}.privileged"), |c| c.allow_privileged = true),
        ("", ", securityContext: {capabilities: {add: [SYS_ADMIN]}}", format!("{security}.capabilities.add"), |c| {
            c.capabilities.insert("SYS_ADMIN".into());
        }),
        ("  hostPID: true\n", "", "spec.hostPID".into(), |c| c.host_pid = true),
        ("  hostIPC: true\n", "", "spec.hostIPC".into(), |c| c.host_ipc = true),
        ("", ", securityContext: {seccompProfile: {type: Unconfined}}", format!("{security}.seccompProfile"), |c| {
            c.seccomp_unconfined = true
        }),
        (
            "  volumes: [{name: d, hostPath: {path: /dev/can0, type: CharDevice}}]\n",
            ", volumeMounts: [{name: d, mountPath: /dev/can0}]",
            "spec.containers[0].devices[0]".into(),
            |c| c.devices.push("/dev/can0".into()),
        ),
    ];
    for (pod, container, path, change) in raise {
        let mut ceiling = Ceiling::default();
        assert_eq!(violations(&ceiling, pod, container), [path]);
        change(&mut ceiling);
        assert!(violations(&ceiling, pod, container).is_empty(), "{container}");
    }
}

#[test]
fn capabilities_of_the_default_list_are_allowed_and_all_is_not() {
    let ceiling = Ceiling::default();
    let add = |name: &str| format!(", securityContext: {{capabilities: {{add: [{name}]}}}}");
    for name in ["SYS_NICE", "cap_ipc_lock", "CHOWN"] {
        assert!(violations(&ceiling, "", &add(name)).is_empty(), "{name}");
    }
    assert!(!violations(&ceiling, "", &add("ALL")).is_empty());
    let all = Ceiling { capabilities: BTreeSet::from(["ALL".to_owned()]), ..Ceiling::default() };
    assert!(violations(&all, "", &add("SYS_ADMIN")).is_empty());
}

#[test]
fn host_network_can_be_refused() {
    let ceiling = Ceiling { host_network: false, ..Ceiling::default() };
    assert_eq!(violations(&ceiling, "  hostNetwork: true\n", ""), ["spec.hostNetwork"]);
}

#[test]
fn root_can_be_refused() {
    let ceiling = Ceiling { run_as_root: false, ..Ceiling::default() };
    assert_eq!(violations(&ceiling, "", ""), ["spec.containers[0].securityContext.runAsUser"]);
    assert!(violations(&ceiling, "", ", securityContext: {runAsUser: 7}").is_empty());
    assert!(violations(&ceiling, "", ", securityContext: {runAsNonRoot: true}").is_empty());
    assert!(!violations(&ceiling, "", ", securityContext: {runAsUser: 0}").is_empty());
}

#[test]
fn host_paths_are_compared_part_by_part() {
    let ceiling = Ceiling::default();
    for path in ["/var/lib/lane", "/opt", "//opt//x/", "/run/user/1000/wayland-0"] {
        assert!(mount_is_allowed(&ceiling, path, false), "{path}");
    }
    for path in ["/optional", "/etc", "/", "/home/x", "/var", "/usr/bin", "/dev/mem"] {
        assert!(!mount_is_allowed(&ceiling, path, true), "{path}");
    }
    assert!(mount_is_allowed(&ceiling, "/etc/localtime", true));
    assert!(!mount_is_allowed(&ceiling, "/etc/localtime", false));
}

#[test]
fn paths_that_give_the_node_away_are_refused_even_where_everything_is_allowed() {
    let rule = HostPathRule { path: "/".to_owned(), read_only: false };
    let ceiling = Ceiling { host_paths: vec![rule], ..Ceiling::default() };
    assert!(mount_is_allowed(&ceiling, "/home/x", false));
    for path in [
        "/",
        "/var",
        "/var/lib",
        "/var/lib/actioncontroller",
        "/var/lib/containers/storage",
        "/run",
        "/var/run",
        "/run/podman/podman.sock",
        "/var/run/docker.sock",
        "/run/user/1000/podman/podman.sock",
        "/proc/1/root",
        "/etc/shadow",
        "/var/run/podman",
    ] {
        assert!(!mount_is_allowed(&ceiling, path, true), "{path}");
    }
}

#[test]
fn folders_of_the_daemon_that_are_configured_elsewhere_are_never_mounted() {
    let ceiling = Ceiling { denied_host_paths: vec!["/var/run/x/".into()], ..Ceiling::default() };
    assert!(!mount_is_allowed(&ceiling, "/run/x/socket", true));
    let ceiling = Ceiling { denied_host_paths: vec!["/opt/state".into()], ..Ceiling::default() };
    assert!(!mount_is_allowed(&ceiling, "/opt", true) && mount_is_allowed(&ceiling, "/opt/other", true));
}

#[test]
fn path_within_a_volume_counts() {
    let (pod, container) = mount("/var/lib", true);
    let container = container.replace("readOnly", "subPath: docker/x, readOnly");
    assert_eq!(violations(&Ceiling::default(), &pod, &container), ["spec.containers[0].volumeMounts[0]"]);
}

#[test]
fn devices_are_allowed_by_path_or_by_folder() {
    let ceiling = Ceiling { devices: vec!["/dev/dri/".into(), "/dev/video0".into()], ..Ceiling::default() };
    let device = |path: &str| {
        let pod = format!("  volumes: [{{name: d, hostPath: {{path: {path}, type: CharDevice}}}}]\n");
        violations(&ceiling, &pod, ", volumeMounts: [{name: d, mountPath: /dev/x}]").is_empty()
    };
    assert!(device("/dev/dri/card0") && device("/dev/video0"));
    assert!(!device("/dev/video01") && !device("/dev/dri") && !device("/dev/drive") && !device("/dev/mem"));
}

#[test]
fn seccomp_profiles_are_allowed_by_folder() {
    let profile = |path: &str| {
        let container = format!(", securityContext: {{seccompProfile: {{type: Localhost, localhostProfile: {path}}}}}");
        violations(&Ceiling::default(), "", &container).is_empty()
    };
    assert!(profile("/usr/share/containers/seccomp.json"));
    assert!(!profile("/tmp/all.json"));
}

#[test]
fn refusal_names_every_violation_and_what_would_be_allowed() {
    let found = Ceiling::default().check(&spec("  hostPID: true\n", ", securityContext: {privileged: true}"));
    let error = refusal("p", &found.unwrap_err());
    assert_eq!((error.kind, error.code), (ErrorKind::PermissionDenied, ErrorCode::SecurityDenied));
    assert_eq!(error.field, "spec.hostPID");
    assert!(error.message.contains("privileged") && error.message.contains("has it off"), "{}", error.message);
}

#[test]
fn ceiling_reads_its_own_form_and_refuses_unknown_keys() {
    let ceiling: Ceiling = serde_saphyr::from_str("host_paths: [{path: /data}]\ndevices: [dev]\n").unwrap();
    assert!(!ceiling.host_paths[0].read_only);
    assert_eq!(ceiling.problems(), ["'dev' must be an absolute path without '..'"]);
    assert!(serde_saphyr::from_str::<Ceiling>("host_ips: true\n").is_err());
}
