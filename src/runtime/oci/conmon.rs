//! conmon (2.1): one process beside each container that keeps its output and its exit code, whatever becomes of us.
//!
//! Source: `src/conmon.c` and `src/cli.c` of conmon 2.1.6. It waits for a byte on the start pipe, so that it can be put
//! into a control group before it makes anything; it tells on the sync pipe, one JSON object a line, the container's
//! process or why there is none; then it goes on by itself.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;
use serde::Deserialize;

use super::ENGINE;
use crate::cancel::Urge;
use crate::cgroup::Cgroups;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::shared::calls::late;
use crate::runtime::shared::program::cannot_run;

/// The most that is read of what it tells, bytes.
const MOST: usize = 64 * 1024;

/// How often a wait looks whether its call was cancelled.
const LOOK: Duration = Duration::from_millis(20);

/// Descriptors of the pipes in conmon.
const SYNC: i32 = 3;
const START: i32 = 4;

/// How a container is supervised.
pub(super) struct Supervised<'a> {
    /// conmon's path.
    pub(super) conmon: &'a Path,
    /// The OCI runtime's path.
    pub(super) runtime: &'a Path,
    /// Where the runtime keeps its state.
    pub(super) runtime_root: &'a Path,
    /// The container's id.
    pub(super) id: &'a str,
    /// Its name.
    pub(super) name: &'a str,
    /// The bundle, where `pid`, `conmon.pid` and `log` are written.
    pub(super) bundle: &'a Path,
    /// Where the exit code is written.
    pub(super) exits: &'a Path,
    /// Where conmon keeps a copy of it.
    pub(super) persist: &'a Path,
    /// The size at which the log is begun anew, bytes.
    pub(super) log_bytes: u64,
    /// Keep standard input open.
    pub(super) stdin: bool,
    /// Restore from the image in this folder rather than create.
    pub(super) restore: Option<&'a Path>,
    /// More words for the runtime's `restore`.
    pub(super) restore_words: &'a [&'a str],
    /// `PATH` in place of our own.
    pub(super) path: Option<&'a std::ffi::OsStr>,
    /// conmon's control group.
    pub(super) group: &'a str,
}

/// What it tells.
#[derive(Deserialize)]
struct Told {
    /// The container's process, or what is below zero for none.
    #[serde(alias = "pid")]
    data: i64,
    #[serde(default)]
    message: String,
}

/// Starts conmon, which creates (or restores) the container; gives the container's process.
pub(super) fn spawn(supervised: &Supervised, call: &Call, op: &str) -> RtResult<i32> {
    let begun = Instant::now();
    let failed = |error: io::Error| cannot_run(supervised.conmon.as_os_str(), &error);
    let (sync, sync_theirs) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
    let (start_theirs, start) = pipe2(OFlag::O_CLOEXEC).map_err(|error| failed(error.into()))?;
    let mut command = command(supervised);
    let mapped = command.fd_mappings(vec![
        FdMapping { parent_fd: sync_theirs, child_fd: SYNC },
        FdMapping { parent_fd: start_theirs, child_fd: START },
    ]);
    mapped.map_err(|error| failed(io::Error::other(error)))?;
    let mut child = command.spawn().map_err(failed)?;
    // Its ends of the pipes go with it, so that its death is seen.
    drop(command);
    if let (Ok(groups), Ok(pid)) = (Cgroups::read(), i32::try_from(child.id())) {
        groups.adopt(supervised.group, pid);
    }
    let started = File::from(start).write_all(&[0]);
    // The process that was spawned leaves another one behind and ends at once.
    let left = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if call.deadline.is_over() || call.cancel.is_cancelled() => {
                // It may be over just now.
                let _ = child.kill();
                let _ = child.wait();
                return Err(over(call, op, begun));
            }
            None => drop(call.cancel.wait(Urge::Cancel, call.deadline.at_most(Duration::from_millis(1)))),
        }
    };
    if !left.success() || started.is_err() {
        return Err(refused(op, format!("conmon ended with {left}")));
    }
    let told = read_line(sync, call, op, begun)?;
    let told: Told = serde_json::from_slice(&told)
        .map_err(|error| refused(op, format!("what conmon tells cannot be read: {error}")))?;
    match i32::try_from(told.data) {
        Ok(pid) if pid > 0 => Ok(pid),
        Ok(_) | Err(_) => Err(refused(op, complaint(&told.message))),
    }
}

