//! What a container may do beyond an ordinary process, as a document asks for it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// A container's security settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecurityContext {
    /// All capabilities, all devices, no confinement.
    pub privileged: bool,
    /// Capabilities added to the engine's default set: upper case, without `CAP_`; `ALL` for all.
    pub add_capabilities: BTreeSet<String>,
    /// Capabilities taken from it; `ALL` for all.
    pub drop_capabilities: BTreeSet<String>,
    /// The user id of the first process.
    pub run_as_user: Option<u32>,
    /// The group id of the first process.
    pub run_as_group: Option<u32>,
    /// Groups beside.
    pub supplemental_groups: BTreeSet<u32>,
    /// Refuse a first process of user id 0.
    pub run_as_non_root: bool,
    /// The root file system is read-only.
    pub read_only_root: bool,
    /// Set-user-id programs give no privileges. `None` takes the engine's default.
    pub no_new_privileges: Option<bool>,
    /// The seccomp profile: `unconfined`, or a path of the node; `None` is the engine's default.
    pub seccomp_profile: Option<String>,
}
