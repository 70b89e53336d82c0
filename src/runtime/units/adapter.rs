//! The port to engines, over whoever is asked for units.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::Units;
use super::events;
use super::manager::UnitManager;
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::runtime::adapter::{
    BlockingStream, Call, Change, ContainerConfig, ContainerInstance, ContainerStats, EngineEvent, Leftovers,
    ListFilter, NoProgress, Probe, RtResult, RuntimeAdapter, RuntimeCapabilities, StopOptions, VolumeSpec,
};
use crate::runtime::shared::verbs;

/// How long a probe may take.
const PROBE: Duration = Duration::from_millis(1_900);

impl<M: UnitManager> RuntimeAdapter for Units<M> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn probe(&self) -> Probe {
        let cancel = CancelToken::new();
        let call = Call { deadline: Deadline::after(PROBE), cancel: &cancel, progress: &NoProgress };
        match self.0.manager.probe(&call) {
            Ok(found) => {
                *self.0.capabilities.lock().unwrap_or_else(PoisonError::into_inner) = found.capabilities;
                Probe::Available { version: found.version, api: found.api }
            }
            Err(error) => Probe::away(error),
        }
    }

    fn capabilities(&self) -> RuntimeCapabilities {
        *self.0.capabilities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn create_container(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        self.0.create(call, config)
    }

    fn start_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        verbs::start(self.0.as_ref(), call, id)
    }

    fn stop_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        self.0.stop(call, id, options)
    }

    fn signal_container(&self, call: &Call, id: &str, signal: &str) -> RtResult<()> {
        verbs::signal(self.0.as_ref(), call, id, signal)
    }

    fn remove_container(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        self.0.remove(call, id, force)
    }

    fn inspect_container(&self, call: &Call, id: &str) -> RtResult<ContainerInstance> {
        self.0.manager.check(call)?;
        let record = self.0.records.get(id)?;
        self.0.instance(call, &record)
    }

    fn list_containers(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        self.0.list(call, filter)
    }

    fn wait_container(&self, call: &Call, id: &str) -> RtResult<Option<i32>> {
        self.0.wait(call, id, Instant::now())
    }

    fn pause_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        verbs::pause(self.0.as_ref(), call, id)
    }

    fn resume_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        verbs::resume(self.0.as_ref(), call, id)
    }

    fn update_resources(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        self.0.resize(call, id, resources, force)
    }

    fn ensure_volume(&self, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
        self.0.manager.check(call)?;
        self.0.volumes.ensure(volume)
    }

    fn remove_volume(&self, call: &Call, name: &str) -> RtResult<Change> {
        self.0.manager.check(call)?;
        self.0.volumes.remove_unused(name, self.0.records.all().iter().map(|record| &record.config))
    }

    fn list_leftovers(&self, call: &Call, workload: &str) -> RtResult<Leftovers> {
        self.0.manager.check(call)?;
        Ok(Leftovers { volumes: self.0.volumes.of_workload(workload)?, ..Leftovers::default() })
    }

    fn container_stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        self.0.stats(call, id)
    }

    fn watch_events(&self, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        events::watch(&self.0, call)
    }
}
