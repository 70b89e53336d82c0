//! [`Inflow`]: a gRPC call in which the peer sends messages to one request, for a thread of ours that waits for them.

use futures_util::StreamExt;
use grpcio::{CallOption, ClientSStreamReceiver, Method};

use super::channel::{Bounds, Peer, PeerError};
use super::wait::wait_for_or_cancel;

/// An open call. Ends when it is dropped.
pub struct Inflow<R> {
    peer: Peer,
    method: &'static str,
    receiver: ClientSStreamReceiver<R>,
}

impl<R: Unpin> Inflow<R> {
    /// Begins the call. Whether the peer is there shows with the first message.
    pub fn open<Q>(peer: &Peer, method: &Method<Q, R>, request: &Q, options: CallOption) -> Result<Self, PeerError> {
        let opened = peer.client().server_streaming(method, request, options);
        let receiver = opened.map_err(|error| peer.error(method.name, error))?;
        Ok(Self { peer: peer.clone(), method: method.name, receiver })
    }

    /// Waits for the next message; `None` is the end of the call. That the time was over is an error.
    pub fn next(&mut self, bounds: Bounds<'_>) -> Result<Option<R>, PeerError> {
        match wait_for_or_cancel(&mut self.receiver.next(), bounds.deadline, bounds.cancel) {
            Some(Some(Ok(message))) => Ok(Some(message)),
            Some(Some(Err(error))) => Err(self.peer.error(self.method, error)),
            Some(None) => Ok(None),
            None if bounds.cancel.is_cancelled() => Err(self.peer.cancelled()),
            None => Err(self.peer.silent(self.method, "no message came in time".to_owned())),
        }
    }
}
