//! Whether containerd answers, and what it can do on this node.

use std::time::Duration;

use protobuf::well_known_types::empty::Empty;

use super::ENGINE;
use super::client::Client;
use crate::cancel::CancelToken;
use crate::cgroup::Cgroups;
use crate::clock::Deadline;
use crate::proto::containerd_version_grpc::VERSION_VERSION;
use crate::runtime::adapter::{Call, NoProgress, Probe, RtResult, RuntimeCapabilities, RuntimeError};

/// A local service answers in some milliseconds, and a probe has 2 s.
const LIMIT: Duration = Duration::from_millis(1500);

/// Its API as it is spoken here.
const API: &str = "v1";

/// Whether it answers, and what it can do.
pub(super) fn probe(client: &Client) -> (Probe, RuntimeCapabilities) {
    let cancel = CancelToken::new();
    let call = Call { deadline: Deadline::after(LIMIT), cancel: &cancel, progress: &NoProgress };
    match version(client, &call) {
        Ok(version) => (Probe::Available { version, api: API.to_owned() }, capabilities()),
        Err(error) => {
            client.forget();
            (Probe::Unavailable { reason: reason(error) }, RuntimeCapabilities::default())
        }
    }
}

/// What is told of an engine that is away does not name it a second time.
fn reason(error: RuntimeError) -> String {
    match error {
        RuntimeError::EngineNotAvailable { reason, .. } => reason,
        other => other.to_string(),
    }
}

fn version(client: &Client, call: &Call) -> RtResult<String> {
    let answer = client.own().ask(call, "version", &VERSION_VERSION, &Empty::new())?;
    match answer.version.is_empty() {
        false => Ok(answer.version.trim_start_matches('v').to_owned()),
        true => {
            let reason = format!("what answers on {} is not {ENGINE}", client.socket().display());
            Err(RuntimeError::EngineNotAvailable { engine: ENGINE.to_owned(), reason })
        }
    }
}

fn capabilities() -> RuntimeCapabilities {
    let groups = Cgroups::read().unwrap_or_default();
    RuntimeCapabilities {
        supports_pause: groups.has("freezer"),
        supports_exec: true,
        supports_stats: groups.has("cpuacct") && groups.has("memory"),
        supports_logs: true,
        supports_events: true,
        supports_image_pull: true,
        supports_resource_limits: ["memory", "cpu", "pids"].into_iter().all(|name| groups.has(name)),
        supports_rootfs: true,
        ..RuntimeCapabilities::default()
    }
}
