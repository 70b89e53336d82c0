//! etcd 3 as a store that is shared, over its own gRPC API.
//!
//! Keys are used as they are given. A batch is one transaction: all of it or nothing. After silence of the server it is not
//! known whether a batch was applied: it is never sent again by itself, and the caller is told
//! [`StoreError::Unavailable`]. The store connects at the first call, so that etcd may be away when it is made.

mod client;
mod hold;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::shared::{Abilities, HeldKey, SharedStore, StoreChanges};
use super::{Batch, Entry, StateStore, StoreError, StoreStats};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::proto::etcd::compare::{CompareResult, CompareTarget, Target_union};
use crate::proto::etcd::request_op::Request;
use crate::proto::etcd::response_op::Response;
use crate::proto::etcd::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, ResponseOp, TxnRequest, TxnResponse,
};
use crate::proto::etcd_grpc::{K_V_RANGE as KV_RANGE, K_V_TXN as KV_TXN};
use crate::proto::kv::KeyValue;
use crate::transport::channel::{ChannelThreads, Tls};

use client::Client;
use hold::Holder;
use watch::Changes;

const NAME: &str = "etcd";

/// The most operations of one transaction, as etcd has it unless configured otherwise.
const MOST_OPERATIONS: usize = 128;

/// How etcd is reached.
#[derive(Clone, Default)]
pub struct EtcdConfig {
    /// Members, `host:port`.
    pub endpoints: Vec<String>,
    /// User and password; `None`: no authentication.
    pub user: Option<(String, String)>,
    /// What connections are secured with; `None`: they are plain.
    pub tls: Option<Tls>,
    /// How long a key is held after the last sign of its holder.
    pub lease: Duration,
    /// How long one call may take.
    pub timeout: Duration,
}

/// The store.
pub struct EtcdStore {
    client: Arc<Client>,
    lease: Duration,
    commits: AtomicU64,
}

impl EtcdStore {
    /// The store of these members. Connects at the first call.
    pub fn new(config: EtcdConfig, threads: &ChannelThreads) -> Self {
        let lease = config.lease;
        Self { client: Arc::new(Client::new(config, threads)), lease, commits: AtomicU64::new(0) }
    }
}

impl StateStore for EtcdStore {
    fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
        let request = RangeRequest { key: key.as_bytes().to_vec(), ..RangeRequest::default() };
        let answer = self.client.read(&KV_RANGE, &request, deadline)?;
        answer.kvs.into_iter().next().map(entry).transpose()
    }

    fn scan(&self, prefix: &str, after: &str, limit: usize, deadline: Deadline) -> Result<Vec<Entry>, StoreError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let mut first = after.as_bytes().to_vec();
        first.push(0);
        let prefix = prefix.as_bytes();
        let key = if after.is_empty() || first.as_slice() < prefix { prefix.to_vec() } else { first };
        let request = RangeRequest {
            // etcd has no empty key: a zero byte is the first.
            key: if key.is_empty() { vec![0] } else { key },
            range_end: end_of(prefix),
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
            ..RangeRequest::default()
        };
        self.client.read(&KV_RANGE, &request, deadline)?.kvs.into_iter().map(entry).collect()
    }

    fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
        if batch == Batch::default() {
            return Ok(());
        }
        let operations = batch.put.len() + batch.delete.len();
        if operations > MOST_OPERATIONS || batch.compare.len() > MOST_OPERATIONS {
            let key = batch.put.first().map(|(key, _)| key).or(batch.delete.first()).cloned().unwrap_or_default();
            let reason =
                format!("a batch of {operations} changes is more than {NAME} takes at once ({MOST_OPERATIONS})");
            return Err(StoreError::Damaged { key, reason });
        }
        let request = TxnRequest {
            compare: batch.compare.iter().map(|(key, revision)| is_revision(key, *revision)).collect(),
            success: changes(&batch),
            // What is there instead, for the error.
            failure: batch.compare.iter().map(|(key, _)| range(key)).collect(),
            ..TxnRequest::default()
        };
        let answer = self.client.write(&KV_TXN, &request, deadline)?;
        if answer.succeeded {
            self.commits.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        Err(moved(&batch.compare, answer))
    }

    fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        self.get("health", deadline).map(drop)
    }

    fn stats(&self) -> StoreStats {
        StoreStats { commits: self.commits.load(Ordering::Relaxed), syncs: 0 }
    }
}

