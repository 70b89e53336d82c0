//! systemd over D-Bus: containers that are services of the node's own systemd, from the text of a unit, or from a folder of
//! the node as their root.
//!
//! [`Systemd`] is the door, and [`Services`] that to all services of the node; what it does with units, and what systemd is
//! asked, is [`super::units`]'s. Stays out: policy, plans, and of units that are not this daemon's all but what [`Services`]
//! is for.
//!
//! Source: `org.freedesktop.systemd1(5)` of systemd 252.

mod services;

use std::path::PathBuf;

pub use self::services::Services;

use super::adapter::RtResult;
use super::units::journal::Journal;
use super::units::local::LocalManager;
use super::units::quadlets::QuadletFiles;
use super::units::{Units, UnitsConfig, bus_at};
use crate::transport::dbus::SYSTEM_BUS;

/// The engine's name.
const ENGINE: &str = "systemd";

/// How systemd is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SystemdConfig {
    /// This node's name, the value of [`labels::NODE`](crate::model::workload::labels::NODE) on all that is ours.
    pub node: String,
    /// Where containers and volumes are kept.
    pub dir: PathBuf,
    /// The bus that systemd is on: the path of its socket, or an address as D-Bus writes them.
    pub bus: String,
    /// Where unit files are written: a folder that systemd looks in, gone with the next boot.
    pub unit_dir: PathBuf,
    /// The root of the system whose journal has what units write.
    pub journal_root: PathBuf,
    /// Where Podman's Quadlet files are written: a folder that its generator looks in, gone with the next boot.
    pub quadlet_dir: PathBuf,
    /// Podman's generator.
    pub quadlet_generator: PathBuf,
}

impl Default for SystemdConfig {
    fn default() -> Self {
        Self {
            node: "localhost".to_owned(),
            dir: PathBuf::from("/var/lib/actioncontroller/systemd"),
            bus: SYSTEM_BUS.to_owned(),
            unit_dir: PathBuf::from("/run/systemd/system"),
            journal_root: PathBuf::from("/"),
            quadlet_dir: PathBuf::from("/run/containers/systemd"),
            quadlet_generator: PathBuf::from("/usr/lib/systemd/system-generators/podman-system-generator"),
        }
    }
}

/// The adapter for the node's systemd.
pub type Systemd = Units<LocalManager>;

impl Systemd {
    /// Opens what is kept. Whether systemd answers is told by the probe.
    pub fn open(config: SystemdConfig) -> RtResult<Self> {
        let bus = bus_at(&config.bus)?;
        let manager = LocalManager::new(ENGINE, bus, config.unit_dir).with_journal(Journal::of(config.journal_root));
        let manager =
            manager.with_quadlets(QuadletFiles::new(config.quadlet_dir, config.quadlet_generator, config.dir.clone()));
        Units::over(manager, UnitsConfig { node: config.node, dir: config.dir })
    }
}
