//! File systems of a container: the usual ones, and what is mounted from the node.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::Bind;
use crate::runtime::adapter::ContainerConfig;

/// Files of the kernel that tell of the node or change it; a privileged container sees them.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Those that may be read.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Paths that are hidden.
pub(super) fn masked(privileged: bool) -> Vec<String> {
    MASKED.iter().filter(|_| !privileged).map(|path| (*path).to_owned()).collect()
}

/// Paths that are not written.
pub(super) fn read_only(privileged: bool) -> Vec<String> {
    READ_ONLY.iter().filter(|_| !privileged).map(|path| (*path).to_owned()).collect()
}

/// All mounts, in order.
pub(super) fn mounts(config: &ContainerConfig, binds: &[Bind]) -> Vec<Mount> {
    let kernel = if config.spec.security.privileged { "rw" } else { "ro" };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        ),
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", kernel]),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", kernel]),
    ];
    if config.host_ipc {
        mounts.extend(["/dev/shm", "/dev/mqueue"].into_iter().filter(|path| Path::new(path).is_dir()).map(shared));
    } else {
        mounts.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]));
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    }
    mounts.extend(binds.iter().map(bind));
    mounts
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.into()))
        .set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

/// One that is the node's own.
fn shared(path: &str) -> Mount {
    mount(path, "bind", path, &["rbind", "rprivate", "rw"])
}

fn bind(bind: &Bind) -> Mount {
    let access = if bind.read_only { "ro" } else { "rw" };
    let mut mount = mount(&bind.path, "bind", "", &["rbind", "rprivate", access]);
    mount.set_source(Some(bind.source.clone()));
    mount
}
