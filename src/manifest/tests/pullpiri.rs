//! Scenario, Package, Model and what they name.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::model::schedule::{MissPolicy, MissStrategy};
use crate::model::workload::{
    HostPathKind, ManifestFormat, NetworkMode, PortSpec, ProbeAction, Protocol, RestartPolicy, VolumeSource,
};

#[test]
fn every_kind_of_pullpiri_is_read_and_kept_word_for_word() {
    let bundle = bundle(PULLPIRI);
    let kinds: Vec<Kind> = bundle.documents().map(|document| document.kind).collect();
    let all = [
        Kind::Scenario,
        Kind::Package,
        Kind::Model,
        Kind::Volume,
        Kind::Network,
        Kind::Node,
        Kind::Policy,
        Kind::Schedule,
    ];
    assert_eq!(kinds, all);
    assert_eq!(bundle.documents().map(|document| document.text).collect::<String>(), PULLPIRI);
    for document in bundle.documents() {
        let alone = Bundle::parse(document.text, &Limits::default()).unwrap();
        let found = alone.documents().next().unwrap();
        assert_eq!((found.kind, found.name), (document.kind, document.name));
    }
}

#[test]
fn scenario_becomes_the_workloads_of_its_package() {
    let expansion = without_schedule(&bundle(PULLPIRI), "").unwrap();
    assert_eq!(expansion.target, "lane-keep");
    assert_eq!(expansion.names, ["lane-keep", "lane-keep-pkg", "lane-core"]);
    let [spec] = expansion.workloads.as_slice() else { panic!() };
    assert_eq!((spec.name.as_str(), spec.package.as_str()), ("lane-core", "lane-keep-pkg"));
    assert_eq!((spec.scenario.as_str(), spec.policy.as_str()), ("lane-keep", "lane-keep-policy"));
    assert_eq!((spec.node.as_str(), spec.format), ("HPC", ManifestFormat::Pullpiri));
    assert_eq!((spec.restart_policy, spec.grace_ms), (RestartPolicy::Always, Some(5000)));
    assert_eq!(spec.network, NetworkMode::Host);
    assert_eq!(spec.annotations["io.example.owner"], "adas");
    let calib = VolumeSource::HostPath { path: "/var/lib/lane".into(), kind: HostPathKind::Any };
    assert_eq!(spec.volumes, BTreeMap::from([("calib".to_owned(), calib)]));
    let core = &spec.containers[0];
    assert_eq!((core.resources.cpu_millis, core.resources.memory_bytes), (Some(1500), Some(256 << 20)));
    assert!(!core.tty);
    assert_eq!(core.security.drop_capabilities, BTreeSet::from(["ALL".to_owned()]));
    assert_eq!(core.security.add_capabilities, BTreeSet::from(["SYS_NICE".to_owned()]));
    let probe = core.liveness.as_ref().unwrap();
    assert_eq!((&probe.action, probe.period_s, probe.failure_threshold), (&ProbeAction::Tcp { port: 9000 }, 5, 3));
    // In the host's network nothing is published.
    let port = PortSpec { host_ip: String::new(), host_port: None, container_port: 9000, protocol: Protocol::Tcp };
    assert_eq!(core.ports, [port]);
}

#[test]
fn condition_schedule_policy_and_probe_are_warned_about() {
    let expansion = without_schedule(&bundle(PULLPIRI), "lane-keep").unwrap();
    for (path, words) in [
        ("spec.condition", "not evaluated"),
        ("spec.schedule", "ignored"),
        ("spec.policy", "by its name only"),
        ("spec.probeConfig.liveness", "do not act yet"),
    ] {
        let warning = expansion.warnings.iter().find(|warning| warning.path == path);
        let warning = warning.unwrap_or_else(|| panic!("no warning at {path}: {:?}", expansion.warnings));
        assert!(warning.message.contains(words) && warning.line > 0, "{warning:?}");
    }
    assert_eq!(expansion.warnings.len(), 4, "{:?}", expansion.warnings);
}

