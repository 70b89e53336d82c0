//! Commands inside a container: a process of its task whose output comes through named pipes.
//!
//! A command that the call ends before it is over is killed: containerd has a name for each.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use protobuf::MessageField;

use super::client::deleted;
use super::record::{self, Specification};
use super::{ENGINE, Place, file_error, make_folder, remove_folder};
use crate::cancel::Urge;
use crate::proto::containerd_tasks::{
    DeleteProcessRequest, ExecProcessRequest, KillRequest, StartRequest, WaitRequest,
};
use crate::proto::containerd_tasks_grpc::{TASKS_DELETE_PROCESS, TASKS_EXEC, TASKS_KILL, TASKS_START, TASKS_WAIT};
use crate::runtime::adapter::{Call, ExecOutcome, MAX_EXEC_OUTPUT, RtResult, RuntimeError};
use crate::runtime::processes::{end_tree, is_in_group};
use crate::runtime::shared::calls::{apart, late, not_allowed};

const OP: &str = "exec";

/// The type of a process in a request.
const PROCESS_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Process";

/// What is read at once, bytes.
const PIECE: usize = 16 * 1024;

/// Between two looks for the end of a command that is being killed.
const LOOK: Duration = Duration::from_millis(20);

/// What shells give for a command that is not there, and for one that cannot be run.
const NOT_FOUND: i32 = 127;
const CANNOT_RUN: i32 = 126;

/// Runs the command and gives what came of it.
pub(super) fn run(place: Place, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
    if argv.is_empty() {
        return Err(RuntimeError::InvalidSpec { reason: "exec: the command is empty".to_owned() });
    }
    let known = record::inspect(place.scope, call, id)?;
    let state = known.status();
    if !state.is_running() {
        return Err(not_allowed(OP, id, &state));
    }
    let mut process = Specification::of(&known.container).process;
    let Some(fields) = process.as_object_mut() else {
        return Err(RuntimeError::InvalidSpec {
            reason: format!("container '{id}' has no process in its specification"),
        });
    };
    fields.insert("args".to_owned(), serde_json::json!(argv));
    fields.insert("terminal".to_owned(), serde_json::json!(false));
    let container = known.container.id.clone();
    let exec = format!("exec-{}", uuid::Uuid::now_v7().simple());
    let folder = place.settings.folder(&container).join(&exec);
    make_folder(&folder)?;
    let outcome = pipes(&folder).and_then(|pipes| {
        let session = Session { place, container: &container, group: known.cgroup(), exec: &exec };
        session.run(call, &folder, pipes, &process)
    });
    if let Err(error) = remove_folder(&folder) {
        log::warn!("the pipes of a command inside stay: {error}");
    }
    match outcome {
        // It ended meanwhile.
        Err(RuntimeError::NotFound { .. }) => {
            let now = record::inspect(place.scope, call, &container)?.status();
            Err(not_allowed(OP, id, &now))
        }
        other => other,
    }
}

/// Both pipes, open for reading before anybody writes.
fn pipes(folder: &Path) -> RtResult<[Output; 2]> {
    let open = |name: &str| -> RtResult<Output> {
        let path = folder.join(name);
        mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).map_err(|error| file_error("making", &path, &error))?;
        let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&path);
        let file = file.map_err(|error| file_error("opening", &path, &error))?;
        Ok(Output { source: Some(file), bytes: Vec::new(), truncated: false })
    };
    Ok([open("stdout")?, open("stderr")?])
}

/// A command of a container.
struct Session<'a> {
    place: Place<'a>,
    container: &'a str,
    /// The container's control group.
    group: String,
    exec: &'a str,
}

