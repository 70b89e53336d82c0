//! [`Status`]: workloads as they are told, from their records and from what their engines say now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::history::page_size;
use crate::action::SettingsCell;
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::dispatch::service::{
    Condition, ContainerLimits, ExecQuery, LogsQuery, Page, PageQuery, WaitQuery, WorkloadView,
};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::state::{ContainerStatus, Health, WorkloadState};
use crate::model::workload::labels;
use crate::runtime::adapter::{
    BlockingStream, Call, ContainerInstance, ContainerStats, ExecOutcome, ListFilter, LogChunk, NoProgress,
    RuntimeAdapter,
};
use crate::runtime::registry::EngineRegistry;
use crate::storage::StoreError;
use crate::storage::records::{Desired, Records, WorkloadRecord};

/// The time of a wait or a command that gives none, milliseconds.
const DEFAULT_TIMEOUT_MS: u64 = 60_000;
/// The most time of a command, milliseconds.
const MAX_EXEC_MS: u64 = 3_600_000;
/// The most time of a wait, milliseconds.
const MAX_WAIT_MS: u64 = 86_400_000;
/// Between two looks of a wait.
const WAIT_TICK: Duration = Duration::from_millis(100);
/// The time that opening a log has.
const OPEN_BUDGET: Duration = Duration::from_secs(10);

/// Tells of workloads.
pub struct Status {
    records: Records,
    engines: Arc<EngineRegistry>,
    settings: Arc<SettingsCell>,
}

/// All our containers of one engine, or why it does not tell.
type Listing = std::result::Result<Vec<ContainerInstance>, String>;

impl Status {
    /// Tells from these.
    pub fn new(records: Records, engines: Arc<EngineRegistry>, settings: Arc<SettingsCell>) -> Self {
        Self { records, engines, settings }
    }

    /// What each engine lists. They are asked side by side, so that one that hangs delays only itself.
    fn listings(&self, names: &BTreeSet<String>, deadline: Deadline, token: &CancelToken) -> BTreeMap<String, Listing> {
        let node = self.settings.get().node.clone();
        let filter = ListFilter { all: true, labels: BTreeMap::from([(labels::NODE.to_owned(), node)]) };
        let call = Call { deadline: deadline.at_most(OPEN_BUDGET / 2), cancel: token, progress: &NoProgress };
        let list = |name: &String| {
            let listing = match self.engines.get(name) {
                Some(engine) => engine.list_containers(&call, &filter).map_err(|error| error.to_string()),
                None => Err(format!("runtime '{name}' is not configured")),
            };
            (name.clone(), listing)
        };
        if names.len() < 2 {
            return names.iter().map(list).collect();
        }
        let list = &list;
        thread::scope(|scope| {
            let spawn =
                |name| thread::Builder::new().name(format!("list-{name}")).spawn_scoped(scope, move || list(name));
            let asked: Vec<_> = names.iter().map(|name| (name, spawn(name))).collect();
            let answer =
                |(name, thread): (&String, std::io::Result<thread::ScopedJoinHandle<'_, (String, Listing)>>)| {
                    let lost = |why: String| (name.clone(), Err(why));
                    match thread.map(thread::ScopedJoinHandle::join) {
                        Ok(Ok(listing)) => listing,
                        Ok(Err(_)) => lost(format!("asking runtime '{name}' met a fault in this daemon")),
                        Err(error) => lost(format!("no thread to ask runtime '{name}': {error}")),
                    }
                };
            asked.into_iter().map(answer).collect()
        })
    }

    /// Workloads by name, of one Package where it is not empty. An engine that is away makes its workloads unknown,
    /// not the call fail.
    pub fn list(
        &self,
        page: &PageQuery,
        package: &str,
        deadline: Deadline,
        token: &CancelToken,
    ) -> Result<Page<WorkloadView>> {
        let size = page_size(page)?;
        let all = self.all(deadline, token)?;
        let is_meant = |view: &WorkloadView| package.is_empty() || view.package == package;
        let mut rest = all.into_values().filter(is_meant).filter(|view| view.name > page.token).peekable();
        let items: Vec<_> = rest.by_ref().take(size).collect();
        let last = items.last().map(|view| view.name.clone()).unwrap_or_default();
        let next_token = if rest.peek().is_some() { last } else { String::new() };
        Ok(Page { items, next_token })
    }