#[test]
fn schedule_of_a_package_is_refused_unless_given_up() {
    let error = Error::from(expand(&bundle(PULLPIRI), "").unwrap_err());
    assert_eq!((error.code, error.field.as_str()), (ErrorCode::UnsupportedField, "spec.schedule"));
    assert!(error.hint.contains("--ignore schedule"));
    assert!(error.message.contains("Package 'lane-keep-pkg', line 16"), "{}", error.message);
}

#[test]
fn models_meant_for_another_node_run_here_with_a_warning() {
    let bundle = bundle(PULLPIRI);
    let ignore = BTreeSet::from([Ignorable::Schedule]);
    let options = ExpandOptions::new(Verb::Launch, "lane-keep-pkg", "ZONE1", &ignore);
    let expansion = bundle.expand(&options).unwrap();
    assert_eq!(expansion.target, "lane-keep-pkg");
    assert_eq!(expansion.workloads[0].scenario, "");
    let warning = expansion.warnings.iter().find(|warning| warning.path == "spec.models[0].node").unwrap();
    assert!(warning.message.contains("'HPC'"), "{}", warning.message);
}

#[test]
fn launch_of_a_scenario_with_another_action_is_refused_naming_both() {
    let bundle = bundle(&PULLPIRI.replace("action: launch", "action: terminate"));
    let error = without_schedule(&bundle, "").unwrap_err();
    assert!(error.message.contains("terminate") && error.message.contains("launch"), "{error}");
    assert_eq!(error.path, "spec.action");
    let ignore = BTreeSet::from([Ignorable::Schedule]);
    let options = ExpandOptions::new(Verb::Terminate, "", "HPC", &ignore);
    assert!(bundle.expand(&options).is_ok());
}

#[test]
fn documents_that_are_named_are_wanted_and_taken_from_where_they_are_kept() {
    let kept = bundle(PULLPIRI);
    let find = |wanted: &[(Kind, &str)]| -> Result<Vec<Option<Stored>>, ManifestError> {
        let one = |(kind, name): &(Kind, &str)| {
            let found = kept.documents().find(|document| document.kind == *kind && document.name == *name);
            found.map(|document| Stored { text: document.text.to_owned(), pod: None })
        };
        Ok(wanted.iter().map(one).collect())
    };
    let mut empty = bundle("");
    assert_eq!(empty.missing("lane-keep")[0].kinds[0], Kind::Scenario);
    empty.complete("lane-keep", find).unwrap();
    assert_eq!(empty.documents().count(), 0);
    let whole = without_schedule(&kept, "lane-keep").unwrap();
    assert_eq!(without_schedule(&empty, "lane-keep").unwrap().workloads, whole.workloads);
    let absent = |wanted: &[(Kind, &str)]| -> Result<Vec<Option<Stored>>, ManifestError> {
        Ok(wanted.iter().map(|_| None).collect())
    };
    let mut unknown = bundle("");
    unknown.complete("nothing", absent).unwrap();
    let error = Error::from(expand(&unknown, "nothing").unwrap_err());
    assert_eq!(error.code, ErrorCode::WorkloadNotFound);
}

#[test]
fn documents_that_are_named_and_nowhere_are_errors_with_the_place() {
    let parts: Vec<&str> = PULLPIRI.split_inclusive("---\n").collect();
    let bundle = bundle(&format!("{}{}", parts[0], parts[1]));
    let wanted: Vec<String> = bundle.missing("").into_iter().map(|wanted| wanted.name).collect();
    assert_eq!(wanted, ["lane-keep-sched", "lane-core", "lane-vol"]);
    let error = Error::from(without_schedule(&bundle, "").unwrap_err());
    assert_eq!((error.code, error.field.as_str()), (ErrorCode::DocumentNotFound, "spec.models[0].name"));
}

