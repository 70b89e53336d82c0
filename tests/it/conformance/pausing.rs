//! Pause and resume, and what other verbs mean to a paused container.

use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::model::state::ContainerStatus;
use actioncontroller::runtime::adapter::{Change, OutputStream, RuntimeCapabilities, RuntimeError, StopOptions};

use super::behaviour::Behaviour;
use super::subject::{EVERYTHING, Subject, text, wait_until};
use super::suite::{Case, with};

pub const CASES: &[Case] = &[
    with(can_pause, "pause_stops_progress_and_resume_goes_on_with_the_same_process", pause_stops_progress),
    with(can_pause, "second_pause_and_second_resume_are_unchanged", second_pause),
    with(can_pause, "pause_of_what_does_not_run_is_refused", pause_of_what_does_not_run),
    with(can_pause, "start_while_paused_is_refused", start_while_paused),
    with(can_pause, "stop_while_paused_lets_the_handler_run", stop_while_paused),
    with(can_pause, "stop_while_paused_kills_at_the_grace", stop_while_paused_kills),
    with(can_pause, "kill_while_paused_ends_at_once", kill_while_paused),
    with(can_pause, "remove_while_paused_needs_force", remove_while_paused),
];

fn can_pause(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_pause
}

fn pause(subject: &Subject, id: &str) -> Change {
    subject.adapter.pause_container(&subject.call(), id).unwrap()
}

fn paused(subject: &Subject, behaviour: &Behaviour) -> String {
    let id = subject.run(behaviour);
    assert_eq!(pause(subject, &id), Change::Changed);
    assert_eq!(subject.status(&id), ContainerStatus::Paused);
    id
}

fn counted(subject: &Subject, id: &str) -> usize {
    text(&subject.logs(id, &EVERYTHING), OutputStream::Stdout).lines().count()
}

fn pause_stops_progress(subject: &Subject) {
    let id = subject.run(&Behaviour::Count);
    let pid = subject.inspect(&id).pid;
    assert_eq!(pause(subject, &id), Change::Changed);
    let mut before = counted(subject, &id);
    // What was printed before the pause may still be on its way to the log.
    wait_until("the log stands still", || {
        thread::sleep(Duration::from_millis(200));
        let now = counted(subject, &id);
        let still = now == before;
        before = now;
        still
    });
    // Ten lines' time.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(counted(subject, &id), before, "it went on while it was paused");
    assert_eq!(subject.adapter.resume_container(&subject.call(), &id), Ok(Change::Changed));
    assert!(subject.status(&id).is_running());
    wait_until("it counts on", || counted(subject, &id) > before);
    assert_eq!(subject.inspect(&id).pid, pid);
    let lines = text(&subject.logs(&id, &EVERYTHING), OutputStream::Stdout);
    let numbers: Vec<usize> = lines.lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(numbers, (0..numbers.len()).collect::<Vec<_>>(), "it began anew or left some out");
}

fn second_pause(subject: &Subject) {
    let id = paused(subject, &Behaviour::Stay);
    assert_eq!(pause(subject, &id), Change::Unchanged);
    assert_eq!(subject.adapter.resume_container(&subject.call(), &id), Ok(Change::Changed));
    assert_eq!(subject.adapter.resume_container(&subject.call(), &id), Ok(Change::Unchanged));
    assert!(subject.status(&id).is_running());
}

fn pause_of_what_does_not_run(subject: &Subject) {
    let new = subject.create(&subject.config(&subject.name("new"), &Behaviour::Stay));
    let ended = subject.run_to_end(&subject.config(&subject.name("old"), &Behaviour::ExitAfter(0, 0))).id;
    for id in [new, ended] {
        let pause = subject.adapter.pause_container(&subject.call(), &id);
        assert!(matches!(pause, Err(RuntimeError::InvalidState { .. })), "{pause:?}");
        let resume = subject.adapter.resume_container(&subject.call(), &id);
        assert!(matches!(resume, Err(RuntimeError::InvalidState { .. })), "{resume:?}");
    }
}

fn start_while_paused(subject: &Subject) {
    let id = paused(subject, &Behaviour::Stay);
    let error = subject.adapter.start_container(&subject.call(), &id).unwrap_err();
    assert!(matches!(&error, RuntimeError::InvalidState { state, .. } if state == "paused"), "{error}");
    assert_eq!(subject.status(&id), ContainerStatus::Paused);
}

fn stop_while_paused(subject: &Subject) {
    let id = paused(subject, &Behaviour::OnTerm(200, 7));
    let began = Instant::now();
    assert_eq!(subject.stop(&id, Duration::from_secs(10)), Change::Changed);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(subject.status(&id), ContainerStatus::Exited { code: Some(7), oom: false });
}

fn stop_while_paused_kills(subject: &Subject) {
    let id = paused(subject, &Behaviour::IgnoreTerm);
    let began = Instant::now();
    assert_eq!(subject.stop(&id, Duration::from_millis(500)), Change::Changed);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(2000), "{took:?}");
    assert_eq!(subject.status(&id), ContainerStatus::Exited { code: Some(137), oom: false });
}

fn kill_while_paused(subject: &Subject) {
    let id = paused(subject, &Behaviour::OnTerm(5_000, 0));
    let began = Instant::now();
    let kill = subject.adapter.stop_container(&subject.call(), &id, &StopOptions::kill());
    assert_eq!(kill, Ok(Change::Changed));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(subject.status(&id), ContainerStatus::Exited { code: Some(137), oom: false });
}

fn remove_while_paused(subject: &Subject) {
    let id = paused(subject, &Behaviour::IgnoreTerm);
    let error = subject.adapter.remove_container(&subject.call(), &id, false).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidState { .. }), "{error}");
    assert_eq!(subject.adapter.remove_container(&subject.call(), &id, true), Ok(Change::Changed));
    let gone = subject.adapter.inspect_container(&subject.call(), &id);
    assert!(matches!(gone, Err(RuntimeError::NotFound { .. })), "{gone:?}");
}
