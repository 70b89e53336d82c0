//! Docker Compose documents.

use std::collections::BTreeSet;

use super::*;
use crate::model::workload::{
    Dependency, EnvVar, HostPathKind, ManifestFormat, NetworkMode, ProbeAction, Protocol, PullPolicy, RestartPolicy,
    Until, VolumeSource,
};

const SHOP: &str = include_str!("../../../tests/fixtures/compose.yaml");

/// A project with one service, which has these fields (flow style).
fn service(fields: &str) -> String {
    format!("name: shop\nservices:\n  web: {{image: i, {fields}}}\nvolumes: {{data: }}\nnetworks: {{back: }}\n")
}

fn web(fields: &str) -> WorkloadSpec {
    one(&service(fields))
}

#[test]
fn project_is_a_workload_for_each_service_in_the_order_of_their_needs() {
    let expansion = expand(&bundle(SHOP), "").unwrap();
    assert_eq!(expansion.target, "shop");
    let names: Vec<&str> = expansion.workloads.iter().map(|spec| spec.name.as_str()).collect();
    assert_eq!(names, ["shop-migrate", "shop-store", "shop-web-1", "shop-web-2"]);
    assert!(names.iter().all(|name| expansion.names.iter().any(|known| known == name)));
    let [migrate, store, web, _] = expansion.workloads.as_slice() else { panic!() };
    assert!(expansion.workloads.iter().all(|spec| spec.package == "shop" && spec.format == ManifestFormat::Compose));
    let on = |workload: &str, until| Dependency { workload: workload.to_owned(), until };
    assert_eq!(store.depends_on, [on("shop-migrate", Until::Completed)]);
    assert_eq!(web.depends_on, [on("shop-store", Until::Started)]);
    assert_eq!((migrate.restart_policy, store.restart_policy), (RestartPolicy::Never, RestartPolicy::Always));
    assert_eq!(store.network, NetworkMode::Named(vec!["shop_back".into()]));
    assert_eq!(web.network, NetworkMode::Named(vec!["shop_default".into(), "shop_back".into()]));
    assert_eq!(
        (store.aliases.clone(), web.aliases.clone()),
        (vec!["store".to_owned()], vec!["web".to_owned(), "front".to_owned()])
    );
    let volume = VolumeSource::Named { name: "shop_data".into() };
    assert_eq!(store.volumes.values().collect::<Vec<_>>(), [&volume]);
    assert_eq!(
        (store.grace_ms, store.container_name(&store.containers[0].name)),
        (Some(90_000), "shop-store_store".into())
    );
    let container = &web.containers[0];
    assert_eq!(container.args, ["httpd", "-f", "-h", "/www data"]);
    assert_eq!(container.env, [EnvVar { name: "COLOUR".into(), value: "green".into() }]);
    assert_eq!((container.resources.cpu_millis, container.resources.memory_bytes), (Some(500), Some(64 << 20)));
    assert_eq!((container.resources.cpu_shares, container.resources.pids), (Some(256), Some(50)));
    assert_eq!(container.liveness.as_ref().unwrap().period_s, 90);
    assert!(expansion.warnings.iter().any(|warning| warning.path == "services.web.healthcheck" && warning.line > 0));
}

#[test]
fn name_is_the_projects_own_then_the_targets_then_missing() {
    let text = "services: {web: {image: i}}\n";
    let error = refusal(text);
    assert_eq!((error.path.as_str(), error.line > 0), ("name", true), "{error}");
    let named = Bundle::parse_named(text, "folder", &Limits::default()).unwrap();
    assert_eq!(expand(&named, "folder").unwrap().workloads[0].name, "folder-web");
    let own = Bundle::parse_named(&format!("name: ${{X:-own}}\n{text}"), "own", &Limits::default()).unwrap();
    assert_eq!(expand(&own, "own").unwrap().workloads[0].name, "own-web");
    assert!(Bundle::parse_named(text, "My_Folder", &Limits::default()).unwrap_err().message.contains("a-z"));
    // What was kept has the name under which it is kept.
    let mut kept = bundle("");
    kept.add(Kind::Compose, "kept", &stored(text)).unwrap();
    assert_eq!(expand(&kept, "kept").unwrap().workloads[0].name, "kept-web");
    assert!(kept.add(Kind::Compose, "other", &stored(&format!("name: x\n{text}"))).is_err());
}

