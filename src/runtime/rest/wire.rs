//! What these engines give in the same form: Podman's REST service was made after Docker's Engine API.
//!
//! Source: the Engine API 1.41 to 1.47 (`api/swagger.yaml` of Moby), and `libpod/define` and `pkg/domain/entities` of
//! Podman 4.3.1 and 5.4.2. Unknown fields are passed over.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::runtime::shared::json::nullable;

/// Labels and the like.
pub type Strings = BTreeMap<String, String>;

/// Published ports by `80/tcp`.
pub type PortMap = BTreeMap<String, Option<Vec<HostPort>>>;

/// One published port.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HostPort {
    /// The address; may be empty.
    pub host_ip: String,
    /// The port in digits; empty where it is to be chosen.
    pub host_port: String,
}

/// Addresses on one network.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Addresses {
    /// Empty for none.
    #[serde(rename = "IPAddress")]
    pub v4: String,
    /// Empty for none.
    #[serde(rename = "GlobalIPv6Address")]
    pub v6: String,
}

/// What the last health check said.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthState {
    /// The engine's word.
    pub status: String,
}

/// `POST /containers/create` gives this.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Created {
    /// The container's id.
    pub id: String,
    /// What of the request was dropped.
    #[serde(deserialize_with = "nullable")]
    pub warnings: Vec<String>,
}

/// The id of what was made.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MadeId {
    /// That.
    pub id: String,
}

/// A volume.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its labels.
    #[serde(deserialize_with = "nullable")]
    pub labels: Strings,
}

/// A line of a pull's answer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PullLine {
    /// A line of text, from a path that does not tell bytes.
    pub stream: String,
    /// Why it failed; empty where it did not.
    pub error: String,
    /// What is done.
    pub status: String,
    /// The layer.
    pub id: String,
    /// How far it is.
    #[serde(rename = "progressDetail", deserialize_with = "nullable")]
    pub progress: PullProgress,
}

/// Bytes of one layer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct PullProgress {
    /// Done.
    pub current: i64,
    /// Of so many; 0 where that is not known.
    pub total: i64,
}

/// A line of `GET /events`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Event {
    /// The kind of object.
    #[serde(rename = "Type")]
    pub kind: String,
    /// What happened.
    #[serde(rename = "Action")]
    pub action: String,
    /// What it happened to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// Nanoseconds since the epoch.
    #[serde(rename = "timeNano")]
    pub time_nano: i64,
}

/// What an event happened to.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Actor {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The labels, with some of the engine's own among them.
    #[serde(rename = "Attributes", deserialize_with = "nullable")]
    pub attributes: Strings,
}