#[test]
fn package_gives_volumes_and_networks_to_its_models() {
    let network = |spec: &str| format!("---\napiVersion: v1\nkind: Network\nmetadata: {{name: net}}\nspec: {spec}\n");
    let text = |spec: &str| {
        let package = "apiVersion: v1\nkind: Package\nmetadata: {name: p}\nspec:\n  models: [{name: m, node: HPC, resources: {network: net, volume: vol}}]\n";
        let model = "---\napiVersion: v1\nkind: Model\nmetadata: {name: m}\nspec:\n  containers: [{name: c, image: i, volumeMounts: [{name: d, mountPath: /d}]}]\n";
        let volume = "---\napiVersion: v1\nkind: Volume\nmetadata: {name: vol}\nspec: {volumes: [{name: d, hostPath: {path: /opt/d}}]}\n";
        format!("{package}{model}{volume}{}", network(spec))
    };
    for (spec, expected) in [
        ("{networkMode: bridge, networkName: front}", NetworkMode::Named(vec!["front".into()])),
        ("{networkMode: bridge}", NetworkMode::Named(vec!["net".into()])),
        ("{networkMode: host}", NetworkMode::Host),
        ("{networkMode: none}", NetworkMode::None),
        ("{dummy: \"\"}", NetworkMode::Bridge),
        ("null", NetworkMode::Bridge),
    ] {
        let spec = one(&text(spec));
        assert_eq!(spec.network, expected);
        assert!(spec.volumes.contains_key("d"));
    }
    assert_eq!(refusal(&text("{networkMode: macvlan}")).kind, ManifestErrorKind::Unsupported);
    assert_eq!(refusal(&text("{networkMode: other}")).kind, ManifestErrorKind::Invalid);
    let clash = text("null").replace("  containers: [{", "  volumes: [{name: d, emptyDir: {}}]\n  containers: [{");
    assert!(refusal(&clash).message.contains("volume 'd' is another one"));
    // Without its Package the Model has no such volume.
    let error = expand(&bundle(&text("null")), "m").unwrap_err();
    assert_eq!(error.path, "spec.containers[0].volumeMounts[0].name");
}

#[test]
fn hosts_network_excludes_named_ones() {
    let model = "apiVersion: v1\nkind: Model\nmetadata: {name: m}\nspec: {hostNetwork: true, networks: [{name: a}], containers: [{name: c, image: i}]}\n";
    assert!(refusal(model).message.contains("excludes network 'a'"));
    let plain = model.replace("hostNetwork: true, ", "");
    assert_eq!(one(&plain).network, NetworkMode::Named(vec!["a".into()]));
    assert_eq!(one(&plain).restart_policy, RestartPolicy::OnFailure);
    assert_eq!(one(&plain).grace_ms, None);
    assert_eq!(bundle(&plain).missing("")[0], Wanted { kinds: vec![Kind::Network], name: "a".into() });
}

#[test]
fn policy_says_what_missed_deadlines_lead_to_and_a_schedule_how_its_tasks_are_released() {
    let policy = |procedure: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Policy\nmetadata: {{name: p}}\nspec: {{placement: {{availableNodes: [A, B]}}{procedure}}}\n"
        );
        bundle(&text).miss_policy("p").cloned()
    };
    let said = |threshold, strategy| Some(MissPolicy { threshold, strategy, nodes: vec!["A".into(), "B".into()] });
    assert_eq!(policy(""), None);
    assert_eq!(
        policy(", procedure: {type: offloading, strategy: stop, trigger: {resourceThreshold: {cpu: 80}}}"),
        None
    );
    assert_eq!(policy(", procedure: {type: realtime, strategy: restart}"), said(None, MissStrategy::Restart));
    let counted =
        ", procedure: {type: offloading, strategy: redeployment, trigger: {deadlineMissThreshold: {count: 5}}}";
    assert_eq!(policy(counted), said(Some(5), MissStrategy::Redeploy));
    let none = counted.replace("offloading", "realtime").replace("count: 5", "count: 0");
    assert_eq!(policy(&none), said(None, MissStrategy::Redeploy));
    for (class, sporadic) in [("", false), ("temporal_class: PERIODIC\n", false), ("temporal_class: SPORADIC\n", true)]
    {
        let text = format!("apiVersion: v1\nkind: Schedule\nmetadata: {{name: s}}\n{class}spec: [{{name: t}}]\n");
        let bundle = bundle(&text);
        assert_eq!(bundle.find(Kind::Schedule, "s").unwrap().body.as_schedule().unwrap().sporadic, sporadic);
    }
}
