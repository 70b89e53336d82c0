//! The life of a container: created, started, signalled, frozen, stopped, removed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::answers::JobEnd;
use super::manager::{Unit, UnitManager};
use super::record::{End, Record, Run};
use super::status::{self, Seen};
use super::{Engine, groups, text};
use crate::cancel::Urge;
use crate::cgroup::Cgroups;
use crate::model::resources::Resources;
use crate::model::state::{Allowed, ContainerStatus, Health, Transition};
use crate::model::workload::labels;
use crate::runtime::adapter::{
    Call, Change, ContainerConfig, ContainerInstance, ContainerStats, ListFilter, RtResult, RuntimeError, StopOptions,
    unsupported,
};
use crate::runtime::processes::boot;
use crate::runtime::shared::calls::{apart, late, not_allowed};
use crate::runtime::shared::durable::kept;
use crate::runtime::shared::fields;
use crate::runtime::shared::owned::{is_ours, taken};
use crate::runtime::shared::resize::{self, Resized};
use crate::runtime::shared::usage::usage;
use crate::runtime::shared::verbs::{self, Acted, Containers, Found, Order, SLOWEST_POLL};
use crate::runtime::shared::volumes;
use crate::transport::dbus::{Properties, Value};

/// The longest name of a unit that systemd takes.
const LONGEST_UNIT: usize = 255;

