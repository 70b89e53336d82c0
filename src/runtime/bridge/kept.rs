//! What is kept of networks and of the containers in them, a file each.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::io_error;
use crate::model::subnet::Subnet;
use crate::model::workload::PortSpec;
use crate::runtime::adapter::{RtResult, RuntimeError};
use crate::runtime::shared::durable;

/// The network of containers that ask for no network by name. It has no labels, so it is nobody's to remove.
pub const DEFAULT: &str = "bridge";

/// The largest file of ours that is read, bytes.
const MOST: u64 = 1024 * 1024;

/// A network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Which part of the pool it is.
    pub number: u32,
    /// Its addresses.
    pub subnet: Subnet,
    /// Whether names are resolved in it.
    pub dns: bool,
    /// All its labels.
    pub labels: BTreeMap<String, String>,
}

/// A container in networks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Its networks, with its address in each.
    pub networks: Vec<(String, Ipv4Addr)>,
    /// Further names that it is found by.
    pub aliases: Vec<String>,
    /// Ports of the host that lead to it.
    pub ports: Vec<PortSpec>,
}

impl Member {
    /// Whether it is in the network.
    pub fn is_in(&self, network: &str) -> bool {
        self.address_in(network).is_some()
    }

    /// Its address in the network.
    pub fn address_in(&self, network: &str) -> Option<Ipv4Addr> {
        self.networks.iter().find(|(name, _)| name == network).map(|(_, address)| *address)
    }
}

/// The files.
pub struct Kept {
    networks: PathBuf,
    members: PathBuf,
}

impl Kept {
    /// Opens or makes the folders.
    pub fn open(dir: &Path) -> RtResult<Self> {
        let kept = Self { networks: dir.join("networks"), members: dir.join("members") };
        for folder in [&kept.networks, &kept.members] {
            fs::create_dir_all(folder).map_err(|error| io_error("making", folder, &error))?;
        }
        Ok(kept)
    }

    /// The network of this name.
    pub fn network(&self, name: &str) -> RtResult<Option<Network>> {
        read(&file(&self.networks, name))
    }

    /// All of them.
    pub fn networks(&self) -> RtResult<Vec<Network>> {
        Ok(all(&self.networks)?.into_iter().map(|(_, network)| network).collect())
    }

    /// Keeps it, durably.
    pub fn keep_network(&self, network: &Network) -> RtResult<()> {
        write(&file(&self.networks, &network.name), network)
    }

    /// Deletes it.
    pub fn forget_network(&self, name: &str) -> RtResult<()> {
        let path = file(&self.networks, name);
        fs::remove_file(&path).map_err(|error| io_error("deleting", &path, &error))
    }

    /// The container of this id.
    pub fn member(&self, id: &str) -> RtResult<Option<Member>> {
        read(&file(&self.members, id))
    }

    /// All of them, by id.
    pub fn members(&self) -> RtResult<Vec<(String, Member)>> {
        all(&self.members)
    }

    /// Keeps it, durably.
    pub fn keep_member(&self, id: &str, member: &Member) -> RtResult<()> {
        write(&file(&self.members, id), member)
    }

    /// Deletes it.
    pub fn forget_member(&self, id: &str) {
        let _ = fs::remove_file(file(&self.members, id));
    }
}

/// Refuses what is no name of a network.
pub fn check_name(name: &str) -> RtResult<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(RuntimeError::InvalidSpec { reason: format!("network '{name}': this is no name of a network") });
    }
    Ok(())
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.json"))
}

fn read<T: DeserializeOwned>(path: &Path) -> RtResult<Option<T>> {
    let text = durable::read(path, MOST).map_err(|error| io_error("reading", path, &error))?;
    text.map(|text| serde_json::from_slice(&text).map_err(|error| io_error("reading", path, &error))).transpose()
}

fn all<T: DeserializeOwned>(dir: &Path) -> RtResult<Vec<(String, T)>> {
    let failed = |error: io::Error| io_error("reading", dir, &error);
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { continue };
        // It may be deleted just now.
        found.extend(read(&path)?.map(|value| (name.to_owned(), value)));
    }
    found.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(found)
}

fn write(path: &Path, value: &impl Serialize) -> RtResult<()> {
    let text = serde_json::to_vec(value).map_err(|error| io_error("writing", path, &error))?;
    durable::replace(path, &text).map_err(|error| io_error("writing", path, &error))
}
