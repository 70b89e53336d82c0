//! Pods: several containers and init containers that share one network, also when one of them dies.

use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::workloads::{ContainerState, WorkloadState};

use super::{LIMIT, RUNS, Rig, container_state, entry, ids, pod, serves};
use crate::support::wait::until;

#[test]
fn containers_of_a_pod_share_localhost_after_its_init_containers_have_ended() {
    let rig = Rig::new();
    let mount = ", volumeMounts: [{name: shared, mountPath: /shared}]";
    let init = format!(
        "{}{}",
        entry("first", "echo one > /shared/order", mount),
        entry("second", "echo two >> /shared/order", mount)
    );
    let ports = format!(", ports: [{{containerPort: 80, hostPort: 8080}}]{mount}");
    let web = entry("web", &serves("cat /shared/order | tr '\\n' ' '"), &ports);
    let spec = format!(
        "initContainers:\n{init}containers:\n{web}{}volumes: [{{name: shared, emptyDir: {{}}}}]\n",
        entry("other", RUNS, mount)
    );
    rig.launch(&pod("w", &spec));
    assert_eq!(rig.await_page(8080).trim(), "one two");
    assert_eq!(rig.shell("w", "other", "wget -q -O - http://127.0.0.1/"), "one two");
    assert_eq!(rig.shell("w", "other", "hostname"), rig.shell("w", "web", "hostname"));

    let workload = rig.workload("w");
    assert_eq!(workload.state.enum_value(), Ok(WorkloadState::WORKLOAD_STATE_RUNNING), "{workload:?}");
    let inits: Vec<_> = workload.containers.iter().filter(|container| container.init).collect();
    assert_eq!(inits.len(), 2);
    for init in inits {
        assert_eq!(container_state(init), ContainerState::CONTAINER_STATE_EXITED);
        assert_eq!(init.exit_code, Some(0));
    }
    assert_eq!(rig.everything().pods, ["w"]);
    rig.verb(Verb::VERB_TERMINATE, "w");
    rig.assert_nothing_left();
}

#[test]
fn start_after_the_crash_of_one_container_leaves_the_other_alone() {
    let rig = Rig::new();
    let dies = "until test -e /die; do sleep 0.05; done; rm /die; exit 9";
    let spec = format!(
        "initContainers:\n{}containers:\n{}{}",
        entry("init", "true", ""),
        entry("stays", RUNS, ""),
        entry("dies", dies, "")
    );
    let document = pod("w", &spec);
    let first = rig.launch(&document);
    let stays = rig.container("w", "stays");
    let init = rig.podman_says("w_init", "{{.State.StartedAt}}");
    for again in [Verb::VERB_START, Verb::VERB_LAUNCH] {
        rig.exec("w", "dies", "touch /die");
        until("the crash", LIMIT, || {
            let is_dead = container_state(&rig.container("w", "dies")) == ContainerState::CONTAINER_STATE_EXITED;
            is_dead.then_some(())
        });
        assert_eq!(rig.container("w", "dies").exit_code, Some(9));
        assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_DEGRADED);
        let started = rig.verb(again, "w");
        assert!(started.changed);
        assert_eq!(ids(&started), ids(&first));
        assert_eq!(rig.state("w"), WorkloadState::WORKLOAD_STATE_RUNNING);
        assert_eq!(rig.container("w", "stays").pid, stays.pid, "it is the same process");
        assert_eq!(rig.podman_says("w_init", "{{.State.StartedAt}}"), init, "what runs needs no preparing");
    }
}

#[test]
fn package_of_two_models_is_launched_listed_and_ended_as_one() {
    let rig = Rig::new();
    let model = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Model\nmetadata: {{name: {name}}}\nspec:\n  containers:\n  {}",
            entry("main", RUNS, "")
        )
    };
    let package = "apiVersion: v1\nkind: Package\nmetadata: {name: pack}\nspec:\n  pattern: [{type: plain}]\n  \
         models:\n  - {name: one, node: test, resources: {}}\n  - {name: two, node: elsewhere, resources: {}}\n";
    let documents = format!("{package}{}{}", model("one"), model("two"));
    let launched = rig.launch(&documents);
    assert_eq!(launched.target, "pack");
    let names: Vec<_> = launched.workloads.iter().map(|workload| workload.name.as_str()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(launched.warnings.iter().any(|warning| warning.message.contains("elsewhere")), "{launched:?}");
    assert!(!rig.launch(&documents).changed);
    for name in ["one", "two"] {
        let workload = rig.workload(name);
        assert_eq!(workload.package, "pack");
        assert_eq!(workload.state.enum_value(), Ok(WorkloadState::WORKLOAD_STATE_RUNNING));
    }
    rig.verb(Verb::VERB_STOP, "pack");
    assert_eq!(rig.state("two"), WorkloadState::WORKLOAD_STATE_COMPLETED);
    // By its name: the documents are kept.
    assert!(rig.verb(Verb::VERB_LAUNCH, "pack").changed);
    assert_eq!(rig.state("one"), WorkloadState::WORKLOAD_STATE_RUNNING);
    rig.verb(Verb::VERB_TERMINATE, "pack");
    rig.assert_nothing_left();
}
