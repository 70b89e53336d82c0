//! [`Ceiling`]: the most that a workload may ask for on this node.
//!
//! A workload above it is refused with [`ErrorKind::PermissionDenied`] and `SECURITY_DENIED` before any effect: the
//! document is well-formed and the node's state does not matter; it is the operator who does not allow it. Paths are
//! compared part by part as they are written. Symbolic links are not followed, since nothing is read here: an
//! allowed folder must not be writable by those who are not allowed more.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorCode, ErrorKind};
use crate::model::security::SecurityContext;
use crate::model::text::{normalized, shown};
use crate::model::workload::{ContainerSpec, DeviceSpec, NetworkMode, VolumeSource, WorkloadSpec};

/// What engines give to every container (the sets of Docker and of Podman together), which asking for adds nothing to.
const ENGINE_DEFAULT: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// What control loops need beside: a higher priority, and memory that is not paged out.
const REAL_TIME: &[&str] = &["IPC_LOCK", "SYS_NICE"];

/// Host paths that are never mounted, nor anything under or above them: who can write there owns the node or this
/// daemon.
const NEVER: &[&str] = &[
    "/var/lib/actioncontroller",
    "/run/actioncontroller",
    "/etc/actioncontroller",
    "/var/lib/containers",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/run/containerd",
    "/run/docker",
    "/run/docker.sock",
    "/run/podman",
    "/run/crio",
    "/run/libpod",
    "/run/runc",
    "/run/crun",
    "/run/systemd",
    "/run/dbus",
    "/proc",
    "/sys",
    "/boot",
    "/etc/shadow",
    "/etc/gshadow",
    "/etc/sudoers",
    "/etc/sudoers.d",
    "/etc/ssh",
    "/root/.ssh",
];

/// Names of engine sockets that are never mounted, wherever they are (`/run/user/1000/podman/podman.sock`).
const NEVER_NAMED: &[&str] = &["podman.sock", "docker.sock", "containerd.sock", "crio.sock", "actioncontroller.sock"];

/// The most that a workload may ask for on this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ceiling {
    /// Privileged containers: all capabilities, all devices, no confinement. Default false.
    pub allow_privileged: bool,
    /// Capabilities that may be added, upper case without `CAP_`; `ALL` allows every one. Default: those that
    /// engines give anyway, and SYS_NICE and IPC_LOCK, which real-time programs need.
    pub capabilities: BTreeSet<String>,
    /// The host's network namespace. Default true: vehicle services speak SOME/IP and DDS multicast on it.
    pub host_network: bool,
    /// The host's inter-process communication namespace. Default false.
    pub host_ipc: bool,
    /// The host's process namespace. Default false.
    pub host_pid: bool,
    /// Device nodes that may be passed: a path, or a folder with `/` at its end. Default none.
    pub devices: Vec<String>,
    /// Host paths that may be mounted, with everything under them. Paths that would give the node away (engine
    /// sockets and storage, this daemon's own folders, /proc, /sys) are refused even where they lie under one.
    pub host_paths: Vec<HostPathRule>,
    /// Host paths that are never mounted, nor anything under or above them, beside the built-in ones: the daemon adds
    /// its own folders where they are configured elsewhere. Default none.
    pub denied_host_paths: Vec<String>,
    /// A first process of user id 0. Where false, each container has to say `runAsNonRoot: true` or a `runAsUser`
    /// other than 0. Default true: many images have no other user, and engines confine it.
    pub run_as_root: bool,
    /// Containers without a seccomp profile. Default false.
    pub seccomp_unconfined: bool,
    /// Unit files of systemd in documents: they run as whoever they name, with whatever they ask for. Default false.
    pub units: bool,
    /// Folders whose seccomp profiles may be used. Default `/etc/actioncontroller/seccomp` and
    /// `/usr/share/containers`.
    pub seccomp_profiles: Vec<String>,
}

/// A host path that may be mounted, with everything under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HostPathRule {
    /// Absolute.
    pub path: String,
    /// Only where the mount is read-only.
    #[serde(default)]
    pub read_only: bool,
}

impl Default for Ceiling {
    /// What an ECU's services need and no more: data folders, and calendars and certificates to read.
    fn default() -> Self {
        let rule = |path: &str, read_only: bool| HostPathRule { path: path.to_owned(), read_only };
        let writable = ["/var/lib", "/var/log", "/var/cache", "/opt", "/srv", "/mnt", "/media", "/run/user"];
        let readable = ["/etc/localtime", "/etc/timezone", "/etc/machine-id", "/etc/ssl/certs", "/usr/share"];
        Self {
            allow_privileged: false,
            capabilities: ENGINE_DEFAULT.iter().chain(REAL_TIME).map(|name| (*name).to_owned()).collect(),
            host_network: true,
            host_ipc: false,
            host_pid: false,
            devices: Vec::new(),
            host_paths: writable
                .iter()
                .map(|path| rule(path, false))
                .chain(readable.iter().map(|path| rule(path, true)))
                .collect(),
            denied_host_paths: Vec::new(),
            run_as_root: true,
            seccomp_unconfined: false,
            units: false,
            seccomp_profiles: vec!["/etc/actioncontroller/seccomp".to_owned(), "/usr/share/containers".to_owned()],
        }
    }
}

