//! The port to container runtimes: [`RuntimeAdapter`], what it takes and gives, and how it fails.
//!
//! The semantics are the same for every engine: repeating a verb is [`Change::Unchanged`] (a taken name apart), an id
//! may be the engine's id or the container's name, every field of a configuration takes effect or the call fails with
//! [`RuntimeError::Unsupported`], and no engine's own restart policy is used.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::state::ContainerStatus;
use crate::model::workload::{ContainerSpec, NetworkMode, PortSpec, PullPolicy};

/// The result of a runtime call.
pub type RtResult<T> = Result<T, RuntimeError>;

/// A stream whose `next()` blocks; `None` is its end. The token given when it was opened unblocks it, and the item
/// then is [`RuntimeError::Cancelled`].
pub type BlockingStream<T> = Box<dyn Iterator<Item = RtResult<T>> + Send>;

/// Where a long call tells how far it is. Implementations do not block.
pub trait ProgressSink: Send + Sync {
    /// What is being done now, with `done` of `total` bytes (`total` 0: unknown). `what` is short: a layer, a phase.
    fn bytes(&self, what: &str, done: u64, total: u64);
}

/// A sink that drops what it is told.
pub struct NoProgress;

impl ProgressSink for NoProgress {
    fn bytes(&self, _what: &str, _done: u64, _total: u64) {}
}

/// What every blocking call is given.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// When its time is over: [`RuntimeError::Timeout`].
    pub deadline: Deadline,
    /// Ends it inside long work: [`RuntimeError::Cancelled`].
    pub cancel: &'a CancelToken,
    /// Told of bytes pulled and phases.
    pub progress: &'a dyn ProgressSink,
}

/// Whether a call changed anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// It did.
    Changed,
    /// It was so already.
    Unchanged,
}

/// How a runtime call fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuntimeError {
    /// The engine does not answer at all.
    #[error("{engine} is not available: {reason}")]
    EngineNotAvailable {
        /// The engine.
        engine: String,
        /// Why, in the system's words.
        reason: String,
    },
    /// The connection broke during a call; whether the engine acted is not known.
    #[error("the connection to {engine} broke during {op}: {reason}")]
    Connection {
        /// The engine.
        engine: String,
        /// The call.
        op: String,
        /// Why.
        reason: String,
    },
    /// No such container, pod, network, volume or image.
    #[error("{what} does not exist")]
    NotFound {
        /// What was asked for.
        what: String,
    },
    /// The name is taken.
    #[error("{what} exists already{detail}")]
    AlreadyExists {
        /// The name.
        what: String,
        /// By whom, with a leading blank; may be empty.
        detail: String,
    },
    /// The state does not allow the call.
    #[error("{op} of '{id}' is not possible while it is {state}")]
    InvalidState {
        /// The call.
        op: String,
        /// The container.
        id: String,
        /// Its state.
        state: String,
    },
    /// The engine refuses the configuration.
    #[error("{reason}")]
    InvalidSpec {
        /// The engine's reason.
        reason: String,
    },
    /// The engine does not have what is asked: an ability or a field.
    #[error("{engine} does not support {what}")]
    Unsupported {
        /// The engine.
        engine: String,
        /// The ability, or the field's path.
        what: String,
    },
    /// The time was over.
    #[error("{op} did not end within {} ms", after.as_millis())]
    Timeout {
        /// The call.
        op: String,
        /// How long it was given.
        after: Duration,
    },
    /// The image could not be had.
    #[error("image '{image}' could not be pulled: {reason}")]
    ImagePull {
        /// The reference.
        image: String,
        /// The engine's or registry's reason.
        reason: String,
    },
    /// The engine refuses for want of rights.
    #[error("{reason}")]
    PermissionDenied {
        /// The engine's reason.
        reason: String,
    },
    /// The call's token was cancelled.
    #[error("{op} was cancelled")]
    Cancelled {
        /// The call.
        op: String,
    },
    /// It would take more room than there is or may be taken.
    #[error("{what} needs {needed} bytes, and {limit} are there for it")]
    NoRoom {
        /// What.
        what: String,
        /// Bytes.
        needed: u64,
        /// Bytes.
        limit: u64,
    },
    /// A local file or socket failed.
    #[error("{what}: {reason}")]
    Io {
        /// What was done.
        what: String,
        /// The system's words.
        reason: String,
    },
    /// Anything else that the engine says.
    #[error("{engine} answered {code} to {op}: {message}")]
    Engine {
        /// The engine.
        engine: String,
        /// The call.
        op: String,
        /// The engine's code (an HTTP status).
        code: i64,
        /// The engine's words.
        message: String,
    },
}