/// How long a look at one container among several may take, where its node may be away without anybody knowing.
pub(super) const NODE_BUDGET: Duration = Duration::from_secs(1);

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl<M: UnitManager> Engine<M> {
    /// Keeps the container and writes its unit.
    pub(super) fn create(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        self.manager.check(call)?;
        check_name(&config.name)?;
        if let Some(holder) = self.records.find(&config.name) {
            return Err(taken(&self.node, &config.name, &holder.config.labels));
        }
        text::check(self.name(), config)?;
        self.manager.check_text(&config.spec.unit)?;
        self.manager.check_limits(call, &config.spec.resources)?;
        let (id, node) = (Uuid::now_v7().simple().to_string(), self.manager.node_of(config)?);
        let unit = self.manager.unit_name(&self.node, &config.name);
        let record = Record { id, config: config.clone(), node, unit, created_ms: now_ms(), run: None, end: None };
        let unit = record.unit();
        if unit.name.len() > LONGEST_UNIT {
            return Err(RuntimeError::InvalidSpec { reason: format!("name: '{}' is too long for a unit", unit.name) });
        }
        let record = match self.records.add(record)? {
            Ok(record) => record,
            Err(holder) => return Err(taken(&self.node, &config.name, &holder.config.labels)),
        };
        let installed = self.text(&record).and_then(|text| self.manager.install(call, &unit, &text));
        if let Err(error) = installed {
            let _ = apart(|call| self.manager.uninstall(call, &unit));
            if let Err(error) = self.records.forget(&record.id) {
                log::warn!("container '{}' is not all gone: {error}", config.name);
            }
            return Err(error);
        }
        self.subscribers.note(&record, Some(&ContainerStatus::Created));
        self.instance(call, &record)
    }

    /// What its unit says. A volume in memory is there from then on.
    fn text(&self, record: &Record) -> RtResult<String> {
        let binds = volumes::binds(&self.volumes, &record.config)?;
        text::unit(self.name(), &record.config, &binds)
    }

    /// The container as it is now. An end that is seen for the first time is kept.
    pub(super) fn see(&self, call: &Call, record: &Record) -> RtResult<Seen> {
        if let Some(seen) = record.at_rest(&boot()) {
            return Ok(seen);
        }
        let unit = record.unit();
        let end = record.last_end();
        let is_known = end.is_some();
        let properties = self.manager.properties(call, &unit)?;
        let seen = status::seen(&properties, end);
        if record.run.as_ref().is_some_and(|run| !run.has_begun) {
            // Of one that fails in the middle of its start nobody is to hear that it ran and ended.
            if status::is_at_rest(&properties) || (!seen.status.is_live() && self.is_starting(record)) {
                return Ok(record.before());
            }
        }
        if let (ContainerStatus::Exited { code, oom }, Some(run), false) = (&seen.status, &record.run, is_known) {
            let finished_ms = if seen.finished_ms == 0 { now_ms() } else { seen.finished_ms };
            let end = End { started_ms: run.started_ms, code: *code, oom: *oom, finished_ms };
            let mut is_its = false;
            self.records.change(&record.id, |kept| {
                is_its = kept.run.as_ref().is_some_and(|kept| kept.started_ms == run.started_ms);
                if is_its {
                    kept.end = Some(end);
                }
            })?;
            if !is_its {
                // It was started anew meanwhile, and what was seen may be of either.
                return match self.records.find(&record.id) {
                    Some(record) => self.see(call, &record),
                    None => Ok(seen),
                };
            }
            if text::ends_with_its_first_process(&record.config) {
                // There may be nobody left.
                let _ = self.manager.kill(call, &unit, "all", 9);
            }
            if let Some(record) = self.records.find(&record.id) {
                self.subscribers.note(&record, Some(&seen.status));
            }
        }
        if let (true, Some(run)) = (seen.status.is_running(), record.run.as_ref().filter(|run| !run.has_begun)) {
            // Whoever started it did not live to say so.
            self.has_begun(&record.id, run)?;
        }
        Ok(seen)
    }

    /// Whether a start is under way of which it is not known yet whether it succeeds.
    pub(super) fn is_starting(&self, record: &Record) -> bool {
        record.run.as_ref().is_some_and(|run| !run.has_begun)
            && self.starting.lock().unwrap_or_else(PoisonError::into_inner).contains(&record.id)
    }

    fn has_begun(&self, id: &str, run: &Run) -> RtResult<()> {
        self.records.change(id, |kept| {
            if let Some(kept) = kept.run.as_mut().filter(|kept| kept.started_ms == run.started_ms) {
                kept.has_begun = true;
            }
        })
    }

    /// The container in full.
    pub(super) fn instance(&self, call: &Call, record: &Record) -> RtResult<ContainerInstance> {
        Ok(self.told(record, self.see(call, record)?))
    }

    fn told(&self, record: &Record, seen: Seen) -> ContainerInstance {
        let config = &record.config;
        let (unit, is_live) = (record.unit(), seen.status.is_live());
        // Numbers of another node's processes mean nothing here.
        let pid = if is_live && unit.is_here() { seen.pid } else { 0 };
        let cgroup_path = if pid > 0 { groups::group_of(pid, &unit.name) } else { String::new() };
        ContainerInstance {
            id: record.id.clone(),
            name: config.name.clone(),
            engine: self.name().to_owned(),
            image: if config.spec.unit.is_empty() { config.spec.rootfs.clone() } else { unit.name },
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ports: config.ports.iter().filter(|port| port.host_port.is_some()).cloned().collect(),
            ips: Vec::new(),
            pid,
            cgroup_path,
            created_ms: record.created_ms,
            started_ms: record.run.as_ref().map_or(0, |run| run.started_ms),
            finished_ms: if is_live { 0 } else { seen.finished_ms },
            status: seen.status,
        }
    }

    /// Starts it anew: how it ended before is forgotten but for the record.
    fn begin(&self, call: &Call, record: &Record) -> RtResult<()> {
        let unit = record.unit();
        if self.see(call, record)?.status.is_live() {
            return Ok(());
        }
        let text = self.text(record)?;
        let _starting = Starting::of(&self.starting, &record.id);
        self.forget_run(call, &unit)?;
        let boot = if unit.is_here() { boot() } else { String::new() };
        let run = Run { boot, started_ms: now_ms(), has_begun: false };
        self.records.change(&record.id, |record| record.run = Some(run.clone()))?;
        let started = self.manager.start(call, &unit, &text).and_then(|end| self.check_job(call, &unit, &end));
        let started = started.and_then(|()| {
            self.has_begun(&record.id, &run)?;
            self.check_started(call, record)
        });
        // Where it cannot be taken down, the start stays noted as one of which nobody knows whether it has begun.
        if started.is_err() && apart(|call| self.take_down(call, &unit)) {
            // It never ran; an end of the start before stays known.
            let _ = self.records.change(&record.id, |kept| kept.run.clone_from(&record.run));
        }
        started
    }

    /// What systemd would say of limits is what it was asked for, so the control group is asked.
    fn check_started(&self, call: &Call, record: &Record) -> RtResult<()> {
        let asked = &record.config.spec.resources;
        if *asked == Resources::default() {
            return Ok(());
        }
        let instance = self.instance(call, &*self.records.get(&record.id)?)?;
        if !instance.status.is_live() {
            return Ok(());
        }
        resize::resize(&instance, asked, false, |_| Ok(())).map(drop)
    }

    /// Whether the job of a start has started it.
    fn check_job(&self, call: &Call, unit: &Unit, end: &JobEnd) -> RtResult<()> {
        let properties = match end {
            JobEnd::Vanished => self.settled(call, unit)?,
            JobEnd::Done | JobEnd::Other(_) => self.manager.properties(call, unit)?,
        };
        end.check_start(self.name(), &properties)
    }

    /// The unit's properties once nothing is under way with it: what nobody tells the end of goes on in systemd.
    fn settled(&self, call: &Call, unit: &Unit) -> RtResult<Properties> {
        let begun = Instant::now();
        loop {
            let properties = self.manager.properties(call, unit)?;
            if status::is_settled(&properties) {
                return Ok(properties);
            }
            if call.deadline.is_over() {
                return Err(late("start", begun));
            }
            if call.cancel.wait(Urge::Cancel, call.deadline.at_most(SLOWEST_POLL)) == Urge::Cancel {
                return Err(RuntimeError::Cancelled { op: "start".to_owned() });
            }
        }
    }

    /// Makes an end of what is left of the last start.
    fn forget_run(&self, call: &Call, unit: &Unit) -> RtResult<()> {
        match self.manager.stop(call, unit) {
            Ok(JobEnd::Done) | Err(RuntimeError::NotFound { .. }) => {}
            Ok(end) => {
                let properties = self.settled(call, unit)?;
                if !matches!(status::text(&properties, "ActiveState"), "inactive" | "failed") {
                    let (engine, op) = (self.name().to_owned(), "stop".to_owned());
                    let message = format!("unit '{}' is still there, its job ended as '{end}'", unit.name);
                    return Err(RuntimeError::Engine { engine, op, code: 0, message });
                }
            }
            Err(error) => return Err(error),
        }
        self.manager.reset_failed(call, unit)
    }

    /// Whether nothing of it is left.
    fn take_down(&self, call: &Call, unit: &Unit) -> bool {
        // There may be nobody left.
        let _ = self.manager.kill(call, unit, "all", 9);
        let forgotten = self.forget_run(call, unit);
        if let Err(error) = &forgotten {
            log::warn!("unit '{}' is not all gone: {error}", unit.name);
        }
        forgotten.is_ok()
    }

    /// Signal, thaw, grace, SIGKILL; then an end of what its first process has left.
    pub(super) fn stop(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        let stopped = verbs::stop(self, call, id, options)?;
        if stopped == Change::Changed
            && let Some(record) = self.records.find(id)
        {
            // Its first process has ended, and with it what is asked for.
            let _ = self.manager.kill(call, &record.unit(), "all", 9);
        }
        Ok(stopped)
    }

    /// Deletes it; its volumes stay.
    pub(super) fn remove(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        self.manager.check(call)?;
        let Some(record) = self.records.find(id) else { return Ok(Change::Unchanged) };
        if !is_ours(&self.node, &record.config.labels) {
            let node = &self.node;
            let reason = format!("container '{id}' is not ours: its label {} is not '{node}'", labels::NODE);
            return Err(RuntimeError::PermissionDenied { reason });
        }
        let state = self.see(call, &record)?.status;
        if state.allows(Transition::Remove { force }) != Allowed::Yes {
            return Err(not_allowed("remove", id, &state));
        }
        let unit = record.unit();
        if state.is_live() {
            if state == ContainerStatus::Paused {
                self.manager.thaw(call, &unit)?;
            }
            // There may be nobody left by now.
            let _ = self.manager.kill(call, &unit, "all", 9);
            verbs::stop(self, call, &record.id, &StopOptions::kill())?;
        }
        if record.run.is_some() {
            self.forget_run(call, &unit)?;
        }
        self.manager.uninstall(call, &unit)?;
        self.records.forget(&record.id)?;
        self.subscribers.note(&record, None);
        Ok(Change::Changed)
    }

    /// Whether a look at one container failed because its node is away, while there was time left for others.
    pub(super) fn is_node_away(&self, call: &Call, error: &RuntimeError) -> bool {
        let is_silent = matches!(error, RuntimeError::Timeout { .. }) && !call.deadline.is_over();
        self.manager.has_nodes() && (is_silent || matches!(error, RuntimeError::EngineNotAvailable { .. }))
    }

    /// The container in full. One of a node that is away is told as it was last known, and as not well: what becomes of it
    /// there is not seen, and it has not ended for that.
    /// `away` are the nodes that were found so: one that is silent costs its time once.
    fn instance_or_last(
        &self,
        call: &Call,
        record: &Record,
        away: &mut BTreeSet<String>,
    ) -> RtResult<ContainerInstance> {
        if !self.manager.has_nodes() {
            return self.instance(call, record);
        }
        if !away.contains(&record.node) {
            let bounded = Call { deadline: call.deadline.at_most(NODE_BUDGET), ..*call };
            match self.instance(&bounded, record) {
                Err(error) if self.is_node_away(call, &error) => {
                    log::debug!("containers of node '{}' are told as they were last known: {error}", record.node);
                    away.insert(record.node.clone());
                }
                other => return other,
            }
        }
        let seen = match &record.run {
            Some(run) if run.has_begun => {
                record.last_end().unwrap_or_else(|| Seen::of(ContainerStatus::Running { health: Health::Unhealthy }))
            }
            _ => record.before(),
        };
        Ok(self.told(record, seen))
    }

    /// The containers that fit, by creation time, then id.
    pub(super) fn list(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        self.manager.check(call)?;
        let (mut found, mut away) = (Vec::new(), BTreeSet::new());
        for record in self.records.all() {
            let labels = &record.config.labels;
            if filter.labels.iter().all(|(key, value)| labels.get(key) == Some(value)) {
                found.push(self.instance_or_last(call, &record, &mut away)?);
            }
        }
        found.retain(|instance| filter.all || instance.status.is_live());
        found.sort_by(|a, b| (a.created_ms, &a.id).cmp(&(b.created_ms, &b.id)));
        Ok(found)
    }

    /// Blocks until the container has ended; its exit code, `None` where it was lost.
    pub(super) fn wait(&self, call: &Call, id: &str, begun: Instant) -> RtResult<Option<i32>> {
        verbs::await_start(self, call, id)?;
        loop {
            match self.see(call, &*self.records.get(id)?).map(|seen| seen.status) {
                Ok(ContainerStatus::Exited { code, .. }) => return Ok(code),
                Err(RuntimeError::Timeout { .. }) => return Err(late("wait", begun)),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
            if call.deadline.is_over() {
                return Err(late("wait", begun));
            }
            if call.cancel.wait(Urge::Cancel, call.deadline.at_most(SLOWEST_POLL)) == Urge::Cancel {
                return Err(RuntimeError::Cancelled { op: "wait".to_owned() });
            }
        }
    }

    /// What it uses, as its control group says.
    pub(super) fn stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        self.manager.check(call)?;
        let record = self.records.get(id)?;
        let instance = self.instance(call, &record)?;
        if !instance.status.is_live() {
            return Err(not_allowed("stats", id, &instance.status));
        }
        if !record.unit().is_here() {
            let properties = self.manager.properties(call, &record.unit())?;
            return Ok(status::usage(&properties));
        }
        if instance.cgroup_path.is_empty() {
            return Err(not_allowed("stats", id, &instance.status));
        }
        let groups = Cgroups::read().map_err(|error| kept("reading", "/proc/self/mounts".as_ref(), &error))?;
        Ok(usage(&groups, &instance.cgroup_path))
    }

    /// Changes limits of what runs.
    pub(super) fn resize(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        self.manager.check(call)?;
        let record = self.records.get(id)?;
        if !record.unit().is_here() {
            return Err(unsupported(self.name(), "changing limits on another node"));
        }
        let instance = self.instance(call, &record)?;
        fields::changed_limits(resources)?;
        self.manager.check_limits(call, resources)?;
        resize::resize(&instance, resources, force, |resized| self.tell_limits(call, &record.unit(), resized))
    }

    fn tell_limits(&self, call: &Call, unit: &Unit, resized: &Resized) -> RtResult<()> {
        // What is without limit is the largest number.
        let value = |number: i64| Value::U64(u64::try_from(number).unwrap_or(u64::MAX));
        let limits = &resized.limits;
        let mut properties = Vec::new();
        if let Some((quota, period)) = limits.cpu {
            let per_second =
                if quota < 0 { -1 } else { quota.saturating_mul(1_000_000) / i64::try_from(period).unwrap_or(1) };
            properties.push(("CPUQuotaPerSecUSec", value(per_second)));
        }
        properties.extend(limits.cpu_shares.map(|shares| ("CPUWeight", Value::U64(text::weight(shares)))));
        properties.extend(limits.memory.map(|bytes| ("MemoryMax", value(bytes))));
        properties.extend(limits.memory_reservation.map(|bytes| ("MemoryLow", value(bytes))));
        properties.extend(limits.pids.map(|most| ("TasksMax", value(most))));
        self.manager.set_properties(call, unit, &properties)
    }
}

