//! How calls that wait for something in the simulator are woken: by a change, by their cancel token, or by time.
//!
//! Each waiting call has a channel of one place. Whatever happens after it last looked leaves a token there, so nothing
//! is missed between looking and waiting; and a cancelling thread takes no lock of the simulator.

use std::collections::BTreeMap;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, never};

use crate::cancel::{CancelToken, Registration};

/// The calls that wait at present.
#[derive(Default)]
pub(super) struct Wakers {
    senders: BTreeMap<u64, Sender<()>>,
    next: u64,
}

impl Wakers {
    /// Lets every waiting call look again.
    pub fn wake(&self) {
        for sender in self.senders.values() {
            // Full means that it has been told already.
            let _ = sender.try_send(());
        }
    }

    /// Adds a waiting call; its [`Waiter::number`] takes it out again.
    pub fn add(&mut self, cancel: &CancelToken) -> Waiter {
        let (sender, receiver) = bounded(1);
        let number = self.next;
        self.next += 1;
        self.senders.insert(number, sender.clone());
        let on_cancel = cancel.on_cancel(move || {
            let _ = sender.try_send(());
        });
        Waiter { number, receiver, _on_cancel: on_cancel }
    }

    /// Takes a waiting call out.
    pub fn remove(&mut self, number: u64) {
        self.senders.remove(&number);
    }
}

/// A waiting call's end of the channel.
pub(super) struct Waiter {
    /// Its number among the [`Wakers`].
    pub number: u64,
    receiver: Receiver<()>,
    _on_cancel: Registration,
}

impl Waiter {
    /// Blocks until something changed, the token was cancelled or `until` is reached.
    pub fn wait(&self, until: Option<Instant>) {
        let timer = until.map_or_else(never, crossbeam_channel::at);
        crossbeam_channel::select! {
            recv(self.receiver) -> _ => {}
            recv(timer) -> _ => {}
        }
    }
}
