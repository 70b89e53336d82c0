//! What one step does: the only place that turns a [`StepOp`] into calls of the runtime port.

use std::collections::BTreeMap;
use std::time::Duration;

use super::blueprint::{self, Blueprint};
use super::difference::revision;
use super::plan::pull_policy;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::hooks;
use crate::model::cores::CoreRequest;
use crate::model::plan::{NodeCommand, StepOp};
use crate::model::pullpiri::NetworkOrder;
use crate::model::resources::Resources;
use crate::model::schedule::Schedule;
use crate::model::state::ContainerStatus;
use crate::model::workload::{WorkloadSpec, labels};
use crate::realtime::keeper::CoreKeeper;
use crate::runtime::adapter::{
    Call, Change, ContainerInstance, RestoreTo, RtResult, RuntimeAdapter, RuntimeError, StopOptions,
};
use crate::storage::records::{Intent, WorkloadRecord};

/// What a step needs to know of the workloads, by name.
pub struct Drawings<'a> {
    /// The workloads with their revisions.
    pub specs: BTreeMap<String, (WorkloadSpec, String)>,
    /// The workloads as they were before.
    pub before: BTreeMap<String, WorkloadSpec>,
    /// Limits that were changed since containers were made, by workload and the container's name within it.
    pub scaled: BTreeMap<String, BTreeMap<String, Resources>>,
    /// The real-time tasks that are to be admitted.
    pub schedule: Option<&'a Schedule>,
    /// The network that is to be set up for what starts.
    pub network: Option<&'a NetworkOrder>,
    /// This node.
    pub node: &'a str,
    /// The action.
    pub action_id: &'a str,
}

impl<'a> Drawings<'a> {
    /// The descriptions of an action's workloads.
    pub fn of_intent(intent: &'a Intent, node: &'a str) -> Self {
        // Limits that were changed belong to the description that they were changed of.
        let is_same = |name: &String, record: &WorkloadRecord| {
            intent.specs.get(name).is_none_or(|spec| revision(spec) == record.revision)
        };
        let scaled = intent.before.iter().filter(|(name, record)| is_same(name, record));
        let with_revision = |(name, spec): (&String, &WorkloadSpec)| (name.clone(), (spec.clone(), revision(spec)));
        Self {
            specs: intent.specs.iter().map(with_revision).collect(),
            before: intent.before.iter().map(|(name, record)| (name.clone(), record.spec.clone())).collect(),
            scaled: scaled.map(|(name, record)| (name.clone(), record.scaled.clone())).collect(),
            schedule: intent.schedule.as_ref(),
            network: intent.network.as_ref(),
            node,
            action_id: &intent.request.id,
        }
    }

    /// The description by which another node is ordered: what is stopped there is what was there before, where that is
    /// known.
    pub fn delegated(&self, workload: &str, command: NodeCommand) -> Option<&WorkloadSpec> {
        let is_delegated = |spec: &&WorkloadSpec| spec.delegate.is_some();
        let before = self.before.get(workload).filter(is_delegated);
        let now = self.specs.get(workload).map(|(spec, _)| spec).filter(is_delegated);
        match command {
            NodeCommand::Stop => before.or(now),
            NodeCommand::Start | NodeCommand::Restart => now.or(before),
        }
    }

    /// The CPUs that a workload asks for.
    pub fn core_request(&self, workload: &str) -> Option<&CoreRequest> {
        self.specs.get(workload)?.0.cores.as_ref()
    }

    /// The blueprint of a workload.
    pub fn of(&self, workload: &str) -> Result<Blueprint<'_>> {
        let Some((spec, revision)) = self.specs.get(workload) else {
            return Err(Error::internal(format!("no description of workload '{workload}' for its step")));
        };
        Ok(Blueprint { spec, revision, node: self.node, action_id: self.action_id })
    }
}

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// Whether anything changed.
    pub changed: bool,
    /// The engine's id of the container that it acted on.
    pub container_id: Option<String>,
    /// What the caller should know.
    pub note: String,
}

