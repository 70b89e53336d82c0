//! A store that was cut, emptied, replaced, or has single records that cannot be read: the daemon serves all the same.

use std::fs;
use std::path::PathBuf;

use actioncontroller::clock::Deadline;
use actioncontroller::proto::actions::{GetActionRequest, ListActionsRequest, Verb};
use actioncontroller::storage::embedded::EmbeddedStore;
use actioncontroller::storage::{Batch, StateStore};
use grpcio::RpcStatusCode;

use super::{LONG, is_running, listed, must, sim_containers, sim_objects, target, with_id, workload};
use crate::support::daemon::{DaemonProcess, launch, options, pod};

fn document(name: &str) -> String {
    pod(name, "localhost/busybox:1", "sleep 1000")
}

/// A daemon that was killed while two workloads ran.
fn killed_with_two_workloads() -> DaemonProcess {
    let mut daemon = DaemonProcess::on_sim();
    must(&daemon, with_id(launch(&document("one")), "launch-one"));
    must(&daemon, with_id(launch(&document("two")), "launch-two"));
    daemon.kill();
    daemon
}

fn database(daemon: &DaemonProcess) -> PathBuf {
    daemon.path("state/state.redb")
}

fn kept_aside(daemon: &DaemonProcess) -> Vec<PathBuf> {
    let entries = fs::read_dir(daemon.path("state")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("state.redb.damaged-")).collect()
}

/// The daemon starts from the damaged file, keeps it, finds the containers again, and does not do so twice.
fn assert_serves_without(daemon: &mut DaemonProcess, found: &[u8]) {
    let before = sim_containers(daemon);
    daemon.start_again();
    let aside = kept_aside(daemon);
    assert_eq!(aside.len(), 1, "{aside:?}");
    let kept = fs::read(&aside[0]).unwrap();
    // What could be opened far enough to be checked has its marks of that; all else is as it was.
    assert_eq!((kept.len(), kept.last()), (found.len(), found.last()));
    let name = aside[0].file_name().unwrap().to_string_lossy().into_owned();
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("damaged") && line.contains(&name)), "{log}");
    assert_eq!(sim_containers(daemon), before, "what runs is left alone");
    let listed_now = listed(daemon);
    assert_eq!(listed_now.keys().collect::<Vec<_>>(), ["one", "two"]);
    assert!(listed_now.values().all(is_running));
    assert_eq!(listed_now["one"].last_action_id, "launch-one");
    let shown = String::from_utf8(daemon.ctl(&["ps"]).stdout).unwrap();
    assert!(shown.contains("one") && shown.contains("two"), "{shown}");
    let again = must(daemon, launch(&document("one")));
    assert!(!again.changed, "{again:?}");
    must(daemon, target(Verb::VERB_STOP, "two"));
    assert!(!is_running(&workload(daemon, "two")));
    must(daemon, target(Verb::VERB_TERMINATE, "two"));
    assert!(daemon.terminate().success());
    daemon.start_again();
    assert_eq!(kept_aside(daemon), aside);
    assert_eq!(listed(daemon).keys().collect::<Vec<_>>(), ["one"]);
    must(daemon, target(Verb::VERB_TERMINATE, "one"));
    assert!(sim_objects(daemon).is_empty());
}

#[test]
fn cut_database_is_kept_aside_and_containers_are_found_by_labels() {
    let mut daemon = killed_with_two_workloads();
    let mut bytes = fs::read(database(&daemon)).unwrap();
    bytes.truncate(bytes.len() / 3);
    fs::write(database(&daemon), &bytes).unwrap();
    assert_serves_without(&mut daemon, &bytes);
}

#[test]
fn empty_database_is_kept_aside_and_containers_are_found_by_labels() {
    let mut daemon = killed_with_two_workloads();
    fs::write(database(&daemon), b"").unwrap();
    assert_serves_without(&mut daemon, b"");
}

#[test]
fn foreign_database_is_kept_aside_and_containers_are_found_by_labels() {
    let mut daemon = killed_with_two_workloads();
    let foreign = b"SQLite format 3\0 and so on".repeat(500);
    fs::write(database(&daemon), &foreign).unwrap();
    assert_serves_without(&mut daemon, &foreign);
}

/// Puts values into the store of a daemon that does not run.
fn put(daemon: &DaemonProcess, values: &[(&str, &str)]) {
    let opened = EmbeddedStore::open(&daemon.path("state"), &Default::default()).unwrap();
    let put = values.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect();
    opened.store.commit(Batch { put, ..Batch::default() }, Deadline::after(LONG)).unwrap();
}

