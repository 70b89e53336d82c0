//! The life of a simulated container: created, started, signalled, stopped, frozen, removed.
//!
//! What a verb means from a state is the table in `model/state.rs`; nothing of it is decided here.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use uuid::Uuid;

use crate::cancel::Urge;
use crate::clock::Deadline;
use crate::model::resources::Resources;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{
    Call, Change, ContainerConfig, ContainerInstance, ContainerStats, EngineEventKind, LimitsInForce, ListFilter,
    RtResult, RuntimeError, StopOptions,
};
use crate::runtime::shared::fields::changed_limits;

use super::config::SimOp;
use super::faults::Passage;
use super::inside::{View, root_place};
use super::objects::check_references;
use super::run::Run;
use super::script::{self, Directive, Program};
use super::state::{Container, State, invalid_state};
use super::{Engine, check_name};

/// How often a stop looks whether somebody else ended its container or froze it again: a hastened grace wakes it at
/// once, other changes do not.
const LOOK: Duration = Duration::from_millis(20);

/// The memory that every simulated container uses, bytes.
const MEMORY_USED: u64 = 1024 * 1024;

/// One run of one container.
struct RunKey {
    id: String,
    pid: i32,
}

/// The words that say how a container behaves.
pub(super) fn script_of(config: &ContainerConfig) -> RtResult<Vec<Directive>> {
    let words: Vec<String> = config.spec.command.iter().chain(&config.spec.args).cloned().collect();
    let read = || {
        let variable = config.spec.env.iter().rev().find(|var| var.name == script::SCRIPT_VARIABLE);
        let mut directives = variable.map_or_else(|| Ok(Vec::new()), |var| script::read_variable(&var.value))?;
        directives.extend(script::read(&words)?.unwrap_or_default());
        Ok(directives)
    };
    read().map_err(|reason: String| RuntimeError::InvalidSpec {
        reason: format!("container '{}': {reason}", config.name),
    })
}

fn parse_signal(name: &str) -> RtResult<Signal> {
    script::signal(name).map_err(|reason| RuntimeError::InvalidSpec { reason })
}

fn check_free(state: &State, name: &str) -> RtResult<()> {
    let Ok(holder) = state.find(name) else { return Ok(()) };
    let detail = format!(" with id {}", holder.id);
    Err(RuntimeError::AlreadyExists { what: format!("container '{name}'"), detail })
}

impl Engine {
    pub(super) fn create(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        let passage = self.faults.enter(call, SimOp::Create, &config.name)?;
        check_name("container", &config.name)?;
        script_of(config)?;
        self.look(|state| {
            check_free(state, &config.name)?;
            check_references(state, config)
        })?;
        let pull = match config.spec.pull {
            // `Always` is an own call before this one; here an absent image alone is fetched.
            PullPolicy::Always | PullPolicy::IfNotPresent => PullPolicy::IfNotPresent,
            PullPolicy::Never => PullPolicy::Never,
        };
        let has_other = !config.spec.rootfs.is_empty() || !config.spec.unit.is_empty();
        if !has_other {
            self.ensure_image(call, &config.spec.image, pull)?;
        }
        let instance = self.change(|state, now| {
            // Again, because the pull let others in.
            check_free(state, &config.name)?;
            check_references(state, config)?;
            let id = Uuid::now_v7().simple().to_string();
            let container = Container {
                id: id.clone(),
                config: config.clone(),
                created_ns: now,
                run: None,
                last: None,
                ended: 0,
                log: Default::default(),
            };
            let instance = state.instance(&container);
            state.containers.insert(id.clone(), container);
            state.tell(&id, EngineEventKind::Created, now);
            Ok(instance)
        })?;
        passage.leave(instance)
    }

