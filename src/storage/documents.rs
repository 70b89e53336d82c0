//! [`Documents`]: the one door through which documents are read by kind and name.
//!
//! Without a shared store they are those that were given with requests. With one they are what it holds under
//! `{Kind}/{name}`, Pullpiri's keys; each good answer is kept in the node's own store as the last good copy, from which
//! documents are read while the shared store does not answer. What it does not hold may still have been given with a
//! request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::copies::Copies;
use super::records::Records;
use super::shared::SharedStore;
use super::{Batch, Entry, StateStore, StoreError};
use crate::clock::Deadline;

/// So long after the store did not answer copies are read without asking it again: reading the documents of a Scenario
/// asks several times, and each would wait for its whole time.
const AWAY: Duration = Duration::from_secs(5);

/// The kind of which a Pod is looked for as well.
const MODEL: &str = "Model";

/// Where a document was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was given with a request.
    Own,
    /// The shared store has it, with this revision.
    Shared {
        /// The key's revision.
        revision: u64,
    },
    /// The shared store does not answer; this is what it had.
    Copy,
}

/// A document that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its text; of a Model of which only the Pod is there, empty.
    pub text: String,
    /// Where it was read.
    pub origin: Origin,
    /// Of a Model: the Pod that Pullpiri has made of it.
    pub pod: Option<String>,
}

/// A store that is shared, with the copies of what it had.
struct Shared {
    store: Arc<dyn SharedStore>,
    copies: Arc<Copies>,
    use_copies: bool,
    timeout: Duration,
    /// When the store did not answer, where that was its last word.
    silent_at: Mutex<Option<Instant>>,
}

/// The door.
pub struct Documents {
    records: Records,
    shared: Option<Shared>,
}

impl Documents {
    /// Documents that were given with requests.
    pub fn own(records: Records) -> Self {
        Self { records, shared: None }
    }

    /// Documents of `store`, each call to which has `timeout`; with `use_copies` from the copies where it does not answer.
    /// Those that were given with requests are in the node's `own` store.
    pub fn shared(
        own: Arc<dyn StateStore>,
        store: Arc<dyn SharedStore>,
        copies: Arc<Copies>,
        use_copies: bool,
        timeout: Duration,
    ) -> Self {
        Self {
            records: Records::new(own),
            shared: Some(Shared { store, copies, use_copies, timeout, silent_at: Mutex::default() }),
        }
    }

    /// Several documents by kind and name, in their order, in one round trip; `None` for what is nowhere.
    pub fn find(&self, wanted: &[(&str, &str)], deadline: Deadline) -> Result<Vec<Option<Found>>, StoreError> {
        let own = |kind: &str, name: &str| -> Result<Option<Found>, StoreError> {
            let text = self.records.document(kind, name, deadline)?;
            Ok(text.map(|text| Found { text, origin: Origin::Own, pod: None }))
        };
        let Some(shared) = &self.shared else {
            return wanted.iter().map(|(kind, name)| own(kind, name)).collect();
        };
        let mut wanted_keys = Vec::new();
        for (kind, name) in wanted {
            wanted_keys.push(format!("{kind}/{name}"));
            if *kind == MODEL {
                wanted_keys.push(format!("Pod/{name}"));
            }
        }
        let (texts, is_copy) = shared.texts(&wanted_keys, deadline)?;
        let mut texts = texts.into_iter();
        let mut all = Vec::with_capacity(wanted.len());
        for (kind, name) in wanted {
            let main = texts.next().flatten();
            let pod = if *kind == MODEL { texts.next().flatten().map(|(text, _)| text) } else { None };
            let found = match (main, &pod) {
                (None, None) => own(kind, name)?,
                (main, _) => {
                    let (text, revision) = main.unwrap_or_default();
                    let origin = if is_copy { Origin::Copy } else { Origin::Shared { revision } };
                    Some(Found { text, origin, pod })
                }
            };
            all.push(found);
        }
        Ok(all)
    }

    /// What a key of the shared store holds, or held; `None` where it is absent or nothing is shared.
    pub fn raw(&self, key: &str, deadline: Deadline) -> Result<Option<String>, StoreError> {
        let Some(shared) = &self.shared else { return Ok(None) };
        let (mut texts, _) = shared.texts(&[key.to_owned()], deadline)?;
        Ok(texts.pop().flatten().map(|(text, _)| text))
    }

    /// Writes a document again, unless its revision is another one by now; a store that cannot compare writes it in any
    /// case. `revision` 0 is a document that was given with a request.
    pub fn replace(
        &self,
        kind: &str,
        name: &str,
        revision: u64,
        text: &str,
        deadline: Deadline,
    ) -> Result<(), StoreError> {
        let Some(shared) = self.shared.as_ref().filter(|_| revision != 0) else {
            let mut changes = super::records::Changes::new();
            changes.put_document(kind, name, text);
            return self.records.commit(changes, deadline);
        };
        let key = format!("{kind}/{name}");
        let mut batch = Batch { put: vec![(key.clone(), text.as_bytes().to_vec())], ..Batch::default() };
        if shared.store.abilities().compare {
            batch.compare.push((key.clone(), revision));
        }
        shared.store.commit(batch, deadline.at_most(shared.timeout))?;
        if let Err(error) = shared.copies.note(&[(&key, Some(text.as_bytes()))]) {
            crate::limited!(log::Level::Warn, "the copy of '{key}' is not up to date: {error}");
        }
        Ok(())
    }
}

