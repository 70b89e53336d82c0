//! Hibernate and wake.

use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::cgroup::{Cgroups, number};
use actioncontroller::model::state::ContainerStatus;
use actioncontroller::runtime::adapter::{
    Change, ListFilter, OutputStream, RestoreTo, RuntimeCapabilities, RuntimeError, StopOptions,
};

use super::behaviour::Behaviour;
use super::subject::{EVERYTHING, Subject, text, wait_until};
use super::suite::{Case, with};

pub const CASES: &[Case] = &[
    with(can_hibernate, "hibernated_container_goes_on_where_it_was", goes_on),
    with(can_hibernate, "hibernated_container_has_no_process_and_is_listed_as_such", has_no_process),
    with(can_hibernate, "second_hibernate_and_wake_are_unchanged", second_time),
    with(can_hibernate, "hibernate_is_only_from_running", only_from_running),
    with(can_hibernate, "wake_of_what_never_hibernated_is_invalid_state", wake_of_running),
    with(can_hibernate, "start_pause_and_remove_while_hibernated_are_invalid_state", refused_while_hibernated),
    with(can_hibernate, "stop_while_hibernated_ends_it", stop_while_hibernated),
    with(can_hibernate, "hibernated_container_is_removed_by_force", removed_by_force),
    with(can_hibernate, "stop_during_a_checkpoint_ends_clean", stop_during_checkpoint),
    with(can_hibernate, "wake_to_paused_is_paused", wake_to_paused),
];

fn can_hibernate(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_checkpoint
}

fn hibernate(subject: &Subject, id: &str) -> Change {
    subject.adapter.hibernate_container(&subject.call(), id).unwrap()
}

fn wake(subject: &Subject, id: &str) -> Change {
    subject.adapter.wake_container(&subject.call(), id, RestoreTo::Running).unwrap()
}

fn hibernated(subject: &Subject, behaviour: &Behaviour) -> String {
    let id = subject.run(behaviour);
    assert_eq!(hibernate(subject, &id), Change::Changed);
    assert_eq!(subject.status(&id), ContainerStatus::Hibernated);
    id
}

fn numbers(subject: &Subject, id: &str) -> Vec<usize> {
    let lines = text(&subject.logs(id, &EVERYTHING), OutputStream::Stdout);
    lines.lines().map(|line| line.parse().unwrap()).collect()
}

fn goes_on(subject: &Subject) {
    let id = hibernated(subject, &Behaviour::Count);
    let before = numbers(subject, &id).len();
    // Some lines' time.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(numbers(subject, &id).len(), before, "it went on while it was hibernated");
    assert_eq!(wake(subject, &id), Change::Changed);
    assert!(subject.status(&id).is_running());
    wait_until("it counts on", || numbers(subject, &id).len() > before);
    let counted = numbers(subject, &id);
    assert_eq!(counted, (0..counted.len()).collect::<Vec<_>>(), "it began anew or left some out");
    assert_eq!(subject.stop(&id, Duration::from_secs(10)), Change::Changed);
    assert_eq!(subject.status(&id), ContainerStatus::Exited { code: Some(143), oom: false });
}

fn has_no_process(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let running = subject.inspect(&id);
    let pid = running.pid;
    hibernate(subject, &id);
    let instance = subject.inspect(&id);
    assert_eq!((instance.pid, instance.status), (0, ContainerStatus::Hibernated));
    if subject.has_processes {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        assert!(state.is_empty() || state.contains(") Z "), "{state}");
        let groups = Cgroups::read().unwrap();
        let file = if groups.is_unified("memory") { "memory.current" } else { "memory.usage_in_bytes" };
        let used = groups.dir("memory", &running.cgroup_path).and_then(|group| number(&group.join(file)));
        // Where the group is gone there is nothing left in it.
        assert!(used.unwrap_or(0) < 1 << 20, "{used:?} bytes are left in '{}'", running.cgroup_path);
    }
    let listed =
        |all| subject.adapter.list_containers(&subject.call(), &ListFilter { all, ..Default::default() }).unwrap();
    let found = listed(true).into_iter().find(|container| container.id == id).unwrap();
    assert_eq!(found.status, ContainerStatus::Hibernated);
    assert!(!listed(false).iter().any(|container| container.id == id));
}

fn second_time(subject: &Subject) {
    let id = hibernated(subject, &Behaviour::Stay);
    assert_eq!(hibernate(subject, &id), Change::Unchanged);
    assert_eq!(wake(subject, &id), Change::Changed);
    assert_eq!(wake(subject, &id), Change::Unchanged);
    assert_eq!(hibernate(subject, &id), Change::Changed, "once more");
    assert_eq!(wake(subject, &id), Change::Changed);
    assert!(subject.status(&id).is_running());
}

