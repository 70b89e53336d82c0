//! Pods of ours: one network, IPC and host name for several containers, kept by an infra container that does nothing.
//!
//! Made by single calls and never from a document (`play kube`), so that each container keeps its own life cycle.

use std::time::Duration;

use super::client::{Client, is_taken};
use super::request::PodCreate;
use super::spec::{self, network_part};
use super::wire::{Pod, PodMember, Report};
use super::{ENGINE, INFRA_ROLE, PodmanConfig, lifecycle};
use crate::model::workload::{NetworkMode, labels};
use crate::runtime::adapter::{Call, Change, PodSpec, RtResult, RuntimeError, StopOptions};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::exchange::{NO_BODY, find_cut_off, parse};
use crate::runtime::rest::filters::workload_filter;
use crate::runtime::shared::calls::apart;
use crate::runtime::shared::owned::{is_of_workload, is_ours, owner_of};
use crate::transport::http::{Method, encode};

/// What an infra container has to end on SIGTERM; it does nothing that could be lost.
const INFRA_GRACE: Duration = Duration::from_secs(2);

/// The pod of exactly this name. Podman also takes an id's beginning.
fn find(client: &Client, call: &Call, name: &str) -> RtResult<Option<Pod>> {
    if name.is_empty() {
        return Ok(None);
    }
    let found: Option<Pod> = client.find(call, "pod inspect", &format!("/pods/{}/json", encode(name)))?;
    Ok(found.filter(|pod| pod.name == name))
}

/// Makes it present.
pub(super) fn ensure(client: &Client, settings: &PodmanConfig, call: &Call, pod: &PodSpec) -> RtResult<Change> {
    let document = document(settings, pod)?;
    let known = |found: Option<Pod>| match found {
        Some(found) => owner_of(&settings.node, "pod", &pod.name, &found.labels).map(Some),
        None => Ok(None),
    };
    if let Some(unchanged) = known(find(client, call, &pod.name)?)? {
        return Ok(unchanged);
    }
    let answer = client.send(call, "pod create", Method::Post, "/pods/create", Some(&document));
    match answer {
        Ok(Answer::Done(_)) => Ok(Change::Changed),
        Ok(Answer::Unchanged) => Ok(Change::Unchanged),
        // Another action was faster.
        Ok(Answer::Refused(failure)) if is_taken(&failure) => {
            known(find(client, call, &pod.name)?)?.ok_or_else(|| failure.into_error())
        }
        Ok(Answer::Refused(failure)) => {
            remove_half_made(client, settings, &pod.name);
            Err(failure.into_error())
        }
        Err(error) => {
            if find_cut_off(|call| find(client, call, &pod.name)).is_some() {
                remove_half_made(client, settings, &pod.name);
            }
            Err(error)
        }
    }
}

fn infra_name(pod: &str) -> String {
    format!("{pod}-infra")
}

fn document(settings: &PodmanConfig, pod: &PodSpec) -> RtResult<PodCreate> {
    if pod.network == NetworkMode::Host {
        return Err(RuntimeError::InvalidSpec { reason: "network: a pod has a network of its own".to_owned() });
    }
    let network = network_part(&pod.network, &pod.ports)?;
    let mut labels = spec::owned(settings, &pod.labels);
    // The infra container inherits the labels and is told from the members by this one.
    labels.insert(labels::ROLE.to_owned(), INFRA_ROLE.to_owned());
    Ok(PodCreate {
        name: pod.name.clone(),
        infra_name: infra_name(&pod.name),
        labels,
        hostname: pod.hostname.clone(),
        shared_namespaces: vec!["net", "ipc", "uts"],
        exit_policy: "continue",
        restart_policy: "no",
        netns: network.netns,
        networks: network.networks,
        portmappings: network.ports,
        infra_image: settings.infra_image.clone(),
        infra_command: settings.infra_command.clone(),
    })
}

/// Podman leaves a pod without infra behind where that could not be made. It was not there just before, so one of ours
/// without members is that.
fn remove_half_made(client: &Client, settings: &PodmanConfig, name: &str) {
    let removed = apart(|call| remove(client, settings, call, name));
    if let Err(error) = removed {
        log::warn!("pod '{name}' could not be made, and whether it is gone is not known: {error}");
    }
}

