//! The state directory: made and checked, and locked against a second daemon.
//!
//! The lock is flock(2) on a file of its own, which holds the process id of who has it; the kernel gives it up with the
//! process. The id is taken out again at an orderly end, so that the next start knows whether there was one.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::unistd::Uid;

use super::OpenError;

/// The lock file's name in the state directory.
const LOCK_FILE: &str = "lock";

/// More than any process id needs.
const HOLDER_BYTES: u64 = 32;

/// The held lock of a state directory.
#[derive(Debug)]
pub(super) struct StateLock {
    file: Flock<File>,
    /// Who had it last and did not end in order.
    pub(super) left_by: Option<String>,
}

/// Makes the state directory (mode 0700) where it is absent and checks that no other user can change what is in it.
pub(super) fn prepare(dir: &Path) -> Result<(), OpenError> {
    let io = |doing| move |source| OpenError::Io { doing, path: dir.to_owned(), source };
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io("make the state directory"))?;
    let metadata = dir.metadata().map_err(io("look at the state directory"))?;
    let refuse = |reason: String| Err(OpenError::Unsafe { dir: dir.to_owned(), reason });
    if metadata.mode() & 0o002 != 0 {
        return refuse(format!("its mode is {:04o}: every user can write to it", metadata.mode() & 0o7777));
    }
    let us = Uid::effective().as_raw();
    if metadata.uid() != us && metadata.uid() != 0 {
        return refuse(format!("it belongs to user {}, not to {us}", metadata.uid()));
    }
    Ok(())
}

impl StateLock {
    /// Takes the lock or fails at once, naming the holder.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let path = dir.join(LOCK_FILE);
        let io = |doing| {
            let path = path.clone();
            move |source| OpenError::Io { doing, path, source }
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(&path)
            .map_err(io("open the lock"))?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let holder = read_holder(&mut file).unwrap_or_default();
                return Err(OpenError::Locked { dir: dir.to_owned(), holder });
            }
            Err((_, errno)) => return Err(io("take the lock")(errno.into())),
        };
        let left_by = read_holder(&mut file).map_err(io("read the lock"))?;
        write_holder(&mut file, &std::process::id().to_string()).map_err(io("write the lock"))?;
        Ok(Self { file, left_by: Some(left_by).filter(|pid| !pid.is_empty()) })
    }

    /// Marks the end as orderly. The lock itself goes with the value.
    pub(super) fn mark_orderly(&mut self) {
        if let Err(error) = write_holder(&mut self.file, "") {
            log::warn!("the lock of the state directory could not be cleared: {error}");
        }
    }
}

fn read_holder(file: &mut File) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.take(HOLDER_BYTES).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.trim().chars().filter(char::is_ascii_digit).collect())
}

fn write_holder(file: &mut File, pid: &str) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(pid.as_bytes())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn second_holder_fails_at_once_and_is_told_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateLock::take(dir.path()).unwrap();
        let error = StateLock::take(dir.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert!(error.contains(&*dir.path().to_string_lossy()), "{error}");
        drop(first);
        StateLock::take(dir.path()).unwrap();
    }

    #[test]
    fn only_a_disorderly_end_leaves_a_holder_behind() {
        let dir = tempfile::tempdir().unwrap();
        drop(StateLock::take(dir.path()).unwrap());
        let mut second = StateLock::take(dir.path()).unwrap();
        assert_eq!(second.left_by, Some(std::process::id().to_string()));
        second.mark_orderly();
        drop(second);
        assert_eq!(StateLock::take(dir.path()).unwrap().left_by, None);
    }

    #[test]
    fn directory_is_made_private_and_a_world_writable_one_refused() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b");
        prepare(&dir).unwrap();
        assert_eq!(dir.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o1777)).unwrap();
        let error = prepare(&dir).unwrap_err().to_string();
        assert!(error.contains("1777") && error.contains("a/b"), "{error}");
    }

    #[test]
    fn state_directory_that_is_a_file_is_an_error_with_its_path() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("state");
        std::fs::write(&path, "x").unwrap();
        assert!(prepare(&path).unwrap_err().to_string().contains("state"));
    }
}
