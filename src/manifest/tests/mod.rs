//! Documents as they come in the field, read to workloads: what holds for every kind. What belongs to one format is
//! in its own file.

mod compose;
mod kubernetes;
mod oci;
mod pullpiri;
mod replicas;
mod unit;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::error::{Error, ErrorCode};
use crate::model::action::{Ignorable, Verb};
use crate::model::workload::WorkloadSpec;

const PULLPIRI: &str = include_str!("../../../tests/fixtures/pullpiri.yaml");
const KUBERNETES: &str = include_str!("../../../tests/fixtures/kubernetes.yaml");
const JSON: &str = include_str!("../../../tests/fixtures/pod.json");

fn bundle(text: &str) -> Bundle {
    Bundle::parse(text, &Limits::default()).unwrap()
}

fn refusal(text: &str) -> ManifestError {
    match Bundle::parse(text, &Limits::default()) {
        Ok(bundle) => expand(&bundle, "").unwrap_err(),
        Err(error) => error,
    }
}

fn expand(bundle: &Bundle, target: &str) -> Result<Expansion, ManifestError> {
    bundle.expand(&ExpandOptions::new(Verb::Launch, target, "HPC", &BTreeSet::new()))
}

fn without_schedule(bundle: &Bundle, target: &str) -> Result<Expansion, ManifestError> {
    let ignore = BTreeSet::from([Ignorable::Schedule]);
    bundle.expand(&ExpandOptions::new(Verb::Launch, target, "HPC", &ignore))
}

fn one(text: &str) -> WorkloadSpec {
    expand(&bundle(text), "").unwrap().workloads.remove(0)
}

/// A Pod whose specification is `spec` (flow style) beside one container.
fn pod(spec: &str) -> String {
    format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers: [{{name: c, image: i}}]\n{spec}")
}

/// A Pod whose container has `fields`.
fn container(fields: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: p}}\nspec:\n  containers:\n  - name: c\n    image: i\n{fields}"
    )
}

fn path_and_line(error: &ManifestError) -> (&str, u32) {
    (&error.path, error.line)
}

fn stored(text: &str) -> Stored {
    Stored { text: text.to_owned(), pod: None }
}

#[test]
fn kept_text_of_another_document_is_refused() {
    let mut bundle = bundle("");
    assert!(bundle.add(Kind::Pod, "other", &stored(&pod(""))).is_err());
    assert!(bundle.is_empty());
    assert!(bundle.add(Kind::Pod, "p", &stored("")).is_err());
    assert!(bundle.add(Kind::Pod, "p", &stored(&pod(""))).is_ok());
    assert!(bundle.add(Kind::Pod, "p", &stored(&pod(""))).is_err());
}

#[test]
fn several_workloads_without_target_are_all_taken() {
    let expansion = expand(&bundle(KUBERNETES), "").unwrap();
    assert_eq!(expansion.target, "camera,web");
    let web = &expansion.workloads[1];
    assert_eq!((web.labels["app"].as_str(), web.grace_ms), ("web", Some(5000)));
    let both = format!("{PULLPIRI}---\n{KUBERNETES}");
    let error = expand(&bundle(&both), "").unwrap_err();
    assert!(error.message.contains("Scenario 'lane-keep'") && error.hint.contains("target"), "{error}");
}

#[test]
fn unknown_fields_are_warned_about_with_path_and_line() {
    let text = container("    colour: red\n  probeConfig: {}\nextra: 1\n");
    let expansion = expand(&bundle(&text), "").unwrap();
    let places: Vec<_> = expansion.warnings.iter().map(|warning| (warning.path.as_str(), warning.line)).collect();
    assert_eq!(places, [("spec.containers[0].colour", 8), ("spec.probeConfig", 9), ("extra", 10)]);
    assert!(expansion.warnings[0].message.starts_with("Pod 'p': unknown field 'colour'"));
}

