//! restartPolicy through the real daemon: what has ended is started again, and what was stopped is not.

use std::time::Duration;

use actioncontroller::proto::actions::{ListActionsRequest, Verb};
use actioncontroller::proto::workloads::{ContainerState, GetWorkloadRequest};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::daemon::{DaemonProcess, on_target, options, pod, with_podman, with_sim};
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Soon enough for a test.
const SOON: &str = "actions: {restart_after: 300ms, restart_after_most: 2s}\n";

fn on_sim() -> DaemonProcess {
    DaemonProcess::start(|folder| format!("{}{SOON}", with_sim(folder)))
}

fn with_policy(policy: &str, command: &str) -> String {
    pod("w", IMAGE, command).replace("  hostNetwork", &format!("  restartPolicy: {policy}\n  hostNetwork"))
}

/// The state of the only container, with when it was started.
fn container(daemon: &DaemonProcess) -> Option<(ContainerState, i32, i64)> {
    let request = GetWorkloadRequest { name: "w".into(), ..Default::default() };
    let found = daemon.workloads().get_workload(&request, options()).ok()?;
    let container = found.containers.first()?;
    let started = container.started_at.as_ref().map_or(0, |at| at.seconds * 1_000_000_000 + i64::from(at.nanos));
    Some((container.state.enum_value().ok()?, container.pid, started))
}

/// How many starts the daemon has done by itself.
fn restarts(daemon: &DaemonProcess) -> usize {
    let request = ListActionsRequest { target: "w".into(), page_size: 1000, ..Default::default() };
    let listed = daemon.actions().list_actions(&request, options()).unwrap();
    listed.actions.iter().filter(|action| action.verb == Verb::VERB_START.into() && action.outcome.changed).count()
}

#[test]
fn what_ends_is_started_again_and_a_stop_ends_that() {
    let daemon = on_sim();
    daemon.launch(&with_policy("Always", "sleep 0.2")).unwrap();
    until("it was started again twice", LIMIT, || (restarts(&daemon) >= 2).then_some(()));
    daemon.execute(on_target(Verb::VERB_STOP, "w")).unwrap();
    let done = restarts(&daemon);
    // Twice the longest wait.
    std::thread::sleep(Duration::from_secs(4));
    assert!(restarts(&daemon) <= done + 1, "one may have been under way");
    assert_ne!(container(&daemon).unwrap().0, ContainerState::CONTAINER_STATE_RUNNING);
}

#[test]
fn stops_and_starts_on_purpose_do_not_make_a_later_restart_wait() {
    let daemon = DaemonProcess::start(|folder| {
        format!("{}actions: {{restart_after: 300ms, restart_after_most: 10m}}\n", with_sim(folder))
    });
    daemon.launch(&with_policy("Always", "sleep 1000")).unwrap();
    for _ in 0..12 {
        daemon.execute(on_target(Verb::VERB_STOP, "w")).unwrap();
        daemon.execute(on_target(Verb::VERB_START, "w")).unwrap();
    }
    let done = restarts(&daemon);
    daemon.execute(on_target(Verb::VERB_TERMINATE, "w")).unwrap();
    daemon.launch(&with_policy("Always", "sleep 0.2")).unwrap();
    // After twelve that count it would be ten minutes.
    until("it was started again", LIMIT, || (restarts(&daemon) > done).then_some(()));
}

#[test]
fn only_a_failure_is_followed_by_a_restart_where_the_document_says_so() {
    for (policy, command, restarts_it) in [
        ("OnFailure", "sleep 0.2; exit 3", true),
        ("OnFailure", "sleep 0.2", false),
        ("Never", "sleep 0.2; exit 3", false),
    ] {
        let daemon = on_sim();
        daemon.launch(&with_policy(policy, command)).unwrap();
        if restarts_it {
            until("it was started again", LIMIT, || (restarts(&daemon) >= 1).then_some(()));
            continue;
        }
        let ended = |(state, ..): &(ContainerState, i32, i64)| *state == ContainerState::CONTAINER_STATE_EXITED;
        until("it has ended", LIMIT, || container(&daemon).filter(ended));
        std::thread::sleep(Duration::from_secs(2));
        assert_eq!(restarts(&daemon), 0, "{policy} {command}");
    }
}

#[test]
fn what_ended_while_the_daemon_was_away_is_started_again_at_its_next_start() {
    let mut daemon = on_sim();
    daemon.launch(&with_policy("Always", "sleep 1.5")).unwrap();
    daemon.kill();
    std::thread::sleep(Duration::from_secs(2));
    daemon.start_again();
    until("it was started again", LIMIT, || (restarts(&daemon) >= 1).then_some(()));
}

#[test]
fn death_on_podman_is_followed_by_one_restart_also_where_podman_was_away_meanwhile() {
    let mut server = PodmanServer::start();
    let daemon = DaemonProcess::start(|_| format!("{}{SOON}", with_podman(&server.socket())));
    let stays = "while :; do sleep 0.1; done";
    daemon.launch(&with_policy("Always", stays)).unwrap();
    let running =
        |(state, pid, _): &(ContainerState, i32, i64)| *state == ContainerState::CONTAINER_STATE_RUNNING && *pid > 0;
    let (_, first, _) = until("it runs", LIMIT, || container(&daemon).filter(running));
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    let (_, second, _) =
        until("it runs again", LIMIT, || container(&daemon).filter(running).filter(|(_, pid, _)| *pid != first));
    until("the restart has ended", LIMIT, || (restarts(&daemon) == 1).then_some(()));
    // A signal that does not end it is no death.
    kill(Pid::from_raw(second), Signal::SIGCONT).unwrap();
    server.stop_service();
    kill(Pid::from_raw(second), Signal::SIGKILL).unwrap();
    server.start_service();
    until("it runs again", LIMIT, || container(&daemon).filter(running).filter(|(_, pid, _)| *pid != second));
    until("the restart has ended", LIMIT, || (restarts(&daemon) == 2).then_some(()));
    daemon.execute(on_target(Verb::VERB_KILL, "w")).unwrap();
    daemon.execute(on_target(Verb::VERB_TERMINATE, "w")).unwrap();
}
