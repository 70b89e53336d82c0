//! Volumes of engines that have none of their own: a folder each, or a tmpfs that is mounted there, with their labels beside.
//!
//! ```text
//! DIR/NAME.json   labels and size
//! DIR/NAME/       content
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::{Deserialize, Serialize};

use super::durable::{self, kept};
use super::owned::{is_of_workload, is_ours, owner_of};
use crate::runtime::adapter::{Change, ContainerConfig, Mount, MountSource, RtResult, RuntimeError, VolumeSpec};
use crate::runtime::specification::Bind;

/// The largest file of ours that is read, bytes.
const MOST: u64 = 1024 * 1024;

/// What is kept of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    labels: BTreeMap<String, String>,
    tmpfs_bytes: Option<u64>,
}

/// The volumes of this node's.
pub struct Volumes {
    dir: PathBuf,
    node: String,
}

impl Volumes {
    /// Opens or makes the folder.
    pub fn open(dir: &Path, node: &str) -> RtResult<Self> {
        fs::create_dir_all(dir).map_err(|error| kept("making", dir, &error))?;
        Ok(Self { dir: dir.to_owned(), node: node.to_owned() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.json"))
    }

    fn find(&self, name: &str) -> RtResult<Option<Kept>> {
        check_name(name)?;
        let path = self.file(name);
        let Some(text) = durable::read(&path, MOST).map_err(|error| kept("reading", &path, &error))? else {
            return Ok(None);
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| kept("reading", &path, &error))
    }

    /// Where the content of all of them lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes the volume present. One of that name that is not this node's is `AlreadyExists`.
    pub fn ensure(&self, volume: &VolumeSpec) -> RtResult<Change> {
        if let Some(found) = self.find(&volume.name)? {
            return owner_of(&self.node, "volume", &volume.name, &found.labels);
        }
        let folder = self.dir.join(&volume.name);
        fs::create_dir_all(&folder).map_err(|error| kept("making", &folder, &error))?;
        let found = Kept { labels: volume.labels.clone(), tmpfs_bytes: volume.tmpfs_bytes };
        let path = self.file(&volume.name);
        let text = serde_json::to_vec(&found).map_err(|error| kept("writing", &path, &error))?;
        durable::replace(&path, &text).map_err(|error| kept("writing", &path, &error))?;
        Ok(Change::Changed)
    }

    /// Deletes the volume if it is this node's.
    pub fn remove(&self, name: &str) -> RtResult<Change> {
        let Some(found) = self.find(name)? else { return Ok(Change::Unchanged) };
        if !is_ours(&self.node, &found.labels) {
            return Ok(Change::Unchanged);
        }
        let folder = self.dir.join(name);
        if is_mounted(&folder) {
            umount2(&folder, MntFlags::MNT_DETACH).map_err(|error| kept("unmounting", &folder, &error))?;
        }
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(kept("deleting", &folder, &error)),
            Ok(()) | Err(_) => {}
        }
        let path = self.file(name);
        fs::remove_file(&path).map_err(|error| kept("deleting", &path, &error))?;
        Ok(Change::Changed)
    }

    /// Deletes the volume, unless one of these containers has it.
    pub fn remove_unused<'a>(
        &self,
        name: &str,
        containers: impl IntoIterator<Item = &'a ContainerConfig>,
    ) -> RtResult<Change> {
        let is_it = |mount: &Mount| matches!(&mount.source, MountSource::Volume(of, _) if of == name);
        match containers.into_iter().find(|container| container.mounts.iter().any(is_it)) {
            None => self.remove(name),
            Some(user) => Err(in_use(name, &user.name)),
        }
    }

    /// The names of those that belong to the workload.
    pub fn of_workload(&self, workload: &str) -> RtResult<Vec<String>> {
        let failed = |error: io::Error| kept("reading", &self.dir, &error);
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let file = entry.map_err(failed)?.file_name();
            let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".json")) else { continue };
            let is_its = |kept: Kept| is_of_workload(&self.node, &kept.labels, workload);
            if self.find(name)?.is_some_and(is_its) {
                found.push(name.to_owned());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Whether a volume is there and in memory: mounted by this process, and seen by those alone who share its mounts.
    pub fn is_in_memory(&self, name: &str) -> RtResult<bool> {
        Ok(self.find(name)?.is_some_and(|found| found.tmpfs_bytes.is_some()))
    }

    /// A volume's folder with its content: what is in memory is mounted where it is not.
    fn content(&self, name: &str) -> RtResult<Option<PathBuf>> {
        let Some(found) = self.find(name)? else { return Ok(None) };
        let folder = self.dir.join(name);
        if let Some(bytes) = found.tmpfs_bytes
            && !is_mounted(&folder)
        {
            let size = if bytes == 0 { String::new() } else { format!(",size={bytes}") };
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            let options = format!("mode=1777{size}");
            mount(Some("tmpfs"), &folder, Some("tmpfs"), flags, Some(options.as_str()))
                .map_err(|error| kept("mounting", &folder, &error))?;
        }
        Ok(Some(folder))
    }

    /// A path below a volume, as a mount has it.
    fn source(&self, name: &str, below: &str, what: &str) -> RtResult<PathBuf> {
        let invalid = |why| RuntimeError::InvalidSpec { reason: format!("{what}: '{below}': {why}") };
        match self.content(name)? {
            Some(folder) => within(&folder, below).map_err(invalid),
            None => Err(RuntimeError::NotFound { what: format!("volume '{name}'") }),
        }
    }

    /// For an engine that keeps the sources which [`binds`] gave, before each start: what is in memory is mounted again
    /// after a boot, and a link that a container has put in the way since is refused. Other paths are left alone.
    pub fn renew(&self, source: &Path) -> RtResult<()> {
        let Some(inside) = source.strip_prefix(&self.dir).ok().and_then(Path::to_str) else { return Ok(()) };
        let (name, below) = inside.split_once('/').unwrap_or((inside, ""));
        self.source(name, below, &format!("mount of volume '{name}'")).map(drop)
    }
}

