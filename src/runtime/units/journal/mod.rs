//! Output of units, from the journal of the systemd that runs them.
//!
//! [`Journal`] is the door: whether there is one, and what a unit has written. `export` is what journalctl writes, `output` the
//! stream that is made of it. Entries are found by the unit that the journal itself says they are of, so that nobody else can
//! write into a container's output; what systemd says about a unit is none of it.
//!
//! systemd gives a service one connection to the journal for both of its streams, so they cannot be told apart: what is as
//! urgent as a warning (`<4>` before a line, `systemd-cat --stderr-priority=`) is told as standard error, all else as standard
//! output. The journal keeps no empty lines, and it may drop what comes faster than its settings allow.
//!
//! Sources: `journalctl(1)`, `systemd.exec(5)`, `systemd.journal-fields(7)` and `systemd-journald(8)` of systemd 252.

mod export;
mod output;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::export::FIELDS;
use self::output::{Found, Place, Wanted};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::runtime::adapter::{BlockingStream, Call, LogChunk, LogOptions, RtResult, RuntimeError};
use crate::runtime::logfile::reader::IsOver;
use crate::runtime::shared::program;
use crate::transport::varlink;

/// The program that reads it.
const PROGRAM: &str = "journalctl";

/// The unit that writes it.
pub const WRITER: &str = "systemd-journald.service";

/// Where it is asked to write down what it has.
const SOCKET: &str = "run/systemd/journal/io.systemd.journal";

/// How long it may take to write down what it has; 3 ms were seen. Without it the last lines may be missing.
const SYNC: Duration = Duration::from_millis(500);

/// The most that is kept of what journalctl complains of, bytes.
const MOST_COMPLAINT: usize = 4096;

/// The most that is read to see that something can be, bytes.
const MOST_PROOF: usize = 4096;

/// A journal.
#[derive(Debug, Clone)]
pub struct Journal {
    root: PathBuf,
    is_proved: Arc<AtomicBool>,
}

impl Journal {
    /// The one of the system below this folder; `/` is this machine.
    pub fn of(root: PathBuf) -> Self {
        Self { root, is_proved: Arc::default() }
    }

    /// Fails where nothing can be read from it. Once something could, it is not tried again.
    pub fn prove(&self, call: &Call) -> RtResult<()> {
        if self.is_proved.load(Ordering::Relaxed) {
            return Ok(());
        }
        let ended = program::run(self.command().arg("--lines=1"), call, "reading the journal", MOST_PROOF)?;
        if !ended.status.success() {
            return Err(unreadable(ended.complaint()));
        }
        // Where it was not allowed to see any, it may not say so.
        if ended.stdout.is_empty() {
            return Err(unreadable("there is no entry that can be read".to_owned()));
        }
        self.is_proved.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// What the unit has written from this time on, milliseconds since the epoch. The call bounds the opening, its token the
    /// reading. `is_over` is asked by those who follow alone.
    pub fn open(
        &self,
        call: &Call,
        unit: &str,
        from_ms: u64,
        options: &LogOptions,
        is_over: IsOver,
    ) -> RtResult<BlockingStream<LogChunk>> {
        if !(options.stdout || options.stderr) {
            return Ok(Box::new(std::iter::empty()));
        }
        self.sync(call.cancel);
        let from_us = from_ms.max(options.since_ms).saturating_mul(1000);
        let wanted = Wanted { stdout: options.stdout, stderr: options.stderr, from_us };
        let mut found = Found::new(self.clone(), unit, wanted, call.cancel);
        if let Some(tail) = options.tail {
            found.skip_to_tail(call, tail)?;
        }
        if options.follow {
            found.follow(is_over);
        }
        found.start()?;
        Ok(Box::new(found))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(PROGRAM);
        command.args(["--quiet", "--no-pager", "--all", "--output=export"]).arg(format!("--output-fields={FIELDS}"));
        if self.root != Path::new("/") {
            command.arg("--root").arg(&self.root);
        }
        command.env("LC_ALL", "C");
        command
    }

    /// That for what a unit has written, from a place on.
    fn reading(&self, unit: &str, place: &Place) -> Command {
        let mut command = self.command();
        command.arg(place.argument());
        for transport in ["stdout", "syslog", "journal"] {
            command.arg(format!("_TRANSPORT={transport}"));
        }
        command.arg(format!("_SYSTEMD_UNIT={unit}"));
        command
    }

    /// Has everything written down that was written to it.
    fn sync(&self, cancel: &CancelToken) {
        let synchronize = "io.systemd.Journal.Synchronize";
        if let Err(error) = varlink::call(&self.root.join(SOCKET), synchronize, Deadline::after(SYNC), cancel) {
            log::debug!("the journal does not say that it has written everything down: {error}");
        }
    }
}

fn unreadable(reason: String) -> RuntimeError {
    RuntimeError::Io { what: "reading the journal".to_owned(), reason }
}
