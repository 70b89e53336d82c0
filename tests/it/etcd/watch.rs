//! What changes in a real etcd: all of it in order, also over breaks, compactions and with users.

use std::thread::{self, JoinHandle};

use actioncontroller::cancel::CancelToken;
use actioncontroller::storage::StateStore;
use actioncontroller::storage::etcd::{EtcdConfig, EtcdStore};
use actioncontroller::storage::shared::{SharedStore, StoreChange};
use actioncontroller::transport::channel::ChannelThreads;
use crossbeam_channel::{Receiver, unbounded};

use super::{LIMIT, config, store};
use crate::storage::{put, soon};
use crate::support::etcd::EtcdCluster;
use crate::support::wait::until;

/// A watch in a thread of its own.
struct Watching {
    told: Receiver<String>,
    cancel: CancelToken,
    thread: Option<JoinHandle<()>>,
}

/// A change in words; what is under keys that no test wrote is left out.
fn words(change: StoreChange) -> String {
    let key_of = |key: &str, value: &[u8]| format!("{key}={}", String::from_utf8_lossy(value));
    match change {
        StoreChange::Snapshot(entries) => {
            let all: Vec<_> = entries.iter().map(|entry| key_of(&entry.key, &entry.value)).collect();
            format!("all {}", all.join(" "))
        }
        StoreChange::Put(entry) => format!("put {}", key_of(&entry.key, &entry.value)),
        StoreChange::Deleted { key } => format!("deleted {key}"),
    }
}

impl Watching {
    fn start(store: EtcdStore, prefixes: &[&str]) -> Self {
        let (cancel, (sender, told)) = (CancelToken::new(), unbounded());
        let prefixes: Vec<_> = prefixes.iter().map(|prefix| (*prefix).to_owned()).collect();
        let changes = store.watch(&prefixes, &cancel).unwrap();
        let tell = move || {
            for change in changes {
                let text = change.map_or_else(|error| format!("error {error}"), words);
                if sender.send(text).is_err() {
                    return;
                }
            }
        };
        Self { told, cancel, thread: Some(thread::spawn(tell)) }
    }

    /// The next change; errors of breaks are passed over.
    fn next(&self) -> String {
        loop {
            let told = self.told.recv_timeout(LIMIT).expect("a change is told");
            if !told.starts_with("error") {
                return told;
            }
        }
    }

