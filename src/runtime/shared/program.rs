//! Programs that are run to their end, or read while they run: their time, their output and their children are bounded.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::calls::late;
use crate::cancel::{CancelToken, Registration, Urge};
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};

/// What is read at once, bytes.
const PIECE: usize = 16 * 1024;

/// Between two looks for the end of a program that has closed its output.
const LOOK: Duration = Duration::from_millis(2);

/// What a program came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Its exit status.
    pub status: ExitStatus,
    /// Standard output, as far as it was kept.
    pub stdout: Vec<u8>,
    /// Standard error, as far as it was kept.
    pub stderr: Vec<u8>,
    /// Whether output beyond the bound was dropped.
    pub truncated: bool,
}

impl Ended {
    /// The last line that it wrote to standard error, else its exit status: what a person is told of a failure.
    pub fn complaint(&self) -> String {
        let text = String::from_utf8_lossy(&self.stderr);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty());
        line.map_or_else(|| self.status.to_string(), str::to_owned)
    }
}

/// Runs the command, which gets no input, to its end; of each stream at most `most` bytes are kept. At the call's end it
/// is killed with all of its process group. `op` is the call as errors name it.
pub fn run(command: &mut Command, call: &Call, op: &str, most: usize) -> RtResult<Ended> {
    let begun = Instant::now();
    let name = command.get_program().to_owned();
    let failed = |error: io::Error| cannot_run(&name, &error);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut running = Running(command.spawn().map_err(failed)?);
    let (woken, _hook) = wake_on(call.cancel).map_err(failed)?;
    let mut streams = [Kept::new(running.0.stdout.take(), most), Kept::new(running.0.stderr.take(), most)];
    for stream in &streams {
        stream.set_nonblocking().map_err(failed)?;
    }
    while streams.iter().any(|stream| stream.source.is_some()) {
        if let Some(error) = over(call, op, begun) {
            return Err(error);
        }
        let sources = streams.iter().filter_map(|stream| stream.source.as_ref());
        await_readable(sources.map(|source| source.as_fd()), &woken, call.deadline).map_err(failed)?;
        for stream in &mut streams {
            stream.drain().map_err(failed)?;
        }
    }
    let status = running.wait(call, op, begun)?;
    let [stdout, stderr] = streams;
    let truncated = stdout.truncated || stderr.truncated;
    Ok(Ended { status, stdout: stdout.bytes, stderr: stderr.bytes, truncated })
}

/// Runs the command, which leaves a process behind that keeps its output open: there is none, and no input. At the call's
/// end it is killed with all of its process group.
pub fn run_quietly(command: &mut Command, call: &Call, op: &str) -> RtResult<ExitStatus> {
    let begun = Instant::now();
    let name = command.get_program().to_owned();
    let failed = |error: io::Error| cannot_run(&name, &error);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut running = Running(command.spawn().map_err(failed)?);
    running.wait(call, op, begun)
}

/// A program whose output is read while it runs. Dropped, it is killed with all of its process group.
pub struct Piped {
    running: Running,
    stdout: ChildStdout,
    stderr: Kept,
    woken: UnixStream,
    _hook: Registration,
}

/// What came of a look at a program's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// So many bytes.
    Bytes(usize),
    /// Nothing in the time, or before the token was cancelled.
    Nothing,
    /// There will be no more.
    End,
}

impl Piped {
    /// Starts the command, which gets no input. Of its standard error at most `most` bytes are kept.
    pub fn start(command: &mut Command, cancel: &CancelToken, most: usize) -> RtResult<Self> {
        let name = command.get_program().to_owned();
        let failed = |error: io::Error| cannot_run(&name, &error);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut running = Running(command.spawn().map_err(failed)?);
        let (woken, hook) = wake_on(cancel).map_err(failed)?;
        let stderr = Kept::new(running.0.stderr.take(), most);
        stderr.set_nonblocking().map_err(failed)?;
        let stdout = running.0.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        fcntl(stdout.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|error| failed(error.into()))?;
        Ok(Self { running, stdout, stderr, woken, _hook: hook })
    }

