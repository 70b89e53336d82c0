//! Start, stop, signal, pause, remove and wait, as far as they are Podman's own; what is alike for every engine is in
//! [`crate::runtime::shared::verbs`].

use std::time::Duration;

use super::client::{Client, is_state};
use super::wire::{Inspect, Listed, Report};
use super::{ENGINE, PodmanConfig, pod, spec, status};
use crate::cancel::Urge;
use crate::model::resources::Resources;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::workload::labels;
use crate::runtime::adapter::{Call, Change, ContainerInstance, ListFilter, RtResult, RuntimeError, StopOptions};
use crate::runtime::rest::client::{Answer, Failure};
use crate::runtime::rest::exchange::{NO_BODY, parse, path, word};
use crate::runtime::shared::calls::not_allowed;
use crate::runtime::shared::owned::is_ours;
use crate::runtime::shared::resize;
use crate::runtime::shared::verbs::{self, Acted, Containers, FIRST_POLL, Found, Order, SLOWEST_POLL};
use crate::transport::http::{Method, encode};

/// How long the network and the mounts of a container that has ended may take to be gone: some hundred milliseconds
/// are usual. Where whoever takes them down died, they are there until the next start or the removal.
const CLEANUP_LIMIT: Duration = Duration::from_secs(5);

/// How often Podman itself looks while it waits for an end; its default of 250 ms would add that to each init container.
const WAIT_INTERVAL: &str = "50ms";

/// Death by signal as an exit code is 128 and the signal's number.
const KILLED: i32 = 137;

/// The container of exactly this id or name; `None` where there is none. Podman itself also takes the beginning of an
/// id, which might be another container's.
pub(super) fn find(client: &Client, call: &Call, id: &str) -> RtResult<Option<Inspect>> {
    if id.is_empty() {
        return Ok(None);
    }
    let found = look(client, call, id)?;
    Ok(found.filter(|container| container.id == id || container.name == id))
}

/// One inspect; again where the container's process ended just while Podman read of it, which Podman tells as 500.
fn look(client: &Client, call: &Call, id: &str) -> RtResult<Option<Inspect>> {
    const TRIES: usize = 5;
    for _ in 1..TRIES {
        match client.find(call, "inspect", &path(id, "json")) {
            Err(RuntimeError::Engine { code: 500, message, .. }) if message.contains("no such process") => {}
            answer => return answer,
        }
        if call.cancel.wait(Urge::Cancel, call.deadline.at_most(FIRST_POLL)) == Urge::Cancel {
            break;
        }
    }
    client.find(call, "inspect", &path(id, "json"))
}

/// The container, or `NotFound`.
pub(super) fn inspect(client: &Client, call: &Call, id: &str) -> RtResult<Inspect> {
    find(client, call, id)?.ok_or_else(|| RuntimeError::NotFound { what: format!("container '{id}'") })
}

/// POST of a verb; `Err` within is a refusal that the caller may understand.
fn post(client: &Client, call: &Call, op: &str, id: &str, what: &str) -> RtResult<Result<bool, Failure>> {
    client.act(call, op, Method::Post, &path(id, what))
}

/// Podman's containers.
pub(super) struct Own<'a>(pub(super) &'a Client);

impl Containers for Own<'_> {
    fn look(&self, call: &Call, id: &str) -> RtResult<Option<Found>> {
        Ok(find(self.0, call, id)?.map(seen))
    }

    fn act(&self, call: &Call, op: &str, id: &str, order: Order) -> RtResult<Acted> {
        match post(self.0, call, op, id, &word(order))? {
            Ok(true) => Ok(Acted::Done),
            Ok(false) => Ok(Acted::Unchanged),
            Err(failure) if is_state(&failure) => Ok(Acted::WrongState),
            Err(failure) => Err(failure.into_error()),
        }
    }

    fn delete(&self, call: &Call, id: &str) -> RtResult<Change> {
        delete(self.0, call, id, true)
    }
}

