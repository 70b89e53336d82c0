//! What Pullpiri's services know a workload by, annotations of its containers, and what they are asked for it.

use serde::{Deserialize, Serialize};

use super::workload::{ManifestFormat, WorkloadSpec};

/// The Scenario.
pub const SCENARIO: &str = "io.pullpiri.annotations.scenario";
/// The Package.
pub const PACKAGE: &str = "io.pullpiri.annotations.package";
/// The Policy.
pub const POLICY: &str = "io.pullpiri.annotations.policy";
/// The model.
pub const MODEL: &str = "io.pullpiri.annotations.model";
/// The model, where StateManager looks for it.
pub const STATE_MODELS: [&str; 2] = ["model", "pullpiri.model"];

/// The annotations of a workload; none where it belongs to no Package. Compose projects and Deployments are none.
pub fn annotations(spec: &WorkloadSpec) -> impl Iterator<Item = (String, String)> {
    let known = [(SCENARIO, &spec.scenario), (PACKAGE, &spec.package), (POLICY, &spec.policy), (MODEL, &spec.name)];
    let models = STATE_MODELS.map(|key| (key, &spec.name));
    let is_meant = !spec.package.is_empty() && spec.format == ManifestFormat::Pullpiri;
    let all = known.into_iter().chain(models).filter(move |(_, value)| is_meant && !value.is_empty());
    all.map(|(key, value)| (key.to_owned(), value.clone())).collect::<Vec<_>>().into_iter()
}

/// The network that a Scenario's documents describe, as texts for whoever sets it up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkOrder {
    /// The Node document.
    pub node: String,
    /// The Network document.
    pub network: String,
}
