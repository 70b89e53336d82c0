//! `linux` of a bundle: namespaces, limits, devices.

use std::collections::BTreeMap;

use crate::manifest::error::ManifestResult;
use crate::manifest::names;
use crate::manifest::reader::{Fields, Notes, Place};
use crate::model::resources::Resources;
use crate::model::text::{normalized, shown};
use crate::model::workload::{ContainerSpec, DeviceSpec, NetworkMode, WorkloadSpec};

const REFUSED: &[&str] = &[
    "cgroupsPath",
    "gidMappings",
    "intelRdt",
    "memoryPolicy",
    "mountLabel",
    "netDevices",
    "personality",
    "seccomp",
    "sysctl",
    "timeOffsets",
    "uidMappings",
];

/// What runtimes mask, or some do. More than that nobody could be asked for.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// What runtimes make read-only.
const READ_ONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The kernel's period of a quota where none is given, microseconds.
const PERIOD_US: u64 = 100_000;

/// Reads it; absent is a container in the host's namespaces.
pub(super) fn read(
    place: Option<Place<'_>>,
    root: &Place<'_>,
    spec: &mut WorkloadSpec,
    container: &mut ContainerSpec,
    notes: &mut Notes,
) -> ManifestResult<()> {
    let Some(place) = place else {
        let error =
            root.unsupported("a container without namespaces of its own is not supported").at("linux", root.node.line);
        return Err(error);
    };
    let mut fields = place.fields()?;
    fields.refuse(REFUSED)?;
    fields.only(&[("rootfsPropagation", &["private", "rprivate"])])?;
    namespaces(&place, fields.items("namespaces")?, spec)?;
    for (name, usual) in [("maskedPaths", MASKED), ("readonlyPaths", READ_ONLY)] {
        for item in fields.items(name)? {
            let path = item.text()?;
            if !usual.contains(&path.as_str()) {
                let message = format!("'{}' in {name} is not supported beside those of every runtime", shown(&path));
                return Err(item.unsupported(message));
            }
        }
    }
    let mut devices = devices(fields.items("devices")?, notes)?;
    if let Some(place) = fields.take("resources") {
        container.resources = resources(&place, &mut devices)?;
    }
    container.devices = devices.into_iter().map(|device| device.spec).collect();
    fields.finish_strictly()
}

/// A namespace that is named is the container's own, one that is not is the host's. Some cannot be the host's here.
fn namespaces(linux: &Place<'_>, items: Vec<Place<'_>>, spec: &mut WorkloadSpec) -> ManifestResult<()> {
    let mut own = BTreeMap::new();
    for item in items {
        let mut fields = item.fields()?;
        let kind = fields.require("type")?;
        let word = kind.text()?;
        if !matches!(word.as_str(), "pid" | "network" | "ipc" | "uts" | "mount" | "cgroup") {
            return Err(kind.unsupported(format!("a namespace of type '{}' is not supported", shown(&word))));
        }
        // One that others are in already.
        fields.refuse(&["path"])?;
        fields.finish_strictly()?;
        if own.insert(word.clone(), ()).is_some() {
            return Err(kind.invalid(format!("namespace '{word}' is given twice")));
        }
    }
    for word in ["mount", "uts"] {
        if !own.contains_key(word) {
            let error = linux.unsupported(format!("the host's {word} namespace is not supported"));
            return Err(error.at("linux.namespaces", linux.node.line));
        }
    }
    spec.network = if own.contains_key("network") { NetworkMode::None } else { NetworkMode::Host };
    (spec.host_pid, spec.host_ipc) = (!own.contains_key("pid"), !own.contains_key("ipc"));
    Ok(())
}

/// A device with the numbers by which rules name it.
struct Device {
    spec: DeviceSpec,
    numbers: (char, u64, u64),
}

/// The node's own device of the same path is passed; whether it has these numbers is not looked at here.
fn devices(items: Vec<Place<'_>>, notes: &mut Notes) -> ManifestResult<Vec<Device>> {
    let mut devices = Vec::new();
    for item in items {
        let mut fields = item.fields()?;
        let kind = fields.require("type")?.word(&[("c", 'c'), ("u", 'c'), ("b", 'b')])?;
        let path = fields.require("path")?;
        let text = path.text()?;
        names::absolute_path(&text).map_err(|why| path.invalid(why))?;
        let mut number = |name| fields.require(name)?.integer::<u64>(0, i64::from(u32::MAX));
        let numbers = (kind, number("major")?, number("minor")?);
        fields.refuse(&["fileMode", "uid", "gid"])?;
        fields.finish_strictly()?;
        let (host, permissions) = (normalized(&text), "rwm".to_owned());
        let message = format!("the node's own {} is passed, whatever its numbers are", shown(&host));
        notes.warn(&item.path, item.node.line, &message);
        devices.push(Device { spec: DeviceSpec { host_path: host.clone(), path: host, permissions }, numbers });
    }
    Ok(devices)
}

