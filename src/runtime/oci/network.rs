//! A container's network: what it finds of it inside, and when it is set up and taken down.

use std::fs;
use std::path::Path;

use super::Engine;
use super::events::CHECKPOINTED;
use super::record::Record;
use crate::model::workload::NetworkMode;
use crate::runtime::adapter::{Call, Change, ContainerConfig, RtResult, RuntimeError};
use crate::runtime::bridge::Attachment;
use crate::runtime::shared::durable::kept;
use crate::runtime::specification::Bind;

impl Engine {
    /// Sets up the network of a container that is about to run.
    pub(super) fn connect(&self, call: &Call, id: &str) -> RtResult<()> {
        // One whose record cannot be read may run.
        let is_live = |other: &str| self.records.find(other).is_none_or(|other| self.needs_network(&other));
        self.bridges.connect(call, id, is_live)
    }

    /// Whether it runs, or is to go on from a checkpoint.
    fn needs_network(&self, record: &Record) -> bool {
        self.is_alive(record) || self.records.folder(&record.id).join(CHECKPOINTED).exists()
    }

    /// Takes down the network of a container that was ended.
    pub(super) fn disconnect(&self, id: &str) {
        if let Some(record) = self.records.find(id).filter(|record| !self.needs_network(record)) {
            self.bridges.disconnect(&record.id, self.bridges.set_up_of(&record.id));
        }
    }

    /// Takes down the network of a container whose checkpoint is given up: it has ended by that.
    pub(super) fn give_up(&self, call: &Call, id: &str) -> RtResult<Change> {
        self.check(call, "stop")?;
        let record = self.records.get(id)?;
        self.bridges.disconnect(&record.id, self.bridges.set_up_of(&record.id));
        Ok(Change::Unchanged)
    }

    /// Its addresses on bridges.
    pub(super) fn addresses(&self, id: &str) -> Vec<String> {
        let attachment = self.bridges.attachment(id).ok().flatten();
        attachment.map(|attachment| attachment.ips).unwrap_or_default()
    }
}

/// By what names are resolved inside: the host's files on its network, elsewhere one that knows the container itself, and
/// on bridges the servers. What the document mounts there stays.
pub(super) fn files(folder: &Path, config: &ContainerConfig, attachment: Option<&Attachment>) -> RtResult<Vec<Bind>> {
    const HOSTS: &str = "/etc/hosts";
    const RESOLV: &str = "/etc/resolv.conf";
    let bind = |source: &Path, path: &str| Bind { source: source.to_owned(), path: path.to_owned(), read_only: true };
    let mut files = Vec::new();
    if config.network == NetworkMode::Host {
        let there = [HOSTS, RESOLV].into_iter().filter(|path| Path::new(path).is_file());
        files.extend(there.map(|path| bind(Path::new(path), path)));
    } else {
        let mut write = |name: &str, text: String, path: &str| -> RtResult<()> {
            let own = folder.join(name);
            fs::write(&own, text).map_err(|error| kept("writing", &own, &error))?;
            files.push(bind(&own, path));
            Ok::<(), RuntimeError>(())
        };
        let names = [config.hostname.as_str(), config.name.as_str()].join(" ");
        let address = attachment.and_then(|attachment| attachment.ips.first());
        let own = address.map(|address| format!("{address} {}\n", names.trim())).unwrap_or_default();
        let local = if own.is_empty() { config.hostname.as_str() } else { "" };
        write("hosts", format!("127.0.0.1 localhost {local}\n::1 localhost\n{own}"), HOSTS)?;
        if let Some(attachment) = attachment {
            write("resolv.conf", resolvers(attachment), RESOLV)?;
        }
    }
    files.retain(|file| !config.mounts.iter().any(|mount| mount.path == file.path));
    Ok(files)
}

/// The servers of its networks, or the host's as far as they can be reached from a bridge.
fn resolvers(attachment: &Attachment) -> String {
    if attachment.name_servers.is_empty() {
        let hosts = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
        let is_local =
            |line: &&str| line.starts_with("nameserver") && (line.contains(" 127.") || line.contains(" ::1"));
        return hosts.lines().filter(|line| !is_local(line)).map(|line| format!("{line}\n")).collect();
    }
    attachment.name_servers.iter().map(|server| format!("nameserver {server}\n")).collect()
}
