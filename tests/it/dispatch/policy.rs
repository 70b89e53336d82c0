//! What policy says of an action is asked without doing it: the rules from files, through `actionctl`.

use std::fs;

use actioncontroller::proto::actions::ListActionsRequest;

use super::{QUICK, ctl, file, refusal, settings, sim_file};
use crate::support::daemon::{DaemonProcess, launch, options, pod};

/// A daemon with these rules in the file `10-rules.yaml`.
fn with_rules(rules: &str) -> DaemonProcess {
    DaemonProcess::start(|folder| {
        let rules_folder = folder.join("policy.d");
        fs::create_dir(&rules_folder).unwrap();
        fs::write(rules_folder.join("10-rules.yaml"), rules).unwrap();
        settings(folder, "[]", &format!("policy: {{folders: ['{}']}}\n", rules_folder.display()))
    })
}

/// Nothing was recorded and nothing was done.
#[track_caller]
fn assert_untouched(daemon: &DaemonProcess) {
    let listed = daemon.actions().list_actions(&ListActionsRequest::default(), options()).unwrap();
    assert!(listed.actions.is_empty(), "{listed:?}");
    assert!(!sim_file(daemon).contains("_main"), "{}", sim_file(daemon));
}

const RULES: &str = "rules:\n  - {name: no-hub, effect: deny, reason: images come from the vehicle, images: ['docker.io/*']}\n  \
    - {name: keep, effect: deny, verbs: [stop], targets: ['lane*']}\n";

#[test]
fn launch_that_a_rule_refuses_names_rule_file_and_reason_and_one_that_none_refuses_ends_with_0() {
    let daemon = with_rules(RULES);
    let bad = file(&daemon, "bad.yaml", &pod("web", "docker.io/web:1", "sleep 1000"));
    let good = file(&daemon, "good.yaml", &pod("web", QUICK, "sleep 1000"));
    let (bad, good) = (bad.to_str().unwrap(), good.to_str().unwrap());
    let rule = format!("rule 'no-hub' of {}", daemon.path("policy.d/10-rules.yaml").display());
    let (out, _) = ctl(&daemon, 3, &["policy", "check", "launch", "-f", bad]);
    assert!(out.contains("web") && out.contains("refused") && out.contains(&rule), "{out}");
    assert!(out.contains("images come from the vehicle") && out.contains("docker.io/web:1"), "{out}");
    let (out, _) = ctl(&daemon, 3, &["policy", "check", "launch", "-f", bad, "-o", "json"]);
    let json: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&json["allowed"], &json["verdicts"][0]["rule"]), (&false.into(), &rule.as_str().into()));
    let (out, _) = ctl(&daemon, 0, &["policy", "check", "launch", "-f", good]);
    assert!(out.contains("web        allowed"), "{out}");
    assert_untouched(&daemon);
    // What was said is what happens.
    let refused = refusal(daemon.launch(&pod("web", "docker.io/web:1", "sleep 1000")));
    assert_eq!(refused.error.code, "POLICY_DENIED");
    assert!(refused.error.message.contains(&rule), "{refused:?}");
    daemon.launch(&pod("web", QUICK, "sleep 1000")).unwrap();
}

#[test]
fn verbs_on_names_are_asked_by_their_target() {
    let daemon = with_rules(RULES);
    let (out, _) = ctl(&daemon, 3, &["policy", "check", "stop", "lane-core"]);
    assert!(out.contains("lane-core") && out.contains("rule 'keep'"), "{out}");
    ctl(&daemon, 0, &["policy", "check", "stop", "web"]);
    ctl(&daemon, 0, &["policy", "check", "kill", "lane-core"]);
    assert_untouched(&daemon);
}

#[test]
fn what_cannot_be_read_or_is_not_known_is_refused_as_the_action_would_be() {
    let daemon = with_rules(RULES);
    let broken = file(&daemon, "broken.yaml", "kind: Pod\nmetadata: [\n");
    let (_, err) = ctl(&daemon, 3, &["policy", "check", "launch", "-f", broken.to_str().unwrap()]);
    assert!(err.contains("INVALID_MANIFEST"), "{err}");
    let (_, err) = ctl(&daemon, 3, &["policy", "check", "launch", "nowhere"]);
    assert!(err.contains("WORKLOAD_NOT_FOUND"), "{err}");
    assert_untouched(&daemon);
}

#[test]
fn ceiling_of_the_node_is_not_asked() {
    let daemon = with_rules("rules: []\n");
    let privileged =
        pod("web", QUICK, "sleep 1000").replace("{name: main,", "{name: main, securityContext: {privileged: true},");
    let document = file(&daemon, "web.yaml", &privileged);
    ctl(&daemon, 0, &["policy", "check", "launch", "-f", document.to_str().unwrap()]);
    assert_eq!(refusal(daemon.execute(launch(&privileged))).error.code, "SECURITY_DENIED");
}