    /// Reads what is there, or waits for it until the deadline or the token's cancel.
    pub fn read(&mut self, piece: &mut [u8], deadline: Deadline) -> io::Result<Output> {
        let polled = [Some(self.stdout.as_fd()), self.stderr.source.as_ref().map(|source| source.as_fd())];
        await_readable(polled.into_iter().flatten(), &self.woken, deadline)?;
        self.stderr.drain()?;
        match self.stdout.read(piece) {
            Ok(0) => Ok(Output::End),
            Ok(read) => Ok(Output::Bytes(read)),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                Ok(Output::Nothing)
            }
            Err(error) => Err(error),
        }
    }

    /// How it ended, once its output has.
    pub fn end(mut self, call: &Call, op: &str) -> RtResult<Ended> {
        let status = self.running.wait(call, op, Instant::now())?;
        // It is over, so that this does not block.
        let _ = self.stderr.drain();
        let Kept { bytes: stderr, truncated, .. } = self.stderr;
        Ok(Ended { status, stdout: Vec::new(), stderr, truncated })
    }
}

/// What becomes readable once the token is cancelled, for as long as the registration is kept.
fn wake_on(cancel: &CancelToken) -> io::Result<(UnixStream, Registration)> {
    let (wake, woken) = UnixStream::pair()?;
    // Dropping the other end makes it readable.
    let wake = std::sync::Mutex::new(Some(wake));
    let hook = cancel.on_cancel(move || drop(wake.lock().map(|mut wake| wake.take())));
    Ok((woken, hook))
}

/// The error of a call that is over.
fn over(call: &Call, op: &str, begun: Instant) -> Option<RuntimeError> {
    match call.cancel.urge() {
        Urge::Cancel => Some(RuntimeError::Cancelled { op: op.to_owned() }),
        Urge::None | Urge::Hasten => call.deadline.is_over().then(|| late(op, begun)),
    }
}

/// The error of a program that cannot be run.
pub fn cannot_run(program: &OsStr, error: &io::Error) -> RuntimeError {
    RuntimeError::Io { what: format!("running '{}'", program.to_string_lossy()), reason: error.to_string() }
}

