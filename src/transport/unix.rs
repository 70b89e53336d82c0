//! The wire beneath [`http`](super::http): a unix stream socket that ends with a deadline or a cancelled token.
//!
//! One `Link` per request: connections are never reused, so a cancel always hits the request it is meant for and a
//! peer that closed an idle connection is never mistaken for one that failed.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport};
use ureq::{Error, Timeout};

use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;

/// Bytes buffered per direction and connection; also the longest head of an answer.
pub(super) const BUFFER: usize = 32 * 1024;

/// Between two attempts while the peer's queue of unaccepted connections is full. Short, because the peer is local.
const CONNECT_RETRY: Duration = Duration::from_millis(10);

/// What of one request is shared with whoever cancels it.
pub(super) struct Link {
    state: Mutex<LinkState>,
}

struct LinkState {
    /// `None`: reads wait without end; only a shutdown ends them.
    deadline: Option<Deadline>,
    stream: Option<Arc<UnixStream>>,
    /// Set before `stream` when the cancel came first.
    shut: bool,
}

impl Link {
    pub(super) fn new(deadline: Deadline) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(LinkState { deadline: Some(deadline), stream: None, shut: false }) })
    }

    fn lock(&self) -> MutexGuard<'_, LinkState> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the connection for both sides: a read that blocks returns at once. Does not block.
    pub(super) fn shut_down(&self) {
        let mut state = self.lock();
        state.shut = true;
        if let Some(stream) = &state.stream {
            // An error means that it is closed already.
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }

    /// From now on reads wait without end.
    pub(super) fn lift_deadline(&self) {
        self.lock().deadline = None;
    }

    /// Whether the time was over.
    pub(super) fn is_late(&self) -> bool {
        self.lock().deadline.is_some_and(|deadline| deadline.is_over())
    }

    fn attach(&self, stream: &Arc<UnixStream>) -> io::Result<()> {
        let mut state = self.lock();
        if state.shut {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        state.stream = Some(Arc::clone(stream));
        Ok(())
    }

    /// What is left for the next read or write; `None` is without end.
    fn remaining(&self) -> Result<Option<Duration>, Error> {
        match self.lock().deadline.map(|deadline| deadline.remaining()) {
            Some(left) if left.is_zero() => Err(Error::Timeout(Timeout::Global)),
            left => Ok(left),
        }
    }
}

/// Opens the socket for the one request that `link` belongs to.
pub(super) struct UnixConnector {
    pub(super) path: PathBuf,
    pub(super) link: Arc<Link>,
    pub(super) cancel: CancelToken,
    pub(super) deadline: Deadline,
}

impl fmt::Debug for UnixConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixConnector").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Connector for UnixConnector {
    type Out = UnixTransport;

    fn connect(&self, _details: &ConnectionDetails, _chained: Option<()>) -> Result<Option<Self::Out>, Error> {
        let stream = Arc::new(open(&self.path, self.deadline, &self.cancel)?);
        self.link.attach(&stream)?;
        Ok(Some(UnixTransport { stream, link: Arc::clone(&self.link), buffers: LazyBuffers::new(BUFFER, BUFFER) }))
    }
}

/// Connects within the deadline. A unix socket connects at once or says that the peer's queue is full, which is the
/// one case to wait for: a peer that does not accept.
fn open(path: &Path, deadline: Deadline, cancel: &CancelToken) -> Result<UnixStream, Error> {
    let address = UnixAddr::new(path).map_err(io::Error::from)?;
    open_socket(&address, deadline, cancel).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => Error::Timeout(Timeout::Connect),
        _ => error.into(),
    })
}

/// As [`open`]; the end of the time is `TimedOut`, a cancel `ConnectionAborted`.
pub(super) fn open_socket(address: &UnixAddr, deadline: Deadline, cancel: &CancelToken) -> io::Result<UnixStream> {
    loop {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        match connect(fd.as_raw_fd(), address) {
            Ok(()) => {
                let stream = UnixStream::from(fd);
                stream.set_nonblocking(false)?;
                return Ok(stream);
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if deadline.is_over() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if cancel.wait(Urge::Cancel, deadline.at_most(CONNECT_RETRY)) == Urge::Cancel {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
    }
}

/// Whether anybody takes connections on the socket: one is opened and closed again. Gives the number of the process that
/// listens; 0 for one of another namespace.
pub fn knock(path: &Path, deadline: Deadline, cancel: &CancelToken) -> io::Result<i32> {
    let stream = open(path, deadline, cancel).map_err(Error::into_io)?;
    Ok(getsockopt(&stream, PeerCredentials)?.pid())
}

/// One connection.
pub(super) struct UnixTransport {
    stream: Arc<UnixStream>,
    link: Arc<Link>,
    buffers: LazyBuffers,
}

impl fmt::Debug for UnixTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnixTransport").finish_non_exhaustive()
    }
}

/// Whether a socket timeout ended the call; Linux says EAGAIN.
fn timed_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _timeout: NextTimeout) -> Result<(), Error> {
        let mut rest = &self.buffers.output()[..amount];
        while !rest.is_empty() {
            self.stream.set_write_timeout(self.link.remaining()?)?;
            match (&*self.stream).write(rest) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                Ok(written) => rest = &rest[written..],
                Err(error) if timed_out(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn await_input(&mut self, _timeout: NextTimeout) -> Result<bool, Error> {
        loop {
            self.stream.set_read_timeout(self.link.remaining()?)?;
            let space = self.buffers.input_append_buf();
            match (&*self.stream).read(space) {
                Ok(amount) => {
                    self.buffers.input_appended(amount);
                    return Ok(amount > 0);
                }
                // The loop's start tells a deadline that is over from a wake-up that came early.
                Err(error) if timed_out(&error) || error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn is_open(&mut self) -> bool {
        // Never pooled, see the header.
        false
    }
}

/// Answers every name with one address that is never used: the connector has the path.
#[derive(Debug)]
pub(super) struct NoResolver;

impl Resolver for NoResolver {
    fn resolve(&self, _uri: &Uri, _config: &Config, _timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let mut addresses = self.empty();
        addresses.push(([127, 0, 0, 1], 0).into());
        Ok(addresses)
    }
}
