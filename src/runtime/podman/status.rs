//! Podman's words for a container's state, ports and times, in ours. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::ENGINE;
use super::wire::{HostPort, Inspect, InspectState, Listed, PortMapping};
use crate::model::state::{ContainerStatus, Health};
use crate::model::workload::{PortSpec, Protocol};
use crate::runtime::adapter::ContainerInstance;

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
        health: super::wire::HealthState { status: container.status },
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

fn health(word: &str) -> Health {
    match word {
        "starting" => Health::Starting,
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        _ => Health::None,
    }
}

/// The cgroup as Podman tells it, or, where it does not, as the process says itself.
fn cgroup_path(state: &InspectState) -> String {
    if !state.cgroup_path.is_empty() {
        return state.cgroup_path.clone();
    }
    let of_process = std::fs::read_to_string(format!("/proc/{}/cgroup", state.pid)).unwrap_or_default();
    cgroup_of(&of_process)
}

/// From `/proc/PID/cgroup`: version 2's path, or on a hybrid tree that of the memory controller.
fn cgroup_of(text: &str) -> String {
    let entries = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let memory = entries().find(|(controllers, _)| controllers.split(',').any(|name| name == "memory"));
    let found = memory.or_else(|| entries().find(|(controllers, _)| controllers.is_empty()));
    found.map(|(_, path)| path.to_owned()).unwrap_or_default()
}

fn bindings(ports: &BTreeMap<String, Option<Vec<HostPort>>>) -> Vec<PortSpec> {
    let mut published = Vec::new();
    for (inside, hosts) in ports {
        let (port, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
        let (Ok(container_port), Some(protocol)) = (port.parse(), protocol_of(protocol)) else { continue };
        for host in hosts.iter().flatten() {
            published.push(PortSpec {
                host_ip: host.host_ip.clone(),
                host_port: host.host_port.parse().ok(),
                container_port,
                protocol,
            });
        }
    }
    published
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

/// The protocol of Podman's word; `None` where it is not one of ours.
fn protocol_of(word: &str) -> Option<Protocol> {
    match word.trim() {
        "tcp" | "" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// Podman's word for the protocol.
pub(super) fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

fn seconds(since_epoch: i64) -> u64 {
    u64::try_from(since_epoch).unwrap_or(0).saturating_mul(1000)
}

/// Milliseconds since the epoch; 0 for Go's zero time (year 1) and what is no time.
fn millis(rfc3339: &str) -> u64 {
    nanos(rfc3339) / 1_000_000
}

/// Nanoseconds since the epoch; 0 for Go's zero time (year 1) and what is no time.
pub(super) fn nanos(rfc3339: &str) -> u64 {
    let time = rfc3339.parse::<jiff::Timestamp>().map(|time| time.as_nanosecond());
    time.ok().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn times_before_the_epoch_are_none() {
        assert_eq!(millis("0001-01-01T00:00:00Z"), 0);
        assert_eq!(millis("1970-01-01T00:00:01.5Z"), 1500);
        assert_eq!(nanos("1970-01-01T01:00:00.000000001+01:00"), 1);
        assert_eq!(millis("soon"), 0);
    }

    #[test]
    fn cgroup_is_found_on_both_trees() {
        assert_eq!(cgroup_of("0::/libpod/x\n"), "/libpod/x");
        assert_eq!(cgroup_of("5:cpu,cpuacct:/c\n4:memory:/m\n0::/u\n"), "/m");
        assert_eq!(cgroup_of(""), "");
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
