//! Pods and Deployments, and what YAML allows in them.

use actioncontroller::proto::actions::Verb;
use serde_json::{Value, json};

use super::{created, launched, on_engine, pod, refusal, warning};
use crate::support::daemon::{DaemonProcess, on_target};

#[test]
fn pod_runs_its_init_containers_to_completion_first() {
    let daemon = DaemonProcess::on_sim();
    let init = "  initContainers:\n  - {name: prepare, image: 'localhost/busybox:1', command: [sh, -c, 'exit 0'], \
                volumeMounts: [{name: cache, mountPath: /cache}]}\n";
    let volumes = "  volumes: [{name: cache, emptyDir: {}}, {name: kept, persistentVolumeClaim: {claimName: kept}}]\n";
    let mounts = ", volumeMounts: [{name: cache, mountPath: /cache, readOnly: true}, {name: kept, mountPath: /kept}]";
    let done = launched(&daemon, &pod("camera", mounts, &format!("{init}{volumes}")));
    let place = |title: &str| done.steps.iter().position(|step| step.title.contains(title));
    let (init, main) = (place("start camera_prepare"), place("start camera_main"));
    assert!(init.is_some() && init < main, "{:?}", done.steps);
    assert_eq!(done.workloads[0].container_ids.len(), 2);
    let main = created(&daemon, "camera_main");
    let destinations: Vec<&Value> = main["spec"]["mounts"].as_array().unwrap().iter().map(|one| &one["path"]).collect();
    assert_eq!(destinations, [&json!("/cache"), &json!("/kept")]);

    let failing = pod(
        "broken",
        "",
        "  initContainers:\n  - {name: prepare, image: 'localhost/busybox:1', command: [sh, -c, 'exit 3']}\n",
    );
    let (_, failed) = refusal(daemon.launch(&failing));
    assert_eq!(failed.error.code, "CONTAINER_EXITED", "{:?}", failed.error);
    assert!(!on_engine(&daemon).keys().any(|name| name.starts_with("broken_")));
}

#[test]
fn deployment_is_its_template_under_its_own_name() {
    let daemon = DaemonProcess::on_sim();
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  replicas: 1\n  \
        selector: {matchLabels: {app: web}}\n  template:\n    metadata: {labels: {app: web}}\n    spec:\n      \
        containers: [{name: httpd, image: 'busybox:1.36'}]\n";
    let done = launched(&daemon, text);
    assert_eq!(done.workloads[0].name, "web");
    assert!(done.warnings.is_empty(), "{:?}", done.warnings);
    assert_eq!(created(&daemon, "web_httpd")["labels"]["app"], "web");
}

// req: BM-03
#[test]
fn replicas_of_a_deployment_are_workloads_that_are_acted_on_by_its_name() {
    let daemon = DaemonProcess::on_sim();
    let text = |replicas: u32| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec:\n  replicas: {replicas}\n  \
             template:\n    spec:\n      containers: [{{name: httpd, image: 'busybox:1.36'}}]\n"
        )
    };
    launched(&daemon, &text(2));
    let grown = launched(&daemon, &text(3));
    assert!(grown.steps.iter().all(|step| !step.title.contains("web-1_")), "{:?}", grown.steps);
    let names = || on_engine(&daemon).keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(), ["web-1_httpd", "web-2_httpd", "web-3_httpd"]);
    // Fewer would leave one behind that nobody described any more.
    let (_, refused) = refusal(daemon.launch(&text(2)));
    assert_eq!((refused.error.code.as_str(), refused.error.field.as_str()), ("WORKLOAD_DIFFERS", "target"));
    assert!(refused.error.message.contains("'web-3'") && refused.error.hint.contains("terminate web-3"));
    assert!(daemon.execute(on_target(Verb::VERB_TERMINATE, "web-3")).unwrap().changed);
    assert!(!launched(&daemon, &text(2)).changed);
    assert!(daemon.execute(on_target(Verb::VERB_TERMINATE, "web")).unwrap().changed);
    assert!(names().is_empty());
}

#[test]
fn dashes_inside_a_block_scalar_do_not_end_the_document() {
    let daemon = DaemonProcess::on_sim();
    let value = "first\n---\nkind: Pod\n---\nlast\n";
    let indented = value.replace('\n', "\n        ");
    let one = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: scalar}}\nspec:\n  containers:\n  - name: main\n    \
         image: localhost/busybox:1\n    env:\n    - name: TEXT\n      value: |\n        {}\n",
        indented.trim_end()
    );
    let done = launched(&daemon, &format!("{one}---\n{}", pod("second", "", "")));
    assert_eq!(done.workloads.len(), 2);
    assert_eq!(created(&daemon, "scalar_main")["spec"]["env"][0]["value"], value);
    assert!(on_engine(&daemon).contains_key("second_main"));
}

#[test]
fn null_is_as_absent_and_json_is_yaml() {
    let daemon = DaemonProcess::on_sim();
    let nulls = ", env: null, ports: ~, resources: null, volumeMounts: null, securityContext: null, args: ";
    launched(&daemon, &pod("nulls", nulls, "  volumes: null\n  nodeSelector: null\n"));
    let spec = &created(&daemon, "nulls_main")["spec"];
    assert_eq!((&spec["env"], &spec["ports"], &spec["args"]), (&json!([]), &json!([]), &json!([])));
    launched(&daemon, include_str!("../../fixtures/pod.json"));
}

#[test]
fn quantities_mean_the_same_quoted_or_not() {
    let daemon = DaemonProcess::on_sim();
    for (number, (cpu, memory, millis, bytes)) in [
        ("500m", "256Mi", 500, 256_i64 << 20),
        ("'500m'", "'256Mi'", 500, 256 << 20),
        ("1.5", "64M", 1500, 64_000_000),
        ("'1.5'", "'64M'", 1500, 64_000_000),
        ("2", "134217728", 2000, 134_217_728),
        ("'2'", "'134217728'", 2000, 134_217_728),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("quantity-{number}");
        launched(&daemon, &pod(&name, &format!(", resources: {{limits: {{cpu: {cpu}, memory: {memory}}}}}"), ""));
        let resources = &created(&daemon, &format!("{name}_main"))["spec"]["resources"];
        let found = (resources["cpu_millis"].as_i64(), resources["memory_bytes"].as_i64());
        assert_eq!(found, (Some(millis), Some(bytes)), "cpu {cpu}, memory {memory}");
    }
    let (_, refused) = refusal(daemon.launch(&pod("bad", ", resources: {limits: {memory: 1Xi}}", "")));
    assert_eq!(refused.error.field, "spec.containers[0].resources.limits.memory");
    assert_eq!(refused.error.code, "INVALID_MANIFEST");
}

#[test]
fn unknown_fields_are_warned_about_and_known_ones_without_effect_refused() {
    let daemon = DaemonProcess::on_sim();
    let done = launched(&daemon, &pod("odd", ", colour: red", "  shape: round\n"));
    assert_eq!(warning(&done, "spec.containers[0].colour").line, 6);
    assert_eq!(warning(&done, "spec.shape").line, 7);
    let (_, refused) = refusal(daemon.launch(&pod("kata", "", "  runtimeClassName: kata\n")));
    let error = (refused.error.code.as_str(), refused.error.field.as_str());
    assert_eq!(error, ("UNSUPPORTED_FIELD", "spec.runtimeClassName"));
    assert!(refused.error.message.contains("line 7"), "{}", refused.error.message);
}
