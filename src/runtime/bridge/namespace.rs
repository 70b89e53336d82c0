//! Network namespaces that stay: each is mounted on a file.

use std::fs::{self, File};
use std::path::Path;
use std::thread;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::statfs::{FsType, statfs};

use super::io_error;
use crate::runtime::adapter::{RtResult, RuntimeError};

/// The type of the file system that such a file is on (`NSFS_MAGIC`, linux/magic.h).
const NSFS: FsType = FsType(0x6e73_6673);

/// Makes a new namespace, in the place of one that is there.
pub fn make(path: &Path) -> RtResult<()> {
    remove(path);
    File::create(path).map_err(|error| io_error("making", path, &error))?;
    let made = apart(|| {
        let none: Option<&str> = None;
        mount(Some("/proc/thread-self/ns/net"), path, none, MsFlags::MS_BIND, none)
            .map_err(|error| io_error("mounting a network namespace at", path, &error))
    });
    if made.is_err() {
        remove(path);
    }
    made
}

/// Whether a namespace is mounted there.
pub fn is_there(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NSFS)
}

/// Unmounts and deletes it.
pub fn remove(path: &Path) {
    // One daemon after the other may have mounted one.
    while is_there(path) && umount2(path, MntFlags::MNT_DETACH).is_ok() {}
    let _ = fs::remove_file(path);
}

/// Works in a new network namespace, which is gone afterwards unless something keeps it.
pub fn apart<T: Send>(work: impl FnOnce() -> RtResult<T> + Send) -> RtResult<T> {
    let failed = |reason: String| RuntimeError::Io { what: "making a network namespace".to_owned(), reason };
    // A thread of its own: no other may find itself in it.
    thread::scope(|scope| {
        let worker = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, || {
            unshare(CloneFlags::CLONE_NEWNET).map_err(|error| failed(error.to_string()))?;
            work()
        });
        let worker = worker.map_err(|error| failed(error.to_string()))?;
        worker.join().unwrap_or_else(|_| Err(failed("its thread has panicked".to_owned())))
    })
}
