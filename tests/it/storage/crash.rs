//! `kill -9` of a process that commits all the time: what was acknowledged is there, and whole.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;

use actioncontroller::storage::embedded::{EmbeddedStore, StoreOptions};
use actioncontroller::storage::{Batch, StateStore};

use super::{open, soon};

/// Tells a child process of this binary what it shall do, and where.
pub const CHILD_DIR: &str = "STORE_TEST_DIR";
/// Threads of the child that commit.
const THREADS: usize = 4;
/// Parts of a batch.
const PARTS: usize = 3;
/// How many batches of a thread are kept; older ones are deleted by the batch that comes in.
const KEPT: usize = 12;
const ROUNDS: usize = 32;

/// This binary once more, running only the test `name` as a child for `dir`.
pub fn child(program: &[&str], name: &str, dir: &Path) -> Command {
    let exe = std::env::current_exe().unwrap();
    let mut command = match program {
        [] => Command::new(exe),
        [first, rest @ ..] => {
            let mut command = Command::new(first);
            command.args(rest).arg(exe);
            command
        }
    };
    command.args([name, "--exact", "--nocapture", "--test-threads=1"]).env(CHILD_DIR, dir);
    command
}

fn key(thread: usize, batch: usize, part: usize) -> String {
    format!("t{thread}/{batch:08}/{part}")
}

fn value(thread: usize, batch: usize, part: usize) -> Vec<u8> {
    let size = (batch * 7919 + part * 131) % 3000;
    format!("{thread}/{batch}/{part};").bytes().cycle().take(size + 20).collect()
}

/// The child: commits from several threads without end and tells each commit that was answered. Does nothing where it
/// is run as a test.
#[test]
fn committing_child() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let store = Arc::new(open(Path::new(&dir)));
    let threads = (0..THREADS).map(|thread| {
        let store = Arc::clone(&store);
        let first = store
            .scan(&format!("t{thread}/"), "", usize::MAX, soon())
            .unwrap()
            .last()
            .map_or(0, |entry| entry.key.split('/').nth(1).unwrap().parse::<usize>().unwrap() + 1);
        let work = move || {
            for batch in first.. {
                let put = (0..PARTS).map(|part| (key(thread, batch, part), value(thread, batch, part))).collect();
                let old = batch.checked_sub(KEPT);
                let delete = old.into_iter().flat_map(|old| (0..PARTS).map(move |part| key(thread, old, part)));
                store.commit(Batch { put, delete: delete.collect(), compare: Vec::new() }, soon()).unwrap();
                writeln!(std::io::stdout().lock(), "acknowledged {thread} {batch} .").unwrap();
            }
        };
        thread::Builder::new().name(format!("committer {thread}")).spawn(work).unwrap()
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
}

/// Lets the child run until it has acknowledged something and then `more` acknowledgements, kills it, and gives the
/// last batch acknowledged per thread.
fn run_and_kill(dir: &Path, more: usize) -> BTreeMap<usize, usize> {
    let mut child: Child = child(&[], "storage::crash::committing_child", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut last: BTreeMap<usize, usize> = BTreeMap::new();
    let mut seen = 0;
    let mut killed = false;
    while let Some(Ok(line)) = lines.next() {
        let Some((_, rest)) = line.split_once("acknowledged ") else { continue };
        // The dot is missing from a line that the kill cut.
        let [thread, batch, "."] = rest.split(' ').collect::<Vec<_>>()[..] else { continue };
        let (thread, batch) = (thread.parse().unwrap(), batch.parse().unwrap());
        let known = last.entry(thread).or_insert(batch);
        *known = batch.max(*known);
        seen += 1;
        if seen > more && !killed {
            child.kill().unwrap();
            killed = true;
        }
    }
    child.kill().unwrap();
    assert!(!child.wait().unwrap().success(), "it was killed");
    assert!(seen > 0, "the child committed something");
    last
}

/// Every batch is there whole or not at all; those acknowledged are there, unless a later one deleted them.
fn verify(store: &dyn StateStore, acknowledged: &BTreeMap<usize, usize>, round: usize) {
    for thread in 0..THREADS {
        let mut parts: BTreeMap<usize, usize> = BTreeMap::new();
        for entry in store.scan(&format!("t{thread}/"), "", usize::MAX, soon()).unwrap() {
            let mut words = entry.key.split('/').skip(1).map(|word| word.parse::<usize>().unwrap());
            let (batch, part) = (words.next().unwrap(), words.next().unwrap());
            assert!(entry.value == value(thread, batch, part), "round {round}: {} is not what was put", entry.key);
            *parts.entry(batch).or_default() += 1;
        }
        assert!(parts.values().all(|count| *count == PARTS), "round {round}: half a batch in {parts:?}");
        let newest = parts.keys().last().copied();
        if let Some(last) = acknowledged.get(&thread) {
            let newest = newest.unwrap();
            assert!(newest == *last || newest == last + 1, "round {round}: acknowledged {last}, there is {newest}");
        }
        if let Some(newest) = newest {
            let oldest = (newest + 1).saturating_sub(KEPT);
            assert!(parts.keys().copied().eq(oldest..=newest), "round {round}: a hole in {parts:?}");
        }
    }
}

#[test]
fn killed_at_any_instant_every_acknowledged_batch_is_there_and_whole() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..ROUNDS {
        let acknowledged = run_and_kill(dir.path(), (round * 13) % 97);
        let opened = EmbeddedStore::open(dir.path(), &StoreOptions::default()).unwrap();
        assert!(opened.report.damaged.is_none() && !opened.report.fresh, "round {round}: {}", opened.report);
        assert!(opened.report.left_by.is_some(), "round {round}: the kill is noticed");
        verify(&opened.store, &acknowledged, round);
    }
}
