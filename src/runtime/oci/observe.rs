//! What containers are like now: their state, from what conmon and the kernel say; nothing is started to find out.

use std::fs;

use super::record::{Record, Run};
use super::{ENGINE, Engine};
use crate::cgroup::Cgroups;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{Call, ContainerInstance, ContainerStats, RtResult};
use crate::runtime::processes::{boot, is_in_group};
use crate::runtime::shared::calls::not_allowed;
use crate::runtime::shared::usage;

impl Engine {
    /// The control group of a container.
    pub(super) fn group(&self, id: &str) -> String {
        format!("/actioncontroller/{id}")
    }

    /// The container's first process, where it lives: in the container's own group, as its number may be another's by now.
    pub(super) fn first_process(&self, record: &Record) -> Option<i32> {
        let pid = self.records.pid(&record.id, "pid")?;
        (self.is_inside(record, pid) && lives(pid)).then_some(pid)
    }

    /// Whether the process is in the container's group, or in one that the container has made below it.
    pub(super) fn is_inside(&self, record: &Record, pid: i32) -> bool {
        is_in_group(pid, &self.group(&record.id))
    }

    /// Whether its first process lives.
    pub(super) fn is_alive(&self, record: &Record) -> bool {
        self.first_process(record).is_some()
    }

    /// conmon beside the container, where it lives.
    pub(super) fn conmon(&self, record: &Record) -> Option<i32> {
        let pid = self.records.pid(&record.id, "conmon.pid")?;
        let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let is_its = words.split(|byte| *byte == 0).any(|word| word == record.id.as_bytes());
        (is_its && lives(pid)).then_some(pid)
    }

    /// Ends conmon, which has nothing left to watch.
    pub(super) fn end_conmon(&self, record: &Record) {
        use nix::sys::signal::{Signal, kill};
        if let Some(pid) = self.conmon(record) {
            // It may be over just now.
            let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
        }
    }

    /// Its state.
    pub(super) fn status(&self, record: &Record) -> ContainerStatus {
        self.look_at(record).0
    }

    /// Its state with the last start and the first process.
    fn look_at(&self, record: &Record) -> (ContainerStatus, Option<Run>, Option<i32>) {
        let run = match self.records.run(&record.id) {
            Ok(Some(run)) => run,
            Ok(None) => return (ContainerStatus::Created, None, None),
            Err(error) => return (ContainerStatus::Failed { reason: error.to_string() }, None, None),
        };
        let oom = self.records.folder(&record.id).join("oom").exists();
        // What lives is looked at first: the other way round an end between the two looks were missed.
        let is_of_this_boot = run.boot == boot();
        let pid = is_of_this_boot.then(|| self.first_process(record)).flatten();
        let is_watched = is_of_this_boot && self.conmon(record).is_some();
        let status = match (self.records.exit_code(&record.id), pid) {
            (Some(code), _) => ContainerStatus::Exited { code: Some(code), oom },
            (None, Some(_)) if self.is_frozen(&record.id) => ContainerStatus::Paused,
            (None, Some(_)) => ContainerStatus::Running { health: Default::default() },
            // Its exit code is still to come.
            (None, None) if is_watched => ContainerStatus::Stopping,
            (None, None) => ContainerStatus::Exited { code: None, oom },
        };
        (status, Some(run), pid)
    }

    fn is_frozen(&self, id: &str) -> bool {
        Cgroups::read().is_ok_and(|groups| groups.is_frozen(&self.group(id)))
    }

    /// The container in full.
    pub(super) fn instance(&self, record: &Record) -> ContainerInstance {
        let (status, run, pid) = self.look_at(record);
        let config = &record.config;
        let is_live = status.is_live();
        let image = if config.spec.image.is_empty() { &config.spec.rootfs } else { &config.spec.image };
        ContainerInstance {
            id: record.id.clone(),
            name: config.name.clone(),
            engine: ENGINE.to_owned(),
            image: image.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ports: config.ports.iter().filter(|port| port.host_port.is_some()).cloned().collect(),
            ips: if is_live { self.addresses(&record.id) } else { Vec::new() },
            pid: pid.filter(|_| is_live).unwrap_or(0),
            cgroup_path: if is_live { self.group(&record.id) } else { String::new() },
            created_ms: record.created_ms,
            started_ms: run.map_or(0, |run| run.started_ms),
            finished_ms: if is_live { 0 } else { self.records.exited_ms(&record.id) },
            status,
        }
    }

    /// Its use of the node, from its control group and its network namespace.
    pub(super) fn stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        self.check(call, "stats")?;
        let record = self.records.get(id)?;
        let (status, _, pid) = self.look_at(&record);
        let (true, Some(pid)) = (status.is_live(), pid) else { return Err(not_allowed("stats", id, &status)) };
        let groups = Cgroups::read().map_err(|error| super::io("reading control groups", &error))?;
        let mut stats = usage::usage(&groups, &self.group(&record.id));
        if config_has_network(&record) {
            (stats.rx_bytes, stats.tx_bytes) = usage::network(pid);
        }
        Ok(stats)
    }
}

/// On the host's network the numbers would be the host's.
fn config_has_network(record: &Record) -> bool {
    record.config.network != crate::model::workload::NetworkMode::Host
}

/// Whether the process runs, rather than waiting for its parent to take notice of its end.
fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().next());
    state.is_some_and(|state| !matches!(state, "Z" | "X"))
}
