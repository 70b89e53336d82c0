//! What unit tests of adapters call them with.

use std::collections::BTreeMap;
use std::time::Duration;

use super::adapter::{Call, ContainerConfig, NoProgress};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::model::security::SecurityContext;
use crate::model::workload::{ContainerSpec, NetworkMode, PullPolicy};

/// A call that has this time.
pub fn call(cancel: &CancelToken, budget: Duration) -> Call<'_> {
    Call { deadline: Deadline::after(budget), cancel, progress: &NoProgress }
}

/// A container of this name that asks for nothing but to run.
pub fn config(name: &str) -> ContainerConfig {
    let spec = ContainerSpec {
        name: "c".to_owned(),
        image: "localhost/i:1".to_owned(),
        rootfs: String::new(),
        unit: String::new(),
        pull: PullPolicy::IfNotPresent,
        command: vec!["run".to_owned()],
        args: vec!["arg".to_owned()],
        working_dir: String::new(),
        env: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Resources::default(),
        security: SecurityContext::default(),
        stdin: false,
        tty: false,
        liveness: None,
    };
    ContainerConfig {
        name: name.to_owned(),
        spec,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        pod: None,
        network: NetworkMode::None,
        aliases: Vec::new(),
        ports: Vec::new(),
        hostname: String::new(),
        host_ipc: false,
        host_pid: false,
        mounts: Vec::new(),
    }
}
