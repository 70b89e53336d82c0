//! Created, started, listed, ended, removed; names and ids; engines that are away.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use actioncontroller::model::resources::Resources;
use actioncontroller::model::state::ContainerStatus;
use actioncontroller::runtime::adapter::{
    Change, ListFilter, Probe, RtResult, RuntimeAdapter, RuntimeCapabilities, RuntimeError, StopOptions,
};

use super::behaviour::Behaviour;
use super::subject::{EVERYTHING, Subject};
use super::suite::{Case, case, with};

pub const CASES: &[Case] = &[
    case("probe_answers_with_a_version", probe_answers_with_a_version),
    case("probe_of_an_absent_engine_is_unavailable_within_2_s", probe_of_an_absent_engine),
    case("engine_that_is_down_is_not_available_to_every_verb", engine_that_is_down),
    case("unknown_or_empty_id_is_not_found_to_every_verb_but_remove", unknown_id),
    case("created_then_running_then_exited", created_then_running_then_exited),
    case("id_and_name_are_the_same_container", id_and_name),
    case("second_container_of_a_name_is_refused", second_container_of_a_name),
    case("stop_does_not_free_the_name", stop_does_not_free_the_name),
    case("second_start_is_unchanged", second_start_is_unchanged),
    case("exited_container_starts_again", exited_container_starts_again),
    case("restart_gives_the_same_container_a_new_process", restart),
    case("remove_of_unknown_is_unchanged", remove_of_unknown),
    case("remove_of_running_needs_force", remove_of_running_needs_force),
    case("exit_codes_are_kept", exit_codes_are_kept),
    case("crash_by_signal_is_139", crash_by_signal),
    with(tells_memory_kills, "death_for_want_of_memory_is_flagged", death_for_want_of_memory),
    case("list_has_running_ones_alone_unless_all_are_asked", list_running_or_all),
    case("list_takes_only_what_has_all_labels", list_by_labels),
];

fn probe_answers_with_a_version(subject: &Subject) {
    match subject.adapter.probe() {
        Probe::Available { version, .. } => assert!(!version.is_empty()),
        Probe::Unavailable { reason } => panic!("{reason}"),
    }
}

