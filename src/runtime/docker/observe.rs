//! What containers use, and what happens to them.

use super::ENGINE;
use super::client::Client;
use super::lifecycle::inspect;
use super::status::status;
use super::wire::{InterfaceStats, Stats};
use crate::runtime::adapter::{BlockingStream, Call, ContainerStats, EngineEvent, EngineEventKind, RtResult};
use crate::runtime::rest::events::{since_now, stream};
use crate::runtime::rest::exchange::{NO_BODY, path};
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
    let stats: Stats = client.get(call, "stats", &path(&container.id, "stats?stream=false&one-shot=true"))?;
    let memory = &stats.memory_stats;
    if stats.pids_stats.current == 0 && memory.usage == 0 {
        // It ended between the two requests.
        return Err(not_allowed("stats", id, &status(&inspect(client, call, &container.id)?.state)));
    }
    // What the kernel can take back at once is no use, as Docker's own command tells it.
    let reclaimable = ["total_inactive_file", "inactive_file"].iter().find_map(|key| memory.stats.get(*key));
    let over_interfaces = |of: fn(&InterfaceStats) -> u64| stats.networks.values().map(of).sum::<u64>();
    let on_devices = |op: &str| {
        let entries = stats.blkio_stats.io_service_bytes_recursive.iter();
        entries.filter(|entry| entry.op.eq_ignore_ascii_case(op)).map(|entry| entry.value).sum::<u64>()
    };
    Ok(ContainerStats {
        cpu_ns: stats.cpu_stats.cpu_usage.total_usage,
        memory_bytes: memory.usage.saturating_sub(reclaimable.copied().unwrap_or(0)),
        // Without a limit Docker gives the node's memory.
        memory_limit_bytes: if container.host_config.memory > 0 { memory.limit } else { 0 },
        pids: stats.pids_stats.current,
        rx_bytes: over_interfaces(|interface| interface.rx_bytes),
        tx_bytes: over_interfaces(|interface| interface.tx_bytes),
        read_bytes: on_devices("read"),
        write_bytes: on_devices("write"),
    })
}

/// Opens the stream of events.
pub(super) fn watch(client: &Client, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
    client.api(call)?;
    let filters = encode(r#"{"type":["container"]}"#);
    let path = format!("/events?since={}&filters={filters}", since_now());
    Ok(stream(ENGINE, client.stream(call, "events", Method::Get, &path, NO_BODY)?, translate))
}

/// The event in our words; `None` for what means nothing here, such as a signal or a command inside.
fn translate(event: Event) -> Option<EngineEvent> {
    if event.kind != "container" {
        return None;
    }
    let mut labels: Strings = event.actor.attributes;
    let exit_code = labels.remove("exitCode").and_then(|code| code.parse().ok());
    let kind = match event.action.as_str() {
        "create" => EngineEventKind::Created,
        "start" => EngineEventKind::Started,
        "die" => EngineEventKind::Died { exit_code },
        "oom" => EngineEventKind::OutOfMemory,
        "pause" => EngineEventKind::Paused,
        "unpause" => EngineEventKind::Resumed,
        "destroy" => EngineEventKind::Removed,
        _ => return None,
    };
    let name = labels.remove("name").unwrap_or_default();
    for engines_own in ["image", "execDuration"] {
        labels.remove(engines_own);
    }
    labels.retain(|key, _| !key.starts_with(super::ANNOTATION));
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
        let text = r#"{"Type":"container","Action":"die","timeNano":7,"Actor":{"ID":"i","Attributes":
            {"name":"n","image":"x","execDuration":"3","exitCode":"3","a":"b","actioncontroller.io/annotation.c":"d"}}}"#;
        let event = read(text).unwrap();
        assert_eq!(event.kind, EngineEventKind::Died { exit_code: Some(3) });
        assert_eq!((event.name.as_str(), event.time_ns), ("n", 7));
        assert_eq!(event.labels, Strings::from([("a".to_owned(), "b".to_owned())]));
    }

    #[test]
    fn signal_and_command_inside_are_no_events() {
        for action in ["kill", "exec_start: sh", "stop", "restart"] {
            let text = format!(r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"i","Attributes":null}}}}"#);
            assert_eq!(read(&text), None, "{action}");
        }
        assert_eq!(read(r#"{"Type":"network","Action":"destroy"}"#), None);
    }
}
