//! What containers use, and what happens to them.

use super::client::Client;
use super::lifecycle::inspect;
use super::status::status;
use super::wire::StatsReport;
use super::{ENGINE, INFRA_ROLE};
use crate::model::workload::labels;
use crate::runtime::adapter::{
    BlockingStream, Call, ContainerStats, EngineEvent, EngineEventKind, RtResult, RuntimeError,
};
use crate::runtime::rest::events::{since_now, stream};
use crate::runtime::rest::exchange::NO_BODY;
use crate::runtime::rest::wire::{Event, Strings};
use crate::runtime::shared::calls::not_allowed;
use crate::transport::http::{Method, encode};

/// Its use of the node now.
pub(super) fn stats(client: &Client, call: &Call, id: &str) -> RtResult<ContainerStats> {
    let container = inspect(client, call, id)?;
    let state = status(&container.state);
    if !state.is_live() {
        return Err(not_allowed("stats", id, &state));
    }
    let path = format!("/containers/stats?containers={}&stream=false", encode(&container.id));
    let report: StatsReport = client.get(call, "stats", &path)?;
    let Some(stats) = report.stats.into_iter().next() else {
        if report.error.is_null() {
            // It ended between the two requests.
            return Err(not_allowed("stats", id, &status(&inspect(client, call, &container.id)?.state)));
        }
        return Err(RuntimeError::Engine {
            engine: ENGINE.to_owned(),
            op: "stats".to_owned(),
            code: 200,
            message: report.error.to_string(),
        });
    };
    let over_interfaces = |of: fn(&super::wire::InterfaceStats) -> u64| stats.network.values().map(of).sum::<u64>();
    Ok(ContainerStats {
        cpu_ns: stats.cpu_nano,
        memory_bytes: stats.mem_usage,
        // Without a limit Podman gives the node's memory.
        memory_limit_bytes: if container.host_config.memory > 0 { stats.mem_limit } else { 0 },
        pids: stats.pids,
        rx_bytes: stats.net_input + over_interfaces(|interface| interface.rx_bytes),
        tx_bytes: stats.net_output + over_interfaces(|interface| interface.tx_bytes),
        read_bytes: stats.block_input,
        write_bytes: stats.block_output,
    })
}

/// Opens the stream of events.
pub(super) fn watch(client: &Client, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
    client.api(call)?;
    let filters = encode(r#"{"type":["container"]}"#);
    let path = format!("/events?stream=true&since={}&filters={filters}", since_now());
    Ok(stream(ENGINE, client.stream(call, "events", Method::Get, &path, NO_BODY)?, translate))
}

/// The event in our words; `None` for what means nothing here.
fn translate(event: Event) -> Option<EngineEvent> {
    if event.kind != "container" {
        return None;
    }
    let mut labels: Strings = event.actor.attributes;
    if labels.get(labels::ROLE).is_some_and(|role| role == INFRA_ROLE) {
        return None;
    }
    let exit_code = labels.remove("containerExitCode").and_then(|code| code.parse().ok());
    let kind = match event.action.as_str() {
        "create" => EngineEventKind::Created,
        "start" => EngineEventKind::Started,
        "died" => EngineEventKind::Died { exit_code },
        "oom" => EngineEventKind::OutOfMemory,
        "pause" => EngineEventKind::Paused,
        "unpause" => EngineEventKind::Resumed,
        "checkpoint" => EngineEventKind::Hibernated,
        "restore" => EngineEventKind::Woken,
        "remove" => EngineEventKind::Removed,
        _ => return None,
    };
    let name = labels.remove("name").unwrap_or_default();
    for engines_own in ["image", "podId"] {
        labels.remove(engines_own);
    }
    let time_ns = u64::try_from(event.time_nano).unwrap_or(0);
    Some(EngineEvent { kind, id: event.actor.id, name, labels, time_ns })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<EngineEvent> {
        translate(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn death_carries_its_code_and_labels_without_the_engines_own() {
        let text = r#"{"Type":"container","Action":"died","timeNano":7,"Actor":{"ID":"i","Attributes":
            {"name":"n","image":"x","podId":"","containerExitCode":"3","a":"b"}}}"#;
        let event = read(text).unwrap();
        assert_eq!(event.kind, EngineEventKind::Died { exit_code: Some(3) });
        assert_eq!((event.name.as_str(), event.time_ns), ("n", 7));
        assert_eq!(event.labels, Strings::from([("a".to_owned(), "b".to_owned())]));
    }

    #[test]
    fn kill_of_a_living_container_and_a_pods_infra_are_no_events() {
        assert_eq!(read(r#"{"Type":"container","Action":"kill","Actor":{"ID":"i","Attributes":null}}"#), None);
        let infra = r#"{"Type":"container","Action":"start","Actor":{"ID":"i","Attributes":
            {"actioncontroller.io/role":"infra"}}}"#;
        assert_eq!(read(infra), None);
        assert_eq!(read(r#"{"Type":"pod","Action":"remove"}"#), None);
    }
}
