//! The store writes together what comes together.

use std::thread;

use super::{QUICK, launch_of};
use crate::support::daemon::DaemonProcess;

/// Callers at the same time.
const CALLERS: usize = 16;

/// Actions of each.
const EACH: usize = 12;

/// The counts that the daemon logs at its end: commits and syncs.
fn counted(log: &str) -> Option<(u64, u64)> {
    let (_, rest) = log.rsplit_once("the store made ")?;
    let mut words = rest.split_whitespace();
    let commits = words.next()?.parse().ok()?;
    let syncs = words.nth(2)?.parse().ok()?;
    Some((commits, syncs))
}

#[test]
fn sixteen_callers_make_fewer_syncs_than_half_of_their_intents_and_outcomes() {
    // In memory, so that the callers meet at the store and not at the simulator's file.
    let mut daemon = DaemonProcess::start(|_| {
        "runtimes:\n  preference: [sim]\n  podman: {enabled: false}\n  sim: {enabled: true}\n\
         dispatch: {workers: 17, urgent_workers: 1}\n"
            .to_owned()
    });
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let daemon = &daemon;
            scope.spawn(move || {
                (0..EACH).for_each(|n| drop(daemon.execute(launch_of(&format!("w{caller}-{n}"), QUICK)).unwrap()));
            });
        }
    });
    assert!(daemon.terminate().success());
    let (commits, syncs) = counted(&daemon.log()).expect("the counts are logged");
    let actions = u64::try_from(CALLERS * EACH).unwrap();
    assert!(commits >= 2 * actions, "{commits} commits for {actions} actions");
    assert!(syncs < actions, "{syncs} syncs for {actions} actions");
}
