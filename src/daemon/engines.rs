//! Engines as configured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{DaemonError, failed};
use crate::config::Config;
use crate::runtime::adapter::RuntimeAdapter;
use crate::runtime::bluechi::{Bluechi, BluechiConfig, Services, ServicesConfig};
use crate::runtime::containerd::{self, Containerd, ContainerdConfig};
use crate::runtime::docker::{Docker, DockerConfig};
use crate::runtime::hibernation::{Hibernation, HibernationConfig};
use crate::runtime::nodes::{self, NodeServices};
use crate::runtime::oci::{Oci, OciConfig};
use crate::runtime::podman::{Podman, PodmanConfig};
use crate::runtime::registry::EngineRegistry;
use crate::runtime::sim::SimRuntime;
use crate::runtime::systemd::{self, Systemd, SystemdConfig};
use crate::runtime::units::socket_of;
use crate::transport::channel::ChannelThreads;

/// The engines that are on.
pub(super) fn open(config: &Config, threads: &ChannelThreads) -> Result<EngineRegistry, DaemonError> {
    let mut engines = EngineRegistry::new();
    engines.set_preference(config.runtimes.preference.clone());
    if config.runtimes.podman.enabled {
        let socket = &config.runtimes.podman.socket;
        let podman = PodmanConfig {
            node: config.node.clone(),
            socket: (!socket.as_os_str().is_empty()).then(|| socket.clone()),
            work_dir: config.state_dir.clone(),
            ..PodmanConfig::default()
        };
        let podman = hibernating(config, Arc::new(Podman::new(podman)))?;
        engines.register(podman).map_err(failed("runtimes.podman"))?;
    }
    if config.runtimes.docker.enabled {
        let socket = &config.runtimes.docker.socket;
        let docker = DockerConfig {
            node: config.node.clone(),
            socket: (!socket.as_os_str().is_empty()).then(|| socket.clone()),
            ..DockerConfig::default()
        };
        engines.register(Arc::new(Docker::new(docker))).map_err(failed("runtimes.docker"))?;
    }
    if config.runtimes.containerd.enabled {
        let containerd = containerd(config, threads)?;
        engines.register(hibernating(config, containerd)?).map_err(failed("runtimes.containerd"))?;
    }
    if config.runtimes.oci.enabled {
        let oci = Oci::open(oci_config(config)).map_err(failed("runtimes.oci"))?;
        engines.register(hibernating(config, Arc::new(oci))?).map_err(failed("runtimes.oci"))?;
    }
    if config.runtimes.systemd.enabled {
        let systemd = Systemd::open(systemd_config(config)).map_err(failed("runtimes.systemd"))?;
        engines.register(Arc::new(systemd)).map_err(failed("runtimes.systemd"))?;
    }
    if config.runtimes.bluechi.enabled {
        let bluechi = Bluechi::open(bluechi_config(config)).map_err(failed("runtimes.bluechi"))?;
        engines.register(Arc::new(bluechi)).map_err(failed("runtimes.bluechi"))?;
    }
    if config.runtimes.sim.enabled {
        let sim = SimRuntime::open(config.runtimes.sim.clone(), &config.node).map_err(failed("runtimes.sim"))?;
        engines.register(hibernating(config, Arc::new(sim))?).map_err(failed("runtimes.sim"))?;
    }
    Ok(engines)
}

/// containerd, whose shims start this program to write the output of containers.
fn containerd(config: &Config, threads: &ChannelThreads) -> Result<Arc<dyn RuntimeAdapter>, DaemonError> {
    let given = &config.runtimes.containerd;
    let program = std::env::current_exe().map_err(failed("runtimes.containerd: the path of this program"))?;
    let settings = ContainerdConfig {
        socket: if given.socket.as_os_str().is_empty() { containerd::SOCKET.into() } else { given.socket.clone() },
        namespace: given.namespace.clone(),
        node: config.node.clone(),
        dir: config.state_dir.join("containerd"),
        logger: program,
    };
    let containerd = Containerd::open(settings, threads).map_err(failed("runtimes.containerd"))?;
    Ok(Arc::new(containerd))
}

