//! Cancel of a launch whose pull does not get on.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionState, CancelActionRequest};

use super::{LIMIT, Rig, one};
use crate::support::daemon::{launch, options};
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::wait::until;

#[test]
fn cancel_in_a_stalled_pull_answers_within_a_second_and_leaves_no_container_and_no_connection() {
    let rig = Rig::on(PodmanServer::start_with_registry());
    rig.server.stall_loopback();
    let document = one("w", "true", "").replace(IMAGE, &rig.server.remote_image());
    let idle = rig.server.connections();
    let id = rig.begin(launch(&document));
    until("the pull", LIMIT, || {
        let progress = rig.action(&id).progress.unwrap_or_default();
        (progress.current_step.starts_with("pull ") && rig.server.connections() > idle).then_some(())
    });
    let begun = Instant::now();
    let request = CancelActionRequest { action_id: id.clone(), reason: "enough".to_owned(), ..Default::default() };
    let answer = rig.daemon.actions().cancel_action(&request, options()).unwrap();
    let took = begun.elapsed();
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(answer.cancelled);
    assert_eq!(answer.outcome.state.enum_value(), Ok(ActionState::ACTION_STATE_CANCELLED), "{answer:?}");
    assert!(answer.outcome.message.contains("enough"), "{answer:?}");
    assert!(answer.outcome.left.is_empty(), "{answer:?}");
    until("the connection is closed", Duration::from_secs(2), || (rig.server.connections() <= idle).then_some(()));
    rig.assert_nothing_left();
}
