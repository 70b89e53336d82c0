//! [`DockerServer`]: a private Docker Engine with a containerd of its own, an image, and a registry.
//!
//! Everything lies in one temporary folder and in one network and mount namespace, so that rigs share neither bridges nor
//! firewall rules with anybody. Dropping the rig deletes the containers through Docker's own command, then ends what it
//! started by process id.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use actioncontroller::runtime::docker::{Docker, DockerConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::rig::{Anchor, BUSYBOX, Registry, START_LIMIT, archive, busybox_tree, kill_left_over, noisy_archive};
use super::wait::until;

/// The node whose label the rig's adapter uses.
pub const NODE: &str = "it";

/// A running private engine.
pub struct DockerServer {
    dir: tempfile::TempDir,
    anchor: Anchor,
    containerd: Option<Child>,
    dockerd: Option<Child>,
    registry: Option<Registry>,
}

impl DockerServer {
    /// Starts the Docker that is installed, with an image.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ac-docker-").tempdir().expect("a temporary folder");
        let anchor = Anchor::start(None);
        let mut server = Self { dir, anchor, containerd: None, dockerd: None, registry: None };
        server.start_containerd();
        server.start_dockerd();
        let tree = busybox_tree(server.dir.path());
        let archive = archive(server.dir.path(), &tree, "busybox.tar");
        server.run(&["import", "-c", "ENV PATH=/bin", &archive, BUSYBOX]);
        server
    }

    /// The same with a registry that has an image; see [`DockerServer::remote_image`].
    pub fn start_with_registry() -> Self {
        let mut server = Self::start();
        server.registry = Some(Registry::start(&server.anchor, server.dir.path()));
        let archive = noisy_archive(server.dir.path());
        let remote = server.remote_image();
        server.run(&["import", "-c", "ENV PATH=/bin", &archive, &remote]);
        server.run(&["push", "-q", &remote]);
        server.run(&["rmi", &remote]);
        server
    }

    /// An image that only the registry has.
    pub fn remote_image(&self) -> String {
        self.registry.as_ref().expect("started with a registry").image()
    }

    /// The engine's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    /// A path in the rig's folder at which nobody listens.
    pub fn nowhere(&self) -> PathBuf {
        self.dir.path().join("nobody.sock")
    }

    /// An adapter for it.
    pub fn adapter(&self) -> Docker {
        Docker::new(self.config())
    }

    /// The adapter's configuration.
    pub fn config(&self) -> DockerConfig {
        DockerConfig { socket: Some(self.socket()), node: NODE.to_owned(), ..DockerConfig::default() }
    }

    /// Runs a docker command and gives what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).stdin(Stdio::null()).output().expect("docker runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "docker {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = self.anchor.inside("docker");
        command.arg("-H").arg(format!("unix://{}", self.socket().display()));
        // Whatever the user has configured is not the rig's.
        command.env("DOCKER_CONFIG", self.dir.path().join("cli")).env_remove("DOCKER_HOST");
        command
    }

    fn start_containerd(&mut self) {
        let dir = self.dir.path();
        let log = fs::File::create(dir.join("containerd.log")).expect("a log file");
        let mut command = self.anchor.inside("containerd");
        command.args(["--config", "/dev/null", "--root"]).arg(dir.join("containerd/root"));
        command.arg("--state").arg(dir.join("containerd/state")).arg("--address").arg(dir.join("containerd.sock"));
        self.containerd =
            Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("containerd"));
        until("containerd's socket", START_LIMIT, || UnixStream::connect(self.dir.path().join("containerd.sock")).ok());
    }

    /// Starts the engine, or starts it again: containers that run go on with it.
    pub fn start_dockerd(&mut self) {
        let dir = self.dir.path();
        // One that was killed leaves it behind, and the next one would take its process for alive.
        let _ = fs::remove_file(dir.join("docker.pid"));
        let log = fs::File::create(dir.join("dockerd.log")).expect("a log file");
        let mut command = self.anchor.inside("dockerd");
        command.arg("--data-root").arg(dir.join("data")).arg("--exec-root").arg(dir.join("exec"));
        command.arg("--pidfile").arg(dir.join("docker.pid")).arg("--containerd").arg(dir.join("containerd.sock"));
        command.arg("-H").arg(format!("unix://{}", self.socket().display())).arg("--live-restore");
        // A rootful engine here has no CAP_SYS_RESOURCE, so limits may not be raised.
        command.args(["--default-ulimit", "nofile=1024:1024", "--default-ulimit", "nproc=1000:1000"]);
        command.arg("--config-file").arg(dir.join("none.json"));
        fs::write(dir.join("none.json"), "{}").expect("a file");
        self.dockerd = Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("dockerd"));
        until("Docker's answer", START_LIMIT, || {
            self.command().arg("version").output().ok().filter(|output| output.status.success())
        });
    }

    /// Ends the engine, as a crash of it would; its containers go on.
    pub fn kill_dockerd(&mut self) {
        if let Some(mut dockerd) = self.dockerd.take() {
            let _ = dockerd.kill();
            let _ = dockerd.wait();
        }
    }

    /// Hangs the engine, or lets it go on.
    pub fn signal_dockerd(&self, signal: Signal) {
        let dockerd = self.dockerd.as_ref().expect("it runs");
        kill(Pid::from_raw(dockerd.id().try_into().expect("a process id")), signal).expect("a signal is sent");
    }

    fn end(child: &mut Child) {
        let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
        let _ = kill(pid, Signal::SIGTERM);
        let _ = child.wait();
    }
}

impl Drop for DockerServer {
    fn drop(&mut self) {
        if let Some(dockerd) = &self.dockerd {
            // One that was left hanging would never end.
            let pid = Pid::from_raw(dockerd.id().try_into().expect("a process id"));
            let _ = kill(pid, Signal::SIGCONT);
            let all = self.command().args(["ps", "-aq"]).output().map(|output| output.stdout).unwrap_or_default();
            let all = String::from_utf8_lossy(&all).into_owned();
            let mut remove = self.command();
            remove.args(["rm", "-f", "-v"]).args(all.lines());
            if !all.trim().is_empty() {
                let _ = remove.stdout(Stdio::null()).stderr(Stdio::null()).status();
            }
        }
        self.dockerd.iter_mut().chain(&mut self.containerd).for_each(Self::end);
        self.registry = None;
        kill_left_over(self.dir.path());
    }
}
