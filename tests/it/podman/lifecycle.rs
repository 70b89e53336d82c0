//! Create, start, stop, pause, remove, wait.

use std::time::Duration;

use actioncontroller::cancel::CancelToken;
use actioncontroller::model::state::{ContainerStatus, Health};
use actioncontroller::model::workload::labels;
use actioncontroller::runtime::adapter::{Call, Change, ListFilter, RuntimeAdapter, RuntimeError, StopOptions};

use super::{Rig, STUBBORN, container, timed};
use crate::support::podman::NODE;

const RUNNING: ContainerStatus = ContainerStatus::Running { health: Health::None };

fn exited(code: i32) -> ContainerStatus {
    ContainerStatus::Exited { code: Some(code), oom: false }
}

/// How much later than asked a step may end on a busy machine.
const SLACK: Duration = Duration::from_millis(900);

#[test]
// req: LS-01
fn container_lives_from_create_to_remove_and_repeating_is_unchanged() {
    let rig = Rig::new();
    let mut config = container("w_c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.05; done");
    config.labels.insert(labels::WORKLOAD.to_owned(), "w".to_owned());
    config.annotations.insert("a".to_owned(), "b".to_owned());
    let podman = &rig.podman;

    let made = podman.create_container(&rig.call(), &config).unwrap();
    assert_eq!((made.status, made.name.as_str(), made.pid), (ContainerStatus::Created, "w_c", 0));
    assert_eq!(made.labels[labels::NODE], NODE);
    assert_eq!(made.annotations["a"], "b");
    let taken = podman.create_container(&rig.call(), &config).unwrap_err();
    assert!(matches!(&taken, RuntimeError::AlreadyExists { detail, .. } if detail.contains("'w'")), "{taken}");

    assert_eq!(podman.start_container(&rig.call(), "w_c").unwrap(), Change::Changed);
    assert_eq!(podman.start_container(&rig.call(), &made.id).unwrap(), Change::Unchanged);
    rig.await_output("w_c", "up");
    let running = podman.inspect_container(&rig.call(), "w_c").unwrap();
    assert_eq!(running.status, RUNNING);
    assert!(running.pid > 0 && running.started_ms >= made.created_ms, "{running:?}");
    assert!(running.cgroup_path.contains(&made.id), "{}", running.cgroup_path);

    let refused = podman.remove_container(&rig.call(), "w_c", false).unwrap_err();
    assert!(matches!(refused, RuntimeError::InvalidState { .. }), "{refused}");
    let stop = StopOptions::graceful(Duration::from_secs(20));
    assert_eq!(podman.stop_container(&rig.call(), "w_c", &stop).unwrap(), Change::Changed);
    assert_eq!(rig.status("w_c"), exited(7));
    assert_eq!(podman.stop_container(&rig.call(), "w_c", &stop).unwrap(), Change::Unchanged);
    assert_eq!(podman.wait_container(&rig.call(), "w_c").unwrap(), Some(7));

    assert_eq!(podman.remove_container(&rig.call(), "w_c", false).unwrap(), Change::Changed);
    assert_eq!(podman.remove_container(&rig.call(), "w_c", false).unwrap(), Change::Unchanged);
    for id in ["w_c", "", made.id.get(..12).unwrap()] {
        let gone = podman.inspect_container(&rig.call(), id).unwrap_err();
        assert!(matches!(gone, RuntimeError::NotFound { .. }), "'{id}': {gone}");
    }
}

#[test]
// req: LS-02
fn grace_is_exact_and_its_end_is_sigkill() {
    let rig = Rig::new();
    let id = rig.run(&container("stubborn", &format!("echo up; {STUBBORN}")));
    rig.await_output(&id, "up");
    let grace = Duration::from_millis(500);
    let (stopped, took) = timed(|| rig.podman.stop_container(&rig.call(), &id, &StopOptions::graceful(grace)));
    assert_eq!(stopped.unwrap(), Change::Changed);
    assert!(took >= grace && took < grace + SLACK, "{took:?}");
    assert_eq!(rig.status(&id), exited(137));
    assert_eq!(rig.podman.stop_container(&rig.call(), &id, &StopOptions::kill()).unwrap(), Change::Unchanged);

    rig.podman.start_container(&rig.call(), &id).unwrap();
    let (killed, took) = timed(|| rig.podman.stop_container(&rig.call(), &id, &StopOptions::kill()));
    assert_eq!(killed.unwrap(), Change::Changed);
    assert!(took < SLACK, "{took:?}");
}

