//! What Podman can do on this node.

use std::path::Path;

use super::client::{Api, Client};
use super::wire::{Info, InfoHost};
use crate::runtime::adapter::{Probe, RuntimeCapabilities};
use crate::runtime::rest;

/// What is known of it.
pub(super) type Known = rest::probe::Known<Api>;

/// Whether it answers, and what it can do.
pub(super) fn probe(client: &Client, known: Known) -> (Probe, Known) {
    rest::probe::probe(client, known, capabilities, &assumed())
}

/// A node on which nothing is missing.
fn assumed() -> Info {
    Info { host: InfoHost { cgroup_controllers: LIMITS.map(str::to_owned).to_vec(), ..InfoHost::default() } }
}

/// The controllers that limits need.
const LIMITS: [&str; 3] = ["cpu", "memory", "pids"];

fn capabilities(info: &Info) -> RuntimeCapabilities {
    let host = &info.host;
    // A user's containers have no cgroup of their own on version 1.
    let has_cgroups = !(host.security.rootless && host.cgroup_version == "v1");
    let has = |controller: &str| host.cgroup_controllers.iter().any(|name| name == controller);
    RuntimeCapabilities {
        supports_pause: has_cgroups,
        supports_exec: true,
        supports_stats: has_cgroups,
        supports_logs: true,
        supports_events: host.event_logger != "none",
        // Podman's health checks are timers of systemd.
        supports_native_healthcheck: Path::new("/run/systemd/system").exists(),
        supports_image_pull: true,
        supports_user_networks: true,
        supports_resource_limits: has_cgroups && LIMITS.into_iter().all(has),
        supports_pods: true,
        ..RuntimeCapabilities::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_on_the_first_cgroup_version_has_no_limits_and_no_freezer() {
        let mut info = assumed();
        info.host.cgroup_version = "v1".to_owned();
        assert!(capabilities(&info).supports_resource_limits);
        info.host.security.rootless = true;
        let found = capabilities(&info);
        assert!(!found.supports_resource_limits && !found.supports_pause && found.supports_exec);
    }

    #[test]
    fn engine_without_event_log_has_no_events() {
        let host = InfoHost { event_logger: "none".to_owned(), ..InfoHost::default() };
        assert!(!capabilities(&Info { host }).supports_events);
    }
}