/// Whether an engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// It does.
    Available {
        /// The engine's version.
        version: String,
        /// Its API's version.
        api: String,
    },
    /// It does not.
    Unavailable {
        /// Why.
        reason: String,
    },
}

/// What an engine can do. A flag is what a probe proved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "each name says it; the first five are Pullpiri's")]
pub struct RuntimeCapabilities {
    pub supports_realtime_scheduling: bool,
    pub supports_node_isolation: bool,
    pub supports_service_management: bool,
    pub supports_remote_execution: bool,
    pub supports_dependencies: bool,
    pub supports_pause: bool,
    pub supports_checkpoint: bool,
    pub supports_exec: bool,
    pub supports_stats: bool,
    pub supports_logs: bool,
    pub supports_events: bool,
    pub supports_native_healthcheck: bool,
    pub supports_image_pull: bool,
    pub supports_user_networks: bool,
    pub supports_resource_limits: bool,
    pub supports_pods: bool,
}

impl RuntimeCapabilities {
    /// What is there, a word each, for people.
    pub fn words(&self) -> Vec<&'static str> {
        let all = [
            (self.supports_realtime_scheduling, "realtime"),
            (self.supports_node_isolation, "isolation"),
            (self.supports_service_management, "services"),
            (self.supports_remote_execution, "remote"),
            (self.supports_dependencies, "dependencies"),
            (self.supports_pause, "pause"),
            (self.supports_checkpoint, "checkpoint"),
            (self.supports_exec, "exec"),
            (self.supports_stats, "stats"),
            (self.supports_logs, "logs"),
            (self.supports_events, "events"),
            (self.supports_native_healthcheck, "healthcheck"),
            (self.supports_image_pull, "pull"),
            (self.supports_user_networks, "networks"),
            (self.supports_resource_limits, "limits"),
            (self.supports_pods, "pods"),
        ];
        all.into_iter().filter(|(has, _)| *has).map(|(_, word)| word).collect()
    }
}

/// What a container is created from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerConfig {
    /// The container's name on the engine.
    pub name: String,
    /// The container as the document describes it; its `name` is the one within the workload.
    pub spec: ContainerSpec,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The pod whose network it shares; `None` for none. `network`, `ports` and `hostname` then are the pod's.
    pub pod: Option<String>,
    /// Its network where it is in no pod.
    pub network: NetworkMode,
    /// Published ports where it is in no pod.
    pub ports: Vec<PortSpec>,
    /// The host name inside where it is in no pod; empty leaves it to the engine.
    pub hostname: String,
    /// Share the host's IPC namespace.
    pub host_ipc: bool,
    /// Share the host's PID namespace.
    pub host_pid: bool,
    /// What `spec.mounts` name, resolved, in the same order.
    pub mounts: Vec<Mount>,
}

/// A mount with its source resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// Where from.
    pub source: MountSource,
    /// Absolute path inside.
    pub path: String,
    /// Writes are refused.
    pub read_only: bool,
}

/// Where a mount comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MountSource {
    /// A path of the host.
    Bind(String),
    /// A volume of the engine by name, with the path within it (empty: its root).
    Volume(String, String),
}

/// A network to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its name.
    pub name: String,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
}

/// A volume to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// Its name.
    pub name: String,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
    /// In memory, with at most this many bytes (0: the kernel's default); `None` on disk.
    pub tmpfs_bytes: Option<u64>,
}

/// A pod to be made: one network namespace (and IPC) for several containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodSpec {
    /// Its name.
    pub name: String,
    /// Labels, ours among them.
    pub labels: BTreeMap<String, String>,
    /// Its network; never the host's.
    pub network: NetworkMode,
    /// Published ports of all members.
    pub ports: Vec<PortSpec>,
    /// The host name inside.
    pub hostname: String,
}

/// How a container is stopped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopOptions {
    /// The first signal by name, `SIGTERM`.
    pub signal: String,
    /// Until SIGKILL; never rounded. Ended early by [`CancelToken::hasten`]. Zero with SIGKILL kills at once.
    pub grace: Duration,
}