/// A container as far as verbs need it.
fn seen(container: Inspect) -> Found {
    Found { status: status::status(&container.state), id: container.id, labels: container.config.labels }
}

/// Starts it; Podman answers once the runtime has.
pub(super) fn start(client: &Client, call: &Call, id: &str) -> RtResult<Change> {
    let container = inspect(client, call, id)?;
    pod::start_infra(client, call, &container.pod)?;
    verbs::start_from(&Own(client), call, id, &seen(container))
}

/// Starts the infra container of a pod, which members that start side by side all ask for at once; returns when it runs.
pub(super) fn start_infra(client: &Client, call: &Call, infra_id: &str) -> RtResult<()> {
    let refused = match post(client, call, "pod start", infra_id, "start")? {
        Ok(_) => return Ok(()),
        Err(failure) => failure,
    };
    // Another member was faster, and Podman is not done with it.
    let limit = call.deadline.at_most(CLEANUP_LIMIT);
    while !limit.is_over() {
        if inspect(client, call, infra_id)?.state.status == "running" {
            return Ok(());
        }
        if call.cancel.wait(Urge::Cancel, limit.at_most(FIRST_POLL)) == Urge::Cancel {
            return Err(RuntimeError::Cancelled { op: "pod start".to_owned() });
        }
    }
    Err(refused.into_error())
}

/// Freezes it.
pub(super) fn pause(client: &Client, call: &Call, id: &str) -> RtResult<Change> {
    verbs::pause(&Own(client), call, id)
}

/// Thaws it.
pub(super) fn resume(client: &Client, call: &Call, id: &str) -> RtResult<Change> {
    verbs::resume(&Own(client), call, id)
}

/// Changes limits of what runs. Podman's inspect keeps the old ones.
pub(super) fn resize(client: &Client, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
    const OP: &str = "resize";
    let container = inspect(client, call, id).map(status::instance)?;
    resize::resize(&container, resources, force, |resized| {
        let body = spec::resized(resized);
        match client.send(call, OP, Method::Post, &path(&container.id, "update"), Some(&body))? {
            Answer::Done(_) | Answer::Unchanged => Ok(()),
            Answer::Refused(failure) => Err(failure.into_error()),
        }
    })
}

/// Sends one signal to what runs.
pub(super) fn signal(client: &Client, call: &Call, id: &str, signal: &str) -> RtResult<()> {
    verbs::signal(&Own(client), call, id, signal)
}

/// Signal, thaw, grace, SIGKILL; returns once it has ended and Podman has cleaned up after it.
pub(super) fn stop(client: &Client, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
    let stopped = verbs::stop(&Own(client), call, id, options)?;
    if stopped == Change::Changed
        && let Some(ended) = find(client, call, id)?
    {
        await_cleanup(client, call, ended);
    }
    Ok(stopped)
}

/// Looks until Podman has cleaned up after a container that has ended: conmon starts a process for that, which takes
/// the firewall's rules of its ports away, and those of whoever has the same ports since, so nobody may before. What
/// does not come in time is said in the log; the container has ended all the same.
fn await_cleanup(client: &Client, call: &Call, ended: Inspect) {
    let limit = call.deadline.at_most(CLEANUP_LIMIT);
    let call = Call { deadline: limit, ..*call };
    let mut state = ended.state.status;
    while state == "stopped" {
        if limit.is_over() {
            return log::warn!("container '{}' has ended, but Podman has not cleaned up after it", ended.name);
        }
        if call.cancel.wait(Urge::Cancel, limit.at_most(SLOWEST_POLL / 4)) == Urge::Cancel {
            return;
        }
        match find(client, &call, &ended.id) {
            Ok(Some(container)) => state = container.state.status,
            Ok(None) | Err(_) => return,
        }
    }
}