#[test]
fn fields_take_effect_in_each_of_their_forms() {
    let ports = |fields: &str| web(fields).containers[0].ports.clone();
    let short = ports("ports: ['8080:80', '127.0.0.1:53:53/udp', '[::1]:90-91:90-91'], expose: [7000, '80']");
    let told: Vec<_> = short.iter().map(|port| (port.host_ip.as_str(), port.host_port, port.container_port)).collect();
    let expected = [
        ("", Some(8080), 80),
        ("127.0.0.1", Some(53), 53),
        ("::1", Some(90), 90),
        ("::1", Some(91), 91),
        ("", None, 7000),
    ];
    assert_eq!(told, expected);
    assert_eq!(short[1].protocol, Protocol::Udp);
    let long = ports("ports: [{target: 80, published: '8080', host_ip: 10.0.0.1, protocol: sctp, mode: host}]");
    assert_eq!((long[0].host_port, long[0].protocol), (Some(8080), Protocol::Sctp));

    let spec = web("volumes: ['data:/d:ro', '/srv/x:/x', '/anonymous', {type: tmpfs, target: /t, tmpfs: {size: 1m}}, \
        {type: bind, source: /srv/y, target: /y, read_only: true, bind: {create_host_path: true}}, \
        {type: volume, source: data, target: /s, volume: {subpath: a/b}}], tmpfs: '/run:size=64k'");
    let mounts = &spec.containers[0].mounts;
    let of = |path: &str| mounts.iter().find(|mount| mount.path == path).unwrap();
    let source = |path: &str| &spec.volumes[&of(path).volume];
    assert!(of("/d").read_only && of("/y").read_only && !of("/x").read_only);
    assert_eq!(of("/s").sub_path, "a/b");
    assert_eq!(*source("/d"), VolumeSource::Named { name: "shop_data".into() });
    assert_eq!(*source("/x"), VolumeSource::HostPath { path: "/srv/x".into(), kind: HostPathKind::Any });
    assert_eq!(*source("/y"), VolumeSource::HostPath { path: "/srv/y".into(), kind: HostPathKind::DirectoryOrCreate });
    assert_eq!(*source("/anonymous"), VolumeSource::EmptyDir { memory: false, size_limit_bytes: None });
    assert_eq!(*source("/t"), VolumeSource::EmptyDir { memory: true, size_limit_bytes: Some(1 << 20) });
    assert_eq!(*source("/run"), VolumeSource::EmptyDir { memory: true, size_limit_bytes: Some(64 << 10) });

    for fields in ["environment: {A: 1, B: 'x=y'}", "environment: [A=1, 'B=x=y']"] {
        let env = web(fields).containers[0].env.clone();
        assert_eq!(env.iter().map(|one| one.value.as_str()).collect::<Vec<_>>(), ["1", "x=y"], "{fields}");
    }
    let restart = |word: &str| web(&format!("restart: {word}")).restart_policy;
    assert_eq!(restart("'no'"), RestartPolicy::Never);
    assert_eq!((restart("always"), restart("unless-stopped")), (RestartPolicy::Always, RestartPolicy::Always));
    assert_eq!(restart("on-failure"), RestartPolicy::OnFailure);
    assert_eq!(web("deploy: {restart_policy: {condition: any}}").restart_policy, RestartPolicy::Always);

    let spec = web("user: '1000:50', group_add: ['5'], cap_add: [NET_ADMIN], cap_drop: [ALL], privileged: false, \
        read_only: 'true', security_opt: ['no-new-privileges:true', seccomp=unconfined], devices: ['/dev/a:/dev/b:r', /dev/c], \
        hostname: a.b, working_dir: /w, tty: true, stdin_open: true, ipc: host, pid: host, pull_policy: always, \
        labels: [a=b], annotations: {actioncontroller.io/runtime: podman, x: y, actioncontroller.io/exclusive-cpu-count: 1}, entrypoint: [sh, -c], command: echo 'a b'");
    let container = &spec.containers[0];
    let security = &container.security;
    assert_eq!((security.run_as_user, security.run_as_group), (Some(1000), Some(50)));
    assert!(
        security.read_only_root
            && security.no_new_privileges == Some(true)
            && security.supplemental_groups.contains(&5)
    );
    assert_eq!(security.seccomp_profile.as_deref(), Some("unconfined"));
    assert_eq!((container.devices[0].permissions.as_str(), container.devices[1].permissions.as_str()), ("r", "rwm"));
    assert_eq!((spec.hostname.as_str(), spec.engine.as_str(), container.pull), ("a.b", "podman", PullPolicy::Always));
    assert!(spec.host_ipc && spec.host_pid && container.tty && container.stdin);
    assert_eq!((spec.labels["a"].as_str(), spec.annotations["x"].as_str()), ("b", "y"));
    assert_eq!(spec.cores.unwrap().wanted, crate::model::cores::WantedCores::Count(1));
    assert_eq!(
        (container.command.clone(), container.args.clone()),
        (vec!["sh".to_owned(), "-c".into()], vec!["echo".to_owned(), "a b".into()])
    );

    let probe =
        |test: &str| web(&format!("healthcheck: {{test: {test}, start_period: 1m}}")).containers[0].liveness.clone();
    for test in ["exit 0", "[CMD-SHELL, exit 0]"] {
        let probe = probe(test).unwrap();
        assert_eq!(
            probe.action,
            ProbeAction::Exec { command: ["/bin/sh", "-c", "exit 0"].map(str::to_owned).to_vec() }
        );
        assert_eq!((probe.initial_delay_s, probe.period_s, probe.timeout_s, probe.failure_threshold), (60, 30, 30, 3));
    }
    assert_eq!(probe("[CMD, a, b]").unwrap().action, ProbeAction::Exec { command: vec!["a".into(), "b".into()] });
    assert_eq!(probe("[NONE]"), None);
    assert_eq!(web("network_mode: host").network, NetworkMode::Host);
    assert_eq!(web("networks: [back]").network, NetworkMode::Named(vec!["shop_back".into()]));
}

