//! Docker Compose: a project whose services are workloads.
//!
//! Services share no network namespace, so each is a workload `{project}-{service}` by itself (`{project}-{service}-{n}`
//! where there are several of it), and the project is what they belong to, as Models belong to a Package. What one
//! depends on is in its description; the plan orders them by it. Source: the Compose Specification of 2025.
//!
//! Every field takes effect or is refused by name, unknown ones too; keys that begin with `x-` are ignored, as the
//! specification says. Enters: one file per part of a service. Stays out: files of the caller's, its environment, and
//! names of other projects.

mod deploy;
mod health;
mod interpolation;
mod networks;
mod ports;
mod privileges;
mod scalars;
mod service;
mod volumes;
mod words;

use std::collections::{BTreeMap, BTreeSet};

use super::checks::{address, is_taken};
use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::names;
use super::node::{Node, Value};
use super::pod::Reading;
use super::reader::{Notes, Place};
use crate::model::text::shown;
use crate::model::workload::{Dependency, RestartPolicy, Until, WorkloadSpec};
use service::{Need, Project, Service};

/// Parts of a project that would have to be fetched from elsewhere.
const REFUSED_PARTS: &[&str] = &["configs", "include", "models", "secrets"];

/// Whether the document is one of Compose: it has services, and no kind.
pub(super) fn is_compose(root: &Node) -> bool {
    let Value::Map(entries) = &root.value else { return false };
    let has = |key: &str| entries.iter().any(|entry| entry.key == key);
    has("services") && !has("kind") && !has("apiVersion")
}

/// A project that was read.
pub(super) struct Read {
    /// Its name.
    pub name: String,
    /// Its workloads, what is depended on first.
    pub workloads: Vec<WorkloadSpec>,
    /// Warnings and lines.
    pub notes: Notes,
}

/// Reads a project. Without a name of its own it has the `given` one.
pub(super) fn read(mut root: Node, given: &str, reading: &mut Reading<'_>) -> ManifestResult<Read> {
    let name = name(&mut root, given).map_err(|error| error.within("Compose"))?;
    let mut notes = Notes::new(format!("Compose '{name}'"));
    let workloads = project(&mut root, &name, reading, &mut notes).map_err(|error| error.within(&notes.title))?;
    Ok(Read { name, workloads, notes })
}

/// The project's name, which its own text may use.
fn name(root: &mut Node, given: &str) -> ManifestResult<String> {
    let line = root.line;
    if let Value::Map(entries) = &mut root.value
        && let Some(entry) = entries.iter_mut().find(|entry| entry.key == "name" && !entry.value.is_null())
    {
        interpolation::interpolate(&mut entry.value, "name", None)?;
        let place = Place::new(&entry.value, "name");
        let name = place.text()?;
        names::label(&name).map_err(|why| place.invalid(why))?;
        return Ok(name);
    }
    let invalid = |message: String| ManifestError::new(ManifestErrorKind::Invalid, message).at("name", line);
    if given.is_empty() {
        return Err(invalid("the project has no name".to_owned()).hint("write name: at the top, or name the target"));
    }
    names::label(given).map_err(|why| invalid(format!("the project has no name, and {why}")))?;
    Ok(given.to_owned())
}

