//! Podman's words for a container's state, ports and times, in ours. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::ENGINE;
use super::wire::{Inspect, InspectState, Listed, PortMapping};
use crate::model::state::ContainerStatus;
use crate::model::workload::PortSpec;
use crate::runtime::adapter::ContainerInstance;
use crate::runtime::processes::group_of;
use crate::runtime::rest::told::{bindings, health, millis, protocol_of, seconds};
use crate::runtime::rest::wire::HealthState;

/// The instance of an inspected container.
pub(super) fn instance(inspect: Inspect) -> ContainerInstance {
    let status = status(&inspect.state);
    let live = status.is_live();
    let network = &inspect.network_settings;
    let addresses = network.networks.values().chain([&network.own]);
    let ips: BTreeSet<_> =
        addresses.flat_map(|own| [own.v4.clone(), own.v6.clone()]).filter(|ip| !ip.is_empty()).collect();
    let ports = if network.ports.is_empty() { &inspect.host_config.port_bindings } else { &network.ports };
    ContainerInstance {
        ports: bindings(ports),
        ips: ips.into_iter().collect(),
        id: inspect.id,
        name: inspect.name,
        engine: ENGINE.to_owned(),
        image: inspect.image_name,
        labels: inspect.config.labels,
        annotations: inspect.config.annotations,
        pid: if live { inspect.state.pid } else { 0 },
        cgroup_path: if live { cgroup_path(&inspect.state) } else { String::new() },
        created_ms: millis(&inspect.created),
        started_ms: millis(&inspect.state.started_at),
        finished_ms: if live { 0 } else { millis(&inspect.state.finished_at) },
        status,
    }
}

/// The instance of a listed container. The list does not tell addresses, annotations, the cgroup or out-of-memory.
pub(super) fn listed(container: Listed) -> ContainerInstance {
    let state = InspectState {
        status: container.state,
        exit_code: container.exit_code,
        health: HealthState { status: container.status },
        ..InspectState::default()
    };
    let status = status(&state);
    let live = status.is_live();
    ContainerInstance {
        name: container.names.into_iter().next().unwrap_or_default(),
        id: container.id,
        engine: ENGINE.to_owned(),
        image: container.image,
        labels: container.labels,
        annotations: BTreeMap::new(),
        ports: container.ports.iter().flat_map(mapping).collect(),
        ips: Vec::new(),
        pid: if live { container.pid } else { 0 },
        cgroup_path: String::new(),
        created_ms: millis(&container.created),
        started_ms: seconds(container.started_at),
        finished_ms: if live { 0 } else { seconds(container.exited_at) },
        status,
    }
}

/// The state (`define.ContainerStatus` of both versions).
pub(super) fn status(state: &InspectState) -> ContainerStatus {
    match state.status.as_str() {
        "configured" | "created" | "initialized" => ContainerStatus::Created,
        "running" => ContainerStatus::Running { health: health(&state.health.status) },
        "paused" => ContainerStatus::Paused,
        "stopping" | "removing" => ContainerStatus::Stopping,
        // Whether its checkpoint still counts is known to `runtime::hibernation` alone; by itself it was killed.
        "exited" | "stopped" if state.checkpointed => ContainerStatus::Exited { code: Some(137), oom: false },
        "exited" | "stopped" => {
            ContainerStatus::Exited { code: Some(state.exit_code).filter(|code| *code >= 0), oom: state.oom_killed }
        }
        other => {
            let detail = if state.error.is_empty() { String::new() } else { format!(": {}", state.error) };
            ContainerStatus::Failed { reason: format!("{ENGINE} reports the state '{other}'{detail}") }
        }
    }
}

/// The cgroup as Podman tells it, or, where it does not, as the process says itself.
fn cgroup_path(state: &InspectState) -> String {
    if !state.cgroup_path.is_empty() {
        return state.cgroup_path.clone();
    }
    group_of(state.pid)
}

fn mapping(port: &PortMapping) -> Vec<PortSpec> {
    let protocols = port.protocol.split(',').filter_map(protocol_of);
    let each = |protocol| {
        (0..port.range.max(1)).map(move |offset| PortSpec {
            host_ip: port.host_ip.clone(),
            host_port: Some(port.host_port.saturating_add(offset)),
            container_port: port.container_port.saturating_add(offset),
            protocol,
        })
    };
    protocols.flat_map(each).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::Health;
    use crate::model::workload::Protocol;

    fn state(word: &str) -> InspectState {
        InspectState { status: word.to_owned(), ..InspectState::default() }
    }

    #[test]
    fn every_word_of_podman_is_a_state_of_ours() {
        assert_eq!(status(&state("configured")), ContainerStatus::Created);
        assert_eq!(status(&state("running")), ContainerStatus::Running { health: Health::None });
        assert_eq!(status(&state("stopping")), ContainerStatus::Stopping);
        assert_eq!(status(&state("stopped")), ContainerStatus::Exited { code: Some(0), oom: false });
        assert!(matches!(status(&state("bad")), ContainerStatus::Failed { reason } if reason.contains("'bad'")));
    }

    #[test]
    fn killed_for_memory_is_told_from_other_ends() {
        let killed = InspectState { exit_code: 137, oom_killed: true, ..state("exited") };
        assert_eq!(status(&killed), ContainerStatus::Exited { code: Some(137), oom: true });
        let lost = InspectState { exit_code: -1, ..state("exited") };
        assert_eq!(status(&lost), ContainerStatus::Exited { code: None, oom: false });
    }

    #[test]
    fn ranges_of_ports_are_told_one_by_one() {
        let range = PortMapping {
            host_ip: "127.0.0.1".to_owned(),
            container_port: 80,
            host_port: 8080,
            range: 2,
            protocol: "tcp,udp".to_owned(),
        };
        let ports = mapping(&range);
        assert_eq!(ports.len(), 4);
        assert_eq!((ports[1].host_port, ports[1].container_port), (Some(8081), 81));
        assert_eq!(ports[3].protocol, Protocol::Udp);
    }
}
