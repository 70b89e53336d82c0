//! Pullpiri's RocksDbService as a store: what the port asks as far as it can, and its misbehaviours.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use actioncontroller::storage::rocksdb_service::RocksDbStore;
use actioncontroller::storage::shared::SharedStore;
use actioncontroller::storage::{Batch, StateStore, StoreError};
use actioncontroller::transport::channel::ChannelThreads;

use crate::storage::{put, soon};
use crate::support::peers::{self, Behaviour, StandIn};

fn rig() -> (Arc<Mutex<BTreeMap<String, String>>>, StandIn, RocksDbStore) {
    let entries = Arc::default();
    let server = peers::rocksdb(Arc::clone(&entries));
    let store = RocksDbStore::new(&server.address(), Duration::from_secs(1), &ChannelThreads::start());
    (entries, server, store)
}

// req: AC-26
#[test]
fn what_was_put_is_read_scanned_and_deleted() {
    let (entries, _server, store) = rig();
    assert_eq!(store.get("a", soon()).unwrap(), None);
    let all = ["x/1", "x/2", "x/3", "y"].map(|key| (key.to_owned(), key.as_bytes().to_vec())).to_vec();
    store.commit(Batch { put: all, ..Batch::default() }, soon()).unwrap();
    let keys = |after: &str, limit: usize| -> Vec<String> {
        store.scan("x/", after, limit, soon()).unwrap().into_iter().map(|entry| entry.key).collect()
    };
    assert_eq!(keys("", 10), ["x/1", "x/2", "x/3"]);
    assert_eq!(keys("x/1", 1), ["x/2"]);
    store.commit(Batch { delete: vec!["x/2".into(), "none".into()], ..Batch::default() }, soon()).unwrap();
    assert_eq!(keys("", 10), ["x/1", "x/3"]);
    assert_eq!(entries.lock().unwrap()["y"], "y");
    store.check(soon()).unwrap();
}

// req: AC-26
#[test]
fn what_it_cannot_is_refused_with_nothing_done() {
    let (entries, _server, store) = rig();
    let compare = Batch { compare: vec![("a".into(), 0)], ..put("a", "1") };
    assert!(matches!(store.commit(compare, soon()), Err(StoreError::Unsupported { what: "compare", .. })));
    assert!(store.hold("a", "b").is_err());
    let both = vec![("good".to_owned(), vec![]), ("b{d".to_owned(), vec![])];
    let bad = store.commit(Batch { put: both, ..Batch::default() }, soon());
    assert!(matches!(&bad, Err(StoreError::Damaged { key, .. }) if key == "b{d"), "{bad:?}");
    assert!(store.commit(put("a", vec![0xFF]), soon()).is_err());
    assert!(entries.lock().unwrap().is_empty());
}

#[test]
fn service_that_misbehaves_is_unavailable_within_its_time_and_serves_again() {
    let (_entries, server, store) = rig();
    store.commit(put("a", "1"), soon()).unwrap();
    for behaviour in [Behaviour::Silent, Behaviour::Refusing, Behaviour::Garbled, Behaviour::Closing] {
        server.behave(behaviour);
        let begun = Instant::now();
        assert!(matches!(store.get("a", soon()), Err(StoreError::Unavailable(_))), "{behaviour:?}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{behaviour:?}");
        server.behave(Behaviour::Well);
        assert!(store.get("a", soon()).unwrap().is_some(), "{behaviour:?}");
    }
}
