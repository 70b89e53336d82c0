//! Opening the database file: what is found, what is done with it, and the report of it.
//!
//! A file that is damaged or not ours is kept aside under a dated name, never deleted, and a fresh one takes its place.
//! A file that cannot be read for another reason (permission, I/O, space, a newer format) stays where it is and the
//! start fails: moving it would lose good state.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use redb::{Database, RepairSession};

use super::OpenError;
use super::disk::{Disk, Fence, Gauge};
use super::fault::{Fault, guarded};
use super::slot::Handle;
use super::table;

/// The database file's name in the state directory.
const DATABASE_FILE: &str = "state.redb";
/// What a fresh file is called until it is whole.
const FRESH_FILE: &str = "state.redb.new";
/// What kept files are called, before their date.
const ASIDE_PREFIX: &str = "state.redb.damaged-";

/// The bytes with which a redb file begins.
const REDB_MAGIC: [u8; 9] = *b"redb\x1A\x0A\xA9\x0D\x0A";
/// Where redb's two commit slots hold the version of its file format.
const REDB_VERSION_AT: [usize; 2] = [64, 192];
/// The newest version of redb's file format that the linked redb reads.
const REDB_NEWEST: u8 = 3;

/// redb calls back with this progress only when the last commit did not verify and the one before is taken.
const ROLLED_BACK_AT: f64 = 0.3;

/// A damaged file that was found at this start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damaged {
    /// What is wrong with it.
    pub reason: String,
    /// Where it is kept now.
    pub kept_as: PathBuf,
}

/// What opening the store found and did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OpenReport {
    /// There was no database: the first start, or the state was lost.
    pub fresh: bool,
    /// The damaged file in whose place there is a fresh one now.
    pub damaged: Option<Damaged>,
    /// Every damaged file that lies in the state directory, this start's and earlier ones'.
    pub aside: Vec<PathBuf>,
    /// The process that had the store before and did not end in order.
    pub left_by: Option<String>,
    /// The last commit was torn, which a power cut does to one that nobody was told of; the one before it counts.
    pub rolled_back: bool,
    /// How long opening and checking took.
    pub took: Duration,
}

impl OpenReport {
    /// What an operator has to know, one sentence each; empty after an orderly start.
    pub fn warnings(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(damaged) = &self.damaged {
            let kept = damaged.kept_as.display();
            lines.push(format!(
                "the stored state was damaged ({}): it is kept as '{kept}' and the store begins empty",
                damaged.reason
            ));
        }
        if let Some(last) = self.aside.last() {
            let (count, last) = (self.aside.len(), last.display());
            lines.push(format!(
                "{count} damaged state file(s) lie aside, the last as '{last}': look at them and delete them"
            ));
        }
        if let Some(pid) = &self.left_by {
            lines.push(format!("process {pid} did not close the store; it was checked and repaired"));
        }
        if self.rolled_back {
            lines.push("the last commit was torn and is gone; nobody was told of it".to_owned());
        }
        lines
    }
}

impl fmt::Display for OpenReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.fresh { "made new" } else { "opened and checked" };
        write!(f, "store {state} in {} ms", self.took.as_millis())?;
        self.warnings().iter().try_for_each(|line| write!(f, "; {line}"))
    }
}

/// Where the database lies and how it is opened, at the start and after a failure.
pub(super) struct Opener {
    /// The state directory.
    pub(super) dir: PathBuf,
    /// redb's page cache.
    pub(super) cache_bytes: usize,
    /// What is known of the disk.
    pub(super) gauge: Arc<Gauge>,
}

/// An open, checked database.
pub(super) struct Found {
    /// The handle.
    pub(super) handle: Handle,
    /// The last revision given.
    pub(super) sequence: u64,
    /// Whether redb fell back to the commit before the last.
    pub(super) rolled_back: bool,
}