/// A start that is under way, until it is dropped.
struct Starting<'a> {
    all: &'a Mutex<BTreeSet<String>>,
    id: &'a str,
}

impl<'a> Starting<'a> {
    fn of(all: &'a Mutex<BTreeSet<String>>, id: &'a str) -> Self {
        all.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        Self { all, id }
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).remove(self.id);
    }
}

impl<M: UnitManager> Engine<M> {
    /// Notes what an order that was carried out has made of the container.
    fn note(&self, id: &str, order: Order) {
        let Some(record) = self.records.find(id) else { return };
        let running = ContainerStatus::Running { health: Default::default() };
        match order {
            Order::Start | Order::Thaw => self.subscribers.note(&record, Some(&running)),
            Order::Pause => self.subscribers.note(&record, Some(&ContainerStatus::Paused)),
            // What comes of a signal is seen.
            Order::Signal(_) => {}
        }
    }
}

/// A name is a part of a unit's, and no path.
fn check_name(name: &str) -> RtResult<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || !name.chars().all(is_plain) || name.starts_with(['.', '-']) {
        return Err(RuntimeError::InvalidSpec { reason: format!("name: '{name}' is no name of a container") });
    }
    Ok(())
}

impl<M: UnitManager> Containers for Engine<M> {
    fn look(&self, call: &Call, id: &str) -> RtResult<Option<Found>> {
        self.manager.check(call)?;
        let Some(record) = self.records.find(id) else { return Ok(None) };
        let status = self.see(call, &record)?.status;
        Ok(Some(Found { status, id: record.id.clone(), labels: record.config.labels.clone() }))
    }

