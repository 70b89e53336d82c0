//! `actionctl policy check` and `actionctl health`: what is shown, and the code that a script sees.

use super::double::Double;
use super::{ask, run, write};

fn json(ended: &super::Ended) -> serde_json::Value {
    serde_json::from_slice(&ended.out).unwrap()
}

#[test]
fn action_that_policy_allows_ends_with_0_and_nothing_is_done() {
    let double = Double::start();
    let ended = ask(&double, &["policy", "check", "stop", "web"]);
    let table = "WORKLOAD   VERDICT   RULE   REASON   SUGGESTED-NODE\nweb        allowed   -      -        -\n";
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), table), "{}", ended.err);
    assert!(double.executed().is_empty());
}

#[test]
fn action_that_policy_refuses_ends_with_3_and_names_rule_reason_and_node() {
    let double = Double::start();
    let ended = ask(&double, &["policy", "check", "offload", "refused", "--to", "HPC"]);
    assert_eq!(ended.code, Some(3), "{}", ended.err);
    let row = "log        refused   rule 'night' of /p.yaml   no HPC at night   ZONE1";
    assert!(ended.text().lines().any(|line| line == row), "{}", ended.text());
    let refused = ask(&double, &["policy", "check", "stop", "refused", "-o", "json"]);
    assert_eq!(refused.code, Some(3));
    let value = json(&refused);
    assert_eq!((&value["allowed"], &value["verdicts"][1]["suggested_node"]), (&false.into(), &"ZONE1".into()));
    let yaml = ask(&double, &["policy", "check", "stop", "refused", "-o", "yaml"]).text();
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), value, "{yaml}");
}

#[test]
fn policy_is_asked_about_documents_and_about_several_targets() {
    let double = Double::start();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "web.yaml", "kind: Pod\nmetadata: {name: web}\n");
    let file = folder.path().join("web.yaml");
    let ended = ask(&double, &["policy", "check", "launch", "-f", file.to_str().unwrap(), "-o", "name"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "web\n"), "{}", ended.err);
    let several = ask(&double, &["policy", "check", "stop", "web", "refused", "-o", "json"]);
    assert_eq!(several.code, Some(3));
    assert_eq!(json(&several)["answers"][1]["allowed"], false);
    assert_eq!(run(&["policy", "check", "launch"]).code, Some(2));
    assert_eq!(run(&["policy", "check", "fly", "web"]).code, Some(2));
}

#[test]
fn health_says_whether_requests_are_taken_and_how_the_node_is() {
    let double = Double::start();
    let ended = ask(&double, &["health"]);
    let block = "serving\nNode:         HPC\nVersion:      0.1.0\nStore:        etcd\n\
                 Waiting:      0 of 1000 outcomes, 0 states\nEngines:\n  \
                 NAME     STATE         VERSION   REASON\n  podman   available     5.4       -\n  \
                 docker   unavailable   -         no such socket\n";
    assert_eq!((ended.code, ended.text().as_str(), ended.err.as_str()), (Some(0), block, ""));
    let value = json(&ask(&double, &["health", "-o", "json"]));
    assert_eq!((&value["status"], &value["health"]["store"]["backend"]), (&"serving".into(), &"etcd".into()));
}

#[test]
fn runtimes_are_shown_with_what_they_can_do_or_why_they_are_away() {
    let double = Double::start();
    let ended = ask(&double, &["runtimes"]);
    let expected = "NAME     ORDER   STATE         VERSION   ABILITIES\npodman   1       available     5.4       pause\n\
                    docker   2       unavailable   -         no such socket\n";
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), expected));
    assert_eq!(ask(&double, &["runtimes", "-o", "name"]).text(), "podman\n");
    let value = json(&ask(&double, &["runtimes", "-o", "json"]));
    assert_eq!(value["runtimes"][0]["capabilities"][0], "pause");
    let old = ask(&Double::old(), &["runtimes"]);
    assert!(old.code == Some(1) && old.err.contains("too old"), "{}", old.err);
}

#[test]
fn older_daemon_tells_only_whether_it_takes_requests() {
    let double = Double::old();
    let ended = ask(&double, &["health"]);
    assert_eq!((ended.code, ended.text().as_str(), ended.err.as_str()), (Some(0), "serving\n", ""));
    let value = json(&ask(&double, &["health", "-o", "json"]));
    assert_eq!((&value["status"], &value["health"]), (&"serving".into(), &serde_json::Value::Null));
    let check = ask(&double, &["policy", "check", "stop", "web"]);
    assert_eq!(check.code, Some(3));
    assert!(check.err.contains("the daemon does not know this call"), "{}", check.err);
}

#[test]
fn cpus_are_shown_with_who_holds_them() {
    let double = Double::start();
    let text = ask(&double, &["cores"]).text();
    assert!(
        text.contains("free") && text.lines().any(|line| line.starts_with('1') && line.ends_with("lane")),
        "{text}"
    );
    assert_eq!(ask(&double, &["cores", "-o", "name"]).text(), "0\n");
    assert_eq!(json(&ask(&double, &["cores", "-o", "json"]))["cores"][1]["holder"], "lane");
}
