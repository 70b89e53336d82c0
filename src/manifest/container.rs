//! One container of a Pod or Model.

use std::collections::BTreeMap;

use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::pod::Reading;
use super::privileges::{self, PodSecurity};
use super::reader::{Fields, Notes, Place};
use super::{names, probes, variables};
use crate::model::resources::Resources;
use crate::model::workload::{ContainerSpec, EnvVar, ManifestFormat, MountSpec, PortSpec, Protocol, PullPolicy};

/// Fields that would change what the container is or gets, if they could.
const REFUSED: &[&str] = &["envFrom", "lifecycle", "volumeDevices", "restartPolicy", "restartPolicyRules"];

/// The kernel's weight of a CPU is 1,024; what Kubernetes makes of thousandths.
const SHARES_PER_CPU: u64 = 1024;

/// Reads a container. Marks its place, its image and its mounts for later checks.
pub(super) fn read(
    place: &Place<'_>,
    format: ManifestFormat,
    pod: &PodSecurity,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<ContainerSpec> {
    notes.mark(place);
    let mut fields = place.fields()?;
    let (ports, port_names) = ports(&mut fields, notes)?;
    let mut container = ContainerSpec {
        name: checked(&mut fields, "name", names::label)?,
        image: checked(&mut fields, "image", names::image)?,
        rootfs: String::new(),
        unit: String::new(),
        pull: pull_policy(&mut fields)?,
        command: fields.texts("command")?,
        args: fields.texts("args")?,
        working_dir: working_dir(&mut fields)?,
        env: env(&mut fields, notes)?,
        ports,
        mounts: mounts(&mut fields, notes)?,
        devices: Vec::new(),
        resources: resources(&mut fields, notes)?,
        security: privileges::of_container(pod, fields.take("securityContext"), notes)?,
        stdin: fields.flag("stdin")?,
        tty: fields.flag("tty")?,
        liveness: None,
    };
    if container.command.first().is_some_and(String::is_empty) {
        let error = fields.require("command")?.invalid("must not begin with an empty text");
        return Err(error);
    }
    fields.refuse(REFUSED)?;
    fields.only(&[("stdinOnce", &["false"])])?;
    fields.skip(&["terminationMessagePath", "terminationMessagePolicy", "resizePolicy"]);
    match format {
        ManifestFormat::Kubernetes => {
            let liveness = fields.take("livenessProbe");
            container.liveness = liveness.map(|place| probes::kubernetes(&place, &port_names, notes)).transpose()?;
            fields.warn(&["readinessProbe", "startupProbe"], "does not act yet", notes);
            // What all of a text's references may make of it is bounded like the text.
            let most = reading.limits.max_bytes;
            let what = "texts with their $(NAME) replaced";
            let within = variables::expand(&mut container, most, &mut reading.replaced);
            within.map_err(|_| ManifestError::limit("max_bytes", most, what).at(&place.path, place.node.line))?;
        }
        ManifestFormat::Pullpiri | ManifestFormat::Compose | ManifestFormat::Bundle | ManifestFormat::Unit => {}
    }
    fields.finish(notes);
    Ok(container)
}

fn checked(fields: &mut Fields<'_>, name: &'static str, check: fn(&str) -> names::Checked) -> ManifestResult<String> {
    let text = fields.require_text(name)?;
    let place = fields.require(name)?;
    check(&text).map_err(|why| place.invalid(why))?;
    Ok(text)
}

/// `IfNotPresent` unless said otherwise, for any tag: an ECU does not pull at each start because a tag is `latest`.
fn pull_policy(fields: &mut Fields<'_>) -> ManifestResult<PullPolicy> {
    let words =
        [("IfNotPresent", PullPolicy::IfNotPresent), ("Always", PullPolicy::Always), ("Never", PullPolicy::Never)];
    fields.take("imagePullPolicy").map_or(Ok(PullPolicy::default()), |place| place.word(&words))
}

fn working_dir(fields: &mut Fields<'_>) -> ManifestResult<String> {
    let Some(place) = fields.take("workingDir") else { return Ok(String::new()) };
    let path = place.text()?;
    if !path.is_empty() {
        names::absolute_path(&path).map_err(|why| place.invalid(why))?;
    }
    Ok(path)
}

/// Variables in the document's order. A name that is given twice keeps the last value, as in Kubernetes, with a
/// warning.
fn env(fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<Vec<EnvVar>> {
    let mut variables: Vec<EnvVar> = Vec::new();
    let mut last: BTreeMap<String, usize> = BTreeMap::new();
    for item in fields.items("env")? {
        let mut entry = item.fields()?;
        let name = checked(&mut entry, "name", names::variable)?;
        let value = entry.text("value")?;
        entry.refuse(&["valueFrom"])?;
        entry.finish(notes);
        if last.insert(name.clone(), variables.len()).is_some() {
            let message =
                format!("variable '{}' is given twice; the last value is taken", crate::model::text::shown(&name));
            notes.warn(&item.path, item.node.line, &message);
        }
        variables.push(EnvVar { name, value });
    }
    let is_last = |(index, variable): &(usize, EnvVar)| last.get(&variable.name) == Some(index);
    Ok(variables.into_iter().enumerate().filter(is_last).map(|(_, variable)| variable).collect())
}

/// Ports, and their numbers by name.
fn ports(fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<(Vec<PortSpec>, BTreeMap<String, u16>)> {
    let words = [("TCP", Protocol::Tcp), ("UDP", Protocol::Udp), ("SCTP", Protocol::Sctp)];
    let mut ports = Vec::new();
    let mut by_name = BTreeMap::new();
    for item in fields.items("ports")? {
        notes.mark(&item);
        let mut entry = item.fields()?;
        let host = entry.take("hostPort").map(|place| place.integer::<u16>(0, 65535)).transpose()?;
        let host_port = host.filter(|port| *port != 0);
        // Pullpiri's containerPort is optional; the host's then is meant.
        let container_port = match (entry.take("containerPort"), host_port) {
            (Some(place), _) => place.integer(1, 65535)?,
            (None, Some(port)) => port,
            (None, None) => {
                return Err(entry.require("containerPort").err().unwrap_or_else(|| item.invalid("no port")));
            }
        };
        let name = entry.text("name")?;
        if !name.is_empty() && by_name.insert(name.clone(), container_port).is_some() {
            return Err(item.invalid(format!("port name '{}' is given twice", crate::model::text::shown(&name))));
        }
        let host_ip = host_ip(&mut entry)?;
        let protocol = entry.take("protocol").map_or(Ok(Protocol::Tcp), |place| place.word(&words))?;
        entry.finish(notes);
        ports.push(PortSpec { host_ip, host_port, container_port, protocol });
    }
    Ok((ports, by_name))
}

fn host_ip(entry: &mut Fields<'_>) -> ManifestResult<String> {
    let Some(place) = entry.take("hostIP") else { return Ok(String::new()) };
    let text = place.text()?;
    if !text.is_empty() && text.parse::<std::net::IpAddr>().is_err() {
        return Err(place.invalid(format!("'{}' is no IP address", crate::model::text::shown(&text))));
    }
    Ok(text)
}

fn mounts(fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<Vec<MountSpec>> {
    let mut mounts = Vec::new();
    for item in fields.items("volumeMounts")? {
        notes.mark(&item);
        let mut entry = item.fields()?;
        let volume = entry.require_text("name")?;
        let path = checked(&mut entry, "mountPath", names::absolute_path)?;
        let sub_path = match entry.take("subPath") {
            Some(place) => {
                let text = place.text()?;
                names::relative_path(&text).map_err(|why| place.invalid(why))?;
                text
            }
            None => String::new(),
        };
        let read_only = entry.flag("readOnly")?;
        entry.refuse(&["subPathExpr"])?;
        entry.only(&[("mountPropagation", &["None"]), ("recursiveReadOnly", &["Disabled"])])?;
        entry.finish(notes);
        mounts.push(MountSpec { volume, path: crate::model::text::normalized(&path), sub_path, read_only });
    }
    Ok(mounts)
}

/// `limits.cpu` and `limits.memory` are limits; `requests.cpu` is the CPU's weight as in Kubernetes, and
/// `requests.memory` the memory that is reclaimed down to under pressure. What is not given is not set.
fn resources(fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<Resources> {
    let mut resources = Resources::default();
    let Some(place) = fields.take("resources") else { return Ok(resources) };
    let mut parts = place.fields()?;
    if let Some(limits) = parts.take("limits") {
        let (cpu, memory) = amounts(&limits)?;
        for (name, amount) in [("cpu", cpu), ("memory", memory)] {
            if amount == Some(0) {
                return Err(limits.invalid(format!("{name} must be above 0; leave it out for no limit")));
            }
        }
        (resources.cpu_millis, resources.memory_bytes) = (cpu, memory);
    }
    if let Some(requests) = parts.take("requests") {
        let (cpu, memory) = amounts(&requests)?;
        let pairs = [("cpu", cpu, resources.cpu_millis), ("memory", memory, resources.memory_bytes)];
        for (name, request, limit) in pairs {
            if matches!((request, limit), (Some(request), Some(limit)) if request > limit) {
                return Err(requests.invalid(format!("{name} must not be above the limit")));
            }
        }
        resources.cpu_shares = cpu.map(|millis| (millis.saturating_mul(SHARES_PER_CPU) / 1000).clamp(2, 262_144));
        resources.memory_reservation_bytes = memory.filter(|bytes| *bytes > 0);
    }
    parts.refuse(&["claims"])?;
    parts.finish(notes);
    Ok(resources)
}

/// CPU in thousandths and memory in bytes. Any other resource cannot be given, so it is refused.
fn amounts(place: &Place<'_>) -> ManifestResult<(Option<u64>, Option<u64>)> {
    let mut fields = place.fields()?;
    let cpu = fields.take("cpu").map(|place| place.millis()).transpose()?;
    let memory = fields.take("memory").map(|place| place.bytes()).transpose()?;
    match fields.unknown() {
        Some((path, line)) => {
            let message = "only the resources cpu and memory are supported";
            Err(ManifestError::new(ManifestErrorKind::Unsupported, message).at(path, line))
        }
        None => Ok((cpu, memory)),
    }
}