fn project(
    root: &mut Node,
    name: &str,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<Vec<WorkloadSpec>> {
    interpolation::interpolate(root, "", Some(name))?;
    let root = Place::new(root, "");
    let mut fields = root.fields()?;
    fields.skip(&["name", "version"]);
    fields.refuse(REFUSED_PARTS)?;
    let volumes = volumes::of_project(fields.take("volumes"), name)?;
    let networks = networks::of_project(fields.take("networks"), name)?;
    let most_replicas = reading.limits.max_containers;
    let known = Project { volumes: &volumes, networks: &networks, most_replicas };
    let place = fields.require("services")?;
    let mut services = Vec::new();
    for (entry, at) in place.named()? {
        let service = service::read(&entry.key, &at, &known, notes)?;
        let count = usize::try_from(service.replicas).unwrap_or(usize::MAX);
        // One that runs nothing is counted too: services are bounded as well.
        reading.count_containers(count.max(1), &at)?;
        services.push(service);
    }
    fields.finish_but_extensions()?;
    if services.is_empty() {
        return Err(place.invalid("must not be empty"));
    }
    let services = ordered(services)?;
    let workloads = expanded(name, &services, notes)?;
    host_ports(&services)?;
    Ok(workloads)
}

/// The services with what they need before them, otherwise in the document's order.
fn ordered(services: Vec<Service>) -> ManifestResult<Vec<Service>> {
    let by_name: BTreeMap<String, RestartPolicy> =
        services.iter().map(|service| (service.name.clone(), service.spec.restart_policy)).collect();
    for need in services.iter().flat_map(|service| &service.needs) {
        check(need, by_name.get(&need.service))?;
    }
    let (mut left, mut done, mut ordered) = (services, BTreeSet::new(), Vec::new());
    while !left.is_empty() {
        let is_ready = |service: &Service| service.needs.iter().all(|need| done.contains(&need.service));
        let Some(index) = left.iter().position(is_ready) else {
            let names: Vec<&str> = left.iter().map(|service| service.name.as_str()).collect();
            let message = format!("services wait for one another: {}", shown(&names.join(", ")));
            let first = &left[0];
            let error = ManifestError::new(ManifestErrorKind::Invalid, message);
            return Err(error.at(format!("{}.depends_on", first.path), first.line));
        };
        let service = left.remove(index);
        done.insert(service.name.clone());
        ordered.push(service);
    }
    Ok(ordered)
}

fn check(need: &Need, found: Option<&RestartPolicy>) -> ManifestResult<()> {
    let invalid =
        |message: String| Err(ManifestError::new(ManifestErrorKind::Invalid, message).at(need.path.clone(), need.line));
    match found {
        None => invalid(format!("service '{}' is not among the project's services", shown(&need.service))),
        Some(RestartPolicy::Always) if need.until == Until::Completed => {
            invalid(format!("service '{}' never completes: it is always started again", need.service))
        }
        Some(_) => Ok(()),
    }
}

/// The workloads of the services, in their order.
fn expanded(project: &str, services: &[Service], notes: &mut Notes) -> ManifestResult<Vec<WorkloadSpec>> {
    let mut names_of: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut workloads: Vec<WorkloadSpec> = Vec::new();
    for service in services {
        let base = format!("{project}-{}", service.name);
        let names: Vec<String> = match service.replicas {
            1 => vec![base],
            several => (1..=several).map(|number| format!("{base}-{number}")).collect(),
        };
        if names.is_empty() {
            notes.warn(&service.path, service.line, "0 replicas, nothing is run");
        }
        let mut depends_on = Vec::new();
        for need in &service.needs {
            let others = names_of.get(need.service.as_str()).map(Vec::as_slice).unwrap_or_default();
            if others.is_empty() && !names.is_empty() {
                let message = format!("service '{}' has 0 replicas", need.service);
                let error = ManifestError::new(ManifestErrorKind::Invalid, message);
                return Err(error.at(need.path.clone(), need.line));
            }
            let on = |workload: &String| Dependency { workload: workload.clone(), until: need.until };
            depends_on.extend(others.iter().map(on));
        }
        for name in &names {
            names::subdomain(name).map_err(|why| service.unsupported("", why))?;
            if workloads.iter().any(|known| known.name == *name) {
                return Err(service.unsupported("", format!("workload '{name}' is that of another service as well")));
            }
            let package = project.to_owned();
            workloads.push(WorkloadSpec {
                name: name.clone(),
                package,
                depends_on: depends_on.clone(),
                ..service.spec.clone()
            });
        }
        names_of.insert(&service.name, names);
    }
    Ok(workloads)
}

/// No host port is published twice, by two services or by two of the same.
fn host_ports(services: &[Service]) -> ManifestResult<()> {
    let mut published = BTreeMap::new();
    for service in services {
        for port in service.spec.containers.iter().flat_map(|container| &container.ports) {
            let Some(host_port) = port.host_port else { continue };
            if service.replicas > 1 {
                let message = format!("host port {host_port} cannot be that of {} replicas", service.replicas);
                return Err(service.unsupported("ports", message).hint("take it to expose, or run one"));
            }
            if service.replicas == 0 {
                continue;
            }
            let addresses = published.entry((host_port, port.protocol)).or_insert_with(BTreeSet::new);
            if is_taken(addresses, &port.host_ip) {
                let message = format!("host port {host_port} is published twice");
                return Err(service.unsupported("ports", message));
            }
            addresses.insert(address(&port.host_ip));
        }
    }
    Ok(())
}
