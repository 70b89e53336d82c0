//! How two versions of a workload are told apart: a fingerprint, and the first field that differs in the words of
//! its document. Pure.
//!
//! Both look at everything but the Scenario through which the workload was asked for: the same Package launched by
//! its own name and by a Scenario is the same.

use std::collections::BTreeSet;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::model::workload::WorkloadSpec;

/// Fields by their name in the model, under the field that holds them (empty: any), with the document's word.
const WORDS: &[(&str, &str, &str)] = &[
    ("", "containers", "spec.containers"),
    ("", "init_containers", "spec.initContainers"),
    ("", "volumes", "spec.volumes"),
    ("", "network", "spec.network"),
    ("", "hostname", "spec.hostname"),
    ("", "host_ipc", "spec.hostIPC"),
    ("", "host_pid", "spec.hostPID"),
    ("", "restart_policy", "spec.restartPolicy"),
    ("", "grace_ms", "spec.terminationGracePeriodSeconds"),
    ("", "labels", "metadata.labels"),
    ("", "annotations", "metadata.annotations"),
    ("", "name", "metadata.name"),
    ("", "engine", "metadata.annotations.actioncontroller.io/runtime"),
    ("", "engine_required", "metadata.annotations.actioncontroller.io/engine-policy"),
    ("", "cores", "metadata.annotations.actioncontroller.io/exclusive-cpus"),
    ("", "format", "kind"),
    ("container", "pull", "imagePullPolicy"),
    ("container", "working_dir", "workingDir"),
    ("container", "mounts", "volumeMounts"),
    ("container", "security", "securityContext"),
    ("container", "liveness", "livenessProbe"),
    ("ports", "host_ip", "hostIP"),
    ("ports", "host_port", "hostPort"),
    ("ports", "container_port", "containerPort"),
    ("mounts", "volume", "name"),
    ("mounts", "path", "mountPath"),
    ("mounts", "sub_path", "subPath"),
    ("mounts", "read_only", "readOnly"),
    ("resources", "cpu_millis", "limits.cpu"),
    ("resources", "memory_bytes", "limits.memory"),
    ("resources", "cpu_shares", "requests.cpu"),
    ("resources", "memory_reservation_bytes", "requests.memory"),
    ("security", "add_capabilities", "capabilities.add"),
    ("security", "drop_capabilities", "capabilities.drop"),
    ("security", "run_as_user", "runAsUser"),
    ("security", "run_as_group", "runAsGroup"),
    ("security", "supplemental_groups", "supplementalGroups"),
    ("security", "run_as_non_root", "runAsNonRoot"),
    ("security", "read_only_root", "readOnlyRootFilesystem"),
    ("security", "no_new_privileges", "allowPrivilegeEscalation"),
    ("security", "seccomp_profile", "seccompProfile"),
    ("liveness", "initial_delay_s", "initialDelaySeconds"),
    ("liveness", "period_s", "periodSeconds"),
    ("liveness", "timeout_s", "timeoutSeconds"),
    ("liveness", "failure_threshold", "failureThreshold"),
];

/// The fingerprint of a workload: 16 hexadecimal digits that differ where [`first_difference`] finds something.
pub fn revision(spec: &WorkloadSpec) -> String {
    // Serialized maps are sorted, so equal values have equal texts.
    let text = comparable(spec).to_string();
    Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// The path of the first field that differs, in the words of a Pod (`spec.containers[0].image`); `None` where
/// nothing does. What is in only one of the two counts as different.
pub fn first_difference(old: &WorkloadSpec, new: &WorkloadSpec) -> Option<String> {
    difference(&comparable(old), &comparable(new), "", "")
}

fn comparable(spec: &WorkloadSpec) -> Value {
    // A workload is plain data with text keys; serializing it to a value cannot fail.
    let mut value = serde_json::to_value(spec).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.remove("scenario");
    }
    value
}

/// Compares two values at `path`, which the field `parent` of the model holds.
fn difference(old: &Value, new: &Value, parent: &str, path: &str) -> Option<String> {
    match (old, new) {
        (Value::Object(before), Value::Object(after)) => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            keys.into_iter().find_map(|key| {
                let path = join(parent, path, key);
                match (before.get(key), after.get(key)) {
                    (Some(before), Some(after)) => difference(before, after, key, &path),
                    (_, _) => Some(path),
                }
            })
        }
        (Value::Array(before), Value::Array(after)) => {
            let inner = if parent.ends_with("containers") { "container" } else { parent };
            let mut pairs = before.iter().zip(after).enumerate();
            let within = pairs.find_map(|(index, (old, new))| difference(old, new, inner, &format!("{path}[{index}]")));
            let shorter = before.len().min(after.len());
            within.or_else(|| (before.len() != after.len()).then(|| format!("{path}[{shorter}]")))
        }
        (old, new) => (old != new).then(|| path.to_owned()),
    }
}

