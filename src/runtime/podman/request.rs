//! What Podman's REST API takes, as far as it is used.
//!
//! Source: `pkg/specgen` and `pkg/domain/entities` of Podman 4.3.1 and 5.4.2. Both pass over fields that they do not
//! know, so one document serves both.

use std::collections::BTreeMap;

use serde::Serialize;

use super::wire::PortMapping;
use crate::runtime::rest::wire::Strings;

/// The namespace of a container or pod.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Namespace {
    pub(super) nsmode: &'static str,
}

/// What `POST /containers/create` takes: the part of Podman's SpecGenerator that is used.
#[derive(Debug, Default, Serialize)]
pub(super) struct SpecGenerator {
    pub(super) name: String,
    pub(super) image: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) command: Vec<String>,
    pub(super) env: Strings,
    /// Never the service's own proxy settings.
    pub(super) httpproxy: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) work_dir: String,
    pub(super) labels: Strings,
    pub(super) annotations: Strings,
    pub(super) stdin: bool,
    pub(super) terminal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pod: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) netns: Option<Namespace>,
    #[serde(rename = "Networks", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) networks: BTreeMap<String, Membership>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) portmappings: Vec<PortMapping>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) hostname: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ipcns: Option<Namespace>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pidns: Option<Namespace>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) mounts: Vec<BindMount>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) volumes: Vec<NamedVolume>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) devices: Vec<Device>,
    pub(super) privileged: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) groups: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cap_add: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cap_drop: Vec<String>,
    pub(super) no_new_privileges: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) seccomp_profile_path: String,
    pub(super) read_only_filesystem: bool,
    /// Version 5 alone knows it; version 4 never mounts them over REST.
    pub(super) read_write_tmpfs: bool,
    pub(super) resource_limits: ResourceLimits,
    pub(super) log_configuration: LogConfiguration,
    /// Never the engine's: one in version 5's pods would restart by itself.
    pub(super) restart_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) oci_runtime: Option<String>,
}

/// How a container or pod is in a network.
#[derive(Debug, Default, Clone, Serialize, PartialEq, Eq)]
pub(super) struct Membership {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) aliases: Vec<String>,
}

/// A path of the host.
#[derive(Debug, Serialize)]
pub(super) struct BindMount {
    pub(super) destination: String,
    #[serde(rename = "type")]
    pub(super) kind: &'static str,
    pub(super) source: String,
    pub(super) options: Vec<&'static str>,
}

/// A volume of the engine.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NamedVolume {
    pub(super) name: String,
    pub(super) dest: String,
    pub(super) options: Vec<&'static str>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) sub_path: String,
}

/// A device as `host:inside:permissions`.
#[derive(Debug, Serialize)]
pub(super) struct Device {
    pub(super) path: String,
}

/// Where output goes.
#[derive(Debug, Default, Serialize)]
pub(super) struct LogConfiguration {
    pub(super) driver: &'static str,
    /// Bytes.
    pub(super) size: u64,
}

/// The OCI specification's limits.
#[derive(Debug, Default, Serialize)]
pub(super) struct ResourceLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu: Option<CpuLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<MemoryLimits>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pids: Option<PidsLimit>,
}

/// Microseconds, and a weight.
#[derive(Debug, Default, Serialize)]
pub(super) struct CpuLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) shares: Option<u64>,
}

/// Bytes.
#[derive(Debug, Default, Serialize)]
pub(super) struct MemoryLimits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reservation: Option<i64>,
    /// With the memory itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) swap: Option<i64>,
}

/// Processes and threads.
#[derive(Debug, Default, Serialize)]
pub(super) struct PidsLimit {
    pub(super) limit: i64,
}

/// `POST /volumes/create` takes this.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeCreate {
    pub(super) name: String,
    pub(super) driver: &'static str,
    pub(super) labels: Strings,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) options: Strings,
}

/// `POST /pods/create` takes this.
#[derive(Debug, Default, Serialize)]
pub(super) struct PodCreate {
    pub(super) name: String,
    pub(super) infra_name: String,
    pub(super) labels: Strings,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) hostname: String,
    pub(super) shared_namespaces: Vec<&'static str>,
    pub(super) exit_policy: &'static str,
    /// Version 5 restarts by default.
    pub(super) restart_policy: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) netns: Option<Namespace>,
    #[serde(rename = "Networks", skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) networks: BTreeMap<String, Membership>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) portmappings: Vec<PortMapping>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) infra_image: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) infra_command: Vec<String>,
}

/// `POST /containers/{id}/exec` takes this.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecCreate<'a> {
    pub(super) cmd: &'a [String],
    pub(super) attach_stdout: bool,
    pub(super) attach_stderr: bool,
    pub(super) tty: bool,
}

/// `POST /exec/{id}/start` takes this.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecStart {
    pub(super) detach: bool,
    pub(super) tty: bool,
}
