//! [`NodeClients`]: orders to other nodes, each over a connection that is kept as long as its node is used.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{Called, action_controller, node_agent};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::model::plan::NodeCommand;
use crate::nodes::{Directory, NodeAddress, NodeControl, NodeError, Order};
use crate::transport::channel::ChannelThreads;

/// Connections that are kept, at most; the one that was used longest ago goes.
const MOST: usize = 64;

/// Other nodes, found through a directory.
pub struct NodeClients {
    directory: Arc<dyn Directory>,
    timeout: Duration,
    start_timeout: Duration,
    threads: ChannelThreads,
    kept: Mutex<HashMap<NodeAddress, (Called, Instant)>>,
}

impl NodeClients {
    /// Clients of nodes that `directory` knows; a start has `start_timeout`, any other order `timeout`.
    pub fn new(
        directory: Arc<dyn Directory>,
        timeout: Duration,
        start_timeout: Duration,
        threads: ChannelThreads,
    ) -> Self {
        Self { directory, timeout, start_timeout, threads, kept: Mutex::default() }
    }

    fn client(&self, address: &NodeAddress) -> Called {
        // Making a client connects nobody yet: it does not block under the lock.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.contains_key(address) && kept.len() >= MOST {
            let oldest = kept.iter().min_by_key(|(_, (_, used))| *used).map(|(address, _)| address.clone());
            oldest.and_then(|oldest| kept.remove(&oldest));
        }
        let (name, at) = match address {
            NodeAddress::NodeAgent(at) => ("NodeAgent", at),
            NodeAddress::ActionController(at) => ("Action Controller", at),
        };
        let make = || (Called::new(name, at, self.timeout.max(self.start_timeout), &self.threads), Instant::now());
        let (called, used) = kept.entry(address.clone()).or_insert_with(make);
        *used = Instant::now();
        called.clone()
    }
}

impl NodeControl for NodeClients {
    fn order(&self, order: &Order<'_>, deadline: Deadline, cancel: &CancelToken) -> Result<(), NodeError> {
        let address = self.directory.find(order.node, deadline)?;
        let called = self.client(&address);
        let deadline = deadline.at_most(match order.command {
            NodeCommand::Start | NodeCommand::Restart => self.start_timeout,
            NodeCommand::Stop => self.timeout,
        });
        match address {
            NodeAddress::NodeAgent(_) => node_agent::order(&called, order, deadline, cancel),
            NodeAddress::ActionController(_) => action_controller::order(&called, order, deadline, cancel),
        }
    }
}
