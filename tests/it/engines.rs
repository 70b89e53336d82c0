//! Several engines under one daemon, each with containers of its own, and the daemon killed in between.

use std::fs;
use std::time::Duration;

use actioncontroller::proto::actions::{ActionSpec, Parameters, Verb};
use actioncontroller::proto::workloads::{GetWorkloadRequest, Workload};
use protobuf::MessageField;

use crate::support::containerd::ContainerdServer;
use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod};
use crate::support::docker::DockerServer;
use crate::support::layout;
use crate::support::podman::PodmanServer;
use crate::support::rig::{BUSYBOX, kill_left_over};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Containers of each engine.
const EACH: usize = 5;

/// A daemon with all engines, which end after it.
struct Rig {
    daemon: DaemonProcess,
    podman: PodmanServer,
    docker: DockerServer,
    containerd: ContainerdServer,
}

impl Rig {
    fn new() -> Self {
        let (podman, docker) = (PodmanServer::start(), DockerServer::start());
        let containerd = ContainerdServer::start();
        let daemon = DaemonProcess::start(|folder| {
            let images = folder.join("images/busybox");
            fs::create_dir_all(&images).unwrap();
            layout::busybox(&images, BUSYBOX);
            format!(
                "runtimes:\n  preference: [podman, docker, containerd, oci]\n  podman: {{socket: {}}}\n  \
                 docker: {{enabled: true, socket: {}}}\n  \
                 containerd: {{enabled: true, socket: {}}}\n  \
                 oci: {{enabled: true, runtime: runc, run_dir: {folder}/run, image_folders: [{folder}/images]}}\n",
                podman.socket().display(),
                docker.socket().display(),
                containerd.socket().display(),
                folder = folder.display()
            )
        });
        Self { daemon, podman, docker, containerd }
    }

    /// Every workload with the engine that it is on and the code that it ends with.
    fn workloads() -> impl Iterator<Item = (String, &'static str, i32)> {
        ["podman", "docker", "containerd", "oci"].into_iter().enumerate().flat_map(|(index, engine)| {
            (0..EACH).map(move |n| (format!("{engine}-{n}"), engine, i32::try_from(index * EACH + n + 3).unwrap()))
        })
    }

    fn workload(&self, name: &str) -> Option<Workload> {
        let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
        self.daemon.workloads().get_workload(&request, options()).ok()
    }

    fn pids(&self) -> Vec<i32> {
        let pid = |name: &str| {
            until("the workload's process", LIMIT, || {
                self.workload(name)?.containers.first().map(|container| container.pid).filter(|pid| *pid > 0)
            })
        };
        Self::workloads().map(|(name, ..)| pid(&name)).collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for (name, ..) in Self::workloads() {
            let _ = self.daemon.execute(on_target(Verb::VERB_TERMINATE, &name));
        }
        self.daemon.kill();
        kill_left_over(&self.daemon.path(""));
    }
}

#[test]
fn containers_of_all_engines_are_adopted_with_their_processes_and_end_with_their_codes() {
    let mut rig = Rig::new();
    for (name, engine, code) in Rig::workloads() {
        let runs = format!("trap \"exit {code}\" TERM; while :; do sleep 0.05; done");
        let parameters = Parameters { engine: engine.to_owned(), ..Default::default() };
        let action = ActionSpec { parameters: MessageField::some(parameters), ..launch(&pod(&name, BUSYBOX, &runs)) };
        let outcome = rig.daemon.execute(action).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(outcome.engine, engine, "{outcome:?}");
    }
    let before = rig.pids();
    rig.daemon.kill();
    rig.daemon.start_again();
    assert_eq!(rig.pids(), before, "each runs on as the same process");
    for (name, _, code) in Rig::workloads() {
        rig.daemon.execute(on_target(Verb::VERB_STOP, &name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let stopped = rig.workload(&name).unwrap();
        assert_eq!(stopped.containers[0].exit_code, Some(code), "{stopped:?}");
    }
    for (name, ..) in Rig::workloads() {
        rig.daemon.execute(on_target(Verb::VERB_TERMINATE, &name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(rig.podman.run(&["ps", "-aq"]), "");
    assert_eq!(rig.docker.run(&["ps", "-aq"]), "");
    assert_eq!(rig.containerd.run(&["containers", "ls", "-q"]), "");
    assert_eq!(fs::read_dir(rig.daemon.path("state/oci/containers")).unwrap().count(), 0);
}
