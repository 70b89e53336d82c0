//! What unit tests of adapters call them with, and an engine for tests of what asks several.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::adapter::{
    Call, Change, ContainerConfig, ContainerInstance, ListFilter, NoProgress, Probe, RtResult, RuntimeAdapter,
    RuntimeCapabilities, RuntimeError, StopOptions, unsupported,
};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::model::security::SecurityContext;
use crate::model::state::ContainerStatus;
use crate::model::workload::{ContainerSpec, NetworkMode, PullPolicy};

/// A call that has this time.
pub fn call(cancel: &CancelToken, budget: Duration) -> Call<'_> {
    Call { deadline: Deadline::after(budget), cancel, progress: &NoProgress }
}

/// A container of this name that asks for nothing but to run.
pub fn config(name: &str) -> ContainerConfig {
    let spec = ContainerSpec {
        name: "c".to_owned(),
        image: "localhost/i:1".to_owned(),
        rootfs: String::new(),
        unit: String::new(),
        pull: PullPolicy::IfNotPresent,
        command: vec!["run".to_owned()],
        args: vec!["arg".to_owned()],
        working_dir: String::new(),
        env: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Resources::default(),
        security: SecurityContext::default(),
        stdin: false,
        tty: false,
        liveness: None,
    };
    ContainerConfig {
        name: name.to_owned(),
        spec,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        pod: None,
        network: NetworkMode::None,
        aliases: Vec::new(),
        ports: Vec::new(),
        hostname: String::new(),
        host_ipc: false,
        host_pid: false,
        node: String::new(),
        mounts: Vec::new(),
    }
}

/// An engine that has nothing but a name, a probe, one ability, and a container or none.
pub struct Engine {
    pub name: &'static str,
    pub away: bool,
    pub pods: bool,
    /// What a probe takes.
    pub hangs: Duration,
    pub probes: Arc<AtomicUsize>,
    /// Whether it has a container, whatever is asked for.
    pub has_any: bool,
    /// What a list takes.
    pub lists_after: Duration,
    pub lists: Arc<AtomicUsize>,
    /// As by SIGSTOP: neither lists nor answers a probe, which gives up after [`PROBE`].
    pub is_frozen: Arc<AtomicBool>,
}

/// How long a probe waits for a frozen engine.
const PROBE: Duration = Duration::from_millis(1_900);

pub fn engine(name: &'static str) -> Engine {
    Engine {
        name,
        away: false,
        pods: true,
        hangs: Duration::ZERO,
        probes: Arc::default(),
        has_any: false,
        lists_after: Duration::ZERO,
        lists: Arc::default(),
        is_frozen: Arc::default(),
    }
}

fn instance(engine: &str) -> ContainerInstance {
    ContainerInstance {
        id: "1".to_owned(),
        name: "c".to_owned(),
        engine: engine.to_owned(),
        status: ContainerStatus::Created,
        image: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        ports: Vec::new(),
        ips: Vec::new(),
        pid: 0,
        cgroup_path: String::new(),
        created_ms: 0,
        started_ms: 0,
        finished_ms: 0,
    }
}

impl Engine {
    /// Waits until it is thawed; whether that was before the deadline and without being told to end.
    fn is_thawed(&self, cancel: &CancelToken, deadline: Deadline) -> bool {
        while self.is_frozen.load(Ordering::SeqCst) {
            let is_told = cancel.wait(Urge::Cancel, deadline.at_most(Duration::from_millis(5))) == Urge::Cancel;
            if is_told || deadline.is_over() {
                return false;
            }
        }
        true
    }
}

impl RuntimeAdapter for Engine {
    fn name(&self) -> &str {
        self.name
    }
    fn probe(&self) -> Probe {
        self.probes.fetch_add(1, Ordering::SeqCst);
        thread::sleep(self.hangs);
        match self.away {
            true => Probe::Unavailable { reason: "no such socket".into() },
            false if !self.is_thawed(&CancelToken::new(), Deadline::after(PROBE)) => {
                Probe::Unavailable { reason: "frozen".into() }
            }
            false => Probe::Available { version: "1".into(), api: "1".into() },
        }
    }
    fn capabilities(&self) -> RuntimeCapabilities {
        RuntimeCapabilities { supports_pods: self.pods, ..Default::default() }
    }
    fn create_container(&self, _: &Call, _: &ContainerConfig) -> RtResult<ContainerInstance> {
        Err(unsupported(self.name, "create"))
    }
    fn start_container(&self, _: &Call, _: &str) -> RtResult<Change> {
        Err(unsupported(self.name, "start"))
    }
    fn stop_container(&self, _: &Call, _: &str, _: &StopOptions) -> RtResult<Change> {
        Err(unsupported(self.name, "stop"))
    }
    fn remove_container(&self, _: &Call, _: &str, _: bool) -> RtResult<Change> {
        Err(unsupported(self.name, "remove"))
    }
    fn inspect_container(&self, _: &Call, _: &str) -> RtResult<ContainerInstance> {
        Err(unsupported(self.name, "inspect"))
    }
    fn list_containers(&self, call: &Call, _: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        self.lists.fetch_add(1, Ordering::SeqCst);
        let began = Instant::now();
        let urge = call.cancel.wait(Urge::Cancel, call.deadline.at_most(self.lists_after));
        let is_thawed = self.is_thawed(call.cancel, call.deadline);
        if urge == Urge::Cancel || call.cancel.is_cancelled() {
            return Err(RuntimeError::Cancelled { op: "list".into() });
        }
        if !is_thawed || call.deadline.is_over() {
            return Err(RuntimeError::Timeout { op: "list".into(), after: began.elapsed() });
        }
        Ok(if self.has_any { vec![instance(self.name)] } else { Vec::new() })
    }
    fn wait_container(&self, _: &Call, _: &str) -> RtResult<Option<i32>> {
        Err(unsupported(self.name, "wait"))
    }
}
