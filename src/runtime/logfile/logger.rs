//! The process that writes a container's output for an engine which hands it descriptors: `actioncontroller
//! container-log FOLDER`, started by containerd's shim for a `binary://` log.
//!
//! Descriptors 3 and 4 are the read ends of the container's stdout and stderr, 5 is closed once the log is open. It ends
//! when both streams have ended, or at SIGTERM once it has written what there is. While it runs it holds the lock of its
//! folder ([`is_written`]), which goes with it however it ends.
//!
//! Source: `runtime/v2/logging` and `pkg/process/io.go` of containerd 1.6.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::writer::{LogWriter, Rotation};
use crate::clock::Deadline;
use crate::runtime::adapter::OutputStream;

/// The subcommand that runs this, which nobody calls by hand.
pub const COMMAND: &str = "container-log";

/// What one log takes at most: 8 MiB, half of it certainly there.
const ROTATION: Rotation = Rotation { max_bytes: 4 * 1024 * 1024, files: 2 };

/// How long the logger of the container's run before may take to end.
const LOCK_LIMIT: Duration = Duration::from_secs(5);

/// Between two tries to get the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What is read at once, bytes.
const READ: usize = 64 * 1024;

/// The log in a folder.
pub fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn lock_file(folder: &Path) -> PathBuf {
    folder.join("lock")
}

/// Whether a logger writes the log of this folder at present.
pub fn is_written(folder: &Path) -> bool {
    let Ok(file) = File::open(lock_file(folder)) else { return false };
    // Shared, so that two who ask at once do not take each other for the logger.
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Writes until both streams have ended. The log of the process itself is not started: there is nobody to read it.
pub fn run(folder: &Path) -> io::Result<()> {
    let (ending, signal) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, signal)?;
    let stdout = inherited(3)?;
    let stderr = inherited(4)?;
    let _lock = lock(folder)?;
    let mut log = LogWriter::open(&log_file(folder), ROTATION)?;
    nix::unistd::close(5)?;
    copy(&mut log, [Some(stdout), Some(stderr)], &ending)
}

/// A descriptor that this process was started with, without blocking reads.
fn inherited(number: i32) -> io::Result<File> {
    let path = format!("/proc/self/fd/{number}");
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    nix::unistd::close(number)?;
    Ok(file)
}

fn lock(folder: &Path) -> io::Result<Flock<File>> {
    let limit = Deadline::after(LOCK_LIMIT);
    let mut file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o640).open(lock_file(folder))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EWOULDBLOCK)) if !limit.is_over() => file = back,
            Err((_, errno)) => return Err(errno.into()),
        }
        std::thread::sleep(LOCK_PAUSE);
    }
}

/// Copies until both streams have ended, or until `ending` says something and nothing is left to be read.
fn copy(log: &mut LogWriter, mut streams: [Option<File>; 2], ending: &UnixStream) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    let mut is_ending = false;
    while streams.iter().any(Option::is_some) {
        let ready = await_any(&streams, ending, is_ending)?;
        is_ending |= ready[2];
        let mut has_read = false;
        for (place, stream) in [(0, OutputStream::Stdout), (1, OutputStream::Stderr)] {
            let Some(file) = streams[place].as_mut().filter(|_| ready[place]) else { continue };
            match file.read(&mut buffer) {
                Ok(0) => streams[place] = None,
                Ok(count) => {
                    has_read = true;
                    log.write(stream, &buffer[..count], now_ns());
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
                Err(error) => return Err(error),
            }
        }
        if is_ending && !has_read {
            break;
        }
    }
    Ok(())
}

fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits until something can be read; which of stdout, stderr and `ending`. Without waiting where it is ending.
fn await_any(streams: &[Option<File>; 2], ending: &UnixStream, is_ending: bool) -> io::Result<[bool; 3]> {
    let descriptors =
        [streams[0].as_ref().map(AsFd::as_fd), streams[1].as_ref().map(AsFd::as_fd), Some(ending.as_fd())];
    let mut places = Vec::new();
    let mut interests = Vec::new();
    for (place, fd) in descriptors.into_iter().enumerate() {
        // Once it is ending, that is known.
        if let Some(fd) = fd.filter(|_| place < 2 || !is_ending) {
            places.push(place);
            interests.push(PollFd::new(fd, PollFlags::POLLIN));
        }
    }
    let timeout = if is_ending { PollTimeout::ZERO } else { PollTimeout::NONE };
    match poll(&mut interests, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = [false; 3];
    for (place, interest) in places.into_iter().zip(&interests) {
        ready[place] = interest.any().unwrap_or(false);
    }
    Ok(ready)
}
