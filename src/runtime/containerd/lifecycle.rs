//! Start, stop, signal, pause, remove, wait and list, as far as they are containerd's own; the state machine over them is
//! in [`crate::runtime::shared::verbs`].
//!
//! A container that has ended keeps its task, and with it its exit code, until it is started again or removed: whoever
//! has started it need not have been there at its end.

use std::path::Path;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use grpcio::{Method, RpcStatusCode};
use nix::sys::signal::Signal;
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use super::client::{Asked, Scope, deleted};
use super::record::{self, Known};
use super::{ENGINE, Place, checkpoint, logs, unpack};
use crate::cancel::Urge;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::workload::labels;
use crate::proto::containerd_containers::DeleteContainerRequest;
use crate::proto::containerd_containers_grpc::CONTAINERS_DELETE;
use crate::proto::containerd_runc::Options;
use crate::proto::containerd_tasks::{
    CreateTaskRequest, DeleteTaskRequest, KillRequest, ListTasksRequest, PauseTaskRequest, ResumeTaskRequest,
    StartRequest, WaitRequest,
};
use crate::proto::containerd_tasks_grpc::{
    TASKS_CREATE, TASKS_DELETE, TASKS_KILL, TASKS_LIST, TASKS_PAUSE, TASKS_RESUME, TASKS_START, TASKS_WAIT,
};
use crate::runtime::adapter::{Call, Change, ContainerInstance, ListFilter, RtResult, RuntimeError, StopOptions};
use crate::runtime::shared::calls::{apart, late, not_allowed};
use crate::runtime::shared::owned::is_ours;
use crate::runtime::shared::verbs::{self, Acted, Containers, FIRST_POLL, Found, Order, SLOWEST_POLL};

/// The number of the first real-time signal, as libraries count them for programs.
const SIGRTMIN: u32 = 34;

/// The number of the last.
const SIGRTMAX: u32 = 64;

/// containerd's containers.
pub(super) struct Own<'a>(pub(super) Place<'a>);

impl Containers for Own<'_> {
    fn look(&self, call: &Call, id: &str) -> RtResult<Option<Found>> {
        let found =
            |known: Known| Found { status: known.status(), id: known.container.id.clone(), labels: known.labels() };
        Ok(record::find(self.0.scope, call, id)?.map(found))
    }

    fn act(&self, call: &Call, op: &str, id: &str, order: Order) -> RtResult<Acted> {
        let (scope, container_id) = (self.0.scope, id.to_owned());
        match order {
            Order::Start => start_task(self.0, call, id, None),
            Order::Pause => {
                let request = PauseTaskRequest { container_id, ..Default::default() };
                self.told(call, op, id, &TASKS_PAUSE, &request, ContainerStatus::is_running)
            }
            Order::Thaw => {
                let request = ResumeTaskRequest { container_id, ..Default::default() };
                self.told(call, op, id, &TASKS_RESUME, &request, |now| *now == ContainerStatus::Paused)
            }
            Order::Signal(name) => {
                let signal = number(name)?;
                let request = KillRequest { container_id, signal, ..Default::default() };
                acted(scope.ask(call, op, &TASKS_KILL, &request))
            }
        }
    }

    fn delete(&self, call: &Call, id: &str) -> RtResult<Change> {
        delete(self.0, call, id)
    }
}

impl Own<'_> {
    /// Carries out what a shim refuses in many words: whether it was for the state's sake shows by the state.
    fn told<Q, R: Unpin>(
        &self,
        call: &Call,
        op: &str,
        id: &str,
        method: &Method<Q, R>,
        request: &Q,
        is_possible: impl Fn(&ContainerStatus) -> bool,
    ) -> RtResult<Acted> {
        let asked = self.0.scope.ask(call, op, method, request);
        match acted(asked) {
            Err(error @ RuntimeError::Engine { .. }) => match self.look(call, id)? {
                Some(now) if is_possible(&now.status) => Err(error),
                Some(_) | None => Ok(Acted::WrongState),
            },
            other => other,
        }
    }
}

