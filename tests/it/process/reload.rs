//! SIGHUP: what can change changes, what is wrong is named and changes nothing.

use std::fs;

use actioncontroller::proto::actions::Verb;
use nix::sys::signal::Signal;

use super::refusal;
use crate::recovery::{LONG, must, sim, target};
use crate::support::daemon::{DaemonProcess, launch, pod};
use crate::support::wait::until;

fn document(name: &str) -> String {
    pod(name, "localhost/busybox:1", "sleep 1000")
}

fn privileged(name: &str) -> String {
    document(name).replace("command:", "securityContext: {privileged: true}, command:")
}

/// Settings of the test on top of the simulator's.
fn settings(daemon: &DaemonProcess, faults: &str, more: &str) -> String {
    format!("{}{more}", sim(&daemon.path(""), 0, faults))
}

/// Reloads with these settings and gives what was logged of it.
fn reload(daemon: &DaemonProcess, more: &str) -> String {
    daemon.write_settings(&settings(daemon, "", more));
    reload_as_it_is(daemon)
}

fn reload_as_it_is(daemon: &DaemonProcess) -> String {
    let said = daemon.log().len();
    daemon.signal(Signal::SIGHUP);
    until("the reload", LONG, || {
        let log = daemon.log().split_off(said);
        let is_over = log.contains("settings were read again") || log.contains("settings stay as they are");
        is_over.then_some(log)
    })
}

fn daemon(more: &str) -> DaemonProcess {
    let more = more.to_owned();
    DaemonProcess::start(move |folder| format!("{}{more}", sim(folder, 0, "")))
}

// req: AC-33
#[test]
fn log_level_limits_ceiling_and_deadlines_change_at_once() {
    let daemon = daemon("limits: {documents: 1}\n");
    let two = format!("{}---\n{}", document("a"), document("b"));
    assert_eq!(refusal(&daemon, launch(&two)).code, "LIMIT_EXCEEDED");
    assert_eq!(refusal(&daemon, launch(&privileged("p"))).code, "SECURITY_DENIED");
    reload(&daemon, "limits: {documents: 2}\nsecurity: {allow_privileged: true}\nlog: {level: trace}\n");
    must(&daemon, launch(&two));
    must(&daemon, launch(&privileged("p")));
    reload(&daemon, "limits: {documents: 1}\nlog: {level: info}\n");
    assert_eq!(refusal(&daemon, launch(&two.replace("name: a", "name: c"))).code, "LIMIT_EXCEEDED");
    assert_eq!(refusal(&daemon, launch(&privileged("q"))).code, "SECURITY_DENIED");
    let said = daemon.log().len();
    must(&daemon, target(Verb::VERB_STOP, "a"));
    assert!(!daemon.log().split_off(said).contains("DEBUG"), "{}", daemon.log());
}

#[test]
fn default_deadline_of_actions_changes_at_once() {
    let daemon = DaemonProcess::start(|folder| sim(folder, 0, "{op: start, delay_ms: 2500}"));
    must(&daemon, launch(&document("a")));
    daemon.write_settings(&settings(&daemon, "{op: start, delay_ms: 2500}", "actions: {default_deadline: 1s}\n"));
    reload_as_it_is(&daemon);
    assert_eq!(refusal(&daemon, launch(&document("b"))).code, "DEADLINE_EXCEEDED");
}

#[test]
fn policy_files_are_read_again_and_a_bad_one_leaves_the_rules_in_force() {
    let daemon = daemon("");
    let folder = daemon.path("policy.d");
    fs::create_dir(&folder).unwrap();
    let more = format!("policy: {{folders: [{}]}}\n", folder.display());
    must(&daemon, launch(&document("a")));
    let rule = "rules: [{name: no-b, effect: deny, reason: not here, verbs: [launch], targets: [b]}]\n";
    fs::write(folder.join("10-b.yaml"), rule).unwrap();
    must(&daemon, launch(&document("c")));
    reload(&daemon, &more);
    let denied = refusal(&daemon, launch(&document("b")));
    assert_eq!(denied.code, "POLICY_DENIED");
    assert!(denied.message.contains("no-b") && denied.message.contains("not here"), "{denied:?}");
    fs::write(folder.join("20-bad.yaml"), "rules: [{nam: x}]\n").unwrap();
    let log = reload(&daemon, &format!("{more}limits: {{documents: 1}}\n"));
    assert!(log.contains("20-bad.yaml") && log.contains("nam"), "{log}");
    assert_eq!(refusal(&daemon, launch(&document("b"))).code, "POLICY_DENIED");
    let two = format!("{}---\n{}", document("e"), document("f"));
    must(&daemon, launch(&two));
    fs::remove_file(folder.join("20-bad.yaml")).unwrap();
    fs::remove_file(folder.join("10-b.yaml")).unwrap();
    reload(&daemon, &more);
    must(&daemon, launch(&document("b")));
}

#[test]
fn bad_file_leaves_the_settings_in_force_and_is_named_with_line_and_key() {
    let daemon = daemon("limits: {documents: 1}\n");
    let two = format!("{}---\n{}", document("a"), document("b"));
    for (wrong, key) in [
        ("limits:\n  documents: 2\n  doc: 3\n", "limits.doc"),
        ("limits:\n  documents: many\n", "limits.documents"),
        ("limits:\n  documents: 0\n", "limits.documents"),
        ("limits: [\n", ""),
    ] {
        let log = reload(&daemon, wrong);
        let line = log.lines().find(|line| line.contains("stay as they are")).unwrap();
        assert!(line.contains("20-test.yaml:") && line.contains(key) && line.contains("ERROR"), "{line}");
        assert_eq!(refusal(&daemon, launch(&two)).code, "LIMIT_EXCEEDED");
    }
    reload(&daemon, "limits: {documents: 2}\n");
    must(&daemon, launch(&two));
}

#[test]
fn keys_that_need_a_restart_are_named() {
    let daemon = daemon("");
    let log = reload(&daemon, "dispatch: {workers: 5}\nlimits: {documents: 7, streams_unix: 3}\n");
    let line = log.lines().find(|line| line.contains("need a restart")).unwrap();
    assert!(line.contains("dispatch.workers") && line.contains("limits.streams_unix"), "{line}");
    assert!(!line.contains("documents"), "{line}");
}
