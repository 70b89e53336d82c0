//! Drop-in folders: merged, checked, and a mistake is one line before anything is made or bound.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use actioncontroller::proto::actions::Verb;
use tempfile::TempDir;

use crate::recovery::{is_running, listed, must, target};
use crate::support::daemon::{DaemonProcess, launch, pod};

/// A folder with a good drop-in and one more.
fn drop_ins(more: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().display();
    let good = format!("node: test\nstate_dir: {at}/state\nlisten:\n  unix: {at}/api.sock\n");
    fs::create_dir(folder.path().join("config.d")).unwrap();
    fs::write(folder.path().join("config.d/10-good.yaml"), good).unwrap();
    fs::write(folder.path().join("config.d/20-more.yaml"), more).unwrap();
    folder
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_actioncontroller"));
    command.arg("--config").arg(folder.join("config.d")).args(arguments).env_remove("NOTIFY_SOCKET");
    command.output().unwrap()
}

fn assert_nothing_was_made(folder: &Path) {
    let names: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["config.d"]);
}

// req: AC-34
#[test]
fn mistake_ends_the_start_with_code_78_and_one_line_that_names_file_and_key() {
    for (more, place, key) in [
        ("dispatch:\n  workers: 4\n  worker: 5\n", "20-more.yaml:3", "dispatch.worker"),
        ("colour: red\n", "20-more.yaml:1", "colour"),
        ("dispatch:\n  workers: lots\n", "20-more.yaml:2", "dispatch.workers"),
        ("actions:\n  default_deadline: 10\n", "20-more.yaml:2", "actions.default_deadline"),
        ("actions:\n  default_deadline: 2h\n  max_deadline: 1h\n", "20-more.yaml:", "actions.max_deadline"),
        ("listen:\n  tcp: ['0.0.0.0:0']\n", "20-more.yaml:2", "insecure"),
        ("store:\n  backend: etc\n", "20-more.yaml:2", "store.backend"),
        ("runtimes:\n  preference: [podmann]\n", "20-more.yaml:2", "runtimes.preference"),
        ("node: [\n", "20-more.yaml:", ""),
        ("runtimes: {sim: {enabled: true, faults: [{op: stort}]}}\n", "20-more.yaml:1", "stort"),
    ] {
        let folder = drop_ins(more);
        for arguments in [&[][..], &["--check"]] {
            let output = run(folder.path(), arguments);
            let text = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(78), "{more}: {text}");
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains(place) && text.contains(key), "{more}: {text}");
            assert!(output.stdout.is_empty());
            assert_nothing_was_made(folder.path());
        }
    }
}

#[test]
fn bad_policy_file_is_a_mistake_of_the_configuration() {
    let folder = drop_ins("");
    let policy = folder.path().join("config.d/policy");
    fs::create_dir(&policy).unwrap();
    fs::write(policy.join("10-bad.yaml"), "rules:\n- {nam: x}\n").unwrap();
    let more = format!("policy: {{folders: [{}]}}\n", policy.display());
    fs::write(folder.path().join("config.d/20-more.yaml"), more).unwrap();
    for arguments in [&[][..], &["--check"]] {
        let output = run(folder.path(), arguments);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(78), "{text}");
        assert!(text.contains("10-bad.yaml") && text.contains("nam"), "{text}");
        assert_nothing_was_made(folder.path());
    }
}

#[test]
fn check_of_good_files_says_nothing_and_makes_nothing() {
    let folder = drop_ins("log: {level: warn}\n");
    let output = run(folder.path(), &["--check"]);
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_nothing_was_made(folder.path());
}

#[test]
fn what_cannot_be_bound_ends_the_start_with_code_1() {
    let folder = drop_ins("");
    fs::create_dir(folder.path().join("api.sock")).unwrap();
    let output = run(folder.path(), &[]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.lines().last().unwrap().contains("api.sock"), "{text}");
}

// req: AC-22
#[test]
fn without_a_store_configured_the_embedded_one_keeps_everything() {
    let mut daemon = DaemonProcess::on_sim();
    assert!(
        !fs::read_dir(daemon.path("config.d"))
            .unwrap()
            .any(|file| { fs::read_to_string(file.unwrap().path()).unwrap().contains("store") })
    );
    must(&daemon, launch(&pod("w", "localhost/busybox:1", "sleep 1000")));
    assert!(daemon.path("state/state.redb").exists());
    daemon.kill();
    daemon.start_again();
    let kept = &listed(&daemon)["w"];
    assert!(is_running(kept));
    assert_eq!(kept.desired, "running");
    must(&daemon, target(Verb::VERB_STOP, "w"));
    assert!(daemon.terminate().success());
    daemon.start_again();
    assert_eq!(listed(&daemon)["w"].desired, "stopped");
    // By its name alone: the document is in the store.
    must(&daemon, target(Verb::VERB_TERMINATE, "w"));
    must(&daemon, target(Verb::VERB_LAUNCH, "w"));
}