/// Something that a workload asks for and the node does not allow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where in the document: `spec.containers[0].securityContext.privileged`.
    pub path: String,
    /// What is asked for.
    pub asked: String,
    /// What would be allowed.
    pub allowed: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} is not allowed on this node ({})", self.path, self.asked, self.allowed)
    }
}

/// The refusal of a workload: its first violation as the field, all of them (ten at most) in the message.
pub fn refusal(workload: &str, violations: &[Violation]) -> Error {
    const MOST: usize = 10;
    let mut lines: Vec<String> = violations.iter().take(MOST).map(ToString::to_string).collect();
    if violations.len() > MOST {
        lines.push(format!("{} more", violations.len() - MOST));
    }
    let message = format!("workload '{workload}': {}", lines.join("; "));
    let field = violations.first().map(|violation| violation.path.clone()).unwrap_or_default();
    Error::new(ErrorKind::PermissionDenied, ErrorCode::SecurityDenied, message)
        .at(field)
        .hint("change the document, or have the operator raise the node's security ceiling")
}

/// The most violations that are told.
const MOST_VIOLATIONS: usize = 100;

/// Violations as they are found.
#[derive(Default)]
struct Found(Vec<Violation>);

impl Found {
    fn unless(&mut self, is_allowed: bool, path: &str, asked: &str, allowed: &str) {
        if !is_allowed && self.0.len() < MOST_VIOLATIONS {
            let (path, asked, allowed) = (path.to_owned(), asked.to_owned(), allowed.to_owned());
            self.0.push(Violation { path, asked, allowed });
        }
    }
}

impl Ceiling {
    /// What is wrong with the ceiling itself: paths that are not absolute or hold `..`, empty names. One line each.
    pub fn problems(&self) -> Vec<String> {
        let paths = self.devices.iter().chain(self.host_paths.iter().map(|rule| &rule.path));
        let is_wrong = |path: &&String| !path.starts_with('/') || path.split('/').any(|part| part == "..");
        let mut problems: Vec<String> = paths
            .chain(&self.seccomp_profiles)
            .chain(&self.denied_host_paths)
            .filter(is_wrong)
            .map(|path| format!("'{}' must be an absolute path without '..'", shown(path)))
            .collect();
        let is_name = |name: &&String| {
            name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_' || byte.is_ascii_digit())
        };
        let wrong_names =
            self.capabilities.iter().filter(|name| name.is_empty() || !is_name(name) || name.starts_with("CAP_"));
        problems.extend(wrong_names.map(|name| format!("'{}' must be upper case without CAP_", shown(name))));
        problems
    }

    /// Whether the workload stays under the ceiling; else what does not, 100 at most, in the document's order.
    pub fn check(&self, spec: &WorkloadSpec) -> Result<(), Vec<Violation>> {
        let mut found = Found::default();
        let off = "this node's ceiling has it off";
        found.unless(
            self.host_network || spec.network != NetworkMode::Host,
            "spec.hostNetwork",
            "the host's network",
            off,
        );
        found.unless(self.host_ipc || !spec.host_ipc, "spec.hostIPC", "the host's IPC namespace", off);
        found.unless(self.host_pid || !spec.host_pid, "spec.hostPID", "the host's process namespace", off);
        for (word, list) in [("initContainers", &spec.init_containers), ("containers", &spec.containers)] {
            for (index, container) in list.iter().enumerate() {
                self.check_container(spec, container, &format!("spec.{word}[{index}]"), &mut found);
            }
        }
        if found.0.is_empty() { Ok(()) } else { Err(found.0) }
    }

    fn check_container(&self, spec: &WorkloadSpec, container: &ContainerSpec, path: &str, found: &mut Found) {
        self.check_security(&container.security, &format!("{path}.securityContext"), found);
        for (index, mount) in container.mounts.iter().enumerate() {
            if let Some(VolumeSource::HostPath { path: host_path, .. }) = spec.volumes.get(&mount.volume) {
                let whole = format!("{host_path}/{}", mount.sub_path);
                self.check_host_path(&whole, mount.read_only, &format!("{path}.volumeMounts[{index}]"), found);
            }
        }
        if !container.rootfs.is_empty() {
            let read_only = container.security.read_only_root;
            self.check_host_path(&container.rootfs, read_only, &format!("{path}.rootfs"), found);
        }
        let off = "this node's ceiling has it off";
        found.unless(self.units || container.unit.is_empty(), &format!("{path}.unit"), "a unit of systemd", off);
        for (index, device) in container.devices.iter().enumerate() {
            self.check_device(device, &format!("{path}.devices[{index}]"), found);
        }
    }