/// Deletes it. Of its volumes only those that the image made without a name go with it.
pub(super) fn remove(client: &Client, settings: &PodmanConfig, call: &Call, id: &str, force: bool) -> RtResult<Change> {
    let Some(container) = find(client, call, id)? else { return Ok(Change::Unchanged) };
    if !is_ours(&settings.node, &container.config.labels) {
        let reason = format!("container '{id}' is not ours: its label {} is not '{}'", labels::NODE, settings.node);
        return Err(RuntimeError::PermissionDenied { reason });
    }
    let state = status::status(&container.state);
    if state.allows(Transition::Remove { force }) != Allowed::Yes {
        return Err(not_allowed("remove", id, &state));
    }
    delete(client, call, &container.id, force)
}

/// The deletion itself. `volumes=true` means anonymous volumes alone (`libpod/runtime_ctr.go`).
pub(super) fn delete(client: &Client, call: &Call, id: &str, force: bool) -> RtResult<Change> {
    let target = format!("/containers/{}?force={force}&timeout=0&volumes=true", encode(id));
    match client.send(call, "remove", Method::Delete, &target, NO_BODY)? {
        Answer::Done(response) => {
            // Version 4 answers 204 on some paths, without a report.
            let reports: Vec<Report> =
                if response.body.is_empty() { Vec::new() } else { parse(ENGINE, "remove", &response)? };
            match reports.iter().find(|report| !report.err.is_null()) {
                Some(report) => Err(RuntimeError::Engine {
                    engine: ENGINE.to_owned(),
                    op: "remove".to_owned(),
                    code: i64::from(response.status),
                    message: report.err.to_string(),
                }),
                None => Ok(Change::Changed),
            }
        }
        Answer::Unchanged => Ok(Change::Unchanged),
        Answer::Refused(failure) if failure.is_missing() => Ok(Change::Unchanged),
        Answer::Refused(failure) if is_state(&failure) => {
            let state = status::status(&inspect(client, call, id)?.state);
            Err(not_allowed("remove", id, &state))
        }
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// Blocks until it has ended; its exit code, or `None` where that was lost.
pub(super) fn wait(client: &Client, call: &Call, id: &str) -> RtResult<Option<i32>> {
    let container = inspect(client, call, id)?;
    verbs::await_start(&Own(client), call, &container.id)?;
    let path = path(&container.id, &format!("wait?condition=exited&condition=stopped&interval={WAIT_INTERVAL}"));
    match client.send(call, "wait", Method::Post, &path, NO_BODY)? {
        Answer::Done(response) => Ok(Some(parse::<i32>(ENGINE, "wait", &response)?).filter(|code| *code >= 0)),
        Answer::Unchanged => Ok(None),
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// The containers that fit, by creation time, then id. Infra containers of pods are none.
pub(super) fn list(client: &Client, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
    let wanted: Vec<_> = filter.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let filters = serde_json::json!({ "label": wanted }).to_string();
    let target = format!("/containers/json?all=true&filters={}", encode(&filters));
    let mut instances = Vec::new();
    for container in client.get::<Vec<Listed>>(call, "list", &target)? {
        // Podman's label filter takes a value apart at more than the first `=`, so it is looked at again.
        let fits = filter.labels.iter().all(|(key, value)| container.labels.get(key) == Some(value));
        if container.is_infra || !fits {
            continue;
        }
        let Some(instance) = complete(client, call, status::listed(container))? else { continue };
        if filter.all || instance.status.is_live() {
            instances.push(instance);
        }
    }
    instances.sort_by(|one, other| (one.created_ms, &one.id).cmp(&(other.created_ms, &other.id)));
    Ok(instances)
}

/// The list does not tell out-of-memory from other kills, so these are looked at one by one. `None`: gone meanwhile.
fn complete(client: &Client, call: &Call, listed: ContainerInstance) -> RtResult<Option<ContainerInstance>> {
    if matches!(listed.status, ContainerStatus::Exited { code: Some(KILLED), .. }) {
        return Ok(find(client, call, &listed.id)?.map(status::instance));
    }
    Ok(Some(listed))
}
