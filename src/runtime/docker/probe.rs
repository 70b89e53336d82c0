//! What Docker can do on this node.

use super::client::{Api, Client};
use super::wire::Info;
use crate::runtime::adapter::{Probe, RuntimeCapabilities};
use crate::runtime::rest;

/// What is known of it.
pub(super) type Known = rest::probe::Known<Api>;

/// Whether it answers, and what it can do.
pub(super) fn probe(client: &Client, known: Known) -> (Probe, Known) {
    let assumed = Info { memory_limit: true, cpu_cfs_quota: true, pids_limit: true };
    rest::probe::probe(client, known, capabilities, &assumed)
}

fn capabilities(info: &Info) -> RuntimeCapabilities {
    RuntimeCapabilities {
        supports_pause: true,
        supports_exec: true,
        supports_stats: true,
        supports_logs: true,
        supports_events: true,
        supports_native_healthcheck: true,
        supports_image_pull: true,
        supports_user_networks: true,
        supports_resource_limits: info.memory_limit && info.cpu_cfs_quota && info.pids_limit,
        ..RuntimeCapabilities::default()
    }
}
