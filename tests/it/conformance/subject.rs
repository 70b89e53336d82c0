//! [`Subject`]: an adapter under test with what the cases need to use it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use actioncontroller::cancel::CancelToken;
use actioncontroller::clock::Deadline;
use actioncontroller::model::state::ContainerStatus;
use actioncontroller::model::workload::{ContainerSpec, NetworkMode, PullPolicy, labels};
use actioncontroller::runtime::adapter::{
    Call, Change, ContainerConfig, ContainerInstance, ExecOutcome, LogChunk, LogOptions, Mount, MountSource,
    NetworkSpec, NoProgress, OutputStream, PodSpec, RuntimeAdapter, StopOptions, VolumeSpec,
};

use super::behaviour::Behaviour;

/// How long any single call may take. No case comes near it.
const BUDGET: Duration = Duration::from_secs(60);

/// A token that is never cancelled, for calls that are not about that.
pub static CALM: std::sync::LazyLock<CancelToken> = std::sync::LazyLock::new(CancelToken::new);

/// Makes names differ, also between engines that share a machine.
static COUNTER: AtomicU64 = AtomicU64::new(0);

/// Makes something that is not this node's.
pub type MakeForeign = Box<dyn Fn(&Subject, Foreign, &str) + Send + Sync>;

/// An adapter under test.
pub struct Subject {
    /// It.
    pub adapter: Arc<dyn RuntimeAdapter>,
    /// The node whose label it takes for its own.
    pub node: String,
    /// An image that is there and has busybox (on the simulator: any).
    pub image: String,
    /// An image that can be pulled and is not there; `None` where there is no registry.
    pub absent_image: Option<String>,
    /// An image that is nowhere.
    pub missing_image: String,
    /// How the engine is told to behave.
    pub command: fn(&Behaviour) -> Vec<String>,
    /// A second adapter of the kind, whose engine is not there.
    pub down: Box<dyn Fn() -> Arc<dyn RuntimeAdapter> + Send + Sync>,
    /// Makes something of this name that is not this node's.
    pub foreign: MakeForeign,
    /// Its containers are processes of this machine, with cgroups.
    pub has_processes: bool,
    /// It tells a death for want of memory from another kill. Podman does only where its conmon hears of it, which is
    /// not so on every layout of cgroups.
    pub tells_memory_kills: bool,
    /// Where it takes no images: a root file system for its containers.
    pub root: Option<Root>,
    /// It tells standard error from standard output, whatever is written.
    pub keeps_streams_apart: bool,
    /// Its containers may run as users whom the node does not know.
    pub takes_any_user: bool,
    /// What the present case made.
    pub made: Mutex<Vec<Made>>,
}

/// A folder as the root of containers.
#[derive(Debug, Clone)]
pub struct Root {
    pub tree: PathBuf,
    /// Where output is not kept, or not both streams apart: a folder that all write it to, each stream to a file of its own.
    pub outputs: Option<PathBuf>,
}

/// Where the folder for outputs is inside.
const OUTPUTS: &str = "/outputs";

impl Root {
    /// Has the container write there what others print. As the first process of its own namespace it would not be ended by a
    /// hangup; a service is none.
    fn prepare(&self, config: &mut ContainerConfig) {
        let mut redirect = "trap '' HUP; exec \"$@\"".to_owned();
        if let Some(outputs) = &self.outputs {
            redirect.push_str(&format!(" >{OUTPUTS}/{0}.out 2>{OUTPUTS}/{0}.err", config.name));
            let source = MountSource::Bind(outputs.display().to_string());
            config.mounts.push(Mount { source, path: OUTPUTS.to_owned(), read_only: false });
        }
        let mut command = ["/bin/sh", "-c", &redirect, "sh"].map(str::to_owned).to_vec();
        command.append(&mut config.spec.command);
        config.spec.command = command;
    }
}

/// What the container of this name has written there so far, a line each.
fn output(outputs: &Path, name: &str) -> Vec<LogChunk> {
    let read = |stream, end: &str| {
        let text = std::fs::read(outputs.join(format!("{name}.{end}"))).unwrap_or_default();
        let lines: Vec<_> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.into_iter().map(move |bytes| LogChunk { stream, timestamp_ns: 0, bytes })
    };
    read(OutputStream::Stdout, "out").chain(read(OutputStream::Stderr, "err")).collect()
}

