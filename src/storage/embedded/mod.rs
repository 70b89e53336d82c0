//! The embedded store: [`EmbeddedStore`], a [`StateStore`] in one redb file of the state directory.
//!
//! | file | what |
//! |---|---|
//! | `lock` | the directory and its lock against a second daemon |
//! | `open` | what is found at the start, damaged files kept aside, the report |
//! | `writer` | the thread `store`: group commit, answers, opening again after a failure |
//! | `slot` | the handle that readers use meanwhile |
//! | `table` | what lies in the file |
//! | `disk` | the file itself: counted syncs, the fence |
//! | `fault` | redb's and the system's errors by their remedy |
//!
//! Readers read a snapshot and never wait for a writer. A commit is in the file and synced when it is answered; what
//! was answered survives `kill -9` and a power cut.

mod disk;
mod fault;
mod lock;
mod open;
#[cfg(test)]
mod power_cut;
mod slot;
mod table;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use redb::Database;

pub use self::open::{Damaged, OpenReport};

use self::disk::Gauge;
use self::fault::{Fault, guarded};
use self::lock::StateLock;
use self::open::Opener;
use self::slot::Slot;
use self::writer::{Queue, Writer};
use super::{Batch, Entry, StateStore, StoreError, StoreStats};
use crate::clock::Deadline;

/// How the store is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for pages of the file, bytes.
    pub cache_bytes: usize,
    /// Batches that may wait for the writer; more wait in their callers, until their deadlines.
    pub queue: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { cache_bytes: 8 << 20, queue: 64 }
    }
}

/// Why the store did not open. The state is as it was.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error("the state directory '{}' is in use by process {}", dir.display(), if holder.is_empty() { "(not known)" } else { holder })]
    Locked {
        /// The state directory.
        dir: PathBuf,
        /// Its process id; may be empty.
        holder: String,
    },
    /// Others could change the state.
    #[error("the state directory '{}' is not safe: {reason}", dir.display())]
    Unsafe {
        /// The state directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("'{}' has format {found} of a newer program; this one knows format {}", path.display(), table::CURRENT_FORMAT)]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The system refused or failed; nothing is known against the state.
    #[error("could not {doing} '{}': {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// An open store and what was found when it was opened.
pub struct Opened {
    /// The store.
    pub store: EmbeddedStore,
    /// What was found and done; logged already.
    pub report: OpenReport,
}

/// A [`StateStore`] in a redb file. Dropping it answers everything that was accepted, closes the file in order and
/// then gives the directory's lock up.
pub struct EmbeddedStore {
    /// `None` only while it is dropped: the writer ends when its queue is closed.
    queue: Option<Queue>,
    writer: Option<JoinHandle<()>>,
    slot: Arc<Slot>,
    gauge: Arc<Gauge>,
    syncs_before: u64,
    commits: Arc<AtomicU64>,
    /// Last: nothing of the file is open any more when the lock goes.
    lock: StateLock,
}

impl EmbeddedStore {
    /// Locks the state directory `dir` (made with mode 0700 where absent), opens and checks the database in it, and
    /// starts the writer.
    ///
    /// A damaged file is kept aside and the store begins empty, which the report says. A second process, a directory
    /// that others can write to, a newer format, and whatever the system refuses are errors, and change nothing.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Opened, OpenError> {
        lock::prepare(dir)?;
        let lock = StateLock::take(dir)?;
        let gauge = Arc::new(Gauge::default());
        let opener = Opener { dir: dir.to_owned(), cache_bytes: options.cache_bytes, gauge: Arc::clone(&gauge) };
        let (found, mut report) = opener.start()?;
        report.left_by.clone_from(&lock.left_by);
        log_report(&report);

        let slot = Arc::new(Slot::new(found.handle));
        let (queue, jobs) = Queue::new(options.queue);
        let commits = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            jobs,
            slot: Arc::clone(&slot),
            opener,
            commits: Arc::clone(&commits),
            sequence: found.sequence,
            failed: None,
            in_trouble: false,
            usual_group: 1,
        };
        let started = thread::Builder::new().name("store".to_owned()).spawn(move || writer.run());
        let thread =
            started.map_err(|source| OpenError::Io { doing: "start the writer of", path: dir.to_owned(), source })?;
        let syncs_before = gauge.syncs();
        let (queue, writer) = (Some(queue), Some(thread));
        Ok(Opened { store: Self { queue, writer, slot, gauge, syncs_before, commits, lock }, report })
    }

    fn submit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
        match &self.queue {
            Some(queue) => queue.submit(batch, deadline),
            None => Err(StoreError::Unavailable("it is closed".to_owned())),
        }
    }

    /// Looks at a snapshot. A handle that failed is replaced by the writer, and the look repeated once.
    fn read<T>(
        &self,
        key: &str,
        deadline: Deadline,
        look: impl Fn(&Database) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        if deadline.is_over() {
            return Err(StoreError::Unavailable("the time was over before it was asked".to_owned()));
        }
        let once = || {
            let handle = self.slot.current(deadline)?;
            // The handle ends within the guard: it may be the last of one that was given up.
            Ok(guarded(|| look(&{ handle }.database)))
        };
        match once()? {
            Err(Fault::Io(_) | Fault::Latched) => self.submit(Batch::default(), deadline)?,
            Err(fault) => return Err(fault.for_read(key)),
            Ok(found) => return Ok(found),
        }
        once()?.map_err(|fault| fault.for_read(key))
    }
}

impl StateStore for EmbeddedStore {
    fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
        self.read(key, deadline, |database| table::get(database, key))
    }

    fn scan(&self, prefix: &str, after: &str, limit: usize, deadline: Deadline) -> Result<Vec<Entry>, StoreError> {
        self.read(prefix, deadline, |database| table::scan(database, prefix, after, limit))
    }

    fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
        self.submit(batch, deadline)
    }

    fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        self.submit(Batch::default(), deadline)
    }

    fn stats(&self) -> StoreStats {
        let commits = self.commits.load(Ordering::Relaxed);
        StoreStats { commits, syncs: self.gauge.syncs() - self.syncs_before }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            log::error!("the store's writer ended by a panic");
            return;
        }
        self.lock.mark_orderly();
    }
}

fn log_report(report: &OpenReport) {
    log::info!("{report}");
    report.warnings().iter().for_each(|warning| log::warn!("store: {warning}"));
}
