//! Unit files of this node.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::text::drop_in;

use crate::runtime::adapter::RtResult;
use crate::runtime::shared::durable::kept;

/// A folder that systemd looks for units in.
pub struct UnitFiles(PathBuf);

impl UnitFiles {
    /// Those there.
    pub fn new(dir: PathBuf) -> Self {
        Self(dir)
    }

    fn drop_in_dir(&self, unit: &str) -> PathBuf {
        self.0.join(format!("{unit}.d"))
    }

    /// Writes a unit's text, and what is ours beside it. systemd sees it with its next reload.
    pub fn write(&self, unit: &str, text: &str) -> RtResult<()> {
        self.write_beside(unit)?;
        write(&self.0.join(unit), text)
    }

    /// Writes what is ours beside a unit that somebody else writes.
    pub fn write_beside(&self, unit: &str) -> RtResult<()> {
        let dir = self.drop_in_dir(unit);
        fs::create_dir_all(&dir).map_err(|error| kept("making", &dir, &error))?;
        write(&dir.join("50-actioncontroller.conf"), &drop_in())
    }

    /// Deletes them, where they are there.
    pub fn delete(&self, unit: &str) -> RtResult<()> {
        let (file, dir) = (self.0.join(unit), self.drop_in_dir(unit));
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(&file)).map_err(|error| kept("deleting", &file, &error))?;
        gone(fs::remove_dir_all(&dir)).map_err(|error| kept("deleting", &dir, &error))
    }
}

fn write(path: &Path, text: &str) -> RtResult<()> {
    fs::write(path, text).map_err(|error| kept("writing", path, &error))
}