/// Without the task, or with one that has ended, the state does not allow it.
fn acted<R>(asked: Asked<R>) -> RtResult<Acted> {
    match asked {
        Ok(_) => Ok(Acted::Done),
        Err(failure) if failure.is_missing() || failure.is(RpcStatusCode::FAILED_PRECONDITION) => Ok(Acted::WrongState),
        Err(failure) => Err(failure.into()),
    }
}

/// The number of a signal by its name: `SIGTERM`, `SIGRTMIN+3`.
fn number(name: &str) -> RtResult<u32> {
    let unknown = || RuntimeError::InvalidSpec { reason: format!("signal: '{name}' is none") };
    let real_time = |text: &str, base: u32, of: fn(u32, u32) -> Option<u32>| {
        let offset = if text.is_empty() { Some(0) } else { text.get(1..).and_then(|digits| digits.parse().ok()) };
        offset.and_then(|offset| of(base, offset)).filter(|number| (SIGRTMIN..=SIGRTMAX).contains(number))
    };
    if let Some(rest) = name.strip_prefix("SIGRTMIN").filter(|rest| rest.is_empty() || rest.starts_with('+')) {
        return real_time(rest, SIGRTMIN, u32::checked_add).ok_or_else(unknown);
    }
    if let Some(rest) = name.strip_prefix("SIGRTMAX").filter(|rest| rest.is_empty() || rest.starts_with('-')) {
        return real_time(rest, SIGRTMAX, u32::checked_sub).ok_or_else(unknown);
    }
    let signal: Signal = name.parse().map_err(|_| unknown())?;
    u32::try_from(signal as i32).map_err(|_| unknown())
}

fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Starts the container: a task is made where it has none that waits for it. `options` are those of the runtime, for one
/// that goes on from an image.
pub(super) fn start_task(place: Place, call: &Call, id: &str, options: Option<&Options>) -> RtResult<Acted> {
    let scope = place.scope;
    let known = record::inspect(scope, call, id)?;
    let is_made = match known.status() {
        ContainerStatus::Created => known.task.is_some(),
        ContainerStatus::Exited { .. } => {
            end_task(scope, call, id)?;
            false
        }
        status if status.is_live() => return Ok(Acted::Unchanged),
        _ => return Ok(Acted::WrongState),
    };
    // Before it runs: what is started without a note of it would count as new once its task is lost. What goes on from an
    // image was started when that was made.
    let started_ns = if options.is_some() { known.started_ns() } else { None };
    record::note_start(scope, call, id, Some(started_ns.unwrap_or_else(now_ns)))?;
    let made = if is_made { Ok(()) } else { create_task(place, call, &known, options) };
    let started = made.and_then(|()| {
        let request = StartRequest { container_id: id.to_owned(), ..Default::default() };
        Ok(scope.ask(call, "start", &TASKS_START, &request).map(drop)?)
    });
    let Err(error) = started else { return Ok(Acted::Done) };
    // One whose start failed is as it was before.
    let back = apart(|call| {
        end_task(scope, call, id)?;
        record::note_start(scope, call, id, known.started_ns())
    });
    if let Err(error) = back {
        log::warn!("what a failed start of container '{}' has left stays: {error}", known.name());
    }
    Err(match error {
        // That a program is not there is no missing container.
        RuntimeError::NotFound { what } => RuntimeError::Engine {
            engine: ENGINE.to_owned(),
            op: "start".to_owned(),
            code: i64::from(i32::from(RpcStatusCode::NOT_FOUND)),
            message: what,
        },
        other => other,
    })
}

fn create_task(place: Place, call: &Call, known: &Known, options: Option<&Options>) -> RtResult<()> {
    let (scope, id) = (place.scope, &known.container.id);
    let key = &known.container.snapshot_key;
    let rootfs = if key.is_empty() { Vec::new() } else { unpack::mounts(scope, call, key)? };
    let folder = place.settings.folder(id);
    super::make_folder(&folder)?;
    let output = super::logger_uri(&place.settings.logger, &folder)?;
    let specification = record::Specification::of(&known.container);
    for mount in &specification.mounts {
        place.volumes.renew(Path::new(&mount.source))?;
    }
    let terminal = specification.process.get("terminal").and_then(|value| value.as_bool());
    let request = CreateTaskRequest {
        container_id: id.clone(),
        rootfs,
        stdout: output.clone(),
        stderr: output,
        terminal: terminal.unwrap_or(false),
        options: match options {
            Some(options) => MessageField::some(packed("containerd.runc.v1.Options", options)?),
            None => MessageField::none(),
        },
        ..Default::default()
    };
    scope.ask(call, "task create", &TASKS_CREATE, &request)?;
    Ok(())
}

