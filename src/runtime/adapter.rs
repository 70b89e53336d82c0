//! The port to container runtimes: [`RuntimeAdapter`], what it takes and gives, and how it fails.
//!
//! The semantics are the same for every engine: repeating a verb is [`Change::Unchanged`] (a taken name apart), an id
//! may be the engine's id or the container's name, every field of a configuration takes effect or the call fails with
//! [`RuntimeError::Unsupported`], and no engine's own restart policy is used.

mod asked;
mod error;
mod told;

pub use asked::{
    CheckpointOptions, ContainerConfig, ListFilter, LogOptions, Mount, MountSource, NetworkSpec, PodSpec, RestoreTo,
    StopOptions, VolumeSpec,
};
pub use error::{RtResult, RuntimeError, unsupported};
pub use told::{
    Change, CheckpointImage, ContainerInstance, ContainerStats, EngineEvent, EngineEventKind, ExecOutcome, Leftovers,
    LimitsInForce, LogChunk, MAX_EXEC_OUTPUT, OutputStream, Probe, RuntimeCapabilities,
};

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::model::workload::PullPolicy;

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

    /// Changes limits of what runs, with no restart, until it ends: whether a later start has them too is the engine's, so
    /// they are set again after each. Those that are `None` stay, those that are 0 are taken away. What does not take effect
    /// in the control group is `Unsupported` by name, a memory limit below what is used `InvalidSpec` unless it is forced;
    /// in both cases all is as before.
    fn update_resources(&self, _call: &Call, _id: &str, _resources: &Resources, _force: bool) -> RtResult<Change> {
        Err(unsupported(self.name(), "changing the limits of what runs"))
    }

    /// The limits that a container has, as inspecting has just told it, by its control group, held against those that it shall
    /// have; `None` unless it runs where that can be seen.
    fn limits_in_force(&self, container: &ContainerInstance, wanted: &Resources) -> RtResult<Option<LimitsInForce>> {
        super::shared::resize::in_force(container, wanted)
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
