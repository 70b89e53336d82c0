//! The process that writes a container's output for an engine which hands it descriptors: `actioncontroller
//! container-log FOLDER`, started by containerd's shim for a `binary://` log.
//!
//! Descriptors 3 and 4 are the read ends of the container's stdout and stderr, 5 is closed once the log is open. It ends
//! when both streams have ended, or once it has written what there is where it is told to end. The shim holds the write
//! ends for as long as there is a task, so that whoever knows that the container has ended has to tell it: by a byte in
//! the pipe that is the logger's own ([`running`]). The shim tells it by SIGTERM, as the task is deleted.
//!
//! While it runs it holds the lock of its folder ([`is_written`]), which goes with it however it ends.
//!
//! Source: `runtime/v2/logging` and `pkg/process/io.go` of containerd 1.6.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

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

/// How long a logger that is told to end goes on where there is always more to be read: the container has ended, but a
/// process that outlived it may write for ever.
const END_LIMIT: Duration = Duration::from_secs(1);

/// How long it waits then for more: of a terminal the shim hands the output on, after the end too.
const LAST_WAIT: Duration = Duration::from_millis(10);

/// What is read at once, bytes.
const READ: usize = 64 * 1024;

/// The log in a folder.
pub fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

fn lock_file(folder: &Path) -> PathBuf {
    folder.join("lock")
}

/// By this pipe a logger is told to end. Each logger makes its own: what was for one never reaches the next.
fn end_pipe(folder: &Path) -> PathBuf {
    folder.join("end")
}

/// A logger that runs.
#[derive(Debug)]
pub struct Running(File);

/// The logger that writes the log of this folder at present.
pub fn running(folder: &Path) -> Option<Running> {
    // Without a reader the pipe cannot be opened.
    let pipe = OpenOptions::new().write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(end_pipe(folder));
    pipe.ok().map(Running)
}

impl Running {
    /// Has it write what is left and end, for when its container has ended. It and no other: where another writes by now,
    /// nothing happens.
    pub fn finish(mut self) {
        // It is over, or was told already as often as the pipe can hold.
        let _ = self.0.write(b"e");
    }
}

/// Whether a logger writes the log of this folder at present.
pub fn is_written(folder: &Path) -> bool {
    let Ok(file) = File::open(lock_file(folder)) else { return false };
    // Shared, so that two who ask at once do not take each other for the logger.
    matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)))
}

/// Writes until both streams have ended, or until it is told to end. The log of the process itself is not started: there
/// is nobody to read it.
pub fn run(folder: &Path) -> io::Result<()> {
    let (terminated, signal) = UnixStream::pair()?;
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, signal)?;
    let stdout = inherited(3)?;
    let stderr = inherited(4)?;
    let _lock = lock(folder)?;
    let told = listen(folder)?;
    let mut log = LogWriter::open(&log_file(folder), ROTATION)?;
    nix::unistd::close(5)?;
    copy(&mut log, [Some(stdout), Some(stderr)], [terminated.as_fd(), told.as_fd()])
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

/// Takes the place of the logger before as the one that is told to end.
fn listen(folder: &Path) -> io::Result<File> {
    let path = end_pipe(folder);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // Open for writing too: it never looks as if it had ended.
    OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path)
}

/// Copies until both streams have ended, or until one of `ends` says something and nothing is left to be read.
fn copy(log: &mut LogWriter, mut streams: [Option<File>; 2], ends: [BorrowedFd; 2]) -> io::Result<()> {
    let mut buffer = vec![0; READ];
    let mut ending: Option<Deadline> = None;
    while streams.iter().any(Option::is_some) {
        let was_ending = ending.is_some();
        let ready = await_any(&streams, ends, was_ending)?;
        if ready[2] || ready[3] {
            ending.get_or_insert_with(|| Deadline::after(END_LIMIT));
        }
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
        if was_ending && (!has_read || ending.is_some_and(|limit| limit.is_over())) {
            break;
        }
    }
    Ok(())
}

fn now_ns() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// Waits until something can be read; which of stdout, stderr and `ends`. Not long where it is ending.
fn await_any(streams: &[Option<File>; 2], ends: [BorrowedFd; 2], is_ending: bool) -> io::Result<[bool; 4]> {
    let stream = |place: usize| streams[place].as_ref().map(AsFd::as_fd);
    let descriptors = [stream(0), stream(1), Some(ends[0]), Some(ends[1])];
    let mut places = Vec::new();
    let mut interests = Vec::new();
    for (place, fd) in descriptors.into_iter().enumerate() {
        // Once it is ending, that is known.
        if let Some(fd) = fd.filter(|_| place < 2 || !is_ending) {
            places.push(place);
            interests.push(PollFd::new(fd, PollFlags::POLLIN));
        }
    }
    let timeout =
        if is_ending { PollTimeout::try_from(LAST_WAIT).unwrap_or(PollTimeout::ZERO) } else { PollTimeout::NONE };
    match poll(&mut interests, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut ready = [false; 4];
    for (place, interest) in places.into_iter().zip(&interests) {
        ready[place] = interest.any().unwrap_or(false);
    }
    Ok(ready)
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Instant;

    use nix::unistd::pipe;

    use super::*;

    /// The ends of a stream: the logger's, as it makes it of what it inherits, and the container's.
    fn stream() -> (Option<File>, File) {
        let (read, write): (OwnedFd, OwnedFd) = pipe().unwrap();
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&read));
        let read = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path).unwrap();
        (Some(read), write.into())
    }

    fn write_until_told(dir: &Path, streams: [Option<File>; 2]) -> String {
        let told = listen(dir).unwrap();
        running(dir).expect("it listens").finish();
        let (signal, _open) = UnixStream::pair().unwrap();
        let mut log = LogWriter::open(&log_file(dir), ROTATION).unwrap();
        copy(&mut log, streams, [signal.as_fd(), told.as_fd()]).unwrap();
        fs::read_to_string(log_file(dir)).unwrap()
    }

    #[test]
    fn logger_that_is_told_to_end_writes_what_is_left_though_the_streams_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let ((out, mut into_out), (err, mut into_err)) = (stream(), stream());
        into_out.write_all(b"out\n").unwrap();
        into_err.write_all(b"err\n").unwrap();
        let text = write_until_told(dir.path(), [out, err]);
        assert!(text.contains("stdout F out\n") && text.contains("stderr F err\n"), "{text}");
        drop((into_out, into_err));
    }

    #[test]
    fn logger_that_is_told_to_end_does_not_wait_for_a_process_that_writes_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let ((out, mut into_out), (err, _into_err)) = (stream(), stream());
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut written = Ok(());
                while written.is_ok() && !is_over.load(Ordering::Relaxed) {
                    written = into_out.write_all(b"more\n");
                }
            });
            let begun = Instant::now();
            write_until_told(dir.path(), [out, err]);
            assert!(begun.elapsed() < END_LIMIT + Duration::from_secs(2), "{:?}", begun.elapsed());
            is_over.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn who_is_told_to_end_is_the_logger_that_was_found_and_no_later_one() {
        let dir = tempfile::tempdir().unwrap();
        assert!(running(dir.path()).is_none(), "there has been none");
        let first = listen(dir.path()).unwrap();
        let found = running(dir.path()).unwrap();
        let mut second = listen(dir.path()).unwrap();
        drop(first);
        found.finish();
        let nothing = second.read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
        running(dir.path()).unwrap().finish();
        assert_eq!(second.read(&mut [0; 2]).unwrap(), 1);
        drop(second);
        assert!(running(dir.path()).is_none(), "it is over");
    }
}
