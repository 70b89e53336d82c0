//! Verbs that replace and move workloads, and actions that take each workload by itself: what arrives at the daemon, and
//! what is told.

use actioncontroller::proto::actions::{ActionSpec, Verb};

use super::double::Double;
use super::{ask, run, write};

/// The actions that were asked for.
fn asked(double: &Double) -> Vec<ActionSpec> {
    double.executed().into_iter().map(|request| request.action.unwrap()).collect()
}

#[test]
fn update_takes_documents_or_names_of_stored_ones() {
    let double = Double::start();
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "web.yaml", "kind: Pod\nmetadata: {name: web}\n");
    let file = folder.path().join("web.yaml");
    let ended = ask(&double, &["update", "-f", file.to_str().unwrap(), "--partial"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "web updated in 1.24 s\n"), "{}", ended.err);
    let ended = ask(&double, &["update", "web", "lane"]);
    assert_eq!(ended.text(), "web updated in 1.24 s\nlane updated in 1.24 s\n", "{}", ended.err);
    let asked = asked(&double);
    assert!(asked.iter().all(|spec| spec.verb == Verb::VERB_UPDATE.into()));
    let told: Vec<_> = asked.iter().map(|spec| (&*spec.target, &*spec.manifest, spec.parameters.partial)).collect();
    let document = "kind: Pod\nmetadata: {name: web}\n";
    assert_eq!(told, [("web", document, true), ("web", "", false), ("lane", "", false)]);
}

#[test]
fn update_of_nothing_or_of_both_is_a_wrong_command_line() {
    for arguments in [&["update"][..], &["update", "web", "-f", "x.yaml"]] {
        let ended = run(arguments);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.err);
    }
    assert!(run(&["update"]).err.contains("hint: write actionctl update -f FILE"), "{}", run(&["update"]).err);
}

#[test]
fn rollback_takes_names() {
    let double = Double::start();
    let ended = ask(&double, &["rollback", "web", "lane"]);
    assert_eq!(ended.text(), "web rolled back in 1.24 s\nlane rolled back in 1.24 s\n", "{}", ended.err);
    assert!(asked(&double).iter().all(|spec| spec.verb == Verb::VERB_ROLLBACK.into() && spec.manifest.is_empty()));
}

#[test]
fn offload_names_its_nodes() {
    let double = Double::start();
    let ended = ask(&double, &["offload", "web", "--to", "ZONE1", "--from", "HPC"]);
    assert_eq!((ended.code, ended.text().as_str()), (Some(0), "web moved in 1.24 s\n"), "{}", ended.err);
    let spec = asked(&double).remove(0);
    assert_eq!((spec.verb.enum_value(), spec.target.as_str()), (Ok(Verb::VERB_OFFLOAD), "web"));
    assert_eq!((spec.parameters.target_node.as_str(), spec.parameters.source_node.as_str()), ("ZONE1", "HPC"));
    assert_eq!(run(&["offload", "web"]).code, Some(2));
    assert_eq!(ask(&double, &["plan", "offload", "web", "--to", "ZONE1"]).code, Some(0));
}

#[test]
fn each_workload_that_failed_is_told_with_reason_and_hint_and_the_code_is_failure() {
    let double = Double::start();
    let ended = ask(&double, &["start", "partly", "--partial"]);
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert!(asked(&double)[0].parameters.partial);
    let told = "error: start of partly failed: one workload did not succeed\n  \
                failed: log: the image is nowhere (IMAGE_UNAVAILABLE)\n  hint: log: name another image\n";
    assert!(ended.err.contains(told), "{}", ended.err);
    for verb in ["stop", "terminate", "rm", "kill", "restart", "pause", "resume", "rollback", "update"] {
        assert_eq!(ask(&double, &[verb, "partly", "--partial"]).code, Some(1), "{verb}");
    }
    assert!(asked(&double).iter().all(|spec| spec.parameters.partial));
}

#[test]
fn workloads_that_failed_have_the_fields_of_the_api_for_programs() {
    let double = Double::start();
    let json = ask(&double, &["stop", "partly", "--partial", "--id", "a-1", "-o", "json"]);
    assert_eq!(json.code, Some(1));
    let json: serde_json::Value = serde_json::from_slice(&json.out).unwrap();
    assert_eq!(json["failed"][0]["name"], "log");
    assert_eq!(json["failed"][0]["error"]["code"], "IMAGE_UNAVAILABLE");
    let yaml = ask(&double, &["stop", "partly", "--partial", "--id", "a-1", "-o", "yaml"]).text();
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), json, "{yaml}");
    let shown = ask(&double, &["get", "action", "a-1"]).text();
    assert!(shown.contains("Failed:\n  WORKLOAD   CODE"), "{shown}");
}
