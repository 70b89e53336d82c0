//! A daemon with every engine of containers that there is, each on private sockets.

use std::fs;

use actioncontroller::proto::actions::{ActionSpec, Parameters, Verb};
use actioncontroller::proto::workloads::ListWorkloadsRequest;
use protobuf::MessageField;

use super::containerd::ContainerdServer;
use super::daemon::{DaemonProcess, launch, on_target, options, pod};
use super::docker::DockerServer;
use super::layout;
use super::podman::PodmanServer;
use super::rig::{BUSYBOX, kill_left_over};

/// The engines, in the order of preference.
pub const ENGINES: [&str; 4] = ["podman", "docker", "containerd", "oci"];

/// The daemon, and the engines, which end after it.
pub struct EnginesRig {
    pub daemon: DaemonProcess,
    pub podman: PodmanServer,
    pub docker: DockerServer,
    pub containerd: ContainerdServer,
}

impl EnginesRig {
    /// Starts all of them.
    pub fn start() -> Self {
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

    /// Launches a Pod of one container on an engine.
    pub fn launch_on(&self, engine: &str, name: &str, script: &str) -> ActionSpec {
        let parameters = Parameters { engine: engine.to_owned(), ..Default::default() };
        ActionSpec { parameters: MessageField::some(parameters), ..launch(&pod(name, BUSYBOX, script)) }
    }
}

impl Drop for EnginesRig {
    fn drop(&mut self) {
        let all = ListWorkloadsRequest { page_size: 1000, ..Default::default() };
        if let Ok(listed) = self.daemon.workloads().list_workloads(&all, options()) {
            for workload in listed.workloads {
                let _ = self.daemon.execute(on_target(Verb::VERB_TERMINATE, &workload.name));
            }
        }
        self.daemon.kill();
        kill_left_over(&self.daemon.path(""));
    }
}