/// A message with its type.
pub(super) fn packed(name: &str, message: &impl Message) -> RtResult<Any> {
    let value = message
        .write_to_bytes()
        .map_err(|error| RuntimeError::InvalidSpec { reason: format!("{name} cannot be written: {error}") })?;
    Ok(Any { type_url: name.to_owned(), value, ..Any::default() })
}

/// Deletes the task of a container that has ended; its exit code is gone then.
fn delete_task(scope: Scope, call: &Call, id: &str) -> RtResult<bool> {
    let request = DeleteTaskRequest { container_id: id.to_owned(), ..Default::default() };
    deleted(scope.ask(call, "task delete", &TASKS_DELETE, &request))
}

/// Ends and deletes the task, whatever it does. One whose shim was killed looks as if it were gone until containerd has
/// tidied up after it, and refuses everything: that it is gone is what the deletion says.
pub(super) fn end_task(scope: Scope, call: &Call, id: &str) -> RtResult<()> {
    const OP: &str = "task delete";
    let begun = Instant::now();
    let mut poll = FIRST_POLL;
    loop {
        let known = Known { task: record::task(scope, call, id)?, ..Known::default() };
        let status = known.status();
        let refused = match (&known.task, &status) {
            // The first process of one that was made and not started waits, and is killed with the deletion.
            (None, _) | (Some(_), ContainerStatus::Exited { .. } | ContainerStatus::Created) => {
                match delete_task(scope, call, id) {
                    Ok(_) => return Ok(()),
                    Err(error @ RuntimeError::Engine { .. }) => Some(error),
                    Err(error) => return Err(error),
                }
            }
            (Some(_), _) => None,
        };
        let refused = if poll == FIRST_POLL { kill_task(scope, call, id, &status)?.or(refused) } else { refused };
        if call.deadline.is_over() {
            return Err(refused.unwrap_or_else(|| late(OP, begun)));
        }
        if call.cancel.wait(Urge::Cancel, call.deadline.at_most(poll)) == Urge::Cancel {
            return Err(RuntimeError::Cancelled { op: OP.to_owned() });
        }
        poll = (poll * 2).min(SLOWEST_POLL);
    }
}

/// Kills what runs of the task; gives what speaks against it.
fn kill_task(scope: Scope, call: &Call, id: &str, status: &ContainerStatus) -> RtResult<Option<RuntimeError>> {
    let container_id = id.to_owned();
    let request = KillRequest { container_id, signal: Signal::SIGKILL as u32, ..Default::default() };
    let refused = match acted(scope.ask(call, "kill", &TASKS_KILL, &request)) {
        Ok(_) => None,
        Err(error @ RuntimeError::Engine { .. }) => Some(error),
        Err(error) => return Err(error),
    };
    if *status == ContainerStatus::Paused {
        let request = ResumeTaskRequest { container_id: id.to_owned(), ..Default::default() };
        // It may have thawed with the signal.
        let _ = scope.ask(call, "resume", &TASKS_RESUME, &request);
    }
    Ok(refused)
}

/// Starts it; containerd answers once the runtime has.
pub(super) fn start(place: Place, call: &Call, id: &str) -> RtResult<Change> {
    verbs::start(&Own(place), call, id)
}

/// Freezes it.
pub(super) fn pause(place: Place, call: &Call, id: &str) -> RtResult<Change> {
    verbs::pause(&Own(place), call, id)
}

/// Thaws it.
pub(super) fn resume(place: Place, call: &Call, id: &str) -> RtResult<Change> {
    verbs::resume(&Own(place), call, id)
}

/// Sends one signal to what runs.
pub(super) fn signal(place: Place, call: &Call, id: &str, signal: &str) -> RtResult<()> {
    number(signal)?;
    verbs::signal(&Own(place), call, id, signal)
}