#[test]
fn hasten_ends_a_grace_with_sigkill_and_cancel_leaves_the_container() {
    let rig = Rig::new();
    let id = rig.run(&container("stubborn", STUBBORN));
    let minute = StopOptions::graceful(Duration::from_secs(50));
    let cancel = CancelToken::new();
    let call = Call { cancel: &cancel, ..rig.call() };
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| rig.podman.stop_container(&call, &id, &minute));
        cancel.wait(
            actioncontroller::cancel::Urge::Cancel,
            actioncontroller::clock::Deadline::after(Duration::from_millis(300)),
        );
        cancel.cancel("test");
        let (ended, took) = timed(|| stop.join().unwrap());
        assert!(matches!(ended, Err(RuntimeError::Cancelled { .. })), "{ended:?}");
        assert!(took < SLACK, "{took:?}");
    });
    assert_eq!(rig.status(&id), RUNNING);

    let cancel = CancelToken::new();
    let call = Call { cancel: &cancel, ..rig.call() };
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| rig.podman.stop_container(&call, &id, &minute));
        cancel.wait(
            actioncontroller::cancel::Urge::Cancel,
            actioncontroller::clock::Deadline::after(Duration::from_millis(300)),
        );
        cancel.hasten();
        let (ended, took) = timed(|| stop.join().unwrap());
        assert_eq!(ended.unwrap(), Change::Changed);
        assert!(took < SLACK, "{took:?}");
    });
    assert_eq!(rig.status(&id), exited(137));
}

#[test]
fn paused_container_is_stopped_killed_and_resumed() {
    let rig = Rig::new();
    let podman = &rig.podman;
    let id = rig.run(&container("p", "trap 'exit 9' TERM; echo up; while :; do sleep 0.05; done"));
    rig.await_output(&id, "up");
    let pid = podman.inspect_container(&rig.call(), &id).unwrap().pid;
    assert_eq!(podman.pause_container(&rig.call(), &id).unwrap(), Change::Changed);
    assert_eq!(podman.pause_container(&rig.call(), &id).unwrap(), Change::Unchanged);
    assert_eq!(rig.status(&id), ContainerStatus::Paused);
    assert!(matches!(podman.start_container(&rig.call(), &id), Err(RuntimeError::InvalidState { .. })));
    assert_eq!(podman.resume_container(&rig.call(), &id).unwrap(), Change::Changed);
    assert_eq!(podman.resume_container(&rig.call(), &id).unwrap(), Change::Unchanged);
    assert_eq!(podman.inspect_container(&rig.call(), &id).unwrap().pid, pid);

    podman.pause_container(&rig.call(), &id).unwrap();
    let stop = StopOptions::graceful(Duration::from_secs(20));
    assert_eq!(podman.stop_container(&rig.call(), &id, &stop).unwrap(), Change::Changed);
    assert_eq!(rig.status(&id), exited(9));

    podman.start_container(&rig.call(), &id).unwrap();
    podman.pause_container(&rig.call(), &id).unwrap();
    let (killed, took) = timed(|| podman.stop_container(&rig.call(), &id, &StopOptions::kill()));
    assert_eq!(killed.unwrap(), Change::Changed);
    assert!(took < SLACK, "{took:?}");
    assert_eq!(rig.status(&id), exited(137));

    podman.start_container(&rig.call(), &id).unwrap();
    podman.pause_container(&rig.call(), &id).unwrap();
    assert_eq!(podman.remove_container(&rig.call(), &id, true).unwrap(), Change::Changed);
}

#[test]
fn signal_reaches_what_runs_and_nothing_else() {
    let rig = Rig::new();
    let id = rig.run(&container("s", "trap 'echo hup' HUP; trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done"));
    rig.await_output(&id, "up");
    rig.podman.signal_container(&rig.call(), &id, "SIGHUP").unwrap();
    rig.await_output(&id, "hup");
    assert_eq!(rig.status(&id), RUNNING);
    rig.podman.stop_container(&rig.call(), &id, &StopOptions::graceful(Duration::from_secs(20))).unwrap();
    let refused = rig.podman.signal_container(&rig.call(), &id, "SIGHUP");
    assert!(matches!(refused, Err(RuntimeError::InvalidState { .. })), "{refused:?}");
}

