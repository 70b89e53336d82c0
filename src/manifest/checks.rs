//! What can only be checked when a workload is whole: names that must be unique, mounts and their volumes, ports and
//! the network.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::pod::Draft;
use super::pullpiri::NetworkDocument;
use super::reader::Notes;
use crate::model::workload::{
    ContainerSpec, DeviceSpec, HostPathKind, NetworkMode, PortSpec, Protocol, VolumeSource, WorkloadSpec,
};

/// Makes the workload of a draft. `networks` are those that it asks for, with their documents where there are any.
pub(super) fn finish(
    draft: Draft,
    networks: &[(String, Option<NetworkDocument>)],
    notes: &mut Notes,
) -> ManifestResult<WorkloadSpec> {
    let Draft { mut spec, read_only_volumes, base, .. } = draft;
    container_names(&spec, &base, notes)?;
    spec.network = network(spec.network == NetworkMode::Host, networks, &base, notes)?;
    let mut used = BTreeSet::new();
    let mut devices = BTreeSet::new();
    let lists = [(&mut spec.init_containers, "initContainers"), (&mut spec.containers, "containers")];
    for (list, word) in lists {
        for (index, container) in list.iter_mut().enumerate() {
            let path = format!("{base}.{word}[{index}]");
            for mount in &mut container.mounts {
                mount.read_only |= read_only_volumes.contains(&mount.volume);
            }
            mounts(container, &spec.volumes, &path, notes)?;
            used.extend(container.mounts.iter().map(|mount| mount.volume.clone()));
            devices.extend(take_devices(container, &spec.volumes, &path, notes)?);
        }
    }
    ports(&mut spec, &base, notes)?;
    for name in spec.volumes.keys().filter(|name| !used.contains(*name)) {
        let path = format!("{base}.volumes");
        notes.warn(&path, notes.line(&path), &format!("volume '{name}' is mounted by no container"));
    }
    spec.volumes.retain(|name, _| used.contains(name) && !devices.contains(name));
    Ok(spec)
}

fn invalid(path: String, notes: &Notes, message: String) -> ManifestError {
    let line = notes.line(&path);
    ManifestError::new(ManifestErrorKind::Invalid, message).at(path, line)
}

fn container_names(spec: &WorkloadSpec, base: &str, notes: &Notes) -> ManifestResult<()> {
    let mut seen = BTreeSet::new();
    for (word, list) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
        for (index, container) in list.iter().enumerate() {
            if !seen.insert(&container.name) {
                let message = format!("container '{}' is given twice", container.name);
                return Err(invalid(format!("{base}.{word}[{index}].name"), notes, message));
            }
        }
    }
    Ok(())
}

fn mounts(
    container: &ContainerSpec,
    volumes: &BTreeMap<String, VolumeSource>,
    path: &str,
    notes: &Notes,
) -> ManifestResult<()> {
    let mut paths = BTreeSet::new();
    for (index, mount) in container.mounts.iter().enumerate() {
        let path = format!("{path}.volumeMounts[{index}]");
        if !volumes.contains_key(&mount.volume) {
            let message = format!("volume '{}' is not known", crate::model::text::shown(&mount.volume));
            return Err(invalid(format!("{path}.name"), notes, message));
        }
        if mount.path == "/" {
            return Err(invalid(format!("{path}.mountPath"), notes, "must not be the root".to_owned()));
        }
        if !paths.insert(&mount.path) {
            let message = format!("'{}' is mounted twice", crate::model::text::shown(&mount.path));
            return Err(invalid(format!("{path}.mountPath"), notes, message));
        }
    }
    Ok(())
}

/// A mount of a host path of type `CharDevice` or `BlockDevice` is a device node: the container then may use it,
/// which a mere mount would not allow. Gives the volumes that were devices.
fn take_devices(
    container: &mut ContainerSpec,
    volumes: &BTreeMap<String, VolumeSource>,
    path: &str,
    notes: &Notes,
) -> ManifestResult<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for (index, mount) in container.mounts.iter().enumerate() {
        let Some(VolumeSource::HostPath { path: host_path, kind }) = volumes.get(&mount.volume) else { continue };
        if !matches!(kind, HostPathKind::CharDevice | HostPathKind::BlockDevice) {
            continue;
        }
        if !mount.sub_path.is_empty() {
            let message = "a device has no path within".to_owned();
            return Err(invalid(format!("{path}.volumeMounts[{index}].subPath"), notes, message));
        }
        names.insert(mount.volume.clone());
        container.devices.push(DeviceSpec {
            host_path: host_path.clone(),
            path: mount.path.clone(),
            permissions: if mount.read_only { "r" } else { "rw" }.to_owned(),
        });
    }
    container.mounts.retain(|mount| !names.contains(&mount.volume));
    Ok(names)
}

