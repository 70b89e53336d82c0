//! The simulator as a [`RuntimeAdapter`]: each call goes to the part of the engine that does it.

use std::time::Duration;

use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{
    BlockingStream, Call, Change, CheckpointImage, CheckpointOptions, ContainerConfig, ContainerInstance,
    ContainerStats, EngineEvent, ExecOutcome, Leftovers, LimitsInForce, ListFilter, LogChunk, LogOptions, NetworkSpec,
    NoProgress, PodSpec, Probe, RestoreTo, RtResult, RuntimeAdapter, RuntimeCapabilities, StopOptions, VolumeSpec,
};

use super::config::SimOp;
use super::{NAME, SimRuntime};

/// How long a probe may take, as the port says.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);

impl RuntimeAdapter for SimRuntime {
    fn name(&self) -> &str {
        NAME
    }

    fn probe(&self) -> Probe {
        let cancel = CancelToken::new();
        let call = Call { deadline: Deadline::after(PROBE_TIMEOUT), cancel: &cancel, progress: &NoProgress };
        let passage = self.0.faults.enter(&call, SimOp::Probe, "");
        match passage.and_then(|passage| passage.leave(())).and_then(|()| self.0.look(|_| Ok(()))) {
            Ok(()) => Probe::Available { version: env!("CARGO_PKG_VERSION").to_owned(), api: "1".to_owned() },
            Err(error) => Probe::away(error),
        }
    }

    fn capabilities(&self) -> RuntimeCapabilities {
        RuntimeCapabilities {
            supports_pause: true,
            supports_exec: true,
            supports_stats: true,
            supports_logs: true,
            supports_events: true,
            supports_image_pull: true,
            supports_user_networks: true,
            supports_resource_limits: true,
            supports_pods: true,
            supports_rootfs: true,
            supports_service_management: true,
            ..RuntimeCapabilities::default()
        }
    }

    fn ensure_image(&self, call: &Call, image: &str, pull: PullPolicy) -> RtResult<Change> {
        self.0.ensure_image(call, image, pull)
    }

    fn create_container(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        self.0.create(call, config)
    }

    fn start_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.0.start(call, id)
    }

    fn stop_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        self.0.stop(call, id, options)
    }

    fn signal_container(&self, call: &Call, id: &str, signal: &str) -> RtResult<()> {
        self.0.signal(call, id, signal)
    }

    fn remove_container(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        self.0.remove(call, id, force)
    }

    fn inspect_container(&self, call: &Call, id: &str) -> RtResult<ContainerInstance> {
        self.0.inspect(call, id)
    }

    fn list_containers(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        self.0.list(call, filter)
    }

    fn wait_container(&self, call: &Call, id: &str) -> RtResult<Option<i32>> {
        self.0.wait(call, id)
    }

    fn pause_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.0.pause(call, id)
    }

    fn resume_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.0.resume(call, id)
    }

    fn update_resources(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        self.0.resize(call, id, resources, force)
    }

    fn limits_in_force(&self, container: &ContainerInstance, wanted: &Resources) -> RtResult<Option<LimitsInForce>> {
        self.0.limits_in_force(&container.id, wanted)
    }

    fn prove_checkpoint(&self, call: &Call) -> RtResult<()> {
        self.0.prove_checkpoint(call)
    }

    fn checkpoint_container(&self, call: &Call, id: &str, options: &CheckpointOptions) -> RtResult<CheckpointImage> {
        self.0.checkpoint(call, id, options)
    }

    fn restore_container(&self, call: &Call, id: &str, image: &CheckpointImage, to: RestoreTo) -> RtResult<Change> {
        self.0.restore(call, id, image, to)
    }

    fn ensure_network(&self, call: &Call, network: &NetworkSpec) -> RtResult<Change> {
        self.0.ensure_network(call, network)
    }

    fn remove_network(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.0.remove_network(call, name)
    }

    fn ensure_volume(&self, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
        self.0.ensure_volume(call, volume)
    }

    fn remove_volume(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.0.remove_volume(call, name)
    }

    fn ensure_pod(&self, call: &Call, pod: &PodSpec) -> RtResult<Change> {
        self.0.ensure_pod(call, pod)
    }

    fn remove_pod(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.0.remove_pod(call, name)
    }

    fn list_leftovers(&self, call: &Call, workload: &str) -> RtResult<Leftovers> {
        self.0.leftovers(call, workload)
    }

    fn container_stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        self.0.stats(call, id)
    }

    fn container_logs(&self, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
        self.0.logs(call, id, options)
    }

    fn exec_in_container(&self, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
        self.0.exec(call, id, argv)
    }

    fn watch_events(&self, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        self.0.events(call)
    }
}