#[test]
fn wait_gives_the_code_of_an_end_and_is_bounded() {
    let rig = Rig::new();
    let id = rig.podman.create_container(&rig.call(), &container("x", "sleep 0.3; exit 5")).unwrap().id;
    std::thread::scope(|scope| {
        // Before the start: a container that never ran has not ended.
        let waiting = scope.spawn(|| rig.podman.wait_container(&rig.call(), &id));
        rig.podman.start_container(&rig.call(), &id).unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), Some(5));
    });
    let endless = rig.run(&container("y", STUBBORN));
    let short = Call { deadline: rig.call().deadline.at_most(Duration::from_millis(300)), ..rig.call() };
    let (late, took) = timed(|| rig.podman.wait_container(&short, &endless));
    assert!(matches!(late, Err(RuntimeError::Timeout { .. })), "{late:?}");
    assert!(took < SLACK, "{took:?}");
    assert!(matches!(rig.podman.wait_container(&rig.call(), "none"), Err(RuntimeError::NotFound { .. })));
}

#[test]
fn list_filters_by_every_label_and_leaves_out_what_ended() {
    let rig = Rig::new();
    let labelled = |name: &str, value: &str, script: &str| {
        let mut config = container(name, script);
        config.labels.insert("one".to_owned(), "1".to_owned());
        config.labels.insert("two".to_owned(), value.to_owned());
        config
    };
    let first = rig.run(&labelled("first", "a=b,c", STUBBORN));
    let second = rig.run(&labelled("second", "other", STUBBORN));
    let ended = rig.run(&labelled("ended", "a=b,c", "exit 3"));
    rig.podman.wait_container(&rig.call(), &ended).unwrap();
    let list = |all: bool, filter: &[(&str, &str)]| {
        let labels = filter.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        rig.podman.list_containers(&rig.call(), &ListFilter { all, labels }).unwrap()
    };
    let ids =
        |all: bool, filter: &[(&str, &str)]| list(all, filter).into_iter().map(|found| found.id).collect::<Vec<_>>();
    assert_eq!(ids(false, &[]), [first.clone(), second]);
    assert_eq!(ids(true, &[("one", "1"), ("two", "a=b,c")]), [first.clone(), ended]);
    assert_eq!(ids(false, &[("one", "1"), ("two", "a=b,c")]), [first]);
    assert!(list(true, &[("one", "2")]).is_empty());
    let found = list(true, &[]);
    assert_eq!(found[2].status, exited(3));
    assert!(found[0].pid > 0 && found[0].started_ms > 0 && found[2].finished_ms > 0);
    assert_eq!(found[0].labels["two"], "a=b,c");
}

#[test]
fn foreign_container_of_the_name_is_neither_taken_nor_removed() {
    let rig = Rig::new();
    rig.server.run(&["create", "--name", "w_c", "--network", "none", crate::support::podman::IMAGE, "true"]);
    let taken = rig.podman.create_container(&rig.call(), &container("w_c", "true")).unwrap_err();
    assert!(matches!(&taken, RuntimeError::AlreadyExists { detail, .. } if detail.contains("not ours")), "{taken}");
    let refused = rig.podman.remove_container(&rig.call(), "w_c", true).unwrap_err();
    assert!(matches!(refused, RuntimeError::PermissionDenied { .. }), "{refused}");
    assert_eq!(rig.status("w_c"), ContainerStatus::Created);
}

#[test]
fn start_of_a_missing_command_says_why() {
    let rig = Rig::new();
    let mut config = container("m", "");
    config.spec.command = vec!["/no/such/command".to_owned()];
    config.spec.args = Vec::new();
    let id = rig.podman.create_container(&rig.call(), &config).unwrap().id;
    let failed = rig.podman.start_container(&rig.call(), &id).unwrap_err();
    assert!(failed.to_string().contains("no such file"), "{failed}");
    assert_eq!(rig.podman.remove_container(&rig.call(), &id, false).unwrap(), Change::Changed);
}
