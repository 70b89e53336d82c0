//! Whether Podman answers, and what it can do on this node.

use std::path::Path;
use std::time::{Duration, Instant};

use super::ENGINE;
use super::client::{Client, Greeting};
use super::wire::{Info, InfoHost};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, NoProgress, Probe, RuntimeCapabilities};

/// The whole probe: `RuntimeAdapter::probe` answers within 2 s.
const TIMEOUT: Duration = Duration::from_millis(1900);

/// How long the engine's view of the node holds, unless another version answers.
const VIEW_HOLDS: Duration = Duration::from_secs(300);

/// What the engine can do, as far as it is known.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// That.
    pub(super) capabilities: RuntimeCapabilities,
    /// Who said so, and when; `None` where it is assumed.
    proved: Option<(Greeting, Instant)>,
}

/// Asks the engine for its version and, where that is not known yet, for its view of the node.
///
/// The greeting alone decides whether it is available. Its view of the node takes it some 200 ms and on a busy machine
/// more than a probe has; until it is known, the engine counts as one that has what Podman has.
pub(super) fn probe(client: &Client, known: Known) -> (Probe, Known) {
    let cancel = CancelToken::new();
    let call = Call { deadline: Deadline::after(TIMEOUT), cancel: &cancel, progress: &NoProgress };
    // A restarted engine may be another version.
    let greeting = match client.greet(&call) {
        Ok(greeting) => greeting,
        Err(error) => return (Probe::Unavailable { reason: error.to_string() }, Known::default()),
    };
    let available = Probe::Available { version: greeting.version.clone(), api: greeting.api_version.clone() };
    if known.proved.as_ref().is_some_and(|(by, at)| *by == greeting && at.elapsed() < VIEW_HOLDS) {
        return (available, known);
    }
    match client.get::<Info>(&call, "info", "/info") {
        Ok(info) => {
            let proved = Some((greeting, Instant::now()));
            (available, Known { capabilities: capabilities(&info.host), proved })
        }
        Err(error) => {
            log::warn!("what {ENGINE} can do here is not known yet: {error}");
            let is_new = known.capabilities == RuntimeCapabilities::default();
            let assumed = Known { capabilities: capabilities(&assumed()), proved: None };
            (available, if is_new { assumed } else { known })
        }
    }
}

/// A node on which nothing is missing.
fn assumed() -> InfoHost {
    InfoHost { cgroup_controllers: LIMITS.map(str::to_owned).to_vec(), ..InfoHost::default() }
}

/// The controllers that limits need.
const LIMITS: [&str; 3] = ["cpu", "memory", "pids"];

fn capabilities(host: &InfoHost) -> RuntimeCapabilities {
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
        let mut host = InfoHost { cgroup_version: "v1".to_owned(), ..assumed() };
        assert!(capabilities(&host).supports_resource_limits);
        host.security.rootless = true;
        let found = capabilities(&host);
        assert!(!found.supports_resource_limits && !found.supports_pause && found.supports_exec);
    }

    #[test]
    fn engine_without_event_log_has_no_events() {
        let host = InfoHost { event_logger: "none".to_owned(), ..InfoHost::default() };
        assert!(!capabilities(&host).supports_events);
    }
}
