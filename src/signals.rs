//! Signals as messages: SIGTERM, SIGINT and SIGHUP arrive on a channel, in the order in which they came.
//!
//! [`Signals::start`] has to run before any other thread starts: from then on none of these signals ends the process
//! by itself. Nothing else happens in a signal handler.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Handle;

/// Signals that may wait to be taken. The kernel merges equal ones anyway, so more tell nothing new.
const WAITING: usize = 16;

/// What the process is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: end, as systemd asks.
    Terminate,
    /// SIGINT: end, as a terminal asks.
    Interrupt,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// Owns the thread `signals`. Dropping it stops and joins the thread.
#[derive(Debug)]
pub struct Signals {
    received: Receiver<Signal>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Signals {
    /// Takes over the three signals and starts the thread that turns them into messages.
    pub fn start() -> io::Result<Self> {
        let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let handle = signals.handle();
        let (sender, received) = bounded(WAITING);
        let thread = thread::Builder::new().name("signals".into()).spawn(move || {
            for number in signals.forever() {
                deliver(number, &sender);
            }
        })?;
        Ok(Self { received, handle, thread: Some(thread) })
    }

    /// Where the messages arrive. The channel is closed once the thread has ended.
    pub fn received(&self) -> &Receiver<Signal> {
        &self.received
    }

    /// Ends and joins the thread. The signals stay taken over and are ignored from then on, so that one that comes
    /// during the last steps of the end does not cut them short. A second call does nothing.
    pub fn stop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("thread 'signals' had panicked");
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.stop();
    }
}

fn deliver(number: i32, sender: &Sender<Signal>) {
    let signal = match number {
        SIGTERM => Signal::Terminate,
        SIGINT => Signal::Interrupt,
        SIGHUP => Signal::Reload,
        other => return log::error!("signal {other} came, which was not asked for"),
    };
    match sender.try_send(signal) {
        Ok(()) => log::debug!("signal {signal:?}"),
        Err(TrySendError::Full(_)) => log::warn!("{WAITING} signals wait already; this {signal:?} adds nothing"),
        Err(TrySendError::Disconnected(_)) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nix::sys::signal::{self, kill};
    use nix::unistd::getpid;

    use super::*;

    // One test, because signals belong to the whole process and `cargo test` runs tests as threads of one.
    #[test]
    fn signals_arrive_as_messages_until_stopped_and_do_not_kill_after_that() {
        let mut signals = Signals::start().unwrap();
        for (sent, expected) in [
            (signal::SIGTERM, Signal::Terminate),
            (signal::SIGINT, Signal::Interrupt),
            (signal::SIGHUP, Signal::Reload),
        ] {
            kill(getpid(), sent).unwrap();
            assert_eq!(signals.received().recv_timeout(Duration::from_secs(10)), Ok(expected));
        }
        for _ in 0..3 * WAITING {
            kill(getpid(), signal::SIGHUP).unwrap();
        }
        assert_eq!(signals.received().recv_timeout(Duration::from_secs(10)), Ok(Signal::Reload));
        signals.stop();
        signals.stop();
        while signals.received().try_recv().is_ok() {}
        kill(getpid(), signal::SIGTERM).unwrap();
        assert!(signals.received().recv().is_err());
    }
}