#[test]
fn single_damaged_records_are_named_and_take_nothing_else_with_them() {
    let mut daemon = killed_with_two_workloads();
    put(
        &daemon,
        &[
            ("workload/one", "{\"spec\": 7"),
            ("workload/ghost", "nonsense"),
            ("intent/lost", "{}"),
            ("repair/lost-too", "[]"),
            ("outcome/launch-two", "\u{0}"),
            ("ended/soon", ""),
        ],
    );
    daemon.start_again();
    let now = listed(&daemon);
    assert_eq!(now.keys().collect::<Vec<_>>(), ["ghost", "one", "two"]);
    assert!(is_running(&now["one"]) && is_running(&now["two"]));
    for name in ["one", "ghost"] {
        assert!(now[name].message.contains(&format!("workload/{name}")), "{:?}", now[name]);
    }
    for key in ["intent/lost", "repair/lost-too"] {
        assert!(daemon.log().contains(key), "{}", daemon.log());
    }
    let client = daemon.actions();
    let actions = client.list_actions(&ListActionsRequest::default(), options()).unwrap().actions;
    assert_eq!(actions.iter().map(|action| action.action_id.as_str()).collect::<Vec<_>>(), ["launch-one"]);
    let request = GetActionRequest { action_id: "launch-two".to_owned(), ..GetActionRequest::default() };
    let error = client.get_action(&request, options()).unwrap_err();
    assert!(error.to_string().contains("outcome/launch-two"), "{error}");

    // A launch over a damaged record is refused and says what to do; what ends things goes on.
    let error = daemon.launch(&document("one")).unwrap_err();
    assert!(error.to_string().contains("workload/one"), "{error}");
    let stopped = must(&daemon, target(Verb::VERB_STOP, "one"));
    assert!(stopped.warnings.iter().any(|warning| warning.message.contains("workload/one")), "{stopped:?}");
    must(&daemon, target(Verb::VERB_TERMINATE, "one"));
    must(&daemon, target(Verb::VERB_TERMINATE, "ghost"));
    assert_eq!(listed(&daemon).keys().collect::<Vec<_>>(), ["two"]);
    must(&daemon, launch(&document("one")));
    assert!(daemon.terminate().success());
}

#[test]
fn records_of_a_newer_daemon_are_read_and_their_workloads_unchanged() {
    let mut daemon = killed_with_two_workloads();
    {
        let opened = EmbeddedStore::open(&daemon.path("state"), &Default::default()).unwrap();
        let entry = opened.store.get("workload/one", Deadline::after(LONG)).unwrap().unwrap();
        let mut record: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
        record["of_the_future"] = 1.into();
        record["spec"]["of_the_future"] = serde_json::json!({"a": [1]});
        record["spec"]["containers"][0]["of_the_future"] = "x".into();
        record["spec"]["containers"][0]["security"]["of_the_future"] = true.into();
        record["spec"]["containers"][0]["resources"]["of_the_future"] = 7.into();
        let put = vec![(entry.key, serde_json::to_vec(&record).unwrap())];
        opened.store.commit(Batch { put, ..Batch::default() }, Deadline::after(LONG)).unwrap();
    }
    daemon.start_again();
    assert_eq!(listed(&daemon)["one"].desired, "running");
    assert!(!must(&daemon, launch(&document("one"))).changed);
}

#[test]
fn state_folder_that_others_may_write_to_is_refused_and_left_as_it_is() {
    let mut daemon = killed_with_two_workloads();
    fs::set_permissions(daemon.path("state"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let before = fs::read(database(&daemon)).unwrap();
    daemon.spawn();
    assert_eq!(daemon.wait_for_end().code(), Some(1));
    assert!(daemon.log().lines().last().unwrap().contains("store:"), "{}", daemon.log());
    assert_eq!(fs::read(database(&daemon)).unwrap(), before);
    assert!(!daemon.socket().exists() || std::os::unix::net::UnixStream::connect(daemon.socket()).is_err());
}

#[test]
fn unknown_action_is_not_found_after_the_store_was_lost() {
    let mut daemon = killed_with_two_workloads();
    fs::remove_file(database(&daemon)).unwrap();
    daemon.start_again();
    let request = GetActionRequest { action_id: "launch-one".to_owned(), ..GetActionRequest::default() };
    let error = daemon.actions().get_action(&request, options()).unwrap_err();
    let grpcio::Error::RpcFailure(status) = &error else { panic!("{error}") };
    assert_eq!(status.code(), RpcStatusCode::NOT_FOUND);
    assert!(listed(&daemon).values().all(is_running));
}