impl Opener {
    /// Opens what is there or makes it, moving a damaged file aside.
    pub(super) fn start(&self) -> Result<(Found, OpenReport), OpenError> {
        let begun = Instant::now();
        let path = self.dir.join(DATABASE_FILE);
        let mut report = OpenReport::default();
        if fs::symlink_metadata(&path).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
            report.fresh = true;
        } else {
            match self.open() {
                Ok(found) => {
                    report.rolled_back = found.rolled_back;
                    return Ok((found, self.finish(report, begun)?));
                }
                Err(Fault::Damaged(reason)) => {
                    report.damaged = Some(Damaged { reason, kept_as: self.move_aside(&path)? });
                    report.fresh = true;
                }
                Err(fault) => return Err(refusal(path, fault)),
            }
        }
        self.make_fresh().map_err(|fault| refusal(self.dir.join(FRESH_FILE), fault))?;
        let found = self.open().map_err(|fault| refusal(path, fault))?;
        Ok((found, self.finish(report, begun)?))
    }

    /// Opens the file that is there and checks all of it.
    pub(super) fn open(&self) -> Result<Found, Fault> {
        let path = self.dir.join(DATABASE_FILE);
        let kind = fs::symlink_metadata(&path)?;
        if kind.is_symlink() {
            return Err(Fault::Io(io::Error::from_raw_os_error(nix::libc::ELOOP)));
        }
        if !kind.is_file() {
            return Err(Fault::Damaged("it is no regular file".to_owned()));
        }
        if kind.len() == 0 {
            return Err(Fault::Damaged("it is empty".to_owned()));
        }
        let file = private(OpenOptions::new().read(true).write(true)).open(&path)?;
        refuse_newer(&file)?;
        guarded(|| {
            let rolled_back = Arc::new(AtomicBool::new(false));
            let handle = self.build(file, &rolled_back)?;
            let sequence = table::recognise(&handle.database)?;
            Ok(Found { handle, sequence, rolled_back: rolled_back.load(Ordering::Relaxed) })
        })
    }

    fn build(&self, file: File, rolled_back: &Arc<AtomicBool>) -> Result<Handle, Fault> {
        let fence = Fence::default();
        let disk = Disk::new(file, fence.clone(), Arc::clone(&self.gauge));
        let rolled_back = Arc::clone(rolled_back);
        let database = Database::builder()
            .set_cache_size(self.cache_bytes)
            .set_check_integrity_on_open(true)
            .set_repair_callback(move |session: &mut RepairSession| {
                if (session.progress() - ROLLED_BACK_AT).abs() < f64::EPSILON {
                    rolled_back.store(true, Ordering::Relaxed);
                }
            })
            .create_with_backend(disk)?;
        Ok(Handle { database, fence })
    }

    /// Makes a fresh database, which gets its name only once it is whole: a file of that name was never empty.
    fn make_fresh(&self) -> Result<(), Fault> {
        let path = self.dir.join(FRESH_FILE);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
        let file = private(OpenOptions::new().read(true).write(true).create_new(true)).open(&path)?;
        let handle = self.build(file, &Arc::default())?;
        table::initialise(&handle.database)?;
        handle.database.close()?;
        fs::rename(&path, self.dir.join(DATABASE_FILE))?;
        Ok(File::open(&self.dir)?.sync_all()?)
    }

    fn move_aside(&self, path: &Path) -> Result<PathBuf, OpenError> {
        let io = |source| OpenError::Io { doing: "keep the damaged database aside", path: path.to_owned(), source };
        let date = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let names = (0..).map(|n| if n == 0 { date.clone() } else { format!("{date}.{n}") });
        let free = names
            .map(|name| self.dir.join(format!("{ASIDE_PREFIX}{name}")))
            .find(|aside| fs::symlink_metadata(aside).is_err())
            .unwrap_or_else(|| self.dir.join(ASIDE_PREFIX));
        fs::rename(path, &free).map_err(io)?;
        File::open(&self.dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        Ok(free)
    }

    fn finish(&self, mut report: OpenReport, begun: Instant) -> Result<OpenReport, OpenError> {
        let io = |source| OpenError::Io { doing: "list the state directory", path: self.dir.clone(), source };
        for entry in fs::read_dir(&self.dir).map_err(io)? {
            let entry = entry.map_err(io)?;
            if entry.file_name().to_string_lossy().starts_with(ASIDE_PREFIX) {
                report.aside.push(entry.path());
            }
        }
        report.aside.sort();
        report.took = begun.elapsed();
        Ok(report)
    }
}

/// How every file of ours is opened: private, never through a link, never waiting for the other end of a pipe.
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600).custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
}

/// redb reports a file format that is too new as damage; it is none. Both slots say it, so that one flipped bit is not
/// taken for a newer format.
fn refuse_newer(file: &File) -> Result<(), Fault> {
    let mut header = Vec::new();
    file.take(256).read_to_end(&mut header)?;
    if !header.starts_with(&REDB_MAGIC) {
        return Ok(());
    }
    match REDB_VERSION_AT.map(|at| header.get(at).copied().unwrap_or_default()) {
        [one, other] if one == other && one > REDB_NEWEST => Err(Fault::Newer(u64::from(one))),
        _ => Ok(()),
    }
}

fn refusal(path: PathBuf, fault: Fault) -> OpenError {
    let doing = "open the database";
    match fault {
        Fault::Io(source) => OpenError::Io { doing, path, source },
        Fault::Newer(found) => OpenError::Newer { path, found },
        Fault::Full(_) | Fault::Latched | Fault::Unopened(_) | Fault::Damaged(_) => {
            OpenError::Io { doing, path, source: io::Error::other(fault.text()) }
        }
    }
}