    /// Every workload by name.
    pub(super) fn all(&self, deadline: Deadline, token: &CancelToken) -> Result<BTreeMap<String, WorkloadView>> {
        let walked = self.records.workloads(deadline)?;
        let damaged: BTreeMap<_, _> = walked.damaged.iter().map(|d| (d.name().to_owned(), d.to_string())).collect();
        let records: BTreeMap<_, _> =
            walked.logged().into_iter().map(|r| (r.value.spec.name.clone(), r.value)).collect();
        let mut engines: BTreeSet<_> = self.engines.names().into_iter().map(str::to_owned).collect();
        engines.extend(records.values().map(|record| record.engine.clone()));
        let mut by_workload: BTreeMap<String, (String, Vec<ContainerInstance>)> = BTreeMap::new();
        let mut away = BTreeMap::new();
        for (engine, listing) in self.listings(&engines, deadline, token) {
            match listing {
                Err(reason) => drop(away.insert(engine, reason)),
                Ok(containers) => {
                    for container in containers {
                        let Some(workload) = container.labels.get(labels::WORKLOAD).cloned() else { continue };
                        let found = by_workload.entry(workload).or_insert_with(|| (engine.clone(), Vec::new()));
                        found.1.push(container);
                    }
                }
            }
        }
        let mut names: BTreeSet<String> = records.keys().cloned().collect();
        names.extend(by_workload.keys().chain(damaged.keys()).cloned());
        let views = names.into_iter().map(|name| {
            let record = records.get(&name);
            let (engine, containers) = by_workload.remove(&name).unwrap_or_default();
            let engine = record.map_or(engine, |record| record.engine.clone());
            let mut view = view(&name, record, &engine, containers, away.get(&engine));
            if let Some(reason) = damaged.get(&name) {
                view.message.clone_from(reason);
            }
            (name, view)
        });
        Ok(views.collect())
    }

    /// One workload; its containers in full.
    pub fn get(&self, name: &str, deadline: Deadline, token: &CancelToken) -> Result<WorkloadView> {
        let mut view = self.find(name, deadline, token)?;
        let call = Call { deadline, cancel: token, progress: &NoProgress };
        let record = self.records.workload(name, deadline).ok().flatten();
        if let Some(engine) = self.engines.get(&view.engine) {
            for container in &mut view.containers {
                if let Ok(full) = engine.inspect_container(&call, &container.id) {
                    *container = full;
                }
                let own_name = container.labels.get(labels::CONTAINER).unwrap_or(&container.name);
                let wanted = record.as_ref().map(|record| record.value.limits(own_name)).unwrap_or_default();
                let in_force = engine.limits_in_force(container, &wanted).ok().flatten();
                view.limits.insert(container.id.clone(), ContainerLimits { wanted, in_force });
            }
        }
        Ok(view)
    }

