//! Workloads, output, statistics, as the wire has them.

use std::collections::BTreeMap;

use protobuf::EnumOrUnknown;

use super::{resources, timestamp_ms, timestamp_ns};
use crate::dispatch::service::{Page, WorkloadView};
use crate::model::state::{ContainerStatus, Health, WorkloadState};
use crate::model::workload::{PortSpec, Protocol, labels};
use crate::proto::workloads as wire;
use crate::runtime::adapter::{ContainerInstance, ContainerStats, ExecOutcome, LogChunk, OutputStream};

/// A workload.
pub fn workload(view: WorkloadView) -> wire::Workload {
    let (name, mut limits) = (view.name, view.limits);
    let container = |each: ContainerInstance| {
        let limits = limits.remove(&each.id);
        let mut told = container(&name, each);
        if let Some(limits) = limits {
            told.limits = Some(resources::limits(&limits.wanted)).into();
            told.limits_in_force = limits.in_force.as_ref().map(|has| resources::limits(&has.limits)).into();
            let drifted = limits.in_force.into_iter().flat_map(|has| has.drifted);
            told.limits_drifted = drifted.map(str::to_owned).collect();
        }
        told
    };
    wire::Workload {
        state: workload_state(view.state),
        desired: view.desired,
        package: view.package,
        engine: view.engine,
        revision: view.revision,
        containers: view.containers.into_iter().map(container).collect(),
        last_action_id: view.last_action_id,
        updated_at: timestamp_ms(view.updated_ms),
        message: view.message,
        name,
        ..Default::default()
    }
}

/// A page of workloads.
pub fn workload_page(page: Page<WorkloadView>) -> wire::ListWorkloadsResponse {
    wire::ListWorkloadsResponse {
        workloads: page.items.into_iter().map(workload).collect(),
        next_page_token: page.next_token,
        ..Default::default()
    }
}

/// A piece of output.
pub fn log_chunk(chunk: LogChunk) -> wire::LogsResponse {
    let stream = match chunk.stream {
        OutputStream::Stdout => wire::OutputStream::OUTPUT_STREAM_STDOUT,
        OutputStream::Stderr => wire::OutputStream::OUTPUT_STREAM_STDERR,
    };
    wire::LogsResponse {
        stream: EnumOrUnknown::new(stream),
        time: timestamp_ns(chunk.timestamp_ns),
        data: chunk.bytes,
        ..Default::default()
    }
}

/// What a command came to.
pub fn exec_outcome(outcome: ExecOutcome) -> wire::ExecResponse {
    wire::ExecResponse {
        exit_code: outcome.exit_code,
        stdout_data: outcome.stdout,
        stderr_data: outcome.stderr,
        truncated: outcome.truncated,
        ..Default::default()
    }
}

/// Use of the node by container, read at `now_ms`.
pub fn stats(stats: BTreeMap<String, ContainerStats>, now_ms: u64) -> wire::StatsResponse {
    let of = |(name, stats): (String, ContainerStats)| wire::ContainerStats {
        name,
        cpu_ns: stats.cpu_ns,
        memory_bytes: stats.memory_bytes,
        memory_limit_bytes: stats.memory_limit_bytes,
        pids: stats.pids,
        rx_bytes: stats.rx_bytes,
        tx_bytes: stats.tx_bytes,
        read_bytes: stats.read_bytes,
        write_bytes: stats.write_bytes,
        ..Default::default()
    };
    wire::StatsResponse {
        containers: stats.into_iter().map(of).collect(),
        time: timestamp_ms(now_ms),
        ..Default::default()
    }
}

/// The workload as a wait found it; `None` when it is gone.
pub fn waited(view: Option<WorkloadView>) -> wire::WaitResponse {
    wire::WaitResponse { workload: view.map(workload).into(), ..Default::default() }
}

fn workload_state(state: WorkloadState) -> EnumOrUnknown<wire::WorkloadState> {
    EnumOrUnknown::new(match state {
        WorkloadState::Absent => wire::WorkloadState::WORKLOAD_STATE_ABSENT,
        WorkloadState::Created => wire::WorkloadState::WORKLOAD_STATE_CREATED,
        WorkloadState::Degraded => wire::WorkloadState::WORKLOAD_STATE_DEGRADED,
        WorkloadState::Running => wire::WorkloadState::WORKLOAD_STATE_RUNNING,
        WorkloadState::Paused => wire::WorkloadState::WORKLOAD_STATE_PAUSED,
        WorkloadState::Hibernated => wire::WorkloadState::WORKLOAD_STATE_HIBERNATED,
        WorkloadState::Completed => wire::WorkloadState::WORKLOAD_STATE_COMPLETED,
        WorkloadState::Exited => wire::WorkloadState::WORKLOAD_STATE_EXITED,
        WorkloadState::Unknown => wire::WorkloadState::WORKLOAD_STATE_UNKNOWN,
    })
}

/// A container of `workload`. Its name within it is what our label says, or what the engine's name has after the
/// workload's.
fn container(workload: &str, instance: ContainerInstance) -> wire::Container {
    let within = instance.name.strip_prefix(workload).and_then(|rest| rest.strip_prefix('_'));
    let name = instance.labels.get(labels::CONTAINER).map(String::as_str).or(within).unwrap_or(&instance.name);
    let mut told = wire::Container {
        name: name.to_owned(),
        init: instance.labels.get(labels::ROLE).is_some_and(|role| role == "init"),
        id: instance.id,
        engine_name: instance.name,
        image: instance.image,
        health: EnumOrUnknown::new(wire::Health::HEALTH_NONE),
        pid: instance.pid,
        cgroup_path: instance.cgroup_path,
        ports: instance.ports.into_iter().map(port).collect(),
        ips: instance.ips,
        created_at: timestamp_ms(instance.created_ms),
        started_at: timestamp_ms(instance.started_ms),
        finished_at: timestamp_ms(instance.finished_ms),
        ..Default::default()
    };
    tell_status(&mut told, instance.status);
    told
}

