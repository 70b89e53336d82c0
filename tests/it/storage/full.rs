//! A full disk and a file that the system refuses, on a file system of the test's own (a tmpfs in a private mount
//! namespace, in a child process).

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use actioncontroller::storage::embedded::{EmbeddedStore, OpenError, StoreOptions};
use actioncontroller::storage::{Batch, StateStore, StoreError};

use super::crash::{CHILD_DIR, child};
use super::{open, put, soon};

/// Runs the test `name` of this file as a child whose [`CHILD_DIR`] is a tmpfs of its own.
fn on_own_tmpfs(name: &str, size: &str) {
    let root = nix::unistd::Uid::effective().is_root();
    let unshare: &[&str] = if root { &["unshare", "--mount"] } else { &["unshare", "--mount", "--map-root-user"] };
    let dir = tempfile::tempdir().unwrap();
    let status = child(unshare, &format!("storage::full::{name}"), dir.path()).env("STORE_TEST_SIZE", size).status();
    assert!(status.unwrap().success(), "{name} failed on its tmpfs, see above");
}

fn run(program: &str, arguments: &[&str]) {
    let status = Command::new(program).args(arguments).status().unwrap();
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

/// The child's directory, with its tmpfs mounted; `None` where this is not a child.
fn own_tmpfs() -> Option<String> {
    let dir = std::env::var(CHILD_DIR).ok()?;
    let size = std::env::var("STORE_TEST_SIZE").unwrap();
    run("mount", &["-t", "tmpfs", "-o", &format!("size={size},mode=0700"), "tmpfs", &dir]);
    Some(dir)
}

fn count(store: &dyn StateStore) -> usize {
    store.scan("", "", usize::MAX, soon()).unwrap().len()
}

/// Commits until the store is full; gives how many went in.
fn fill(store: &dyn StateStore, prefix: &str) -> usize {
    for n in 0..10_000 {
        match store.commit(put(&format!("{prefix}/{n}"), vec![n as u8; 20_000]), soon()) {
            Ok(()) => {}
            Err(StoreError::Full(reason)) => {
                assert!(reason.contains("No space"), "{reason}");
                return n;
            }
            Err(other) => panic!("{other}"),
        }
    }
    panic!("it was never full")
}

#[test]
fn full_disk_is_told_and_the_store_works_on_once_there_is_space() {
    on_own_tmpfs("child_on_a_full_disk", "6m");
}

#[test]
fn child_on_a_full_disk() {
    let Some(dir) = own_tmpfs() else { return };
    let (dir, ballast) = (Path::new(&dir), Path::new(&dir).join("ballast"));
    fs::write(&ballast, vec![1; 2 << 20]).unwrap();
    let store = open(dir);
    let kept = fill(&store, "a");
    assert!(kept > 10, "{kept}");
    assert_eq!(count(&store), kept, "what was refused is not there, what was taken is");
    assert!(matches!(store.commit(put("large", vec![0; 3 << 20]), soon()), Err(StoreError::Full(_))));
    assert!(store.get("a/3", soon()).unwrap().is_some());

    fs::remove_file(&ballast).unwrap();
    store.commit(put("after", "x"), soon()).unwrap();
    store.check(soon()).unwrap();
    let more = fill(&store, "b");
    assert!(more > 0);
    let before = count(&store);
    drop(store);

    let opened = EmbeddedStore::open(dir, &StoreOptions::default()).unwrap();
    assert!(opened.report.damaged.is_none(), "{}", opened.report);
    assert_eq!(count(&opened.store), before);
}

#[test]
fn large_batch_that_does_not_fit_fails_alone() {
    on_own_tmpfs("child_with_a_batch_too_large", "8m");
}

#[test]
fn child_with_a_batch_too_large() {
    let Some(dir) = own_tmpfs() else { return };
    let store = open(Path::new(&dir));
    for round in 0..5 {
        thread::scope(|scope| {
            let large = scope.spawn(|| store.commit(put("large", vec![0; 7 << 20]), soon()));
            let small = |n: usize| store.commit(put(&format!("{round}/{n}"), "x"), soon());
            let small: Vec<_> = (0..8).map(|n| scope.spawn(move || small(n))).collect();
            assert!(matches!(large.join().unwrap(), Err(StoreError::Full(_))));
            small.into_iter().for_each(|caller| caller.join().unwrap().unwrap());
        });
    }
    assert_eq!(count(&store), 40);
    let delete = (0..8).map(|n| format!("0/{n}")).collect();
    store.commit(Batch { delete, ..Batch::default() }, soon()).unwrap();
    assert_eq!(count(&store), 32);
}

#[test]
fn file_that_the_system_refuses_stays_where_it_is() {
    on_own_tmpfs("child_with_a_refused_file", "16m");
}

#[test]
fn child_with_a_refused_file() {
    let Some(dir) = own_tmpfs() else { return };
    let file = format!("{dir}/state.redb");
    open(Path::new(&dir)).commit(put("a", "1"), soon()).unwrap();
    run("mount", &["--bind", &file, &file]);
    run("mount", &["-o", "remount,bind,ro", &file]);
    let error = EmbeddedStore::open(Path::new(&dir), &StoreOptions::default()).err().unwrap();
    assert!(matches!(&error, OpenError::Io { .. }) && error.to_string().contains("state.redb"), "{error}");
    run("umount", &[&file]);

    // No space to open it: the same.
    fs::write(format!("{dir}/ballast"), []).unwrap();
    let opened = EmbeddedStore::open(Path::new(&dir), &StoreOptions::default()).unwrap();
    assert!(opened.report.damaged.is_none() && opened.report.aside.is_empty());
    assert!(opened.store.get("a", soon()).unwrap().is_some());
}
