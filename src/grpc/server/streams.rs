//! How many streams a peer may have open. gRPC bounds streams per connection only, and a peer may have many of those,
//! so they are counted here: by address over TCP, and all together on the unix socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorCode, ErrorKind, Result};

/// Whose streams are counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Peer {
    /// Everyone on the unix socket.
    Unix,
    /// An address without its port.
    Tcp(String),
}

impl Peer {
    /// The peer as gRPC's core writes it: `unix:…`, `ipv4:127.0.0.1:4711`, `ipv6:%5B::1%5D:4711`.
    fn of(text: &str) -> Self {
        if text.starts_with("unix") {
            return Self::Unix;
        }
        Self::Tcp(text.rsplit_once(':').map_or(text, |(address, _port)| address).to_owned())
    }
}

/// The open streams of each peer.
pub(super) struct Streams {
    per_peer: usize,
    unix: usize,
    open: Mutex<BTreeMap<Peer, usize>>,
}

impl Streams {
    /// None open; at most `per_peer` of one TCP address and `unix` on the unix socket.
    pub fn new(per_peer: usize, unix: usize) -> Self {
        Self { per_peer, unix, open: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Peer, usize>> {
        // Nothing panics under this lock.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one more of `peer` until the slot is dropped; at the limit `TOO_MANY_STREAMS`.
    pub fn open(self: &Arc<Self>, peer: &str) -> Result<StreamSlot> {
        let peer = Peer::of(peer);
        let mut open = self.lock();
        let count = open.get(&peer).copied().unwrap_or_default();
        let (limit, whose, setting) = match &peer {
            Peer::Unix => (self.unix, "on the unix socket", "streams_unix"),
            Peer::Tcp(_) => (self.per_peer, "from this address", "streams_per_peer"),
        };
        if count >= limit {
            let message = format!("{count} streams are open {whose}, and {limit} are the most ({setting})");
            let error = Error::new(ErrorKind::ResourceExhausted, ErrorCode::TooManyStreams, message);
            return Err(error.hint("end a watch, a followed log or a health watch, then try again"));
        }
        open.insert(peer.clone(), count + 1);
        Ok(StreamSlot { streams: Arc::clone(self), peer })
    }
}

/// One open stream.
pub(super) struct StreamSlot {
    streams: Arc<Streams>,
    peer: Peer,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        let mut open = self.streams.lock();
        if let Some(count) = open.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_address_share_a_limit_and_other_addresses_do_not() {
        let streams = Arc::new(Streams::new(2, 1));
        let _first = streams.open("ipv4:10.0.0.1:5000").ok().unwrap();
        let second = streams.open("ipv4:10.0.0.1:5001").ok().unwrap();
        let refused = streams.open("ipv4:10.0.0.1:5002").err().unwrap();
        assert_eq!((refused.kind, refused.code), (ErrorKind::ResourceExhausted, ErrorCode::TooManyStreams));
        assert!(refused.message.contains("2 are the most (streams_per_peer)"), "{refused}");
        let _other = streams.open("ipv4:10.0.0.2:5000").ok().unwrap();
        let _v6 = streams.open("ipv6:%5B::1%5D:5000").ok().unwrap();
        drop(second);
        streams.open("ipv4:10.0.0.1:5003").ok().unwrap();
    }

    #[test]
    fn unix_peers_share_one_limit_and_nothing_stays_counted() {
        let streams = Arc::new(Streams::new(1, 1));
        let only = streams.open("unix:").ok().unwrap();
        assert!(streams.open("unix:@client").is_err());
        drop(only);
        assert!(streams.lock().is_empty());
    }
}
