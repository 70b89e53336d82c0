//! One service of a Compose document: a workload of one container.

use super::deploy::{self, Deployment};
use super::networks::{self, Membership, Networks};
use super::scalars::{amount, boolean, command, flag, pairs};
use super::volumes::{self, Volumes};
use super::{health, ports, privileges, words};
use crate::manifest::error::{ManifestError, ManifestResult};
use crate::manifest::node::Value;
use crate::manifest::pod::Metadata;
use crate::manifest::reader::{Fields, Notes, Place};
use crate::manifest::{names, plain};
use crate::model::text::shown;
use crate::model::workload::{EnvVar, ManifestFormat, NetworkMode, PullPolicy, Until, WorkloadSpec, labels};

/// Fields of the specification that cannot take effect here.
pub(super) const REFUSED: &[&str] = &[
    "blkio_config",
    "build",
    "cgroup",
    "cgroup_parent",
    "configs",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpuset",
    "credential_spec",
    "develop",
    "device_cgroup_rules",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "env_file",
    "extends",
    "external_links",
    "extra_hosts",
    "gpus",
    "isolation",
    "label_file",
    "links",
    "logging",
    "mac_address",
    "mem_swappiness",
    "memswap_limit",
    "models",
    "oom_score_adj",
    "platform",
    "post_start",
    "pre_stop",
    "profiles",
    "provider",
    "pull_refresh_after",
    "runtime",
    "secrets",
    "shm_size",
    "storage_opt",
    "sysctls",
    "ulimits",
    "userns_mode",
    "uts",
    "volumes_from",
];

/// What to do in place of a refused field, where there is something.
const INSTEAD: &[(&str, &str)] = &[
    ("build", "build the image beforehand, and name it with image"),
    (
        "container_name",
        "take it out: containers are called PROJECT-SERVICE_SERVICE, and SERVICE finds them in their networks",
    ),
    ("cpu_quota", "say cpus"),
    ("env_file", "write the variables into environment: the daemon reads no files of callers"),
    ("extends", "write the service out"),
    ("links", "take it out: services of a network find one another by their names"),
    ("profiles", "take out the services that are not to run"),
    ("runtime", "the annotation actioncontroller.io/runtime names the engine"),
];

/// Switches of which only the position off is possible.
const OFF: &[&str] = &["init", "oom_kill_disable", "use_api_socket"];

/// What a service has to know of its project.
pub(super) struct Project<'p> {
    /// Its volumes.
    pub volumes: &'p Volumes,
    /// Its networks.
    pub networks: &'p Networks,
    /// The most replicas of a service.
    pub most_replicas: usize,
}

/// A service that was read.
pub(super) struct Service {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub path: String,
    /// On which line.
    pub line: u32,
    /// As a workload; its name and what it depends on are missing.
    pub spec: WorkloadSpec,
    /// How many there are.
    pub replicas: u32,
    /// The services that it waits for.
    pub needs: Vec<Need>,
}

/// A service that another one waits for.
pub(super) struct Need {
    /// Its name.
    pub service: String,
    /// How far it has to be.
    pub until: Until,
    /// Where it is named.
    pub path: String,
    /// On which line.
    pub line: u32,
}

impl Service {
    /// An error about this service as a whole, or a field of it.
    pub fn unsupported(&self, field: &str, message: impl Into<String>) -> ManifestError {
        let path = if field.is_empty() { self.path.clone() } else { format!("{}.{field}", self.path) };
        ManifestError::new(crate::manifest::ManifestErrorKind::Unsupported, message).at(path, self.line)
    }
}

/// Reads a service.
pub(super) fn read(name: &str, place: &Place<'_>, project: &Project<'_>, notes: &mut Notes) -> ManifestResult<Service> {
    names::label(name).map_err(|why| place.invalid(format!("the name of a service: {why}")))?;
    let mut fields = place.fields()?;
    refuse(&mut fields)?;
    let mut spec = plain::workload("", ManifestFormat::Compose);
    let mut container = plain::container(name);
    let image = fields.require("image")?;
    container.image = image.text()?;
    names::image(&container.image).map_err(|why| image.invalid(why))?;
    container.pull = pull_policy(&mut fields)?;
    container.command = command(&mut fields, "entrypoint")?;
    container.args = command(&mut fields, "command")?;
    container.working_dir = checked(&mut fields, "working_dir", names::absolute_path)?;
    container.env = environment(&mut fields)?;
    container.ports = ports::read(&mut fields, notes)?;
    container.security = privileges::read(&mut fields)?;
    container.devices = privileges::devices(&mut fields)?;
    (container.stdin, container.tty) = (flag(&mut fields, "stdin_open")?, flag(&mut fields, "tty")?);
    container.liveness = health::read(&mut fields, notes)?;
    let mounts = volumes::of_service(&mut fields, project.volumes)?;
    (spec.volumes, container.mounts) = (mounts.volumes, mounts.mounts);
    let Deployment { replicas, resources, restart } = deploy::read(&mut fields, project.most_replicas)?;
    (container.resources, spec.restart_policy) = (resources, restart);
    let Membership { mode, aliases } = networks::of_service(&mut fields, name, project.networks)?;
    publishes_nothing_there(&mode, &container.ports, place)?;
    (spec.network, spec.aliases) = (mode, aliases);
    spec.hostname = checked(&mut fields, "hostname", names::subdomain)?;
    spec.host_ipc = privileges::shares_host(&mut fields, "ipc")?;
    spec.host_pid = privileges::shares_host(&mut fields, "pid")?;
    spec.grace_ms = fields.take("stop_grace_period").map(|place| amount(&place, words::milliseconds)).transpose()?;
    spec.containers = vec![container];
    plain::annotate(&mut spec, metadata(&mut fields)?).map_err(|why| place.invalid(why))?;
    let needs = needs(&mut fields)?;
    fields.warn(&["attach"], "has no effect: logs are asked for", notes);
    fields.finish_but_extensions()?;
    Ok(Service { name: name.to_owned(), path: place.path.clone(), line: place.node.line, spec, replicas, needs })
}

