//! The store: one behaviour suite for every backend, then what only the embedded one has to stand.

mod crash;
mod damage;
mod full;
pub mod suite;

use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use actioncontroller::clock::Deadline;
use actioncontroller::storage::embedded::{EmbeddedStore, OpenError, StoreOptions};
use actioncontroller::storage::memory::MemoryStore;
use actioncontroller::storage::{Batch, StateStore, StoreError};

/// More than any test needs.
pub fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

/// A directory in memory where there is one: for tests that open many stores and care for no disk.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// The embedded store in `dir`, whatever was there.
pub fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(dir, &StoreOptions::default()).unwrap().store
}

/// A batch that puts `value` under `key`.
pub fn put(key: &str, value: impl Into<Vec<u8>>) -> Batch {
    Batch { put: vec![(key.to_owned(), value.into())], ..Batch::default() }
}

#[test]
fn memory_store_behaves_as_the_port_says() {
    suite::run(&|| Box::new(MemoryStore::new()));
}

#[test]
fn embedded_store_behaves_as_the_port_says() {
    let root = scratch();
    let next = std::sync::atomic::AtomicU32::new(0);
    suite::run(&|| {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Box::new(open(&root.path().join(number.to_string())))
    });
}

#[test]
fn what_was_committed_is_there_after_closing_and_opening_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(put("a", "1"), soon()).unwrap();
    store.commit(put("b", vec![7; 5 << 20]), soon()).unwrap();
    let before = store.scan("", "", 10, soon()).unwrap();
    drop(store);
    let opened = EmbeddedStore::open(dir.path(), &StoreOptions::default()).unwrap();
    assert_eq!(opened.store.scan("", "", 10, soon()).unwrap(), before);
    assert_eq!(opened.report.warnings(), Vec::<String>::new());
    assert!(!opened.report.fresh);
    // Revisions go on where they ended.
    opened.store.commit(put("c", "1"), soon()).unwrap();
    assert!(opened.store.get("c", soon()).unwrap().unwrap().revision > before[1].revision);
}

#[test]
fn second_open_of_a_held_directory_fails_at_once_and_names_the_holder() {
    let dir = tempfile::tempdir().unwrap();
    let held = open(dir.path());
    let error = EmbeddedStore::open(dir.path(), &StoreOptions::default()).err().unwrap();
    assert!(matches!(&error, OpenError::Locked { holder, .. } if *holder == std::process::id().to_string()));
    let text = error.to_string();
    assert!(text.contains(&*dir.path().to_string_lossy()), "{text}");
    held.commit(put("a", "1"), soon()).unwrap();
    drop(held);
    assert!(open(dir.path()).get("a", soon()).unwrap().is_some());
}

#[test]
fn batches_that_arrive_together_share_a_sync() {
    const CALLERS: usize = 16;
    const EACH: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(open(dir.path()));
    let barrier = Arc::new(Barrier::new(CALLERS));
    let callers = (0..CALLERS).map(|caller| {
        let (store, barrier) = (Arc::clone(&store), Arc::clone(&barrier));
        let work = move || {
            for n in 0..EACH {
                barrier.wait();
                store.commit(put(&format!("{caller}/{n}"), "x"), soon()).unwrap();
            }
        };
        thread::Builder::new().name(format!("caller {caller}")).spawn(work).unwrap()
    });
    callers.collect::<Vec<_>>().into_iter().for_each(|caller| caller.join().unwrap());
    let stats = store.stats();
    assert_eq!(stats.commits, (CALLERS * EACH) as u64);
    assert!(stats.syncs * 2 < stats.commits, "{stats:?}");
    assert!(stats.syncs > 0);
    assert_eq!(store.scan("", "", usize::MAX, soon()).unwrap().len(), CALLERS * EACH);
}

#[test]
fn every_commit_of_a_single_caller_is_synced_before_its_answer() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..5 {
        let before = store.stats().syncs;
        store.commit(put("key", vec![n]), soon()).unwrap();
        assert!(store.stats().syncs > before);
    }
    let before = store.stats();
    store.check(soon()).unwrap();
    let refused = store.commit(Batch { compare: vec![("key".to_owned(), 0)], ..put("x", "x") }, soon());
    assert!(matches!(refused, Err(StoreError::RevisionMoved { .. })));
    assert_eq!(store.stats(), before, "what writes nothing costs no sync");
}

#[test]
fn what_callers_committed_together_is_there_after_closing() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let answers: Vec<_> = thread::scope(|scope| {
        let commit = |n: usize| store.commit(put(&n.to_string(), "x"), soon());
        let callers: Vec<_> = (0..8).map(|n| scope.spawn(move || commit(n))).collect();
        callers.into_iter().map(|caller| caller.join().unwrap()).collect()
    });
    drop(store);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!(open(dir.path()).scan("", "", 100, soon()).unwrap().len(), 8);
}

#[test]
fn readers_go_on_while_a_large_batch_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.commit(put("seen", "before"), soon()).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| store.commit(put("large", vec![1; 12 << 20]), soon()));
        let mut reads = 0;
        while !writer.is_finished() {
            assert_eq!(store.get("seen", soon()).unwrap().unwrap().value, b"before");
            reads += 1;
        }
        writer.join().unwrap().unwrap();
        assert!(reads > 10, "{reads} reads while 12 MiB were written");
    });
}

#[test]
fn file_stays_bounded_while_old_entries_go_and_new_ones_come() {
    const KEPT: usize = 2_000;
    let dir = scratch();
    let store = open(dir.path());
    let size = || std::fs::metadata(dir.path().join("state.redb")).unwrap().len();
    let mut after_first = 0;
    for n in (0..5 * KEPT).step_by(50) {
        let value = || vec![b'x'; 1500 + n % 1000];
        let put = (n..n + 50).map(|n| (format!("outcome/{n:08}"), value())).collect();
        let delete = (n..n + 50).filter_map(|n| Some(format!("outcome/{:08}", n.checked_sub(KEPT)?))).collect();
        store.commit(Batch { put, delete, compare: Vec::new() }, soon()).unwrap();
        if n < 2 * KEPT {
            after_first = size();
        }
    }
    assert_eq!(store.scan("", "", usize::MAX, soon()).unwrap().len(), KEPT);
    assert!(size() <= after_first, "{} bytes grew to {}", after_first, size());
    assert!(size() < 32 << 20, "{} bytes for {KEPT} entries of 2 KB", size());
}