fn command(supervised: &Supervised) -> Command {
    let Supervised { id, bundle, .. } = supervised;
    let mut command = Command::new(supervised.conmon);
    command.args(["--api-version", "1", "-c", id, "-u", id, "-n", supervised.name, "-r"]).arg(supervised.runtime);
    command.args(["--runtime-arg", "--root", "--runtime-arg"]).arg(supervised.runtime_root);
    command.arg("-b").arg(bundle).arg("-p").arg(bundle.join("pid")).arg("-P").arg(bundle.join("conmon.pid"));
    command.arg("--exit-dir").arg(supervised.exits).arg("-0").arg(supervised.persist).arg("--full-attach");
    command.arg("-l").arg(format!("k8s-file:{}", bundle.join("log").display()));
    command.args(["--log-size-max", &supervised.log_bytes.to_string()]);
    if supervised.stdin {
        command.arg("-i");
    }
    if let Some(image) = supervised.restore {
        command.arg("--restore").arg(image);
        for word in supervised.restore_words {
            command.args(["--runtime-opt", word]);
        }
    }
    if let Some(path) = supervised.path {
        command.env("PATH", path);
    }
    // Where it leaves word of a death for want of memory.
    command.current_dir(bundle);
    command.env("_OCI_SYNCPIPE", SYNC.to_string()).env("_OCI_STARTPIPE", START.to_string());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The error of a call that is cancelled, or else late.
fn over(call: &Call, op: &str, begun: Instant) -> RuntimeError {
    if call.cancel.is_cancelled() { RuntimeError::Cancelled { op: op.to_owned() } } else { late(op, begun) }
}

/// The next line of what it tells.
fn read_line(sync: OwnedFd, call: &Call, op: &str, begun: Instant) -> RtResult<Vec<u8>> {
    let mut sync = File::from(sync);
    let mut line = Vec::new();
    let mut piece = [0; 4096];
    while !line.contains(&b'\n') {
        if call.cancel.is_cancelled() || call.deadline.is_over() {
            return Err(over(call, op, begun));
        }
        let wait = PollTimeout::try_from(call.deadline.remaining().min(LOOK)).unwrap_or(PollTimeout::ZERO);
        let mut polled = [PollFd::new(sync.as_fd(), PollFlags::POLLIN)];
        if matches!(poll(&mut polled, wait), Ok(0) | Err(nix::Error::EINTR)) {
            continue;
        }
        let read = sync.read(&mut piece).map_err(|error| refused(op, error.to_string()))?;
        if read == 0 || line.len() > MOST {
            break;
        }
        line.extend_from_slice(&piece[..read]);
    }
    Ok(line.split(|byte| *byte == b'\n').next().map(<[u8]>::to_vec).unwrap_or_default())
}

/// The runtime's words without those that it wraps them in: `time="…" level=error msg="why"`, or JSON.
pub(super) fn complaint(message: &str) -> String {
    let line = message.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("the runtime says nothing");
    let text = line.split_once("msg=\"").map_or(line, |(_, text)| text.trim_end_matches('"'));
    text.replace("\\\"", "\"")
}

fn refused(op: &str, message: String) -> RuntimeError {
    RuntimeError::Engine { engine: ENGINE.to_owned(), op: op.to_owned(), code: 1, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaint_is_the_runtime_s_last_line_without_its_wrapping() {
        let logged = "x\ntime=\"2026\" level=error msg=\"exec: \\\"nope\\\": not found\"\n";
        assert_eq!(complaint(logged), "exec: \"nope\": not found");
        assert_eq!(complaint("plain\n\n"), "plain");
        assert_eq!(complaint(""), "the runtime says nothing");
    }

    #[test]
    fn both_words_for_the_process_are_read() {
        for told in [r#"{"data":7}"#, r#"{"pid":7,"message":""}"#] {
            assert_eq!(serde_json::from_str::<Told>(told).unwrap().data, 7);
        }
    }
}
