//! The store over a real etcd: one member and three, users, TLS, a full disk, leases, and members that go away.

mod watch;
mod wire;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::clock::Deadline;
use actioncontroller::storage::etcd::{EtcdConfig, EtcdStore};
use actioncontroller::storage::shared::{HeldKey, Hold, SharedStore};
use actioncontroller::storage::{Batch, StateStore, StoreError};
use actioncontroller::transport::channel::{ChannelThreads, Tls};
use nix::sys::signal::Signal;

use crate::storage::{put, soon, suite};
use crate::support::etcd::EtcdCluster;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

fn config(endpoints: Vec<String>) -> EtcdConfig {
    EtcdConfig { endpoints, lease: Duration::from_secs(5), timeout: Duration::from_secs(4), ..EtcdConfig::default() }
}

fn store(endpoints: Vec<String>) -> EtcdStore {
    EtcdStore::new(config(endpoints), &ChannelThreads::start())
}

#[test]
fn etcd_behaves_as_the_port_says() {
    let cluster = EtcdCluster::start(1);
    suite::run_below(
        &|| {
            cluster.ctl(&["del", "", "--prefix"]);
            Box::new(store(cluster.endpoints()))
        },
        1 << 20,
    );
}

#[test]
fn several_keys_are_read_in_their_order_and_what_is_too_much_for_one_batch_is_refused_whole() {
    let cluster = EtcdCluster::start(1);
    let store = store(cluster.endpoints());
    store.commit(put("a", "1"), soon()).unwrap();
    let keys: Vec<String> = (0..300).map(|n| if n == 200 { "a".to_owned() } else { format!("none/{n}") }).collect();
    let found = store.get_many(&keys, soon()).unwrap();
    assert_eq!(found.len(), 300);
    assert_eq!(found.iter().position(Option::is_some), Some(200));
    let many = (0..129).map(|n| (format!("many/{n}"), vec![])).collect();
    let refused = store.commit(Batch { put: many, ..Batch::default() }, soon());
    assert!(matches!(refused, Err(StoreError::Damaged { .. })));
    let large = store.commit(put("large", vec![0; 3 << 20]), soon());
    assert!(matches!(large, Err(StoreError::Damaged { .. })), "{large:?}");
    assert!(store.scan("many/", "", 10, soon()).unwrap().is_empty());
}

#[test]
fn no_acknowledged_count_is_lost_or_doubled_while_the_leader_is_killed() {
    let mut cluster = EtcdCluster::start(3);
    let counted = Arc::new(AtomicU64::new(0));
    let store = Arc::new(store(cluster.endpoints()));
    store.commit(put("count", "0"), soon()).unwrap();
    let writers: Vec<_> = (0..3)
        .map(|_| {
            let (store, counted) = (Arc::clone(&store), Arc::clone(&counted));
            thread::spawn(move || {
                let mut unsure = 0;
                for _ in 0..30 {
                    unsure += count_up(&store, &counted);
                }
                unsure
            })
        })
        .collect();
    until("some counts", LIMIT, || (counted.load(Ordering::SeqCst) > 10).then_some(()));
    let leader = cluster.leader();
    cluster.kill(leader);
    let unsure: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
    let text = store.get("count", soon()).unwrap().unwrap().value;
    let count: u64 = String::from_utf8(text).unwrap().parse().unwrap();
    let sure = counted.load(Ordering::SeqCst);
    assert!((sure..=sure + unsure).contains(&count), "{count} counts, {sure} acknowledged, {unsure} unsure");
    cluster.restart(leader);
}

