//! Damaged, foreign and newer files at the start: the daemon comes up, says what it found, and keeps what it found.

use std::fs;
use std::path::{Path, PathBuf};

use actioncontroller::storage::embedded::{EmbeddedStore, OpenError, OpenReport, Opened, StoreOptions};
use actioncontroller::storage::{Batch, Entry, StateStore};

use super::{open, put, scratch, soon};

const FILE: &str = "state.redb";

/// A state directory with this database file.
fn directory_with(bytes: &[u8]) -> tempfile::TempDir {
    let dir = scratch();
    fs::write(dir.path().join(FILE), bytes).unwrap();
    dir
}

fn open_reported(dir: &Path) -> Opened {
    EmbeddedStore::open(dir, &StoreOptions::default()).unwrap()
}

fn contents(store: &dyn StateStore) -> Vec<Entry> {
    store.scan("", "", usize::MAX, soon()).unwrap()
}

/// A database as a life of the daemon leaves it, with the contents before its last commit and after it.
struct Template {
    orderly: bool,
    bytes: Vec<u8>,
    before: Vec<Entry>,
    after: Vec<Entry>,
}

impl Template {
    /// Closed in order, or as after `kill -9`.
    fn new(orderly: bool) -> Self {
        let dir = scratch();
        let store = open(dir.path());
        for n in 0..14u32 {
            let put = (0..3).map(|part| (format!("{part}/{n}"), vec![n as u8; (n as usize * 397) % 1500])).collect();
            let delete = n.checked_sub(6).map(|old| format!("1/{old}")).into_iter().collect();
            store.commit(Batch { put, delete, compare: Vec::new() }, soon()).unwrap();
        }
        let before = contents(&store);
        store.commit(put("last", "x"), soon()).unwrap();
        let after = contents(&store);
        let path = dir.path().join(FILE);
        let bytes = if orderly {
            drop(store);
            fs::read(path).unwrap()
        } else {
            fs::read(path).unwrap()
        };
        Self { orderly, bytes, before, after }
    }

    /// Opens `bytes`: what is in the store is all of it, or the store is empty and the file is kept and reported. Of a
    /// file left by a kill the last commit may be gone too, whole, as when a power cut tears one.
    fn survives(&self, bytes: &[u8], case: &str) -> OpenReport {
        let dir = directory_with(bytes);
        let Opened { store, report } = open_reported(dir.path());
        let found = contents(&store);
        match &report.damaged {
            Some(damaged) => {
                assert_eq!(found, [], "{case}");
                assert_eq!(fs::metadata(&damaged.kept_as).unwrap().len(), bytes.len() as u64, "{case}: it is kept");
                assert!(!damaged.reason.is_empty() && !report.warnings().is_empty(), "{case}");
                assert_eq!(report.aside, std::slice::from_ref(&damaged.kept_as), "{case}");
            }
            None if !self.orderly => assert!(found == self.before || found == self.after, "{case}"),
            None => assert!(found == self.after, "{case}: {} of {}", found.len(), self.after.len()),
        }
        store.commit(put("works", "on"), soon()).unwrap();
        if report.damaged.is_none() {
            return report;
        }
        drop(store);
        let again = open_reported(dir.path());
        assert!(again.report.damaged.is_none(), "{case}: no second report: {:?}", again.report);
        assert!(again.store.get("works", soon()).unwrap().is_some(), "{case}");
        report
    }
}

fn lengths(whole: usize) -> impl Iterator<Item = usize> {
    let edges = [0, 1, 8, 9, 10, 63, 64, 65, 191, 192, 255, 319, 320, 321, 4095, 4096, 4097];
    let steps = (1..whole).step_by(whole / 12);
    edges.into_iter().chain(steps).chain([whole - 4097, whole - 4096, whole - 1])
}

#[test]
fn cut_file_is_kept_aside_and_the_store_begins_empty() {
    for template in [Template::new(true), Template::new(false)] {
        for length in lengths(template.bytes.len()) {
            let report = template.survives(&template.bytes[..length], &format!("cut to {length}"));
            assert!(report.damaged.is_some(), "cut to {length}");
        }
    }
}

#[test]
fn file_with_bytes_behind_its_end_loses_nothing_or_is_kept_aside() {
    let template = Template::new(true);
    for more in [1, 100, 4095, 4096, 8192, 1 << 20] {
        let mut bytes = template.bytes.clone();
        bytes.resize(bytes.len() + more, 0xAB);
        template.survives(&bytes, &format!("{more} bytes more"));
    }
}

#[test]
fn flipped_bits_of_the_header_never_reach_the_daemon() {
    for template in [Template::new(true), Template::new(false)] {
        for at in (0..64).chain((64..320).step_by(3)) {
            let mut bytes = template.bytes.clone();
            bytes[at] ^= [0x01, 0x80, 0xFF][at % 3];
            template.survives(&bytes, &format!("header byte {at}"));
        }
    }
}

