//! [`Duplex`]: a gRPC call in which both sides send messages, for a thread of ours that waits for them.

use futures_util::{SinkExt, StreamExt};
use grpcio::{CallOption, ClientDuplexReceiver, ClientDuplexSender, Method, WriteFlags};

use super::channel::{Bounds, Peer, PeerError};
use super::wait::wait_for_or_cancel;

/// An open call. Ends when it is dropped.
pub struct Duplex<Q, R> {
    peer: Peer,
    method: &'static str,
    sender: ClientDuplexSender<Q>,
    receiver: ClientDuplexReceiver<R>,
}

impl<Q: Unpin, R: Unpin> Duplex<Q, R> {
    /// Begins the call. Whether the peer is there shows with the first message.
    pub fn open(peer: &Peer, method: &Method<Q, R>, options: CallOption) -> Result<Self, PeerError> {
        let opened = peer.client().duplex_streaming(method, options);
        let (sender, receiver) = opened.map_err(|error| peer.error(method.name, error))?;
        Ok(Self { peer: peer.clone(), method: method.name, sender, receiver })
    }

    /// Sends a message.
    pub fn send(&mut self, message: Q, bounds: Bounds<'_>) -> Result<(), PeerError> {
        let mut sending = self.sender.send((message, WriteFlags::default()));
        match wait_for_or_cancel(&mut sending, bounds.deadline, bounds.cancel) {
            Some(sent) => sent.map_err(|error| self.peer.error(self.method, error)),
            None if bounds.cancel.is_cancelled() => Err(self.peer.cancelled()),
            None => Err(self.peer.silent(self.method, "a message was not taken in time".to_owned())),
        }
    }

    /// Waits for the peer's next message; `None` where the time was over. That the peer has ended the call is an error.
    pub fn next(&mut self, bounds: Bounds<'_>) -> Result<Option<R>, PeerError> {
        match wait_for_or_cancel(&mut self.receiver.next(), bounds.deadline, bounds.cancel) {
            Some(Some(Ok(message))) => Ok(Some(message)),
            Some(Some(Err(error))) => Err(self.peer.error(self.method, error)),
            Some(None) => Err(self.peer.silent(self.method, "it ended the call".to_owned())),
            None if bounds.cancel.is_cancelled() => Err(self.peer.cancelled()),
            None => Ok(None),
        }
    }

    /// One message and the answer to it, in a call of their own.
    pub fn exchange(
        peer: &Peer,
        method: &Method<Q, R>,
        message: Q,
        options: CallOption,
        bounds: Bounds<'_>,
    ) -> Result<R, PeerError> {
        let mut call = Self::open(peer, method, options.timeout(bounds.deadline.remaining()))?;
        // Where the call is over already, its answer says why.
        let sent = call.send(message, bounds);
        match (call.next(bounds), sent) {
            (Ok(Some(answer)), _) => Ok(answer),
            (Ok(None), _) => Err(peer.silent(method.name, "it did not answer in time".to_owned())),
            (Err(error), _) => Err(error),
        }
    }
}