/// What can be somebody else's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    Container,
    Network,
    Volume,
    Pod,
}

/// What a case made.
pub enum Made {
    Container(String),
    Network(String),
    Volume(String),
    Pod(String),
}

impl Foreign {
    /// Makes it by way of the adapter, without this node's label.
    pub fn through_the_adapter(subject: &Subject, kind: Self, name: &str) {
        let (name, labels, call) = (name.to_owned(), BTreeMap::new(), subject.call());
        let made = match kind {
            Self::Network => subject.adapter.ensure_network(&call, &NetworkSpec { name, labels }),
            Self::Volume => subject.adapter.ensure_volume(&call, &VolumeSpec { name, labels, tmpfs_bytes: None }),
            Self::Pod => subject.adapter.ensure_pod(&call, &PodSpec { labels, ..subject.pod_spec(&name) }),
            Self::Container => {
                let config = ContainerConfig { labels, ..subject.config(&name, &Behaviour::Stay) };
                subject.adapter.create_container(&call, &config).map(|_| Change::Changed)
            }
        };
        assert_eq!(made, Ok(Change::Changed), "a foreign {kind:?} could not be made");
    }
}

/// The call that most cases make.
pub fn call_within(budget: Duration, cancel: &CancelToken) -> Call<'_> {
    Call { deadline: Deadline::after(budget), cancel, progress: &NoProgress }
}