    /// One workload as its engine lists it.
    fn find(&self, name: &str, deadline: Deadline, token: &CancelToken) -> Result<WorkloadView> {
        // One whose record is damaged is found by its labels; the list tells of the damage.
        let record = match self.records.workload(name, deadline) {
            Ok(record) => record.map(|record| record.value),
            Err(error @ StoreError::Damaged { .. }) => {
                crate::limited!(log::Level::Error, "{error}");
                None
            }
            Err(error) => return Err(error.into()),
        };
        let engines: BTreeSet<String> = match &record {
            Some(record) => BTreeSet::from([record.engine.clone()]),
            None => self.engines.names().into_iter().map(str::to_owned).collect(),
        };
        let is_its = |container: &ContainerInstance| container.labels.get(labels::WORKLOAD).is_some_and(|w| w == name);
        let mut away = None;
        for (engine, listing) in self.listings(&engines, deadline, token) {
            match listing {
                Err(reason) => away = Some((engine, reason)),
                Ok(containers) => {
                    let own: Vec<_> = containers.into_iter().filter(is_its).collect();
                    if !own.is_empty() || record.is_some() {
                        return Ok(view(name, record.as_ref(), &engine, own, None));
                    }
                }
            }
        }
        match (record, away) {
            (Some(record), Some((engine, reason))) => Ok(view(name, Some(&record), &engine, Vec::new(), Some(&reason))),
            (None, Some((engine, reason))) => {
                let message =
                    format!("whether workload '{name}' is there cannot be told: '{engine}' is away: {reason}");
                Err(Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, message))
            }
            (_, None) => Err(unknown(name)),
        }
    }

    /// The engine and the container that a workload's and a container's name mean.
    fn container(
        &self,
        workload: &str,
        container: &str,
        deadline: Deadline,
        token: &CancelToken,
    ) -> Result<(Arc<dyn RuntimeAdapter>, ContainerInstance)> {
        let view = self.find(workload, deadline, token)?;
        let engine = self.engines.get(&view.engine).filter(|_| view.state != WorkloadState::Unknown);
        let engine = engine
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, view.message.clone()))?;
        let own_name = |c: &ContainerInstance| c.labels.get(labels::CONTAINER).cloned().unwrap_or_default();
        let mut names: Vec<_> = view.containers.iter().map(own_name).collect();
        names.sort();
        let is_main = |c: &&ContainerInstance| !c.labels.contains_key(labels::ROLE);
        let mains: Vec<_> = view.containers.iter().filter(is_main).collect();
        let found = match (container, mains.as_slice()) {
            ("", [only]) => Some((*only).clone()),
            ("", _) => {
                let message = format!("workload '{workload}' has the containers {}: name one", names.join(", "));
                return Err(Error::invalid("container", message));
            }
            (name, _) => view.containers.iter().find(|c| own_name(c) == name || c.name == name).cloned(),
        };
        let found = found.ok_or_else(|| {
            let message = format!("workload '{workload}' has no container '{container}'; it has {}", names.join(", "));
            Error::new(ErrorKind::NotFound, ErrorCode::ContainerNotFound, message).at("container")
        })?;
        Ok((engine, found))
    }

    /// A container's output.
    pub fn logs(&self, query: &LogsQuery, token: &CancelToken) -> Result<BlockingStream<LogChunk>> {
        let deadline = Deadline::after(OPEN_BUDGET);
        let (engine, container) = self.container(&query.workload, &query.container, deadline, token)?;
        let call = Call { deadline, cancel: token, progress: &NoProgress };
        Ok(engine.container_logs(&call, &container.id, &query.options)?)
    }

    /// Runs a command in a container.
    pub fn exec(&self, query: &ExecQuery, token: &CancelToken) -> Result<ExecOutcome> {
        if query.argv.first().is_none_or(String::is_empty) {
            return Err(Error::invalid("argv", "a command is needed"));
        }
        let deadline = timeout(query.timeout_ms, MAX_EXEC_MS)?;
        let (engine, container) = self.container(&query.workload, &query.container, deadline, token)?;
        let call = Call { deadline, cancel: token, progress: &NoProgress };
        Ok(engine.exec_in_container(&call, &container.id, &query.argv)?)
    }

    /// Use of the node by each running container.
    pub fn stats(
        &self,
        name: &str,
        deadline: Deadline,
        token: &CancelToken,
    ) -> Result<BTreeMap<String, ContainerStats>> {
        let view = self.find(name, deadline, token)?;
        let Some(engine) = self.engines.get(&view.engine).filter(|_| view.state != WorkloadState::Unknown) else {
            return Err(Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, view.message));
        };
        let call = Call { deadline, cancel: token, progress: &NoProgress };
        let mut stats = BTreeMap::new();
        for container in view.containers.iter().filter(|container| container.status.is_running()) {
            let own_name = container.labels.get(labels::CONTAINER).unwrap_or(&container.name);
            stats.insert(own_name.clone(), engine.container_stats(&call, &container.id)?);
        }
        Ok(stats)
    }

    /// Blocks until the condition holds. A container that ends while running or healthy is waited for fails the wait
    /// at once with its code.
    pub fn wait(&self, query: &WaitQuery, token: &CancelToken) -> Result<Option<WorkloadView>> {
        let deadline = timeout(query.timeout_ms, MAX_WAIT_MS)?;
        let asked = if query.timeout_ms == 0 { DEFAULT_TIMEOUT_MS } else { query.timeout_ms };
        let mut was_there = false;
        loop {
            let view = match self.find(&query.workload, deadline, token) {
                Ok(view) => Some(view),
                Err(error) if error.kind == ErrorKind::NotFound => None,
                Err(error) if deadline.is_over() || token.is_cancelled() => return Err(error),
                // An engine that is away may come back in time.
                Err(_) => {
                    continue_after(token, deadline, query, asked)?;
                    continue;
                }
            };
            was_there |= view.is_some();
            if view.is_none() && !was_there && query.condition != Condition::Gone {
                return Err(unknown(&query.workload));
            }
            if holds(query.condition, view.as_ref())? {
                return Ok(view.filter(|_| query.condition != Condition::Gone));
            }
            continue_after(token, deadline, query, asked)?;
        }
    }
}