fn await_readable<'a>(
    sources: impl Iterator<Item = BorrowedFd<'a>>,
    woken: &'a UnixStream,
    deadline: Deadline,
) -> io::Result<()> {
    let all = sources.chain([woken.as_fd()]);
    let mut polled: Vec<_> = all.map(|source| PollFd::new(source, PollFlags::POLLIN)).collect();
    let timeout = PollTimeout::try_from(deadline.remaining() + Duration::from_millis(1));
    match poll(&mut polled, timeout.unwrap_or(PollTimeout::MAX)) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A child with its process group, killed unless it has ended.
struct Running(Child);

impl Running {
    fn wait(&mut self, call: &Call, op: &str, begun: Instant) -> RtResult<ExitStatus> {
        loop {
            let ended = self.0.try_wait().map_err(|error| RuntimeError::Io {
                what: format!("waiting for the program of {op}"),
                reason: error.to_string(),
            })?;
            if let Some(status) = ended {
                return Ok(status);
            }
            if let Some(error) = over(call, op, begun) {
                return Err(error);
            }
            call.cancel.wait(Urge::Cancel, call.deadline.at_most(LOOK));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has been waited for may not be signalled: its number may be another's.
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        if let Ok(pid) = i32::try_from(self.0.id()) {
            // It may be over just now.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}

/// A stream of which the beginning is kept.
struct Kept {
    source: Option<Box<dyn Source>>,
    bytes: Vec<u8>,
    most: usize,
    truncated: bool,
}

trait Source: Read + AsFd + Send {}

impl<T: Read + AsFd + Send> Source for T {}

impl Kept {
    fn new(source: Option<impl Read + AsFd + Send + 'static>, most: usize) -> Self {
        let source = source.map(|source| Box::new(source) as Box<dyn Source>);
        Self { source, bytes: Vec::new(), most, truncated: false }
    }

    fn set_nonblocking(&self) -> io::Result<()> {
        if let Some(source) = &self.source {
            fcntl(source.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        Ok(())
    }

    /// Reads what is there.
    fn drain(&mut self) -> io::Result<()> {
        let mut piece = [0; PIECE];
        while let Some(source) = &mut self.source {
            match source.read(&mut piece) {
                Ok(0) => self.source = None,
                Ok(read) => {
                    let room = (self.most - self.bytes.len()).min(read);
                    self.truncated |= room < read;
                    self.bytes.extend_from_slice(&piece[..room]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelToken;
    use crate::runtime::double::call;

    const LONG: Duration = Duration::from_secs(60);

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_is_kept_apart_up_to_its_bound() {
        let token = CancelToken::new();
        let ended = run(&mut shell("echo out; printf 'a\\nwhy\\n\\n' >&2; exit 3"), &call(&token, LONG), "x", 100);
        let ended = ended.unwrap();
        assert_eq!((ended.status.code(), ended.stdout.as_slice(), ended.truncated), (Some(3), &b"out\n"[..], false));
        assert_eq!(ended.complaint(), "why");
        let much = run(&mut shell("head -c 1000000 /dev/zero"), &call(&token, LONG), "x", 10).unwrap();
        assert_eq!((much.stdout.len(), much.truncated), (10, true));
    }

    #[test]
    fn program_ends_with_its_call_and_takes_its_children_along() {
        let token = CancelToken::new();
        let begun = Instant::now();
        let mark = format!("{}.5", 100_000 + std::process::id());
        let hung =
            run(&mut shell(&format!("sleep {mark} & sleep {mark}")), &call(&token, Duration::from_millis(200)), "x", 9);
        assert!(matches!(hung, Err(RuntimeError::Timeout { .. })), "{hung:?}");
        let left =
            || crate::runtime::processes::end_trees(crate::runtime::processes::Which::All, |w| w.contains(&mark));
        assert_eq!(left(), 0);
        std::thread::scope(|scope| {
            let running = scope.spawn(|| run(&mut shell("exec sleep 100"), &call(&token, LONG), "x", 9));
            token.cancel("enough");
            assert!(matches!(running.join().unwrap(), Err(RuntimeError::Cancelled { .. })));
        });
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn program_that_closes_its_output_is_waited_for_within_the_time() {
        let token = CancelToken::new();
        let deaf = run(&mut shell("exec >&- 2>&-; sleep 100"), &call(&token, Duration::from_millis(200)), "x", 9);
        assert!(matches!(deaf, Err(RuntimeError::Timeout { .. })), "{deaf:?}");
    }

    #[test]
    fn output_is_read_while_it_comes_and_the_program_ends_with_its_reader() {
        let token = CancelToken::new();
        let mut piece = [0; 100];
        let soon = || Deadline::after(Duration::from_secs(10));
        let mut piped = Piped::start(&mut shell("echo a; echo why >&2; exit 2"), &token, 100).unwrap();
        assert_eq!(piped.read(&mut piece, soon()).unwrap(), Output::Bytes(2));
        while piped.read(&mut piece, soon()).unwrap() != Output::End {}
        let ended = piped.end(&call(&token, LONG), "x").unwrap();
        assert_eq!((ended.status.code(), ended.complaint().as_str()), (Some(2), "why"));
        let mark = format!("{}.5", 200_000 + std::process::id());
        let mut piped = Piped::start(&mut shell(&format!("sleep {mark} & sleep {mark}")), &token, 100).unwrap();
        assert_eq!(piped.read(&mut piece, Deadline::after(Duration::from_millis(50))).unwrap(), Output::Nothing);
        token.cancel("enough");
        let begun = Instant::now();
        assert_eq!(piped.read(&mut piece, Deadline::after(LONG)).unwrap(), Output::Nothing);
        assert!(begun.elapsed() < LONG);
        drop(piped);
        let left =
            || crate::runtime::processes::end_trees(crate::runtime::processes::Which::All, |w| w.contains(&mark));
        assert_eq!(left(), 0);
    }

    #[test]
    fn program_that_is_not_there_is_named() {
        let token = CancelToken::new();
        let error = run(&mut Command::new("no-such-program-here"), &call(&token, LONG), "x", 9).unwrap_err();
        assert!(error.to_string().contains("no-such-program-here"), "{error}");
    }
}