/// Waits until the condition holds; panics with what was waited for after half a minute.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(30));
    while !condition() {
        assert!(!deadline.is_over(), "waited in vain until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Reads all of both streams as it is now.
pub const EVERYTHING: LogOptions = LogOptions { follow: false, tail: None, since_ms: 0, stdout: true, stderr: true };

impl Subject {
    /// A call that has all the time there is.
    pub fn call(&self) -> Call<'_> {
        call_within(BUDGET, &CALM)
    }

    /// A name that nothing has.
    pub fn name(&self, hint: &str) -> String {
        format!("cf-{hint}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
    }

    /// Labels as this node gives them, for a workload.
    pub fn labels(&self, workload: &str) -> BTreeMap<String, String> {
        let of = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        BTreeMap::from([of(labels::NODE, &self.node), of(labels::WORKLOAD, workload)])
    }

    /// A container of this name with nothing special.
    pub fn config(&self, name: &str, behaviour: &Behaviour) -> ContainerConfig {
        let none = String::new;
        ContainerConfig {
            name: name.to_owned(),
            spec: ContainerSpec {
                name: "main".into(),
                image: self.image.clone(),
                rootfs: self.root.as_ref().map(|root| root.tree.display().to_string()).unwrap_or_default(),
                unit: String::new(),
                pull: PullPolicy::IfNotPresent,
                command: (self.command)(behaviour),
                args: vec![],
                working_dir: none(),
                env: vec![],
                ports: vec![],
                mounts: vec![],
                devices: vec![],
                resources: Default::default(),
                security: Default::default(),
                stdin: false,
                tty: false,
                liveness: None,
            },
            labels: self.labels(name),
            annotations: BTreeMap::new(),
            pod: None,
            network: NetworkMode::None,
            aliases: Vec::new(),
            ports: vec![],
            hostname: none(),
            host_ipc: false,
            host_pid: false,
            node: String::new(),
            mounts: vec![],
        }
    }

    /// A pod of this node with nothing special.
    pub fn pod_spec(&self, name: &str) -> PodSpec {
        let (name, labels) = (name.to_owned(), self.labels(name));
        PodSpec { name, labels, network: NetworkMode::None, ports: vec![], hostname: String::new() }
    }

    /// Remembers something for [`Subject::clean`].
    pub fn remember(&self, made: Made) {
        self.made.lock().unwrap().push(made);
    }

    /// Creates the container; its id.
    pub fn create(&self, config: &ContainerConfig) -> String {
        self.remember(Made::Container(config.name.clone()));
        let mut config = config.clone();
        if let Some(root) = &self.root {
            root.prepare(&mut config);
        }
        self.adapter.create_container(&self.call(), &config).unwrap().id
    }

    /// Creates and starts a container; its id.
    pub fn start(&self, config: &ContainerConfig) -> String {
        let id = self.create(config);
        assert_eq!(self.adapter.start_container(&self.call(), &id), Ok(Change::Changed));
        id
    }

    /// Starts a container that behaves so and waits until it has printed its first line; its id.
    pub fn run(&self, behaviour: &Behaviour) -> String {
        let id = self.start(&self.config(&self.name("c"), behaviour));
        wait_until("the container has printed its first line", || !self.logs(&id, &EVERYTHING).is_empty());
        id
    }

    /// Runs a container to its end; its id, exit code and lines.
    pub fn run_to_end(&self, config: &ContainerConfig) -> Ended {
        let id = self.start(config);
        let code = self.adapter.wait_container(&self.call(), &id).unwrap();
        let logs = self.logs(&id, &EVERYTHING);
        Ended { id, code, stdout: text(&logs, OutputStream::Stdout), stderr: text(&logs, OutputStream::Stderr) }
    }

    /// The container as it is.
    pub fn inspect(&self, id: &str) -> ContainerInstance {
        self.adapter.inspect_container(&self.call(), id).unwrap()
    }

    /// The container's state.
    pub fn status(&self, id: &str) -> ContainerStatus {
        self.inspect(id).status
    }

    /// Stops it with this grace.
    pub fn stop(&self, id: &str, grace: Duration) -> Change {
        self.adapter.stop_container(&self.call(), id, &StopOptions::graceful(grace)).unwrap()
    }

    /// Leaves it so many milliseconds in which it has to live, told by itself where that can be asked.
    pub fn live_on(&self, id: &str, ms: u64) {
        if self.adapter.capabilities().supports_exec {
            assert_eq!(self.exec(id, &Behaviour::ExitAfter(ms, 0)).exit_code, 0, "it lives on");
        } else {
            thread::sleep(Duration::from_millis(ms));
            assert!(self.status(id).is_live(), "it lives on");
        }
    }

    /// Reads its output, which has to end by itself.
    pub fn logs(&self, id: &str, options: &LogOptions) -> Vec<LogChunk> {
        if let Some(outputs) = self.root.as_ref().and_then(|root| root.outputs.as_ref()) {
            return output(outputs, &self.inspect(id).name);
        }
        let stream = self.adapter.container_logs(&self.call(), id, options).unwrap();
        stream.map(|chunk| chunk.unwrap()).collect()
    }

    /// What it has complained of.
    pub fn complaint<'a>(&self, ended: &'a Ended) -> &'a str {
        if self.keeps_streams_apart { &ended.stderr } else { &ended.stdout }
    }

    /// Runs a command inside.
    pub fn exec(&self, id: &str, behaviour: &Behaviour) -> ExecOutcome {
        self.adapter.exec_in_container(&self.call(), id, &(self.command)(behaviour)).unwrap()
    }

    /// Removes what the case made, best effort: a case that failed may have left anything.
    pub fn clean(&self) {
        for made in self.made.lock().unwrap().drain(..).rev() {
            // What cannot be removed is told by the cases about removal.
            let _ = match made {
                Made::Container(name) => self.adapter.remove_container(&self.call(), &name, true),
                Made::Network(name) => self.adapter.remove_network(&self.call(), &name),
                Made::Volume(name) => self.adapter.remove_volume(&self.call(), &name),
                Made::Pod(name) => self.adapter.remove_pod(&self.call(), &name),
            };
        }
    }
}

/// A container that has ended.
pub struct Ended {
    pub id: String,
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// One stream's text.
pub fn text(logs: &[LogChunk], stream: OutputStream) -> String {
    let bytes: Vec<u8> = logs.iter().filter(|chunk| chunk.stream == stream).flat_map(|c| c.bytes.clone()).collect();
    String::from_utf8(bytes).unwrap()
}
