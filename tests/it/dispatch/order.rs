//! Which of the waiting actions goes first: by the caller's priority, then by arrival; urgent ones before all.

use actioncontroller::proto::actions::{ActionSpec, ActionState, ListActionsRequest};

use super::{NARROW, QUICK, SLOW, accept, cancel, daemon, launch_of, until_state, until_step};
use crate::support::daemon::options;

#[test]
fn waiting_actions_go_by_priority_then_by_arrival() {
    let daemon = daemon("[]", NARROW);
    accept(&daemon, launch_of("busy", SLOW)).unwrap();
    until_step(&daemon, "busy", "pull");
    for (name, priority) in [("first", 0), ("lowest", -5), ("second", 0), ("highest", 7), ("third", 0)] {
        accept(&daemon, ActionSpec { priority, ..launch_of(name, QUICK) }).unwrap();
    }
    cancel(&daemon, "busy").unwrap();
    until_state(&daemon, "lowest", ActionState::ACTION_STATE_SUCCEEDED);
    let listed = daemon.actions().list_actions(&ListActionsRequest::default(), options()).unwrap();
    let ended: Vec<_> = listed.actions.iter().rev().map(|action| action.action_id.as_str()).collect();
    assert_eq!(ended, ["busy", "highest", "first", "second", "third", "lowest"]);
}
