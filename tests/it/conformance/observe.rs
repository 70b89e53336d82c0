//! Wait, logs, exec and stats.

use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::cancel::CancelToken;
use actioncontroller::runtime::adapter::{LogOptions, OutputStream, RtResult, RuntimeCapabilities, RuntimeError};

use super::behaviour::Behaviour;
use super::subject::{EVERYTHING, Subject, call_within, text, wait_until};
use super::suite::{Case, case, with};

pub const CASES: &[Case] = &[
    case("wait_gives_the_exit_code_when_it_ends", wait_gives_the_exit_code),
    case("wait_for_what_has_ended_answers_at_once", wait_for_what_has_ended),
    case("wait_that_is_late_says_so", wait_that_is_late),
    case("cancel_ends_a_wait_within_a_second", cancel_ends_a_wait),
    with(has_both_streams, "logs_keep_stdout_and_stderr_apart", logs_keep_streams_apart),
    with(has_both_streams, "logs_of_one_stream_have_that_alone", logs_of_one_stream),
    with(has_logs, "log_times_are_monotone_and_of_now", log_times),
    with(has_logs, "followed_logs_end_with_the_container", followed_logs_end),
    with(has_logs, "followed_logs_come_while_it_runs", followed_logs_come),
    with(has_logs, "tail_gives_the_last_lines", tail),
    with(has_logs, "logs_of_a_container_that_never_ran_are_empty", logs_of_created),
    with(has_logs, "cancel_ends_followed_logs_within_a_second", cancel_ends_logs),
    with(has_exec, "exec_gives_code_and_both_streams", exec_gives_code_and_streams),
    with(has_exec, "exec_in_what_does_not_run_is_refused", exec_in_what_does_not_run),
    with(has_exec, "exec_ends_at_its_deadline_and_at_its_cancel", exec_ends),
    with(has_stats, "stats_show_use_of_what_runs", stats_of_running),
    with(has_stats, "stats_of_what_does_not_run_are_refused", stats_of_ended),
];

fn has_logs(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_logs
}

fn has_both_streams(capabilities: &RuntimeCapabilities, subject: &Subject) -> bool {
    capabilities.supports_logs && subject.keeps_streams_apart
}

fn has_exec(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_exec
}

fn has_stats(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_stats
}

fn wait_gives_the_exit_code(subject: &Subject) {
    let began = Instant::now();
    let ended = subject.run_to_end(&subject.config(&subject.name("wait"), &Behaviour::ExitAfter(600, 4)));
    assert_eq!(ended.code, Some(4));
    assert!(began.elapsed() >= Duration::from_millis(600), "{:?}", began.elapsed());
}

fn wait_for_what_has_ended(subject: &Subject) {
    let ended = subject.run_to_end(&subject.config(&subject.name("wait"), &Behaviour::ExitAfter(0, 4)));
    assert_eq!(subject.adapter.wait_container(&subject.call(), &ended.id), Ok(Some(4)));
}

fn wait_that_is_late(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let token = CancelToken::new();
    let began = Instant::now();
    let error = subject.adapter.wait_container(&call_within(Duration::from_millis(400), &token), &id).unwrap_err();
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let RuntimeError::Timeout { op, after } = &error else { panic!("{error}") };
    assert!(op.contains("wait"), "{op}");
    assert!(*after >= Duration::from_millis(350) && *after < Duration::from_secs(2), "{after:?}");
    assert!(subject.status(&id).is_running());
}

/// Cancels what blocks, and says what came of it; it has to come back within a second.
fn cancelled<T: Send>(work: impl FnOnce(&CancelToken) -> RtResult<T> + Send) -> RtResult<T> {
    let token = CancelToken::new();
    thread::scope(|scope| {
        let working = scope.spawn(|| work(&token));
        // Until it blocks; where it does not yet, it meets a token that is cancelled already, which is as good.
        thread::sleep(Duration::from_millis(300));
        assert!(!working.is_finished(), "it did not block");
        let began = Instant::now();
        token.cancel("test");
        let outcome = working.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        outcome
    })
}

