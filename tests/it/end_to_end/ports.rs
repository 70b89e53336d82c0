//! The published ports of a pod: free while its workload is stopped, served again once it is started.

use actioncontroller::proto::actions::Verb;

use super::{RUNS, Rig, entry, ids, pod, serves};

/// What listens on the port in the rig's network, as the kernel lists it.
fn listeners(rig: &Rig, port: u16) -> String {
    let tables = rig.server.inside("cat").args(["/proc/net/tcp", "/proc/net/tcp6"]).output().unwrap();
    let listening = format!(":{port:04X} ");
    let tables = String::from_utf8_lossy(&tables.stdout).into_owned();
    tables.lines().filter(|line| line.contains(&listening) && line.contains(" 0A ")).collect()
}

#[test]
fn stopped_pod_has_no_infra_process_and_its_port_is_free_until_it_is_started() {
    let rig = Rig::new();
    let ports = ", ports: [{containerPort: 80, hostPort: 8080}]";
    let web = entry("web", &serves("echo here"), ports);
    let document = pod("w", &format!("containers:\n{web}{}", entry("other", RUNS, "")));
    let first = rig.launch(&document);
    assert_eq!(rig.await_page(8080), "here");
    let infra = rig.podman_says("w-infra", "{{.State.Pid}}");
    assert_ne!(listeners(&rig, 8080), "", "Podman keeps the port for the pod");

    for (away, back) in [
        (Verb::VERB_STOP, Verb::VERB_START),
        (Verb::VERB_KILL, Verb::VERB_LAUNCH),
        (Verb::VERB_STOP, Verb::VERB_RESTART),
    ] {
        rig.verb(away, "w");
        assert_eq!(rig.podman_says("w-infra", "{{.State.Running}} {{.State.Pid}}"), "false 0", "{away:?}");
        assert!(!std::path::Path::new("/proc").join(&infra).exists(), "{away:?}");
        assert_eq!(rig.page(8080), None, "{away:?}");
        assert_eq!(listeners(&rig, 8080), "", "{away:?}");
        assert!(!rig.verb(away, "w").changed, "{away:?} again");
        let again = if back == Verb::VERB_LAUNCH { rig.launch(&document) } else { rig.verb(back, "w") };
        assert!(again.changed, "{back:?}");
        assert_eq!(ids(&again), ids(&first), "{back:?}");
        assert_eq!(rig.await_page(8080), "here", "{back:?}");
    }

    // Another may have the port as long as this one is stopped.
    rig.verb(Verb::VERB_STOP, "w");
    let other = pod("v", &format!("containers:\n{}", entry("main", &serves("echo other"), ports)));
    rig.launch(&other);
    assert_eq!(rig.await_page(8080), "other");
    rig.verb(Verb::VERB_TERMINATE, "v");
    rig.verb(Verb::VERB_TERMINATE, "w");
    rig.assert_nothing_left();
}
