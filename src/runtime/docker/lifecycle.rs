//! Start, stop, signal, pause, remove, wait and list, as far as they are Docker's own; what is alike for every engine is
//! in [`crate::runtime::shared::verbs`].

use super::client::Client;
use super::wire::{Inspect, Listed, Waited};
use super::{DockerConfig, ENGINE, spec, status};
use crate::cancel::Urge;
use crate::model::resources::Resources;
use crate::model::security::SecurityContext;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::workload::labels;
use crate::runtime::adapter::{
    Call, Change, ContainerInstance, ListFilter, RtResult, RuntimeError, StopOptions, unsupported,
};
use crate::runtime::rest::client::{Answer, Failure};
use crate::runtime::rest::exchange::{NO_BODY, parse, path, word};
use crate::runtime::rest::filters::label_filter;
use crate::runtime::shared::calls::{apart, not_allowed};
use crate::runtime::shared::capabilities::{bounding_set, has_capability};
use crate::runtime::shared::fields::missing_capability;
use crate::runtime::shared::owned::is_ours;
use crate::runtime::shared::resize;
use crate::runtime::shared::verbs::{self, Acted, Containers, FIRST_POLL, Found, Order};
use crate::transport::http::{Method, encode};

/// The container of exactly this id or name; `None` where there is none. Docker itself also takes the beginning of an
/// id, which might be another container's.
pub(super) fn find(client: &Client, call: &Call, id: &str) -> RtResult<Option<Inspect>> {
    if !may_be_a_name(id) {
        return Ok(None);
    }
    let found: Option<Inspect> = client.find(call, "inspect", &path(id, "json"))?;
    Ok(found.filter(|container| container.id == id || container.name.trim_start_matches('/') == id))
}

/// Whether there can be a container of this name or id. Docker takes others for paths and answers with another place.
fn may_be_a_name(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    id.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && id.bytes().all(is_allowed)
}

/// The container, or `NotFound`.
pub(super) fn inspect(client: &Client, call: &Call, id: &str) -> RtResult<Inspect> {
    find(client, call, id)?.ok_or_else(|| RuntimeError::NotFound { what: format!("container '{id}'") })
}

/// Docker's containers.
pub(super) struct Own<'a>(pub(super) &'a Client);

impl Containers for Own<'_> {
    fn look(&self, call: &Call, id: &str) -> RtResult<Option<Found>> {
        let found = |container: Inspect| Found {
            status: status::status(&container.state),
            id: container.id,
            labels: container.config.labels,
        };
        Ok(find(self.0, call, id)?.map(found))
    }

    fn act(&self, call: &Call, op: &str, id: &str, order: Order) -> RtResult<Acted> {
        match self.0.send(call, op, Method::Post, &path(id, &word(order)), NO_BODY)? {
            Answer::Done(_) => Ok(Acted::Done),
            Answer::Unchanged => Ok(Acted::Unchanged),
            Answer::Refused(failure) if failure.is_conflict() => Ok(Acted::WrongState),
            // Docker thaws by itself with a signal; that it runs by then is told as an internal error.
            Answer::Refused(failure) if order == Order::Thaw && failure.status == 500 => match self.look(call, id)? {
                Some(container) if container.status == ContainerStatus::Paused => Err(failure.into_error()),
                Some(_) | None => Ok(Acted::WrongState),
            },
            Answer::Refused(failure) => Err(refusal(failure)),
        }
    }

    fn delete(&self, call: &Call, id: &str) -> RtResult<Change> {
        delete(self.0, call, id, true)
    }
}

/// A start whose command is not there is told as 404 too.
fn refusal(failure: Failure) -> RuntimeError {
    if failure.is_missing() && !failure.message.starts_with("No such container") {
        let (engine, code) = (ENGINE.to_owned(), i64::from(failure.status));
        return RuntimeError::Engine { engine, op: failure.op, code, message: failure.message };
    }
    failure.into_error()
}

/// Starts it; Docker answers once the runtime has.
pub(super) fn start(client: &Client, call: &Call, id: &str) -> RtResult<Change> {
    let started = verbs::start(&Own(client), call, id)?;
    if started == Change::Changed {
        check_capabilities(client, call, id)?;
    }
    Ok(started)
}

/// The runtime drops in silence what capabilities the engine itself does not have. A container that lacks one that was
/// asked for is ended again.
fn check_capabilities(client: &Client, call: &Call, id: &str) -> RtResult<()> {
    let container = inspect(client, call, id)?;
    if container.host_config.cap_add.is_empty() || container.state.pid <= 0 {
        return Ok(());
    }
    let Some(bounding) = bounding_set(container.state.pid) else { return Ok(()) };
    let add_capabilities = container.host_config.cap_add.into_iter().collect();
    let asked = SecurityContext { add_capabilities, ..SecurityContext::default() };
    let Some(missing) = missing_capability(&asked, |name| has_capability(bounding, name)) else { return Ok(()) };
    if let Err(error) = apart(|call| stop(client, call, id, &StopOptions::kill())) {
        log::error!("container '{id}' lacks a capability and could not be ended: {error}");
    }
    let what = format!("security.add_capabilities: the engine itself does not have '{missing}'");
    Err(unsupported(ENGINE, what))
}