/// The network of the host, or none, excludes any other.
fn network(
    host: bool,
    networks: &[(String, Option<NetworkDocument>)],
    base: &str,
    notes: &mut Notes,
) -> ManifestResult<NetworkMode> {
    let mut alone = host.then_some(NetworkMode::Host);
    let mut named = Vec::new();
    for (name, document) in networks {
        let other = match document {
            Some(NetworkDocument::Placeholder) => {
                let path = format!("{base}.networks");
                let line = notes.line(&path);
                notes.warn(&path, line, &format!("Network '{name}' is a placeholder and has no effect"));
                continue;
            }
            Some(NetworkDocument::Host) => NetworkMode::Host,
            Some(NetworkDocument::None) => NetworkMode::None,
            Some(NetworkDocument::Bridge(bridge)) => {
                named.push(bridge.clone().unwrap_or_else(|| name.clone()));
                continue;
            }
            None => {
                named.push(name.clone());
                continue;
            }
        };
        if alone.as_ref().is_some_and(|mode| *mode != other) {
            let message = "the host's network and none exclude one another".to_owned();
            return Err(invalid(format!("{base}.networks"), notes, message));
        }
        alone = Some(other);
    }
    match (alone, named.is_empty()) {
        (Some(mode), true) => Ok(mode),
        (None, true) => Ok(NetworkMode::Bridge),
        (None, false) => Ok(NetworkMode::Named(named)),
        (Some(_), false) => {
            let message = format!("the host's network, or none, excludes network '{}'", named.join("', '"));
            Err(invalid(format!("{base}.networks"), notes, message))
        }
    }
}

/// Ports of the workload do not clash. In the host's network nothing is published: a host port there has to be the
/// container's own, and is taken out.
fn ports(spec: &mut WorkloadSpec, base: &str, notes: &Notes) -> ManifestResult<()> {
    let mut published: BTreeMap<(u16, Protocol), BTreeSet<String>> = BTreeMap::new();
    let network = &spec.network;
    for (word, list) in [("initContainers", &mut spec.init_containers), ("containers", &mut spec.containers)] {
        for (index, container) in list.iter_mut().enumerate() {
            for (number, port) in container.ports.iter_mut().enumerate() {
                let path = format!("{base}.{word}[{index}].ports[{number}].hostPort");
                let Some(host_port) = port.host_port else { continue };
                check_network(network, port, host_port).map_err(|why| invalid(path.clone(), notes, why))?;
                let addresses = published.entry((host_port, port.protocol)).or_default();
                if is_taken(addresses, &port.host_ip) {
                    return Err(invalid(path, notes, format!("host port {host_port} is published twice")));
                }
                addresses.insert(address(&port.host_ip));
                if *network == NetworkMode::Host {
                    port.host_port = None;
                }
            }
        }
    }
    Ok(())
}

fn check_network(network: &NetworkMode, port: &PortSpec, host_port: u16) -> Result<(), String> {
    match network {
        NetworkMode::Host if host_port != port.container_port => {
            Err(format!("must be the containerPort {} in the host's network", port.container_port))
        }
        NetworkMode::None => Err("cannot be published without a network".to_owned()),
        NetworkMode::Host | NetworkMode::Bridge | NetworkMode::Named(_) => Ok(()),
    }
}

/// The address as it is compared; empty is every one.
pub(super) fn address(ip: &str) -> String {
    if matches!(ip, "0.0.0.0" | "::") { String::new() } else { ip.to_owned() }
}

/// Whether a port published on `addresses` is also on `ip`.
pub(super) fn is_taken(addresses: &BTreeSet<String>, ip: &str) -> bool {
    let ip = address(ip);
    addresses.contains("") || addresses.contains(&ip) || (ip.is_empty() && !addresses.is_empty())
}
