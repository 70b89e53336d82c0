//! The daemon from outside: a first look that everything is wired together.

use actioncontroller::proto::actions::{ActionState, Verb};

use crate::support::daemon::{DaemonProcess, on_target, pod};

#[test]
fn launch_runs_repeats_and_ends_on_the_simulator() {
    let mut daemon = DaemonProcess::on_sim();
    let document = pod("alpha", "localhost/busybox:1", "sleep 1000");
    let first = daemon.launch(&document).unwrap();
    assert_eq!(first.state.enum_value(), Ok(ActionState::ACTION_STATE_SUCCEEDED));
    assert!(first.changed);
    let again = daemon.launch(&document).unwrap();
    assert!(!again.changed, "{again:?}");
    assert_eq!(first.workloads[0].container_ids, again.workloads[0].container_ids);
    let ended = daemon.execute(on_target(Verb::VERB_TERMINATE, "alpha")).unwrap();
    assert!(ended.changed);
    assert!(daemon.terminate().success(), "{}", daemon.log());
}

#[test]
fn foreign_client_in_python_drives_the_daemon() {
    let daemon = DaemonProcess::on_sim();
    crate::python::check(&daemon.address(), "daemon");
}
