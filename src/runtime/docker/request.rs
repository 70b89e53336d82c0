//! What the Engine API takes, as far as it is used.
//!
//! Source: the Engine API 1.41 to 1.47 (`api/swagger.yaml` of Moby).

use std::collections::BTreeMap;

use serde::Serialize;

use crate::runtime::rest::wire::Strings;

/// `{}`.
#[derive(Debug, Default, Clone, Serialize, PartialEq, Eq)]
pub(super) struct Empty {}

/// `POST /containers/create` takes this.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ContainerCreate {
    pub(super) image: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) entrypoint: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) cmd: Vec<String>,
    /// `NAME=value`.
    pub(super) env: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) working_dir: String,
    pub(super) labels: Strings,
    pub(super) open_stdin: bool,
    pub(super) tty: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) hostname: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user: String,
    /// By `80/tcp`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) exposed_ports: BTreeMap<String, Empty>,
    pub(super) host_config: HostConfig,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) networking_config: Option<NetworkingConfig>,
}

/// How a container is in the network that it is created in.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkingConfig {
    /// By the network's name.
    pub(super) endpoints_config: BTreeMap<String, Endpoint>,
}

/// How a container is in a network.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Endpoint {
    pub(super) aliases: Vec<String>,
}

/// A container's configuration towards the host.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct HostConfig {
    pub(super) network_mode: String,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) ipc_mode: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    pub(super) pid_mode: &'static str,
    pub(super) mounts: Vec<Mount>,
    pub(super) devices: Vec<Device>,
    pub(super) privileged: bool,
    pub(super) group_add: Vec<String>,
    pub(super) cap_add: Vec<String>,
    pub(super) cap_drop: Vec<String>,
    pub(super) security_opt: Vec<String>,
    pub(super) readonly_rootfs: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_shares: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_reservation: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pids_limit: Option<i64>,
    pub(super) port_bindings: BTreeMap<String, Vec<PortBinding>>,
    pub(super) log_config: LogConfig,
    /// Never the engine's.
    pub(super) restart_policy: RestartPolicy,
}

/// `POST /containers/{id}/update` takes this. What is left out stays.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Update {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_quota: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_period: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cpu_shares: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_reservation: Option<i64>,
    /// With the memory itself. Docker asks for it with every new limit of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) memory_swap: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) pids_limit: Option<i64>,
}

/// A mount.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Mount {
    #[serde(rename = "Type")]
    pub(super) kind: &'static str,
    pub(super) source: String,
    pub(super) target: String,
    pub(super) read_only: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) volume_options: Option<VolumeOptions>,
}

/// A path within a volume.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeOptions {
    pub(super) subpath: String,
}

/// A device node.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Device {
    pub(super) path_on_host: String,
    pub(super) path_in_container: String,
    pub(super) cgroup_permissions: String,
}

/// A published port.
#[derive(Debug, Serialize, PartialEq, Eq)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortBinding {
    pub(super) host_ip: String,
    pub(super) host_port: String,
}

/// Where output goes.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct LogConfig {
    #[serde(rename = "Type")]
    pub(super) kind: &'static str,
    pub(super) config: Strings,
}

/// When the engine starts it again.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RestartPolicy {
    pub(super) name: &'static str,
}

/// `POST /networks/create` takes this.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkCreate {
    pub(super) name: String,
    /// Before 1.44 several networks may have one name otherwise.
    pub(super) check_duplicate: bool,
    pub(super) driver: &'static str,
    pub(super) labels: Strings,
}

/// `POST /networks/{id}/connect` takes this.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct NetworkConnect<'a> {
    pub(super) container: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) endpoint_config: Option<Endpoint>,
}

/// `POST /volumes/create` takes this.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct VolumeCreate {
    pub(super) name: String,
    pub(super) driver: &'static str,
    pub(super) labels: Strings,
    pub(super) driver_opts: Strings,
}

/// `POST /containers/{id}/exec` takes this.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecCreate<'a> {
    pub(super) cmd: &'a [String],
    pub(super) attach_stdout: bool,
    pub(super) attach_stderr: bool,
}

/// `POST /exec/{id}/start` takes this.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ExecStart {
    pub(super) detach: bool,
    pub(super) tty: bool,
}
