//! What the simulated engine has: containers, pods, networks, volumes, images pulled, files written; and how it is
//! brought up to the present time.
//!
//! Everything is plain data under one lock, which no caller holds while it waits.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::model::state::{ContainerStatus, Health};
use crate::model::workload::{NetworkMode, labels};
use crate::runtime::adapter::{
    ContainerConfig, ContainerInstance, EngineEvent, EngineEventKind, LogChunk, NetworkSpec, OutputStream, PodSpec,
    RtResult, RuntimeError, VolumeSpec,
};

use super::run::Run;
use super::script::NS_PER_MS;
use super::wake::Wakers;
use super::{NAME, not_found};

/// The most lines that are kept of a container's output; the oldest go first.
const MAX_LINES: usize = 10_000;

/// The most bytes that are kept of a container's output; the oldest lines go first.
const MAX_LOG_BYTES: usize = 4 * 1024 * 1024;

/// The most events that are kept for watchers; one that falls further behind is told so.
const MAX_EVENTS: usize = 4_096;

/// Process numbers start above Linux's highest possible one (2^22), so that none is ever taken for a real process.
const FIRST_PID: i32 = 5_000_001;

/// All that the engine has.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    next_pid: i32,
    pub containers: BTreeMap<String, Container>,
    pub pods: BTreeMap<String, PodSpec>,
    pub networks: BTreeMap<String, NetworkSpec>,
    pub volumes: BTreeMap<String, VolumeSpec>,
    /// Images that were pulled, beside those present from the beginning.
    pub pulled: BTreeSet<String>,
    /// Files by place, see `inside.rs`.
    pub files: BTreeMap<String, String>,
    #[serde(skip)]
    pub events: Ring<EngineEvent>,
    #[serde(skip)]
    pub wakers: Wakers,
    /// Why the engine is away; empty while it is not.
    #[serde(skip)]
    pub unavailable: String,
}

/// A bounded sequence whose items keep their numbers.
pub(super) struct Ring<T> {
    items: VecDeque<T>,
    first: u64,
}

impl<T> Default for Ring<T> {
    fn default() -> Self {
        Self { items: VecDeque::new(), first: 0 }
    }
}

impl<T> Ring<T> {
    pub fn push(&mut self, item: T) {
        self.items.push_back(item);
    }

    /// Drops the oldest.
    pub fn pop(&mut self) -> Option<T> {
        let oldest = self.items.pop_front()?;
        self.first += 1;
        Some(oldest)
    }

    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// The number that the next item will have.
    pub fn end(&self) -> u64 {
        self.first + self.items.len() as u64
    }

    /// How many items from number `from` on are lost.
    pub fn lost(&self, from: u64) -> u64 {
        self.first.saturating_sub(from)
    }

    /// What is kept from number `from` on.
    pub fn since(&self, from: u64) -> impl DoubleEndedIterator<Item = &T> {
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.items.iter().skip(skip)
    }
}

/// A container.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Container {
    pub id: String,
    /// Exactly what it was created from.
    pub config: ContainerConfig,
    pub created_ns: u64,
    pub run: Option<Run>,
    pub last: Option<LastRun>,
    /// How many runs have ended.
    pub ended: u64,
    /// Not kept over a restart of this process; what the present run printed is printed again.
    #[serde(skip)]
    pub log: Log,
}

/// How the last run ended.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LastRun {
    pub started_ns: u64,
    pub finished_ns: u64,
    pub code: i32,
    pub oom: bool,
}

/// A container's output.
#[derive(Default)]
pub(super) struct Log {
    pub lines: Ring<LogChunk>,
    bytes: usize,
}

impl Log {
    fn push(&mut self, chunk: LogChunk) {
        self.bytes += chunk.bytes.len();
        self.lines.push(chunk);
        while self.lines.len() > MAX_LINES || self.bytes > MAX_LOG_BYTES {
            let Some(oldest) = self.lines.pop() else { break };
            self.bytes -= oldest.bytes.len();
        }
    }
}

impl Container {
    pub fn status(&self) -> ContainerStatus {
        match (&self.run, &self.last) {
            (Some(run), _) if run.stopping > 0 => ContainerStatus::Stopping,
            (Some(run), _) if run.is_frozen() => ContainerStatus::Paused,
            (Some(_), _) => ContainerStatus::Running { health: Health::None },
            (None, Some(last)) => ContainerStatus::Exited { code: Some(last.code), oom: last.oom },
            (None, None) => ContainerStatus::Created,
        }
    }

    /// Takes what the run has printed up to `now` into the log; says whether there was anything.
    pub fn take_lines(&mut self, now: u64) -> bool {
        let Some(run) = &mut self.run else { return false };
        let lines = run.take_lines(now, MAX_LINES as u64);
        let any = !lines.is_empty();
        for (timestamp_ns, line) in lines {
            let to_stderr = line.stderr && !self.config.spec.tty;
            let stream = if to_stderr { OutputStream::Stderr } else { OutputStream::Stdout };
            self.log.push(LogChunk { stream, timestamp_ns, bytes: (line.text + "\n").into_bytes() });
        }
        any
    }

    /// Whether it or its pod is in the network.
    fn is_in(&self, network: &str) -> bool {
        self.config.pod.is_none() && names(&self.config.network, network)
    }
}

fn names(mode: &NetworkMode, network: &str) -> bool {
    matches!(mode, NetworkMode::Named(names) if names.iter().any(|name| name == network))
}