#[test]
fn flipped_bytes_anywhere_never_give_wrong_data() {
    for template in [Template::new(true), Template::new(false)] {
        let used: Vec<usize> = (320..template.bytes.len()).filter(|at| template.bytes[*at] != 0).collect();
        let mut aside = 0;
        for n in 0..40 {
            let mut bytes = template.bytes.clone();
            let at = used[(n * 7919) % used.len()];
            bytes[at] ^= 1 << (n % 8);
            let report = template.survives(&bytes, &format!("byte {at}"));
            aside += usize::from(report.damaged.is_some());
        }
        assert!(aside > 0, "some of these bytes are in use");
    }
}

#[test]
fn lost_pages_never_give_wrong_data() {
    let template = Template::new(true);
    let pages = template.bytes.chunks(4096).enumerate();
    let used: Vec<usize> = pages.filter(|(_, page)| page.iter().any(|byte| *byte != 0)).map(|(n, _)| n).collect();
    for page in used {
        let mut bytes = template.bytes.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        template.survives(&bytes, &format!("page {page}"));
    }
}

#[test]
fn foreign_content_is_kept_aside_byte_for_byte() {
    let noise: Vec<u8> = (0..100_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for content in [b"SQLite format 3\0".to_vec(), b"hello\n".to_vec(), vec![0; 1 << 20], noise] {
        let dir = directory_with(&content);
        let damaged = open_reported(dir.path()).report.damaged.unwrap();
        assert_eq!(fs::read(&damaged.kept_as).unwrap(), content);
        let name = damaged.kept_as.file_name().unwrap().to_string_lossy().into_owned();
        assert!(name.starts_with("state.redb.damaged-2"), "{name}");
    }
}

/// A redb file made by another program, or by another version of this one.
fn redb_with(path: &Path, table: &str, key: &str, value: u64) {
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    let definition = redb::TableDefinition::<&str, u64>::new(table);
    transaction.open_table(definition).unwrap().insert(key, value).unwrap();
    transaction.commit().unwrap();
}

#[test]
fn redb_file_of_another_program_is_kept_aside() {
    let dir = scratch();
    redb_with(&dir.path().join(FILE), "their table", "x", 1);
    let Opened { store, report } = open_reported(dir.path());
    assert!(report.damaged.is_some());
    assert_eq!(contents(&store), []);
}

#[test]
fn newer_format_is_refused_and_left_in_place() {
    let dir = scratch();
    redb_with(&dir.path().join(FILE), "marks", "format", 2);
    for _ in 0..2 {
        let error = EmbeddedStore::open(dir.path(), &StoreOptions::default()).err().unwrap();
        assert!(matches!(error, OpenError::Newer { found: 2, .. }), "{error}");
        assert!(error.to_string().contains("format 2 of a newer program"), "{error}");
    }
    let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.iter().all(|name| name == FILE || name == "lock"), "{names:?}");

    let mut bytes = Template::new(true).bytes;
    (bytes[64], bytes[192]) = (9, 9);
    let dir = directory_with(&bytes);
    let error = EmbeddedStore::open(dir.path(), &StoreOptions::default()).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 9, .. }), "{error}");
    assert!(fs::read(dir.path().join(FILE)).unwrap() == bytes);
}

#[test]
fn what_is_no_regular_file_never_blocks_the_start() {
    let dir = scratch();
    let path = dir.path().join(FILE);
    fs::create_dir(&path).unwrap();
    assert!(open_reported(dir.path()).report.damaged.is_some());
    fs::remove_file(&path).unwrap();
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let Opened { store, report } = open_reported(dir.path());
    assert!(report.damaged.is_some());
    assert_eq!(report.aside.len(), 2);
    drop(store);

    // A link may be meant: nothing is moved, the start fails and says so.
    let elsewhere = scratch();
    let target = elsewhere.path().join("data");
    fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let error = EmbeddedStore::open(dir.path(), &StoreOptions::default()).err().unwrap();
    assert!(error.to_string().contains(FILE), "{error}");
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
}

#[test]
fn every_damaged_file_is_kept_and_counted_at_each_start() {
    let dir = scratch();
    for _ in 0..3 {
        fs::write(dir.path().join(FILE), "broken").unwrap();
        assert!(open_reported(dir.path()).report.damaged.is_some());
    }
    let report = open_reported(dir.path()).report;
    assert_eq!(report.aside.iter().collect::<std::collections::BTreeSet::<&PathBuf>>().len(), 3);
    assert!(report.damaged.is_none());
    assert!(report.warnings().iter().any(|line| line.starts_with("3 damaged state file(s)")), "{report}");
}

#[test]
fn half_made_file_of_a_first_start_is_no_damage() {
    let dir = scratch();
    fs::write(dir.path().join("state.redb.new"), "half").unwrap();
    let report = open_reported(dir.path()).report;
    assert!(report.fresh && report.damaged.is_none());
    assert_eq!(report.warnings(), Vec::<String>::new());
}
