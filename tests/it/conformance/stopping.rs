//! Stop, its grace, kill and signals. Bounds are those of a busy machine; a grace is never shorter than asked.

use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::cancel::CancelToken;
use actioncontroller::model::state::ContainerStatus;
use actioncontroller::runtime::adapter::{Change, RtResult, RuntimeError, StopOptions};

use super::behaviour::Behaviour;
use super::subject::{Subject, call_within, wait_until};
use super::suite::{Case, case};

pub const CASES: &[Case] = &[
    case("term_handler_runs_and_its_code_is_kept", term_handler_runs),
    case("second_stop_is_unchanged", second_stop_is_unchanged),
    case("stop_of_a_created_container_is_unchanged", stop_of_created),
    case("grace_of_500_ms_is_500_ms", grace_of_500_ms),
    case("ignored_term_is_killed_at_the_grace", ignored_term_is_killed_at_the_grace),
    case("kill_skips_the_grace", kill_skips_the_grace),
    case("hasten_ends_the_grace_of_a_running_stop", hasten_ends_the_grace),
    case("cancelled_stop_says_so_and_the_container_stays", cancelled_stop),
    case("stop_that_is_late_says_so_within_its_deadline", late_stop),
    case("hangup_is_no_end", hangup_is_no_end),
    case("term_by_signal_runs_the_handler", term_by_signal),
    case("signal_to_what_does_not_run_is_refused", signal_to_what_does_not_run),
];

const TEN_SECONDS: Duration = Duration::from_secs(10);

fn exited(code: i32) -> ContainerStatus {
    ContainerStatus::Exited { code: Some(code), oom: false }
}

fn term_handler_runs(subject: &Subject) {
    let id = subject.run(&Behaviour::OnTerm(300, 7));
    let began = Instant::now();
    assert_eq!(subject.stop(&id, TEN_SECONDS), Change::Changed);
    assert!(began.elapsed() >= Duration::from_millis(300), "the handler was cut short: {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(5), "waited the whole grace: {:?}", began.elapsed());
    assert_eq!(subject.status(&id), exited(7));
}

fn second_stop_is_unchanged(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    assert_eq!(subject.stop(&id, TEN_SECONDS), Change::Changed);
    assert_eq!(subject.status(&id), exited(143));
    assert_eq!(subject.stop(&id, TEN_SECONDS), Change::Unchanged);
    let kill = subject.adapter.stop_container(&subject.call(), &id, &StopOptions::kill());
    assert_eq!(kill, Ok(Change::Unchanged));
    assert_eq!(subject.status(&id), exited(143));
}

fn stop_of_created(subject: &Subject) {
    let id = subject.create(&subject.config(&subject.name("new"), &Behaviour::Stay));
    assert_eq!(subject.stop(&id, TEN_SECONDS), Change::Unchanged);
    assert_eq!(subject.status(&id), ContainerStatus::Created);
}

fn time_of_stop(subject: &Subject, grace: Duration) -> Duration {
    let id = subject.run(&Behaviour::IgnoreTerm);
    let began = Instant::now();
    assert_eq!(subject.stop(&id, grace), Change::Changed);
    let took = began.elapsed();
    assert_eq!(subject.status(&id), exited(137));
    took
}

fn grace_of_500_ms(subject: &Subject) {
    let took = time_of_stop(subject, Duration::from_millis(500));
    assert!(took >= Duration::from_millis(450) && took < Duration::from_millis(1500), "{took:?}");
}

fn ignored_term_is_killed_at_the_grace(subject: &Subject) {
    let took = time_of_stop(subject, Duration::from_millis(2500));
    assert!(took >= Duration::from_millis(2400) && took < Duration::from_millis(4000), "{took:?}");
}

fn kill_skips_the_grace(subject: &Subject) {
    let id = subject.run(&Behaviour::OnTerm(5_000, 0));
    let began = Instant::now();
    let kill = subject.adapter.stop_container(&subject.call(), &id, &StopOptions::kill());
    assert_eq!(kill, Ok(Change::Changed));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(subject.status(&id), exited(137));
}

/// Stops what ignores SIGTERM with a grace that nobody waits for, and does something to the token meanwhile.
fn stop_and_then(subject: &Subject, id: &str, then: impl FnOnce(&CancelToken)) -> RtResult<Change> {
    let token = CancelToken::new();
    let began = Instant::now();
    let outcome = thread::scope(|scope| {
        let (adapter, token) = (&subject.adapter, &token);
        let stopping = scope.spawn(move || {
            let call = call_within(Duration::from_secs(60), token);
            adapter.stop_container(&call, id, &StopOptions::graceful(Duration::from_secs(40)))
        });
        // No state that all engines have says that a stop is in its grace. Where this is too short the outcome is the
        // same, because what is asked of a token stays asked.
        thread::sleep(Duration::from_millis(500));
        then(token);
        stopping.join().unwrap()
    });
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    outcome
}

fn hasten_ends_the_grace(subject: &Subject) {
    let id = subject.run(&Behaviour::IgnoreTerm);
    assert_eq!(stop_and_then(subject, &id, CancelToken::hasten), Ok(Change::Changed));
    assert_eq!(subject.status(&id), exited(137));
}

fn cancelled_stop(subject: &Subject) {
    let id = subject.run(&Behaviour::IgnoreTerm);
    let error = stop_and_then(subject, &id, |token| token.cancel("test")).unwrap_err();
    assert!(matches!(error, RuntimeError::Cancelled { .. }), "{error}");
    assert!(subject.status(&id).is_live(), "a stop that was cancelled killed");
}

fn late_stop(subject: &Subject) {
    let id = subject.run(&Behaviour::IgnoreTerm);
    let token = CancelToken::new();
    let began = Instant::now();
    let call = call_within(Duration::from_millis(700), &token);
    let grace = StopOptions::graceful(Duration::from_secs(40));
    let error = subject.adapter.stop_container(&call, &id, &grace).unwrap_err();
    assert!(matches!(error, RuntimeError::Timeout { .. }), "{error}");
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(subject.status(&id).is_live());
}

fn hangup_is_no_end(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let before = subject.inspect(&id);
    assert_eq!(subject.adapter.signal_container(&subject.call(), &id, "SIGHUP"), Ok(()));
    subject.live_on(&id, 300);
    assert_eq!(subject.inspect(&id).pid, before.pid);
}

fn term_by_signal(subject: &Subject) {
    let id = subject.run(&Behaviour::OnTerm(0, 9));
    assert_eq!(subject.adapter.signal_container(&subject.call(), &id, "SIGTERM"), Ok(()));
    assert_eq!(subject.adapter.wait_container(&subject.call(), &id), Ok(Some(9)));
    wait_until("the container is seen ended", || subject.status(&id) == exited(9));
}

fn signal_to_what_does_not_run(subject: &Subject) {
    let new = subject.create(&subject.config(&subject.name("new"), &Behaviour::Stay));
    let ended = subject.run_to_end(&subject.config(&subject.name("old"), &Behaviour::ExitAfter(0, 0))).id;
    for id in [new, ended] {
        let error = subject.adapter.signal_container(&subject.call(), &id, "SIGHUP").unwrap_err();
        assert!(matches!(error, RuntimeError::InvalidState { .. }), "{error}");
    }
}