/// Freezes it.
pub(super) fn pause(client: &Client, call: &Call, id: &str) -> RtResult<Change> {
    verbs::pause(&Own(client), call, id)
}

/// Thaws it.
pub(super) fn resume(client: &Client, call: &Call, id: &str) -> RtResult<Change> {
    verbs::resume(&Own(client), call, id)
}

/// Changes limits of what runs.
pub(super) fn resize(client: &Client, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
    let container = inspect(client, call, id).map(status::instance)?;
    resize::resize(&container, resources, force, |resized| {
        let body = spec::resized(resized);
        match client.send(call, "resize", Method::Post, &path(&container.id, "update"), Some(&body))? {
            Answer::Done(_) | Answer::Unchanged => Ok(()),
            Answer::Refused(failure) => Err(failure.into_error()),
        }
    })
}

/// Sends one signal to what runs.
pub(super) fn signal(client: &Client, call: &Call, id: &str, signal: &str) -> RtResult<()> {
    verbs::signal(&Own(client), call, id, signal)
}

/// Signal, thaw, grace, SIGKILL; returns once it has ended.
pub(super) fn stop(client: &Client, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
    verbs::stop(&Own(client), call, id, options)
}

/// Deletes it. Of its volumes only those that the image made without a name go with it.
pub(super) fn remove(client: &Client, settings: &DockerConfig, call: &Call, id: &str, force: bool) -> RtResult<Change> {
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

/// The deletion itself.
pub(super) fn delete(client: &Client, call: &Call, id: &str, force: bool) -> RtResult<Change> {
    let target = format!("/containers/{}?force={force}&v=true", encode(id));
    match client.send(call, "remove", Method::Delete, &target, NO_BODY)? {
        Answer::Done(_) => Ok(Change::Changed),
        Answer::Unchanged => Ok(Change::Unchanged),
        Answer::Refused(failure) if failure.is_missing() => Ok(Change::Unchanged),
        Answer::Refused(failure) if failure.message.contains("is already in progress") => {
            await_removal(client, call, id)
        }
        Answer::Refused(failure) if failure.is_conflict() => {
            let state = status::status(&inspect(client, call, id)?.state);
            Err(not_allowed("remove", id, &state))
        }
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// Somebody else removes it: looks until it is gone.
fn await_removal(client: &Client, call: &Call, id: &str) -> RtResult<Change> {
    let begun = std::time::Instant::now();
    while find(client, call, id)?.is_some() {
        if call.deadline.is_over() {
            return Err(crate::runtime::shared::calls::late("remove", begun));
        }
        if call.cancel.wait(Urge::Cancel, call.deadline.at_most(FIRST_POLL)) == Urge::Cancel {
            return Err(RuntimeError::Cancelled { op: "remove".to_owned() });
        }
    }
    Ok(Change::Changed)
}

/// Blocks until it has ended; its exit code.
pub(super) fn wait(client: &Client, call: &Call, id: &str) -> RtResult<Option<i32>> {
    let container = inspect(client, call, id)?;
    verbs::await_start(&Own(client), call, &container.id)?;
    let path = path(&container.id, "wait?condition=not-running");
    match client.send(call, "wait", Method::Post, &path, NO_BODY)? {
        Answer::Done(response) => Ok(i32::try_from(parse::<Waited>(ENGINE, "wait", &response)?.status_code).ok()),
        Answer::Unchanged => Ok(None),
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// The containers that fit, by creation time, then id. Docker's list has no exit codes, so each is looked at.
pub(super) fn list(client: &Client, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
    let wanted = filter.labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let target = format!("/containers/json?all={}&filters={}", filter.all, label_filter(wanted));
    let mut instances = Vec::new();
    for listed in client.get::<Vec<Listed>>(call, "list", &target)? {
        // Gone meanwhile is no longer there.
        let Some(container) = find(client, call, &listed.id)? else { continue };
        let instance = status::instance(container);
        if filter.all || instance.status.is_live() {
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
    fn path_is_no_name() {
        assert!(may_be_a_name("w_c.1-x") && may_be_a_name("0123abc"));
        for id in ["", "../../version", "a/b", "-a", "a b", "ä"] {
            assert!(!may_be_a_name(id), "{id}");
        }
    }
}
