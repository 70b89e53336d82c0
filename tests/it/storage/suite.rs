//! What every [`StateStore`] has to do. A new backend passes this unchanged.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use actioncontroller::clock::Deadline;
use actioncontroller::storage::{Batch, Entry, StateStore, StoreError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::{put, soon};

/// Makes an empty store.
type Make<'a> = &'a dyn Fn() -> Box<dyn StateStore>;

/// Runs every case, each on an empty store.
pub fn run(make: Make) {
    run_below(make, usize::MAX);
}

/// As [`run`], for a store that takes values of less than so many bytes.
pub fn run_below(make: Make, bytes: usize) {
    let cases: [fn(&dyn StateStore); 9] = [
        absent_key_is_none_and_absent_delete_no_error,
        scan_is_by_key_within_the_prefix_after_the_given_key_up_to_the_limit,
        compare_holds_for_the_present_revision_and_zero_for_absence,
        failed_compare_applies_nothing_of_the_batch,
        revision_rises_with_each_write_even_over_a_delete,
        within_a_batch_the_last_put_counts_and_delete_comes_after_it,
        deadline_that_is_over_is_unavailable_and_applies_nothing,
        concurrent_compares_let_exactly_one_win,
        check_answers_and_empty_batch_is_no_error,
    ];
    for case in cases {
        case(&*make());
    }
    values_of_any_size_and_bytes_come_back(&*make(), bytes);
    behaves_as_a_map_does(make);
}

fn keys(entries: &[Entry]) -> Vec<&str> {
    entries.iter().map(|entry| entry.key.as_str()).collect()
}

fn compare(key: &str, revision: u64) -> Vec<(String, u64)> {
    vec![(key.to_owned(), revision)]
}

fn absent_key_is_none_and_absent_delete_no_error(store: &dyn StateStore) {
    assert_eq!(store.get("nothing", soon()).unwrap(), None);
    store.commit(Batch { delete: vec!["nothing".to_owned()], ..Batch::default() }, soon()).unwrap();
    assert_eq!(store.scan("", "", 10, soon()).unwrap(), []);
}

fn scan_is_by_key_within_the_prefix_after_the_given_key_up_to_the_limit(store: &dyn StateStore) {
    for key in ["b/2", "a/1", "b/10", "b/1", "c", "b", "b/é", "b0"] {
        store.commit(put(key, key), soon()).unwrap();
    }
    let scan = |prefix, after, limit| store.scan(prefix, after, limit, soon()).unwrap();
    assert_eq!(keys(&scan("b/", "", 100)), ["b/1", "b/10", "b/2", "b/é"]);
    assert_eq!(keys(&scan("b/", "b/1", 100)), ["b/10", "b/2", "b/é"]);
    assert_eq!(keys(&scan("b/", "b/11", 1)), ["b/2"], "a key that is not there is a place too");
    assert_eq!(keys(&scan("b/", "", 2)), ["b/1", "b/10"]);
    assert_eq!(keys(&scan("b/", "a/1", 1)), ["b/1"], "a place before the prefix");
    assert_eq!(keys(&scan("b/", "c", 100)), [""; 0], "a place behind the prefix");
    assert_eq!(keys(&scan("b/", "", 0)), [""; 0]);
    assert_eq!(keys(&scan("", "", 100)), ["a/1", "b", "b/1", "b/10", "b/2", "b/é", "b0", "c"]);
    assert_eq!(scan("b/2", "", 1)[0].value, b"b/2");
}

fn compare_holds_for_the_present_revision_and_zero_for_absence(store: &dyn StateStore) {
    store.commit(Batch { compare: compare("k", 0), ..put("k", "1") }, soon()).unwrap();
    let first = store.get("k", soon()).unwrap().unwrap().revision;
    assert_ne!(first, 0);
    let again = store.commit(Batch { compare: compare("k", 0), ..put("k", "2") }, soon()).unwrap_err();
    assert_eq!(again, StoreError::RevisionMoved { key: "k".to_owned(), expected: 0, found: first });
    store.commit(Batch { compare: compare("k", first), ..put("k", "2") }, soon()).unwrap();
    let late = store.commit(Batch { compare: compare("k", first), ..put("k", "3") }, soon()).unwrap_err();
    assert!(matches!(late, StoreError::RevisionMoved { found, .. } if found > first), "{late:?}");
    let absent = store.commit(Batch { compare: compare("other", 7), ..put("k", "3") }, soon()).unwrap_err();
    assert_eq!(absent, StoreError::RevisionMoved { key: "other".to_owned(), expected: 7, found: 0 });
    assert_eq!(store.get("k", soon()).unwrap().unwrap().value, b"2");
}

fn failed_compare_applies_nothing_of_the_batch(store: &dyn StateStore) {
    store.commit(put("kept", "1"), soon()).unwrap();
    let before = store.scan("", "", 10, soon()).unwrap();
    let batch = Batch {
        compare: [compare("absent", 0), compare("kept", 999)].concat(),
        put: vec![("new".to_owned(), b"x".to_vec()), ("kept".to_owned(), b"x".to_vec())],
        delete: vec!["kept".to_owned()],
    };
    assert!(store.commit(batch, soon()).is_err());
    assert_eq!(store.scan("", "", 10, soon()).unwrap(), before);
}

fn revision_rises_with_each_write_even_over_a_delete(store: &dyn StateStore) {
    let mut last = 0;
    for round in 0..4u8 {
        store.commit(put("k", vec![round]), soon()).unwrap();
        let revision = store.get("k", soon()).unwrap().unwrap().revision;
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        if round % 2 == 1 {
            store.commit(Batch { delete: vec!["k".to_owned()], ..Batch::default() }, soon()).unwrap();
        }
    }
}

fn within_a_batch_the_last_put_counts_and_delete_comes_after_it(store: &dyn StateStore) {
    let put = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
    let batch = Batch {
        compare: Vec::new(),
        put: vec![put("twice", "1"), put("gone", "1"), put("twice", "2")],
        delete: vec!["gone".to_owned()],
    };
    store.commit(batch, soon()).unwrap();
    assert_eq!(store.get("twice", soon()).unwrap().unwrap().value, b"2");
    assert_eq!(store.get("gone", soon()).unwrap(), None);
}

fn values_of_any_size_and_bytes_come_back(store: &dyn StateStore, below: usize) {
    let sizes = [0, 1, 4095, 4096, 65_537, (4 << 20) + 1, 9 << 20];
    for size in sizes.into_iter().filter(|size| *size < below) {
        let value: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
        store.commit(put("v", value.clone()), soon()).unwrap();
        assert!(store.get("v", soon()).unwrap().unwrap().value == value, "{size} bytes");
    }
    let long = format!("key/{}", "k".repeat(2000));
    store.commit(put(&long, "x"), soon()).unwrap();
    assert_eq!(store.scan("key/", "", 10, soon()).unwrap()[0].key, long);
}

fn deadline_that_is_over_is_unavailable_and_applies_nothing(store: &dyn StateStore) {
    let over = Deadline::after(Duration::ZERO);
    assert!(matches!(store.commit(put("k", "1"), over), Err(StoreError::Unavailable(_))));
    assert!(matches!(store.get("k", over), Err(StoreError::Unavailable(_))));
    assert!(matches!(store.scan("", "", 1, over), Err(StoreError::Unavailable(_))));
    assert!(matches!(store.check(over), Err(StoreError::Unavailable(_))));
    assert_eq!(store.get("k", soon()).unwrap(), None);
}

fn concurrent_compares_let_exactly_one_win(store: &dyn StateStore) {
    for round in 0..10 {
        let key = format!("contested/{}", round % 3);
        let revision = store.get(&key, soon()).unwrap().map_or(0, |entry| entry.revision);
        let barrier = std::sync::Barrier::new(8);
        let winners: usize = thread::scope(|scope| {
            let contend = |n: u8| {
                barrier.wait();
                let batch = Batch { compare: compare(&key, revision), ..put(&key, vec![n]) };
                match store.commit(batch, soon()) {
                    Ok(()) => 1,
                    Err(StoreError::RevisionMoved { .. }) => 0,
                    Err(other) => panic!("{other}"),
                }
            };
            let contenders: Vec<_> = (0..8).map(|n| scope.spawn(move || contend(n))).collect();
            contenders.into_iter().map(|contender| contender.join().unwrap()).sum()
        });
        assert_eq!(winners, 1, "round {round}");
    }
}

fn check_answers_and_empty_batch_is_no_error(store: &dyn StateStore) {
    store.check(soon()).unwrap();
    let commits = store.stats().commits;
    store.commit(Batch::default(), soon()).unwrap();
    assert_eq!(store.stats().commits, commits);
    store.commit(put("k", "1"), soon()).unwrap();
    assert_eq!(store.stats().commits, commits + 1);
}

/// One step of the comparison with a map.
#[derive(Debug, Clone)]
struct Step {
    /// Which keys are compared, and whether with what is there.
    compare: Vec<(u8, bool)>,
    put: Vec<(u8, Vec<u8>)>,
    delete: Vec<u8>,
    scan: (u8, u8, usize),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0..12u8;
    let compare = prop::collection::vec((key.clone(), prop::bool::weighted(0.9)), 0..3);
    let put = prop::collection::vec((key.clone(), prop::collection::vec(any::<u8>(), 0..40)), 0..4);
    let delete = prop::collection::vec(key.clone(), 0..3);
    (compare, put, delete, (key.clone(), key, 0..6usize)).prop_map(|(compare, put, delete, scan)| Step {
        compare,
        put,
        delete,
        scan,
    })
}

/// Keys of several prefixes, some of which begin alike.
fn name(key: u8) -> String {
    format!("{}{}", ["a/", "a", "b/", ""][usize::from(key % 4)], key / 4)
}

fn behaves_as_a_map_does(make: Make) {
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    let steps = prop::collection::vec(step(), 1..30);
    let result = TestRunner::new(config).run(&steps, |steps| {
        let store = make();
        let mut model: BTreeMap<String, (u64, Vec<u8>)> = BTreeMap::new();
        for step in steps {
            apply_to_both(&*store, &mut model, &step);
        }
        Ok(())
    });
    result.unwrap();
}

fn apply_to_both(store: &dyn StateStore, model: &mut BTreeMap<String, (u64, Vec<u8>)>, step: &Step) {
    let revision = |key: &str| model.get(key).map_or(0, |found| found.0);
    let compare = step.compare.iter().map(|(key, right)| {
        let key = name(*key);
        let revision = revision(&key) + u64::from(!right);
        (key, revision)
    });
    let batch = Batch {
        compare: compare.collect(),
        put: step.put.iter().map(|(key, value)| (name(*key), value.clone())).collect(),
        delete: step.delete.iter().map(|key| name(*key)).collect(),
    };
    let holds = step.compare.iter().all(|(_, right)| *right);
    assert_eq!(store.commit(batch.clone(), soon()).is_ok(), holds);
    if holds {
        for (key, value) in batch.put {
            model.insert(key, (0, value));
        }
        for key in batch.delete {
            model.remove(&key);
        }
    }
    let all = store.scan("", "", usize::MAX, soon()).unwrap();
    let values = |entry: &Entry| (entry.key.clone(), entry.value.clone());
    let expected: Vec<_> = model.iter().map(|(key, (_, value))| (key.clone(), value.clone())).collect();
    assert_eq!(all.iter().map(values).collect::<Vec<_>>(), expected);
    for entry in all {
        let known = model.get_mut(&entry.key).unwrap();
        assert!(known.0 == 0 || known.0 == entry.revision, "{} changed its revision unwritten", entry.key);
        known.0 = entry.revision;
    }
    let (prefix, after, limit) = (name(step.scan.0), name(step.scan.1), step.scan.2);
    let found = store.scan(&prefix, &after, limit, soon()).unwrap();
    let expected = model.keys().filter(|key| key.starts_with(&prefix) && **key > after).take(limit);
    assert!(keys(&found).into_iter().eq(expected.map(String::as_str)), "scan {prefix:?} after {after:?}");
}
