//! [`StoreDirectory`]: where nodes are, from the settings, otherwise from the keys that Pullpiri's API server writes:
//! `nodes/{name}` with an address or, by a second writer, with another key, and `cluster/nodes/{name}` with a JSON
//! description.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::{Directory, NodeAddress, NodeError};
use crate::clock::Deadline;
use crate::storage::documents::Documents;

/// How long an address counts: short, so that one that changes is soon seen, and long enough that orders in a row do not
/// each ask the store.
const FRESH: Duration = Duration::from_secs(5);

/// Addresses that are remembered, at most.
const MOST: usize = 256;

/// The role of nodes that have a NodeAgent, in Pullpiri's numbers.
const ROLE_NODE_AGENT: i64 = 2;

/// The directory.
pub struct StoreDirectory {
    settings: BTreeMap<String, NodeAddress>,
    documents: Arc<Documents>,
    port: u16,
    known: Mutex<HashMap<String, (NodeAddress, Instant)>>,
}

/// What is used of a node's description.
#[derive(Debug, Deserialize)]
struct Description {
    #[serde(default)]
    ip_address: String,
    #[serde(default)]
    node_role: i64,
}

impl StoreDirectory {
    /// A directory of these settings and what the store says; NodeAgents listen on `port`.
    pub fn new(settings: BTreeMap<String, NodeAddress>, documents: Arc<Documents>, port: u16) -> Self {
        Self { settings, documents, port, known: Mutex::default() }
    }

    fn remembered(&self, node: &str) -> Option<NodeAddress> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(node).filter(|(_, at)| at.elapsed() < FRESH).map(|(address, _)| address.clone())
    }

    fn remember(&self, node: &str, address: &NodeAddress) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(node.to_owned(), (address.clone(), Instant::now()));
    }

    fn read(&self, node: &str, key: &str, deadline: Deadline) -> Result<Option<String>, NodeError> {
        let found = self.documents.raw(key, deadline).map_err(|error| NodeError::Unknown {
            node: node.to_owned(),
            reason: format!("'{key}' was not read: {error}"),
        })?;
        Ok(found.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()))
    }

    fn look_up(&self, node: &str, deadline: Deadline) -> Result<String, NodeError> {
        let unknown = |reason: String| NodeError::Unknown { node: node.to_owned(), reason };
        let key = format!("nodes/{node}");
        if let Some(value) = self.read(node, &key, deadline)? {
            if value.parse::<IpAddr>().is_ok() || value == node {
                return Ok(value);
            }
            // The value may be another node's key: one step, and no more.
            return Ok(self.read(node, &format!("nodes/{value}"), deadline)?.unwrap_or(value));
        }
        let cluster = format!("cluster/nodes/{node}");
        let Some(text) = self.read(node, &cluster, deadline)? else {
            return Err(unknown(format!("neither the settings nor '{key}' nor '{cluster}' in the store name it")));
        };
        let description: Description =
            serde_json::from_str(&text).map_err(|error| unknown(format!("'{cluster}' is malformed: {error}")))?;
        if description.node_role != ROLE_NODE_AGENT {
            return Err(unknown(format!(
                "its role in '{cluster}' is {}, which has no NodeAgent",
                description.node_role
            )));
        }
        if description.ip_address.is_empty() {
            return Err(unknown(format!("'{cluster}' has no ip_address")));
        }
        Ok(description.ip_address)
    }
}

