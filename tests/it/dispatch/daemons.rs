//! Two daemons: the second neither takes the first one's state nor its socket.

use std::fs;

use super::{QUICK, daemon, launch_of, settings};
use crate::support::daemon::DaemonProcess;

/// Starts a second daemon that is expected to end by itself, with this said in its log.
#[track_caller]
fn assert_refused(second: &mut DaemonProcess, said: &[&str]) {
    second.spawn();
    let status = second.wait_for_end();
    let log = second.log();
    assert!(!status.success(), "{log}");
    for text in said {
        assert!(log.contains(text), "'{text}' is not in\n{log}");
    }
    assert!(!log.contains("panicked"), "{log}");
}

/// A daemon that has run once and is stopped, to be started beside another.
fn stopped() -> DaemonProcess {
    let mut daemon = daemon("[]", "");
    assert!(daemon.terminate().success());
    daemon
}

#[test]
fn second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    let first = daemon("[]", "");
    let mut second = stopped();
    let shared = format!("state_dir: {}\n", first.path("state").display());
    second.write_settings(&settings(&second.path(""), "[]", &shared));
    assert_refused(&mut second, &["in use by process", &first.pid().to_string()]);
    first.execute(launch_of("alpha", QUICK)).unwrap();
}

#[test]
fn second_daemon_on_the_same_socket_is_refused_and_the_first_goes_on() {
    let first = daemon("[]", "");
    let mut second = stopped();
    let shared = format!("listen: {{unix: {}}}\n", first.socket().display());
    second.write_settings(&settings(&second.path(""), "[]", &shared));
    assert_refused(&mut second, &["another process listens on", &first.socket().display().to_string()]);
    first.execute(launch_of("alpha", QUICK)).unwrap();
    assert!(fs::symlink_metadata(first.socket()).is_ok());
}

#[test]
fn socket_of_a_killed_daemon_is_taken_over() {
    let mut daemon = daemon("[]", "");
    daemon.kill();
    assert!(daemon.socket().exists());
    daemon.start_again();
    daemon.execute(launch_of("alpha", QUICK)).unwrap();
}