impl From<Change> for Done {
    fn from(change: Change) -> Self {
        Self { changed: change == Change::Changed, container_id: None, note: String::new() }
    }
}

/// Carries out one step.
pub fn run(
    adapter: &dyn RuntimeAdapter,
    call: &Call,
    drawings: &Drawings,
    workload: &str,
    op: &StepOp,
) -> Result<Done> {
    match op {
        StepOp::EnsureImage { image } => {
            let policy = pull_policy(drawings.of(workload)?.spec, image);
            Ok(adapter.ensure_image(call, image, policy)?.into())
        }
        StepOp::EnsurePath { path } => ensure_path(&drawings.of(workload)?, path),
        StepOp::EnsureNetwork { network } => {
            Ok(adapter.ensure_network(call, &drawings.of(workload)?.network(network))?.into())
        }
        StepOp::EnsureVolume { volume } => {
            let spec = drawings.of(workload)?.volume(volume).ok_or_else(|| absent(workload, volume))?;
            Ok(adapter.ensure_volume(call, &spec)?.into())
        }
        StepOp::EnsurePod { .. } => {
            let blueprint = drawings.of(workload)?;
            let pod = blueprint.pod();
            Ok(with_networks(adapter, call, &blueprint, || adapter.ensure_pod(call, &pod))?.into())
        }
        StepOp::Create { container } => {
            let blueprint = drawings.of(workload)?;
            let config = blueprint.container(container).ok_or_else(|| absent(workload, container))?;
            let instance = with_networks(adapter, call, &blueprint, || adapter.create_container(call, &config))?;
            Ok(Done { changed: true, container_id: Some(instance.id), note: String::new() })
        }
        StepOp::Start { container } => start(adapter, call, drawings.scaled.get(workload), container),
        StepOp::AwaitCompletion { container } => await_completion(adapter, call, container),
        StepOp::Stop { container, grace_ms, signal } => {
            let options = StopOptions { signal: signal.clone(), grace: Duration::from_millis(*grace_ms) };
            gone_is_unchanged(adapter.stop_container(call, container, &options))
        }
        StepOp::Kill { container, signal } if signal == "SIGKILL" => {
            gone_is_unchanged(adapter.stop_container(call, container, &StopOptions::kill()))
        }
        StepOp::Kill { container, signal } => {
            adapter.signal_container(call, container, signal)?;
            Ok(Change::Changed.into())
        }
        StepOp::Pause { container } => Ok(adapter.pause_container(call, container)?.into()),
        StepOp::Resume { container } => Ok(adapter.resume_container(call, container)?.into()),
        StepOp::Hibernate { container } => Ok(adapter.hibernate_container(call, container)?.into()),
        StepOp::Wake { container } => wake(adapter, call, drawings, workload, container),
        StepOp::Resize { container, resources, force, .. } => {
            Ok(adapter.update_resources(call, container, resources, *force)?.into())
        }
        StepOp::Remove { container, force } => Ok(adapter.remove_container(call, container, *force)?.into()),
        StepOp::StopPod { pod } => Ok(adapter.stop_pod(call, pod)?.into()),
        StepOp::RemovePod { pod } => Ok(adapter.remove_pod(call, pod)?.into()),
        StepOp::RemoveVolume { volume } => Ok(adapter.remove_volume(call, volume)?.into()),
        StepOp::RemoveNetwork { network } => Ok(adapter.remove_network(call, network)?.into()),
        StepOp::Delegate { .. }
        | StepOp::Admit { .. }
        | StepOp::Connect { .. }
        | StepOp::Place { .. }
        | StepOp::Pin { .. } => Err(Error::internal(format!("'{}' is no step of an engine", op.word()))),
    }
}

/// Has a container run on the CPUs that its workload holds, and nobody else there; where that cannot be had and the
/// document says that it need not be, that is a note.
pub fn pin(keeper: &CoreKeeper, call: &Call, drawings: &Drawings, workload: &str, container: &str) -> Result<Done> {
    let note = match keeper.pin(call, workload, container) {
        Ok(note) => note,
        Err(error) if drawings.core_request(workload).is_some_and(|cores| cores.best_effort) => error.to_string(),
        Err(error) => return Err(error),
    };
    Ok(Done { changed: true, container_id: None, note })
}

