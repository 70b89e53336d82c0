//! Podman's Quadlet files on the node's own systemd. With `ACTIONCONTROLLER_PODMAN=5` the generator and the containers are
//! Podman's own, else a stand-in makes services of them.

use std::path::{Path, PathBuf};

use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::workloads::WorkloadState;

use super::{LIMIT, Rig, launch, on_target};
use crate::support::quadlets::QuadletRig;
use crate::support::wait::until;

const UNIT: &str = "actioncontroller-web_unit.service";

/// A container that ends with 7 at SIGTERM.
fn web(tree: &Path) -> String {
    format!(
        "[Unit]\nDescription=Web\n[Container]\nRootfs={}\nNetwork=none\n\
         Exec=/bin/sh -c 'trap \"exit 7\" TERM; echo hello; echo oh >&2; while :; do sleep 0.1; done'\n[X-ActionController]\nName=web\n",
        tree.display()
    )
}

/// A daemon beside it, with the folder of the rig's files, and whether its Podman is a real one.
fn rig(generator: Option<&str>) -> (Rig, PathBuf, bool) {
    let quadlets = QuadletRig::start();
    let (dir, found) = (quadlets.dir(), quadlets.generator.display().to_string());
    let generator = generator.unwrap_or(&found);
    let more = format!("quadlet_dir: {}, quadlet_generator: {generator}", dir.display());
    let is_real = quadlets.is_real;
    (Rig::with(quadlets.server, &more), dir, is_real)
}

fn files(dir: &Path) -> Vec<String> {
    std::fs::read_dir(dir).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn container_of_podman_s_quadlet_lives_its_life_as_a_service() {
    let (rig, dir, is_real) = rig(None);
    let text = web(&rig.server.tree());
    let outcome = rig.daemon.done(launch(&text));
    assert_eq!(outcome.engine, "systemd", "{outcome:?}");
    let running = rig.daemon.await_state("web", WorkloadState::WORKLOAD_STATE_RUNNING);
    let file = dir.join("actioncontroller-web_unit.container");
    assert_eq!(std::fs::read_to_string(&file).ok().as_deref(), Some(text.as_str()));
    assert_eq!(rig.server.show(UNIT, "SourcePath"), file.display().to_string(), "the generator has made it");
    assert!(running.containers[0].pid > 0, "{running:?}");
    assert!(!rig.daemon.done(launch(&text)).changed, "the same again");
    // Podman tells the journal which stream a line is of. It prints the container's id itself.
    let expected = if is_real { ["hello\n", "oh\n"] } else { ["hello\noh\n", ""] };
    until("its output", LIMIT, || {
        let logs = rig.daemon.ctl(&["logs", "web"]);
        let is_there = logs.stdout.starts_with(expected[0].as_bytes()) && logs.stderr == expected[1].as_bytes();
        is_there.then_some(())
    });
    rig.daemon.done(on_target(Verb::VERB_PAUSE, "web"));
    rig.daemon.await_state("web", WorkloadState::WORKLOAD_STATE_PAUSED);
    rig.daemon.done(on_target(Verb::VERB_RESUME, "web"));
    rig.daemon.done(on_target(Verb::VERB_STOP, "web"));
    assert_eq!(rig.daemon.workload("web").containers[0].exit_code, Some(7));
    rig.daemon.done(on_target(Verb::VERB_START, "web"));
    let again = rig.daemon.await_state("web", WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_ne!(again.containers[0].pid, running.containers[0].pid);
    rig.daemon.done(on_target(Verb::VERB_TERMINATE, "web"));
    assert_eq!((files(&dir), rig.unit_files()), (vec![], vec![]));
    assert_eq!(rig.server.show(UNIT, "LoadState"), "not-found", "unit files were read anew");
}

#[test]
fn quadlet_that_podman_s_generator_refuses_is_told_in_its_words_and_leaves_nothing() {
    let (rig, dir, _) = rig(None);
    let text = web(&rig.server.tree());
    let nothing = text.replace("Rootfs=", "#Rootfs=");
    let (code, message) = rig.daemon.fails(launch(&nothing));
    assert!(message.contains("no Image or Rootfs key specified"), "{code}: {message}");
    let renamed = text.replace("[Container]", "[Container]\nServiceName=other");
    let (_, message) = rig.daemon.fails(launch(&renamed));
    assert!(message.contains("[Container] ServiceName=other"), "{message}");
    let (_, message) = rig.daemon.fails(launch("[Kube]\nYaml=/a.yaml\n[X-ActionController]\nName=web\n"));
    assert!(message.contains("[Container] of Podman's Quadlet files"), "{message}");
    assert_eq!((files(&dir), rig.unit_files()), (vec![], vec![]));
}

#[test]
fn quadlet_without_a_generator_is_refused_by_name() {
    let (rig, dir, _) = rig(Some("/nowhere/podman-system-generator"));
    let (code, message) = rig.daemon.fails(launch(&web(&rig.server.tree())));
    assert_eq!(code, "ENGINE_LACKS_CAPABILITY", "{message}");
    assert!(message.contains("'/nowhere/podman-system-generator'"), "{message}");
    assert_eq!((files(&dir), rig.unit_files()), (vec![], vec![]));
}
