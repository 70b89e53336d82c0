//! From our [`ContainerConfig`] to the document of Docker's create, and from its warnings back to our fields. Pure.
//!
//! Every field of the configuration takes effect or is refused by name here, before anything is asked of the engine.

use std::collections::BTreeMap;

use super::client::{Api, SUB_PATHS_SINCE};
use super::request::{
    ContainerCreate, Device, Empty, Endpoint, HostConfig, LogConfig, Mount, NetworkingConfig, PortBinding,
    RestartPolicy, Update, VolumeOptions,
};
use super::{ANNOTATION, DockerConfig, ENGINE};
use crate::model::security::SecurityContext;
use crate::model::workload::{DeviceSpec, NetworkMode, labels};
use crate::runtime::adapter::{ContainerConfig, Mount as AskedMount, MountSource, RtResult, RuntimeError, unsupported};
use crate::runtime::rest::told::protocol_word;
use crate::runtime::rest::wire::Strings;
use crate::runtime::shared::fields;
use crate::runtime::shared::resize::Resized;

/// The document of `POST /containers/create`. `image_user` is the image's user, as its configuration says it, `seccomp`
/// the content of the seccomp profile that is asked for.
pub(super) fn create(
    settings: &DockerConfig,
    api: Api,
    config: &ContainerConfig,
    image_user: &str,
    seccomp: Option<&str>,
) -> RtResult<ContainerCreate> {
    let spec = &config.spec;
    fields::image_alone(ENGINE, spec)?;
    if config.pod.is_some() {
        return Err(unsupported(ENGINE, "pods"));
    }
    let network_mode = network(&config.network)?;
    let ports = ports(config)?;
    let networking_config = endpoint(config)
        .map(|endpoint| NetworkingConfig { endpoints_config: BTreeMap::from([(network_mode.clone(), endpoint)]) });
    Ok(ContainerCreate {
        networking_config,
        image: spec.image.clone(),
        entrypoint: spec.command.clone(),
        cmd: spec.args.clone(),
        env: spec.env.iter().map(|var| format!("{}={}", var.name, var.value)).collect(),
        working_dir: spec.working_dir.clone(),
        labels: all_labels(settings, config),
        open_stdin: spec.stdin,
        tty: spec.tty,
        hostname: config.hostname.clone(),
        user: fields::user(&spec.security, image_user)?,
        exposed_ports: ports.keys().map(|port| (port.clone(), Empty {})).collect(),
        host_config: host_config(settings, api, config, HostPart { network_mode, ports, seccomp })?,
    })
}

/// How the container is in each of its networks; `None` where nothing is to be said of it. Docker takes other names in
/// named networks alone.
pub(super) fn endpoint(config: &ContainerConfig) -> Option<Endpoint> {
    let is_named = matches!(config.network, NetworkMode::Named(_)) && !config.aliases.is_empty();
    is_named.then(|| Endpoint { aliases: config.aliases.clone() })
}

struct HostPart<'a> {
    network_mode: String,
    ports: BTreeMap<String, Vec<PortBinding>>,
    seccomp: Option<&'a str>,
}

fn host_config(
    settings: &DockerConfig,
    api: Api,
    config: &ContainerConfig,
    part: HostPart<'_>,
) -> RtResult<HostConfig> {
    let security = &config.spec.security;
    let limits = fields::limits(&config.spec.resources)?;
    let log = [("max-size", settings.log_bytes.to_string()), ("max-file", "2".to_owned())];
    Ok(HostConfig {
        network_mode: part.network_mode,
        ipc_mode: if config.host_ipc { "host" } else { "" },
        pid_mode: if config.host_pid { "host" } else { "" },
        mounts: mounts(api, &config.mounts)?,
        devices: devices(&config.spec.devices),
        privileged: security.privileged,
        group_add: security.supplemental_groups.iter().map(u32::to_string).collect(),
        cap_add: security.add_capabilities.iter().cloned().collect(),
        cap_drop: security.drop_capabilities.iter().cloned().collect(),
        security_opt: security_options(security, part.seccomp),
        readonly_rootfs: security.read_only_root,
        cpu_quota: limits.cpu.map(|(quota, _)| quota),
        cpu_period: limits.cpu.map(|(_, period)| period),
        cpu_shares: limits.cpu_shares,
        memory: limits.memory,
        memory_reservation: limits.memory_reservation,
        pids_limit: limits.pids,
        port_bindings: part.ports,
        log_config: LogConfig {
            kind: "json-file",
            config: log.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        },
        restart_policy: RestartPolicy { name: "no" },
    })
}

/// As much memory as the kernel counts, bytes in whole pages: Docker has no other way to take a limit away, and does not hand
/// on that there is no limit on swap.
const ENDLESS: i64 = i64::MAX & !0xffff;

