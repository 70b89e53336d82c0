//! Eclipse BlueChi over D-Bus: containers that are services of this node's systemd and of other nodes', each asked of the
//! controller.
//!
//! [`Bluechi`] is the door; what it does with units is [`super::units`]'s, `controller` what the controller is asked,
//! `services` the controller and the agents themselves, `installed` all services of nodes. Stays out: D-Bus itself
//! ([`crate::transport::dbus`]),
//! policy, plans, and units that are not this daemon's.
//!
//! A unit says its node itself (`Node=` in its section `[X-ActionController]`). On this node its file is written as for
//! systemd; BlueChi brings no files to others, so there it is a transient unit, of which nothing is left once it was removed
//! or its node has booted. A container of a node that is away is told as it was last known, and as not well.
//!
//! Source: BlueChi 1.3.0, its D-Bus API and what it was seen to do.

mod controller;
mod installed;
mod services;

use std::path::PathBuf;

pub use self::controller::Controller;
pub use self::services::{Services, ServicesConfig};
use super::adapter::RtResult;
use super::units::{Units, UnitsConfig, bus_at};
use crate::transport::dbus::SYSTEM_BUS;

/// The engine's name.
const ENGINE: &str = "bluechi";

/// How BlueChi is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BluechiConfig {
    /// This node's name, the value of [`labels::NODE`](crate::model::workload::labels::NODE) on all that is ours.
    pub node: String,
    /// What BlueChi calls this node.
    pub own: String,
    /// Where containers and volumes are kept.
    pub dir: PathBuf,
    /// The bus that the controller is on: the path of its socket, or an address as D-Bus writes them.
    pub bus: String,
    /// Where unit files of this node are written: a folder that systemd looks in, gone with the next boot.
    pub unit_dir: PathBuf,
}

impl Default for BluechiConfig {
    fn default() -> Self {
        Self {
            node: "localhost".to_owned(),
            own: "localhost".to_owned(),
            dir: PathBuf::from("/var/lib/actioncontroller/bluechi"),
            bus: SYSTEM_BUS.to_owned(),
            unit_dir: PathBuf::from("/run/systemd/system"),
        }
    }
}

/// The adapter for BlueChi.
pub type Bluechi = Units<Controller>;

impl Bluechi {
    /// Opens what is kept. Whether the controller answers is told by the probe.
    pub fn open(config: BluechiConfig) -> RtResult<Self> {
        let bus = bus_at(&config.bus)?;
        let controller = Controller::new(bus, &config);
        Units::over(controller, UnitsConfig { node: config.node, dir: config.dir })
    }
}
