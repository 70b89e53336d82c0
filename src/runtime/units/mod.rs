//! What engines that run units of systemd do alike, on this node or on others.
//!
//! [`Units`] is an engine over whoever is asked for units ([`manager`]); [`local`] is this node's systemd. `record` is what is kept of containers, `lifecycle`
//! the verbs, `events` what happens, `text` what a container comes to as a unit file, `files` where that is, `transient` how it is
//! given without one and [`quadlets`] units that Podman's generator makes, `status` what a unit's properties say of it, `answers`
//! how requests are refused and jobs end, `groups` what the kernel says, [`journal`] what they have written, [`installed`] all
//! services of a node. Enters: what
//! is systemd's own, whoever is asked for it. Stays out: whom to ask and how, policy, plans, and units that are not this
//! daemon's.
//!
//! A container is a record below [`UnitsConfig::dir`] and a unit from its start on; on this node its file is there from its
//! creation on. The unit stays `active (exited)` after its end (`RemainAfterExit=yes`), so that systemd knows the exit code
//! until the next start; it is ended by signals, never by a job that stops it, which would make systemd forget. Limits take
//! effect where systemd has the controllers, which is read off its own group.
//!
//! Sources: `org.freedesktop.systemd1(5)`, `systemd.exec(5)`, `systemd.service(5)`, `systemd.resource-control(5)` of systemd
//! 252; what it does was seen there.

mod adapter;
pub mod answers;
mod events;
pub mod files;
pub mod groups;
pub mod installed;
pub mod journal;
mod lifecycle;
pub mod local;
pub mod manager;
pub mod quadlets;
mod record;
pub mod status;
pub mod text;
pub mod transient;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use self::events::Subscribers;
use self::manager::UnitManager;
use self::record::Records;
use super::adapter::{RtResult, RuntimeCapabilities, RuntimeError};
use super::shared::volumes::Volumes;
use crate::transport::dbus::{Address, Bus};

/// What an engine of units keeps, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitsConfig {
    /// This node's name, the value of [`labels::NODE`](crate::model::workload::labels::NODE) on all that is ours.
    pub node: String,
    /// Where containers and volumes are kept.
    pub dir: PathBuf,
}

/// An engine that runs units.
pub struct Units<M: UnitManager>(Arc<Engine<M>>);

/// What streams share with the adapter that opened them.
struct Engine<M: UnitManager> {
    node: String,
    manager: M,
    records: Records,
    volumes: Volumes,
    subscribers: Subscribers,
    capabilities: Mutex<RuntimeCapabilities>,
    /// The ids of containers whose start is under way in this process, so that what is seen of it is not its end yet.
    starting: Mutex<BTreeSet<String>>,
}

impl<M: UnitManager> Units<M> {
    /// Opens what is kept. Whether anybody answers is told by the probe.
    pub fn over(manager: M, config: UnitsConfig) -> RtResult<Self> {
        Ok(Self(Arc::new(Engine {
            manager,
            records: Records::open(&config.dir)?,
            volumes: Volumes::open(&config.dir.join("volumes"), &config.node)?,
            subscribers: Subscribers::default(),
            capabilities: Mutex::default(),
            starting: Mutex::default(),
            node: config.node,
        })))
    }
}

impl<M: UnitManager> Engine<M> {
    fn name(&self) -> &'static str {
        self.manager.engine()
    }
}

/// The bus there: the path of its socket, or an address as D-Bus writes them.
pub fn bus_at(address: &str) -> RtResult<Bus> {
    let invalid = |why: String| RuntimeError::InvalidSpec { reason: format!("bus: {why}") };
    address.parse().map(Bus::new).map_err(invalid)
}

/// The path of that bus's socket, where it has one.
pub fn socket_of(address: &str) -> Option<PathBuf> {
    address.parse::<Address>().ok()?.path().map(PathBuf::from)
}

/// What the names of all units that are ours begin with.
pub const OWN_UNITS: &str = "actioncontroller-";

/// The unit of the container of this name, for this node's own systemd.
pub fn unit_of(container: &str) -> String {
    format!("{OWN_UNITS}{container}.service")
}

/// That for what runs units on several nodes, where the daemon of that node, or of a third one, may have a container of the
/// same name: the name says whose it is. No name of a container has a colon.
pub fn unit_owned(owner: &str, container: &str) -> String {
    unit_of(&format!("{owner}:{container}"))
}

/// A name as the last part of an object's path: what is no letter and no digit is escaped, as `sd_bus_path_encode(3)` does.
pub fn path_element(name: &str) -> String {
    if name.is_empty() {
        return "_".to_owned();
    }
    let escaped = |(index, byte): (usize, u8)| {
        let is_plain = byte.is_ascii_alphabetic() || (byte.is_ascii_digit() && index > 0);
        if is_plain { char::from(byte).to_string() } else { format!("_{byte:02x}") }
    };
    name.bytes().enumerate().map(escaped).collect()
}

/// The name in the last part of an object's path; `None` where it is none of [`path_element`]'s.
pub fn name_of_path(path: &str) -> Option<String> {
    let mut bytes = path.rsplit('/').next()?.bytes();
    let mut name = Vec::new();
    while let Some(byte) = bytes.next() {
        let plain = match byte {
            b'_' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                digit()? * 16 + digit()?
            }
            byte => byte,
        };
        name.push(plain);
    }
    String::from_utf8(name).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_as_systemd_does_it() {
        assert_eq!(path_element("ac-a.service"), "ac_2da_2eservice");
        assert_eq!(path_element("7_a"), "_37_5fa");
        assert_eq!(path_element(""), "_");
        assert_eq!(unit_owned("main", "lamp"), "actioncontroller-main:lamp.service");
        for name in ["ac-a.service", "7_a", "bl\u{fc}te@x.service"] {
            assert_eq!(name_of_path(&format!("/org/unit/{}", path_element(name))).as_deref(), Some(name));
        }
        assert_eq!(name_of_path("/org/unit/a_2"), None);
    }
}