fn probe_of_an_absent_engine(subject: &Subject) {
    let began = Instant::now();
    match (subject.down)().probe() {
        Probe::Unavailable { reason } => assert!(!reason.is_empty()),
        Probe::Available { .. } => panic!("an engine that is not there answered"),
    }
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// What each verb says of a container.
fn every_verb(subject: &Subject, adapter: &dyn RuntimeAdapter, id: &str) -> Vec<(&'static str, RtResult<()>)> {
    let (call, caps) = (subject.call(), subject.adapter.capabilities());
    let grace = StopOptions::graceful(Duration::from_secs(1));
    let mut all = vec![
        ("start", adapter.start_container(&call, id).map(drop)),
        ("stop", adapter.stop_container(&call, id, &grace).map(drop)),
        ("kill", adapter.stop_container(&call, id, &StopOptions::kill()).map(drop)),
        ("restart", adapter.restart_container(&call, id, &grace).map(drop)),
        ("signal", adapter.signal_container(&call, id, "SIGHUP")),
        ("inspect", adapter.inspect_container(&call, id).map(drop)),
        ("wait", adapter.wait_container(&call, id).map(drop)),
    ];
    if caps.supports_pause {
        all.push(("pause", adapter.pause_container(&call, id).map(drop)));
        all.push(("resume", adapter.resume_container(&call, id).map(drop)));
    }
    if caps.supports_resource_limits {
        let asked = Resources { pids: Some(9), ..Resources::default() };
        all.push(("resize", adapter.update_resources(&call, id, &asked, false).map(drop)));
    }
    if caps.supports_stats {
        all.push(("stats", adapter.container_stats(&call, id).map(drop)));
    }
    if caps.supports_exec {
        let command = (subject.command)(&Behaviour::ExitAfter(0, 0));
        all.push(("exec", adapter.exec_in_container(&call, id, &command).map(drop)));
    }
    if caps.supports_logs {
        // Some engines tell of it when the stream is opened, some with its first item.
        let opened = adapter.container_logs(&call, id, &EVERYTHING);
        all.push(("logs", opened.and_then(|mut stream| stream.next().map_or(Ok(()), |item| item.map(drop)))));
    }
    all
}

fn engine_that_is_down(subject: &Subject) {
    let (down, call) = ((subject.down)(), subject.call());
    let mut all = every_verb(subject, &*down, "anything");
    let config = subject.config(&subject.name("down"), &Behaviour::Stay);
    all.push(("create", down.create_container(&call, &config).map(drop)));
    all.push(("remove", down.remove_container(&call, "anything", true).map(drop)));
    all.push(("list", down.list_containers(&call, &ListFilter::default()).map(drop)));
    for (verb, outcome) in all {
        let is_away = matches!(&outcome, Err(RuntimeError::EngineNotAvailable { .. }));
        assert!(is_away, "{verb} of an engine that is away: {outcome:?}");
    }
}

fn unknown_id(subject: &Subject) {
    for id in ["", "no-such-container", "../../version"] {
        for (verb, outcome) in every_verb(subject, &*subject.adapter, id) {
            assert!(matches!(&outcome, Err(RuntimeError::NotFound { .. })), "{verb} of '{id}': {outcome:?}");
        }
    }
}

fn created_then_running_then_exited(subject: &Subject) {
    let name = subject.name("life");
    let id = subject.create(&subject.config(&name, &Behaviour::Stay));
    let created = subject.inspect(&id);
    assert_eq!(created.status, ContainerStatus::Created);
    let image = subject.root.as_ref().map_or_else(|| subject.image.clone(), |root| root.tree.display().to_string());
    assert_eq!((created.name.as_str(), created.image.as_str()), (name.as_str(), image.as_str()));
    assert_eq!((created.pid, created.started_ms, created.finished_ms), (0, 0, 0));
    assert!(created.created_ms > 0);
    assert_eq!(subject.adapter.start_container(&subject.call(), &id), Ok(Change::Changed));
    let running = subject.inspect(&id);
    assert!(running.status.is_running(), "{:?}", running.status);
    assert!(running.pid > 0 && running.started_ms >= created.created_ms, "{running:?}");
    assert_eq!(running.finished_ms, 0);
    subject.stop(&id, Duration::from_secs(10));
    let exited = subject.inspect(&id);
    assert!(matches!(exited.status, ContainerStatus::Exited { .. }), "{:?}", exited.status);
    assert!(exited.pid == 0 && exited.finished_ms >= exited.started_ms, "{exited:?}");
    assert_eq!(exited.id, id);
}

fn id_and_name(subject: &Subject) {
    let name = subject.name("both");
    let id = subject.create(&subject.config(&name, &Behaviour::Stay));
    assert_eq!(subject.inspect(&name), subject.inspect(&id));
    assert_eq!(subject.adapter.start_container(&subject.call(), &name), Ok(Change::Changed));
    assert!(subject.status(&id).is_running());
    assert_eq!(subject.adapter.remove_container(&subject.call(), &name, true), Ok(Change::Changed));
    let gone = subject.adapter.inspect_container(&subject.call(), &id);
    assert!(matches!(gone, Err(RuntimeError::NotFound { .. })), "{gone:?}");
}

fn second_container_of_a_name(subject: &Subject) {
    let config = subject.config(&subject.name("twice"), &Behaviour::Stay);
    let id = subject.create(&config);
    let error = subject.adapter.create_container(&subject.call(), &config).unwrap_err();
    assert!(matches!(error, RuntimeError::AlreadyExists { .. }), "{error}");
    assert!(error.to_string().contains(&config.name), "{error}");
    assert_eq!(subject.inspect(&config.name).id, id, "the first is still there");
}

fn stop_does_not_free_the_name(subject: &Subject) {
    let config = subject.config(&subject.name("kept"), &Behaviour::ExitAfter(0, 0));
    let ended = subject.run_to_end(&config);
    let error = subject.adapter.create_container(&subject.call(), &config).unwrap_err();
    assert!(matches!(error, RuntimeError::AlreadyExists { .. }), "{error}");
    assert_eq!(subject.adapter.remove_container(&subject.call(), &ended.id, false), Ok(Change::Changed));
    let again = subject.create(&config);
    assert_ne!(again, ended.id);
}

fn second_start_is_unchanged(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let before = subject.inspect(&id);
    assert_eq!(subject.adapter.start_container(&subject.call(), &id), Ok(Change::Unchanged));
    assert_eq!(subject.inspect(&id), before);
}

fn exited_container_starts_again(subject: &Subject) {
    let ended = subject.run_to_end(&subject.config(&subject.name("again"), &Behaviour::ExitAfter(0, 3)));
    let first = subject.inspect(&ended.id);
    assert_eq!(subject.adapter.start_container(&subject.call(), &ended.id), Ok(Change::Changed));
    assert_eq!(subject.adapter.wait_container(&subject.call(), &ended.id), Ok(Some(3)));
    let second = subject.inspect(&ended.id);
    assert_eq!(second.id, first.id);
    assert!(second.started_ms >= first.finished_ms, "{first:?} {second:?}");
}

fn restart(subject: &Subject) {
    let id = subject.run(&Behaviour::Stay);
    let before = subject.inspect(&id);
    let grace = StopOptions::graceful(Duration::from_secs(10));
    assert_eq!(subject.adapter.restart_container(&subject.call(), &id, &grace), Ok(Change::Changed));
    let after = subject.inspect(&id);
    assert!(after.status.is_running(), "{:?}", after.status);
    assert_ne!(after.pid, before.pid);
    assert!(after.started_ms >= before.started_ms);
}

fn remove_of_unknown(subject: &Subject) {
    for force in [false, true] {
        let unknown = subject.adapter.remove_container(&subject.call(), "no-such-container", force);
        assert_eq!(unknown, Ok(Change::Unchanged));
    }
    let id = subject.create(&subject.config(&subject.name("gone"), &Behaviour::Stay));
    assert_eq!(subject.adapter.remove_container(&subject.call(), &id, false), Ok(Change::Changed));
    assert_eq!(subject.adapter.remove_container(&subject.call(), &id, false), Ok(Change::Unchanged));
}

fn remove_of_running_needs_force(subject: &Subject) {
    let id = subject.run(&Behaviour::IgnoreTerm);
    let error = subject.adapter.remove_container(&subject.call(), &id, false).unwrap_err();
    assert!(matches!(error, RuntimeError::InvalidState { .. }), "{error}");
    assert!(subject.status(&id).is_running());
    let began = Instant::now();
    assert_eq!(subject.adapter.remove_container(&subject.call(), &id, true), Ok(Change::Changed));
    assert!(began.elapsed() < Duration::from_secs(5), "force waited for a grace: {:?}", began.elapsed());
    let gone = subject.adapter.inspect_container(&subject.call(), &id);
    assert!(matches!(gone, Err(RuntimeError::NotFound { .. })), "{gone:?}");
}

fn exit_codes_are_kept(subject: &Subject) {
    for code in [0, 1, 7, 255] {
        let ended = subject.run_to_end(&subject.config(&subject.name("code"), &Behaviour::ExitAfter(0, code)));
        assert_eq!(ended.code, Some(code));
        assert_eq!(subject.status(&ended.id), ContainerStatus::Exited { code: Some(code), oom: false });
    }
}

fn crash_by_signal(subject: &Subject) {
    let ended = subject.run_to_end(&subject.config(&subject.name("crash"), &Behaviour::Crash));
    assert_eq!(ended.code, Some(139));
    assert_eq!(subject.status(&ended.id), ContainerStatus::Exited { code: Some(139), oom: false });
}

fn tells_memory_kills(capabilities: &RuntimeCapabilities, subject: &Subject) -> bool {
    capabilities.supports_resource_limits && subject.tells_memory_kills
}

fn death_for_want_of_memory(subject: &Subject) {
    let mut config = subject.config(&subject.name("oom"), &Behaviour::EatMemory);
    config.spec.resources.memory_bytes = Some(24 * 1024 * 1024);
    let ended = subject.run_to_end(&config);
    assert_eq!(ended.code, Some(137));
    assert_eq!(subject.status(&ended.id), ContainerStatus::Exited { code: Some(137), oom: true });
}

fn listed(subject: &Subject, all: bool, labels: &[(&str, &str)]) -> Vec<String> {
    let labels: BTreeMap<_, _> = labels.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let list = subject.adapter.list_containers(&subject.call(), &ListFilter { all, labels }).unwrap();
    let times: Vec<_> = list.iter().map(|container| (container.created_ms, container.id.clone())).collect();
    assert!(times.is_sorted(), "not by creation time: {times:?}");
    list.into_iter().map(|container| container.name).collect()
}

fn list_running_or_all(subject: &Subject) {
    let group = subject.name("group");
    let mut made = Vec::new();
    for (hint, behaviour) in [("run", Behaviour::Stay), ("end", Behaviour::ExitAfter(0, 0)), ("new", Behaviour::Stay)] {
        let mut config = subject.config(&subject.name(hint), &behaviour);
        config.labels.insert("group".into(), group.clone());
        let id = subject.create(&config);
        if hint != "new" {
            subject.adapter.start_container(&subject.call(), &id).unwrap();
        }
        if hint == "end" {
            subject.adapter.wait_container(&subject.call(), &id).unwrap();
        }
        made.push(config.name);
    }
    assert_eq!(listed(subject, false, &[("group", &group)]), made[..1]);
    let mut all = listed(subject, true, &[("group", &group)]);
    // The order within one millisecond is the ids'.
    all.sort();
    made.sort();
    assert_eq!(all, made);
}

fn list_by_labels(subject: &Subject) {
    let group = subject.name("group");
    let labelled = |hint: &str, kind: &str| {
        let mut config = subject.config(&subject.name(hint), &Behaviour::Stay);
        config.labels.extend([("group".into(), group.clone()), ("kind".into(), kind.into())]);
        subject.create(&config);
        config.name
    };
    let (one, _two) = (labelled("one", "a"), labelled("two", "b"));
    assert_eq!(listed(subject, true, &[("group", &group), ("kind", "a")]), [one]);
    assert_eq!(listed(subject, true, &[("group", &group)]).len(), 2);
    assert!(listed(subject, true, &[("group", &group), ("kind", "c")]).is_empty());
    assert!(listed(subject, true, &[("group", "a")]).is_empty());
}