    fn act(&self, call: &Call, op: &str, id: &str, order: Order) -> RtResult<Acted> {
        let record: Arc<Record> = self.records.get(id)?;
        let unit = record.unit();
        let acted = match order {
            Order::Start => self.begin(call, &record),
            Order::Pause => self.manager.freeze(call, &unit),
            Order::Thaw => self.manager.thaw(call, &unit),
            Order::Signal("SIGKILL") => self.manager.kill(call, &unit, "all", 9),
            Order::Signal(name) => match name.parse::<nix::sys::signal::Signal>() {
                Ok(signal) => self.manager.kill(call, &unit, "main", signal as i32),
                Err(_) => {
                    return Err(RuntimeError::InvalidSpec { reason: format!("{op}: there is no signal '{name}'") });
                }
            },
        };
        if acted.is_ok() {
            self.note(&record.id, order);
        }
        match acted {
            Ok(()) => Ok(Acted::Done),
            Err(RuntimeError::NotFound { .. }) => Ok(Acted::WrongState),
            Err(error @ RuntimeError::Engine { .. }) => {
                let now = self.see(call, &*self.records.get(id)?)?.status;
                let is_moot = match order {
                    Order::Start => now.is_live(),
                    Order::Pause => !now.is_running(),
                    Order::Thaw => now != ContainerStatus::Paused,
                    Order::Signal(_) => !now.is_live() || now == ContainerStatus::Stopping,
                };
                if is_moot { Ok(Acted::WrongState) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    fn delete(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.remove(call, id, true)
    }
}