impl SharedStore for EtcdStore {
    fn name(&self) -> &'static str {
        NAME
    }

    fn abilities(&self) -> Abilities {
        Abilities { compare: true, leases: true, watch: true }
    }

    fn get_many(&self, keys: &[String], deadline: Deadline) -> Result<Vec<Option<Entry>>, StoreError> {
        let mut all = Vec::with_capacity(keys.len());
        for some in keys.chunks(MOST_OPERATIONS) {
            let success = some.iter().map(|key| range(key)).collect();
            let request = TxnRequest { success, ..TxnRequest::default() };
            let answer = self.client.read(&KV_TXN, &request, deadline)?;
            all.extend(answer.responses.into_iter().map(|response| found(response).map(entry).transpose()));
        }
        all.into_iter().collect()
    }

    fn hold(&self, key: &str, value: &str) -> Result<Box<dyn HeldKey>, StoreError> {
        let holder = Holder::start(Arc::clone(&self.client), key, value, self.lease);
        holder.map(|holder| Box::new(holder) as _).map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    fn watch(&self, prefixes: &[String], cancel: &CancelToken) -> Result<StoreChanges, StoreError> {
        Ok(Box::new(Changes::new(Arc::clone(&self.client), prefixes, cancel)))
    }
}

/// The first key after all with this prefix; a zero byte for no end.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

fn entry(kv: KeyValue) -> Result<Entry, StoreError> {
    let revision = u64::try_from(kv.mod_revision).unwrap_or_default();
    match String::from_utf8(kv.key) {
        Ok(key) => Ok(Entry { key, value: kv.value, revision }),
        Err(error) => {
            let key = String::from_utf8_lossy(error.as_bytes()).into_owned();
            Err(StoreError::Damaged { key, reason: "its key is no UTF-8".to_owned() })
        }
    }
}

fn operation(request: Request) -> RequestOp {
    RequestOp { request: Some(request), ..RequestOp::default() }
}

fn range(key: &str) -> RequestOp {
    operation(Request::RequestRange(RangeRequest { key: key.as_bytes().to_vec(), ..RangeRequest::default() }))
}

/// The entry that a range of one key found.
fn found(response: ResponseOp) -> Option<KeyValue> {
    match response.response {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        Some(Response::ResponsePut(_) | Response::ResponseDeleteRange(_)) | None => None,
    }
}

/// Holds where the key has this revision; 0: where it is absent.
fn is_revision(key: &str, revision: u64) -> Compare {
    Compare {
        result: CompareResult::EQUAL.into(),
        target: CompareTarget::MOD.into(),
        key: key.as_bytes().to_vec(),
        target_union: Some(Target_union::ModRevision(i64::try_from(revision).unwrap_or(i64::MAX))),
        ..Compare::default()
    }
}

/// Puts, then deletes. A key that is put twice counts once, with its last value, and not at all where it is deleted:
/// etcd takes each key once.
fn changes(batch: &Batch) -> Vec<RequestOp> {
    let mut operations = Vec::new();
    for (index, (key, value)) in batch.put.iter().enumerate() {
        let is_last = !batch.put[index + 1..].iter().any(|(later, _)| later == key) && !batch.delete.contains(key);
        if is_last {
            let (key, value) = (key.as_bytes().to_vec(), value.clone());
            operations.push(operation(Request::RequestPut(PutRequest { key, value, ..PutRequest::default() })));
        }
    }
    for (index, key) in batch.delete.iter().enumerate() {
        if !batch.delete[index + 1..].contains(key) {
            let request = DeleteRangeRequest { key: key.as_bytes().to_vec(), ..DeleteRangeRequest::default() };
            operations.push(operation(Request::RequestDeleteRange(request)));
        }
    }
    operations
}

/// The first key that does not have the revision it was compared with.
fn moved(compare: &[(String, u64)], answer: TxnResponse) -> StoreError {
    let revision = |kv: KeyValue| u64::try_from(kv.mod_revision).unwrap_or_default();
    let revisions = answer.responses.into_iter().map(|response| found(response).map_or(0, revision));
    let mut differing = compare.iter().zip(revisions).filter(|((_, expected), found)| expected != found);
    match differing.next() {
        Some(((key, expected), found)) => StoreError::RevisionMoved { key: key.clone(), expected: *expected, found },
        None => StoreError::Unavailable(format!("{NAME} refused a batch whose compares hold")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_prefix_is_the_first_key_after_it() {
        assert_eq!(end_of(b"a/"), b"a0");
        assert_eq!(end_of(&[b'a', 0xFF]), b"b");
        assert_eq!(end_of(&[0xFF, 0xFF]), [0]);
        assert_eq!(end_of(b""), [0]);
    }

    #[test]
    fn key_that_stands_twice_in_a_batch_is_changed_once() {
        let put = vec![("a".to_owned(), vec![1]), ("a".to_owned(), vec![2]), ("b".to_owned(), vec![3])];
        let batch = Batch { put, delete: vec!["b".into(), "b".into()], ..Batch::default() };
        let operations = changes(&batch);
        assert_eq!(operations.len(), 2);
        assert_eq!(operations[0].request_put().value, [2]);
        assert_eq!(operations[1].request_delete_range().key, b"b");
    }
}
