//! Pod and Deployment.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::cores::WantedCores;
use crate::model::workload::{
    DeviceSpec, MountSpec, NetworkMode, PortSpec, ProbeAction, Protocol, PullPolicy, RestartPolicy, VolumeSource,
};

#[test]
fn kubernetes_pod_is_read_whole() {
    let bundle = bundle(KUBERNETES);
    let expansion = expand(&bundle, "camera").unwrap();
    let spec = &expansion.workloads[0];
    assert_eq!((spec.restart_policy, spec.grace_ms), (RestartPolicy::Always, Some(30_000)));
    assert_eq!(spec.network, NetworkMode::Named(vec!["front".into(), "rear".into()]));
    assert_eq!((spec.engine.as_str(), spec.hostname.as_str()), ("podman", "cam"));
    assert!(spec.host_pid && !spec.host_ipc);
    assert_eq!(spec.labels["version"], "1.10");
    assert_eq!(spec.init_containers[0].command, ["sh", "-c", "echo on > /cache/mode"]);
    assert_eq!(spec.init_containers[0].security.run_as_user, Some(1000));
    let capture = &spec.containers[0];
    assert_eq!(capture.args, ["--rate", "50", "no/$(UNKNOWN)"]);
    let env: Vec<&str> = capture.env.iter().map(|variable| variable.value.as_str()).collect();
    assert_eq!(env, ["no", "010", ""]);
    assert_eq!((capture.pull, capture.stdin, capture.tty), (PullPolicy::Never, true, true));
    assert_eq!(capture.working_dir, "/work");
    let web =
        PortSpec { host_ip: "127.0.0.1".into(), host_port: Some(80), container_port: 8080, protocol: Protocol::Tcp };
    assert_eq!(capture.ports[0], web);
    assert_eq!((capture.ports[1].host_port, capture.ports[1].protocol), (None, Protocol::Udp));
    let resources = &capture.resources;
    assert_eq!((resources.cpu_millis, resources.cpu_shares), (Some(1500), Some(512)));
    assert_eq!((resources.memory_bytes, resources.memory_reservation_bytes), (Some(256 << 20), Some(64 << 20)));
    assert_eq!(capture.liveness.as_ref().unwrap().action, ProbeAction::Http { path: "/health".into(), port: 8080 });
    let security = &capture.security;
    assert_eq!((security.run_as_user, security.run_as_group), (Some(0), Some(1000)));
    assert_eq!(security.supplemental_groups, BTreeSet::from([44]));
    assert_eq!((security.no_new_privileges, security.read_only_root), (Some(true), true));
    assert_eq!(security.add_capabilities, BTreeSet::from(["NET_ADMIN".to_owned(), "SYS_NICE".to_owned()]));
    assert_eq!(security.seccomp_profile.as_deref(), Some("/etc/seccomp/camera.json"));
    assert_eq!(spec.containers[1].image, "localhost:5000/camera/publish");
    assert_eq!(spec.containers[1].pull, PullPolicy::IfNotPresent);
    let paths: Vec<&str> = expansion.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(paths, ["spec.containers[0].livenessProbe"]);
}

#[test]
fn volumes_and_devices_of_a_pod_are_resolved() {
    let spec = expand(&bundle(KUBERNETES), "camera").unwrap().workloads.remove(0);
    let cache = VolumeSource::EmptyDir { memory: true, size_limit_bytes: Some(16 << 20) };
    let archive = VolumeSource::Named { name: "camera_archive".into() };
    assert_eq!(spec.volumes, BTreeMap::from([("archive".to_owned(), archive), ("cache".to_owned(), cache)]));
    let capture = &spec.containers[0];
    let device = DeviceSpec { host_path: "/dev/video0".into(), path: "/dev/video0".into(), permissions: "rw".into() };
    assert_eq!(capture.devices, [device]);
    let mount = |volume: &str, path: &str, sub_path: &str| MountSpec {
        volume: volume.into(),
        path: path.into(),
        sub_path: sub_path.into(),
        read_only: true,
    };
    assert_eq!(capture.mounts, [mount("cache", "/cache", ""), mount("archive", "/archive", "today")]);
}

#[test]
fn json_is_read_and_null_is_as_absent() {
    let spec = one(JSON);
    assert_eq!(spec.containers[0].env[0].value, "🚗");
    assert_eq!((spec.restart_policy, spec.network), (RestartPolicy::Never, NetworkMode::Bridge));
    assert!(spec.volumes.is_empty() && spec.containers[0].args.is_empty());
}

#[test]
fn no_replicas_run_nothing() {
    let none = bundle(&KUBERNETES.replace("replicas: 1", "replicas: 0"));
    assert_eq!(expand(&none, "").unwrap().workloads.len(), 1);
    assert!(expand(&none, "web").unwrap_err().message.contains("nothing to run"));
}