fn refuse(fields: &mut Fields<'_>) -> ManifestResult<()> {
    for name in REFUSED {
        if let Err(error) = fields.refuse(&[name]) {
            let instead = INSTEAD.iter().find(|(field, _)| field == name).map(|(_, hint)| *hint);
            let hint = instead.map_or_else(|| error.hint.clone(), str::to_owned);
            return Err(error.hint(hint));
        }
    }
    for name in OFF {
        if let Some(place) = fields.take(name)
            && boolean(&place)?
        {
            return Err(place.unsupported(format!("field '{name}' is not supported")).hint("take the field out"));
        }
    }
    fields.only(&[("stop_signal", &["SIGTERM"])])
}

fn checked(fields: &mut Fields<'_>, name: &'static str, check: fn(&str) -> names::Checked) -> ManifestResult<String> {
    let Some(place) = fields.take(name) else { return Ok(String::new()) };
    let text = place.text()?;
    if !text.is_empty() {
        check(&text).map_err(|why| place.invalid(why))?;
    }
    Ok(text)
}

fn pull_policy(fields: &mut Fields<'_>) -> ManifestResult<PullPolicy> {
    let Some(place) = fields.take("pull_policy") else { return Ok(PullPolicy::default()) };
    match place.text()?.as_str() {
        "always" => Ok(PullPolicy::Always),
        "never" => Ok(PullPolicy::Never),
        "missing" | "if_not_present" => Ok(PullPolicy::IfNotPresent),
        other => {
            let message =
                format!("'{}' is not supported, only always, never, missing and if_not_present", shown(other));
            Err(place.unsupported(message))
        }
    }
}

fn environment(fields: &mut Fields<'_>) -> ManifestResult<Vec<EnvVar>> {
    let Some(place) = fields.take("environment") else { return Ok(Vec::new()) };
    let variable = |(name, value, at): (String, Option<String>, Place<'_>)| {
        names::variable(&name).map_err(|why| at.invalid(why))?;
        let Some(value) = value else {
            let message =
                format!("variable '{}' has no value, and there is no environment to take it from", shown(&name));
            return Err(at.unsupported(message).hint("write its value, or an empty text"));
        };
        Ok(EnvVar { name, value })
    };
    pairs(&place)?.into_iter().map(variable).collect()
}

/// Labels and annotations.
fn metadata(fields: &mut Fields<'_>) -> ManifestResult<Metadata> {
    let mut metadata = Metadata::default();
    if let Some(place) = fields.take("labels") {
        for (key, value, at) in pairs(&place)? {
            if key.starts_with(labels::PREFIX) {
                return Err(at.invalid(format!("label '{}' is the daemon's own", shown(&key))));
            }
            metadata.labels.insert(key, value.unwrap_or_default());
        }
    }
    if let Some(place) = fields.take("annotations") {
        for (key, value, at) in pairs(&place)? {
            metadata.annotate(&key, value.unwrap_or_default()).map_err(|why| at.invalid(why))?;
        }
    }
    Ok(metadata)
}

/// Ports are published from a network of its own alone.
fn publishes_nothing_there(
    mode: &NetworkMode,
    ports: &[crate::model::workload::PortSpec],
    place: &Place<'_>,
) -> ManifestResult<()> {
    let word = match mode {
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
        NetworkMode::Bridge | NetworkMode::Named(_) => return Ok(()),
    };
    if ports.iter().all(|port| port.host_port.is_none()) {
        return Ok(());
    }
    let error = place.invalid(format!("nothing can be published with network_mode {word}"));
    Err(error.at(format!("{}.ports", place.path), place.node.line))
}

fn needs(fields: &mut Fields<'_>) -> ManifestResult<Vec<Need>> {
    let Some(place) = fields.take("depends_on") else { return Ok(Vec::new()) };
    let need =
        |service: String, until, at: &Place<'_>| Need { service, until, path: at.path.clone(), line: at.node.line };
    if !matches!(place.node.value, Value::Map(_)) {
        let items = place.items()?;
        return items.iter().map(|item| Ok(need(item.text()?, Until::Started, item))).collect();
    }
    let mut needs = Vec::new();
    for (entry, at) in place.named()? {
        let mut options = at.fields()?;
        let condition = options.require("condition")?;
        let until = match condition.text()?.as_str() {
            "service_started" => Until::Started,
            "service_completed_successfully" => Until::Completed,
            "service_healthy" => {
                let error = condition.unsupported("service_healthy cannot be waited for: health checks do not act yet");
                return Err(error.hint("say service_started"));
            }
            other => {
                let known = "service_started, service_healthy, service_completed_successfully";
                return Err(condition.invalid(format!("'{}' is none of {known}", shown(other))));
            }
        };
        for (name, only) in [("required", true), ("restart", false)] {
            if let Some(place) = options.take(name)
                && boolean(&place)? != only
            {
                return Err(place.unsupported(format!("'{name}: {}' is not supported", !only)));
            }
        }
        options.finish_but_extensions()?;
        needs.push(need(entry.key.clone(), until, &at));
    }
    Ok(needs)
}
