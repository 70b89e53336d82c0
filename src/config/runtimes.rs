//! Settings of container engines.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::units;
use crate::runtime::sim::config::SimConfig;

/// Container engines.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtimes {
    /// Engines in the order in which they are taken where neither caller nor document names one.
    pub preference: Vec<String>,
    /// Podman.
    pub podman: Podman,
    /// Docker.
    pub docker: Docker,
    /// containerd.
    pub containerd: Containerd,
    /// crun or runc with no engine daemon.
    pub oci: Oci,
    /// The node's systemd.
    pub systemd: Systemd,
    /// Eclipse BlueChi.
    pub bluechi: Bluechi,
    /// The simulator.
    pub sim: SimConfig,
}

impl Default for Runtimes {
    fn default() -> Self {
        Self {
            preference: vec!["podman".into()],
            podman: Podman::default(),
            docker: Docker::default(),
            containerd: Containerd::default(),
            oci: Oci::default(),
            systemd: Systemd::default(),
            bluechi: Bluechi::default(),
            sim: SimConfig::default(),
        }
    }
}

/// Podman, over its REST API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Podman {
    /// Use it.
    pub enabled: bool,
    /// Path of its socket; empty: found by itself, the system's first, then the user's.
    pub socket: PathBuf,
}

impl Default for Podman {
    fn default() -> Self {
        Self { enabled: true, socket: PathBuf::new() }
    }
}

/// Docker, over its Engine API.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Docker {
    /// Use it.
    pub enabled: bool,
    /// Path of its socket; empty: found by itself, the system's first, then the user's.
    pub socket: PathBuf,
}

/// containerd, over its gRPC API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Containerd {
    /// Use it.
    pub enabled: bool,
    /// Path of its socket; empty: `/run/containerd/containerd.sock`.
    pub socket: PathBuf,
    /// The namespace in which everything is made.
    pub namespace: String,
}

impl Default for Containerd {
    fn default() -> Self {
        Self { enabled: false, socket: PathBuf::new(), namespace: "actioncontroller".to_owned() }
    }
}

/// The node's own systemd, over D-Bus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Systemd {
    /// Use it.
    pub enabled: bool,
    /// The bus that it is on, a socket's path or an address as D-Bus writes them; empty: the system's.
    pub bus: String,
    /// Where unit files are written; empty: `/run/systemd/system`.
    pub unit_dir: PathBuf,
    /// The root of the system whose journal has what units write; empty: `/`.
    pub journal_root: PathBuf,
    /// Where Podman's Quadlet files are written; empty: `/run/containers/systemd`.
    pub quadlet_dir: PathBuf,
    /// Podman's generator; empty: `/usr/lib/systemd/system-generators/podman-system-generator`.
    pub quadlet_generator: PathBuf,
    /// Let callers enable and disable units of this node, and have their files read anew.
    pub manage: bool,
}

/// Eclipse BlueChi, over D-Bus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bluechi {
    /// Use it.
    pub enabled: bool,
    /// The bus that its controller is on, a socket's path or an address as D-Bus writes them; empty: the system's.
    pub bus: String,
    /// What it calls this node; empty: as `node`.
    pub node: String,
    /// Where unit files of this node are written; empty: `/run/systemd/system`.
    pub unit_dir: PathBuf,
    /// Let callers start and stop its controller and agents.
    pub manage: bool,
    /// The controller that this node's agent is told to connect to when a caller has started it, as D-Bus writes addresses;
    /// empty: as the agent's own settings say.
    pub controller_address: String,
}

/// crun or runc, with no engine daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Oci {
    /// Use it.
    pub enabled: bool,
    /// The runtime: a path, or a name in `PATH`; empty: crun, else runc, whichever works.
    pub runtime: PathBuf,
    /// conmon, likewise; empty: `conmon`.
    pub conmon: PathBuf,
    /// Where the runtime keeps its state until the next boot; empty: `/run/actioncontroller/oci`.
    pub run_dir: PathBuf,
    /// Folders with image layouts and archives.
    pub image_folders: Vec<PathBuf>,
    /// The most bytes that one image takes when it is unpacked.
    #[serde(with = "units::size")]
    pub image_bytes: u64,
    /// From where each network gets 256 IPv4 addresses.
    pub bridge_pool: String,
}

impl Default for Oci {
    fn default() -> Self {
        Self {
            enabled: false,
            runtime: PathBuf::new(),
            conmon: PathBuf::new(),
            run_dir: PathBuf::new(),
            image_folders: vec![PathBuf::from("/usr/share/actioncontroller/images")],
            image_bytes: 4 << 30,
            bridge_pool: "10.90.0.0/16".to_owned(),
        }
    }
}
