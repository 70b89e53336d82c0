//! Networks of ours: known by our node label; one that is not ours is never touched.

use super::client::Client;
use super::wire::{Listed, Network, Report};
use super::{ENGINE, PodmanConfig, spec};
use crate::runtime::adapter::{Call, Change, NetworkSpec, RtResult, RuntimeError};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::exchange::{NO_BODY, parse};
use crate::runtime::rest::wire::Strings;
use crate::runtime::shared::owned::{is_ours, owner_of};
use crate::transport::http::{Method, encode};

/// The network of exactly this name. Podman also takes an id's beginning.
fn find(client: &Client, call: &Call, name: &str) -> RtResult<Option<Network>> {
    if name.is_empty() {
        return Ok(None);
    }
    let found: Option<Network> = client.find(call, "network inspect", &format!("/networks/{}/json", encode(name)))?;
    Ok(found.filter(|network| network.name == name))
}

/// Makes it present, with names of its containers resolvable in it.
pub(super) fn ensure(client: &Client, settings: &PodmanConfig, call: &Call, network: &NetworkSpec) -> RtResult<Change> {
    let known = |found: Option<Network>| match found {
        Some(found) => owner_of(&settings.node, "network", &network.name, &found.labels).map(Some),
        None => Ok(None),
    };
    if let Some(unchanged) = known(find(client, call, &network.name)?)? {
        return Ok(unchanged);
    }
    let document = Network {
        name: network.name.clone(),
        driver: "bridge".to_owned(),
        dns_enabled: true,
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

/// Deletes it if it is ours and nothing is in it, running or not.
pub(super) fn remove(client: &Client, settings: &PodmanConfig, call: &Call, name: &str) -> RtResult<Change> {
    let Some(found) = find(client, call, name)? else { return Ok(Change::Unchanged) };
    if !is_ours(&settings.node, &found.labels) || used(client, call)?.contains(name) {
        return Ok(Change::Unchanged);
    }
    let path = format!("/networks/{}?force=false", encode(name));
    match client.send(call, "network remove", Method::Delete, &path, NO_BODY)? {
        Answer::Done(response) => {
            let reports: Vec<Report> = parse(ENGINE, "network remove", &response)?;
            match reports.iter().find(|report| !report.err.is_null()) {
                None => Ok(Change::Changed),
                // Version 5 says so with 200. A container may have joined meanwhile.
                Some(_) if used(client, call)?.contains(name) => Ok(Change::Unchanged),
                Some(report) => Err(RuntimeError::Engine {
                    engine: ENGINE.to_owned(),
                    op: "network remove".to_owned(),
                    code: i64::from(response.status),
                    message: report.err.to_string(),
                }),
            }
        }
        Answer::Unchanged => Ok(Change::Unchanged),
        Answer::Refused(failure) if failure.is_missing() || failure.cause == "network is being used" => {
            Ok(Change::Unchanged)
        }
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// The names of all networks that a container is in, running or not, infra containers among them.
fn used(client: &Client, call: &Call) -> RtResult<std::collections::BTreeSet<String>> {
    let all: Vec<Listed> = client.get(call, "list", "/containers/json?all=true")?;
    Ok(all.into_iter().flat_map(|container| container.networks).collect())
}

/// The names of our networks that nothing is in.
pub(super) fn unused(client: &Client, settings: &PodmanConfig, call: &Call) -> RtResult<Vec<String>> {
    let ours = |labels: &Strings| is_ours(&settings.node, labels);
    let all: Vec<Network> = client.get(call, "network list", "/networks/json")?;
    let used = used(client, call)?;
    let names = all.into_iter().filter(|network| ours(&network.labels)).map(|network| network.name);
    Ok(names.filter(|name| !used.contains(name)).collect())
}