#[test]
fn known_fields_without_effect_are_refused_with_path_line_and_name() {
    for (spec, path) in [
        ("  affinity: {nodeAffinity: {}}\n", "spec.affinity"),
        ("  hostAliases: [{ip: 1.2.3.4, hostnames: [a]}]\n", "spec.hostAliases"),
        ("  ephemeralContainers: [{name: x}]\n", "spec.ephemeralContainers"),
        ("  runtimeClassName: kata\n", "spec.runtimeClassName"),
        ("  dnsConfig: {nameservers: [1.1.1.1]}\n", "spec.dnsConfig"),
        ("  dnsPolicy: None\n", "spec.dnsPolicy"),
        ("  nodeSelector: {disk: ssd}\n", "spec.nodeSelector"),
        ("  shareProcessNamespace: true\n", "spec.shareProcessNamespace"),
        ("  imagePullSecrets: [{name: s}]\n", "spec.imagePullSecrets"),
        ("  activeDeadlineSeconds: 5\n", "spec.activeDeadlineSeconds"),
        ("  volumes: [{name: v, configMap: {name: c}}]\n", "spec.volumes[0].configMap"),
        ("  volumes: [{name: v, emptyDir: {sizeLimit: 1Gi}}]\n", "spec.volumes[0].emptyDir.sizeLimit"),
        ("  securityContext: {fsGroup: 5}\n", "spec.securityContext.fsGroup"),
        ("  securityContext: {sysctls: [{name: a, value: b}]}\n", "spec.securityContext.sysctls"),
    ] {
        let error = refusal(&pod(spec));
        assert_eq!(error.kind, ManifestErrorKind::Unsupported, "{error}");
        assert_eq!(path_and_line(&error), (path, 6), "{error}");
    }
    for (fields, path) in [
        ("    env: [{name: A, valueFrom: {fieldRef: {fieldPath: x}}}]\n", "spec.containers[0].env[0].valueFrom"),
        ("    envFrom: [{configMapRef: {name: x}}]\n", "spec.containers[0].envFrom"),
        ("    lifecycle: {preStop: {exec: {command: [x]}}}\n", "spec.containers[0].lifecycle"),
        ("    resources: {limits: {nvidia.com/gpu: 1}}\n", "spec.containers[0].resources.limits.nvidia.com/gpu"),
        ("    volumeDevices: [{name: a, devicePath: /dev/a}]\n", "spec.containers[0].volumeDevices"),
        ("    securityContext: {procMount: Unmasked}\n", "spec.containers[0].securityContext.procMount"),
        ("    securityContext: {seLinuxOptions: {level: s0}}\n", "spec.containers[0].securityContext.seLinuxOptions"),
        ("    livenessProbe: {grpc: {port: 1}}\n", "spec.containers[0].livenessProbe.grpc"),
        ("    stdinOnce: true\n", "spec.containers[0].stdinOnce"),
    ] {
        let error = refusal(&container(fields));
        assert_eq!(error.kind, ManifestErrorKind::Unsupported, "{error}");
        assert_eq!(path_and_line(&error), (path, 8), "{error}");
    }
}

#[test]
fn annotations_and_labels_of_ours_are_known_or_refused() {
    let with = |metadata: &str| pod("").replace("{name: p}", &format!("{{name: p, {metadata}}}"));
    let error = refusal(&with("annotations: {actioncontroller.io/cores: 2}"));
    assert_eq!(path_and_line(&error), ("metadata.annotations.actioncontroller.io/cores", 3));
    assert!(refusal(&with("labels: {actioncontroller.io/node: x}")).message.contains("daemon's own"));
    assert_eq!(one(&with("annotations: {beemesh.io/runtime-engine: docker}")).engine, "docker");
    let both = "annotations: {beemesh.io/runtime-engine: docker, actioncontroller.io/runtime: podman}";
    assert!(refusal(&with(both)).message.contains("different engines"));
    assert!(refusal(&with("annotations: {actioncontroller.io/networks: 'a,,b'}")).path.ends_with("networks"));
    let package = "apiVersion: v1\nkind: Package\nmetadata: {name: p, annotations: {actioncontroller.io/runtime: x}}\n";
    assert_eq!(refusal(&format!("{package}spec: {{models: [{{name: a}}]}}\n")).kind, ManifestErrorKind::Unsupported);
}

#[test]
fn cpus_are_asked_for_by_list_or_count_and_errors_name_path_and_line() {
    let with = |annotations: &str| {
        container("").replace("metadata: {name: p}", &format!("metadata: {{name: p, annotations: {{{annotations}}}}}"))
    };
    let spec = one(&with("actioncontroller.io/exclusive-cpus: '2-3'"));
    assert_eq!(spec.cores.unwrap().wanted, WantedCores::Listed("2-3".parse().unwrap()));
    let strict = "actioncontroller.io/exclusive-cpu-count: 2, actioncontroller.io/hibernate-with-cores: true";
    let spec = one(&with(strict));
    assert!(spec.cores.as_ref().is_some_and(|cores| cores.may_hibernate && cores.wanted == WantedCores::Count(2)));
    // What a Deployment says of its Pods as a whole, they may say otherwise.
    assert_ne!(spec.cores, one(&with("actioncontroller.io/exclusive-cpu-count: 1")).cores);
    assert_eq!(one(&container("")).cores, None);
    for (annotations, path) in [
        ("actioncontroller.io/exclusive-cpus: two", "metadata.annotations.actioncontroller.io/exclusive-cpus"),
        ("actioncontroller.io/exclusive-cpu-count: -1", "metadata.annotations.actioncontroller.io/exclusive-cpu-count"),
        ("actioncontroller.io/cores-mode: best-effort", "metadata.annotations"),
    ] {
        let error = refusal(&with(annotations));
        assert!(error.line > 0, "{error}");
        assert_eq!(error.path, path, "{error}");
    }
    let both = "actioncontroller.io/exclusive-cpus: '1', actioncontroller.io/exclusive-cpu-count: 1";
    assert!(refusal(&with(both)).message.contains("asked for twice"));
}

