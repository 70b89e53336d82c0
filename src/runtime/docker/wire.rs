//! What the Engine API gives, as far as it is used; [`request`](super::request) has what it takes. Nothing else in this
//! folder knows its field names.
//!
//! Source: the Engine API 1.41 to 1.47 (`api/swagger.yaml` of Moby). Go writes empty lists and maps as `null`, hence
//! [`nullable`]; unknown fields are passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// Reads `null` as the empty value.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Labels and the like.
pub(super) type Strings = BTreeMap<String, String>;

/// The document of a refusal.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    pub(super) message: String,
}

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

/// What the last health check said.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HealthState {
    pub(super) status: String,
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
    /// By `80/tcp`.
    #[serde(deserialize_with = "nullable")]
    pub(super) port_bindings: BTreeMap<String, Option<Vec<HostPort>>>,
}

/// One published port.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct HostPort {
    pub(super) host_ip: String,
    pub(super) host_port: String,
}

/// A container's networks.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct NetworkSettings {
    #[serde(deserialize_with = "nullable")]
    pub(super) networks: BTreeMap<String, Addresses>,
    #[serde(deserialize_with = "nullable")]
    pub(super) ports: BTreeMap<String, Option<Vec<HostPort>>>,
}

/// Addresses on one network.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Addresses {
    #[serde(rename = "IPAddress")]
    pub(super) v4: String,
    #[serde(rename = "GlobalIPv6Address")]
    pub(super) v6: String,
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

/// `POST /containers/create` gives this.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) warnings: Vec<String>,
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

/// A line of a pull's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PullLine {
    pub(super) error: String,
    pub(super) status: String,
    pub(super) id: String,
    #[serde(rename = "progressDetail", deserialize_with = "nullable")]
    pub(super) progress: PullProgress,
}

/// Bytes of one layer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PullProgress {
    pub(super) current: i64,
    pub(super) total: i64,
}

/// A network.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Network {
    pub(super) name: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) labels: Strings,
}

/// A volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Volume {
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

/// The id of what was made.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct MadeId {
    pub(super) id: String,
}

/// `GET /exec/{id}/json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct ExecState {
    pub(super) running: bool,
    /// `null` while it runs.
    pub(super) exit_code: Option<i32>,
}

/// A line of `GET /events`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    #[serde(rename = "Type")]
    pub(super) kind: String,
    #[serde(rename = "Action")]
    pub(super) action: String,
    #[serde(rename = "Actor")]
    pub(super) actor: Actor,
    #[serde(rename = "timeNano")]
    pub(super) time_nano: i64,
}

/// What it happened to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Actor {
    #[serde(rename = "ID")]
    pub(super) id: String,
    /// The labels, with some of the engine's own among them.
    #[serde(rename = "Attributes", deserialize_with = "nullable")]
    pub(super) attributes: Strings,
}
