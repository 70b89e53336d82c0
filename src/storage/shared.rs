//! The port to a store that several nodes and services share: [`SharedStore`], a [`StateStore`] that can do more.
//!
//! What a backend cannot do it says in [`Abilities`]; asking for it all the same is [`StoreError::Unsupported`].

use super::{Entry, StateStore, StoreError};
use crate::cancel::CancelToken;
use crate::clock::Deadline;

/// What a shared store can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Abilities {
    /// Batches with compares.
    pub compare: bool,
    /// Keys that go when their holder no longer gives a sign of life.
    pub leases: bool,
    /// Telling of changes.
    pub watch: bool,
}

/// Whose a held key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Ours; with its revision, which a batch compares so that nothing is written once the key is lost.
    Ours {
        /// The key's revision.
        revision: u64,
    },
    /// Somebody else's, who holds it with this value.
    Theirs {
        /// The other's value.
        value: String,
    },
    /// Not known: the store does not answer.
    Unknown {
        /// Why.
        reason: String,
    },
}

/// A key that is kept as ours until this is dropped: renewed in time, taken again where the lease ran out meanwhile (the
/// machine slept), and left alone while somebody else has it.
pub trait HeldKey: Send + Sync {
    /// Whose the key is, as known last; never blocks.
    fn state(&self) -> Hold;
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreChange {
    /// All that is under the prefixes now; what is not in it is gone. First, and again where changes were missed.
    Snapshot(Vec<Entry>),
    /// A key was written.
    Put(Entry),
    /// A key was deleted.
    Deleted {
        /// The key.
        key: String,
    },
}

/// Changes one by one; blocks for the next. An error tells that the store does not answer: asking for the next item
/// tries again, with pauses. Ends when the token is cancelled.
pub type StoreChanges = Box<dyn Iterator<Item = Result<StoreChange, StoreError>> + Send>;

/// A store that is shared.
pub trait SharedStore: StateStore {
    /// Its name for people: `etcd`, `RocksDbService`.
    fn name(&self) -> &'static str;

    /// What it can do.
    fn abilities(&self) -> Abilities;

    /// The entries of several keys, in their order, in as few round trips as the store allows.
    fn get_many(&self, keys: &[String], deadline: Deadline) -> Result<Vec<Option<Entry>>, StoreError> {
        keys.iter().map(|key| self.get(key, deadline)).collect()
    }

    /// Begins to hold `key` with `value`. Returns at once; [`HeldKey::state`] tells what came of it.
    fn hold(&self, key: &str, value: &str) -> Result<Box<dyn HeldKey>, StoreError>;

    /// Begins to watch everything under these prefixes, over one connection.
    fn watch(&self, prefixes: &[String], cancel: &CancelToken) -> Result<StoreChanges, StoreError>;
}
