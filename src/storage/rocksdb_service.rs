//! Pullpiri's RocksDbService as a store that is shared.
//!
//! It has neither compares nor leases nor watches, and no revisions: every entry has revision 1, a batch with compares is
//! refused, and a prefix is read whole by the server and cut here. Puts of one batch go in one call; what is deleted goes
//! key by key after them, so that a batch is not whole where the service dies in between.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::shared::{Abilities, HeldKey, SharedStore, StoreChanges};
use super::{Batch, Entry, StateStore, StoreError, StoreStats};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::proto::rocksdbservice::{
    BatchPutRequest, DeleteRequest, GetByPrefixRequest, GetRequest, HealthRequest, KeyValue,
};
use crate::proto::rocksdbservice_grpc::{
    ROCKS_DB_SERVICE_BATCH_PUT, ROCKS_DB_SERVICE_DELETE, ROCKS_DB_SERVICE_GET, ROCKS_DB_SERVICE_GET_BY_PREFIX,
    ROCKS_DB_SERVICE_HEALTH,
};
use crate::transport::channel::{Bounds, ChannelThreads, Peer, PeerError, Retry};

const NAME: &str = "RocksDbService";

/// The longest key that the service takes.
const LONGEST_KEY: usize = 1024;

/// Characters that it takes in no key.
const FORBIDDEN: [char; 5] = ['<', '>', '?', '{', '}'];

/// The revision of everything.
const REVISION: u64 = 1;

/// The store.
pub struct RocksDbStore {
    peer: Peer,
    timeout: Duration,
    commits: AtomicU64,
}

impl RocksDbStore {
    /// The service at `address`, each call to which has `timeout`. Connects at the first call.
    pub fn new(address: &str, timeout: Duration, threads: &ChannelThreads) -> Self {
        Self { peer: Peer::new(NAME, address, threads, None), timeout, commits: AtomicU64::new(0) }
    }

    fn call<Q, R: Unpin>(
        &self,
        method: &grpcio::Method<Q, R>,
        request: &Q,
        deadline: Deadline,
    ) -> Result<R, StoreError> {
        let cancel = CancelToken::new();
        let bounds = Bounds { deadline: deadline.at_most(self.timeout), cancel: &cancel };
        // Everything here may be done twice: values are put as they are, what is deleted stays deleted.
        self.peer.call(method, request, bounds, Retry::Idempotent).map_err(failed)
    }
}

fn failed(error: PeerError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// The service says that it failed.
fn refused(what: &str, key: &str, reason: &str) -> StoreError {
    StoreError::Unavailable(format!("{NAME} did not {what} '{key}': {reason}"))
}

fn check_key(key: &str) -> Result<(), StoreError> {
    let length = key.chars().count();
    if (1..=LONGEST_KEY).contains(&length) && !key.contains(FORBIDDEN) {
        return Ok(());
    }
    let reason = format!("{NAME} takes keys of 1 to {LONGEST_KEY} characters without < > ? {{ }}");
    Err(StoreError::Damaged { key: key.to_owned(), reason })
}

fn entry(key: String, value: String) -> Entry {
    Entry { key, value: value.into_bytes(), revision: REVISION }
}

fn text(key: &str, value: Vec<u8>) -> Result<String, StoreError> {
    let reason = || format!("{NAME} takes texts only");
    String::from_utf8(value).map_err(|_| StoreError::Damaged { key: key.to_owned(), reason: reason() })
}

impl StateStore for RocksDbStore {
    fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
        check_key(key)?;
        let request = GetRequest { key: key.to_owned(), ..GetRequest::default() };
        let answer = self.call(&ROCKS_DB_SERVICE_GET, &request, deadline)?;
        if answer.success {
            return Ok(Some(entry(key.to_owned(), answer.value)));
        }
        // An absent key is told by this word alone; anything else is a failure of the service.
        if answer.message.is_empty() || answer.message.to_lowercase().contains("not found") {
            return Ok(None);
        }
        Err(refused("read", key, &answer.message))
    }

    fn scan(&self, prefix: &str, after: &str, limit: usize, deadline: Deadline) -> Result<Vec<Entry>, StoreError> {
        let request = GetByPrefixRequest { prefix: prefix.to_owned(), ..GetByPrefixRequest::default() };
        let answer = self.call(&ROCKS_DB_SERVICE_GET_BY_PREFIX, &request, deadline)?;
        if !answer.error.is_empty() {
            return Err(refused("read", prefix, &answer.error));
        }
        let mut found: Vec<_> = answer.pairs.into_iter().filter(|pair| pair.key.starts_with(prefix)).collect();
        found.sort_by(|one, other| one.key.cmp(&other.key));
        let later = found.into_iter().filter(|pair| after.is_empty() || pair.key.as_str() > after);
        Ok(later.take(limit).map(|pair| entry(pair.key, pair.value)).collect())
    }

    fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
        if !batch.compare.is_empty() {
            return Err(StoreError::Unsupported { store: NAME, what: "compare" });
        }
        batch.put.iter().map(|(key, _)| key).chain(&batch.delete).try_for_each(|key| check_key(key))?;
        let mut pairs = Vec::with_capacity(batch.put.len());
        for (key, value) in batch.put {
            let value = text(&key, value)?;
            pairs.push(KeyValue { key, value, ..KeyValue::default() });
        }
        if !pairs.is_empty() {
            let first = pairs[0].key.clone();
            let request = BatchPutRequest { pairs, ..BatchPutRequest::default() };
            let answer = self.call(&ROCKS_DB_SERVICE_BATCH_PUT, &request, deadline)?;
            if !answer.success {
                return Err(refused("write", &first, &answer.error));
            }
        }
        for key in batch.delete {
            let request = DeleteRequest { key: key.clone(), ..DeleteRequest::default() };
            let answer = self.call(&ROCKS_DB_SERVICE_DELETE, &request, deadline)?;
            if !answer.success && !answer.error.to_lowercase().contains("not found") {
                return Err(refused("delete", &key, &answer.error));
            }
        }
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        let answer = self.call(&ROCKS_DB_SERVICE_HEALTH, &HealthRequest::default(), deadline)?;
        if answer.status == "healthy" {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!("{NAME} says that it is '{}'", answer.status)))
    }

    fn stats(&self) -> StoreStats {
        StoreStats { commits: self.commits.load(Ordering::Relaxed), syncs: 0 }
    }
}

impl SharedStore for RocksDbStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities { compare: false, leases: false, watch: false }
    }

    fn get_many(&self, keys: &[String], deadline: Deadline) -> Result<Vec<Option<Entry>>, StoreError> {
        keys.iter().map(|key| self.get(key, deadline)).collect()
    }

    fn hold(&self, _key: &str, _value: &str) -> Result<Box<dyn HeldKey>, StoreError> {
        Err(StoreError::Unsupported { store: NAME, what: "hold keys" })
    }

    fn watch(&self, _prefixes: &[String], _cancel: &CancelToken) -> Result<StoreChanges, StoreError> {
        Err(StoreError::Unsupported { store: NAME, what: "watch" })
    }
}