/// A text with the revision of its key.
type Text = (String, u64);

impl Shared {
    /// The texts of several keys, and whether they are copies.
    fn texts(&self, wanted: &[String], deadline: Deadline) -> Result<(Vec<Option<Text>>, bool), StoreError> {
        if self.use_copies
            && self.silence().is_some_and(|at| at.elapsed() < AWAY)
            && let Some(texts) = self.copied(wanted)?
        {
            return Ok((texts, true));
        }
        let found = self.store.get_many(wanted, deadline.at_most(self.timeout));
        let is_silent = matches!(found, Err(StoreError::Unavailable(_)));
        *self.silent_at.lock().unwrap_or_else(PoisonError::into_inner) = is_silent.then(Instant::now);
        match found {
            Ok(found) => {
                self.keep(wanted, &found);
                let texts = found.into_iter().map(|entry| entry.map(text_of).transpose());
                Ok((texts.collect::<Result<_, _>>()?, false))
            }
            Err(error @ StoreError::Unavailable(_)) if self.use_copies => {
                crate::limited!(log::Level::Warn, "last good copies are used: {error}");
                // Of what there is no copy nobody can tell whether it exists, unless all was copied.
                self.copied(wanted)?.map(|texts| (texts, true)).ok_or(error)
            }
            Err(error) => Err(error),
        }
    }

