//! How making an image present fails, before it is known as an error of the port.

use std::io;
use std::time::Instant;

use crate::runtime::adapter::{Call, RuntimeError};

/// A result inside the image store.
pub(super) type Outcome<T> = Result<T, Fault>;

/// Why an image cannot be used.
#[derive(Debug)]
pub(super) enum Fault {
    /// The image is damaged, hostile, or of a kind that is not supported.
    Refused(String),
    /// The file system is full: what was being written.
    Full(String),
    /// Anything that is not the image's fault.
    Call(RuntimeError),
}

impl Fault {
    /// The image is at fault.
    pub fn refused(reason: impl Into<String>) -> Self {
        Self::Refused(reason.into())
    }

    /// The system failed at `what`.
    pub fn io(what: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(what.into()),
            _ => Self::Call(RuntimeError::Io { what: what.into(), reason: error.to_string() }),
        }
    }

    /// The content of `what` cannot be read: the image's fault unless it is the system's.
    pub fn content(what: impl Into<String>, error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(_) => Self::io(what, error),
            None => Self::Refused(format!("{}: {error}", what.into())),
        }
    }

    /// As the port has it. `needed` and `free` are bytes: what the image comes to at least, and what was free for it.
    pub fn of_image(self, image: &str, needed: u64, free: u64) -> RuntimeError {
        match self {
            Self::Refused(reason) => RuntimeError::ImagePull { image: image.to_owned(), reason },
            Self::Full(what) => {
                // Of what it would have come to in full, this is known.
                let needed = needed.max(free.saturating_add(1));
                RuntimeError::NoRoom { what: format!("image '{image}' ({what})"), needed, limit: free }
            }
            Self::Call(error) => error,
        }
    }

    /// As the port has what no pull is about.
    pub fn of_store(self) -> RuntimeError {
        match self {
            Self::Refused(reason) => RuntimeError::InvalidSpec { reason },
            Self::Full(what) => RuntimeError::Io { what, reason: "the file system is full".to_owned() },
            Self::Call(error) => error,
        }
    }
}

/// Whether the call may go on.
#[derive(Clone, Copy)]
pub(super) struct Watch<'a> {
    call: &'a Call<'a>,
    op: &'a str,
    begun: Instant,
}

impl<'a> Watch<'a> {
    /// Watches the call from now on; `op` is what errors call it.
    pub fn new(call: &'a Call<'a>, op: &'a str) -> Self {
        Self { call, op, begun: Instant::now() }
    }

    /// The call that is watched.
    pub fn call(&self) -> &'a Call<'a> {
        self.call
    }

    /// What errors call it.
    pub fn op(&self) -> &'a str {
        self.op
    }

    /// The error of a call that was cancelled or has no time left.
    pub fn check(&self) -> Outcome<()> {
        if self.call.cancel.is_cancelled() {
            return Err(Fault::Call(RuntimeError::Cancelled { op: self.op.to_owned() }));
        }
        if self.call.deadline.is_over() {
            return Err(Fault::Call(RuntimeError::Timeout { op: self.op.to_owned(), after: self.begun.elapsed() }));
        }
        Ok(())
    }

    /// The outcome, unless the call is over: whatever failed then failed for that.
    pub fn settle<T>(&self, outcome: Outcome<T>) -> Outcome<T> {
        outcome.or_else(|fault| self.check().and(Err(fault)))
    }

    /// A reader that fails once the call is over. What comes of it goes through [`Watch::settle`].
    pub fn reader<R>(self, inner: R) -> Watched<'a, R> {
        Watched { watch: self, inner }
    }
}

/// See [`Watch::reader`].
pub(super) struct Watched<'a, R> {
    watch: Watch<'a>,
    inner: R,
}

impl<R: io::Read> io::Read for Watched<'_, R> {
    fn read(&mut self, piece: &mut [u8]) -> io::Result<usize> {
        match self.watch.check() {
            Ok(()) => self.inner.read(piece),
            Err(_) => Err(io::Error::other("the call is over")),
        }
    }
}
