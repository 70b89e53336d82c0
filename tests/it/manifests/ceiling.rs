//! What a node allows: its security ceiling, as configured, and its policy files.

use std::fs;

use actioncontroller::proto::actions::Verb;
use grpcio::RpcStatusCode;

use super::{created, launched, on_engine, pod, refusal};
use crate::support::daemon::{DaemonProcess, on_target, with_sim};

/// Documents that ask for more than a node gives by default, each with the field at fault and a word of the refusal.
fn beyond() -> Vec<(String, &'static str, &'static str)> {
    let mount = ", volumeMounts: [{name: v, mountPath: /v}]";
    let volume = |path: &str, kind: &str| format!("  volumes: [{{name: v, hostPath: {{path: {path}{kind}}}}}]\n");
    let mounted = "spec.containers[0].volumeMounts[0]";
    vec![
        (
            pod("privileged", ", securityContext: {privileged: true}", ""),
            "spec.containers[0].securityContext.privileged",
            "privileged",
        ),
        (
            pod("capability", ", securityContext: {capabilities: {add: [CAP_SYS_ADMIN]}}", ""),
            "spec.containers[0].securityContext.capabilities.add",
            "SYS_ADMIN",
        ),
        (
            pod("seccomp", ", securityContext: {seccompProfile: {type: Unconfined}}", ""),
            "spec.containers[0].securityContext.seccompProfile",
            "seccomp",
        ),
        (pod("path", mount, &volume("/data/driver", "")), mounted, "'/data/driver'"),
        (
            pod("device", mount, &volume("/dev/video0", ", type: CharDevice")),
            "spec.containers[0].devices[0]",
            "'/dev/video0'",
        ),
        (pod("pids", "", "  hostPID: true\n"), "spec.hostPID", "process namespace"),
        (pod("ipc", "", "  hostIPC: true\n"), "spec.hostIPC", "IPC namespace"),
    ]
}

#[test]
fn what_is_beyond_the_ceiling_is_refused_with_its_field_and_without_effect() {
    let daemon = DaemonProcess::on_sim();
    for (document, field, word) in beyond() {
        let (code, refused) = refusal(daemon.launch(&document));
        assert_eq!(code, RpcStatusCode::PERMISSION_DENIED, "{refused:?}");
        assert_eq!((refused.error.code.as_str(), refused.error.field.as_str()), ("SECURITY_DENIED", field));
        assert!(refused.error.message.contains(word), "{}", refused.error.message);
        assert!(refused.error.hint.contains("ceiling"), "{}", refused.error.hint);
        // The plan says the same and is refused too.
        let (code, planned) = refusal(dry_run(&daemon, &document));
        assert_eq!((code, planned.error), (RpcStatusCode::PERMISSION_DENIED, refused.error));
    }
    assert!(on_engine(&daemon).is_empty());
}

#[test]
fn configured_ceiling_allows_it_and_a_reload_takes_it_back() {
    let raised = "security:\n  allow_privileged: true\n  capabilities: [SYS_ADMIN]\n  host_pid: true\n  \
        host_ipc: true\n  seccomp_unconfined: true\n  devices: [/dev/video0]\n  host_paths: [{path: /data/driver}]\n";
    let daemon = DaemonProcess::start(|folder| format!("{}{raised}", with_sim(folder)));
    for (document, ..) in beyond() {
        launched(&daemon, &document);
    }
    assert_eq!(created(&daemon, "privileged_main")["spec"]["security"]["privileged"], true);
    assert_eq!(created(&daemon, "pids_main")["host_pid"], true);
    assert_eq!(created(&daemon, "device_main")["spec"]["devices"][0]["host_path"], "/dev/video0");

    daemon.write_settings(&with_sim(&daemon.path("")));
    daemon.signal(nix::sys::signal::Signal::SIGHUP);
    crate::support::wait::until("the settings are read again", std::time::Duration::from_secs(20), || {
        daemon.log().contains("settings were read again").then_some(())
    });
    let again = pod("again", ", securityContext: {privileged: true}", "");
    assert_eq!(refusal(daemon.launch(&again)).1.error.code, "SECURITY_DENIED");
    // What runs stays under its owner's hand.
    assert!(daemon.execute(on_target(Verb::VERB_TERMINATE, "privileged")).unwrap().changed);
}

#[test]
fn paths_that_give_the_node_away_are_refused_whatever_is_configured() {
    let daemon = DaemonProcess::start(|folder| {
        let policies = folder.join("policy.d");
        let settings =
            format!("security: {{host_paths: [{{path: /}}]}}\npolicy: {{folders: [{}]}}\n", policies.display());
        let engine = format!("runtimes:\n  containerd: {{socket: {}/engine.sock}}\n", folder.display());
        format!("{}{settings}", with_sim(folder).replacen("runtimes:\n", &engine, 1))
    });
    let [state, policies, engine] =
        ["state", "policy.d/inside", "engine.sock"].map(|name| daemon.path(name).display().to_string());
    let engines = ["/run/podman/podman.sock", "/var/run/docker.sock", "/var/lib/containers/storage"];
    let own = ["/", "/proc", &state, &policies, &engine, &daemon.path("").display().to_string()];
    for path in own.into_iter().chain(engines) {
        let mount = ", volumeMounts: [{name: v, mountPath: /v, readOnly: true}]";
        let document = pod("path", mount, &format!("  volumes: [{{name: v, hostPath: {{path: {path}}}}}]\n"));
        let (_, refused) = refusal(daemon.launch(&document));
        assert_eq!(refused.error.code, "SECURITY_DENIED", "{path}");
        assert!(refused.error.message.contains("never allowed"), "{}", refused.error.message);
    }
    assert!(on_engine(&daemon).is_empty());
}

#[test]
fn policy_file_refuses_by_rule_and_file_and_never_a_stop() {
    let rules = "rules:\n- {name: only-ours, effect: deny, reason: images come from the vehicle's registry, \
        images: ['docker.io/*'], verbs: [launch, start]}\n";
    let daemon = DaemonProcess::start(|folder| {
        let policies = folder.join("policy.d");
        fs::create_dir(&policies).unwrap();
        fs::write(policies.join("10-images.yaml"), rules).unwrap();
        format!("{}policy: {{folders: [{}]}}\n", with_sim(folder), policies.display())
    });
    let foreign = pod("foreign", "", "").replace("localhost/busybox:1", "docker.io/library/busybox:1");
    let (code, refused) = refusal(daemon.launch(&foreign));
    assert_eq!((code, refused.error.code.as_str()), (RpcStatusCode::PERMISSION_DENIED, "POLICY_DENIED"));
    let message = &refused.error.message;
    for word in ["launch of 'foreign'", "rule 'only-ours'", "10-images.yaml", "the vehicle's registry", "docker.io"] {
        assert!(message.contains(word), "{message}");
    }
    assert!(on_engine(&daemon).is_empty());
    launched(&daemon, &pod("ours", "", ""));
    assert!(daemon.execute(on_target(Verb::VERB_STOP, "ours")).unwrap().changed);
}

fn dry_run(daemon: &DaemonProcess, document: &str) -> grpcio::Result<actioncontroller::proto::actions::Outcome> {
    use actioncontroller::proto::actions::ExecuteActionRequest;
    let action = protobuf::MessageField::some(crate::support::daemon::launch(document));
    let request = ExecuteActionRequest { action, dry_run: true, ..Default::default() };
    Ok(daemon.actions().execute_action(&request, crate::support::daemon::options())?.outcome.unwrap_or_default())
}