#[test]
fn wrong_values_are_refused_with_their_place() {
    for (text, path, words) in [
        (container("    command: x\n"), "spec.containers[0].command", "must be a list"),
        (container("    tty: \"true\"\n"), "spec.containers[0].tty", "true or false"),
        (container("    ports: [{containerPort: 70000}]\n"), "spec.containers[0].ports[0].containerPort", "65535"),
        (container("    ports: [{hostPort: 0}]\n"), "spec.containers[0].ports[0].containerPort", "missing"),
        (container("    ports: [{containerPort: 1, hostIP: x}]\n"), "spec.containers[0].ports[0].hostIP", "IP"),
        (container("    env: [{name: A=B}]\n"), "spec.containers[0].env[0].name", "'='"),
        (container("    workingDir: x\n"), "spec.containers[0].workingDir", "absolute"),
        (container("    resources: {limits: {cpu: 1x}}\n"), "spec.containers[0].resources.limits.cpu", "quantity"),
        (container("    resources: {limits: {memory: 0}}\n"), "spec.containers[0].resources.limits", "above 0"),
        (
            container("    resources: {limits: {cpu: 1}, requests: {cpu: 2}}\n"),
            "spec.containers[0].resources.requests",
            "limit",
        ),
        (container("    imagePullPolicy: Sometimes\n"), "spec.containers[0].imagePullPolicy", "none of"),
        (container("    args: [null]\n"), "spec.containers[0].args[0]", "null"),
        (
            container("    securityContext: {capabilities: {add: [\"\"]}}\n"),
            "spec.containers[0].securityContext.capabilities.add[0]",
            "capability",
        ),
        (container("    securityContext: {runAsUser: -1}\n"), "spec.containers[0].securityContext.runAsUser", "from 0"),
        (
            container("    securityContext: {runAsNonRoot: true, runAsUser: 0}\n"),
            "spec.containers[0].securityContext",
            "0",
        ),
        (pod("").replace("image: i", "image: I"), "spec.containers[0].image", "image reference"),
        (pod("").replace("name: c", "name: c_d"), "spec.containers[0].name", "a-z"),
        (pod("").replace("{name: p}", "{name: P}"), "metadata.name", "a-z"),
        (pod("").replace("{name: p}", "{}"), "metadata.name", "missing"),
        (pod("").replace("apiVersion: v1", "apiVersion: v2"), "apiVersion", "needs v1"),
        (pod("").replace("kind: Pod", "kind: Job"), "kind", "none of Pod, Deployment"),
        (pod("  terminationGracePeriodSeconds: -1\n"), "spec.terminationGracePeriodSeconds", "from 0"),
        (pod("  volumes: [{name: v}]\n"), "spec.volumes[0]", "no source"),
        (pod("  volumes: [{name: v, emptyDir: {}, hostPath: {path: /a}}]\n"), "spec.volumes[0]", "more than one"),
        (pod("  volumes: [{name: v, hostPath: {path: /a/../b}}]\n"), "spec.volumes[0].hostPath.path", "'..'"),
        (pod("  volumes: [{name: v, emptyDir: {}}, {name: v, emptyDir: {}}]\n"), "spec.volumes[1].name", "twice"),
        ("- a\n".to_owned(), "", "must be a mapping"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\n".to_owned(), "spec", "missing"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {}\n".to_owned(), "spec.containers", "missing"),
    ] {
        let error = refusal(&text);
        assert_eq!((error.path.as_str(), error.kind), (path, ManifestErrorKind::Invalid), "{error}");
        assert!(error.message.contains(words) && error.line > 0, "{error}");
    }
}

#[test]
fn two_documents_of_one_name_are_refused() {
    let error = Bundle::parse(&format!("{}---\n{}", pod(""), pod("")), &Limits::default()).unwrap_err();
    assert!(error.message.contains("Pod 'p' has this name already"), "{error}");
    let model = pod("").replace("kind: Pod", "kind: Model");
    assert!(Bundle::parse(&format!("{}---\n{model}", pod("")), &Limits::default()).is_err());
}

#[test]
fn no_document_and_no_target_is_an_error() {
    assert!(expand(&bundle("# nothing\n"), "").unwrap_err().message.contains("no document"));
    let network = "apiVersion: v1\nkind: Network\nmetadata: {name: n}\n";
    assert!(expand(&bundle(network), "").unwrap_err().message.contains("no document describes a workload"));
}

fn many_containers(count: usize) -> String {
    let mut text = String::from("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n");
    for index in 0..count {
        text.push_str(&format!("  - {{name: c{index}, image: busybox}}\n"));
    }
    text
}

#[test]
fn more_containers_than_configured_are_refused_by_name() {
    let error = Error::from(Bundle::parse(&many_containers(2000), &Limits::default()).unwrap_err());
    assert_eq!(error.code, ErrorCode::LimitExceeded);
    assert!(error.message.contains("max_containers of 256"), "{}", error.message);
    let limits = Limits { max_containers: 2000, ..Limits::default() };
    assert!(Bundle::parse(&many_containers(2000), &limits).is_ok());
    let split = format!("{}---\n{}", many_containers(200), many_containers(200).replace("name: p}", "name: q}"));
    assert!(Bundle::parse(&split, &Limits::default()).unwrap_err().message.contains("400 containers"));
}

