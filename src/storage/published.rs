//! What this daemon writes into a shared store: JSON under keys of its own, never under those of Pullpiri's services.
//!
//! | key | value |
//! |---|---|
//! | `/actioncontroller/v1/nodes/{node}/owner` | the instance that acts for the node, as long as it lives (where the store has leases) |
//! | `/actioncontroller/v1/nodes/{node}/delivered` | the instance and number of what was delivered last |
//! | `/actioncontroller/v1/nodes/{node}/actions/{id}` | [`PublishedAction`], once an action has ended, as long as this node keeps it |
//! | `/actioncontroller/v1/nodes/{node}/workloads/{name}` | [`PublishedWorkload`], while the workload is known |
//! | `/actioncontroller/v1/nodes/{node}/misses` | [`MissesDocument`](super::misses::MissesDocument), once a real-time task has missed a deadline |
//! | `/actioncontroller/v1/packages/{name}` | [`PublishedPackage`], while a workload of it is known to a node |
//!
//! Readers pass over fields that they do not know: more may come.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::action::{ActionState, Failure, Outcome, Verb};

/// What every key begins with.
const ROOT: &str = "/actioncontroller/v1";

/// The key of the instance that acts for a node.
pub fn owner(node: &str) -> String {
    format!("{ROOT}/nodes/{node}/owner")
}

/// The key of what was delivered last.
pub fn delivered(node: &str) -> String {
    format!("{ROOT}/nodes/{node}/delivered")
}

/// The key of an ended action.
pub fn action(node: &str, id: &str) -> String {
    format!("{ROOT}/nodes/{node}/actions/{id}")
}

/// The key of a workload.
pub fn workload(node: &str, name: &str) -> String {
    format!("{ROOT}/nodes/{node}/workloads/{name}")
}

/// The key of missed deadlines.
pub fn misses(node: &str) -> String {
    format!("{ROOT}/nodes/{node}/misses")
}

/// The key of a Package.
pub fn package(name: &str) -> String {
    format!("{ROOT}/packages/{name}")
}

/// An ended action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedAction {
    /// Its id.
    pub id: String,
    /// What it did.
    pub verb: Verb,
    /// To what.
    pub target: String,
    /// How it ended.
    pub state: ActionState,
    /// Whether it changed anything.
    pub changed: bool,
    /// One sentence for people.
    pub message: String,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
    /// Engine ids by workload and container.
    pub workloads: BTreeMap<String, BTreeMap<String, String>>,
    /// The engine that did it.
    pub engine: String,
    /// Milliseconds since the epoch.
    pub accepted_ms: u64,
    /// Milliseconds since the epoch.
    pub ended_ms: u64,
}

impl From<&Outcome> for PublishedAction {
    fn from(outcome: &Outcome) -> Self {
        Self {
            id: outcome.action_id.clone(),
            verb: outcome.verb,
            target: outcome.target.clone(),
            state: outcome.state,
            changed: outcome.changed,
            message: outcome.message.clone(),
            failure: outcome.failure.clone(),
            workloads: outcome.workloads.clone(),
            engine: outcome.engine.clone(),
            accepted_ms: outcome.accepted_ms,
            ended_ms: outcome.ended_ms,
        }
    }
}

/// A workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedWorkload {
    /// Its name.
    pub name: String,
    /// The node whose Action Controller is in charge of it.
    pub node: String,
    /// The other node that it runs on; empty for this one.
    pub runs_on: String,
    /// Its Package; may be empty.
    pub package: String,
    /// The Scenario; may be empty.
    pub scenario: String,
    /// What it shall be doing: `running`, `stopped`, `paused`; empty without a record.
    pub desired: String,
    /// What it is doing, in the word of `actionctl ps`; `unknown` where its engine or node does not tell.
    pub actual: String,
    /// Its containers here.
    pub containers: Vec<PublishedContainer>,
    /// The fingerprint of its description.
    pub revision: String,
    /// Its engine; empty on another node.
    pub engine: String,
    /// The action that last changed it.
    pub action_id: String,
    /// Milliseconds since the epoch of that change.
    pub updated_ms: u64,
}

/// A container of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedContainer {
    /// The engine's name of it.
    pub name: String,
    /// The engine's id of it.
    pub id: String,
    /// What it is doing.
    pub state: String,
    /// Its exit code, where it has ended and that is known.
    pub exit_code: Option<i32>,
}

/// A Package, whose workloads may be in the charge of several nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedPackage {
    /// Its name.
    pub name: String,
    /// Its workloads, by name.
    pub workloads: BTreeMap<String, PackageMember>,
}

/// A workload of a Package.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageMember {
    /// The node whose Action Controller is in charge of it.
    pub node: String,
    /// The node that it runs on.
    pub runs_on: String,
    /// What it shall be doing.
    pub desired: String,
    /// The fingerprint of its description.
    pub revision: String,
}

impl PublishedPackage {
    /// The Package with the workloads of `node` as they are here, and those of other nodes as they are in `other`.
    #[must_use]
    pub fn merged_over(mut self, other: Self, node: &str) -> Self {
        let others = other.workloads.into_iter().filter(|(_, member)| member.node != node);
        for (name, member) in others {
            self.workloads.entry(name).or_insert(member);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(node: &str, desired: &str) -> PackageMember {
        PackageMember { node: node.into(), desired: desired.into(), ..PackageMember::default() }
    }

    #[test]
    fn package_keeps_what_other_nodes_wrote_and_forgets_what_this_one_no_longer_has() {
        let package = |members: &[(&str, PackageMember)]| PublishedPackage {
            name: "p".into(),
            workloads: members.iter().map(|(name, member)| ((*name).to_owned(), member.clone())).collect(),
        };
        let stored = package(&[
            ("mine", member("A", "running")),
            ("gone", member("A", "running")),
            ("theirs", member("B", "running")),
        ]);
        let now = package(&[("mine", member("A", "stopped"))]);
        let merged = now.merged_over(stored, "A");
        assert_eq!(merged, package(&[("mine", member("A", "stopped")), ("theirs", member("B", "running"))]));
    }
}
