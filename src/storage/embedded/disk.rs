//! [`Disk`]: the database's file as redb reads and writes it, with counted syncs, its failures noted, and a fence.
//!
//! It takes no lock of its own: the state directory's lock (`super::lock`) keeps other processes away. The fence keeps
//! a handle that was given up from touching the file that its successor has open.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use redb::StorageBackend;

use super::fault::Fault;

/// No file of ours comes near this; a length beyond it can only have been read from damaged bytes.
const LARGEST_FILE: u64 = 1 << 40;

/// What is known of the disk over all handles of one store.
#[derive(Debug, Default)]
pub(super) struct Gauge {
    syncs: AtomicU64,
    failure: Mutex<Option<io::Error>>,
}

impl Gauge {
    /// How often the disk was made to keep what was written.
    pub(super) fn syncs(&self) -> u64 {
        self.syncs.load(Ordering::Relaxed)
    }

    /// The first failure since this was last asked. redb tells a failure once and then only that there was one.
    pub(super) fn take_failure(&self) -> Option<Fault> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take().map(Fault::from)
    }

    fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            let copy = match error.raw_os_error() {
                Some(number) => io::Error::from_raw_os_error(number),
                None => io::Error::new(error.kind(), error.to_string()),
            };
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(copy);
        }
        result
    }
}

/// Ends a handle's access to the file.
#[derive(Debug, Clone, Default)]
pub(super) struct Fence(Arc<RwLock<bool>>);

impl Fence {
    /// When this returns no access of the handle is under way, and every later one fails.
    pub(super) fn close(&self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    fn pass(&self) -> io::Result<RwLockReadGuard<'_, bool>> {
        let closed = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if *closed { Err(io::Error::other("the handle was given up")) } else { Ok(closed) }
    }
}

/// An open database file.
#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    fence: Fence,
    gauge: Arc<Gauge>,
}

impl Disk {
    /// The file behind `fence`.
    pub(super) fn new(file: File, fence: Fence, gauge: Arc<Gauge>) -> Self {
        Self { file, fence, gauge }
    }

    /// Grows the file with its space reserved, so that what is written later finds space even on a full disk, and a
    /// batch that is too large is refused before it has taken any. Where the file system cannot reserve, it only grows.
    fn grow(&self, from: u64, to: u64) -> io::Result<()> {
        let place = |value: u64| i64::try_from(value).map_err(|_| beyond("length", value));
        let reserved = fallocate(&self.file, FallocateFlags::empty(), place(from)?, place(to - from)?);
        match reserved {
            Ok(()) => Ok(()),
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => self.file.set_len(to),
            Err(errno) => {
                // Part of it may have been reserved; the length that redb knows is the old one.
                self.file.set_len(from)?;
                Err(errno.into())
            }
        }
    }
}

/// A place that no file of ours has.
fn beyond(what: &str, place: u64) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} {place} is beyond any database of ours"))
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        let _pass = self.fence.pass()?;
        self.gauge.note(self.file.metadata().map(|metadata| metadata.len()))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let _pass = self.fence.pass()?;
        if offset > LARGEST_FILE {
            return Err(beyond("offset", offset));
        }
        self.gauge.note(self.file.read_exact_at(out, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let _pass = self.fence.pass()?;
        if len > LARGEST_FILE {
            return Err(beyond("length", len));
        }
        self.gauge.note(
            self.file
                .metadata()
                .and_then(|now| if len > now.len() { self.grow(now.len(), len) } else { self.file.set_len(len) }),
        )
    }

    fn sync_data(&self) -> io::Result<()> {
        let _pass = self.fence.pass()?;
        self.gauge.syncs.fetch_add(1, Ordering::Relaxed);
        self.gauge.note(self.file.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let _pass = self.fence.pass()?;
        if offset > LARGEST_FILE {
            return Err(beyond("offset", offset));
        }
        self.gauge.note(self.file.write_all_at(data, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (Disk, Fence, Arc<Gauge>) {
        let (fence, gauge) = (Fence::default(), Arc::new(Gauge::default()));
        (Disk::new(tempfile::tempfile().unwrap(), fence.clone(), Arc::clone(&gauge)), fence, gauge)
    }

    #[test]
    fn fenced_handle_neither_reads_nor_writes() {
        let (disk, fence, _gauge) = disk();
        disk.write(0, b"abc").unwrap();
        fence.close();
        assert!(disk.read(0, &mut [0; 3]).is_err());
        assert!(disk.write(0, b"xyz").is_err());
        assert!(disk.set_len(0).is_err());
        assert!(disk.sync_data().is_err());
    }

    #[test]
    fn failure_is_told_once_with_its_own_words() {
        let (disk, _fence, gauge) = disk();
        assert!(disk.read(0, &mut [0; 3]).is_err());
        assert!(matches!(gauge.take_failure(), Some(Fault::Damaged(_))));
        assert!(gauge.take_failure().is_none());
    }

    #[test]
    fn growth_reserves_its_space() {
        use std::os::unix::fs::MetadataExt;
        let (disk, _fence, _gauge) = disk();
        disk.set_len(1 << 20).unwrap();
        let grown = disk.file.metadata().unwrap();
        assert_eq!(grown.len(), 1 << 20);
        assert!(grown.blocks() * 512 >= 1 << 20, "{} blocks", grown.blocks());
        disk.set_len(4096).unwrap();
        assert_eq!(disk.len().unwrap(), 4096);
    }

    #[test]
    fn impossible_places_are_damage_and_not_a_refusal_of_the_system() {
        let (disk, _fence, _gauge) = disk();
        for error in [disk.set_len(u64::MAX).unwrap_err(), disk.read(u64::MAX - 1, &mut [0; 8]).unwrap_err()] {
            assert!(matches!(Fault::from(error), Fault::Damaged(_)));
        }
    }
}
