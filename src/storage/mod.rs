//! State that survives: the port [`StateStore`], its schema ([`keys`]) and its typed door ([`records`]).
//!
//! Enters: everything that has to be there after a power cut. A store is an ordered map from text keys to bytes with
//! a revision per key; a [`Batch`] is applied whole or not at all and is durable when `commit` returns. A new backend
//! implements the port and passes the suite in `tests/it/storage.rs`; nothing else in the program knows which one runs.

pub mod copies;
pub mod cores;
pub mod documents;
pub mod embedded;
pub mod etcd;
pub mod held;
pub mod keys;
pub mod memory;
pub mod misses;
pub mod outbox;
pub mod published;
pub mod records;
pub mod retention;
pub mod rocksdb_service;
pub mod shared;

use crate::clock::Deadline;

/// How a store fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// A compared key has another revision; nothing of the batch was applied.
    #[error("'{key}' changed meanwhile: revision {found}, not {expected}")]
    RevisionMoved {
        /// The key.
        key: String,
        /// What the batch compared with; 0 is absent.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// The store does not answer, or did not within the deadline; whether a commit was applied is then not known.
    #[error("the store does not answer: {0}")]
    Unavailable(String),
    /// The disk is full; nothing of the batch was applied.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store lacks the ability that was asked for.
    #[error("{store} cannot {what}")]
    Unsupported {
        /// The store.
        store: &'static str,
        /// The ability: `compare`, `hold keys`, `watch`.
        what: &'static str,
    },
    /// What is stored cannot be read.
    #[error("stored '{key}' is damaged: {reason}")]
    Damaged {
        /// The key.
        key: String,
        /// How.
        reason: String,
    },
}

/// A stored value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its key.
    pub key: String,
    /// Its bytes.
    pub value: Vec<u8>,
    /// Grows with each write of the key; never 0.
    pub revision: u64,
}

/// Changes that belong together: all compares hold, then all puts are done in their order, then all deletes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Keys with the revision that they must have; 0: must be absent.
    pub compare: Vec<(String, u64)>,
    /// Keys with their new values.
    pub put: Vec<(String, Vec<u8>)>,
    /// Keys that are deleted; absent ones are no error.
    pub delete: Vec<String>,
}

/// What a store has done since it was opened, for metrics and tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Batches committed.
    pub commits: u64,
    /// Times the disk was made to keep them; fewer than `commits` where batches went together.
    pub syncs: u64,
}

/// A durable ordered map.
pub trait StateStore: Send + Sync {
    /// The entry of `key`.
    fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError>;

    /// Up to `limit` entries whose keys start with `prefix` and come after `after` (empty: from the first), by key.
    fn scan(&self, prefix: &str, after: &str, limit: usize, deadline: Deadline) -> Result<Vec<Entry>, StoreError>;

    /// Applies the batch whole, durably.
    fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError>;

    /// Whether it answers, for health.
    fn check(&self, deadline: Deadline) -> Result<(), StoreError>;

    /// Counters since it was opened.
    fn stats(&self) -> StoreStats;
}

impl From<StoreError> for crate::error::Error {
    fn from(error: StoreError) -> Self {
        use crate::error::{ErrorCode, ErrorKind};
        let (kind, code) = match &error {
            StoreError::RevisionMoved { .. } => (ErrorKind::Aborted, ErrorCode::RevisionMoved),
            StoreError::Unavailable(_) => (ErrorKind::Unavailable, ErrorCode::StoreUnavailable),
            StoreError::Full(_) => (ErrorKind::ResourceExhausted, ErrorCode::StoreUnavailable),
            StoreError::Unsupported { .. } => (ErrorKind::Unimplemented, ErrorCode::StoreUnavailable),
            StoreError::Damaged { .. } => (ErrorKind::Internal, ErrorCode::StoreUnavailable),
        };
        Self::new(kind, code, error.to_string())
    }
}