fn is_cancelled<T: std::fmt::Debug>(outcome: &RtResult<T>) -> bool {
    matches!(outcome, Err(RuntimeError::Cancelled { .. }))
}

fn cancel_ends_a_wait(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let outcome = cancelled(|token| subject.adapter.wait_container(&call_within(Duration::from_secs(60), token), &id));
    assert!(is_cancelled(&outcome), "{outcome:?}");
    assert!(subject.status(&id).is_running());
}

const BOTH: Behaviour = Behaviour::Print(&["out 1", "out 2", "out 3"], &["err 1", "err 2"]);

fn logs_keep_streams_apart(subject: &Subject) {
    let ended = subject.run_to_end(&subject.config(&subject.name("logs"), &BOTH));
    assert_eq!(ended.stdout, "out 1\nout 2\nout 3\n");
    assert_eq!(ended.stderr, "err 1\nerr 2\n");
}

fn logs_of_one_stream(subject: &Subject) {
    let ended = subject.run_to_end(&subject.config(&subject.name("logs"), &BOTH));
    let logs = subject.logs(&ended.id, &LogOptions { stdout: false, ..EVERYTHING });
    assert!(logs.iter().all(|chunk| chunk.stream == OutputStream::Stderr), "{logs:?}");
    assert_eq!(text(&logs, OutputStream::Stderr), "err 1\nerr 2\n");
    let logs = subject.logs(&ended.id, &LogOptions { stderr: false, ..EVERYTHING });
    assert!(logs.iter().all(|chunk| chunk.stream == OutputStream::Stdout), "{logs:?}");
}

fn log_times(subject: &Subject) {
    let id = subject.run(&Behaviour::Count);
    wait_until("some lines are there", || subject.logs(&id, &EVERYTHING).len() > 5);
    let instance = subject.inspect(&id);
    let times: Vec<u64> = subject.logs(&id, &EVERYTHING).iter().map(|chunk| chunk.timestamp_ns).collect();
    assert!(times.is_sorted(), "{times:?}");
    // An engine that cuts its times to seconds is within one of the start.
    assert!(times[0] / 1_000_000 + 1_000 >= instance.started_ms, "{times:?} {instance:?}");
    assert!(times[0] / 1_000_000 < instance.started_ms + 60_000, "{times:?} {instance:?}");
}

fn followed_logs_end(subject: &Subject) {
    let id = subject.start(&subject.config(&subject.name("logs"), &Behaviour::ExitAfter(600, 0)));
    let began = Instant::now();
    let follow = LogOptions { follow: true, ..EVERYTHING };
    assert_eq!(subject.logs(&id, &follow), []);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(!subject.status(&id).is_live());
    let ended = subject.run_to_end(&subject.config(&subject.name("logs"), &BOTH));
    assert_eq!(text(&subject.logs(&ended.id, &follow), OutputStream::Stdout), ended.stdout, "of what has ended");
}

fn followed_logs_come(subject: &Subject) {
    let id = subject.run(&Behaviour::Count);
    let follow = LogOptions { follow: true, ..EVERYTHING };
    let mut stream = subject.adapter.container_logs(&subject.call(), &id, &follow).unwrap();
    let mut seen = Vec::new();
    while text(&seen, OutputStream::Stdout).lines().count() < 10 {
        seen.push(stream.next().expect("the stream ended while the container runs").unwrap());
    }
    assert!(subject.status(&id).is_running());
    // A few lines' time, so that some are unread when it ends.
    thread::sleep(Duration::from_millis(300));
    subject.stop(&id, Duration::from_secs(10));
    seen.extend(stream.map(|chunk| chunk.unwrap()));
    let all = subject.logs(&id, &EVERYTHING);
    assert_eq!(text(&seen, OutputStream::Stdout), text(&all, OutputStream::Stdout), "followed and drained differ");
}

