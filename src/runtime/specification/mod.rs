//! The OCI runtime specification (1.0.2) of a container, from our [`ContainerConfig`] and its image: what engines without
//! a generator of their own give to crun, runc or a shim.
//!
//! Enters: translation, and what it needs to look up in the root file system (users) and on the node (devices, seccomp
//! profiles). Stays out: making the root file system, running anything, and the way to an engine. Every field of the
//! configuration takes effect in the specification or is refused by name here.

mod devices;
mod limits;
mod mounts;
mod process;
mod seccomp;
#[cfg(test)]
mod tests;
mod users;

pub use limits::resized;
pub use process::capability_sets;

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxNamespace, LinuxNamespaceType, Root, Spec};

use super::adapter::{ContainerConfig, RtResult, RuntimeError, unsupported};
use super::shared::fields::published_ports;
use crate::model::workload::NetworkMode;

/// What an image's configuration says of its containers (the OCI image specification's `config`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageDefaults {
    /// The program with what comes always before its arguments.
    pub entrypoint: Vec<String>,
    /// Its usual arguments.
    pub cmd: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Absolute; empty is `/`.
    pub working_dir: String,
    /// `user[:group]`, each a name or a number; empty is root.
    pub user: String,
}

/// A file or folder of the node that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// On the node, absolute.
    pub source: PathBuf,
    /// Inside, absolute.
    pub path: String,
    /// Writes are refused.
    pub read_only: bool,
}

/// Where a container will be.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The engine, for errors.
    pub engine: &'static str,
    /// The root file system as it is mounted now: users are looked up there.
    pub rootfs: &'a Path,
    /// The root's path as the specification names it: absolute, or relative to the bundle.
    pub root_path: &'a Path,
    /// The control group, as the runtime takes it.
    pub cgroup: &'a str,
    /// What `ContainerConfig::mounts` come to, and what the engine adds.
    pub binds: &'a [Bind],
    /// The network namespace for a bridged or named network; without one, these are refused.
    pub netns: Option<&'a Path>,
}

/// The specification. `Unsupported` names a field that cannot take effect, `InvalidSpec` one that makes no sense.
pub fn generate(config: &ContainerConfig, image: &ImageDefaults, place: &Place) -> RtResult<Spec> {
    check(place.engine, config, place.netns.is_some())?;
    let security = &config.spec.security;
    let mut root = Root::default();
    root.set_path(place.root_path.to_owned()).set_readonly(Some(security.read_only_root));
    let mut linux = Linux::default();
    linux
        .set_cgroups_path(Some(PathBuf::from(place.cgroup)))
        .set_namespaces(Some(namespaces(config, place)))
        .set_resources(Some(limits::resources(config)?))
        .set_devices(Some(devices::nodes(config)?))
        .set_seccomp(seccomp::profile(security, place.engine)?)
        .set_masked_paths(Some(mounts::masked(security.privileged)))
        .set_readonly_paths(Some(mounts::read_only(security.privileged)));
    let mut spec = Spec::default();
    spec.set_root(Some(root))
        .set_process(Some(process::process(config, image, place)?))
        .set_mounts(Some(mounts::mounts(config, place.binds)))
        .set_hostname((!config.hostname.is_empty()).then(|| config.hostname.clone()))
        .set_annotations(Some(config.annotations.clone().into_iter().collect()))
        .set_linux(Some(linux));
    Ok(spec)
}

/// Refuses what no specification can hold, by name, before an image is fetched for it. `has_network`: whether the engine
/// has a network namespace for bridged and named networks.
pub fn check(engine: &'static str, config: &ContainerConfig, has_network: bool) -> RtResult<()> {
    if config.pod.is_some() {
        return Err(unsupported(engine, "pods"));
    }
    if !config.spec.unit.is_empty() {
        return Err(unsupported(engine, "unit"));
    }
    match config.network {
        NetworkMode::Bridge | NetworkMode::Named(_) if !has_network => {
            return Err(unsupported(engine, "networks other than none and host"));
        }
        NetworkMode::None | NetworkMode::Host | NetworkMode::Bridge | NetworkMode::Named(_) => {}
    }
    published_ports(engine, &config.network, &config.ports).map(drop)
}

/// Own ones but those that are shared with the node.
fn namespaces(config: &ContainerConfig, place: &Place) -> Vec<LinuxNamespace> {
    use LinuxNamespaceType as Kind;
    let shared = [
        (Kind::Pid, config.host_pid),
        (Kind::Ipc, config.host_ipc),
        (Kind::Network, config.network == NetworkMode::Host),
        (Kind::Uts, false),
        (Kind::Mount, false),
        (Kind::Cgroup, false),
    ];
    let own = shared.into_iter().filter(|(_, is_shared)| !is_shared).map(|(kind, _)| {
        let mut namespace = LinuxNamespace::default();
        let path = place.netns.filter(|_| kind == Kind::Network && config.network != NetworkMode::None);
        namespace.set_typ(kind).set_path(path.map(Path::to_owned));
        namespace
    });
    own.collect()
}

/// The error of a field that makes no sense.
fn invalid(reason: impl Into<String>) -> RuntimeError {
    RuntimeError::InvalidSpec { reason: reason.into() }
}