fn tell_status(told: &mut wire::Container, status: ContainerStatus) {
    let state = match status {
        ContainerStatus::Created => wire::ContainerState::CONTAINER_STATE_CREATED,
        ContainerStatus::Starting => wire::ContainerState::CONTAINER_STATE_STARTING,
        ContainerStatus::Running { health } => {
            told.health = self::health(health);
            wire::ContainerState::CONTAINER_STATE_RUNNING
        }
        ContainerStatus::Paused => wire::ContainerState::CONTAINER_STATE_PAUSED,
        ContainerStatus::Hibernating => wire::ContainerState::CONTAINER_STATE_HIBERNATING,
        ContainerStatus::Hibernated => wire::ContainerState::CONTAINER_STATE_HIBERNATED,
        ContainerStatus::Waking => wire::ContainerState::CONTAINER_STATE_WAKING,
        ContainerStatus::Restarting => wire::ContainerState::CONTAINER_STATE_RESTARTING,
        ContainerStatus::Stopping => wire::ContainerState::CONTAINER_STATE_STOPPING,
        ContainerStatus::Exited { code, oom } => {
            told.exit_code = code;
            told.out_of_memory = oom;
            wire::ContainerState::CONTAINER_STATE_EXITED
        }
        ContainerStatus::Failed { reason } => {
            told.message = reason;
            wire::ContainerState::CONTAINER_STATE_FAILED
        }
    };
    told.state = EnumOrUnknown::new(state);
}

fn health(health: Health) -> EnumOrUnknown<wire::Health> {
    EnumOrUnknown::new(match health {
        Health::None => wire::Health::HEALTH_NONE,
        Health::Starting => wire::Health::HEALTH_STARTING,
        Health::Healthy => wire::Health::HEALTH_HEALTHY,
        Health::Unhealthy => wire::Health::HEALTH_UNHEALTHY,
    })
}

fn port(port: PortSpec) -> wire::PublishedPort {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    wire::PublishedPort {
        host_ip: port.host_ip,
        host_port: port.host_port.unwrap_or_default().into(),
        container_port: port.container_port.into(),
        protocol: protocol.to_owned(),
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(status: ContainerStatus) -> ContainerInstance {
        ContainerInstance {
            id: "0af".into(),
            name: "lane_core".into(),
            engine: "sim".into(),
            status,
            image: "demo:1".into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            ports: vec![PortSpec {
                host_ip: String::new(),
                host_port: Some(8080),
                container_port: 80,
                protocol: Protocol::Udp,
            }],
            ips: vec!["10.88.0.2".into()],
            pid: 41,
            cgroup_path: "/machine/x".into(),
            created_ms: 1,
            started_ms: 2_000,
            finished_ms: 0,
        }
    }

    #[test]
    fn lost_exit_code_is_absent_and_not_zero() {
        let told = container("lane", instance(ContainerStatus::Exited { code: None, oom: true }));
        assert_eq!((told.exit_code, told.out_of_memory), (None, true));
        let told = container("lane", instance(ContainerStatus::Exited { code: Some(0), oom: false }));
        assert_eq!(told.exit_code, Some(0));
    }

    #[test]
    fn container_that_never_started_says_why() {
        let told = container("lane", instance(ContainerStatus::Failed { reason: "no such file".into() }));
        assert_eq!(told.state, wire::ContainerState::CONTAINER_STATE_FAILED.into());
        assert_eq!(told.message, "no such file");
    }

    #[test]
    fn name_within_the_workload_is_the_label_or_what_follows_the_workload() {
        assert_eq!(container("lane", instance(ContainerStatus::Created)).name, "core");
        assert_eq!(container("other", instance(ContainerStatus::Created)).name, "lane_core");
        let mut labelled = instance(ContainerStatus::Created);
        labelled.labels.insert(labels::CONTAINER.into(), "main".into());
        labelled.labels.insert(labels::ROLE.into(), "init".into());
        let told = container("lane", labelled);
        assert_eq!((told.name.as_str(), told.init, told.engine_name.as_str()), ("main", true, "lane_core"));
    }

    #[test]
    fn running_container_is_told_whole() {
        let told = container("lane", instance(ContainerStatus::Running { health: Health::Unhealthy }));
        assert_eq!(told.state, wire::ContainerState::CONTAINER_STATE_RUNNING.into());
        assert_eq!(told.health, wire::Health::HEALTH_UNHEALTHY.into());
        assert_eq!((told.pid, told.ips.as_slice()), (41, &["10.88.0.2".to_owned()][..]));
        assert_eq!((told.ports[0].host_port, told.ports[0].container_port), (8080, 80));
        assert_eq!(told.ports[0].protocol, "udp");
        assert_eq!((told.started_at.seconds, told.finished_at.is_none()), (2, true));
    }

    #[test]
    fn output_keeps_its_bytes_stream_and_time() {
        let chunk = LogChunk { stream: OutputStream::Stderr, timestamp_ns: 1_000_000_007, bytes: vec![0, 255, b'\n'] };
        let told = log_chunk(chunk);
        assert_eq!(told.stream, wire::OutputStream::OUTPUT_STREAM_STDERR.into());
        assert_eq!((told.time.seconds, told.time.nanos), (1, 7));
        assert_eq!(told.data, [0, 255, b'\n']);
    }
}