fn only_from_running(subject: &Subject) {
    let new = subject.create(&subject.config(&subject.name("new"), &Behaviour::Stay));
    let ended = subject.run_to_end(&subject.config(&subject.name("old"), &Behaviour::ExitAfter(0, 0))).id;
    let mut all = vec![new, ended];
    if subject.adapter.capabilities().supports_pause {
        let paused = subject.run(&Behaviour::Stay);
        subject.adapter.pause_container(&subject.call(), &paused).unwrap();
        all.push(paused);
    }
    for id in all {
        let before = subject.status(&id);
        let refused = subject.adapter.hibernate_container(&subject.call(), &id);
        assert!(
            matches!(&refused, Err(RuntimeError::InvalidState { state, .. }) if state == before.word()),
            "{refused:?}"
        );
        assert_eq!(subject.status(&id), before);
    }
    let unknown = subject.adapter.hibernate_container(&subject.call(), "nobody");
    assert!(matches!(unknown, Err(RuntimeError::NotFound { .. })), "{unknown:?}");
}

fn wake_of_running(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let refused = subject.adapter.wake_container(&subject.call(), &id, RestoreTo::Running);
    assert!(matches!(&refused, Err(RuntimeError::InvalidState { state, .. }) if state == "running"), "{refused:?}");
    assert!(subject.status(&id).is_running());
}

fn refused_while_hibernated(subject: &Subject) {
    let id = hibernated(subject, &Behaviour::Stay);
    let call = subject.call();
    let answers = [
        subject.adapter.start_container(&call, &id),
        subject.adapter.pause_container(&call, &id),
        subject.adapter.remove_container(&call, &id, false),
    ];
    for answer in answers {
        assert!(
            matches!(&answer, Err(RuntimeError::InvalidState { state, .. }) if state == "hibernated"),
            "{answer:?}"
        );
    }
    assert_eq!(subject.status(&id), ContainerStatus::Hibernated);
}

fn stop_while_hibernated(subject: &Subject) {
    let id = hibernated(subject, &Behaviour::IgnoreTerm);
    let began = Instant::now();
    assert_eq!(subject.stop(&id, Duration::from_secs(10)), Change::Changed);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(subject.status(&id), ContainerStatus::Exited { .. }));
    assert_eq!(subject.stop(&id, Duration::ZERO), Change::Unchanged);
    let refused = subject.adapter.wake_container(&subject.call(), &id, RestoreTo::Running);
    assert!(matches!(&refused, Err(RuntimeError::InvalidState { state, .. }) if state == "exited"), "{refused:?}");
    assert_eq!(subject.adapter.start_container(&subject.call(), &id), Ok(Change::Changed), "it starts anew");
    assert!(subject.status(&id).is_running());
}

fn removed_by_force(subject: &Subject) {
    let id = hibernated(subject, &Behaviour::Stay);
    assert_eq!(subject.adapter.remove_container(&subject.call(), &id, true), Ok(Change::Changed));
    let gone = subject.adapter.inspect_container(&subject.call(), &id);
    assert!(matches!(gone, Err(RuntimeError::NotFound { .. })), "{gone:?}");
}

fn stop_during_checkpoint(subject: &Subject) {
    for wait_ms in [0, 20, 60, 120, 240] {
        let id = subject.run(&Behaviour::OnTerm(0, 7));
        thread::scope(|scope| {
            let checkpoint = scope.spawn(|| subject.adapter.hibernate_container(&subject.call(), &id));
            // Whenever it comes, it ends: before, in the middle of, and after the checkpoint.
            thread::sleep(Duration::from_millis(wait_ms));
            subject
                .adapter
                .stop_container(&subject.call(), &id, &StopOptions::graceful(Duration::from_secs(10)))
                .unwrap();
            let _ = checkpoint.join().unwrap();
        });
        // One that was begun after the stop had looked is refused, or is stopped by the second.
        subject.stop(&id, Duration::from_secs(10));
        assert!(matches!(subject.status(&id), ContainerStatus::Exited { .. }), "{:?}", subject.status(&id));
        assert_eq!(
            subject.adapter.start_container(&subject.call(), &id),
            Ok(Change::Changed),
            "nothing is left in its way"
        );
        subject.adapter.stop_container(&subject.call(), &id, &StopOptions::kill()).unwrap();
    }
}

fn wake_to_paused(subject: &Subject) {
    if !subject.adapter.capabilities().supports_pause {
        return;
    }
    let id = hibernated(subject, &Behaviour::Stay);
    let woken = subject.adapter.wake_container(&subject.call(), &id, RestoreTo::Paused);
    assert_eq!(woken, Ok(Change::Changed));
    assert_eq!(subject.status(&id), ContainerStatus::Paused);
    assert_eq!(subject.adapter.resume_container(&subject.call(), &id), Ok(Change::Changed));
    assert!(subject.status(&id).is_running());
}
