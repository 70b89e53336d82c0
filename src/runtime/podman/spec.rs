//! From our [`ContainerConfig`] to Podman's SpecGenerator, and from its warnings back to our fields. Pure.
//!
//! Every field of the configuration takes effect or is refused by name here, before anything is asked of the engine.

use std::collections::BTreeMap;

use super::client::Api;
use super::request::{
    BindMount, CpuLimits, Device, LogConfiguration, Membership, MemoryLimits, NamedVolume, Namespace, PidsLimit,
    ResourceLimits, SpecGenerator,
};
use super::wire::PortMapping;
use super::{ENGINE, PodmanConfig};
use crate::model::resources::Resources;
use crate::model::security::SecurityContext;
use crate::model::workload::{DeviceSpec, NetworkMode, PortSpec};
use crate::runtime::adapter::{ContainerConfig, Mount, MountSource, RtResult, RuntimeError, unsupported};
use crate::runtime::rest::told::protocol_word;
use crate::runtime::rest::wire::Strings;
use crate::runtime::shared::fields::{self, Limits};
use crate::runtime::shared::resize::Resized;

/// The document of `POST /containers/create`. `image_user` is the image's user, as its configuration says it.
pub(super) fn generator(
    settings: &PodmanConfig,
    api: Api,
    config: &ContainerConfig,
    image_user: &str,
) -> RtResult<SpecGenerator> {
    let spec = &config.spec;
    fields::image_alone(ENGINE, spec)?;
    let security = &spec.security;
    let network = network(config)?;
    Ok(SpecGenerator {
        name: config.name.clone(),
        image: spec.image.clone(),
        entrypoint: spec.command.clone(),
        command: spec.args.clone(),
        env: spec.env.iter().map(|var| (var.name.clone(), var.value.clone())).collect(),
        work_dir: spec.working_dir.clone(),
        labels: owned(settings, &config.labels),
        annotations: config.annotations.clone(),
        stdin: spec.stdin,
        terminal: spec.tty,
        pod: config.pod.clone(),
        netns: network.netns,
        networks: network.networks,
        portmappings: network.ports,
        hostname: if config.pod.is_some() { String::new() } else { config.hostname.clone() },
        ipcns: config.host_ipc.then_some(HOST),
        pidns: config.host_pid.then_some(HOST),
        mounts: binds(&config.mounts)?,
        volumes: volumes(api, &config.mounts)?,
        devices: devices(&spec.devices, security.privileged)?,
        privileged: security.privileged,
        user: fields::user(security, image_user)?,
        groups: security.supplemental_groups.iter().map(u32::to_string).collect(),
        cap_add: security.add_capabilities.iter().cloned().collect(),
        cap_drop: security.drop_capabilities.iter().cloned().collect(),
        no_new_privileges: security.no_new_privileges.unwrap_or(false),
        seccomp_profile_path: security.seccomp_profile.clone().unwrap_or_default(),
        read_only_filesystem: security.read_only_root,
        resource_limits: limits(&spec.resources)?,
        log_configuration: LogConfiguration { driver: "k8s-file", size: settings.log_bytes },
        restart_policy: "no",
        oci_runtime: settings.runtime.clone(),
        ..SpecGenerator::default()
    })
}

/// The host's namespace.
const HOST: Namespace = Namespace { nsmode: "host" };

/// The labels with the one by which we know what is ours.
pub(super) fn owned(settings: &PodmanConfig, labels: &Strings) -> Strings {
    let mut labels = labels.clone();
    labels.insert(crate::model::workload::labels::NODE.to_owned(), settings.node.clone());
    labels
}

/// A network as containers and pods take it.
#[derive(Debug, Default)]
pub(super) struct NetworkPart {
    pub(super) netns: Option<Namespace>,
    pub(super) networks: BTreeMap<String, Membership>,
    pub(super) ports: Vec<PortMapping>,
}

fn network(config: &ContainerConfig) -> RtResult<NetworkPart> {
    if config.pod.is_some() {
        return Ok(NetworkPart::default());
    }
    let mut part = network_part(&config.network, &config.ports)?;
    part.networks.values_mut().for_each(|membership| membership.aliases.clone_from(&config.aliases));
    Ok(part)
}

/// The network and its published ports.
pub(super) fn network_part(mode: &NetworkMode, ports: &[PortSpec]) -> RtResult<NetworkPart> {
    let published = fields::published_ports(ENGINE, mode, ports)?;
    let published = published.into_iter().map(port).collect();
    match mode {
        NetworkMode::None => Ok(NetworkPart { netns: Some(Namespace { nsmode: "none" }), ..NetworkPart::default() }),
        NetworkMode::Host => Ok(NetworkPart { netns: Some(HOST), ..NetworkPart::default() }),
        NetworkMode::Bridge => Ok(NetworkPart { netns: Some(BRIDGE), ports: published, ..NetworkPart::default() }),
        NetworkMode::Named(names) if names.is_empty() => {
            Err(RuntimeError::InvalidSpec { reason: "network: the list of networks is empty".to_owned() })
        }
        NetworkMode::Named(names) => Ok(NetworkPart {
            netns: Some(BRIDGE),
            networks: names.iter().map(|name| (name.clone(), Membership::default())).collect(),
            ports: published,
        }),
    }
}