#[test]
fn what_cannot_take_effect_is_refused_by_path_and_line() {
    let at = |fields: &str| service(fields);
    let top = |text: &str| format!("name: shop\nservices: {{web: {{image: i}}}}\n{text}");
    for (text, path) in [
        (at("environment: [HOME]"), "services.web.environment[0]"),
        (at("environment: {HOME: }"), "services.web.environment.HOME"),
        (at("environment: {A: '${B}'}"), "services.web.environment.A"),
        (at("ports: [80]"), "services.web.ports[0]"),
        (at("ports: ['80-90:80']"), "services.web.ports[0]"),
        (at("ports: [{target: 80}]"), "services.web.ports[0]"),
        (at("ports: ['80:80'], network_mode: host"), "services.web.ports"),
        (at("ports: ['80:80', '80:81']"), "services.web.ports"),
        (at("ports: ['80:80'], scale: 2"), "services.web.ports"),
        (at("scale: 2, deploy: {replicas: 3}"), "services.web.scale"),
        (at("volumes: ['./here:/x']"), "services.web.volumes[0]"),
        (at("volumes: ['other:/x']"), "services.web.volumes[0]"),
        (at("volumes: ['data:/x:z']"), "services.web.volumes[0]"),
        (at("volumes: ['data:/x', '/srv/a:/x/']"), "services.web.volumes[1]"),
        (at("volumes: [{type: npipe, source: a, target: /b}]"), "services.web.volumes[0].type"),
        (at("tmpfs: ['/run:mode=1777']"), "services.web.tmpfs[0]"),
        (at("networks: [other]"), "services.web.networks[0]"),
        (at("networks: {back: {ipv4_address: 10.0.0.1}}"), "services.web.networks.back.ipv4_address"),
        (at("networks: {back: {aliases: [a]}, default: {}}"), "services.web.networks"),
        (at("network_mode: 'service:x'"), "services.web.network_mode"),
        (at("network_mode: none, networks: [back]"), "services.web.networks"),
        (at("depends_on: [other]"), "services.web.depends_on[0]"),
        (at("depends_on: [web]"), "services.web.depends_on"),
        (at("depends_on: {web: {condition: service_healthy}}"), "services.web.depends_on.web.condition"),
        (
            at("depends_on: {web: {condition: service_started, required: false}}"),
            "services.web.depends_on.web.required",
        ),
        (at("restart: 'on-failure:3'"), "services.web.restart"),
        (at("restart: always, deploy: {restart_policy: {condition: none}}"), "services.web.restart"),
        (at("deploy: {placement: {constraints: [a]}}"), "services.web.deploy.placement"),
        (
            at("deploy: {resources: {limits: {cpus: 1}, reservations: {devices: [{}]}}}"),
            "services.web.deploy.resources.reservations.devices",
        ),
        (at("mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}"), "services.web.deploy.resources"),
        (at("user: nobody"), "services.web.user"),
        (at("security_opt: ['label:disable']"), "services.web.security_opt[0]"),
        (at("devices: ['vendor.com/device=gpu']"), "services.web.devices[0]"),
        (at("healthcheck: {interval: 5s}"), "services.web.healthcheck"),
        (at("healthcheck: {test: x, interval: 500ms}"), "services.web.healthcheck.interval"),
        (at("command: []"), "services.web.command"),
        (at("command: a && b"), "services.web.command"),
        (at("stop_signal: SIGINT"), "services.web.stop_signal"),
        (at("colour: red"), "services.web.colour"),
        (at("init: true"), "services.web.init"),
        (at("labels: {actioncontroller.io/node: x}"), "services.web.labels.actioncontroller.io/node"),
        (top("volumes: {v: {external: true}}\n"), "volumes.v.external"),
        (top("volumes: {v: {driver: nfs}}\n"), "volumes.v.driver"),
        (top("networks: {n: {driver_opts: {a: b}}}\n"), "networks.n.driver_opts"),
        (top("networks: {n: {internal: true}}\n"), "networks.n.internal"),
        (top("secrets: {s: {file: a}}\n"), "secrets"),
        (top("colour: red\n"), "colour"),
        ("name: shop\nservices: {}\n".to_owned(), "services"),
        ("name: shop\nservices: {a_b: {image: i}}\n".to_owned(), "services.a_b"),
        (
            "name: shop\nservices: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [a]}}\n".to_owned(),
            "services.a.depends_on",
        ),
        (
            "name: shop\nservices:\n  a: {image: i, ports: ['80:80']}\n  b: {image: i, ports: ['80:81']}\n".to_owned(),
            "services.b.ports",
        ),
    ] {
        let error = refusal(&text);
        assert_eq!(error.path, path, "{error}");
        assert!(error.line > 0 && error.document == "Compose 'shop'", "{error}");
    }
    let (build, extends) = (refusal(&at("build: .")), refusal(&at("extends: {service: x}")));
    assert!(build.hint.contains("image") && !extends.hint.is_empty(), "{build:?}");
}