/// Adds one by compare and set; gives how often it is not known whether that was done.
fn count_up(store: &EtcdStore, counted: &AtomicU64) -> u64 {
    let mut unsure = 0;
    loop {
        let Ok(Some(entry)) = store.get("count", soon()) else { continue };
        let count: u64 = String::from_utf8(entry.value).unwrap().parse().unwrap();
        let batch = Batch { compare: vec![("count".into(), entry.revision)], ..put("count", (count + 1).to_string()) };
        match store.commit(batch, soon()) {
            Ok(()) => {
                counted.fetch_add(1, Ordering::SeqCst);
                return unsure;
            }
            Err(StoreError::RevisionMoved { .. }) => {}
            Err(StoreError::Unavailable(_)) => unsure += 1,
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn dead_member_costs_little_and_a_hung_etcd_no_longer_than_the_deadline() {
    let cluster = EtcdCluster::start(1);
    let mut endpoints = cluster.endpoints();
    endpoints.insert(0, "127.0.0.1:1".into());
    let store = store(endpoints);
    store.commit(put("a", "1"), soon()).unwrap();
    cluster.signal(0, Signal::SIGSTOP);
    let begun = Instant::now();
    let hung = store.get("a", Deadline::after(Duration::from_secs(2)));
    assert!(matches!(hung, Err(StoreError::Unavailable(_))) && begun.elapsed() < Duration::from_secs(5));
    let begun = Instant::now();
    assert!(store.commit(put("a", "2"), soon()).is_err() && begun.elapsed() < Duration::from_secs(8));
    cluster.signal(0, Signal::SIGCONT);
    until("etcd answers again", LIMIT, || store.get("a", soon()).ok());
}

#[test]
fn away_at_first_it_is_used_once_it_is_there() {
    let mut cluster = EtcdCluster::start(1);
    cluster.kill(0);
    let store = store(cluster.endpoints());
    assert!(matches!(store.check(Deadline::after(Duration::from_secs(1))), Err(StoreError::Unavailable(_))));
    cluster.restart(0);
    until("etcd answers", LIMIT, || store.commit(put("a", "1"), soon()).ok());
}

#[test]
fn user_is_let_in_with_the_right_password_also_after_its_token_is_gone() {
    let mut cluster = EtcdCluster::start(1);
    for arguments in [
        &["user", "add", "root:secret"][..],
        &["user", "grant-role", "root", "root"],
        &["user", "add", "ac:pass"],
        &["role", "add", "ac"],
        &["role", "grant-permission", "ac", "readwrite", "", "--prefix"],
        &["user", "grant-role", "ac", "ac"],
        &["auth", "enable"],
    ] {
        cluster.try_ctl(arguments);
    }
    let as_user = |password: &str| {
        let user = Some(("ac".to_owned(), password.to_owned()));
        EtcdStore::new(EtcdConfig { user, ..config(cluster.endpoints()) }, &ChannelThreads::start())
    };
    let (right, wrong) = (as_user("pass"), as_user("guess"));
    until("authentication is on", LIMIT, || store(cluster.endpoints()).get("a", soon()).is_err().then_some(()));
    right.commit(put("a", "1"), soon()).unwrap();
    let refused = wrong.get("a", soon()).unwrap_err();
    assert!(refused.to_string().contains("authentication failed"), "{refused}");
    // Its tokens are in etcd's memory alone.
    cluster.kill(0);
    cluster.restart(0);
    until("the user is let in again", LIMIT, || right.get("a", soon()).ok().flatten());
}

#[test]
fn secured_connection_needs_the_right_authority_and_a_certificate() {
    let options = [
        "--cert-file=FOLDER/server.pem",
        "--key-file=FOLDER/server.key",
        "--trusted-ca-file=FOLDER/ca.pem",
        "--client-cert-auth",
    ];
    let cluster = EtcdCluster::start_with(1, &options);
    let read = |name: &str| fs::read(cluster.file(name)).unwrap();
    let with = |tls: Tls| {
        let short = Duration::from_secs(2);
        let config = EtcdConfig { tls: Some(tls), timeout: short, ..config(cluster.endpoints()) };
        EtcdStore::new(config, &ChannelThreads::start()).commit(put("a", "1"), soon())
    };
    let identity = Some((read("client.pem"), read("client.key")));
    with(Tls { authorities: read("ca.pem"), identity: identity.clone(), server_name: String::new() }).unwrap();
    assert!(with(Tls { authorities: read("ca.pem"), ..Tls::default() }).is_err(), "no certificate is shown");
    assert!(with(Tls { authorities: read("client.pem"), identity, server_name: String::new() }).is_err());
}

#[test]
fn full_etcd_is_told_as_full_and_serves_again_when_it_has_room() {
    let cluster = EtcdCluster::start_with(1, &["--quota-backend-bytes=4194304"]);
    let store = store(cluster.endpoints());
    let full = until("etcd is full", LIMIT, || store.commit(put("a", vec![7; 500_000]), soon()).err());
    assert!(matches!(full, StoreError::Full(_)), "{full}");
    assert!(store.get("a", soon()).unwrap().is_some(), "what is there can be read");
    let status = cluster.ctl(&["get", "a", "-w", "json", "--keys-only"]);
    let status: serde_json::Value = serde_json::from_str(&status).unwrap();
    let revision = status["header"]["revision"].to_string();
    cluster.ctl(&["compact", &revision]);
    cluster.ctl(&["defrag"]);
    cluster.ctl(&["alarm", "disarm"]);
    until("etcd takes writes again", LIMIT, || store.commit(put("a", "small"), soon()).ok());
}

#[test]
fn key_is_held_by_one_until_it_goes_and_the_other_says_whose_it_is() {
    let cluster = EtcdCluster::start(1);
    let (one, other) = (store(cluster.endpoints()), store(cluster.endpoints()));
    let first = one.hold("owner", "one").unwrap();
    let is_ours = |held: &dyn HeldKey| matches!(held.state(), Hold::Ours { .. }).then_some(());
    until("the key is held", LIMIT, || is_ours(&*first));
    let second = other.hold("owner", "two").unwrap();
    let whose = until("the other says whose it is", LIMIT, || match second.state() {
        Hold::Theirs { value } => Some(value),
        Hold::Ours { .. } | Hold::Unknown { .. } => None,
    });
    assert_eq!(whose, "one");
    drop(first);
    until("the key is taken over", LIMIT, || is_ours(&*second));
    // A batch that compares the revision of a key that was lost is refused.
    let Hold::Ours { revision } = second.state() else { panic!() };
    cluster.ctl(&["put", "owner", "thief"]);
    let fenced = Batch { compare: vec![("owner".into(), revision)], ..put("state", "x") };
    assert!(matches!(other.commit(fenced, soon()), Err(StoreError::RevisionMoved { .. })));
}

#[test]
fn key_whose_lease_ran_out_while_nobody_could_renew_it_is_held_again() {
    let cluster = EtcdCluster::start(1);
    let store = store(cluster.endpoints());
    let held = store.hold("owner", "one").unwrap();
    until("the key is held", LIMIT, || matches!(held.state(), Hold::Ours { .. }).then_some(()));
    // As if this machine had slept.
    let lease = cluster.ctl(&["lease", "list"]);
    let lease = lease.lines().last().unwrap().trim().to_owned();
    cluster.ctl(&["lease", "revoke", &lease]);
    assert!(cluster.ctl(&["get", "owner"]).is_empty());
    until("the key is held again", LIMIT, || cluster.ctl(&["get", "owner"]).contains("one").then_some(()));
    until("and known to be", LIMIT, || matches!(held.state(), Hold::Ours { .. }).then_some(()));
}

// req: AC-20
#[test]
fn lease_is_kept_alive_without_writing_the_key_again() {
    let cluster = EtcdCluster::start(1);
    let store = store(cluster.endpoints());
    let held = store.hold("owner", "one").unwrap();
    let revision = |held: &dyn HeldKey| match held.state() {
        Hold::Ours { revision } => Some(revision),
        Hold::Theirs { .. } | Hold::Unknown { .. } => None,
    };
    let first = until("the key is held", LIMIT, || revision(&*held));
    // Twice the time of the lease.
    let over = Instant::now() + Duration::from_secs(10);
    while Instant::now() < over {
        assert_eq!(revision(&*held), Some(first));
        thread::sleep(Duration::from_millis(200));
    }
    let entry = store.get("owner", soon()).unwrap().unwrap();
    assert_eq!(entry.revision, first, "nothing was written");
    drop(held);
    assert_eq!(store.get("owner", soon()).unwrap(), None, "the lease is given back");
}
