//! What Podman's REST API gives, as far as it is used; [`request`](super::request) has what it takes. Nothing else in
//! this folder knows its field names.
//!
//! Source: `libpod/define`, `pkg/specgen` and `pkg/domain/entities` of Podman 4.3.1 and 5.4.2. Go writes empty lists
//! and maps as `null`, hence [`nullable`]; unknown fields are passed over, as both versions have many.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// Reads `null` as the empty value.
fn nullable<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Labels and the like.
pub(super) type Strings = BTreeMap<String, String>;

/// The document of a refusal. The compat paths give the message alone.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    pub(super) cause: String,
    pub(super) message: String,
}

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

/// `POST /containers/create` gives this.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Created {
    pub(super) id: String,
    #[serde(deserialize_with = "nullable")]
    pub(super) warnings: Vec<String>,
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

/// A line of a pull's answer, of both the libpod and the compat path.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct PullLine {
    pub(super) stream: String,
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

/// A volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct Volume {
    pub(super) name: String,
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
    pub(super) exit_code: i32,
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