#[test]
fn engine_may_be_required_and_then_has_to_be_named() {
    let with = |annotations: &str| {
        container("").replace("metadata: {name: p}", &format!("metadata: {{name: p, annotations: {{{annotations}}}}}"))
    };
    let named = one(&with("actioncontroller.io/runtime: oci, actioncontroller.io/engine-policy: require"));
    assert_eq!((named.engine.as_str(), named.engine_required), ("oci", true));
    let preferred = one(&with("beemesh.io/runtime-engine: oci, actioncontroller.io/engine-policy: prefer"));
    assert!(!preferred.engine_required);
    let error = refusal(&with("actioncontroller.io/engine-policy: require"));
    assert!(error.to_string().contains("names no engine"), "{error}");
    let error = refusal(&with("actioncontroller.io/engine-policy: maybe"));
    assert!(error.to_string().contains("neither prefer nor require"), "{error}");
}

#[test]
fn hints_limit_the_one_container_and_its_own_limit_wins() {
    let hints = "beemesh.io/resources.cpu: \"2.0\", beemesh.io/resources.memory: 4GB";
    let with = |text: &str, hints: &str| {
        text.replace("metadata: {name: p}", &format!("metadata: {{name: p, annotations: {{{hints}}}}}"))
    };
    let limits = |text: &str, hints: &str| one(&with(text, hints)).containers[0].resources.clone();
    let hinted = limits(&container(""), hints);
    assert_eq!((hinted.cpu_millis, hinted.memory_bytes), (Some(2000), Some(4_000_000_000)));
    assert_eq!(limits(&container(""), "beemesh.io/resources.memory: 4Gi").memory_bytes, Some(4 << 30));
    let own = limits(&container("    resources: {limits: {memory: 1Mi}}\n"), hints);
    assert_eq!((own.cpu_millis, own.memory_bytes), (Some(2000), Some(1 << 20)));
    let error = refusal(&with(&container(""), "beemesh.io/resources.memory: much"));
    assert_eq!(error.path, "metadata.annotations.beemesh.io/resources.memory");
    let two = container("  - name: d\n    image: i\n");
    let error = refusal(&with(&two, hints));
    assert!(error.to_string().contains("there are 2"), "{error}");
}

#[test]
fn clashes_within_a_workload_are_refused() {
    let two = |first: &str, second: &str, rest: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - {{name: a, image: i{first}}}\n  - {{name: b, image: i{second}}}\n{rest}"
        )
    };
    let volumes = "  volumes: [{name: v, emptyDir: {}}]\n";
    for (text, path, line) in [
        (two("", "", "").replace("name: b", "name: a"), "spec.containers[1].name", 7),
        (
            two(
                ", ports: [{containerPort: 1, hostPort: 80}]",
                ", ports: [{containerPort: 2, hostPort: 80, hostIP: 1.1.1.1}]",
                "",
            ),
            "spec.containers[1].ports[0].hostPort",
            7,
        ),
        (two(", volumeMounts: [{name: x, mountPath: /a}]", "", volumes), "spec.containers[0].volumeMounts[0].name", 6),
        (
            two("", ", volumeMounts: [{name: v, mountPath: /a/}, {name: v, mountPath: //a}]", volumes),
            "spec.containers[1].volumeMounts[1].mountPath",
            7,
        ),
        (
            two("", ", volumeMounts: [{name: v, mountPath: /}]", volumes),
            "spec.containers[1].volumeMounts[0].mountPath",
            7,
        ),
        (
            two(", ports: [{containerPort: 1, hostPort: 2}]", "", "  hostNetwork: true\n"),
            "spec.containers[0].ports[0].hostPort",
            6,
        ),
    ] {
        assert_eq!(path_and_line(&refusal(&text)), (path, line), "{}", refusal(&text));
    }
    let apart = two(
        ", ports: [{containerPort: 1, hostPort: 80}]",
        ", ports: [{containerPort: 2, hostPort: 80, protocol: UDP}]",
        "",
    );
    assert!(expand(&bundle(&apart), "").is_ok());
}

#[test]
fn volumes_that_nothing_mounts_are_warned_about() {
    let expansion = expand(&bundle(&pod("  volumes: [{name: v, emptyDir: {}}]\n")), "").unwrap();
    assert!(expansion.workloads[0].volumes.is_empty());
    assert!(expansion.warnings[0].message.contains("'v' is mounted by no container"), "{:?}", expansion.warnings);
}
