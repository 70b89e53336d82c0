//! Whether Docker answers, and what it can do on this node.

use std::time::{Duration, Instant};

use super::ENGINE;
use super::client::{Client, Greeting};
use super::wire::Info;
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

/// Asks the engine for its version and, where that is not known yet, for its view of the node. The greeting alone decides
/// whether it is available; until its view is known it counts as one that can limit everything.
pub(super) fn probe(client: &Client, known: Known) -> (Probe, Known) {
    let cancel = CancelToken::new();
    let call = Call { deadline: Deadline::after(TIMEOUT), cancel: &cancel, progress: &NoProgress };
    // A restarted engine may be another version.
    let greeting = match client.greet(&call) {
        Ok(greeting) => greeting,
        Err(error) => return (Probe::Unavailable { reason: error.to_string() }, Known::default()),
    };
    let available = Probe::Available { version: greeting.version.clone(), api: greeting.api.to_string() };
    if known.proved.as_ref().is_some_and(|(by, at)| *by == greeting && at.elapsed() < VIEW_HOLDS) {
        return (available, known);
    }
    match client.get::<Info>(&call, "info", "/info") {
        Ok(info) => {
            let proved = Some((greeting, Instant::now()));
            (available, Known { capabilities: capabilities(info), proved })
        }
        Err(error) => {
            log::warn!("what {ENGINE} can do here is not known yet: {error}");
            let assumed = Info { memory_limit: true, cpu_cfs_quota: true, pids_limit: true };
            let is_new = known.capabilities == RuntimeCapabilities::default();
            (available, if is_new { Known { capabilities: capabilities(assumed), proved: None } } else { known })
        }
    }
}

fn capabilities(info: Info) -> RuntimeCapabilities {
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