impl StopOptions {
    /// SIGTERM, then SIGKILL after `grace`.
    pub fn graceful(grace: Duration) -> Self {
        Self { signal: "SIGTERM".to_owned(), grace }
    }

    /// SIGKILL at once.
    pub fn kill() -> Self {
        Self { signal: "SIGKILL".to_owned(), grace: Duration::ZERO }
    }
}

/// How a container is checkpointed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointOptions {
    /// An empty folder for the image. An engine that keeps images in a place of its own leaves it empty.
    pub dir: PathBuf,
}

/// Where a checkpoint's image lies: `parts` are the files and folders of it below `root`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointImage {
    /// An absolute path.
    pub root: PathBuf,
    /// Relative paths, at least one. Nothing else below `root` is of the image.
    pub parts: Vec<PathBuf>,
}

/// How a container shall be once it is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RestoreTo {
    /// It goes on.
    Running,
    /// It is frozen.
    Paused,
}

/// A container as the engine knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerInstance {
    /// The engine's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The engine.
    pub engine: String,
    /// Its state.
    pub status: ContainerStatus,
    /// The image's reference.
    pub image: String,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations, where the call gives them (inspect).
    pub annotations: BTreeMap<String, String>,
    /// Published ports.
    pub ports: Vec<PortSpec>,
    /// Addresses, where the call gives them (inspect).
    pub ips: Vec<String>,
    /// The first process on the host; 0 for none.
    pub pid: i32,
    /// Its cgroup; empty where not known.
    pub cgroup_path: String,
    /// Milliseconds since the epoch; 0 for not (yet).
    pub created_ms: u64,
    /// Milliseconds since the epoch; 0 for not (yet).
    pub started_ms: u64,
    /// Milliseconds since the epoch; 0 for not (yet).
    pub finished_ms: u64,
}

/// Which containers are listed. All conditions have to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Also those that do not run.
    pub all: bool,
    /// Labels with their values.
    pub labels: BTreeMap<String, String>,
}

/// Which of a container's output is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on until the container ends; otherwise what there is.
    pub follow: bool,
    /// The last so many lines; `None` is all.
    pub tail: Option<usize>,
    /// From this time on, milliseconds since the epoch; 0 is from the beginning.
    pub since_ms: u64,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

/// Which stream bytes came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OutputStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Where it came from.
    pub stream: OutputStream,
    /// The runtime's time of it, nanoseconds since the epoch; 0 where it gives none.
    pub timestamp_ns: u64,
    /// Raw bytes, a line with its end, or a part of one; at most 64 KiB.
    pub bytes: Vec<u8>,
}

/// What a command inside a container came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutcome {
    /// Its exit code.
    pub exit_code: i32,
    /// Standard output, at most [`MAX_EXEC_OUTPUT`] bytes.
    pub stdout: Vec<u8>,
    /// Standard error, at most [`MAX_EXEC_OUTPUT`] bytes.
    pub stderr: Vec<u8>,
    /// Whether output beyond the bound was dropped.
    pub truncated: bool,
}

/// The most that is kept of each stream of an exec, bytes.
pub const MAX_EXEC_OUTPUT: usize = 1024 * 1024;

/// A container's use of the node at one time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// CPU time so far, nanoseconds.
    pub cpu_ns: u64,
    /// Memory in use, bytes.
    pub memory_bytes: u64,
    /// Memory limit, bytes; 0 for none.
    pub memory_limit_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Received on its network, bytes.
    pub rx_bytes: u64,
    /// Sent on its network, bytes.
    pub tx_bytes: u64,
    /// Read from block devices, bytes.
    pub read_bytes: u64,
    /// Written to block devices, bytes.
    pub write_bytes: u64,
}

/// What an engine says happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineEvent {
    /// What.
    pub kind: EngineEventKind,
    /// The container's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its labels as far as the engine tells them.
    pub labels: BTreeMap<String, String>,
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
}

/// What happened to a container. Events that mean nothing here (a HUP sent, an exec) are not passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EngineEventKind {
    /// It was made.
    Created,
    /// It runs.
    Started,
    /// It ended.
    Died {
        /// The exit code where the engine tells it.
        exit_code: Option<i32>,
    },
    /// It was killed for want of memory; its end comes apart.
    OutOfMemory,
    /// It was frozen.
    Paused,
    /// It was thawed.
    Resumed,
    /// It was checkpointed to disk, and none of its processes is left. Its end is not told beside this.
    Hibernated,
    /// It goes on from its checkpoint. Its start is not told beside this.
    Woken,
    /// It was deleted.
    Removed,
}

