//! What Podman's REST API gives, as far as it is used; [`request`](super::request) has what it takes. Nothing else in
//! this folder knows its field names.
//!
//! Source: `libpod/define`, `pkg/specgen` and `pkg/domain/entities` of Podman 4.3.1 and 5.4.2. What Docker
//! gives in the same form is in [`crate::runtime::rest::wire`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::runtime::rest::wire::{Addresses, HealthState, PortMap, Strings};
use crate::runtime::shared::json::nullable;

/// `GET /info`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Info {
    pub(super) host: InfoHost,
}

/// The node as the engine sees it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct InfoHost {
    pub(super) cgroup_version: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) cgroup_controllers: Vec<String>,
    pub(super) event_logger: String,
    pub(super) security: InfoSecurity,
}

/// How the engine runs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct InfoSecurity {
    pub(super) rootless: bool,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Inspect {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created: String,
    pub(super) image_name: String,
    pub(super) state: InspectState,
    pub(super) config: InspectConfig,
    pub(super) host_config: InspectHostConfig,
    pub(super) network_settings: InspectNetwork,
    #[serde(deserialize_with = "nullable")]
    pub(super) bounding_caps: Vec<String>,
    /// The id of its pod; empty for none.
    pub(super) pod: String,
    /// Where Podman keeps what outlives a boot of the container: checkpoints among it.
    pub(super) static_dir: String,
}

/// A container's state.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct InspectState {
    pub(super) status: String,
    #[serde(rename = "OOMKilled")]
    pub(super) oom_killed: bool,
    pub(super) pid: i32,
    pub(super) exit_code: i32,
    pub(super) error: String,
    pub(super) started_at: String,
    pub(super) finished_at: String,
    pub(super) checkpointed: bool,
    pub(super) cgroup_path: String,
    /// Version 5 leaves it out where there is no check.
    #[serde(deserialize_with = "nullable")]
    pub(super) health: HealthState,
}

/// A container's own configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct InspectConfig {
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Strings,
    #[serde(deserialize_with = "nullable")]
    pub(super) annotations: Strings,
}

/// A container's configuration towards the host.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct InspectHostConfig {
    pub(super) memory: i64,
    #[serde(deserialize_with = "nullable")]
    pub(super) port_bindings: PortMap,
}

/// A container's addresses.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct InspectNetwork {
    #[serde(flatten)]
    pub(super) own: Addresses,
    #[serde(rename = "Networks", deserialize_with = "nullable")]
    pub(super) networks: BTreeMap<String, Addresses>,
    /// For a member of a pod these are the pod's.
    #[serde(rename = "Ports", deserialize_with = "nullable")]
    pub(super) ports: PortMap,
}

/// An element of `GET /containers/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) names: Vec<String>,
    pub(super) image: String,
    pub(super) created: String,
    pub(super) state: String,
    /// Version 5 has the health here.
    pub(super) status: String,
    pub(super) exit_code: i32,
    pub(super) started_at: i64,
    pub(super) exited_at: i64,
    pub(super) pid: i32,
    pub(super) is_infra: bool,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Strings,
    #[serde(deserialize_with = "nullable")]
    pub(super) ports: Vec<PortMapping>,
    #[serde(deserialize_with = "nullable")]
    pub(super) networks: Vec<String>,
}

/// A published port or range, given and taken.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct PortMapping {
    pub(super) host_ip: String,
    pub(super) container_port: u16,
    pub(super) host_port: u16,
    pub(super) range: u16,
    /// Several with commas between.
    pub(super) protocol: String,
}

/// An element of the report of a removal; 200 may still carry an error.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Report {
    pub(super) err: serde_json::Value,
}

/// `GET /images/{name}/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Image {
    pub(super) id: String,
    /// `user`, `user:group`, names or numbers; empty is root.
    pub(super) user: String,
}

/// A network, given and taken.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) driver: String,
    pub(super) dns_enabled: bool,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Strings,
}

/// A pod, inspected or listed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Pod {
    pub(super) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Strings,
    #[serde(rename = "InfraContainerID")]
    pub(super) infra_id: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) containers: Vec<PodMember>,
}

/// A container of a pod.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct PodMember {
    pub(super) id: String,
    pub(super) name: String,
    /// In Podman's words; inspected pods alone.
    pub(super) state: String,
}

/// `GET /containers/stats`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct StatsReport {
    pub(super) error: serde_json::Value,
    #[serde(deserialize_with = "nullable")]
    pub(super) stats: Vec<Stats>,
}

/// One container's use.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Stats {
    #[serde(rename = "CPUNano")]
    pub(super) cpu_nano: u64,
    pub(super) mem_usage: u64,
    pub(super) mem_limit: u64,
    #[serde(rename = "PIDs")]
    pub(super) pids: u64,
    /// Version 4.
    pub(super) net_input: u64,
    /// Version 4.
    pub(super) net_output: u64,
    /// Version 5, by interface.
    #[serde(deserialize_with = "nullable")]
    pub(super) network: BTreeMap<String, InterfaceStats>,
    pub(super) block_input: u64,
    pub(super) block_output: u64,
}

/// One interface's use.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct InterfaceStats {
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
}

/// `GET /exec/{id}/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ExecState {
    pub(super) running: bool,
    pub(super) exit_code: i32,
}