/// Keeps a container that was started just now off the CPUs that others hold. That it cannot be is told to operators: it
/// was not what was asked for.
pub fn keep_off(keeper: &CoreKeeper, call: &Call, drawings: &Drawings, workload: &str, container: &str) {
    if drawings.core_request(workload).is_some() {
        // It is pinned by a step of its own.
        return;
    }
    match keeper.sweep(call, [container.to_owned()].into()) {
        Ok(swept) => swept.log(),
        Err(error) => crate::limited!(log::Level::Warn, "'{workload}' may run on CPUs that others hold: {error}"),
    }
}

/// Times that a network is made again for one member.
const NETWORK_TRIES: usize = 3;

/// Makes a member of the workload's networks. Between the step that makes a network and its first member, the end of
/// another workload, whose last member left, may delete it: then it is made again.
fn with_networks<T>(
    adapter: &dyn RuntimeAdapter,
    call: &Call,
    blueprint: &Blueprint,
    make: impl Fn() -> RtResult<T>,
) -> RtResult<T> {
    let networks = blueprint::networks(blueprint.spec);
    for _ in 0..NETWORK_TRIES {
        let made = make();
        let Err(failure) = &made else { return made };
        let mut was_gone = false;
        for network in networks {
            // Not being able to tell is no reason to hide why the member was not made.
            let made_again = adapter.ensure_network(call, &blueprint.network(network));
            was_gone |= matches!(made_again, Ok(Change::Changed));
        }
        if !was_gone {
            return made;
        }
        log::debug!("a network of '{}' was gone: {failure}", blueprint.spec.name);
    }
    make()
}

fn absent(workload: &str, object: &str) -> Error {
    Error::internal(format!("workload '{workload}' has no '{object}' for its step"))
}

fn ensure_path(blueprint: &Blueprint, path: &str) -> Result<Done> {
    let kind = blueprint::host_paths(blueprint.spec).remove(path).ok_or_else(|| absent(&blueprint.spec.name, path))?;
    let changed = hooks::storage::ensure_host_path(path, kind)?;
    Ok(Done { changed, container_id: None, note: String::new() })
}

/// Limits by the container's name within its workload.
type Scaled = BTreeMap<String, Resources>;

/// Sets the limits again that were changed since the container was made: engines forget them with its end.
pub fn limit_again(
    adapter: &dyn RuntimeAdapter,
    call: &Call,
    scaled: Option<&Scaled>,
    instance: &ContainerInstance,
) -> RtResult<Change> {
    let own_name = instance.labels.get(labels::CONTAINER).unwrap_or(&instance.name);
    let Some(limits) = scaled.and_then(|scaled| scaled.get(own_name)) else { return Ok(Change::Unchanged) };
    match adapter.update_resources(call, &instance.id, limits, true) {
        // It has ended meanwhile.
        Err(RuntimeError::InvalidState { .. }) => Ok(Change::Unchanged),
        other => other,
    }
}

/// Starts, and looks whether it runs: "started" means that the runtime says so.
fn start(adapter: &dyn RuntimeAdapter, call: &Call, scaled: Option<&Scaled>, container: &str) -> Result<Done> {
    let change = adapter.start_container(call, container)?;
    let instance = adapter.inspect_container(call, container)?;
    limit_again(adapter, call, scaled, &instance)?;
    let mut done = Done::from(change);
    done.container_id = Some(instance.id);
    if instance.labels.contains_key(labels::ROLE) && matches!(instance.status, ContainerStatus::Exited { .. }) {
        // An init container shall end; with which code is for the step that awaits it.
        return Ok(done);
    }
    match instance.status {
        ContainerStatus::Exited { code: Some(0), .. } => {
            done.note = format!("container '{container}' ended with code 0 right after its start");
            Ok(done)
        }
        ContainerStatus::Exited { code, oom } => Err(ended(container, code, oom, "right after its start")),
        ContainerStatus::Failed { reason } => {
            let message = format!("container '{container}' did not start: {reason}");
            Err(Error::new(ErrorKind::FailedPrecondition, ErrorCode::EngineFailed, message))
        }
        ContainerStatus::Created
        | ContainerStatus::Starting
        | ContainerStatus::Running { .. }
        | ContainerStatus::Paused
        | ContainerStatus::Hibernating
        | ContainerStatus::Hibernated
        | ContainerStatus::Waking
        | ContainerStatus::Restarting
        | ContainerStatus::Stopping => Ok(done),
    }
}