/// A container runtime. Implementations are shared between threads and hold no lock over a call to the engine.
pub trait RuntimeAdapter: Send + Sync {
    /// The engine's name: `podman`, `sim`.
    fn name(&self) -> &str;

    /// Talks to the engine, within 2 s.
    fn probe(&self) -> Probe;

    /// What the engine can do, as the last probe proved it.
    fn capabilities(&self) -> RuntimeCapabilities;

    /// Makes the image present. `Changed` when it was fetched.
    fn ensure_image(&self, _call: &Call, _image: &str, _pull: PullPolicy) -> RtResult<Change> {
        Err(unsupported(self.name(), "image pull"))
    }

    /// Creates a container, its image fetched where it is absent. A taken name is `AlreadyExists`.
    fn create_container(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance>;

    /// Starts it; returns once it runs or has run. From created and exited.
    fn start_container(&self, call: &Call, id: &str) -> RtResult<Change>;

    /// Ends it as `options` say, from paused too; returns once it has ended.
    fn stop_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change>;

    /// Sends one signal by name (`SIGHUP`) and returns; not running is `InvalidState`.
    fn signal_container(&self, _call: &Call, _id: &str, _signal: &str) -> RtResult<()> {
        Err(unsupported(self.name(), "signals"))
    }

    /// Deletes it; `force` also where it runs. Unknown is `Unchanged`. Named volumes stay.
    fn remove_container(&self, call: &Call, id: &str, force: bool) -> RtResult<Change>;

    /// The container in full.
    fn inspect_container(&self, call: &Call, id: &str) -> RtResult<ContainerInstance>;

    /// The containers that fit, by creation time, then id.
    fn list_containers(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>>;

    /// Blocks until the container has ended and gives its exit code; `None` where it was lost.
    fn wait_container(&self, call: &Call, id: &str) -> RtResult<Option<i32>>;

    /// Stop and start.
    fn restart_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        self.stop_container(call, id, options)?;
        self.start_container(call, id)
    }

    /// Freezes it.
    fn pause_container(&self, _call: &Call, _id: &str) -> RtResult<Change> {
        Err(unsupported(self.name(), "pause"))
    }

    /// Thaws it.
    fn resume_container(&self, _call: &Call, _id: &str) -> RtResult<Change> {
        Err(unsupported(self.name(), "pause"))
    }

    /// Checkpoints it to disk; none of its processes is left then. From running alone. A failure leaves it running.
    fn hibernate_container(&self, _call: &Call, _id: &str) -> RtResult<Change> {
        Err(unsupported(self.name(), "checkpoint"))
    }

    /// Lets it go on from its checkpoint. From hibernated; what runs because it was woken is `Unchanged`. A damaged
    /// checkpoint is `InvalidSpec`, and the container has ended then; any other failure leaves it hibernated.
    fn wake_container(&self, _call: &Call, _id: &str, _to: RestoreTo) -> RtResult<Change> {
        Err(unsupported(self.name(), "checkpoint"))
    }

    /// Whether checkpoints work here: dumps and restores something tiny, which is gone when this returns. That a CRIU is
    /// there proves nothing. `Unsupported` says why not. Takes seconds; [`crate::runtime::hibernation`] asks seldom.
    fn prove_checkpoint(&self, _call: &Call) -> RtResult<()> {
        Err(unsupported(self.name(), "checkpoint"))
    }

    /// Writes the memory and the state of what runs to disk and ends its processes; gives where the image lies. A
    /// failure, the call's cancel and the end of its time leave it running as before and nothing of the image.
    ///
    /// The state is checked before this is called, and the image is summed and synced after it, both once for all
    /// engines in [`crate::runtime::hibernation`]: an adapter needs to know nothing of images that are there already.
    fn checkpoint_container(&self, _call: &Call, _id: &str, _options: &CheckpointOptions) -> RtResult<CheckpointImage> {
        Err(unsupported(self.name(), "checkpoint"))
    }

    /// Lets it go on from an image that is known to be whole. The image stays, for its owner to delete. A failure, the
    /// call's cancel and the end of its time leave no process, no control group and no other trace of the try: whatever
    /// works on it is ended with all its children.
    fn restore_container(&self, _call: &Call, _id: &str, _image: &CheckpointImage, _to: RestoreTo) -> RtResult<Change> {
        Err(unsupported(self.name(), "checkpoint"))
    }

    /// Where the image of a checkpoint lies that was made while nobody waited for it.
    fn find_checkpoint(&self, _call: &Call, id: &str) -> RtResult<CheckpointImage> {
        Err(RuntimeError::InvalidSpec { reason: format!("the checkpoint of '{id}' is damaged: where it lies is lost") })
    }

    /// Gives up the checkpoint of a container: it counts as ended from now on. Its image is deleted by who calls this.
    fn discard_checkpoint(&self, _call: &Call, _id: &str) -> RtResult<Change> {
        Ok(Change::Unchanged)
    }

    /// Makes the network present. One of that name without our node label is `AlreadyExists`.
    fn ensure_network(&self, _call: &Call, _network: &NetworkSpec) -> RtResult<Change> {
        Err(unsupported(self.name(), "networks"))
    }

    /// Deletes the network if it is ours and no container is in it; otherwise, or where it is absent, `Unchanged`.
    fn remove_network(&self, _call: &Call, _name: &str) -> RtResult<Change> {
        Err(unsupported(self.name(), "networks"))
    }

    /// Makes the volume present. One of that name without our node label is `AlreadyExists`.
    fn ensure_volume(&self, _call: &Call, _volume: &VolumeSpec) -> RtResult<Change> {
        Err(unsupported(self.name(), "volumes"))
    }

    /// Deletes the volume if it is ours; otherwise, or where it is absent, `Unchanged`.
    fn remove_volume(&self, _call: &Call, _name: &str) -> RtResult<Change> {
        Err(unsupported(self.name(), "volumes"))
    }

    /// Makes the pod present. One of that name without our node label is `AlreadyExists`.
    fn ensure_pod(&self, _call: &Call, _pod: &PodSpec) -> RtResult<Change> {
        Err(unsupported(self.name(), "pods"))
    }

    /// Deletes the pod if it is ours; its members have to be gone. Otherwise, or where it is absent, `Unchanged`.
    fn remove_pod(&self, _call: &Call, _name: &str) -> RtResult<Change> {
        Err(unsupported(self.name(), "pods"))
    }

    /// Ends what keeps the pod's network where no member is live, so that its published ports are free; starting a
    /// member brings it back. Otherwise, or where it is absent or not ours, `Unchanged`.
    fn stop_pod(&self, _call: &Call, _name: &str) -> RtResult<Change> {
        Ok(Change::Unchanged)
    }

    /// The names of our pods, networks and volumes that belong to the workload: what is left once its containers
    /// are gone.
    fn list_leftovers(&self, _call: &Call, _workload: &str) -> RtResult<Leftovers> {
        Ok(Leftovers::default())
    }

    /// Its use of the node now; not running is `InvalidState`.
    fn container_stats(&self, _call: &Call, _id: &str) -> RtResult<ContainerStats> {
        Err(unsupported(self.name(), "stats"))
    }

    /// Its output. Opening is bounded by the call; reading is ended by the call's token alone.
    fn container_logs(&self, _call: &Call, _id: &str, _options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
        Err(unsupported(self.name(), "logs"))
    }

    /// Runs a command inside, without a terminal.
    fn exec_in_container(&self, _call: &Call, _id: &str, _argv: &[String]) -> RtResult<ExecOutcome> {
        Err(unsupported(self.name(), "exec"))
    }

    /// What happens from now on; returns once the subscription is live, so that a caller can list after it.
    fn watch_events(&self, _call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        Err(unsupported(self.name(), "events"))
    }
}

/// What of a workload is on an engine beside containers, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leftovers {
    /// Pods labelled with the workload.
    pub pods: Vec<String>,
    /// Volumes labelled with the workload.
    pub volumes: Vec<String>,
    /// Networks of ours that nothing is in.
    pub networks: Vec<String>,
}

/// The error of an ability that an engine lacks.
pub fn unsupported(engine: &str, what: impl Into<String>) -> RuntimeError {
    RuntimeError::Unsupported { engine: engine.to_owned(), what: what.into() }
}
