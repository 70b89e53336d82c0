//! [`LogWriter`]: writes a log that takes no more than so many bytes, and that stops nobody where the disk is full.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::append;
use super::rotated;
use crate::runtime::adapter::OutputStream;

/// How much a log may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rotation {
    /// The most bytes of one file.
    pub max_bytes: u64,
    /// The most files, the one that is written among them; at least 1.
    pub files: u32,
}

/// Writes one log.
pub struct LogWriter {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    /// Of the file that is written.
    size: u64,
    last_ns: u64,
    buffer: Vec<u8>,
    /// Bytes of output that could not be written since the last time that it could.
    lost: u64,
}

impl LogWriter {
    /// Goes on with the log at `path`, or begins it.
    pub fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let (file, size) = open(path)?;
        let (path, buffer) = (path.to_owned(), Vec::new());
        Ok(Self { path, rotation, file, size, last_ns: 0, buffer, lost: 0 })
    }

    /// Writes what came from a stream at `now_ns`, which never seems to fall. What cannot be written is dropped, and how
    /// much it was is said in the log once something can be.
    pub fn write(&mut self, stream: OutputStream, bytes: &[u8], now_ns: u64) {
        self.last_ns = self.last_ns.max(now_ns);
        let mut buffer = std::mem::take(&mut self.buffer);
        for part in bytes.chunks(PART) {
            buffer.clear();
            if self.lost > 0 {
                let note = format!("actioncontroller: {} bytes of output could not be written\n", self.lost);
                append(&mut buffer, self.last_ns, OutputStream::Stderr, note.as_bytes());
            }
            append(&mut buffer, self.last_ns, stream, part);
            match self.put(&buffer) {
                Ok(()) => self.lost = 0,
                Err(_) => self.lost += part.len() as u64,
            }
        }
        self.buffer = buffer;
    }

    /// Writes records: all of them or none.
    fn put(&mut self, records: &[u8]) -> io::Result<()> {
        if self.size > 0 && self.size + records.len() as u64 > self.rotation.max_bytes {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(records) {
            self.file.set_len(self.size)?;
            return Err(error);
        }
        self.size += records.len() as u64;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        if self.rotation.files <= 1 {
            // Another file takes its place, so that who reads the old one reads it to its end.
            gone(fs::remove_file(&self.path))?;
        }
        for times in (1..self.rotation.files).rev() {
            gone(fs::rename(rotated(&self.path, times - 1), rotated(&self.path, times)))?;
        }
        (self.file, self.size) = open(&self.path)?;
        Ok(())
    }
}

/// The most output that is written at once; its records are longer.
const PART: usize = 16 * 1024;

/// Opens the file for more; a line that was cut off there is ended.
fn open(path: &Path) -> io::Result<(File, u64)> {
    let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o640).open(path)?;
    let size = file.metadata()?.len();
    let mut last = [b'\n'];
    if size > 0 {
        file.read_exact_at(&mut last, size - 1)?;
    }
    if last != [b'\n'] {
        file.write_all(b"\n")?;
        return Ok((file, size + 1));
    }
    Ok((file, size))
}

/// That there is nothing to move or remove is no failure.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
