//! Networks of ours: known by our node label; one that is not ours is never touched.

use std::collections::BTreeSet;

use super::client::Client;
use super::request::{NetworkConnect, NetworkCreate};
use super::wire::{Listed, Network};
use super::{DockerConfig, spec};
use crate::runtime::adapter::{Call, Change, NetworkSpec, RtResult};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::exchange::NO_BODY;
use crate::runtime::shared::owned::{is_ours, owner_of};
use crate::transport::http::{Method, encode};

/// The network of exactly this name. Docker also takes an id's beginning.
pub(super) fn find(client: &Client, call: &Call, name: &str) -> RtResult<Option<Network>> {
    if name.is_empty() {
        return Ok(None);
    }
    let found: Option<Network> = client.find(call, "network inspect", &format!("/networks/{}", encode(name)))?;
    Ok(found.filter(|network| network.name == name))
}

/// Makes it present. Names of its containers are resolvable in it, as in every network that is not the default one.
pub(super) fn ensure(client: &Client, settings: &DockerConfig, call: &Call, network: &NetworkSpec) -> RtResult<Change> {
    let known = |found: Option<Network>| match found {
        Some(found) => owner_of(&settings.node, "network", &network.name, &found.labels).map(Some),
        None => Ok(None),
    };
    if let Some(unchanged) = known(find(client, call, &network.name)?)? {
        return Ok(unchanged);
    }
    let document = NetworkCreate {
        name: network.name.clone(),
        check_duplicate: true,
        driver: "bridge",
        labels: spec::owned(settings, &network.labels),
    };
    match client.send(call, "network create", Method::Post, "/networks/create", Some(&document))? {
        Answer::Done(_) => Ok(Change::Changed),
        Answer::Unchanged => Ok(Change::Unchanged),
        // Another workload's action was faster.
        Answer::Refused(failure) if failure.is_conflict() => {
            known(find(client, call, &network.name)?)?.ok_or_else(|| failure.into_error())
        }
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// Puts a container into a further network.
pub(super) fn connect(client: &Client, call: &Call, name: &str, connect: &NetworkConnect<'_>) -> RtResult<()> {
    let path = format!("/networks/{}/connect", encode(name));
    match client.send(call, "network connect", Method::Post, &path, Some(connect))? {
        Answer::Done(_) | Answer::Unchanged => Ok(()),
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// Deletes it if it is ours and nothing is in it, running or not.
pub(super) fn remove(client: &Client, settings: &DockerConfig, call: &Call, name: &str) -> RtResult<Change> {
    let Some(found) = find(client, call, name)? else { return Ok(Change::Unchanged) };
    if !is_ours(&settings.node, &found.labels) || used(client, call)?.contains(name) {
        return Ok(Change::Unchanged);
    }
    let path = format!("/networks/{}", encode(name));
    match client.send(call, "network remove", Method::Delete, &path, NO_BODY)? {
        Answer::Done(_) => Ok(Change::Changed),
        Answer::Unchanged => Ok(Change::Unchanged),
        Answer::Refused(failure) if failure.is_missing() => Ok(Change::Unchanged),
        // A container may have joined meanwhile.
        Answer::Refused(failure) if used(client, call)?.contains(name) => {
            log::debug!("network '{name}' stays: {}", failure.message);
            Ok(Change::Unchanged)
        }
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// The names of all networks that a container is in, running or not.
fn used(client: &Client, call: &Call) -> RtResult<BTreeSet<String>> {
    let all: Vec<Listed> = client.get(call, "list", "/containers/json?all=true")?;
    Ok(all.into_iter().flat_map(|container| container.network_settings.networks.into_keys()).collect())
}

/// The names of our networks that nothing is in.
pub(super) fn unused(client: &Client, settings: &DockerConfig, call: &Call) -> RtResult<Vec<String>> {
    let all: Vec<Network> = client.get(call, "network list", "/networks")?;
    let used = used(client, call)?;
    let names = all.into_iter().filter(|network| is_ours(&settings.node, &network.labels)).map(|network| network.name);
    Ok(names.filter(|name| !used.contains(name)).collect())
}