#[test]
fn extensions_are_ignored_wherever_they_stand() {
    let text = "name: shop\nx-common: {a: '$NOWHERE'}\nservices:\n  x-other: {}\n  web:\n    image: i\n    x-mine: [1]\n    \
        deploy: {x-y: 1, resources: {x-z: 1}}\n    healthcheck: {test: x, x-a: 1}\n";
    let expansion = expand(&bundle(text), "").unwrap();
    assert_eq!(expansion.workloads.len(), 1);
}

/// Every field that a service has in the specification (its schema of 2025), with something to ask for.
const FIELDS: &[(&str, &str)] = &[
    ("annotations", "{a: b}"),
    ("attach", "false"),
    ("blkio_config", "{weight: 300}"),
    ("build", "."),
    ("cap_add", "[NET_ADMIN]"),
    ("cap_drop", "[ALL]"),
    ("cgroup", "host"),
    ("cgroup_parent", "m"),
    ("command", "[a]"),
    ("configs", "[a]"),
    ("container_name", "c"),
    ("cpu_count", "1"),
    ("cpu_percent", "50"),
    ("cpu_period", "1000"),
    ("cpu_quota", "1000"),
    ("cpu_rt_period", "1000"),
    ("cpu_rt_runtime", "1000"),
    ("cpu_shares", "512"),
    ("cpus", "0.5"),
    ("cpuset", "0-1"),
    ("credential_spec", "{file: a}"),
    ("depends_on", "[other]"),
    ("deploy", "{replicas: 2}"),
    ("develop", "{watch: [a]}"),
    ("device_cgroup_rules", "['c 1:3 mr']"),
    ("devices", "[/dev/a]"),
    ("dns", "8.8.8.8"),
    ("dns_opt", "[a]"),
    ("dns_search", "example.com"),
    ("domainname", "d"),
    ("entrypoint", "[a]"),
    ("env_file", ".env"),
    ("environment", "{A: b}"),
    ("expose", "[80]"),
    ("extends", "{service: a}"),
    ("external_links", "[a]"),
    ("extra_hosts", "['a=1.1.1.1']"),
    ("gpus", "all"),
    ("group_add", "[5]"),
    ("healthcheck", "{test: x}"),
    ("hostname", "h"),
    ("image", "other"),
    ("init", "true"),
    ("ipc", "host"),
    ("isolation", "default"),
    ("label_file", "a"),
    ("labels", "{a: b}"),
    ("links", "[a]"),
    ("logging", "{driver: none}"),
    ("mac_address", "'02:42:ac:11:65:43'"),
    ("mem_limit", "64m"),
    ("mem_reservation", "32m"),
    ("mem_swappiness", "10"),
    ("memswap_limit", "1g"),
    ("models", "[a]"),
    ("network_mode", "host"),
    ("networks", "[back]"),
    ("oom_kill_disable", "true"),
    ("oom_score_adj", "100"),
    ("pid", "host"),
    ("pids_limit", "10"),
    ("platform", "linux/arm64"),
    ("ports", "['80:80']"),
    ("post_start", "[{command: a}]"),
    ("pre_stop", "[{command: a}]"),
    ("privileged", "true"),
    ("profiles", "[a]"),
    ("provider", "{type: a}"),
    ("pull_policy", "always"),
    ("pull_refresh_after", "1h"),
    ("read_only", "true"),
    ("restart", "always"),
    ("runtime", "runsc"),
    ("scale", "2"),
    ("secrets", "[a]"),
    ("security_opt", "['no-new-privileges']"),
    ("shm_size", "64m"),
    ("stdin_open", "true"),
    ("stop_grace_period", "1s"),
    ("stop_signal", "SIGINT"),
    ("storage_opt", "{size: 1G}"),
    ("sysctls", "{a: 1}"),
    ("tmpfs", "/t"),
    ("tty", "true"),
    ("ulimits", "{nofile: 1}"),
    ("use_api_socket", "true"),
    ("user", "'1'"),
    ("userns_mode", "host"),
    ("uts", "host"),
    ("volumes", "['data:/d']"),
    ("volumes_from", "[a]"),
    ("working_dir", "/w"),
];

