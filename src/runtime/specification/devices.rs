//! Device nodes of the host, given to a container as they are.

use std::fs::{self, Metadata};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::sys::stat::{major, minor};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

use super::invalid;
use crate::model::workload::DeviceSpec;
use crate::runtime::adapter::{ContainerConfig, RtResult};

/// Folders below `/dev` whose content is each container's own.
const OWN: [&str; 3] = ["/dev/pts", "/dev/shm", "/dev/mqueue"];

/// The deepest folder below `/dev` that is looked into for a privileged container.
const DEPTH: usize = 4;

/// A device of the host.
struct Found {
    kind: LinuxDeviceType,
    major: i64,
    minor: i64,
    mode: u32,
    uid: u32,
    gid: u32,
}

/// The nodes that are made inside: those that are asked for, or all of the host's where it is privileged.
pub(super) fn nodes(config: &ContainerConfig) -> RtResult<Vec<LinuxDevice>> {
    let mut nodes = Vec::new();
    if config.spec.security.privileged {
        collect(Path::new("/dev"), DEPTH, &mut nodes);
    }
    for (index, device) in config.spec.devices.iter().enumerate() {
        let found = look(index, device)?;
        let path = if device.path.is_empty() { &device.host_path } else { &device.path };
        nodes.retain(|node: &LinuxDevice| node.path() != Path::new(path));
        nodes.push(node(Path::new(path), &found));
    }
    Ok(nodes)
}

/// Access to those that are asked for.
pub(super) fn rules(config: &ContainerConfig) -> RtResult<Vec<LinuxDeviceCgroup>> {
    let rule = |(index, device): (usize, &DeviceSpec)| {
        let found = look(index, device)?;
        let access = if device.permissions.is_empty() { "rwm" } else { device.permissions.as_str() };
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(found.kind))
            .set_major(Some(found.major))
            .set_minor(Some(found.minor))
            .set_access(Some(access.to_owned()));
        Ok(rule)
    };
    config.spec.devices.iter().enumerate().map(rule).collect()
}

fn look(index: usize, device: &DeviceSpec) -> RtResult<Found> {
    let path = &device.host_path;
    let metadata =
        fs::metadata(path).map_err(|error| invalid(format!("devices[{index}].host_path: '{path}': {error}")))?;
    found(&metadata).ok_or_else(|| invalid(format!("devices[{index}].host_path: '{path}' is no device")))
}

fn found(metadata: &Metadata) -> Option<Found> {
    let kind = match metadata.file_type() {
        kind if kind.is_char_device() => LinuxDeviceType::C,
        kind if kind.is_block_device() => LinuxDeviceType::B,
        _ => return None,
    };
    let number = |part: u64| i64::try_from(part).unwrap_or(i64::MAX);
    Some(Found {
        kind,
        major: number(major(metadata.rdev())),
        minor: number(minor(metadata.rdev())),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

fn node(path: &Path, found: &Found) -> LinuxDevice {
    let mut device = LinuxDevice::default();
    device
        .set_path(path.to_owned())
        .set_typ(found.kind)
        .set_major(found.major)
        .set_minor(found.minor)
        .set_file_mode(Some(found.mode))
        .set_uid(Some(found.uid))
        .set_gid(Some(found.gid));
    device
}

/// All devices in a folder and below. What vanishes meanwhile is none.
fn collect(dir: &Path, depth: usize, nodes: &mut Vec<LinuxDevice>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        let is_own = OWN.iter().any(|own| path == Path::new(own));
        if metadata.is_dir() && depth > 1 && !is_own {
            collect(&path, depth - 1, nodes);
        }
        if let Some(found) = found(&metadata) {
            nodes.push(node(&path, &found));
        }
    }
}
