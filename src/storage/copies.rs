//! [`Copies`]: the last good copies of what a shared store holds, in the node's own store; and [`CopyKeeper`], which keeps
//! them up to date where the shared store tells of changes, so that also a Scenario that was never triggered before can be
//! launched while the store is away.
//!
//! Only what differs is written, because flash wears. Copies never go because the shared store does not answer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::shared::{SharedStore, StoreChange};
use super::{Batch, Entry, StateStore, StoreError, keys};
use crate::cancel::CancelToken;
use crate::clock::Deadline;

/// Where Pullpiri's services keep documents, and where nodes are.
const PREFIXES: [&str; 11] = [
    "Scenario/",
    "Package/",
    "Model/",
    "Pod/",
    "Network/",
    "Node/",
    "Volume/",
    "Schedule/",
    "Policy/",
    "nodes/",
    "cluster/nodes/",
];

/// The time that one access to the node's own store has.
const OWN_BUDGET: Duration = Duration::from_secs(5);

/// Copies, at most; further ones are not kept.
const MOST: usize = 10_000;

/// One copy, at most, bytes; larger ones are not kept.
const MOST_BYTES: usize = 1 << 20;

/// Copies that are read or written at once.
const PAGE: usize = 128;

/// What a key of the shared store holds; `None`: it is absent.
pub type Held<'a> = (&'a str, Option<&'a [u8]>);

/// The copies.
pub struct Copies {
    store: Arc<dyn StateStore>,
    /// The keys of all copies, as of the shared store; `None` until they are read.
    known: Mutex<Option<BTreeSet<String>>>,
}

impl Copies {
    /// The copies in this store.
    pub fn new(store: Arc<dyn StateStore>) -> Self {
        Self { store, known: Mutex::default() }
    }

    /// The copy of a key.
    pub fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let found = self.store.get(&keys::copy(key), Deadline::after(OWN_BUDGET))?;
        Ok(found.map(|copy| Entry { key: key.to_owned(), ..copy }))
    }

    /// Whether all that the shared store had is copied, and nothing was left out since: then what has no copy was not there.
    pub fn are_whole(&self) -> Result<bool, StoreError> {
        Ok(self.store.get(keys::COPIED, Deadline::after(OWN_BUDGET))?.is_some())
    }

    /// Notes what keys hold now; writes what differs. Tells whether a copy of each is kept; where one is left out the
    /// copies are no longer whole.
    pub fn note(&self, all: &[Held<'_>]) -> Result<bool, StoreError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = match known.take() {
            Some(names) => names,
            None => self.read_names()?,
        };
        let noted = all.chunks(PAGE).try_fold(true, |kept, some| Ok(self.note_some(some, &mut names)? && kept));
        // What was written of a batch that failed is not known: the names are read again.
        *known = noted.is_ok().then_some(names);
        noted
    }

    fn note_some(&self, some: &[Held<'_>], names: &mut BTreeSet<String>) -> Result<bool, StoreError> {
        let (mut batch, mut is_kept) = (Batch::default(), true);
        for (key, value) in some {
            let fits = value.is_none_or(|value| value.len() <= MOST_BYTES);
            let has_room = names.contains(*key) || names.len() < MOST;
            if value.is_some() && !(fits && has_room) {
                is_kept = false;
                crate::limited!(log::Level::Warn, "no copy of '{key}' is kept: it is too large, or there are too many");
            }
            match value.filter(|_| fits && has_room) {
                Some(value) => {
                    let kept = if names.contains(*key) { self.get(key)? } else { None };
                    if kept.is_none_or(|kept| kept.value != value) {
                        batch.put.push((keys::copy(key), value.to_vec()));
                    }
                    names.insert((*key).to_owned());
                }
                None if names.remove(*key) => batch.delete.push(keys::copy(key)),
                None => {}
            }
        }
        if !is_kept && self.are_whole()? {
            batch.delete.push(keys::COPIED.to_owned());
        }
        if batch != Batch::default() {
            self.store.commit(batch, Deadline::after(OWN_BUDGET))?;
        }
        Ok(is_kept)
    }

    /// A change could not be noted: what has no copy may be there all the same.
    fn missed_one(&self) -> Result<(), StoreError> {
        if !self.are_whole()? {
            return Ok(());
        }
        let delete = vec![keys::COPIED.to_owned()];
        self.store.commit(Batch { delete, ..Batch::default() }, Deadline::after(OWN_BUDGET))
    }

    /// All that the shared store holds is this: notes it, and deletes copies of what is gone. Tells whether the copies are
    /// whole.
    fn note_all(&self, entries: &[Entry]) -> Result<bool, StoreError> {
        let there: BTreeSet<&str> = entries.iter().map(|entry| entry.key.as_str()).collect();
        let names = self.read_names()?;
        let is_watched = |name: &&String| PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        let gone = names.iter().filter(is_watched).filter(|name| !there.contains(name.as_str()));
        let mut all: Vec<Held<'_>> = gone.map(|name| (name.as_str(), None)).collect();
        all.extend(entries.iter().map(|entry| (entry.key.as_str(), Some(entry.value.as_slice()))));
        // Some at a time, so that a launch that reads documents meanwhile does not wait for all.
        let is_whole = all.chunks(PAGE).try_fold(true, |kept, some| Ok::<_, StoreError>(self.note(some)? && kept))?;
        if is_whole && !self.are_whole()? {
            let put = vec![(keys::COPIED.to_owned(), b"1".to_vec())];
            self.store.commit(Batch { put, ..Batch::default() }, Deadline::after(OWN_BUDGET))?;
        }
        Ok(is_whole)
    }

    fn read_names(&self) -> Result<BTreeSet<String>, StoreError> {
        let (mut names, mut after) = (BTreeSet::new(), String::new());
        loop {
            let page = self.store.scan(keys::COPIES, &after, PAGE, Deadline::after(OWN_BUDGET))?;
            let Some(last) = page.last() else { return Ok(names) };
            after.clone_from(&last.key);
            names.extend(page.iter().filter_map(|copy| copy.key.strip_prefix(keys::COPIES)).map(str::to_owned));
        }
    }
}