const BRIDGE: Namespace = Namespace { nsmode: "bridge" };

fn port((port, host_port): (&PortSpec, u16)) -> PortMapping {
    PortMapping {
        host_ip: port.host_ip.clone(),
        container_port: port.container_port,
        host_port,
        range: 1,
        protocol: protocol_word(port.protocol).to_owned(),
    }
}

fn access(mount: &Mount) -> &'static str {
    if mount.read_only { "ro" } else { "rw" }
}

fn binds(mounts: &[Mount]) -> RtResult<Vec<BindMount>> {
    let bind = |mount: &Mount| match &mount.source {
        MountSource::Bind(source) if source.starts_with('/') => Some(Ok(BindMount {
            destination: mount.path.clone(),
            kind: "bind",
            source: source.clone(),
            options: vec!["rbind", access(mount)],
        })),
        MountSource::Bind(source) => Some(Err(RuntimeError::InvalidSpec {
            reason: format!("mount '{}': '{source}' is not absolute", mount.path),
        })),
        MountSource::Volume(..) => None,
    };
    mounts.iter().filter_map(bind).collect()
}

fn volumes(api: Api, mounts: &[Mount]) -> RtResult<Vec<NamedVolume>> {
    let mut volumes = Vec::new();
    for (index, mount) in mounts.iter().enumerate() {
        let MountSource::Volume(name, sub_path) = &mount.source else { continue };
        if !sub_path.is_empty() && api == Api::V4 {
            return Err(unsupported(ENGINE, format!("mounts[{index}].sub_path before version 5")));
        }
        volumes.push(NamedVolume {
            name: name.clone(),
            dest: mount.path.clone(),
            options: vec![access(mount)],
            sub_path: sub_path.clone(),
        });
    }
    Ok(volumes)
}

fn devices(devices: &[DeviceSpec], privileged: bool) -> RtResult<Vec<Device>> {
    let device = |(index, device): (usize, &DeviceSpec)| {
        let inside = if device.path.is_empty() { &device.host_path } else { &device.path };
        if [&device.host_path, inside].iter().any(|path| path.contains(':')) {
            return Err(unsupported(ENGINE, format!("devices[{index}]: a path with a colon")));
        }
        if privileged && *inside != device.host_path {
            // Podman gives a privileged container all devices of the host under their own paths, and no other.
            return Err(unsupported(ENGINE, format!("devices[{index}].path in a privileged container")));
        }
        Ok(Device { path: format!("{}:{inside}:{}", device.host_path, device.permissions) })
    };
    devices.iter().enumerate().map(device).collect()
}

fn limits(resources: &Resources) -> RtResult<ResourceLimits> {
    fields::limits(resources).map(|limits| document(limits, None))
}

/// The document of `POST /containers/ID/update`.
pub(super) fn resized(resized: &Resized) -> ResourceLimits {
    let swap = match resized.limits.memory {
        // Podman 5 hands on what the container had, which the kernel does not take below the memory.
        Some(memory) if memory < 0 && resized.has_swap_limit => Some(-1),
        Some(_) => Some(resized.memory_and_swap).filter(|both| *both > 0),
        None => None,
    };
    document(resized.limits, swap)
}

fn document(limits: Limits, swap: Option<i64>) -> ResourceLimits {
    let cpu = CpuLimits {
        quota: limits.cpu.map(|(quota, _)| quota),
        period: limits.cpu.map(|(_, period)| period),
        shares: limits.cpu_shares,
    };
    let memory = MemoryLimits { limit: limits.memory, reservation: limits.memory_reservation, swap };
    ResourceLimits {
        cpu: (cpu.quota.is_some() || cpu.shares.is_some()).then_some(cpu),
        memory: (memory.limit.is_some() || memory.reservation.is_some()).then_some(memory),
        pids: limits.pids.map(|limit| PidsLimit { limit }),
    }
}

/// Words of Podman's warnings (`pkg/specgen/generate/validate.go`) with the field that was dropped.
const DROPPED: &[(&str, &str)] = &[
    ("memory limit capabilities", "resources.memory_bytes"),
    ("memory soft limit", "resources.memory_reservation_bytes"),
    ("pids limit", "resources.pids"),
    ("CPU shares", "resources.cpu_shares"),
    ("CPU cfs", "resources.cpu_millis"),
    ("Resource limits are not supported", "resources"),
    ("Port mappings have been discarded", "ports"),
];

/// Podman adds a swap limit of its own to every memory limit and says so where the kernel has none. Nobody asked for
/// one, and the memory limit itself holds.
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

/// The first capability that was asked for and is not in the container's bounding set: Podman drops in silence what the
/// engine itself does not have.
pub(super) fn missing_capability(security: &SecurityContext, bounding: &[String]) -> Option<String> {
    let is_granted = |name: &str| bounding.iter().any(|cap| cap.strip_prefix("CAP_").unwrap_or(cap) == name);
    fields::missing_capability(security, is_granted)
}