/// Waits one tick; the end of the time names what was waited for.
fn continue_after(token: &CancelToken, deadline: Deadline, query: &WaitQuery, asked_ms: u64) -> Result<()> {
    if token.wait(Urge::Cancel, deadline.at_most(WAIT_TICK)) == Urge::Cancel {
        return Err(Error::new(ErrorKind::Cancelled, ErrorCode::Cancelled, "the wait was cancelled"));
    }
    if deadline.is_over() {
        let condition = format!("{:?}", query.condition).to_lowercase();
        let message = format!("workload '{}' was not {condition} within {asked_ms} ms", query.workload);
        return Err(Error::new(ErrorKind::DeadlineExceeded, ErrorCode::DeadlineExceeded, message).at("timeout_ms"));
    }
    Ok(())
}

fn timeout(asked_ms: u64, most_ms: u64) -> Result<Deadline> {
    if asked_ms > most_ms {
        return Err(Error::invalid("timeout_ms", format!("at most {most_ms} ms")));
    }
    Ok(Deadline::after(Duration::from_millis(if asked_ms == 0 { DEFAULT_TIMEOUT_MS } else { asked_ms })))
}

fn holds(condition: Condition, view: Option<&WorkloadView>) -> Result<bool> {
    let Some(view) = view else { return Ok(condition == Condition::Gone) };
    let mains: Vec<_> = view.containers.iter().filter(|c| !c.labels.contains_key(labels::ROLE)).collect();
    if matches!(condition, Condition::Running | Condition::Healthy) {
        let ended = mains.iter().find_map(|container| {
            let ContainerStatus::Exited { code, .. } = &container.status else { return None };
            Some((container.name.clone(), *code))
        });
        if let Some((name, code)) = ended {
            let code = code.map_or_else(|| "an unknown code".to_owned(), |code| format!("code {code}"));
            let message = format!("container '{name}' ended with {code} while it was waited for");
            return Err(Error::new(ErrorKind::FailedPrecondition, ErrorCode::ContainerExited, message));
        }
    }
    Ok(match condition {
        Condition::Running => view.state == WorkloadState::Running,
        Condition::Healthy => {
            let is_well = |status: &ContainerStatus| {
                matches!(status, ContainerStatus::Running { health: Health::None | Health::Healthy })
            };
            !mains.is_empty() && mains.iter().all(|container| is_well(&container.status))
        }
        Condition::Exited => matches!(view.state, WorkloadState::Completed | WorkloadState::Exited),
        Condition::Gone => view.containers.is_empty() && view.state != WorkloadState::Unknown,
    })
}

fn view(
    name: &str,
    record: Option<&WorkloadRecord>,
    engine: &str,
    containers: Vec<ContainerInstance>,
    away: Option<&String>,
) -> WorkloadView {
    let mains = containers.iter().filter(|container| !container.labels.contains_key(labels::ROLE));
    let state = WorkloadState::of(mains.map(|container| &container.status));
    let label = |key: &str| containers.first().and_then(|c| c.labels.get(key)).cloned().unwrap_or_default();
    WorkloadView {
        name: name.to_owned(),
        state: if away.is_some() { WorkloadState::Unknown } else { state },
        desired: record.map(|record| desired_word(record.desired).to_owned()).unwrap_or_default(),
        package: record.map(|record| record.spec.package.clone()).unwrap_or_default(),
        engine: engine.to_owned(),
        revision: record.map_or_else(|| label(labels::REVISION), |record| record.revision.clone()),
        last_action_id: record.map_or_else(|| label(labels::ACTION), |record| record.action_id.clone()),
        updated_ms: record.map(|record| record.updated_ms).unwrap_or_default(),
        message: away.cloned().unwrap_or_default(),
        containers,
        limits: BTreeMap::new(),
    }
}

fn desired_word(desired: Desired) -> &'static str {
    match desired {
        Desired::Running => "running",
        Desired::Stopped => "stopped",
        Desired::Paused => "paused",
        Desired::Hibernated => "hibernated",
    }
}

fn unknown(name: &str) -> Error {
    let message = format!("workload '{name}' is not known on this node");
    let error = Error::new(ErrorKind::NotFound, ErrorCode::WorkloadNotFound, message).at("workload");
    error.hint("actionctl ps lists all")
}