impl Directory for StoreDirectory {
    fn find(&self, node: &str, deadline: Deadline) -> Result<NodeAddress, NodeError> {
        if let Some(address) = self.settings.get(node) {
            return Ok(address.clone());
        }
        if let Some(address) = self.remembered(node) {
            return Ok(address);
        }
        let host = self.look_up(node, deadline)?;
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        let address = NodeAddress::NodeAgent(format!("{host}:{}", self.port));
        self.remember(node, &address);
        Ok(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cancel::CancelToken;
    use crate::storage::copies::Copies;
    use crate::storage::memory::MemoryStore;
    use crate::storage::shared::{Abilities, HeldKey, SharedStore, StoreChanges};
    use crate::storage::{Batch, Entry, StateStore, StoreError, StoreStats};

    /// A shared store in memory.
    #[derive(Default)]
    struct Store(MemoryStore);

    impl StateStore for Store {
        fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
            self.0.get(key, deadline)
        }
        fn scan(&self, prefix: &str, after: &str, limit: usize, at: Deadline) -> Result<Vec<Entry>, StoreError> {
            self.0.scan(prefix, after, limit, at)
        }
        fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
            self.0.commit(batch, deadline)
        }
        fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
            self.0.check(deadline)
        }
        fn stats(&self) -> StoreStats {
            self.0.stats()
        }
    }

    impl SharedStore for Store {
        fn name(&self) -> &'static str {
            "memory"
        }
        fn abilities(&self) -> Abilities {
            Abilities { compare: true, leases: false, watch: false }
        }
        fn hold(&self, _: &str, _: &str) -> Result<Box<dyn HeldKey>, StoreError> {
            Err(StoreError::Unsupported { store: "memory", what: "hold keys" })
        }
        fn watch(&self, _: &[String], _: &CancelToken) -> Result<StoreChanges, StoreError> {
            Err(StoreError::Unsupported { store: "memory", what: "watch" })
        }
    }

    fn find(keys: &[(&str, &str)], node: &str) -> Result<NodeAddress, NodeError> {
        let store = Store::default();
        let deadline = Deadline::after(Duration::from_secs(60));
        let put = keys.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
        store.commit(Batch { put, ..Batch::default() }, deadline).unwrap();
        let own = Arc::new(MemoryStore::new());
        let copies = Arc::new(Copies::new(Arc::clone(&own) as _));
        let documents = Arc::new(Documents::shared(own, Arc::new(store), copies, true, FRESH));
        let settings = BTreeMap::from([("SET".to_owned(), NodeAddress::ActionController("10.0.0.9:1".into()))]);
        StoreDirectory::new(settings, documents, 47004).find(node, deadline)
    }

    fn agent(address: &str) -> Result<NodeAddress, NodeError> {
        Ok(NodeAddress::NodeAgent(address.into()))
    }

    #[test]
    fn node_is_found_by_its_address_its_host_name_or_its_description() {
        assert_eq!(find(&[("nodes/Z", "10.0.0.2")], "Z"), agent("10.0.0.2:47004"));
        assert_eq!(find(&[("nodes/Z", "fe80::1")], "Z"), agent("[fe80::1]:47004"));
        assert_eq!(find(&[("nodes/Z", "zone-1")], "Z"), agent("zone-1:47004"));
        assert_eq!(find(&[("nodes/Z", "zone-1"), ("nodes/zone-1", "10.0.0.3")], "Z"), agent("10.0.0.3:47004"));
        let description = r#"{"node_id":"Z","ip_address":"10.0.0.4","node_role":2,"of_the_future":1}"#;
        assert_eq!(find(&[("cluster/nodes/Z", description)], "Z"), agent("10.0.0.4:47004"));
        assert_eq!(find(&[], "SET"), Ok(NodeAddress::ActionController("10.0.0.9:1".into())));
    }

    #[test]
    fn node_that_cannot_be_reached_is_told_with_what_was_looked_at() {
        for (keys, words) in [
            (vec![], "cluster/nodes/Z"),
            (vec![("cluster/nodes/Z", "{")], "malformed"),
            (vec![("cluster/nodes/Z", r#"{"node_role":1,"ip_address":"10.0.0.4"}"#)], "role"),
            (vec![("cluster/nodes/Z", r#"{"node_role":2}"#)], "no ip_address"),
        ] {
            let error = find(&keys, "Z").unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
