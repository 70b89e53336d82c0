//! Docker's words for a container's state and ports, in ours. Pure.

use std::collections::BTreeSet;

use super::wire::{Inspect, InspectState};
use super::{ANNOTATION, ENGINE};
use crate::model::state::ContainerStatus;
use crate::model::workload::PortSpec;
use crate::runtime::adapter::ContainerInstance;
use crate::runtime::processes::group_of;
use crate::runtime::rest::told::{bindings, health, millis};
use crate::runtime::rest::wire::PortMap;

/// The instance of an inspected container.
pub(super) fn instance(inspect: Inspect) -> ContainerInstance {
    let status = status(&inspect.state);
    let live = status.is_live();
    let networks = &inspect.network_settings;
    let addresses = networks.networks.values().flat_map(|own| [own.v4.clone(), own.v6.clone()]);
    let ips: BTreeSet<_> = addresses.filter(|ip| !ip.is_empty()).collect();
    let ports = if networks.ports.is_empty() { &inspect.host_config.port_bindings } else { &networks.ports };
    let (annotations, labels): (Vec<_>, Vec<_>) =
        inspect.config.labels.into_iter().partition(|(key, _)| key.starts_with(ANNOTATION));
    let bare = |(key, value): (String, String)| (key[ANNOTATION.len()..].to_owned(), value);
    ContainerInstance {
        ports: published(ports),
        ips: ips.into_iter().collect(),
        id: inspect.id,
        name: inspect.name.trim_start_matches('/').to_owned(),
        engine: ENGINE.to_owned(),
        image: inspect.config.image,
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().map(bare).collect(),
        pid: if live { inspect.state.pid } else { 0 },
        cgroup_path: if live { group_of(inspect.state.pid) } else { String::new() },
        created_ms: millis(&inspect.created),
        started_ms: millis(&inspect.state.started_at),
        finished_ms: if live { 0 } else { millis(&inspect.state.finished_at) },
        status,
    }
}

/// The state.
pub(super) fn status(state: &InspectState) -> ContainerStatus {
    match state.status.as_str() {
        // One whose start failed is as it was created.
        "created" => ContainerStatus::Created,
        "running" => ContainerStatus::Running { health: health(&state.health.status) },
        "paused" => ContainerStatus::Paused,
        "restarting" => ContainerStatus::Restarting,
        "removing" => ContainerStatus::Stopping,
        "exited" => ContainerStatus::Exited { code: Some(state.exit_code), oom: state.oom_killed },
        other => {
            let detail = if state.error.is_empty() { String::new() } else { format!(": {}", state.error) };
            ContainerStatus::Failed { reason: format!("{ENGINE} reports the state '{other}'{detail}") }
        }
    }
}

/// Published ports. Docker tells one that is bound to all addresses once for each family.
fn published(ports: &PortMap) -> Vec<PortSpec> {
    let mut published: Vec<PortSpec> = Vec::new();
    for mut port in bindings(ports) {
        if matches!(port.host_ip.as_str(), "0.0.0.0" | "::") {
            port.host_ip.clear();
        }
        if !published.contains(&port) {
            published.push(port);
        }
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::state::Health;
    use crate::model::workload::Protocol;
    use crate::runtime::rest::wire::HostPort;

    fn state(word: &str) -> InspectState {
        InspectState { status: word.to_owned(), ..InspectState::default() }
    }

    #[test]
    fn every_word_of_docker_is_a_state_of_ours() {
        assert_eq!(status(&state("created")), ContainerStatus::Created);
        assert_eq!(status(&state("running")), ContainerStatus::Running { health: Health::None });
        assert_eq!(status(&state("removing")), ContainerStatus::Stopping);
        let killed = InspectState { exit_code: 137, oom_killed: true, ..state("exited") };
        assert_eq!(status(&killed), ContainerStatus::Exited { code: Some(137), oom: true });
        assert!(matches!(status(&state("dead")), ContainerStatus::Failed { reason } if reason.contains("'dead'")));
    }

    #[test]
    fn annotations_are_told_apart_from_labels_and_a_port_of_both_families_once() {
        let host = |ip: &str| HostPort { host_ip: ip.to_owned(), host_port: "8080".to_owned() };
        let mut inspect = Inspect { name: "/w_c".to_owned(), state: state("created"), ..Inspect::default() };
        inspect.config.labels = [("a", "1"), ("actioncontroller.io/annotation.b/c", "2")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        inspect.network_settings.ports =
            [("80/udp".to_owned(), Some(vec![host("0.0.0.0"), host("::")])), ("9/tcp".to_owned(), None)].into();
        let told = instance(inspect);
        assert_eq!((told.name.as_str(), told.labels["a"].as_str()), ("w_c", "1"));
        assert_eq!((told.labels.len(), told.annotations["b/c"].as_str()), (1, "2"));
        let port =
            PortSpec { host_ip: String::new(), host_port: Some(8080), container_port: 80, protocol: Protocol::Udp };
        assert_eq!(told.ports, [port]);
    }
}