    fn check_security(&self, security: &SecurityContext, path: &str, found: &mut Found) {
        let off = "this node's ceiling has it off";
        found.unless(
            self.allow_privileged || !security.privileged,
            &format!("{path}.privileged"),
            "a privileged container",
            off,
        );
        let is_refused = |name: &&String| !self.capabilities.contains("ALL") && !self.capabilities.contains(*name);
        for name in security.add_capabilities.iter().filter(is_refused).take(MOST_VIOLATIONS) {
            let names: Vec<&str> = self.capabilities.iter().map(String::as_str).collect();
            let allowed = format!("allowed are {}", listed(&names));
            let asked = format!("capability {}", shown(name));
            found.unless(false, &format!("{path}.capabilities.add"), &asked, &allowed);
        }
        let is_root = !security.run_as_non_root && security.run_as_user.is_none_or(|user| user == 0);
        found.unless(
            self.run_as_root || !is_root,
            &format!("{path}.runAsUser"),
            "a container that may run as root",
            "set runAsNonRoot: true, or a runAsUser above 0",
        );
        self.check_seccomp(security.seccomp_profile.as_deref(), path, found);
    }

    fn check_seccomp(&self, profile: Option<&str>, path: &str, found: &mut Found) {
        let path = format!("{path}.seccompProfile");
        match profile {
            None => {}
            Some("unconfined") => {
                let allowed = "the engine's default profile is";
                found.unless(self.seccomp_unconfined, &path, "a container without seccomp profile", allowed);
            }
            Some(file) => {
                let is_allowed =
                    self.seccomp_unconfined || self.seccomp_profiles.iter().any(|folder| is_within(file, folder));
                let folders: Vec<&str> = self.seccomp_profiles.iter().map(String::as_str).collect();
                let asked = format!("the seccomp profile '{}'", shown(file));
                found.unless(is_allowed, &path, &asked, &format!("allowed are profiles in {}", listed(&folders)));
            }
        }
    }

    fn check_host_path(&self, path: &str, read_only: bool, place: &str, found: &mut Found) {
        let path = without_aliases(path);
        let asked =
            format!("{} of host path '{}'", if read_only { "a mount" } else { "a writable mount" }, shown(&path));
        let last = path.rsplit('/').next().unwrap_or_default();
        let denied = self.denied_host_paths.iter().map(|denied| without_aliases(denied));
        let never = NEVER.iter().map(|never| (*never).to_owned()).chain(denied);
        let is_never = never.into_iter().any(|never| is_within(&path, &never) || is_within(&never, &path));
        if is_never || NEVER_NAMED.contains(&last) || has_parent(&path) {
            found.unless(false, place, &asked, "it would give the node or an engine away; never allowed");
            return;
        }
        let rules = || self.host_paths.iter().filter(|rule| is_within(&path, &without_aliases(&rule.path)));
        if rules().next().is_none() {
            let paths: Vec<&str> = self.host_paths.iter().map(|rule| rule.path.as_str()).collect();
            found.unless(false, place, &asked, &format!("allowed are paths in {}", listed(&paths)));
        } else if !read_only && rules().all(|rule| rule.read_only) {
            found.unless(false, place, &asked, "it may be mounted with readOnly: true");
        }
    }

    fn check_device(&self, device: &DeviceSpec, place: &str, found: &mut Found) {
        let path = normalized(&device.host_path);
        let matches = |rule: &String| {
            if rule.ends_with('/') {
                is_within(&path, rule) && path != normalized(rule)
            } else {
                path == normalized(rule)
            }
        };
        let is_allowed = !has_parent(&path) && self.devices.iter().any(matches);
        let paths: Vec<&str> = self.devices.iter().map(String::as_str).collect();
        let asked = format!("device '{}'", shown(&path));
        found.unless(is_allowed, place, &asked, &format!("allowed are {}", listed(&paths)));
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn has_parent(path: &str) -> bool {
    path.split('/').any(|part| part == "..")
}

/// The path as it is compared: `/var/run` is `/run` on every Linux of the last ten years.
fn without_aliases(path: &str) -> String {
    let path = normalized(path);
    match path.strip_prefix("/var/run") {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("/run{rest}"),
        Some(_) | None => path,
    }
}

/// Whether `path` is `folder` or lies in it, part by part: `/optional` is not in `/opt`.
fn is_within(path: &str, folder: &str) -> bool {
    let (path, folder) = (normalized(path), normalized(folder));
    folder == "/" || path == folder || path.strip_prefix(&folder).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests;
