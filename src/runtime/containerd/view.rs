//! A look at the root file system of a container that does not run: its snapshot is mounted for as long as that takes.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{file_error, make_folder};
use crate::proto::containerd_types::Mount;
use crate::runtime::adapter::{RtResult, RuntimeError};

/// The kernel takes one page of options.
const MOST_OPTIONS: usize = 4095;

/// A root file system that can be read.
pub(super) struct View {
    path: PathBuf,
    is_mounted: bool,
}

impl View {
    /// Mounts a snapshot somewhere below `dir`; one that is a folder is taken as it is.
    pub(super) fn open(dir: &Path, mounts: &[Mount]) -> RtResult<Self> {
        let [snapshot] = mounts else {
            return Err(RuntimeError::InvalidSpec { reason: format!("a snapshot of {} mounts", mounts.len()) });
        };
        if snapshot.type_ == "bind" {
            return Ok(Self { path: PathBuf::from(&snapshot.source), is_mounted: false });
        }
        let options: Vec<_> =
            snapshot.options.iter().map(String::as_str).filter(|option| !matches!(*option, "ro" | "rw")).collect();
        let options = options.join(",");
        if options.len() > MOST_OPTIONS {
            let reason = "image: it has too many layers for its users to be looked up".to_owned();
            return Err(RuntimeError::InvalidSpec { reason });
        }
        make_folder(dir)?;
        let path = dir.join(uuid::Uuid::now_v7().simple().to_string());
        make_folder(&path)?;
        let flags = MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let kind = snapshot.type_.as_str();
        if let Err(errno) = mount(Some(snapshot.source.as_str()), &path, Some(kind), flags, Some(options.as_str())) {
            // Nothing is in it.
            let _ = fs::remove_dir(&path);
            return Err(file_error("mounting a snapshot on", &path, &errno));
        }
        Ok(Self { path, is_mounted: true })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.is_mounted {
            close(&self.path);
        }
    }
}

fn close(path: &Path) {
    let unmounted = umount2(path, MntFlags::empty()).or_else(|_| umount2(path, MntFlags::MNT_DETACH));
    // Of a folder that is mounted still nothing is deleted.
    if let Err(error) = fs::remove_dir(path) {
        log::warn!("'{}' stays: {error} ({unmounted:?})", path.display());
    }
}

/// Takes down what a daemon that was killed has left.
pub(super) fn clean(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    entries.flatten().for_each(|entry| close(&entry.path()));
}