/// The path of a field in the document's words. Keys of labels, annotations and volumes are names, not fields.
fn join(parent: &str, path: &str, key: &str) -> String {
    let is_name = matches!(parent, "labels" | "annotations" | "volumes");
    let word = WORDS.iter().find(|(holder, field, _)| !is_name && *holder == parent && *field == key);
    let word = word.map_or(key, |(_, _, word)| word);
    if path.is_empty() { word.to_owned() } else { format!("{path}.{word}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Bundle, ExpandOptions, Limits};
    use crate::model::action::{Ignorable, Verb};
    use crate::model::workload::{EnvVar, NetworkMode, PortSpec, Protocol};

    fn spec() -> WorkloadSpec {
        let bundle = Bundle::parse(include_str!("../../tests/fixtures/kubernetes.yaml"), &Limits::default()).unwrap();
        let ignore = BTreeSet::from([Ignorable::Schedule]);
        let options = ExpandOptions::new(Verb::Launch, "camera", "n", &ignore);
        bundle.expand(&options).unwrap().workloads.remove(0)
    }

    type Change = fn(&mut WorkloadSpec);

    #[test]
    fn first_difference_is_named_in_words_of_the_document() {
        let changes: [(&str, Change); 14] = [
            ("spec.containers[0].image", |spec| spec.containers[0].image = "x".into()),
            ("spec.containers[1].env[0]", |spec| {
                spec.containers[1].env.push(EnvVar { name: "A".into(), value: String::new() });
            }),
            ("spec.containers[0].env[0].value", |spec| spec.containers[0].env[0].value = "x".into()),
            ("spec.containers[0].resources.limits.memory", |spec| spec.containers[0].resources.memory_bytes = None),
            ("spec.containers[0].volumeMounts[0].mountPath", |spec| spec.containers[0].mounts[0].path = "/x".into()),
            ("spec.containers[0].securityContext.capabilities.add[1]", |spec| {
                spec.containers[0].security.add_capabilities.remove("SYS_NICE");
            }),
            ("spec.containers[1].ports[0]", |spec| {
                let host_ip = String::new();
                let port = PortSpec { host_ip, host_port: None, container_port: 1, protocol: Protocol::Tcp };
                spec.containers[1].ports.push(port);
            }),
            ("spec.initContainers[0]", |spec| spec.init_containers.clear()),
            ("spec.network.mode", |spec| spec.network = NetworkMode::Host),
            ("spec.volumes.cache", |spec| drop(spec.volumes.remove("cache"))),
            ("metadata.labels.app", |spec| drop(spec.labels.insert("app".into(), "x".into()))),
            ("metadata.labels.name", |spec| drop(spec.labels.insert("name".into(), "x".into()))),
            ("spec.terminationGracePeriodSeconds", |spec| spec.grace_ms = None),
            ("package", |spec| spec.package = "x".into()),
        ];
        for (path, change) in changes {
            let mut changed = spec();
            change(&mut changed);
            assert_eq!(first_difference(&spec(), &changed).as_deref(), Some(path));
            assert_ne!(revision(&spec()), revision(&changed), "{path}");
        }
        assert!(first_difference(&WorkloadSpec { network: NetworkMode::Host, ..spec() }, &spec()).is_some());
    }

    #[test]
    fn equal_workloads_have_equal_revisions_of_16_digits() {
        assert_eq!(first_difference(&spec(), &spec()), None);
        assert_eq!(revision(&spec()), revision(&spec()));
        assert_eq!(revision(&spec()).len(), 16);
    }

    #[test]
    fn scenario_is_no_difference() {
        let other = WorkloadSpec { scenario: "s".into(), ..spec() };
        assert_eq!(first_difference(&spec(), &other), None);
        assert_eq!(revision(&spec()), revision(&other));
    }

    /// A workload as the first version stored it. Never to be changed: such records are on vehicles.
    const STORED: &str = include_str!("../../tests/fixtures/workload-stored.json");

    #[test]
    fn stored_workload_is_read_and_keeps_its_fingerprint_whatever_fields_are_added() {
        let stored: WorkloadSpec = serde_json::from_str(STORED).unwrap();
        assert_eq!(revision(&stored), "5fa05c1cb092186f", "a new field has to be left out where it says nothing");
        assert_eq!(first_difference(&stored, &spec()), None);
        let mut newer: Value = serde_json::from_str(STORED).unwrap();
        newer["of_the_future"] = true.into();
        newer["containers"][0]["of_the_future"] = true.into();
        assert_eq!(serde_json::from_value::<WorkloadSpec>(newer).unwrap(), stored);
    }
}
