//! SIGTERM and SIGINT: what runs goes on, what is under way is answered, and the end comes in time.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionState, Verb};
use actioncontroller::proto::health::HealthCheckRequest;
use actioncontroller::proto::health::health_check_response::ServingStatus;
use actioncontroller::proto::workloads::{Condition, LogsRequest, WaitRequest};
use futures_executor::block_on;
use futures_util::StreamExt;
use nix::sys::signal::Signal;

use super::{answer, ask, refusal};
use crate::recovery::{LONG, is_running, listed, must, outcome, sim, sim_containers, sim_objects, target, with_id};
use crate::support::daemon::{DaemonProcess, launch, options, pod};
use crate::support::wait::until;

fn document(name: &str) -> String {
    pod(name, "localhost/busybox:1", "sleep 1000")
}

fn with_faults(faults: &str, more: &str) -> DaemonProcess {
    DaemonProcess::start(|folder| format!("{}{more}", sim(folder, 0, faults)))
}

/// Waits until a launch has created its container, so that it is in the middle.
fn is_under_way(daemon: &DaemonProcess, name: &str) {
    until("the launch is under way", LONG, || {
        let text = std::fs::read_to_string(daemon.path("sim.json")).unwrap_or_default();
        text.contains(&format!("\"{name}_main\"")).then_some(())
    });
}

/// That the next start finds everything in order.
fn starts_clean(daemon: &mut DaemonProcess) {
    let said = daemon.log().len();
    daemon.start_again();
    let log = daemon.log().split_off(said);
    for word in ["did not close", "interrupted", "damaged", "taking over"] {
        assert!(!log.contains(word), "{word}: {log}");
    }
}

// req: AC-33
#[test]
fn both_signals_end_it_with_code_0_and_containers_go_on() {
    let mut daemon = DaemonProcess::on_sim();
    must(&daemon, launch(&document("w")));
    let before = sim_containers(&daemon);
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let begun = Instant::now();
        daemon.signal(signal);
        assert_eq!(daemon.wait_for_end().code(), Some(0), "{}", daemon.log());
        assert!(begun.elapsed() < Duration::from_secs(3), "nothing was under way: {:?}", begun.elapsed());
        assert!(!daemon.socket().exists());
        starts_clean(&mut daemon);
        assert_eq!(sim_containers(&daemon), before);
        assert!(is_running(&listed(&daemon)["w"]));
    }
}

#[test]
fn action_under_way_ends_and_is_answered_while_others_are_turned_away() {
    let faults = "{op: start, name: 'slow*', delay_ms: 1500}";
    let mut daemon = with_faults(faults, "dispatch: {workers: 2, urgent_workers: 1}\n");
    let client = daemon.health();
    let mut health = client.watch(&HealthCheckRequest::default(), options()).unwrap();
    let mut next_health = || block_on(health.next()).unwrap().unwrap().status.unwrap();
    assert_eq!(next_health(), ServingStatus::SERVING);
    let slow = ask(&daemon, with_id(launch(&document("slow")), "slow"));
    is_under_way(&daemon, "slow");
    let queued = ask(&daemon, launch(&document("queued")));
    until("the second waits", LONG, || {
        let request = actioncontroller::proto::actions::ListActionsRequest { running_only: true, ..Default::default() };
        (daemon.actions().list_actions(&request, options()).unwrap().actions.len() == 2).then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    assert_eq!(next_health(), ServingStatus::NOT_SERVING);
    let turned_away = answer(queued).unwrap_err();
    assert_eq!(turned_away.code, "STOPPING", "{turned_away:?}");
    let late = refusal(&daemon, launch(&document("late")));
    assert_eq!(late.code, "STOPPING", "{late:?}");
    let done = answer(slow).unwrap();
    assert_eq!(done.state.enum_value(), Ok(ActionState::ACTION_STATE_SUCCEEDED));
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    starts_clean(&mut daemon);
    assert_eq!(listed(&daemon).keys().collect::<Vec<_>>(), ["slow"]);
    assert_eq!(outcome(&daemon, "slow").recovered, "");
}

#[test]
fn launch_beyond_the_limit_is_cancelled_undone_and_answered() {
    let faults = "{op: start, name: 'slow*', delay_ms: 50000}";
    let mut daemon = with_faults(faults, "shutdown: {drain: 2s}\n");
    let slow = ask(&daemon, with_id(launch(&document("slow")), "slow"));
    is_under_way(&daemon, "slow");
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let failure = answer(slow).unwrap_err();
    assert_eq!(failure.code, "CANCELLED", "{failure:?}");
    assert!(failure.message.contains("stopping"), "{failure:?}");
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(4), "{took:?}");
    starts_clean(&mut daemon);
    assert!(sim_objects(&daemon).is_empty());
    let kept = outcome(&daemon, "slow");
    assert_eq!(kept.state.enum_value(), Ok(ActionState::ACTION_STATE_CANCELLED));
    assert!(kept.left.is_empty());
}

#[test]
fn stop_beyond_the_limit_says_what_is_left_and_is_not_undone() {
    let mut daemon = with_faults("{op: stop, delay_ms: 50000}", "shutdown: {drain: 2s}\n");
    must(&daemon, launch(&document("w")));
    let stop = ask(&daemon, with_id(target(Verb::VERB_STOP, "w"), "stop"));
    until("the stop is under way", LONG, || {
        let action =
            actioncontroller::proto::actions::GetActionRequest { action_id: "stop".to_owned(), ..Default::default() };
        let action = daemon.actions().get_action(&action, options()).ok()?;
        (action.progress.steps_total == 1).then_some(())
    });
    daemon.signal(Signal::SIGTERM);
    assert_eq!(answer(stop).unwrap_err().code, "CANCELLED");
    assert_eq!(daemon.wait_for_end().code(), Some(0));
    starts_clean(&mut daemon);
    assert!(is_running(&listed(&daemon)["w"]));
    assert!(outcome(&daemon, "stop").left.iter().any(|line| line.contains("w_main")));
}

#[test]
fn open_streams_and_waits_do_not_hold_up_the_end() {
    let mut daemon = DaemonProcess::on_sim();
    must(&daemon, launch(&document("w")));
    let client = daemon.workloads();
    let follow = LogsRequest { workload: "w".to_owned(), follow: true, ..LogsRequest::default() };
    let _logs = client.logs(&follow, options()).unwrap();
    let wait = WaitRequest {
        workload: "w".to_owned(),
        condition: Condition::CONDITION_EXITED.into(),
        timeout_ms: 50_000,
        ..WaitRequest::default()
    };
    let wait = client.wait_async(&wait, options()).unwrap();
    let health = daemon.health();
    let _watch = health.watch(&HealthCheckRequest::default(), options()).unwrap();
    // An answer on the same connection: what was sent before it has arrived.
    listed(&daemon);
    let begun = Instant::now();
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(block_on(wait).is_err());
}

#[test]
fn second_daemon_on_the_same_state_is_refused_and_the_first_goes_on() {
    let daemon = DaemonProcess::on_sim();
    must(&daemon, launch(&document("w")));
    let mut second = std::process::Command::new(env!("CARGO_BIN_EXE_actioncontroller"));
    let output = second.arg("--config").arg(daemon.path("config.d")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(is_running(&listed(&daemon)["w"]));
}