#[test]
fn every_field_of_the_specification_takes_effect_or_is_refused_or_warned_about_by_name() {
    let text = |field: &str| {
        let web = if field.starts_with("image") { field.to_owned() } else { format!("image: i, {field}") };
        format!(
            "name: shop\nservices:\n  web: {{{web}}}\n  other: {{image: i}}\nvolumes: {{data: }}\nnetworks: {{back: }}\n"
        )
    };
    let of_web = |expansion: &Expansion| -> Vec<WorkloadSpec> {
        expansion.workloads.iter().filter(|spec| spec.name != "shop-other").cloned().collect()
    };
    let plain = of_web(&expand(&bundle(&text("tty: false")), "").unwrap());
    let mut refused = BTreeSet::new();
    for (field, value) in FIELDS {
        let path = format!("services.web.{field}");
        match Bundle::parse(&text(&format!("{field}: {value}")), &Limits::default()) {
            Err(error) => {
                assert_eq!(
                    (error.path.as_str(), error.kind),
                    (path.as_str(), ManifestErrorKind::Unsupported),
                    "{error}"
                );
                assert!(error.message.contains(field), "{error}");
                refused.insert(*field);
            }
            Ok(bundle) => {
                let expansion = expand(&bundle, "").unwrap();
                let is_told = expansion.warnings.iter().any(|warning| warning.path == path);
                assert!(of_web(&expansion) != plain || is_told, "{field} is dropped");
            }
        }
    }
    assert_eq!((FIELDS.len(), refused.len()), (92, 53), "{refused:?}");
}

proptest! {
    #[test]
    fn unknown_fields_are_refused_by_their_names(field in "[a-wyz][a-z_]{0,12}q") {
        let error = refusal(&service(&format!("{field}: 1")));
        prop_assert_eq!(error.path, format!("services.web.{field}"));
    }

    #[test]
    fn arbitrary_changes_of_a_project_never_panic(
        position in 0_usize..2000,
        cut in 0_usize..40,
        insert in "[-a-z0-9:{}\\[\\],&*!|>'\"#~/$ \\n]{0,12}",
    ) {
        let mut text = SHOP.to_owned();
        let start = position.min(text.len());
        text.replace_range(start..(start + cut).min(text.len()), &insert);
        if let Ok(bundle) = Bundle::parse(&text, &Limits::default()) {
            let _ = expand(&bundle, "");
        }
    }
}

#[test]
fn hostile_projects_end_in_bounded_time() {
    let services: String = (0..20_000).map(|n| format!("  s{n}: {{image: i, scale: 0}}\n")).collect();
    let texts = [
        format!("name: shop\nservices:\n{services}"),
        service(&format!("command: \"{}\"", "a ".repeat(1_000_000))),
        service(&format!("ports: [{}]", "'1-65535:1-65535', ".repeat(1000))),
        service(&format!("environment: {{A: '{}'}}", "${A:-".repeat(500_000))),
        service("scale: 4000000"),
    ];
    for text in texts {
        let begun = Instant::now();
        if let Err(error) = Bundle::parse(&text, &Limits::default()) {
            assert!(error.to_string().len() < 600, "{error}");
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    }
}