/// The handle of the thread that keeps copies up to date.
pub struct CopyKeeper {
    stop: CancelToken,
    thread: JoinHandle<()>,
}

impl CopyKeeper {
    /// Starts the thread. `shared` has to be able to watch.
    pub fn start(shared: Arc<dyn SharedStore>, copies: Arc<Copies>) -> std::io::Result<Self> {
        let stop = CancelToken::new();
        let token = stop.clone();
        let run = move || keep(&*shared, &copies, &token);
        let thread = thread::Builder::new().name("copies".to_owned()).spawn(run)?;
        Ok(Self { stop, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.stop.cancel("the Action Controller is stopping");
        if self.thread.join().is_err() {
            log::error!("the thread of the copies panicked");
        }
    }
}

fn keep(shared: &dyn SharedStore, copies: &Copies, stop: &CancelToken) {
    let changes = match shared.watch(&PREFIXES.map(str::to_owned), stop) {
        Ok(changes) => changes,
        Err(error) => return log::error!("copies of documents are kept only as these are read: {error}"),
    };
    for change in changes {
        let noted = match change {
            Ok(StoreChange::Snapshot(entries)) => {
                let which = |is_whole| if is_whole { "all" } else { "not all" };
                copies.note_all(&entries).map(|is_whole| {
                    log::info!("{} of {} documents of {} are copied", which(is_whole), entries.len(), shared.name());
                })
            }
            Ok(StoreChange::Put(entry)) => copies.note(&[(&entry.key, Some(&entry.value))]).map(drop),
            Ok(StoreChange::Deleted { key }) => copies.note(&[(&key, None)]).map(drop),
            Err(error) => {
                crate::limited!(log::Level::Warn, "copies of documents are not kept up to date: {error}");
                continue;
            }
        };
        if let Err(error) = noted.or_else(|error| copies.missed_one().and(Err(error))) {
            crate::limited!(log::Level::Warn, "copies of documents could not be written: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::memory::MemoryStore;

    fn entry(key: &str, text: &str) -> Entry {
        Entry { key: key.into(), value: text.into(), revision: 1 }
    }

    fn text(copies: &Copies, key: &str) -> Option<String> {
        copies.get(key).unwrap().map(|copy| String::from_utf8(copy.value).unwrap())
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_gone_is_deleted() {
        let store = Arc::new(MemoryStore::new());
        let copies = Copies::new(Arc::clone(&store) as _);
        copies.note_all(&[entry("Model/a", "1"), entry("Package/p", "2")]).unwrap();
        let commits = store.stats().commits;
        copies.note_all(&[entry("Model/a", "1"), entry("Package/p", "2")]).unwrap();
        copies.note(&[("Model/a", Some(b"1")), ("Model/none", None)]).unwrap();
        assert_eq!(store.stats().commits, commits);
        copies.note_all(&[entry("Package/p", "3")]).unwrap();
        assert_eq!((text(&copies, "Model/a"), text(&copies, "Package/p").as_deref()), (None, Some("3")));
        // The next start knows what is there.
        let later = Copies::new(store as _);
        later.note(&[("Package/p", None)]).unwrap();
        assert_eq!(text(&later, "Package/p"), None);
    }

    #[test]
    fn what_is_too_large_is_left_out_and_an_old_copy_of_it_goes() {
        let copies = Copies::new(Arc::new(MemoryStore::new()));
        copies.note(&[("Model/a", Some(b"1"))]).unwrap();
        let large = vec![b'x'; MOST_BYTES + 1];
        copies.note(&[("Model/a", Some(&large)), ("Model/b", Some(b"2"))]).unwrap();
        assert_eq!((text(&copies, "Model/a"), text(&copies, "Model/b").as_deref()), (None, Some("2")));
    }

    // req: AC-21
    #[test]
    fn copies_are_whole_only_while_none_is_left_out() {
        let copies = Copies::new(Arc::new(MemoryStore::new()));
        let large = Entry { value: vec![b'x'; MOST_BYTES + 1], ..entry("Model/large", "") };
        // A page after the one that leaves one out does not hide it.
        let many: Vec<Entry> = (0..PAGE).map(|at| entry(&format!("Model/m{at}"), "1")).collect();
        let with_large: Vec<Entry> = [large.clone()].into_iter().chain(many.clone()).collect();
        assert!(!copies.note_all(&with_large).unwrap());
        assert!(!copies.are_whole().unwrap());
        assert!(copies.note_all(&many).unwrap());
        assert!(copies.are_whole().unwrap());
        // One that is left out later, and a change that could not be noted.
        assert!(!copies.note(&[("Model/large", Some(&large.value))]).unwrap());
        assert!(!copies.are_whole().unwrap());
        copies.note_all(&many).unwrap();
        copies.missed_one().unwrap();
        assert!(!copies.are_whole().unwrap());
        // Later changes do not make them whole; the next listing does.
        copies.note(&[("Model/large", None)]).unwrap();
        assert!(!copies.are_whole().unwrap());
        copies.note_all(&many).unwrap();
        assert!(copies.are_whole().unwrap());
    }
}