    /// Waits until the break was noticed.
    fn until_broken(&self) {
        until("the break is told", LIMIT, || self.told.try_iter().any(|told| told.starts_with("error")).then_some(()));
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.cancel.cancel("the test is over");
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

// req: AC-20
#[test]
fn changes_under_several_prefixes_come_after_all_that_is_there() {
    let cluster = EtcdCluster::start(1);
    let writer = store(cluster.endpoints());
    for n in 0..200 {
        writer.commit(put(&format!("a/{n:03}"), "x"), soon()).unwrap();
    }
    writer.commit(put("other", "x"), soon()).unwrap();
    let watching = Watching::start(store(cluster.endpoints()), &["a/", "b/"]);
    assert_eq!(watching.next().split(' ').count(), 201);
    writer.commit(put("b/1", "1"), soon()).unwrap();
    assert_eq!(watching.next(), "put b/1=1");
    writer.commit(put("other", "y"), soon()).unwrap();
    cluster.ctl(&["del", "a/007"]);
    assert_eq!(watching.next(), "deleted a/007");
    let large = "l".repeat(1_400_000);
    for key in ["a/large-1", "a/large-2", "a/large-3"] {
        writer.commit(put(key, large.as_str()), soon()).unwrap();
        assert_eq!(watching.next().len(), format!("put {key}=").len() + large.len());
    }
    // What is too much for one answer is listed in several.
    let again = Watching::start(store(cluster.endpoints()), &["a/"]);
    assert!(again.next().len() > 3 * large.len());
}

// req: AC-20
#[test]
fn watch_goes_on_after_a_break_without_missing_or_doubling_and_lists_anew_after_a_compaction() {
    let mut cluster = EtcdCluster::start(1);
    let writer = store(cluster.endpoints());
    writer.commit(put("a/1", "1"), soon()).unwrap();
    let watching = Watching::start(store(cluster.endpoints()), &["a/"]);
    assert_eq!(watching.next(), "all a/1=1");
    writer.commit(put("a/2", "2"), soon()).unwrap();
    assert_eq!(watching.next(), "put a/2=2");
    for n in 3..6 {
        cluster.kill(0);
        watching.until_broken();
        cluster.restart(0);
        cluster.wait_ready();
        cluster.ctl(&["put", &format!("a/{n}"), "x"]);
        assert_eq!(watching.next(), format!("put a/{n}=x"));
    }
    // Written and forgotten before the watch is back: its retries are slower by then.
    cluster.kill(0);
    for _ in 0..5 {
        watching.until_broken();
    }
    cluster.restart(0);
    cluster.wait_ready();
    cluster.ctl(&["put", "a/1", "new"]);
    cluster.ctl(&["del", "a/2"]);
    let revision = writer.get("a/1", soon()).unwrap().unwrap().revision + 1;
    cluster.ctl(&["compact", &revision.to_string()]);
    let mut seen = Vec::new();
    let all = until("what is there now is told", LIMIT, || {
        seen.push(watching.next());
        seen.last().filter(|told| told.starts_with("all")).cloned().or_else(|| {
            // It was back before the compaction.
            (seen.iter().any(|told| told == "deleted a/2")).then(String::new)
        })
    });
    assert!(all.is_empty() || all == "all a/1=new a/3=x a/4=x a/5=x", "{all}");
    cluster.ctl(&["put", "a/9", "9"]);
    until("it goes on", LIMIT, || (watching.next() == "put a/9=9").then_some(()));
}

#[test]
fn start_that_is_forgotten_already_is_followed_by_a_new_list() {
    let mut cluster = EtcdCluster::start(1);
    let writer = store(cluster.endpoints());
    writer.commit(put("a/1", "1"), soon()).unwrap();
    let watching = Watching::start(store(cluster.endpoints()), &["a/", "quiet/"]);
    assert_eq!(watching.next(), "all a/1=1");
    for n in 0..50 {
        writer.commit(put("a/1", n.to_string()), soon()).unwrap();
        assert_eq!(watching.next(), format!("put a/1={n}"));
    }
    // The quiet prefix is still known as of the beginning, which is forgotten now.
    let revision = writer.get("a/1", soon()).unwrap().unwrap().revision;
    cluster.ctl(&["compact", &revision.to_string()]);
    cluster.kill(0);
    watching.until_broken();
    cluster.restart(0);
    assert_eq!(watching.next(), "all a/1=49");
    cluster.wait_ready();
    cluster.ctl(&["put", "quiet/1", "1"]);
    assert_eq!(watching.next(), "put quiet/1=1");
}

#[test]
fn user_watches_what_it_may_and_is_told_where_it_may_not() {
    let cluster = EtcdCluster::start(1);
    for arguments in [
        &["put", "a/1", "1"][..],
        &["user", "add", "root:secret"],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "ac:pass"],
        &["role", "add", "ac"],
        &["role", "grant-permission", "ac", "readwrite", "a/", "--prefix"],
        &["user", "grant-role", "ac", "ac"],
        &["auth", "enable"],
    ] {
        cluster.try_ctl(arguments);
    }
    until("authentication is on", LIMIT, || store(cluster.endpoints()).get("a/1", soon()).is_err().then_some(()));
    let as_user = || {
        let user = Some(("ac".to_owned(), "pass".to_owned()));
        EtcdStore::new(EtcdConfig { user, ..config(cluster.endpoints()) }, &ChannelThreads::start())
    };
    let watching = Watching::start(as_user(), &["a/"]);
    assert_eq!(watching.next(), "all a/1=1");
    as_user().commit(put("a/2", "2"), soon()).unwrap();
    assert_eq!(watching.next(), "put a/2=2");
    let refused = Watching::start(as_user(), &["b/"]);
    let told = refused.told.recv_timeout(LIMIT).unwrap();
    assert!(told.contains("permission denied"), "{told}");
}

#[test]
fn watch_moves_to_another_member_when_its_own_dies_or_hangs_without_a_word() {
    let mut cluster = EtcdCluster::start(3);
    let watching = Watching::start(store(cluster.endpoints()), &["a/"]);
    assert_eq!(watching.next(), "all ");
    cluster.kill(0);
    cluster.wait_ready();
    cluster.ctl(&["put", "a/1", "1"]);
    assert_eq!(watching.next(), "put a/1=1");
}