/// The error of a volume that a container has.
pub fn in_use(volume: &str, user: &str) -> RuntimeError {
    let (op, id, state) = ("volume remove".to_owned(), volume.to_owned(), format!("in use by '{user}'"));
    RuntimeError::InvalidState { op, id, state }
}

/// What the container mounts from the node.
pub fn binds(volumes: &Volumes, config: &ContainerConfig) -> RtResult<Vec<Bind>> {
    let mut binds = Vec::new();
    for (index, mount) in config.mounts.iter().enumerate() {
        let invalid = |why: String| RuntimeError::InvalidSpec { reason: format!("mounts[{index}]: {why}") };
        let source = match &mount.source {
            MountSource::Bind(source) if source.starts_with('/') => {
                fs::metadata(source).map_err(|error| invalid(format!("'{source}': {error}")))?;
                PathBuf::from(source)
            }
            MountSource::Bind(source) => return Err(invalid(format!("'{source}' is not absolute"))),
            MountSource::Volume(name, below) => volumes.source(name, below, &format!("mounts[{index}]"))?,
        };
        binds.push(Bind { source, path: mount.path.clone(), read_only: mount.read_only });
    }
    Ok(binds)
}

/// The path below a volume's folder, made where it is absent; links that lead out of it are refused, as a container may
/// have made them.
fn within(folder: &Path, below: &str) -> Result<PathBuf, String> {
    if below.is_empty() {
        return Ok(folder.to_owned());
    }
    let parts = Path::new(below).components();
    let mut path = folder.to_owned();
    for part in parts {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => continue,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => {
                return Err("leads elsewhere".to_owned());
            }
        }
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => return Err(format!("'{}' is a link", path.display())),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir(&path).map_err(|error| error.to_string())?;
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(path)
}

fn check_name(name: &str) -> RtResult<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with('.') || !name.chars().all(is_plain) {
        return Err(RuntimeError::InvalidSpec { reason: format!("volume '{name}': this is no name of a volume") });
    }
    Ok(())
}

fn is_mounted(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let Some(folder) = folder.to_str() else { return false };
    mounts.lines().any(|line| line.split(' ').nth(1) == Some(folder))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::workload::labels;

    fn volume(name: &str, node: &str, workload: &str) -> VolumeSpec {
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let labels = BTreeMap::from([label(labels::NODE, node), label(labels::WORKLOAD, workload)]);
        VolumeSpec { name: name.into(), labels, tmpfs_bytes: None }
    }

    #[test]
    fn volume_is_made_once_and_removed_by_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let ours = Volumes::open(dir.path(), "here").unwrap();
        let theirs = Volumes::open(dir.path(), "there").unwrap();
        assert_eq!(ours.ensure(&volume("v", "here", "w")), Ok(Change::Changed));
        assert_eq!(ours.ensure(&volume("v", "here", "w")), Ok(Change::Unchanged));
        assert!(matches!(theirs.ensure(&volume("v", "there", "w")), Err(RuntimeError::AlreadyExists { .. })));
        assert_eq!(theirs.remove("v"), Ok(Change::Unchanged));
        assert_eq!(ours.of_workload("w").unwrap(), ["v"]);
        assert_eq!(ours.of_workload("x").unwrap(), Vec::<String>::new());
        assert_eq!(ours.remove("v"), Ok(Change::Changed));
        assert_eq!(ours.remove("v"), Ok(Change::Unchanged));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(ours.ensure(&volume("../v", "here", "w")).is_err());
    }

    #[test]
    fn path_within_a_volume_does_not_lead_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("v");
        fs::create_dir(&folder).unwrap();
        assert_eq!(within(&folder, "a/b").unwrap(), folder.join("a/b"));
        assert!(folder.join("a/b").is_dir());
        std::os::unix::fs::symlink("/", folder.join("out")).unwrap();
        for below in ["../x", "/etc", "out/etc", "a/../../x"] {
            assert!(within(&folder, below).is_err(), "{below}");
        }
    }

    #[test]
    fn source_that_is_kept_is_made_again_and_refused_once_it_is_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let volumes = Volumes::open(dir.path(), "here").unwrap();
        volumes.ensure(&volume("v", "here", "w")).unwrap();
        let source = volumes.source("v", "a/b", "it").unwrap();
        assert_eq!((volumes.renew(&source), volumes.renew(&dir.path().join("v"))), (Ok(()), Ok(())));
        assert_eq!(volumes.renew(Path::new("/etc/hosts")), Ok(()), "it is no volume's");
        fs::remove_dir_all(dir.path().join("v/a")).unwrap();
        assert_eq!((volumes.renew(&source), source.is_dir()), (Ok(()), true));
        fs::remove_dir(&source).unwrap();
        std::os::unix::fs::symlink("/etc", &source).unwrap();
        let refused = volumes.renew(&source).unwrap_err().to_string();
        assert!(refused.contains("volume 'v'") && refused.contains("is a link"), "{refused}");
        volumes.remove("v").unwrap();
        assert!(matches!(volumes.renew(&source), Err(RuntimeError::NotFound { .. })));
    }
}