impl Session<'_> {
    fn run(
        &self,
        call: &Call,
        folder: &Path,
        mut pipes: [Output; 2],
        process: &serde_json::Value,
    ) -> RtResult<ExecOutcome> {
        let path = |name: &str| folder.join(name).to_string_lossy().into_owned();
        let request = ExecProcessRequest {
            container_id: self.container.to_owned(),
            exec_id: self.exec.to_owned(),
            stdout: path("stdout"),
            stderr: path("stderr"),
            spec: MessageField::some(record::any_json(PROCESS_TYPE, process)?),
            ..Default::default()
        };
        let scope = self.place.scope;
        if let Err(failure) = scope.ask(call, OP, &TASKS_EXEC, &request) {
            let error = failure.into();
            // Without an answer it may be there all the same.
            self.end(None);
            return Err(error);
        }
        let request = StartRequest {
            container_id: self.container.to_owned(),
            exec_id: self.exec.to_owned(),
            ..Default::default()
        };
        let (pid, ended) = match scope.ask(call, OP, &TASKS_START, &request) {
            Ok(started) => {
                let ended = follow(call, &mut pipes).and_then(|()| self.exit_code(call));
                (i32::try_from(started.pid).ok(), ended)
            }
            Err(failure) => {
                let error = RuntimeError::from(failure);
                let code = cannot_run(&error);
                if code.is_some() {
                    pipes[1].bytes = format!("{error}\n").into_bytes();
                }
                (None, code.ok_or(error))
            }
        };
        self.end(pid);
        let exit_code = ended?;
        let [stdout, stderr] = pipes;
        let truncated = stdout.truncated || stderr.truncated;
        Ok(ExecOutcome { exit_code, stdout: stdout.bytes, stderr: stderr.bytes, truncated })
    }

    fn exit_code(&self, call: &Call) -> RtResult<i32> {
        let request = WaitRequest {
            container_id: self.container.to_owned(),
            exec_id: self.exec.to_owned(),
            ..Default::default()
        };
        let status = self.place.scope.ask(call, OP, &TASKS_WAIT, &request)?.exit_status;
        i32::try_from(status).map_err(|_| RuntimeError::Connection {
            engine: ENGINE.to_owned(),
            op: OP.to_owned(),
            reason: format!("{status} is no exit code"),
        })
    }

    /// Deletes the command's process; one that runs is killed, with all that it has started where its number is still one
    /// of the container's: what is left would hold its output open, for which containerd waits.
    fn end(&self, pid: Option<i32>) {
        let (scope, container_id, exec_id) = (self.place.scope, self.container.to_owned(), self.exec.to_owned());
        let delete =
            DeleteProcessRequest { container_id: container_id.clone(), exec_id: exec_id.clone(), ..Default::default() };
        let kill = KillRequest { container_id, exec_id, signal: Signal::SIGKILL as u32, ..Default::default() };
        let ended = apart(|call| {
            loop {
                let Err(error) = deleted(scope.ask(call, OP, &TASKS_DELETE_PROCESS, &delete)) else { return Ok(()) };
                if call.deadline.is_over() {
                    return Err(error);
                }
                if let Some(pid) = pid.filter(|pid| is_in_group(*pid, &self.group)) {
                    end_tree(pid);
                }
                // It may be over just now.
                let _ = scope.ask(call, OP, &TASKS_KILL, &kill);
                call.cancel.wait(Urge::Cancel, call.deadline.at_most(LOOK));
            }
        });
        if let Err(error) = ended {
            log::warn!("command '{}' inside container '{}' stays: {error}", self.exec, self.container);
        }
    }
}

/// The exit code of a shell for what runc says of a command that it could not run.
fn cannot_run(error: &RuntimeError) -> Option<i32> {
    let RuntimeError::Engine { message, .. } = error else { return None };
    if !message.contains("OCI runtime exec failed") && !message.contains("unable to start container process") {
        return None;
    }
    if message.contains("permission denied") {
        return Some(CANNOT_RUN);
    }
    let is_absent = message.contains("executable file not found") || message.contains("no such file or directory");
    is_absent.then_some(NOT_FOUND)
}

/// One stream, of which the beginning is kept.
struct Output {
    source: Option<File>,
    bytes: Vec<u8>,
    truncated: bool,
}

impl Output {
    /// Reads what is there.
    fn drain(&mut self) -> io::Result<()> {
        let mut piece = [0; PIECE];
        while let Some(source) = &mut self.source {
            match source.read(&mut piece) {
                Ok(0) => self.source = None,
                Ok(count) => {
                    let room = (MAX_EXEC_OUTPUT - self.bytes.len()).min(count);
                    self.truncated |= room < count;
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

/// Reads both streams to their ends.
fn follow(call: &Call, pipes: &mut [Output; 2]) -> RtResult<()> {
    let begun = Instant::now();
    let failed = |error: io::Error| RuntimeError::Io { what: "output of exec".to_owned(), reason: error.to_string() };
    let (wake, woken) = UnixStream::pair().map_err(failed)?;
    // Dropping the other end makes it readable.
    let wake = Mutex::new(Some(wake));
    let _hook = call.cancel.on_cancel(move || drop(wake.lock().map(|mut wake| wake.take())));
    while pipes.iter().any(|pipe| pipe.source.is_some()) {
        if call.cancel.is_cancelled() {
            return Err(RuntimeError::Cancelled { op: OP.to_owned() });
        }
        if call.deadline.is_over() {
            return Err(late(OP, begun));
        }
        let ready: Vec<bool> = {
            let sources = pipes.iter().map(|pipe| pipe.source.as_ref());
            let mut interests: Vec<_> =
                sources.flatten().map(|source| PollFd::new(source.as_fd(), PollFlags::POLLIN)).collect();
            interests.push(PollFd::new(woken.as_fd(), PollFlags::POLLIN));
            let timeout = PollTimeout::try_from(call.deadline.remaining() + Duration::from_millis(1));
            match poll(&mut interests, timeout.unwrap_or(PollTimeout::MAX)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            interests.iter().map(|interest| interest.any().unwrap_or(false)).collect()
        };
        // A pipe that nobody has opened yet reads as ended, so that only what is ready is read.
        let open = pipes.iter_mut().filter(|pipe| pipe.source.is_some());
        for (pipe, _) in open.zip(ready).filter(|(_, is_ready)| *is_ready) {
            pipe.drain().map_err(failed)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_that_cannot_be_run_has_the_code_of_a_shell() {
        let said = |message: &str| RuntimeError::Engine {
            engine: ENGINE.to_owned(),
            op: OP.to_owned(),
            code: 2,
            message: format!("OCI runtime exec failed: exec failed: {message}: unknown"),
        };
        assert_eq!(cannot_run(&said("exec: \"x\": executable file not found in $PATH")), Some(NOT_FOUND));
        assert_eq!(cannot_run(&said("exec: \"/etc/passwd\": permission denied")), Some(CANNOT_RUN));
        assert_eq!(cannot_run(&said("cgroup is gone")), None);
        assert_eq!(cannot_run(&RuntimeError::NotFound { what: String::new() }), None);
    }
}
