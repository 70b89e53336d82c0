//! [`Fault`]: how the database failed, sorted by what has to be done about it.
//!
//! The one place that knows redb's errors. What matters most is told apart here: a file that is damaged (it may be
//! moved aside) from a disk that does not let us (it must not be).

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

use nix::errno::Errno;

use crate::storage::StoreError;

/// A failure of the database, by its remedy.
#[derive(Debug)]
pub(super) enum Fault {
    /// No space, or a limit on it; nothing is wrong with the file.
    Full(String),
    /// The operating system refused or failed; nothing is known against the file.
    Io(io::Error),
    /// The handle failed earlier and has to be opened again.
    Latched,
    /// There is no handle, for the reason told.
    Unopened(String),
    /// The file is not what this program wrote.
    Damaged(String),
    /// The file is of a format that only a newer program knows.
    Newer(u64),
}

impl Fault {
    /// The fault in words.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Full(text) | Self::Damaged(text) | Self::Unopened(text) => text.clone(),
            Self::Io(error) => error.to_string(),
            Self::Latched => "an earlier failure of its file".to_owned(),
            Self::Newer(found) => format!("it has format {found} of a newer program"),
        }
    }

    /// What a reader of `key` is told.
    pub(super) fn for_read(&self, key: &str) -> StoreError {
        match self {
            Self::Damaged(reason) => StoreError::Damaged { key: key.to_owned(), reason: reason.clone() },
            Self::Full(_) | Self::Io(_) | Self::Latched | Self::Unopened(_) | Self::Newer(_) => {
                StoreError::Unavailable(self.text())
            }
        }
    }

    /// What the caller of a commit is told, of which nothing was applied.
    pub(super) fn for_commit(&self) -> StoreError {
        match self {
            Self::Full(text) => StoreError::Full(text.clone()),
            Self::Io(_) | Self::Latched | Self::Unopened(_) | Self::Damaged(_) | Self::Newer(_) => {
                StoreError::Unavailable(format!("{}; nothing was applied", self.text()))
            }
        }
    }
}

/// Whether the error says that there is no space: disk, quota or file size limit.
pub(super) fn is_full(error: &io::Error) -> bool {
    let full = [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG];
    error.raw_os_error().is_some_and(|number| full.contains(&Errno::from_raw(number)))
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        // Without a number it is not the system's: redb or `Disk` found the content impossible.
        if is_full(&error) {
            Self::Full(error.to_string())
        } else if error.raw_os_error().is_some() {
            Self::Io(error)
        } else {
            Self::Damaged(error.to_string())
        }
    }
}

impl From<redb::Error> for Fault {
    fn from(error: redb::Error) -> Self {
        match error {
            redb::Error::Io(error) => error.into(),
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => Self::Latched,
            // Whatever else redb reports about a file that only this program writes is a fault of the file.
            other => Self::Damaged(other.to_string()),
        }
    }
}

/// Lets `?` take each of redb's error types.
macro_rules! from_redb {
    ($($error:ty),*) => {
        $(impl From<$error> for Fault {
            fn from(error: $error) -> Self {
                redb::Error::from(error).into()
            }
        })*
    };
}

from_redb!(redb::StorageError, redb::TableError, redb::TransactionError, redb::CommitError, redb::DatabaseError);

/// Runs `work` and makes a panic in it a [`Fault::Damaged`]: redb asserts some properties of its file.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Fault::Damaged(format!("the database gave up: {}", panic_text(&*panic)))))
}

/// The words of a panic.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_content_shows_counts_as_damage() {
        let by_number = |errno: Errno| Fault::from(io::Error::from_raw_os_error(errno as i32));
        assert!(matches!(by_number(Errno::EIO), Fault::Io(_)));
        assert!(matches!(by_number(Errno::EACCES), Fault::Io(_)));
        assert!(matches!(by_number(Errno::ENOSPC), Fault::Full(_)));
        assert!(matches!(by_number(Errno::EDQUOT), Fault::Full(_)));
        assert!(matches!(Fault::from(io::Error::from(io::ErrorKind::UnexpectedEof)), Fault::Damaged(_)));
        assert!(matches!(Fault::from(redb::Error::Corrupted("x".to_owned())), Fault::Damaged(_)));
        assert!(matches!(Fault::from(redb::Error::PreviousIo), Fault::Latched));
    }

    #[test]
    fn panic_becomes_damage_with_its_words() {
        let fault = guarded::<()>(|| panic!("page {} is odd", 7)).unwrap_err();
        assert!(matches!(&fault, Fault::Damaged(text) if text.contains("page 7 is odd")), "{fault:?}");
    }
}