#[test]
fn hostile_documents_of_the_largest_size_end_in_bounded_time() {
    let head = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: p\n  annotations:\n";
    let fields: String = (0..40_000).map(|index| format!("    a{index}: b\n")).collect();
    let unknown: String = (0..40_000).map(|index| format!("a{index}: b\n")).collect();
    let long_key = format!("{}: 1\n", "k".repeat(900));
    let long_value = format!("apiVersion: v1\nkind: {}\n", "x".repeat(4_000_000));
    let list = |count: usize, item: &str| -> String {
        (0..count).map(|index| item.replace('#', &format!("{index:x}"))).collect()
    };
    let networks = "actioncontroller.io/networks: \"";
    let networks = format!("{networks}{}a\"", list(300_000, "n#,"));
    let networks = pod("").replace("{name: p}", &format!("{{name: p, annotations: {{{networks}}}}}"));
    let model = |field: &str| {
        let head = "apiVersion: v1\nkind: Model\nmetadata: {name: m}\n";
        format!("{head}spec: {{containers: [{{name: c, image: i}}], {field}}}\n")
    };
    let package = "apiVersion: v1\nkind: Package\nmetadata: {name: p}\n";
    let texts = [
        format!("{head}{fields}spec: {{containers: [{{name: c, image: i}}]}}\n"),
        format!("{}{unknown}", pod("")),
        format!("{}{long_key}", pod("")),
        long_value,
        many_containers(110_000),
        container(&format!("    args: [\"{}\"]\n", "$(".repeat(1_900_000))),
        container(&format!("    env: [{}]\n", "{name: A, value: a$(A)}, {name: B}, ".repeat(8_000))),
        container(&format!("    ports: [{}]\n", list(9_000, "{containerPort: 1, hostPort: 1, hostIP: '::#'}, "))),
        container(&format!("    securityContext: {{capabilities: {{add: [{}]}}}}\n", list(60_000, "A#, "))),
        pod("").replace("{name: p}", &format!("{{name: p, labels: {{a: {}}}}}", "x".repeat(4_000_000))),
        networks,
        model(&format!("networks: [{}]", list(30_000, "{name: n#}, "))),
        format!("{package}spec: {{models: [{}]}}\n", list(20_000, "{name: m#, node: n}, ")),
    ];
    for text in texts {
        let begun = Instant::now();
        let expansion = Bundle::parse(&text, &Limits::default()).and_then(|bundle| expand(&bundle, ""));
        if let Err(error) = &expansion {
            assert!(error.to_string().len() < 600, "{error}");
        }
        if let Ok(Expansion { warnings, .. }) = expansion {
            assert!(warnings.len() < 100);
            assert!(warnings.iter().all(|warning| warning.message.len() < 400 && warning.path.len() < 400));
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?} {}", begun.elapsed(), &text[..100]);
    }
    let error = Bundle::parse(&"x".repeat(4 * 1024 * 1024 + 1), &Limits::default()).unwrap_err();
    assert!(error.message.contains("max_bytes of 4194304"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_changes_of_good_documents_never_panic(
        position in 0_usize..4000,
        cut in 0_usize..40,
        insert in "[-a-z0-9:{}\\[\\],&*!|>'\"#~/ \\n]{0,12}",
        which in 0_usize..3,
    ) {
        let mut text = [PULLPIRI, KUBERNETES, JSON][which].to_owned();
        let start = (0..=position.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let end = (start + cut..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text.replace_range(start..end.max(start), &insert);
        if let Ok(bundle) = Bundle::parse(&text, &Limits::default()) {
            let _ = without_schedule(&bundle, "");
            let _ = bundle.missing("");
        }
    }
}

#[test]
fn examples_that_are_shipped_are_read() {
    for (text, names) in [
        (
            include_str!("../../../config/examples/compose.yaml"),
            vec!["dashboard-fill", "dashboard-store", "dashboard-display"],
        ),
        (include_str!("../../../config/examples/bundle.json"), vec!["lamp"]),
        (include_str!("../../../config/examples/lamp.service"), vec!["lamp"]),
        (include_str!("../../../config/examples/pod.yaml"), vec!["counter"]),
    ] {
        let expansion = expand(&bundle(text), "").unwrap();
        let found: Vec<&str> = expansion.workloads.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(found, names);
        assert!(expansion.warnings.is_empty(), "{:?}", expansion.warnings);
    }
}