fn resources(place: &Place<'_>, devices: &mut [Device]) -> ManifestResult<Resources> {
    let mut resources = Resources::default();
    let mut fields = place.fields()?;
    for item in fields.items("devices")? {
        rule(&item, devices)?;
    }
    if let Some(place) = fields.take("memory") {
        let mut memory = place.fields()?;
        resources.memory_bytes = above_zero(&mut memory, "limit")?;
        resources.memory_reservation_bytes = above_zero(&mut memory, "reservation")?;
        memory.only(&[("disableOOMKiller", &["false"])])?;
        memory.refuse(&["checkBeforeUpdate", "kernel", "kernelTCP", "swap", "swappiness", "useHierarchy"])?;
        memory.finish_strictly()?;
    }
    if let Some(place) = fields.take("cpu") {
        let mut cpu = place.fields()?;
        resources.cpu_shares = cpu.take("shares").map(|place| place.integer(2, 262_144)).transpose()?;
        resources.cpu_millis = quota(&place, &mut cpu)?;
        cpu.refuse(&["burst", "cpus", "idle", "mems", "realtimePeriod", "realtimeRuntime"])?;
        cpu.finish_strictly()?;
    }
    if let Some(place) = fields.take("pids") {
        let mut pids = place.fields()?;
        resources.pids = above_zero(&mut pids, "limit")?;
        pids.finish_strictly()?;
    }
    fields.refuse(&["blockIO", "hugepageLimits", "network", "rdma", "unified"])?;
    fields.finish_strictly()?;
    Ok(resources)
}

/// A limit; -1 is none.
fn above_zero(fields: &mut Fields<'_>, name: &'static str) -> ManifestResult<Option<u64>> {
    let Some(place) = fields.take(name) else { return Ok(None) };
    match place.integer::<i64>(-1, i64::MAX)? {
        -1 => Ok(None),
        0 => Err(place.invalid("must be above 0, or -1 for no limit")),
        limit => Ok(u64::try_from(limit).ok()),
    }
}

/// Thousandths of a CPU; nothing is rounded.
fn quota(place: &Place<'_>, cpu: &mut Fields<'_>) -> ManifestResult<Option<u64>> {
    let period =
        cpu.take("period").map(|place| place.integer::<u64>(1000, 1_000_000)).transpose()?.unwrap_or(PERIOD_US);
    let Some(quota) = above_zero(cpu, "quota")? else { return Ok(None) };
    let millis = quota.saturating_mul(1000);
    if !millis.is_multiple_of(period) {
        let message = format!("{quota} of {period} is no whole number of thousandths of a CPU");
        return Err(place.unsupported(message).at(format!("{}.quota", place.path), place.node.line));
    }
    Ok(Some(millis / period))
}

/// Denying everything is the beginning of every list; beyond it only devices of the bundle itself are allowed.
fn rule(item: &Place<'_>, devices: &mut [Device]) -> ManifestResult<()> {
    let mut fields = item.fields()?;
    let allows = fields.flag("allow")?;
    let kind = fields.take("type").map_or(Ok('a'), |place| place.word(&[("a", 'a'), ("c", 'c'), ("b", 'b')]))?;
    let mut number = |name| fields.take(name).map(|place| place.integer::<u64>(0, i64::from(u32::MAX))).transpose();
    let numbers = (number("major")?, number("minor")?);
    let access = fields.text("access")?;
    fields.finish_strictly()?;
    if !allows && kind == 'a' && numbers == (None, None) && matches!(access.as_str(), "" | "rwm") {
        return Ok(());
    }
    let found = devices.iter_mut().find(|device| {
        let (of, major, minor) = device.numbers;
        allows && of == kind && numbers == (Some(major), Some(minor))
    });
    match found {
        Some(device) if !access.is_empty() && access.bytes().all(|byte| b"rwm".contains(&byte)) => {
            device.spec.permissions = access;
            Ok(())
        }
        Some(_) => Err(item.invalid("field 'access' must be of r, w and m")),
        None => Err(item.unsupported("a rule about devices that are not in linux.devices is not supported")),
    }
}
