//! What systemd is told: ready, reloading, stopping, and that the daemon still works (sd_notify(3), systemd 252).
//!
//! Without systemd (`NOTIFY_SOCKET` not set) everything here does nothing. A message that does not get through is
//! logged and never stops the daemon; systemd's own timeouts see to the rest.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use sd_notify::NotifyState;

/// systemd may ask for beats so fast that sending them would be all there is to do; none faster than this.
const FASTEST_BEAT: Duration = Duration::from_millis(10);

/// The daemon takes requests; `status` is shown by `systemctl status`. Also ends a reload.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// The configuration is being read again; [`ready`] has to follow, whatever comes of it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => log::warn!("systemd is not told of the reload: {error}"),
    }
}

/// The daemon is on its way out.
pub fn stopping(status: &str) {
    tell(&[NotifyState::Stopping, NotifyState::Status(&one_line(status))]);
}

/// What `systemctl status` shows from now on.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(&one_line(status))]);
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        crate::limited!(log::Level::Warn, "systemd is not told: {error}");
    }
}

/// A line break would begin another assignment of the protocol.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// Owns the thread `watchdog`, which tells systemd that the daemon works. Dropping it stops and joins the thread.
#[derive(Debug)]
pub struct Watchdog {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    /// Starts the beats where systemd asks for them (`WATCHDOG_USEC`), at half the time it allows; otherwise there is
    /// no thread. Before each beat `health` is asked, which must answer at once; an `Err` leaves the beat out, and
    /// says why. Where beats stay out for long enough, systemd kills and restarts the daemon; a `health` that hangs has
    /// the same end.
    pub fn start(health: impl Fn() -> Result<(), String> + Send + 'static) -> io::Result<Self> {
        match sd_notify::watchdog_enabled() {
            Some(limit) => Self::every((limit / 2).max(FASTEST_BEAT), health),
            None => Ok(Self { stop: None, thread: None }),
        }
    }

    fn every(interval: Duration, health: impl Fn() -> Result<(), String> + Send + 'static) -> io::Result<Self> {
        let (stop, stopped) = bounded::<()>(0);
        let thread = thread::Builder::new().name("watchdog".into()).spawn(move || {
            loop {
                beat(&health);
                match stopped.recv_timeout(interval) {
                    Err(RecvTimeoutError::Timeout) => {}
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Whether systemd asked for beats.
    pub fn is_active(&self) -> bool {
        self.thread.is_some()
    }

    /// Ends and joins the thread. A second call does nothing.
    pub fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("thread 'watchdog' had panicked");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.stop();
    }
}

fn beat(health: &impl Fn() -> Result<(), String>) {
    match health() {
        Ok(()) => tell(&[NotifyState::Watchdog]),
        Err(reason) => log::error!("the watchdog is not told that all is well: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::{Child, Command};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    /// Says to the test `daemon_under_systemd` which part it is to play.
    const PART: &str = "ACTIONCONTROLLER_TEST_PART";

    /// Far more than anything here takes.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A systemd of one socket and the process that it started.
    struct Systemd {
        socket: UnixDatagram,
        child: Child,
        _folder: tempfile::TempDir,
    }

    impl Systemd {
        /// Starts this test program again with the environment that systemd gives.
        fn run(part: &str, watchdog: Option<Duration>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "supervisor::tests::daemon_under_systemd"]);
            command.env("NOTIFY_SOCKET", &path).env(PART, part).env_remove("WATCHDOG_PID");
            if let Some(limit) = watchdog {
                command.env("WATCHDOG_USEC", limit.as_micros().to_string());
            }
            Self { socket, child: command.spawn().unwrap(), _folder: folder }
        }

        fn next(&self) -> String {
            let mut buffer = [0; 1024];
            let length = self.socket.recv(&mut buffer).expect("a message");
            String::from_utf8_lossy(&buffer[..length]).into_owned()
        }

        fn end(mut self) {
            assert!(self.child.wait().unwrap().success());
            self.socket.set_nonblocking(true).unwrap();
            assert!(self.socket.recv(&mut [0; 8]).is_err(), "a message nobody expected");
        }
    }

    /// Not a test of its own: what the tests below run under their systemd.
    #[test]
    fn daemon_under_systemd() {
        match std::env::var(PART).as_deref() {
            Ok("life") => {
                ready("serving 'x'\nWATCHDOG=trigger");
                reloading();
                ready("serving");
                status("busy");
                stopping("draining");
                assert!(!Watchdog::start(|| Ok(())).unwrap().is_active());
            }
            Ok("watchdog") => {
                let beats = AtomicU32::new(0);
                let (done, wait) = bounded(1);
                let mut watchdog = Watchdog::start(move || {
                    assert_eq!(thread::current().name(), Some("watchdog"));
                    match beats.fetch_add(1, Ordering::SeqCst) {
                        0..3 => Ok(()),
                        3..6 => Err("the pool stands still".into()),
                        _ => {
                            let _ = done.try_send(());
                            Err("it still does".into())
                        }
                    }
                })
                .unwrap();
                assert!(watchdog.is_active());
                wait.recv_timeout(PATIENCE).unwrap();
                let begun = Instant::now();
                watchdog.stop();
                assert!(begun.elapsed() < PATIENCE);
            }
            _ => {}
        }
    }

    #[test]
    fn systemd_hears_of_start_reload_and_end() {
        let systemd = Systemd::run("life", None);
        assert_eq!(systemd.next(), "READY=1\nSTATUS=serving 'x' WATCHDOG=trigger\n");
        let reload = systemd.next();
        let stamp = reload.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(stamp.parse::<u64>().unwrap() > 0);
        assert_eq!(systemd.next(), "READY=1\nSTATUS=serving\n");
        assert_eq!(systemd.next(), "STATUS=busy\n");
        assert_eq!(systemd.next(), "STOPPING=1\nSTATUS=draining\n");
        systemd.end();
    }

    #[test]
    fn beats_come_at_half_the_limit_and_stay_out_while_health_fails() {
        let begun = Instant::now();
        let systemd = Systemd::run("watchdog", Some(Duration::from_millis(200)));
        for _ in 0..3 {
            assert_eq!(systemd.next(), "WATCHDOG=1\n");
        }
        assert!(begun.elapsed() >= Duration::from_millis(200));
        systemd.end();
    }

    #[test]
    fn without_systemd_there_is_nothing_to_do() {
        assert!(std::env::var_os("NOTIFY_SOCKET").is_none());
        ready("serving");
        assert!(!Watchdog::start(|| Err("never asked".into())).unwrap().is_active());
    }
}
