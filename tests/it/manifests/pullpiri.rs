//! Pullpiri's documents, one of each kind.

use actioncontroller::proto::workloads::GetWorkloadRequest;
use grpcio::RpcStatusCode;
use serde_json::json;

use super::{PULLPIRI, created, on_engine, refusal, warning, without_schedule};
use crate::support::daemon::{DaemonProcess, launch, options, with_sim};

/// A daemon whose ceiling allows the host path of the documents.
fn daemon() -> DaemonProcess {
    DaemonProcess::start(|folder| format!("{}security: {{host_paths: [{{path: /var/lib/lane}}]}}\n", with_sim(folder)))
}

#[test]
fn package_with_a_schedule_is_refused_without_effect_unless_it_is_given_up() {
    let daemon = daemon();
    let (code, refused) = refusal(daemon.launch(PULLPIRI));
    assert_eq!((code, refused.error.code.as_str()), (RpcStatusCode::INVALID_ARGUMENT, "UNSUPPORTED_FIELD"));
    assert_eq!(refused.error.field, "spec.schedule");
    assert!(refused.error.hint.contains("--ignore schedule"), "{:?}", refused.error);
    assert!(on_engine(&daemon).is_empty());
    // Nothing was kept of a launch that was refused.
    let (code, _) = refusal(daemon.execute(without_schedule(launch_of("lane-keep"))));
    assert_eq!(code, RpcStatusCode::NOT_FOUND);

    let done = daemon.execute(without_schedule(launch(PULLPIRI))).unwrap();
    assert_eq!((done.target.as_str(), done.changed), ("lane-keep", true));
    assert_eq!(done.workloads[0].name, "lane-core");
}

#[test]
fn what_has_no_effect_yet_is_warned_about_with_its_place() {
    let daemon = daemon();
    let done = daemon.execute(without_schedule(launch(PULLPIRI))).unwrap();
    for (path, words) in [
        ("spec.condition", "not evaluated"),
        ("spec.schedule", "ignored"),
        ("spec.policy", "lane-keep-policy"),
        ("spec.models[0].node", "'HPC'"),
        ("spec.probeConfig.liveness", "do not act yet"),
    ] {
        let found = warning(&done, path);
        assert!(found.message.contains(words) && found.line > 0, "{found:?}");
    }
}

#[test]
fn model_reaches_the_engine_whole() {
    let daemon = daemon();
    daemon.execute(without_schedule(launch(PULLPIRI))).unwrap();
    let core = created(&daemon, "lane-core_core");
    let spec = &core["spec"];
    assert_eq!(spec["image"], "registry.local/lane/core:1.4");
    assert_eq!((&spec["command"], &spec["args"]), (&json!(["/opt/lane"]), &json!(["--rate", "50"])));
    assert_eq!(spec["env"][0]["value"], "track");
    assert_eq!(
        (&spec["resources"]["cpu_millis"], &spec["resources"]["memory_bytes"]),
        (&json!(1500), &json!(256 << 20))
    );
    assert_eq!(spec["security"]["drop_capabilities"], json!(["ALL"]));
    assert_eq!(spec["security"]["add_capabilities"], json!(["SYS_NICE"]));
    assert_eq!(core["labels"]["app"], "lane-core");
    assert_eq!(core["labels"]["actioncontroller.io/workload"], "lane-core");
    assert_eq!(core["annotations"]["io.example.owner"], "adas");
    assert!(core["mounts"].to_string().contains("/var/lib/lane"), "{}", core["mounts"]);
    let request = GetWorkloadRequest { name: "lane-core".into(), ..Default::default() };
    let workload = daemon.workloads().get_workload(&request, options()).unwrap();
    assert_eq!(workload.package, "lane-keep-pkg");
}

#[test]
fn volume_document_gives_a_model_what_it_mounts() {
    let daemon = daemon();
    // The Model has no volumes of its own here: they are the Volume document's alone.
    let documents = PULLPIRI.replace("  volumes: [{name: calib, hostPath: {path: /var/lib/lane}}]\n  probe", "  probe");
    assert_ne!(documents, PULLPIRI);
    daemon.execute(without_schedule(launch(&documents))).unwrap();
    let mounts = &created(&daemon, "lane-core_core")["mounts"];
    assert!(mounts.to_string().contains("/var/lib/lane"), "{mounts}");
}

fn launch_of(target: &str) -> actioncontroller::proto::actions::ActionSpec {
    crate::support::daemon::on_target(actioncontroller::proto::actions::Verb::VERB_LAUNCH, target)
}