/// Deletes it if it is ours; its members have to be gone.
pub(super) fn remove(client: &Client, settings: &PodmanConfig, call: &Call, name: &str) -> RtResult<Change> {
    let Some(pod) = find(client, call, name)? else { return Ok(Change::Unchanged) };
    if !is_ours(&settings.node, &pod.labels) {
        return Ok(Change::Unchanged);
    }
    // While Podman still makes the pod, its infra container is in it without being known as that.
    let infra_name = infra_name(&pod.name);
    let is_member = |member: &&PodMember| member.id != pod.infra_id && member.name != infra_name;
    let members: Vec<_> = pod.containers.iter().filter(is_member).map(|member| member.name.as_str()).collect();
    if !members.is_empty() {
        let state = format!("not empty ({})", members.join(", "));
        return Err(RuntimeError::InvalidState { op: "pod remove".to_owned(), id: name.to_owned(), state });
    }
    // Without force Podman itself refuses where a member runs after all.
    let path = format!("/pods/{}?force=false&timeout=0", encode(name));
    match client.send(call, "pod remove", Method::Delete, &path, NO_BODY)? {
        Answer::Done(response) => {
            let report: Report = parse(ENGINE, "pod remove", &response)?;
            if report.err.is_null() {
                return Ok(Change::Changed);
            }
            Err(RuntimeError::Engine {
                engine: ENGINE.to_owned(),
                op: "pod remove".to_owned(),
                code: i64::from(response.status),
                message: report.err.to_string(),
            })
        }
        Answer::Unchanged => Ok(Change::Unchanged),
        Answer::Refused(failure) if failure.is_missing() => Ok(Change::Unchanged),
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// Has the infra container of the pod with this id run, if it does not: members that are started side by side would
/// each have Podman start it, and some would find it half started. Without an id there is none.
pub(super) fn start_infra(client: &Client, call: &Call, pod_id: &str) -> RtResult<()> {
    if pod_id.is_empty() {
        return Ok(());
    }
    let pod: Pod = client.get(call, "pod inspect", &format!("/pods/{}/json", encode(pod_id)))?;
    let runs = pod.containers.iter().any(|member| member.id == pod.infra_id && member.state == "running");
    if runs || pod.infra_id.is_empty() { Ok(()) } else { lifecycle::start_infra(client, call, &pod.infra_id) }
}

/// Ends the infra container of a pod of ours in which no member is live, so that its network and ports are free.
/// Podman starts it again with the first member that is started.
pub(super) fn stop(client: &Client, settings: &PodmanConfig, call: &Call, name: &str) -> RtResult<Change> {
    const LIVE: [&str; 3] = ["running", "paused", "stopping"];
    let Some(pod) = find(client, call, name)? else { return Ok(Change::Unchanged) };
    let is_ours = is_ours(&settings.node, &pod.labels);
    let is_live = |member: &PodMember| LIVE.contains(&member.state.as_str());
    let infra = pod.containers.iter().find(|member| member.id == pod.infra_id).filter(|infra| is_live(infra));
    let has_live_member = pod.containers.iter().any(|member| member.id != pod.infra_id && is_live(member));
    match infra {
        Some(infra) if is_ours && !has_live_member => {
            lifecycle::stop(client, call, &infra.id, &StopOptions::graceful(INFRA_GRACE))
        }
        Some(_) | None => Ok(Change::Unchanged),
    }
}

/// The names of our pods of a workload.
pub(super) fn of_workload(
    client: &Client,
    settings: &PodmanConfig,
    call: &Call,
    workload: &str,
) -> RtResult<Vec<String>> {
    let path = format!("/pods/json?filters={}", workload_filter(&settings.node, workload));
    let found: Vec<Pod> = client.get(call, "pod list", &path)?;
    let is_its = |pod: &Pod| is_of_workload(&settings.node, &pod.labels, workload);
    Ok(found.into_iter().filter(is_its).map(|pod| pod.name).collect())
}