    fn silence(&self) -> Option<Instant> {
        *self.silent_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The copies; `None` where there is not one, and it is not known that there is nothing.
    fn copied(&self, wanted: &[String]) -> Result<Option<Vec<Option<Text>>>, StoreError> {
        let copy =
            |key: &String| -> Result<Option<Text>, StoreError> { self.copies.get(key)?.map(text_of).transpose() };
        let texts: Vec<_> = wanted.iter().map(copy).collect::<Result<_, _>>()?;
        let is_known = texts.iter().any(Option::is_some) || self.copies.are_whole()?;
        Ok(is_known.then_some(texts))
    }

    /// Keeps what was answered, where it is not kept already.
    fn keep(&self, wanted: &[String], found: &[Option<Entry>]) {
        let held: Vec<_> = wanted
            .iter()
            .zip(found)
            .map(|(key, entry)| (key.as_str(), entry.as_ref().map(|entry| entry.value.as_slice())))
            .collect();
        if let Err(error) = self.copies.note(&held) {
            crate::limited!(log::Level::Warn, "documents are not kept for when the store is away: {error}");
        }
    }
}

fn text_of(entry: Entry) -> Result<Text, StoreError> {
    let Entry { key, value, revision } = entry;
    let text =
        String::from_utf8(value).map_err(|_| StoreError::Damaged { key, reason: "it is no UTF-8".to_owned() })?;
    Ok((text, revision))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::cancel::CancelToken;
    use crate::storage::memory::MemoryStore;
    use crate::storage::shared::{Abilities, HeldKey, StoreChanges};
    use crate::storage::{StoreStats, records::Changes};

    /// A shared store that can be taken away.
    #[derive(Default)]
    struct Away(MemoryStore, AtomicBool);

    impl Away {
        fn there(&self) -> Result<&MemoryStore, StoreError> {
            let is_away = self.1.load(Ordering::SeqCst);
            if is_away { Err(StoreError::Unavailable("as scripted".into())) } else { Ok(&self.0) }
        }
    }

    impl StateStore for Away {
        fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
            self.there()?.get(key, deadline)
        }
        fn scan(&self, prefix: &str, after: &str, limit: usize, at: Deadline) -> Result<Vec<Entry>, StoreError> {
            self.there()?.scan(prefix, after, limit, at)
        }
        fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
            self.there()?.commit(batch, deadline)
        }
        fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
            self.there()?.check(deadline)
        }
        fn stats(&self) -> StoreStats {
            self.0.stats()
        }
    }

    impl SharedStore for Away {
        fn name(&self) -> &'static str {
            "scripted"
        }
        fn abilities(&self) -> Abilities {
            Abilities { compare: true, leases: false, watch: false }
        }
        fn hold(&self, _key: &str, _value: &str) -> Result<Box<dyn HeldKey>, StoreError> {
            Err(StoreError::Unsupported { store: "scripted", what: "hold keys" })
        }
        fn watch(&self, _prefixes: &[String], _cancel: &CancelToken) -> Result<StoreChanges, StoreError> {
            Err(StoreError::Unsupported { store: "scripted", what: "watch" })
        }
    }

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn put(store: &dyn StateStore, key: &str, text: &str) {
        let put = vec![(key.to_owned(), text.as_bytes().to_vec())];
        store.commit(Batch { put, ..Batch::default() }, soon()).unwrap();
    }

    fn doors(use_copies: bool) -> (Arc<Away>, Arc<MemoryStore>, Documents) {
        let (shared, own) = (Arc::new(Away::default()), Arc::new(MemoryStore::new()));
        let copies = Arc::new(Copies::new(Arc::clone(&own) as _));
        let limit = Duration::from_secs(5);
        let documents = Documents::shared(Arc::clone(&own) as _, Arc::clone(&shared) as _, copies, use_copies, limit);
        (shared, own, documents)
    }

    fn one(documents: &Documents, kind: &str, name: &str) -> Result<Option<Found>, StoreError> {
        Ok(documents.find(&[(kind, name)], soon())?.pop().unwrap())
    }

    // req: AC-21
    #[test]
    fn last_good_copy_serves_while_the_store_is_away_and_says_what_it_is() {
        let (shared, _own, documents) = doors(true);
        put(&shared.0, "Package/p", "first");
        assert_eq!(one(&documents, "Package", "p").unwrap().unwrap().text, "first");
        put(&shared.0, "Package/p", "second");
        put(&shared.0, "Package/never-read", "x");
        one(&documents, "Package", "p").unwrap();
        shared.1.store(true, Ordering::SeqCst);
        let found = one(&documents, "Package", "p").unwrap().unwrap();
        assert_eq!((found.text.as_str(), found.origin), ("second", Origin::Copy));
        assert!(matches!(one(&documents, "Package", "never-read"), Err(StoreError::Unavailable(_))));
        // It is not asked again at once, but soon.
        shared.1.store(false, Ordering::SeqCst);
        assert_eq!(one(&documents, "Package", "p").unwrap().unwrap().origin, Origin::Copy);
        *documents.shared.as_ref().unwrap().silent_at.lock().unwrap() = Instant::now().checked_sub(2 * AWAY);
        // What the store no longer has is not served from a copy later.
        shared.0.commit(Batch { delete: vec!["Package/p".into()], ..Batch::default() }, soon()).unwrap();
        assert_eq!(one(&documents, "Package", "p").unwrap(), None);
        shared.1.store(true, Ordering::SeqCst);
        assert!(one(&documents, "Package", "p").is_err());
    }

    #[test]
    fn without_copies_a_store_that_is_away_is_an_error() {
        let (shared, _own, documents) = doors(false);
        put(&shared.0, "Package/p", "x");
        one(&documents, "Package", "p").unwrap();
        shared.1.store(true, Ordering::SeqCst);
        assert!(matches!(one(&documents, "Package", "p"), Err(StoreError::Unavailable(_))));
    }

    #[test]
    fn model_comes_with_its_pod_and_a_pod_alone_is_found_too() {
        let (shared, _own, documents) = doors(true);
        put(&shared.0, "Model/m", "model");
        put(&shared.0, "Pod/m", "pod");
        put(&shared.0, "Pod/alone", "lonely");
        let found = documents.find(&[("Model", "m"), ("Model", "alone"), ("Model", "none")], soon()).unwrap();
        let m = found[0].as_ref().unwrap();
        assert_eq!((m.text.as_str(), m.pod.as_deref()), ("model", Some("pod")));
        let alone = found[1].as_ref().unwrap();
        assert_eq!((alone.text.as_str(), alone.pod.as_deref()), ("", Some("lonely")));
        assert_eq!(found[2], None);
    }

    #[test]
    fn what_was_given_with_a_request_is_found_where_the_store_has_nothing() {
        let (_shared, own, documents) = doors(true);
        let mut changes = Changes::new();
        changes.put_document("Package", "p", "given");
        Records::new(own as _).commit(changes, soon()).unwrap();
        let found = one(&documents, "Package", "p").unwrap().unwrap();
        assert_eq!((found.text.as_str(), found.origin), ("given", Origin::Own));
        assert_eq!(documents.raw("Package/p", soon()).unwrap(), None);
    }

    #[test]
    fn document_that_changed_meanwhile_is_not_written_over() {
        let (shared, _own, documents) = doors(true);
        put(&shared.0, "Package/p", "first");
        let Origin::Shared { revision } = one(&documents, "Package", "p").unwrap().unwrap().origin else { panic!() };
        put(&shared.0, "Package/p", "by another");
        let refused = documents.replace("Package", "p", revision, "mine", soon());
        assert!(matches!(refused, Err(StoreError::RevisionMoved { .. })));
        let Origin::Shared { revision } = one(&documents, "Package", "p").unwrap().unwrap().origin else { panic!() };
        documents.replace("Package", "p", revision, "mine", soon()).unwrap();
        assert_eq!(documents.raw("Package/p", soon()).unwrap().as_deref(), Some("mine"));
    }
}