    pub(super) fn start(&self, call: &Call, id: &str) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::Start, &self.name_of(id))?;
        let change = self.change(|state, now| {
            let container = state.find(id)?;
            match container.status().allows(Transition::Start) {
                Allowed::Yes => {}
                Allowed::Unchanged => return Ok(Change::Unchanged),
                Allowed::No => return Err(invalid_state("start", container)),
            }
            let (id, config) = (container.id.clone(), container.config.clone());
            let directives = script_of(&config)?;
            let mut view = View { id: &id, config: &config, pods: &state.pods, files: &mut state.files };
            let program =
                Program::start(&directives, &mut view).map_err(|reason| RuntimeError::InvalidSpec { reason })?;
            let pid = state.new_pid();
            state.find_mut(&id)?.run = Some(Run::new(pid, now, program));
            state.tell(&id, EngineEventKind::Started, now);
            Ok(Change::Changed)
        })?;
        passage.leave(change)
    }

    pub(super) fn signal(&self, call: &Call, id: &str, signal: &str) -> RtResult<()> {
        let passage = self.faults.enter(call, SimOp::Signal, &self.name_of(id))?;
        let signal = parse_signal(signal)?;
        self.change(|state, now| {
            let container = state.find_mut(id)?;
            match &mut container.run {
                Some(run) => run.signal(now, signal),
                None => return Err(invalid_state("signal", container)),
            }
            Ok(())
        })?;
        passage.leave(())
    }

    pub(super) fn stop(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::Stop, &self.name_of(id))?;
        let signal = parse_signal(&options.signal)?;
        let grace = Deadline::after(options.grace);
        let Some(run) = self.begin_stop(id, signal)? else { return passage.leave(Change::Unchanged) };
        let ended = self.await_end(call, &passage, &run, grace);
        if let Some(still) = self.lock().containers.get_mut(&run.id).and_then(|container| container.run.as_mut())
            && still.pid == run.pid
        {
            still.stopping = still.stopping.saturating_sub(1);
        }
        ended?;
        passage.leave(Change::Changed)
    }

    /// Sends the first signal and thaws; `None` where there is nothing to stop.
    fn begin_stop(&self, id: &str, signal: Signal) -> RtResult<Option<RunKey>> {
        self.change(|state, now| {
            let container = state.find_mut(id)?;
            match container.status().allows(Transition::Stop) {
                Allowed::Yes => {}
                Allowed::Unchanged => return Ok(None),
                Allowed::No => return Err(invalid_state("stop", container)),
            }
            let Some(run) = &mut container.run else { return Ok(None) };
            run.signal(now, signal);
            run.stopping += 1;
            let (was_frozen, key) = (run.is_frozen(), RunKey { id: container.id.clone(), pid: run.pid });
            run.thaw(now);
            if was_frozen {
                state.tell(&key.id, EngineEventKind::Resumed, now);
            }
            Ok(Some(key))
        })
    }

    /// Waits until the run has ended and kills it when its grace is over or hastened.
    fn await_end(&self, call: &Call, passage: &Passage, key: &RunKey, grace: Deadline) -> RtResult<()> {
        loop {
            let Some(due) = self.look(|state| Ok(due(state, key)))? else { return Ok(()) };
            passage.check()?;
            if grace.is_over() || call.cancel.urge() == Urge::Hasten {
                return self.kill(key);
            }
            let end = due.map_or(LOOK, |due| self.clock.instant(due).saturating_duration_since(Instant::now()));
            let until = grace.min(call.deadline).at_most(end.min(LOOK));
            call.cancel.wait(Urge::Hasten, until);
        }
    }

    fn kill(&self, key: &RunKey) -> RtResult<()> {
        self.change(|state, now| {
            if let Some(container) = state.containers.get_mut(&key.id) {
                container.kill(now, Some(key.pid));
            }
            Ok(())
        })
    }

    pub(super) fn remove(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::Remove, &self.name_of(id))?;
        let change = self.change(|state, now| {
            let Ok(id) = state.id_of(id) else { return Ok(Change::Unchanged) };
            let container = state.find_mut(&id)?;
            match container.status().allows(Transition::Remove { force }) {
                Allowed::Yes => container.kill(now, None),
                Allowed::Unchanged => return Ok(Change::Unchanged),
                Allowed::No => return Err(invalid_state("remove", container)),
            }
            // So that its death is told before its removal.
            state.settle(now);
            state.tell(&id, EngineEventKind::Removed, now);
            state.containers.remove(&id);
            let place = root_place(&id);
            state.files.retain(|file, _| !file.starts_with(&place));
            Ok(Change::Changed)
        })?;
        passage.leave(change)
    }

    pub(super) fn pause(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.freeze_or_thaw(call, id, SimOp::Pause, Transition::Pause)
    }

    pub(super) fn resume(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.freeze_or_thaw(call, id, SimOp::Resume, Transition::Resume)
    }

    pub(super) fn resize(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        changed_limits(resources)?;
        let passage = self.faults.enter(call, SimOp::Resize, &self.name_of(id))?;
        let change = self.change(|state, _| {
            let container = state.find_mut(id)?;
            if !container.status().is_running() && container.status() != ContainerStatus::Paused {
                return Err(invalid_state(SimOp::Resize.word(), container));
            }
            let made_with = &container.config.spec.resources;
            let Some(run) = &mut container.run else { return Ok(Change::Unchanged) };
            let now = resources.over(&run.resized.over(made_with));
            if !force && resources.memory_bytes.is_some_and(|limit| (1..MEMORY_USED).contains(&limit)) {
                let reason = format!("resources.memory_bytes: is below what is used now, {MEMORY_USED}");
                return Err(RuntimeError::InvalidSpec { reason });
            }
            let is_so = now == run.resized.over(made_with);
            run.resized = now;
            Ok(if is_so { Change::Unchanged } else { Change::Changed })
        })?;
        passage.leave(change)
    }

    /// The limits that it would have.
    pub(super) fn limits_in_force(&self, id: &str, wanted: &Resources) -> RtResult<Option<LimitsInForce>> {
        self.look(|state| {
            let container = state.find(id)?;
            let Some(run) = container.run.as_ref().filter(|_| container.status().is_live()) else { return Ok(None) };
            let limits = run.resized.over(&container.config.spec.resources).in_force();
            let differs = |((name, has), (_, wanted)): ((&'static str, _), (_, Option<u64>))| {
                (wanted.is_some() && has != wanted).then_some(name)
            };
            let drifted = limits.named().into_iter().zip(wanted.named()).filter_map(differs).collect();
            Ok(Some(LimitsInForce { limits, drifted }))
        })
    }

    fn freeze_or_thaw(&self, call: &Call, id: &str, op: SimOp, transition: Transition) -> RtResult<Change> {
        let passage = self.faults.enter(call, op, &self.name_of(id))?;
        let change = self.change(|state, now| {
            let container = state.find_mut(id)?;
            let run = match (container.status().allows(transition), &mut container.run) {
                (Allowed::Yes, Some(run)) => run,
                (Allowed::Unchanged, _) => return Ok(Change::Unchanged),
                (Allowed::Yes | Allowed::No, _) => return Err(invalid_state(op.word(), container)),
            };
            let kind = if transition == Transition::Pause {
                run.freeze(now);
                EngineEventKind::Paused
            } else {
                run.thaw(now);
                EngineEventKind::Resumed
            };
            let id = container.id.clone();
            state.tell(&id, kind, now);
            Ok(Change::Changed)
        })?;
        passage.leave(change)
    }

    pub(super) fn inspect(&self, call: &Call, id: &str) -> RtResult<ContainerInstance> {
        let passage = self.faults.enter(call, SimOp::Inspect, &self.name_of(id))?;
        let instance = self.look(|state| Ok(state.instance(state.find(id)?)))?;
        passage.leave(instance)
    }

    pub(super) fn list(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        let passage = self.faults.enter(call, SimOp::List, "")?;
        let mut fitting: Vec<_> = self.look(|state| {
            let fits = |container: &&Container| {
                (filter.all || container.run.is_some())
                    && filter.labels.iter().all(|(key, value)| container.config.labels.get(key) == Some(value))
            };
            Ok(state.containers.values().filter(fits).map(|container| state.instance(container)).collect())
        })?;
        fitting.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        passage.leave(fitting)
    }

    pub(super) fn stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        let passage = self.faults.enter(call, SimOp::Stats, &self.name_of(id))?;
        let stats = self.look(|state| {
            let container = state.find(id)?;
            let Some(run) = &container.run else { return Err(invalid_state("stats", container)) };
            let made_with = &container.config.spec.resources;
            Ok(ContainerStats {
                // A hundredth of one CPU while it is not frozen.
                cpu_ns: run.own(self.clock.now()) / 100,
                memory_bytes: MEMORY_USED,
                memory_limit_bytes: run.resized.memory_bytes.or(made_with.memory_bytes).unwrap_or(0),
                pids: 1,
                ..ContainerStats::default()
            })
        })?;
        passage.leave(stats)
    }
}

impl Container {
    /// Ends the present run, or that with this process number, at once, frozen or not.
    fn kill(&mut self, now: u64, pid: Option<i32>) {
        if let Some(run) = &mut self.run
            && pid.is_none_or(|pid| run.pid == pid)
        {
            run.signal(now, Signal::SIGKILL);
            run.thaw(now);
        }
    }
}

/// Whether the run goes on, and if so when it is due to end.
fn due(state: &State, key: &RunKey) -> Option<Option<u64>> {
    let run = state.containers.get(&key.id)?.run.as_ref()?;
    (run.pid == key.pid).then(|| run.end_due())
}
