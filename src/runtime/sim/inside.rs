//! What a simulated program finds inside its container: its environment, user, network interfaces and files.
//!
//! Files are texts in the engine's memory, by place: `bind:/host/path`, `volume:NAME:/path` or `root:ID:/path`. No file
//! of the host is ever touched.

use std::collections::BTreeMap;

use crate::model::workload::NetworkMode;
use crate::runtime::adapter::{ContainerConfig, Mount, MountSource, PodSpec};

use super::script::Inside;

/// The most files that the engine holds.
const MAX_FILES: usize = 10_000;

/// A container as its program sees it.
pub(super) struct View<'a> {
    pub id: &'a str,
    pub config: &'a ContainerConfig,
    pub pods: &'a BTreeMap<String, PodSpec>,
    pub files: &'a mut BTreeMap<String, String>,
}

/// Where the files of a container's own root file system are.
pub(super) fn root_place(id: &str) -> String {
    format!("root:{id}:")
}

/// Where a volume's files are.
pub(super) fn volume_place(name: &str) -> String {
    format!("volume:{name}:")
}

/// A path with neither `.`, `..` nor double slashes, beginning with a slash; the root is empty.
fn normal(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.iter().map(|part| format!("/{part}")).collect()
}

impl View<'_> {
    /// The place of a path, and whether it may be written.
    fn place(&self, path: &str) -> (String, bool) {
        let path = normal(path);
        let below = |mount: &Mount| {
            let rest = path.strip_prefix(normal(&mount.path).as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| rest.to_owned())
        };
        let found = self.config.mounts.iter().filter_map(|mount| Some((mount, below(mount)?)));
        match found.min_by_key(|(_, rest)| rest.len()) {
            Some((mount, rest)) => {
                let place = match &mount.source {
                    MountSource::Bind(source) => format!("bind:{}{rest}", normal(source)),
                    MountSource::Volume(name, sub) => format!("{}{}{rest}", volume_place(name), normal(sub)),
                };
                (place, !mount.read_only)
            }
            None => (format!("{}{path}", root_place(self.id)), !self.config.spec.security.read_only_root),
        }
    }
}

impl Inside for View<'_> {
    fn env(&self, name: &str) -> Option<String> {
        // As an engine does: of several of one name the last counts.
        self.config.spec.env.iter().rev().find(|var| var.name == name).map(|var| var.value.clone())
    }

    fn user(&self) -> String {
        let security = &self.config.spec.security;
        format!("{}:{}", security.run_as_user.unwrap_or(0), security.run_as_group.unwrap_or(0))
    }

    fn interfaces(&self) -> Vec<String> {
        let pod = self.config.pod.as_ref().and_then(|pod| self.pods.get(pod));
        let count = match pod.map_or(&self.config.network, |pod| &pod.network) {
            NetworkMode::None => 0,
            NetworkMode::Host | NetworkMode::Bridge => 1,
            NetworkMode::Named(names) => names.len(),
        };
        std::iter::once("lo".to_owned()).chain((0..count).map(|n| format!("eth{n}"))).collect()
    }

    fn read(&self, path: &str) -> Result<String, String> {
        let (place, _) = self.place(path);
        self.files.get(&place).cloned().ok_or_else(|| format!("{path}: No such file or directory"))
    }

    fn write(&mut self, path: &str, text: &str) -> Result<(), String> {
        let (place, writable) = self.place(path);
        if !writable {
            return Err(format!("{path}: Read-only file system"));
        }
        if self.files.len() >= MAX_FILES && !self.files.contains_key(&place) {
            return Err(format!("{path}: No space left on device"));
        }
        self.files.insert(place, text.to_owned());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_one_whatever_their_spelling() {
        assert_eq!(normal("//a/./b/../c/"), "/a/c");
        assert_eq!(normal("/../.."), "");
    }
}
