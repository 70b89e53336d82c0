//! The stream of what happens on the engine.

use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::cancel::CancelToken;
use actioncontroller::runtime::adapter::{
    Change, EngineEvent, EngineEventKind, RuntimeCapabilities, RuntimeError, StopOptions,
};

use super::behaviour::Behaviour;
use super::subject::{Subject, call_within};
use super::suite::{Case, with};

pub const CASES: &[Case] = &[
    with(has_events, "events_tell_a_life_in_order_with_one_death", a_life_in_order),
    with(has_events, "events_tell_of_pause_and_resume", pause_and_resume),
    with(has_events, "hangup_is_no_death_in_the_events", hangup_is_no_death),
    with(has_events, "killed_container_dies_once_with_137", killed_dies_once),
    with(has_events, "want_of_memory_is_told_beside_the_death", want_of_memory),
    with(has_events, "cancel_ends_events_within_a_second", cancel_ends_events),
];

fn has_events(capabilities: &RuntimeCapabilities, _: &Subject) -> bool {
    capabilities.supports_events
}

/// What the engine tells of one container from before its creation until after its removal, by which all is told.
fn told(subject: &Subject, behaviour: &Behaviour, act: impl FnOnce(&str)) -> Vec<EngineEventKind> {
    let token = CancelToken::new();
    let call = call_within(Duration::from_secs(60), &token);
    let stream = subject.adapter.watch_events(&call).unwrap();
    let mut config = subject.config(&subject.name("events"), behaviour);
    if subject.adapter.capabilities().supports_resource_limits {
        config.spec.resources.memory_bytes = Some(32 * 1024 * 1024);
    }
    let id = subject.start(&config);
    act(&id);
    assert_eq!(subject.adapter.remove_container(&subject.call(), &id, true), Ok(Change::Changed));
    // A stream that stays silent ends by this, so that a missing event fails the case and does not hang it.
    let watchdog = token.clone();
    let events: Vec<EngineEvent> = thread::scope(|scope| {
        let (done, silent) = crossbeam_channel::bounded::<()>(0);
        scope.spawn(move || {
            if silent.recv_timeout(Duration::from_secs(30)).is_err() {
                watchdog.cancel("no event for 30 s, or all are read");
            }
        });
        let mut of_it = Vec::new();
        for event in stream {
            let event = event.unwrap_or_else(|error| panic!("the removal was not told: {error}; {of_it:?}"));
            if event.id != id {
                continue;
            }
            assert_eq!(event.name, config.name);
            let is_last = event.kind == EngineEventKind::Removed;
            of_it.push(event);
            if is_last {
                break;
            }
        }
        drop(done);
        of_it
    });
    assert!(events.iter().map(|event| event.time_ns).is_sorted(), "{events:?}");
    events.into_iter().map(|event| event.kind).collect()
}

fn died(code: i32) -> EngineEventKind {
    EngineEventKind::Died { exit_code: Some(code) }
}

fn a_life_in_order(subject: &Subject) {
    use EngineEventKind::{Created, Removed, Started};
    let kinds = told(subject, &Behaviour::ExitAfter(100, 5), |id| {
        assert_eq!(subject.adapter.wait_container(&subject.call(), id), Ok(Some(5)));
    });
    assert_eq!(kinds, [Created, Started, died(5), Removed]);
}

fn pause_and_resume(subject: &Subject) {
    use EngineEventKind::{Created, Paused, Removed, Resumed, Started};
    if !subject.adapter.capabilities().supports_pause {
        return;
    }
    let kinds = told(subject, &Behaviour::Stay, |id| {
        subject.adapter.pause_container(&subject.call(), id).unwrap();
        subject.adapter.resume_container(&subject.call(), id).unwrap();
        subject.adapter.stop_container(&subject.call(), id, &StopOptions::kill()).unwrap();
    });
    assert_eq!(kinds, [Created, Started, Paused, Resumed, died(137), Removed]);
}

fn hangup_is_no_death(subject: &Subject) {
    use EngineEventKind::{Created, Removed, Started};
    let kinds = told(subject, &Behaviour::Stay, |id| {
        subject.adapter.signal_container(&subject.call(), id, "SIGHUP").unwrap();
        subject.live_on(id, 200);
        subject.adapter.stop_container(&subject.call(), id, &StopOptions::kill()).unwrap();
    });
    assert_eq!(kinds, [Created, Started, died(137), Removed]);
}

fn killed_dies_once(subject: &Subject) {
    use EngineEventKind::{Created, Removed, Started};
    // By the removal itself.
    let kinds = told(subject, &Behaviour::IgnoreTerm, |_| {});
    assert_eq!(kinds, [Created, Started, died(137), Removed]);
}

fn want_of_memory(subject: &Subject) {
    use EngineEventKind::{Created, OutOfMemory, Removed, Started};
    if !subject.adapter.capabilities().supports_resource_limits {
        return;
    }
    let mut kinds = told(subject, &Behaviour::EatMemory, |id| {
        assert_eq!(subject.adapter.wait_container(&subject.call(), id), Ok(Some(137)));
    });
    // Podman's events have none of their own for it; its flag is in inspect.
    kinds.retain(|kind| *kind != OutOfMemory);
    assert_eq!(kinds, [Created, Started, died(137), Removed]);
}

fn cancel_ends_events(subject: &Subject) {
    let token = CancelToken::new();
    let mut stream = subject.adapter.watch_events(&call_within(Duration::from_secs(60), &token)).unwrap();
    thread::scope(|scope| {
        let reading = scope.spawn(move || stream.find_map(Result::err));
        // Until it blocks; where it does not yet, it meets a token that is cancelled already, which is as good.
        thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        token.cancel("test");
        let error = reading.join().unwrap();
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
        assert!(matches!(error, Some(RuntimeError::Cancelled { .. })), "{error:?}");
    });
}