/// The document of `POST /containers/ID/update`.
pub(super) fn resized(resized: &Resized) -> Update {
    let limits = &resized.limits;
    let is_endless = limits.memory.is_some_and(|bytes| bytes < 0);
    Update {
        cpu_quota: limits.cpu.map(|(quota, _)| quota),
        cpu_period: limits.cpu.map(|(_, period)| period),
        cpu_shares: limits.cpu_shares,
        memory: limits.memory.map(|bytes| if is_endless { ENDLESS } else { bytes }),
        memory_reservation: limits.memory_reservation,
        memory_swap: limits.memory.map(|_| if is_endless { ENDLESS } else { resized.memory_and_swap }),
        pids_limit: limits.pids,
    }
}

/// The labels with the one by which we know what is ours.
pub(super) fn owned(settings: &DockerConfig, labels: &Strings) -> Strings {
    let mut labels = labels.clone();
    labels.insert(labels::NODE.to_owned(), settings.node.clone());
    labels
}

/// With the annotations among them.
fn all_labels(settings: &DockerConfig, config: &ContainerConfig) -> Strings {
    let mut labels = owned(settings, &config.labels);
    let annotations = config.annotations.iter();
    labels.extend(annotations.map(|(key, value)| (format!("{ANNOTATION}{key}"), value.clone())));
    labels
}

/// The network that a container is created in; further named ones are joined after it.
fn network(mode: &NetworkMode) -> RtResult<String> {
    Ok(match mode {
        NetworkMode::None => "none".to_owned(),
        NetworkMode::Host => "host".to_owned(),
        NetworkMode::Bridge => "bridge".to_owned(),
        NetworkMode::Named(names) => match names.first() {
            Some(first) => first.clone(),
            None => {
                return Err(RuntimeError::InvalidSpec { reason: "network: the list of networks is empty".to_owned() });
            }
        },
    })
}

fn ports(config: &ContainerConfig) -> RtResult<BTreeMap<String, Vec<PortBinding>>> {
    let published = fields::published_ports(ENGINE, &config.network, &config.ports)?;
    let mut bindings: BTreeMap<String, Vec<PortBinding>> = BTreeMap::new();
    for (port, host_port) in published {
        let inside = format!("{}/{}", port.container_port, protocol_word(port.protocol));
        let binding = PortBinding { host_ip: port.host_ip.clone(), host_port: host_port.to_string() };
        bindings.entry(inside).or_default().push(binding);
    }
    Ok(bindings)
}

fn mounts(api: Api, mounts: &[AskedMount]) -> RtResult<Vec<Mount>> {
    let mount = |(index, mount): (usize, &AskedMount)| {
        let (kind, source, sub_path) = match &mount.source {
            MountSource::Bind(source) if source.starts_with('/') => ("bind", source, ""),
            MountSource::Bind(source) => {
                let reason = format!("mount '{}': '{source}' is not absolute", mount.path);
                return Err(RuntimeError::InvalidSpec { reason });
            }
            MountSource::Volume(name, sub_path) => ("volume", name, sub_path.as_str()),
        };
        if !sub_path.is_empty() && api < SUB_PATHS_SINCE {
            let what = format!("mounts[{index}].sub_path before version {SUB_PATHS_SINCE} of its API");
            return Err(unsupported(ENGINE, what));
        }
        let subpath = sub_path.to_owned();
        Ok(Mount {
            kind,
            source: source.clone(),
            target: mount.path.clone(),
            read_only: mount.read_only,
            volume_options: (!subpath.is_empty()).then_some(VolumeOptions { subpath }),
        })
    };
    mounts.iter().enumerate().map(mount).collect()
}

fn devices(devices: &[DeviceSpec]) -> Vec<Device> {
    let device = |device: &DeviceSpec| Device {
        path_on_host: device.host_path.clone(),
        path_in_container: if device.path.is_empty() { device.host_path.clone() } else { device.path.clone() },
        cgroup_permissions: device.permissions.clone(),
    };
    devices.iter().map(device).collect()
}

fn security_options(security: &SecurityContext, seccomp: Option<&str>) -> Vec<String> {
    let no_new_privileges = security.no_new_privileges.map(|is_set| format!("no-new-privileges:{is_set}"));
    no_new_privileges.into_iter().chain(seccomp.map(|profile| format!("seccomp={profile}"))).collect()
}

/// Words of Docker's warnings (`daemon/daemon_unix.go`) with the field that was dropped.
const DROPPED: &[(&str, &str)] = &[
    ("memory limit capabilities", "resources.memory_bytes"),
    ("memory soft limit", "resources.memory_reservation_bytes"),
    ("PIDs limit", "resources.pids"),
    ("CPU shares", "resources.cpu_shares"),
    ("CPU CFS", "resources.cpu_millis"),
    ("CPU cfs", "resources.cpu_millis"),
    ("Published ports are discarded", "ports"),
];

/// Nobody asked for a limit of swap, which Docker adds by itself; the memory limit holds.
const HARMLESS: &str = "Memory limited without swap";

/// The field that a warning says was dropped; `None` where nothing that was asked for is missing. A warning that is not
/// known counts as a field dropped.
pub(super) fn dropped_field(warning: &str) -> Option<String> {
    if warning.contains(HARMLESS) {
        return None;
    }
    let known = DROPPED.iter().find(|(words, _)| warning.contains(words));
    Some(known.map_or_else(|| format!("the configuration: {warning}"), |(_, field)| format!("{field}: {warning}")))
}
