//! Update, rollback and offload from `actionctl` to the real daemon: what is done, and what is printed.

use std::sync::{Arc, Mutex};

use super::{MISSING, QUICK, ctl, daemon, file, settings, workload};
use crate::support::daemon::{DaemonProcess, pod};
use crate::support::peers::{self, StandIn};

/// The image that runs.
#[track_caller]
fn image(daemon: &DaemonProcess, name: &str) -> String {
    workload(daemon, name).unwrap().containers[0].image.clone()
}

fn document(daemon: &DaemonProcess, name: &str, image: &str) -> String {
    let path = file(daemon, &format!("{name}.yaml"), &pod(name, image, "sleep 1000"));
    path.to_str().unwrap().to_owned()
}

#[test]
fn update_replaces_keeps_the_one_before_and_rollback_returns_to_it_once() {
    let daemon = daemon("[]", "");
    let first = document(&daemon, "web", QUICK);
    let (out, err) = ctl(&daemon, 0, &["update", "-f", &first]);
    assert!(out.starts_with("web updated in "), "{out}");
    assert!(err.contains("warning: workload 'web' was not there before, it is launched"), "{err}");
    let (_, err) = ctl(&daemon, 3, &["rollback", "web"]);
    assert!(err.contains("there is no earlier document of 'web' to return to"), "{err}");
    assert!(err.contains("hint: an update keeps the document before it"), "{err}");

    let second = document(&daemon, "web", "localhost/other:2");
    assert!(ctl(&daemon, 0, &["update", "-f", &second]).0.starts_with("web updated in "));
    assert_eq!(image(&daemon, "web"), "localhost/other:2");
    assert_eq!(ctl(&daemon, 0, &["update", "-f", &second]).0, "web unchanged\n");
    assert_eq!(ctl(&daemon, 0, &["update", "web"]).0, "web unchanged\n", "the stored document is the same");

    assert!(ctl(&daemon, 0, &["rollback", "web"]).0.starts_with("web rolled back in "));
    assert_eq!(image(&daemon, "web"), QUICK);
    assert_eq!(ctl(&daemon, 0, &["rollback", "web"]).0, "web unchanged\n");
    assert_eq!(image(&daemon, "web"), QUICK);
    // The stored document is still the one that the update brought.
    assert!(ctl(&daemon, 0, &["update", "web"]).0.starts_with("web updated in "));
    assert_eq!(image(&daemon, "web"), "localhost/other:2");
}

#[test]
fn update_that_fails_leaves_what_was_there() {
    let daemon = daemon("[]", "");
    ctl(&daemon, 0, &["apply", "-f", &document(&daemon, "web", QUICK)]);
    let (_, err) = ctl(&daemon, 1, &["update", "-f", &document(&daemon, "web", MISSING)]);
    assert!(err.contains("error: update of web failed"), "{err}");
    assert_eq!(image(&daemon, "web"), QUICK);
    let (_, err) = ctl(&daemon, 3, &["update", "nowhere"]);
    assert!(err.contains("WORKLOAD_NOT_FOUND"), "{err}");
}

const PACKAGE: &str = "apiVersion: v1\nkind: Package\nmetadata: {name: p}\nspec:\n  pattern: [{type: plain}]\n  \
    models: [{name: good, node: test}, {name: bad, node: test}]\n";

fn model(name: &str, image: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Model\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  \
         containers: [{{name: main, image: '{image}', command: [sh, -c, 'sleep 1000']}}]\n"
    )
}

#[test]
fn partial_action_tells_each_workload_that_failed_and_the_others_go_on() {
    let daemon = daemon("[]", "");
    let text = format!("{PACKAGE}{}{}", model("good", QUICK), model("bad", MISSING));
    let package = file(&daemon, "package.yaml", &text);
    let package = package.to_str().unwrap();
    ctl(&daemon, 1, &["apply", "-f", package]);
    assert!(workload(&daemon, "good").is_err(), "as a whole it is undone");
    let (out, err) = ctl(&daemon, 1, &["apply", "-f", package, "--partial"]);
    assert_eq!(out, "");
    assert!(err.contains("error: launch of p failed: one workload did not succeed\n  failed: bad: "), "{err}");
    assert_eq!(image(&daemon, "good"), QUICK);
    let (out, _) = ctl(&daemon, 1, &["update", "-f", package, "--partial", "-o", "json"]);
    let outcome: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&outcome["failed"][0]["name"], &outcome["failed"][1]), (&"bad".into(), &serde_json::Value::Null));
    assert_eq!(outcome["failed"][0]["error"]["code"], "IMAGE_UNAVAILABLE", "{outcome}");
}

#[test]
fn offload_moves_to_the_node_named_and_refuses_a_source_that_is_wrong() {
    let running: Arc<Mutex<Vec<String>>> = Arc::default();
    let agent: StandIn = peers::node_agent(Arc::clone(&running));
    let daemon = DaemonProcess::start(|folder| {
        settings(folder, "[]", &format!("nodes: {{ZONE1: {{node_agent: '{}'}}}}\n", agent.address()))
    });
    ctl(&daemon, 0, &["apply", "-f", &document(&daemon, "web", QUICK)]);
    let (_, err) = ctl(&daemon, 3, &["offload", "web", "--to", "ZONE1", "--from", "ZONE2"]);
    assert!(err.contains("ZONE2"), "{err}");
    assert_eq!(image(&daemon, "web"), QUICK);
    let (out, _) = ctl(&daemon, 0, &["plan", "offload", "web", "--to", "ZONE1"]);
    assert!(out.contains("ZONE1"), "{out}");
    assert!(running.lock().unwrap().is_empty());
    let (out, _) = ctl(&daemon, 0, &["offload", "web", "--to", "ZONE1"]);
    assert!(out.starts_with("web moved in "), "{out}");
    assert_eq!(*running.lock().unwrap(), ["web"]);
    let (_, err) = ctl(&daemon, 1, &["offload", "web", "--to", "NOWHERE", "--from", "ZONE1"]);
    assert!(err.contains("NOWHERE"), "{err}");
    assert_eq!(*running.lock().unwrap(), ["web"], "it runs where it was");
}
