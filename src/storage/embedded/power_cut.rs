//! Test: power cuts. A medium forgets or tears what was written since its last sync, at any write; what was answered
//! is there whole at the next start.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use redb::{Database, StorageBackend};

use super::{EmbeddedStore, StoreOptions, table};
use crate::clock::Deadline;
use crate::storage::{Batch, StateStore};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// A reproducible choice.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What was asked of the medium since its last sync.
#[derive(Debug, Clone)]
enum Unsynced {
    Write(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug)]
struct Tape {
    /// What is there after a cut, whatever happens.
    kept: Vec<u8>,
    /// What readers see.
    seen: Vec<u8>,
    unsynced: Vec<Unsynced>,
    /// Batches answered.
    answered: u64,
    dice: Dice,
    /// Images of the medium after a cut, each with the batches that were answered before it.
    cuts: Vec<(Vec<u8>, u64)>,
}

impl Tape {
    /// Now and then the power goes: each unsynced change is there, or not, or in part.
    fn maybe_cut(&mut self, one_in: u64) {
        if self.dice.below(one_in) != 0 {
            return;
        }
        let mut image = self.kept.clone();
        for change in &self.unsynced {
            match change {
                Unsynced::Length(length) if self.dice.below(2) == 0 => image.resize(*length, 0),
                Unsynced::Length(_) => {}
                Unsynced::Write(offset, data) => {
                    let fate = self.dice.below(3);
                    for (n, sector) in data.chunks(SECTOR).enumerate() {
                        let (from, to) = (offset + n * SECTOR, offset + n * SECTOR + sector.len());
                        let there = fate == 0 || (fate == 1 && self.dice.below(2) == 0);
                        if there && to <= image.len() {
                            image[from..to].copy_from_slice(sector);
                        }
                    }
                }
            }
        }
        self.cuts.push((image, self.answered));
    }
}

#[derive(Debug, Clone)]
struct Medium(Arc<Mutex<Tape>>);

impl Medium {
    fn with<T>(&self, look: impl FnOnce(&mut Tape) -> T) -> T {
        look(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|tape| tape.seen.len()) as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = offset as usize;
        self.with(|tape| match tape.seen.get(from..from + out.len()) {
            Some(bytes) => {
                out.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with(|tape| {
            tape.seen.resize(len as usize, 0);
            tape.unsynced.push(Unsynced::Length(len as usize));
            tape.maybe_cut(2);
        });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|tape| {
            tape.maybe_cut(3);
            tape.kept = tape.seen.clone();
            tape.unsynced.clear();
        });
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let from = offset as usize;
        self.with(|tape| {
            tape.seen[from..from + data.len()].copy_from_slice(data);
            tape.unsynced.push(Unsynced::Write(from, data.to_vec()));
            tape.maybe_cut(25);
        });
        Ok(())
    }
}

/// Batch `n` of a life: some large, some that delete, each rewriting one key.
fn batch(n: u64) -> Batch {
    let value = |size: u64| vec![n as u8; size as usize];
    let mut put = vec![("newest".to_owned(), n.to_string().into_bytes())];
    put.extend((0..3).map(|part| (format!("{n:04}/{part}"), value((n * 7919 + part * 131) % 5000))));
    if n.is_multiple_of(10) {
        put.push(("large".to_owned(), value(200_000)));
    }
    let old = n.checked_sub(8).into_iter();
    let delete = old.flat_map(|old| (0..3).map(move |part| format!("{old:04}/{part}"))).collect();
    Batch { put, delete, compare: Vec::new() }
}

/// What is there after the batches 1 to `n`.
fn model(n: u64) -> BTreeMap<String, Vec<u8>> {
    let mut entries = BTreeMap::new();
    for batch in (1..=n).map(batch) {
        entries.extend(batch.put);
        batch.delete.iter().for_each(|key| drop(entries.remove(key)));
    }
    entries
}

/// Lives on a medium for `batches` and gives the cuts.
fn live(seed: u64, batches: u64) -> Vec<(Vec<u8>, u64)> {
    let (kept, seen, unsynced, cuts) = Default::default();
    let medium = Medium(Arc::new(Mutex::new(Tape { kept, seen, unsynced, answered: 0, dice: Dice(seed), cuts })));
    let database = Database::builder().create_with_backend(medium.clone()).unwrap();
    table::initialise(&database).unwrap();
    medium.with(|tape| tape.cuts.clear());
    for n in 1..=batches {
        let transaction = database.begin_write().unwrap();
        let applied = table::apply(&transaction, [&batch(n)], n - 1).unwrap();
        assert_eq!((applied.answers, applied.sequence), (vec![Ok(())], n));
        transaction.commit().unwrap();
        medium.with(|tape| tape.answered = n);
    }
    drop(database);
    medium.with(|tape| std::mem::take(&mut tape.cuts))
}

#[test]
fn power_cut_at_any_write_loses_nothing_that_was_answered() {
    let mut cuts = 0;
    for seed in 1..=3 {
        for (image, answered) in live(seed, 40) {
            let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
            fs::write(dir.path().join("state.redb"), image).unwrap();
            let opened = EmbeddedStore::open(dir.path(), &StoreOptions::default()).unwrap();
            assert!(opened.report.damaged.is_none(), "seed {seed}, after {answered}: {}", opened.report);
            let deadline = Deadline::after(Duration::from_secs(60));
            let found = opened.store.scan("", "", usize::MAX, deadline).unwrap();
            let found: BTreeMap<_, _> = found.into_iter().map(|entry| (entry.key, entry.value)).collect();
            assert!(found == model(answered) || found == model(answered + 1), "seed {seed}, after {answered}");
            cuts += 1;
        }
    }
    assert!(cuts > 60, "{cuts} cuts");
}
