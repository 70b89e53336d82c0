//! Clients of other services, each behind a port of the room that needs it.
//!
//! Enters: one file per peer, over a [`Peer`] that is kept: a call makes no new connection. Every call is bounded by the
//! caller's deadline and the configured time, ended by its token, and tried again only where that is safe. Stays out:
//! what an answer means for an action.

pub mod action_controller;
pub mod monitoring_server;
pub mod node_agent;
pub mod nodes;
pub mod pharos;
pub mod policy_manager;
pub mod policy_server;
pub mod state_manager;
pub mod timpani;
pub mod timpani_scheduler;

use std::time::Duration;

use crate::transport::channel::{ChannelThreads, Peer, Tls};

/// A peer that is called, with the time that it has for an answer.
#[derive(Clone)]
pub struct Called {
    peer: Peer,
    timeout: Duration,
}

impl Called {
    /// The peer `name` at `address` (`host:port` or `unix:///path`), in plain text. Connects at the first call.
    pub fn new(name: &str, address: &str, timeout: Duration, threads: &ChannelThreads) -> Self {
        let plain: Option<&Tls> = None;
        Self { peer: Peer::new(name, reachable(address), threads, plain), timeout }
    }
}

/// Upstream's settings name the address that a server binds: every address is reached at this machine's own.
fn reachable(address: &str) -> String {
    address.strip_prefix("0.0.0.0:").map_or_else(|| address.to_owned(), |port| format!("127.0.0.1:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_that_is_bound_is_reached_at_loopback() {
        assert_eq!(reachable("0.0.0.0:47005"), "127.0.0.1:47005");
        assert_eq!(reachable("10.0.0.2:47005"), "10.0.0.2:47005");
    }
}
