//! A root file system for a container that needs no image: a folder with nothing but the host's own programs, which are
//! bound into it read-only.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use uuid::Uuid;

use crate::runtime::adapter::{RtResult, RuntimeError};

/// The host's folders that a program of it needs.
const PROGRAMS: [&str; 5] = ["/usr", "/bin", "/sbin", "/lib", "/lib64"];

/// Those that are bound: where `/lib` is a link to `/usr/lib`, the root has the same link.
pub fn programs() -> impl Iterator<Item = &'static str> {
    PROGRAMS.into_iter().filter(|folder| Path::new(folder).is_dir() && !Path::new(folder).is_symlink())
}

/// What the folder's name begins with.
const NAME: &str = "actioncontroller-proof-";

/// Whether a folder of this name is one of those, left by a daemon that was killed.
pub fn is_root(name: &str) -> bool {
    name.starts_with(NAME)
}

/// The folder, deleted when this is dropped: the container has to be gone by then.
pub struct TinyRoot(PathBuf);

impl TinyRoot {
    /// Makes it in a folder that is there.
    pub fn make(dir: &Path) -> RtResult<Self> {
        let root = Self(dir.join(format!("{NAME}{}", Uuid::now_v7().simple())));
        root.fill().map_err(|error| RuntimeError::Io {
            what: format!("making the folder '{}' for a proof", root.0.display()),
            reason: error.to_string(),
        })?;
        Ok(root)
    }

    /// One that was left at this place.
    pub fn left_at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The folders that a runtime mounts over, and the host's own links.
    fn fill(&self) -> io::Result<()> {
        fs::create_dir(&self.0)?;
        for folder in ["dev", "proc", "sys", "etc", "run", "tmp", "var"] {
            fs::create_dir(self.0.join(folder))?;
        }
        for folder in PROGRAMS.iter().map(Path::new) {
            let below = self.0.join(folder.strip_prefix("/").unwrap_or(folder));
            if let Ok(target) = fs::read_link(folder) {
                symlink(target, below)?;
            } else if folder.is_dir() {
                fs::create_dir(below)?;
            }
        }
        Ok(())
    }
}

impl Drop for TinyRoot {
    /// Only what was made is removed, and what an engine puts into any root: should anything still be mounted there, it is
    /// not touched.
    fn drop(&mut self) {
        let Ok(entries) = fs::read_dir(&self.0) else { return };
        for path in entries.flatten().map(|entry| entry.path()) {
            let is_hosts = PROGRAMS.iter().any(|folder| self.0.join(folder.trim_start_matches('/')) == path);
            let inside = if is_hosts || path.is_symlink() { None } else { fs::read_dir(&path).ok() };
            inside.into_iter().flatten().flatten().for_each(|file| remove(&file.path()));
            remove(&path);
        }
        if let Err(error) = fs::remove_dir(&self.0) {
            log::warn!("'{}' of a proof stays: {error}", self.0.display());
        }
    }
}

/// A file, a link or an empty folder; what is left is told with the folder that it is in.
fn remove(path: &Path) {
    let _ = if path.is_dir() && !path.is_symlink() { fs::remove_dir(path) } else { fs::remove_file(path) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_the_host_s_programs_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let root = TinyRoot::make(dir.path()).unwrap();
        assert!(programs().any(|folder| folder == "/usr") && root.path().join("usr").is_dir());
        fs::write(root.path().join("etc/hosts"), "").unwrap();
        drop(root);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(TinyRoot::make(&dir.path().join("absent")).is_err());
    }
}
