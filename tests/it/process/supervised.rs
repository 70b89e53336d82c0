//! What systemd hears, over a real notification socket.

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::recovery::LONG;
use crate::support::daemon::DaemonProcess;
use crate::support::wait::until;

/// The end of the socket that systemd has.
struct Systemd(UnixDatagram);

impl Systemd {
    /// The next message that is no sign of life, by its lines.
    fn next(&self) -> Vec<String> {
        loop {
            let message = self.any();
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }

    fn any(&self) -> Vec<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned).collect()
    }
}

/// A daemon that ended, and whose next start is under this systemd.
fn supervised() -> (DaemonProcess, Systemd) {
    let mut daemon = DaemonProcess::on_sim();
    assert!(daemon.terminate().success());
    let path = daemon.path("notify.sock");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    daemon.set_variable("NOTIFY_SOCKET", path);
    (daemon, Systemd(socket))
}

// req: AC-33
#[test]
fn systemd_hears_of_ready_reload_and_stop_in_order() {
    let (mut daemon, systemd) = supervised();
    daemon.spawn();
    let ready = systemd.next();
    assert_eq!(ready[0], "READY=1");
    assert!(ready[1].starts_with("STATUS=") && ready[1].contains("'test'"), "{ready:?}");
    UnixStream::connect(daemon.socket()).expect("ready means that requests are taken");
    daemon.signal(Signal::SIGHUP);
    let reloading = systemd.next();
    assert_eq!(reloading[0], "RELOADING=1");
    assert!(reloading[1].starts_with("MONOTONIC_USEC="), "{reloading:?}");
    assert_eq!(systemd.next()[0], "READY=1");
    daemon.write_settings("wrong: true\n");
    daemon.signal(Signal::SIGHUP);
    assert_eq!(systemd.next()[0], "RELOADING=1");
    assert_eq!(systemd.next()[0], "READY=1", "also after a file that is wrong");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(systemd.next()[0], "STOPPING=1");
    assert_eq!(daemon.wait_for_end().code(), Some(0));
}

#[test]
fn watchdog_hears_signs_of_life_at_half_its_limit_until_the_end() {
    let (mut daemon, systemd) = supervised();
    daemon.set_variable("WATCHDOG_USEC", "400000");
    daemon.spawn();
    while systemd.any()[0] != "READY=1" {}
    let begun = std::time::Instant::now();
    for _ in 0..5 {
        assert_eq!(systemd.any(), ["WATCHDOG=1"]);
    }
    assert!(begun.elapsed() >= Duration::from_millis(600), "{:?}", begun.elapsed());
    daemon.signal(Signal::SIGSTOP);
    systemd.0.set_nonblocking(true).unwrap();
    until("the last sign is read", LONG, || systemd.0.recv(&mut [0; 64]).is_err().then_some(()));
    systemd.0.set_nonblocking(false).unwrap();
    systemd.0.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
    assert!(systemd.0.recv(&mut [0; 64]).is_err(), "a daemon that stands still says nothing");
    daemon.signal(Signal::SIGCONT);
    assert!(daemon.terminate().success());
}

#[test]
fn failed_start_is_never_told_as_ready() {
    let (mut daemon, systemd) = supervised();
    daemon.write_settings("wrong: true\n");
    daemon.spawn();
    assert_eq!(daemon.wait_for_end().code(), Some(78));
    systemd.0.set_nonblocking(true).unwrap();
    assert!(systemd.0.recv(&mut [0; 64]).is_err());
}