fn tail(subject: &Subject) {
    let ended = subject.run_to_end(&subject.config(&subject.name("logs"), &BOTH));
    let last = |n| {
        let options = LogOptions { tail: Some(n), stderr: false, ..EVERYTHING };
        text(&subject.logs(&ended.id, &options), OutputStream::Stdout)
    };
    assert!(ended.stdout.contains("out 3\n"), "{}", ended.stdout);
    // Some engines count the lines of both streams together; then fewer of one are among the last.
    assert!(ended.stdout.ends_with(&last(2)), "{}", last(2));
    assert!(last(2).lines().count() <= 2, "{}", last(2));
    assert_eq!(last(100), ended.stdout);
    let both = subject.logs(&ended.id, &LogOptions { tail: Some(1), ..EVERYTHING });
    assert_eq!(both.iter().map(|chunk| chunk.bytes.iter().filter(|byte| **byte == b'\n').count()).sum::<usize>(), 1);
}

fn logs_of_created(subject: &Subject) {
    let id = subject.create(&subject.config(&subject.name("logs"), &BOTH));
    assert_eq!(subject.logs(&id, &EVERYTHING), []);
}

fn cancel_ends_logs(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let outcome = cancelled(|token| {
        let follow = LogOptions { follow: true, ..EVERYTHING };
        let call = call_within(Duration::from_secs(60), token);
        let mut stream = subject.adapter.container_logs(&call, &id, &follow)?;
        loop {
            match stream.next() {
                Some(Ok(_)) => {}
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        }
    });
    assert!(is_cancelled(&outcome), "{outcome:?}");
}

fn exec_gives_code_and_streams(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let printed = subject.exec(&id, &BOTH);
    assert_eq!(printed.exit_code, 0);
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), "out 1\nout 2\nout 3\n");
    assert_eq!(String::from_utf8(printed.stderr).unwrap(), "err 1\nerr 2\n");
    assert!(!printed.truncated);
    assert_eq!(subject.exec(&id, &Behaviour::ExitAfter(0, 42)).exit_code, 42);
    assert!(subject.status(&id).is_running());
    let empty = subject.adapter.exec_in_container(&subject.call(), &id, &[]);
    assert!(matches!(empty, Err(RuntimeError::InvalidSpec { .. })), "{empty:?}");
}

fn exec_in_what_does_not_run(subject: &Subject) {
    let new = subject.create(&subject.config(&subject.name("new"), &Behaviour::Stay));
    let ended = subject.run_to_end(&subject.config(&subject.name("old"), &Behaviour::ExitAfter(0, 0))).id;
    for id in [new, ended] {
        let command = (subject.command)(&Behaviour::ExitAfter(0, 0));
        let error = subject.adapter.exec_in_container(&subject.call(), &id, &command).unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidState { .. }), "{error}");
    }
}

fn exec_ends(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let command = (subject.command)(&Behaviour::ExitAfter(30_000, 0));
    let outcome = cancelled(|token| {
        subject.adapter.exec_in_container(&call_within(Duration::from_secs(60), token), &id, &command)
    });
    assert!(is_cancelled(&outcome), "{outcome:?}");
    let token = CancelToken::new();
    let began = Instant::now();
    let late = subject.adapter.exec_in_container(&call_within(Duration::from_millis(600), &token), &id, &command);
    assert!(matches!(late, Err(RuntimeError::Timeout { .. })), "{late:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(subject.status(&id).is_running());
}

fn stats_of_running(subject: &Subject) {
    let mut config = subject.config(&subject.name("stats"), &Behaviour::Count);
    config.spec.resources.memory_bytes = Some(64 * 1024 * 1024);
    let id = subject.start(&config);
    let stats = || subject.adapter.container_stats(&subject.call(), &id).unwrap();
    let first = stats();
    wait_until("it has used more CPU", || stats().cpu_ns > first.cpu_ns);
    let later = stats();
    assert!(later.memory_bytes > 0 && later.memory_bytes <= 64 * 1024 * 1024, "{later:?}");
    assert_eq!(later.memory_limit_bytes, 64 * 1024 * 1024);
    assert!(later.pids >= 1, "{later:?}");
}

fn stats_of_ended(subject: &Subject) {
    let ended = subject.run_to_end(&subject.config(&subject.name("old"), &Behaviour::ExitAfter(0, 0)));
    let error = subject.adapter.container_stats(&subject.call(), &ended.id).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidState { .. }), "{error}");
}
