//! How large an image may be, and what it has come to so far.

use std::cell::Cell;
use std::io::{self, Read};

use super::fault::{Fault, Outcome};

/// The most that one image may come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of all its layers, unpacked; also the most that one of its files in a layout may have.
    pub bytes: u64,
    /// Files, folders, links and other entries of all its layers.
    pub entries: u64,
    /// Layers. The kernel takes 500 in one mount; engines make 127 at most.
    pub layers: usize,
}

impl Default for ImageLimits {
    /// 4 GiB, half a million entries, 127 layers.
    fn default() -> Self {
        Self { bytes: 4 << 30, entries: 500_000, layers: 127 }
    }
}

/// What is left of an image's limits.
#[derive(Debug)]
pub(super) struct Budget {
    limits: ImageLimits,
    bytes: Cell<u64>,
    entries: Cell<u64>,
}

impl Budget {
    pub fn new(limits: &ImageLimits) -> Self {
        Self { limits: limits.clone(), bytes: Cell::new(0), entries: Cell::new(0) }
    }

    /// Bytes unpacked so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether an entry of this many bytes fits at all; told before any of it is written.
    pub fn admit(&self, what: &str, size: u64) -> Outcome<()> {
        self.entries.set(self.entries.get() + 1);
        if self.entries.get() > self.limits.entries {
            return Err(Fault::refused(format!("it has more than {} entries", self.limits.entries)));
        }
        if size > self.limits.bytes {
            return Err(Fault::refused(format!(
                "{what} has {size} bytes, more than an image may: {}",
                self.limits.bytes
            )));
        }
        Ok(())
    }

    /// A reader that counts, and fails beyond the limit.
    pub fn reader<R>(&self, inner: R) -> Counted<'_, R> {
        Counted { budget: self, inner }
    }
}

/// See [`Budget::reader`].
pub(super) struct Counted<'a, R> {
    budget: &'a Budget,
    inner: R,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(piece)?;
        self.budget.bytes.set(self.budget.bytes.get().saturating_add(read as u64));
        if self.budget.bytes.get() > self.budget.limits.bytes {
            let reason = format!("it has more than {} bytes when it is unpacked", self.budget.limits.bytes);
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        Ok(read)
    }
}