/// Wakes; where that fails for the checkpoint's or the engine's sake, and the document says so, it is started anew.
fn wake(
    adapter: &dyn RuntimeAdapter,
    call: &Call,
    drawings: &Drawings,
    workload: &str,
    container: &str,
) -> Result<Done> {
    let scaled = drawings.scaled.get(workload);
    let error = match adapter.wake_container(call, container, RestoreTo::Running) {
        Ok(change) => {
            if scaled.is_some_and(|scaled| !scaled.is_empty()) {
                limit_again(adapter, call, scaled, &adapter.inspect_container(call, container)?)?;
            }
            return Ok(change.into());
        }
        Err(error) => error,
    };
    let blueprint = drawings.of(workload).ok();
    let fallback = blueprint.and_then(|blueprint| blueprint.spec.annotations.get(labels::WAKE_FALLBACK));
    let may_start = fallback.is_some_and(|fallback| fallback == labels::COLD_START);
    let is_worth_it = match &error {
        RuntimeError::InvalidSpec { .. }
        | RuntimeError::Io { .. }
        | RuntimeError::Engine { .. }
        | RuntimeError::Timeout { .. }
        | RuntimeError::NoRoom { .. } => !call.deadline.is_over() && !call.cancel.is_cancelled(),
        RuntimeError::EngineNotAvailable { .. }
        | RuntimeError::Connection { .. }
        | RuntimeError::NotFound { .. }
        | RuntimeError::AlreadyExists { .. }
        | RuntimeError::InvalidState { .. }
        | RuntimeError::Unsupported { .. }
        | RuntimeError::ImagePull { .. }
        | RuntimeError::PermissionDenied { .. }
        | RuntimeError::Cancelled { .. } => false,
    };
    if !may_start || !is_worth_it {
        let ended = matches!(error, RuntimeError::InvalidSpec { .. });
        let hint = if ended { "it has ended: start it anew" } else { "it is hibernated still: try again, or stop it" };
        let damaged = Error::new(ErrorKind::FailedPrecondition, ErrorCode::EngineFailed, error.to_string());
        return Err(if ended { damaged } else { Error::from(error) }.hint(hint));
    }
    log::warn!("container '{container}' is started anew, as its document says: {error}");
    adapter.stop_container(call, container, &StopOptions::kill())?;
    let mut done = start(adapter, call, scaled, container)?;
    done.note = format!("container '{container}' was started anew, as it could not be woken: {error}");
    Ok(done)
}

fn await_completion(adapter: &dyn RuntimeAdapter, call: &Call, container: &str) -> Result<Done> {
    match adapter.wait_container(call, container)? {
        Some(0) => Ok(Done { changed: true, container_id: None, note: String::new() }),
        code => Err(ended(container, code, false, "as an init container")),
    }
}

fn ended(container: &str, code: Option<i32>, oom: bool, when: &str) -> Error {
    let code = code.map_or_else(|| "an unknown code".to_owned(), |code| format!("code {code}"));
    let memory = if oom { ", killed for want of memory" } else { "" };
    let message = format!("container '{container}' ended with {code}{memory} {when}");
    Error::new(ErrorKind::FailedPrecondition, ErrorCode::ContainerExited, message)
        .hint("what it wrote says why: run its image by hand with the same command, or make the command stay")
}

/// A container that is gone by itself has stopped.
fn gone_is_unchanged(result: RtResult<Change>) -> Result<Done> {
    match result {
        Err(RuntimeError::NotFound { .. }) => Ok(Change::Unchanged.into()),
        other => Ok(other?.into()),
    }
}