/// The engine with what is the same of checkpoints on all of them.
fn hibernating(config: &Config, engine: Arc<dyn RuntimeAdapter>) -> Result<Arc<dyn RuntimeAdapter>, DaemonError> {
    let Config { hibernation, state_dir, .. } = config;
    let is_named = !hibernation.folder.as_os_str().is_empty();
    let settings = HibernationConfig {
        dir: if is_named { hibernation.folder.clone() } else { state_dir.join("checkpoints") },
        max_bytes: hibernation.max_bytes,
        checkpoint_limit: hibernation.checkpoint_timeout,
        restore_limit: hibernation.restore_timeout,
    };
    Ok(Arc::new(Hibernation::open(engine, settings).map_err(failed("hibernation.folder"))?))
}

/// What manages services of several nodes: BlueChi, where it is on; or else of this one.
pub(super) fn node_services(config: &Config) -> Result<Arc<dyn NodeServices>, DaemonError> {
    let given = &config.runtimes.bluechi;
    if !given.enabled {
        let systemd = &config.runtimes.systemd;
        if !systemd.enabled {
            return Ok(Arc::new(nodes::Nothing));
        }
        let services = systemd::Services::open(&systemd_config(config), systemd.manage);
        return Ok(Arc::new(services.map_err(failed("runtimes.systemd"))?));
    }
    let settings = ServicesConfig {
        systemd_bus: systemd_config(config).bus,
        controller_address: given.controller_address.clone(),
        may_control: given.manage,
    };
    let services = Services::open(&bluechi_config(config), settings).map_err(failed("runtimes.bluechi"))?;
    Ok(Arc::new(services))
}

/// Folders and sockets that engines are governed by: whoever has them has the engine. Some may be empty.
pub(super) fn governing_paths(config: &Config) -> Vec<PathBuf> {
    let runtimes = &config.runtimes;
    let (oci, systemd, bluechi) = (oci_config(config), systemd_config(config), bluechi_config(config));
    let sockets = [&runtimes.podman.socket, &runtimes.docker.socket, &runtimes.containerd.socket].map(PathBuf::clone);
    let buses = [&systemd.bus, &bluechi.bus].into_iter().filter_map(|bus| socket_of(bus));
    // systemd's own socket, on which root is asked no further; agents' way to BlueChi's controller, and who may call.
    let always = ["/run/systemd/private", "/etc/systemd", "/etc/containers/systemd", "/run/bluechi", "/etc/bluechi"];
    let always = always.map(PathBuf::from);
    let others = [oci.network_dir(), oci.run_dir, systemd.unit_dir, systemd.quadlet_dir, bluechi.unit_dir];
    sockets.into_iter().chain(buses).chain(others).chain(always).collect()
}

/// The path that is given, or else the usual one.
fn or_usual(given: &Path, usual: PathBuf) -> PathBuf {
    if given.as_os_str().is_empty() { usual } else { given.to_owned() }
}

fn systemd_config(config: &Config) -> SystemdConfig {
    let given = &config.runtimes.systemd;
    let usual = SystemdConfig::default();
    SystemdConfig {
        node: config.node.clone(),
        dir: config.state_dir.join("systemd"),
        bus: if given.bus.is_empty() { usual.bus } else { given.bus.clone() },
        unit_dir: or_usual(&given.unit_dir, usual.unit_dir),
        journal_root: or_usual(&given.journal_root, usual.journal_root),
        quadlet_dir: or_usual(&given.quadlet_dir, usual.quadlet_dir),
        quadlet_generator: or_usual(&given.quadlet_generator, usual.quadlet_generator),
    }
}

fn bluechi_config(config: &Config) -> BluechiConfig {
    let given = &config.runtimes.bluechi;
    let usual = BluechiConfig::default();
    BluechiConfig {
        node: config.node.clone(),
        own: if given.node.is_empty() { config.node.clone() } else { given.node.clone() },
        dir: config.state_dir.join("bluechi"),
        bus: if given.bus.is_empty() { usual.bus } else { given.bus.clone() },
        unit_dir: or_usual(&given.unit_dir, usual.unit_dir),
    }
}

fn oci_config(config: &Config) -> OciConfig {
    let given = &config.runtimes.oci;
    let usual = OciConfig::default();
    OciConfig {
        node: config.node.clone(),
        dir: config.state_dir.join("oci"),
        run_dir: or_usual(&given.run_dir, usual.run_dir.clone()),
        runtime: given.runtime.clone(),
        conmon: given.conmon.clone(),
        image_folders: given.image_folders.clone(),
        image_bytes: given.image_bytes,
        bridge_pool: given.bridge_pool.clone(),
        ..usual
    }
}