/// Signal, thaw, grace, SIGKILL; returns once it has ended and its output is written.
pub(super) fn stop(place: Place, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
    number(&options.signal)?;
    let change = verbs::stop(&Own(place), call, id, options)?;
    // It has ended, whatever becomes of this look.
    match record::find_record(place.scope, call, id) {
        Ok(Some(container)) => logs::await_end(place, call, &container.id),
        Ok(None) => {}
        Err(error) => log::debug!("the last output of container '{id}' is not waited for: {error}"),
    }
    Ok(change)
}

/// Deletes it.
pub(super) fn remove(place: Place, call: &Call, id: &str, force: bool) -> RtResult<Change> {
    let Some(known) = record::find(place.scope, call, id)? else { return Ok(Change::Unchanged) };
    let node = &place.settings.node;
    if !is_ours(node, &known.labels()) {
        let reason = format!("container '{id}' is not ours: its label {} is not '{node}'", labels::NODE);
        return Err(RuntimeError::PermissionDenied { reason });
    }
    let state = known.status();
    if state.allows(Transition::Remove { force }) != Allowed::Yes {
        return Err(not_allowed("remove", id, &state));
    }
    delete(place, call, &known.container.id)
}

/// The deletion itself. The record goes last: until then it can be found and deleted again.
pub(super) fn delete(place: Place, call: &Call, id: &str) -> RtResult<Change> {
    let scope = place.scope;
    let Some(container) = record::find_record(scope, call, id)? else { return Ok(Change::Unchanged) };
    end_task(scope, call, id)?;
    checkpoint::mark(place, id, None);
    if !container.snapshot_key.is_empty() {
        unpack::remove(scope, call, &container.snapshot_key)?;
    }
    super::remove_folder(&place.settings.folder(id))?;
    let request = DeleteContainerRequest { id: id.to_owned(), ..Default::default() };
    let is_gone = deleted(scope.ask(call, "remove", &CONTAINERS_DELETE, &request))?;
    Ok(if is_gone { Change::Changed } else { Change::Unchanged })
}

/// Blocks until it has ended and its output is written; its exit code, or `None` where that was lost.
pub(super) fn wait(place: Place, call: &Call, id: &str) -> RtResult<Option<i32>> {
    let scope = place.scope;
    let id = record::inspect(scope, call, id)?.container.id;
    verbs::await_start(&Own(place), call, &id)?;
    let request = WaitRequest { container_id: id.clone(), ..Default::default() };
    let code = match scope.ask(call, "wait", &TASKS_WAIT, &request) {
        Ok(answer) => i32::try_from(answer.exit_status).ok(),
        // Its task is gone: what is known shows by its state.
        Err(failure) if failure.is_missing() => match record::inspect(scope, call, &id)?.status() {
            ContainerStatus::Exited { code, .. } => code,
            _ => None,
        },
        Err(failure) => return Err(failure.into()),
    };
    logs::await_end(place, call, &id);
    Ok(code)
}

/// The containers that fit, by creation time, then id.
pub(super) fn list(place: Place, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
    let scope = place.scope;
    let containers = record::list_records(scope, call, Vec::new())?;
    let mut tasks: std::collections::BTreeMap<_, _> = scope
        .ask(call, "list", &TASKS_LIST, &ListTasksRequest::default())?
        .tasks
        .into_iter()
        .map(|task| (task.id.clone(), task))
        .collect();
    let mut instances = Vec::new();
    for container in containers {
        let task = tasks.remove(&container.id);
        let instance = Known { container, task }.instance(false);
        let fits = filter.labels.iter().all(|(key, value)| instance.labels.get(key) == Some(value));
        if fits && (filter.all || instance.status.is_live()) {
            instances.push(instance);
        }
    }
    instances.sort_by(|one, other| (one.created_ms, &one.id).cmp(&(other.created_ms, &other.id)));
    Ok(instances)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_by_name() {
        assert_eq!(number("SIGTERM"), Ok(15));
        assert_eq!((number("SIGRTMIN"), number("SIGRTMIN+3"), number("SIGRTMAX-1")), (Ok(34), Ok(37), Ok(63)));
        for none in ["", "TERM", "SIGNONE", "SIGRTMIN+31", "SIGRTMINx", "SIGRTMAX-31", "SIGRTMIN+"] {
            assert!(number(none).is_err(), "{none}");
        }
    }
}
