//! The port to engines, over whoever is asked for units.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::events;
use super::manager::UnitManager;
use super::{Engine, Units};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::runtime::adapter::{
    BlockingStream, Call, Change, ContainerConfig, ContainerInstance, ContainerStats, EngineEvent, Leftovers,
    ListFilter, LogChunk, LogOptions, NoProgress, Probe, RtResult, RuntimeAdapter, RuntimeCapabilities, RuntimeError,
    StopOptions, VolumeSpec, unsupported,
};
use crate::runtime::logfile::reader::IsOver;
use crate::runtime::shared::verbs;

/// How long a probe may take.
const PROBE: Duration = Duration::from_millis(1_900);

/// The time of one look at the container by who follows its output.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// How long a follower bears that systemd does not answer: it may be executed anew.
const AWAY_LIMIT: Duration = Duration::from_secs(60);

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

    fn container_logs(&self, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
        self.0.manager.check(call)?;
        let record = self.0.records.get(id)?;
        let journal = self.0.manager.journal().filter(|_| self.capabilities().supports_logs);
        let journal = journal.ok_or_else(|| unsupported(self.name(), "logs"))?;
        // Before it was made the unit may have been another's.
        journal.open(call, &record.unit, record.created_ms, options, is_over(&self.0, call, &record.id))
    }

    fn watch_events(&self, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        events::watch(&self.0, call)
    }
}

/// Says when a container writes nothing more: it has ended, or is gone.
fn is_over<M: UnitManager>(engine: &Arc<Engine<M>>, call: &Call, id: &str) -> IsOver {
    let (engine, id, cancel) = (Arc::clone(engine), id.to_owned(), call.cancel.clone());
    let mut away: Option<Deadline> = None;
    Box::new(move || {
        let call = Call { deadline: Deadline::after(LOOK_LIMIT), cancel: &cancel, progress: &NoProgress };
        let Some(record) = engine.records.find(&id) else { return Ok(true) };
        match engine.see(&call, &record) {
            Ok(seen) => {
                away = None;
                Ok(!seen.status.is_live())
            }
            Err(
                RuntimeError::EngineNotAvailable { .. }
                | RuntimeError::Connection { .. }
                | RuntimeError::Timeout { .. },
            ) if !away.get_or_insert_with(|| Deadline::after(AWAY_LIMIT)).is_over() => Ok(false),
            Err(error) => Err(error),
        }
    })
}
