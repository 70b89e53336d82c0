//! What the Engine API gives, as far as it is used; [`request`](super::request) has what it takes. Nothing else in this
//! folder knows its field names.
//!
//! Source: the Engine API 1.41 to 1.47 (`api/swagger.yaml` of Moby). What Podman gives in the same form is in
//! [`crate::runtime::rest::wire`].

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::runtime::rest::wire::{Addresses, HealthState, PortMap, Strings, Volume};
use crate::runtime::shared::json::nullable;

/// `GET /version`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Version {
    pub(super) version: String,
    pub(super) api_version: String,
    #[serde(rename = "MinAPIVersion")]
    pub(super) min_api_version: String,
}

/// `GET /info`: what the kernel lets the engine limit.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Info {
    pub(super) memory_limit: bool,
    pub(super) cpu_cfs_quota: bool,
    pub(super) pids_limit: bool,
}

/// `GET /containers/{id}/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Inspect {
    pub(super) id: String,
    /// With a slash before it.
    pub(super) name: String,
    pub(super) created: String,
    pub(super) state: InspectState,
    pub(super) config: InspectConfig,
    pub(super) host_config: InspectHostConfig,
    pub(super) network_settings: NetworkSettings,
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
    #[serde(deserialize_with = "nullable")]
    pub(super) health: HealthState,
}

/// A container's own configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct InspectConfig {
    /// The reference that it was created from.
    pub(super) image: String,
    pub(super) tty: bool,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Strings,
}

/// A container's configuration towards the host.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct InspectHostConfig {
    pub(super) memory: i64,
    #[serde(deserialize_with = "nullable")]
    pub(super) cap_add: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) port_bindings: PortMap,
}

/// A container's networks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    #[serde(deserialize_with = "nullable")]
    pub(super) networks: BTreeMap<String, Addresses>,
    #[serde(deserialize_with = "nullable")]
    pub(super) ports: PortMap,
}

/// An element of `GET /containers/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Listed {
    pub(super) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Strings,
    pub(super) network_settings: NetworkSettings,
}

/// `POST /containers/{id}/wait` gives this.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Waited {
    pub(super) status_code: i64,
}

/// `GET /images/{name}/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Image {
    pub(super) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) config: ImageConfig,
}

/// What an image says of its containers.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ImageConfig {
    /// `user`, `user:group`, names or numbers; empty is root.
    pub(super) user: String,
}

/// A network.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Network {
    pub(super) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Strings,
}

/// `GET /volumes`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Volumes {
    #[serde(deserialize_with = "nullable")]
    pub(super) volumes: Vec<Volume>,
}

/// `GET /containers/{id}/stats`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stats {
    pub(super) cpu_stats: CpuStats,
    pub(super) memory_stats: MemoryStats,
    pub(super) pids_stats: PidsStats,
    /// By interface.
    #[serde(deserialize_with = "nullable")]
    pub(super) networks: BTreeMap<String, InterfaceStats>,
    pub(super) blkio_stats: BlockStats,
}

/// CPU time.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CpuStats {
    pub(super) cpu_usage: CpuUsage,
}

/// Nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CpuUsage {
    pub(super) total_usage: u64,
}

/// Bytes.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct MemoryStats {
    pub(super) usage: u64,
    pub(super) limit: u64,
    /// The kernel's counters: `total_inactive_file` on cgroup v1, `inactive_file` on v2.
    #[serde(deserialize_with = "nullable")]
    pub(super) stats: BTreeMap<String, u64>,
}

/// Processes and threads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PidsStats {
    pub(super) current: u64,
}

/// One interface's use.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct InterfaceStats {
    pub(super) rx_bytes: u64,
    pub(super) tx_bytes: u64,
}

/// Block devices.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BlockStats {
    #[serde(deserialize_with = "nullable")]
    pub(super) io_service_bytes_recursive: Vec<BlockEntry>,
}

/// One device's counter; `op` is `Read` on cgroup v1 and `read` on v2.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BlockEntry {
    pub(super) op: String,
    pub(super) value: u64,
}

/// `GET /exec/{id}/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ExecState {
    pub(super) running: bool,
    /// `null` while it runs.
    pub(super) exit_code: Option<i32>,
}