impl State {
    pub fn new() -> Self {
        Self {
            next_pid: FIRST_PID,
            containers: BTreeMap::new(),
            pods: BTreeMap::new(),
            networks: BTreeMap::new(),
            volumes: BTreeMap::new(),
            pulled: BTreeSet::new(),
            files: BTreeMap::new(),
            events: Ring::default(),
            wakers: Wakers::default(),
            unavailable: String::new(),
        }
    }

    /// The id of the container with this id or name.
    pub fn id_of(&self, id_or_name: &str) -> RtResult<String> {
        if self.containers.contains_key(id_or_name) {
            return Ok(id_or_name.to_owned());
        }
        let named = self.containers.values().find(|container| container.config.name == id_or_name);
        named.map(|container| container.id.clone()).ok_or_else(|| not_found("container", id_or_name))
    }

    /// The container with this id or name.
    pub fn find(&self, id_or_name: &str) -> RtResult<&Container> {
        let id = self.id_of(id_or_name)?;
        self.containers.get(&id).ok_or_else(|| not_found("container", id_or_name))
    }

    /// The container with this id or name, to be changed.
    pub fn find_mut(&mut self, id_or_name: &str) -> RtResult<&mut Container> {
        let id = self.id_of(id_or_name)?;
        self.containers.get_mut(&id).ok_or_else(|| not_found("container", id_or_name))
    }

    /// A number for a first process.
    pub fn new_pid(&mut self) -> i32 {
        let pid = self.next_pid;
        self.next_pid = pid.checked_add(1).unwrap_or(FIRST_PID);
        pid
    }

    /// Tells watchers what happened to a container.
    pub fn tell(&mut self, id: &str, kind: EngineEventKind, time_ns: u64) {
        let Some(container) = self.containers.get(id) else { return };
        self.events.push(EngineEvent {
            kind,
            id: id.to_owned(),
            name: container.config.name.clone(),
            labels: container.config.labels.clone(),
            time_ns,
        });
        while self.events.len() > MAX_EVENTS {
            self.events.pop();
        }
    }

    /// Brings everything up to `now`: lines that were printed, runs that ended.
    pub fn settle(&mut self, now: u64) {
        let mut ended = Vec::new();
        let mut any = false;
        for container in self.containers.values_mut() {
            any |= container.take_lines(now);
            let Some(run) = &container.run else { continue };
            let Some(ending) = run.ended(now) else { continue };
            let last = LastRun {
                started_ns: run.started_ns,
                finished_ns: run.end_time(ending),
                code: ending.code,
                oom: ending.oom,
            };
            container.run = None;
            container.ended += 1;
            container.last = Some(last.clone());
            ended.push((container.id.clone(), last));
        }
        ended.sort_by_key(|(_, last)| last.finished_ns);
        any |= !ended.is_empty();
        for (id, last) in ended {
            if last.oom {
                self.tell(&id, EngineEventKind::OutOfMemory, last.finished_ns);
            }
            self.tell(&id, EngineEventKind::Died { exit_code: Some(last.code) }, last.finished_ns);
        }
        if any {
            self.wakers.wake();
        }
    }

    /// When the next run will end unless something happens.
    pub fn next_end(&self) -> Option<u64> {
        self.containers.values().filter_map(|container| container.run.as_ref()?.end_due()).min()
    }

    /// The names of what is in the network: containers, and pods, each of which is in it as a whole.
    pub fn members_of_network(&self, network: &str) -> Vec<&str> {
        let containers = self.containers.values().filter(|c| c.is_in(network)).map(|c| c.config.name.as_str());
        let pods = self.pods.values().filter(|pod| names(&pod.network, network)).map(|pod| pod.name.as_str());
        containers.chain(pods).collect()
    }

    /// What the engine tells of a container.
    pub fn instance(&self, container: &Container) -> ContainerInstance {
        let config = &container.config;
        let last = container.last.as_ref().filter(|_| container.run.is_none());
        let started = container.run.as_ref().map(|run| run.started_ns).or(last.map(|last| last.started_ns));
        let pod = config.pod.as_ref().and_then(|pod| self.pods.get(pod));
        let ports = pod.map_or(&config.ports, |pod| &pod.ports);
        ContainerInstance {
            id: container.id.clone(),
            name: config.name.clone(),
            engine: NAME.to_owned(),
            status: container.status(),
            image: config.spec.image.clone(),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ports: ports.iter().filter(|port| port.host_port.is_some()).cloned().collect(),
            ips: Vec::new(),
            pid: container.run.as_ref().map_or(0, |run| run.pid),
            cgroup_path: String::new(),
            created_ms: container.created_ns / NS_PER_MS,
            started_ms: started.unwrap_or(0) / NS_PER_MS,
            finished_ms: last.map_or(0, |last| last.finished_ns) / NS_PER_MS,
        }
    }
}

/// Whether the labels are those of this node.
pub(super) fn is_ours(labels: &BTreeMap<String, String>, node: &str) -> bool {
    labels.get(labels::NODE).is_some_and(|of| of == node)
}

/// That the state of a container does not allow a call.
pub(super) fn invalid_state(op: &str, container: &Container) -> RuntimeError {
    RuntimeError::InvalidState {
        op: op.to_owned(),
        id: container.config.name.clone(),
        state: container.status().word().to_owned(),
    }
}
