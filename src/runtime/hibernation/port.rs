//! [`Hibernation`] as a [`RuntimeAdapter`]: what concerns checkpoints is done here, everything else goes to the engine.

use super::Hibernation;
use super::cycle::not_allowed;
use crate::model::resources::Resources;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{
    BlockingStream, Call, Change, CheckpointImage, CheckpointOptions, ContainerConfig, ContainerInstance,
    ContainerStats, EngineEvent, ExecOutcome, Leftovers, LimitsInForce, ListFilter, LogChunk, LogOptions, NetworkSpec,
    PodSpec, Probe, RestoreTo, RtResult, RuntimeAdapter, RuntimeCapabilities, StopOptions, VolumeSpec,
};

impl Hibernation {
    /// Refuses a call that a hibernated container does not allow, before its engine takes it for an ended one.
    fn check(&self, call: &Call, op: &str, id: &str, transition: Transition) -> RtResult<()> {
        if self.hibernated(id).is_none() && self.id_underway(id).is_none() {
            return Ok(());
        }
        let instance = self.inspect_container(call, id)?;
        match instance.status {
            ContainerStatus::Hibernating | ContainerStatus::Hibernated | ContainerStatus::Waking
                if instance.status.allows(transition) == Allowed::No =>
            {
                Err(not_allowed(op, &instance))
            }
            _ => Ok(()),
        }
    }
}

impl RuntimeAdapter for Hibernation {
    fn name(&self) -> &str {
        self.engine.name()
    }

    fn probe(&self) -> Probe {
        self.engine.probe()
    }

    fn capabilities(&self) -> RuntimeCapabilities {
        RuntimeCapabilities { supports_checkpoint: self.proof.works(), ..self.engine.capabilities() }
    }

    fn ensure_image(&self, call: &Call, image: &str, pull: PullPolicy) -> RtResult<Change> {
        self.engine.ensure_image(call, image, pull)
    }

    fn create_container(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        let made = self.engine.create_container(call, config)?;
        // A record of this name is of a container that somebody else has removed.
        self.images.forget(&config.name);
        Ok(made)
    }

    fn start_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.check(call, "start", id, Transition::Start)?;
        let change = self.engine.start_container(call, id)?;
        if change == Change::Changed {
            // Another run, of which the old record says nothing.
            self.images.forget(id);
        }
        Ok(change)
    }

    fn stop_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        if let Some(id) = self.id_underway(id) {
            self.end_underway(&id, "it is to be stopped", call.deadline);
        }
        if self.hibernated(id).is_some() {
            let instance = self.inspect_container(call, id)?;
            if instance.status == ContainerStatus::Hibernated
                && let Some(record) = self.hibernated(&instance.id)
            {
                self.discard(call, &record)?;
                return Ok(Change::Changed);
            }
        }
        self.engine.stop_container(call, id, options)
    }

    fn signal_container(&self, call: &Call, id: &str, signal: &str) -> RtResult<()> {
        self.engine.signal_container(call, id, signal)
    }

    fn remove_container(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        if force && let Some(id) = self.id_underway(id) {
            self.end_underway(&id, "it is to be removed", call.deadline);
        }
        self.check(call, "remove", id, Transition::Remove { force })?;
        let change = self.engine.remove_container(call, id, force)?;
        self.images.forget(id);
        Ok(change)
    }

    fn inspect_container(&self, call: &Call, id: &str) -> RtResult<ContainerInstance> {
        self.engine.inspect_container(call, id).map(|instance| self.seen(instance))
    }

    fn list_containers(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        let found = self.engine.list_containers(call, filter)?;
        if self.images.is_empty() {
            return Ok(found);
        }
        Ok(found.into_iter().map(|instance| self.seen(instance)).collect())
    }

    fn wait_container(&self, call: &Call, id: &str) -> RtResult<Option<i32>> {
        // Its end is still to come, and the engine takes the checkpoint for it.
        if self.hibernated(id).is_some() {
            let instance = self.inspect_container(call, id)?;
            if instance.status == ContainerStatus::Hibernated {
                return Err(not_allowed("wait", &instance));
            }
        }
        self.engine.wait_container(call, id)
    }

    fn restart_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        self.stop_container(call, id, options)?;
        self.start_container(call, id)
    }

    fn update_resources(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        if self.hibernated(id).is_some() || self.id_underway(id).is_some() {
            return Err(not_allowed("resize", &self.inspect_container(call, id)?));
        }
        self.engine.update_resources(call, id, resources, force)
    }

    fn limits_in_force(&self, container: &ContainerInstance, wanted: &Resources) -> RtResult<Option<LimitsInForce>> {
        self.engine.limits_in_force(container, wanted)
    }

    fn pause_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.check(call, "pause", id, Transition::Pause)?;
        self.engine.pause_container(call, id)
    }

    fn resume_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.check(call, "resume", id, Transition::Resume)?;
        self.engine.resume_container(call, id)
    }

    fn hibernate_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.hibernate(call, id)
    }

    fn wake_container(&self, call: &Call, id: &str, to: RestoreTo) -> RtResult<Change> {
        self.wake(call, id, to)
    }

    fn prove_checkpoint(&self, call: &Call) -> RtResult<()> {
        self.proof.ask(self.engine.as_ref(), call)
    }

    fn checkpoint_container(&self, call: &Call, id: &str, options: &CheckpointOptions) -> RtResult<CheckpointImage> {
        self.engine.checkpoint_container(call, id, options)
    }

    fn restore_container(&self, call: &Call, id: &str, image: &CheckpointImage, to: RestoreTo) -> RtResult<Change> {
        self.engine.restore_container(call, id, image, to)
    }

    fn find_checkpoint(&self, call: &Call, id: &str) -> RtResult<CheckpointImage> {
        self.engine.find_checkpoint(call, id)
    }

    fn discard_checkpoint(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.engine.discard_checkpoint(call, id)
    }

    fn ensure_network(&self, call: &Call, network: &NetworkSpec) -> RtResult<Change> {
        self.engine.ensure_network(call, network)
    }

    fn remove_network(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.engine.remove_network(call, name)
    }

    fn ensure_volume(&self, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
        self.engine.ensure_volume(call, volume)
    }

    fn remove_volume(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.engine.remove_volume(call, name)
    }

    fn ensure_pod(&self, call: &Call, pod: &PodSpec) -> RtResult<Change> {
        self.engine.ensure_pod(call, pod)
    }

    fn remove_pod(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.engine.remove_pod(call, name)
    }

    fn stop_pod(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.engine.stop_pod(call, name)
    }

    fn list_leftovers(&self, call: &Call, workload: &str) -> RtResult<Leftovers> {
        self.engine.list_leftovers(call, workload)
    }

    fn container_stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        self.engine.container_stats(call, id)
    }

    fn container_logs(&self, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
        self.engine.container_logs(call, id, options)
    }

    fn exec_in_container(&self, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
        self.engine.exec_in_container(call, id, argv)
    }

    fn watch_events(&self, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        self.engine.watch_events(call)
    }
}
