//! [`Holder`]: a key that is kept as ours by a lease, renewed by a thread of its own.
//!
//! Where the lease ran out while this machine slept, or the key is gone or changed, it is taken again. A key that somebody
//! else holds with another value is left alone, and looked at again.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::client::Client;
use super::{found, is_revision, operation, range};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::proto::etcd::request_op::Request;
use crate::proto::etcd::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest, RangeRequest, TxnRequest,
};
use crate::proto::etcd_grpc::{
    K_V_RANGE as KV_RANGE, K_V_TXN as KV_TXN, LEASE_LEASE_GRANT, LEASE_LEASE_KEEP_ALIVE, LEASE_LEASE_REVOKE,
};
use crate::storage::StoreError;
use crate::storage::shared::{HeldKey, Hold};

/// Renewals within the time of one lease.
const RENEWALS: u32 = 3;

/// Between two tries while etcd does not answer or somebody else has the key, at most.
const LOOK: Duration = Duration::from_secs(5);

/// How long giving the lease back may take at the end.
const END_BUDGET: Duration = Duration::from_secs(1);

/// What the thread works with.
struct Held {
    client: Arc<Client>,
    key: String,
    value: String,
    lease: Duration,
    state: Mutex<Hold>,
    stop: CancelToken,
}

/// The thread's handle.
pub struct Holder {
    held: Arc<Held>,
    thread: Option<JoinHandle<()>>,
}

impl Holder {
    /// Starts the thread.
    pub fn start(client: Arc<Client>, key: &str, value: &str, lease: Duration) -> std::io::Result<Self> {
        let state = Mutex::new(Hold::Unknown { reason: "etcd was not asked yet".to_owned() });
        let (key, value, stop) = (key.to_owned(), value.to_owned(), CancelToken::new());
        let held = Arc::new(Held { client, key, value, lease, state, stop });
        let own = Arc::clone(&held);
        let thread = thread::Builder::new().name("etcd-hold".to_owned()).spawn(move || own.run())?;
        Ok(Self { held, thread: Some(thread) })
    }
}

impl HeldKey for Holder {
    fn state(&self) -> Hold {
        self.held.state.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.held.stop.cancel("the key is given up");
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the thread that holds '{}' panicked", self.held.key);
        }
    }
}

impl Held {
    fn run(&self) {
        let mut lease = 0;
        while !self.stop.is_cancelled() {
            let state = self.look(&mut lease).unwrap_or_else(|error| Hold::Unknown { reason: reason(error) });
            let is_ours = matches!(state, Hold::Ours { .. });
            *self.state.lock().unwrap_or_else(PoisonError::into_inner) = state;
            let pause = self.lease / RENEWALS;
            self.stop.wait(Urge::Cancel, Deadline::after(if is_ours { pause } else { pause.min(LOOK) }));
        }
        self.revoke(lease, END_BUDGET);
    }

    /// Keeps the lease alive and takes the key where this holder does not have it; gives whose it is then.
    fn look(&self, lease: &mut i64) -> Result<Hold, StoreError> {
        let deadline = Deadline::after(self.lease / RENEWALS);
        if *lease != 0 && !self.keep_alive(*lease, deadline)? {
            log::info!("the lease of '{}' has run out", self.key);
            *lease = 0;
        }
        if *lease == 0 {
            *lease = self.grant(deadline)?;
        } else if let Some(revision) = self.held_with(*lease, deadline)? {
            return Ok(Hold::Ours { revision });
        }
        self.take(*lease, deadline)
    }

    fn grant(&self, deadline: Deadline) -> Result<i64, StoreError> {
        let seconds = i64::try_from(self.lease.as_secs().max(1)).unwrap_or(i64::MAX);
        let request = LeaseGrantRequest { TTL: seconds, ..LeaseGrantRequest::default() };
        // A lease that nobody uses runs out by itself: it may be asked for twice.
        Ok(self.client.read(&LEASE_LEASE_GRANT, &request, deadline)?.ID)
    }

    /// Whether the lease is still there.
    fn keep_alive(&self, lease: i64, deadline: Deadline) -> Result<bool, StoreError> {
        let request = LeaseKeepAliveRequest { ID: lease, ..LeaseKeepAliveRequest::default() };
        Ok(self.client.exchange(&LEASE_LEASE_KEEP_ALIVE, &request, deadline)?.TTL > 0)
    }

    /// The key's revision, where it has our value and this lease.
    fn held_with(&self, lease: i64, deadline: Deadline) -> Result<Option<u64>, StoreError> {
        let request = RangeRequest { key: self.key.as_bytes().to_vec(), ..RangeRequest::default() };
        let found = self.client.read(&KV_RANGE, &request, deadline)?.kvs.into_iter().next();
        let own = found.filter(|kv| kv.value == self.value.as_bytes() && kv.lease == lease);
        Ok(own.and_then(|kv| u64::try_from(kv.mod_revision).ok()))
    }

    fn take(&self, lease: i64, deadline: Deadline) -> Result<Hold, StoreError> {
        let mut revision = 0;
        // What is found with our own value is of this holder, or of this daemon before its restart.
        for _ in 0..2 {
            let (key, value) = (self.key.as_bytes().to_vec(), self.value.as_bytes().to_vec());
            let put = PutRequest { key, value, lease, ..PutRequest::default() };
            let request = TxnRequest {
                compare: vec![is_revision(&self.key, revision)],
                success: vec![operation(Request::RequestPut(put))],
                failure: vec![range(&self.key)],
                ..TxnRequest::default()
            };
            let answer = self.client.write(&KV_TXN, &request, deadline)?;
            if answer.succeeded {
                let revision = answer.header.as_ref().map_or(0, |header| header.revision);
                return Ok(Hold::Ours { revision: u64::try_from(revision).unwrap_or_default() });
            }
            match answer.responses.into_iter().next().and_then(found) {
                Some(kv) if kv.value == self.value.as_bytes() => {
                    revision = u64::try_from(kv.mod_revision).unwrap_or_default();
                }
                Some(kv) => return Ok(Hold::Theirs { value: String::from_utf8_lossy(&kv.value).into_owned() }),
                None => revision = 0,
            }
        }
        Err(StoreError::Unavailable(format!("'{}' changes all the time", self.key)))
    }

    fn revoke(&self, lease: i64, budget: Duration) {
        if lease == 0 {
            return;
        }
        let request = LeaseRevokeRequest { ID: lease, ..LeaseRevokeRequest::default() };
        // It runs out by itself otherwise.
        if let Err(error) = self.client.write(&LEASE_LEASE_REVOKE, &request, Deadline::after(budget)) {
            log::debug!("a lease was not given back: {error}");
        }
    }
}

/// Why it is not known whose the key is.
fn reason(error: StoreError) -> String {
    if let StoreError::Unavailable(reason) = error { reason } else { error.to_string() }
}
