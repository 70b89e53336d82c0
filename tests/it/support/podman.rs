//! [`PodmanServer`]: a private Podman service with an image, and a registry where one is wanted.
//!
//! Everything lies in one temporary folder (storage, state, socket, events, networks) and in one network and mount
//! namespace, so that rigs neither share bridges, ports and locks nor leave mounts and firewall rules behind. What has
//! to reach a published port goes through [`PodmanServer::inside`]. Dropping the rig deletes containers and pods
//! through Podman's own command, then ends what it started by process id.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use actioncontroller::runtime::podman::{Podman, PodmanConfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::rig::{
    Anchor, BUSYBOX, Registry, START_LIMIT, archive, busybox_tree, criu_folder, kill_left_over, noisy_archive,
};
use super::wait::until;

/// The image that every server has.
pub const IMAGE: &str = BUSYBOX;

/// The node whose label the rig's adapter uses.
pub const NODE: &str = "it";

/// A running private service.
pub struct PodmanServer {
    dir: tempfile::TempDir,
    /// The folder whose `criu` the engine finds first.
    criu: PathBuf,
    anchor: Anchor,
    service: Option<Child>,
    registry: Option<Registry>,
}

impl PodmanServer {
    /// Starts the Podman that is installed, or the version 5 where `ACTIONCONTROLLER_PODMAN=5` asks for it: so the same
    /// tests run on both.
    ///
    /// # Panics
    /// When version 5 is asked for and `tests/rig/podman5.sh` has not run.
    pub fn start() -> Self {
        match std::env::var("ACTIONCONTROLLER_PODMAN").as_deref() {
            Ok("5") => Self::start_v5().expect("tests/rig/podman5.sh has run"),
            _ => Self::start_over(None),
        }
    }

    /// Starts the Podman 5 that `tests/rig/podman5.sh` unpacked; `None` where it has not run.
    ///
    /// Its folder is `$ACTIONCONTROLLER_PODMAN5_DIR`, by default `~/.cache/actioncontroller/podman5`.
    pub fn start_v5() -> Option<Self> {
        unpacked_v5().map(|usr| Self::start_over(Some(&usr)))
    }

    /// The same with a CRIU that cannot dump on today's kernels.
    pub fn start_with_unfit_criu() -> Self {
        let mut server = Self::start_over(None);
        server.criu = criu_folder().join("unfit");
        server.stop_service();
        server.start_service();
        server
    }

    /// `usr` is laid over the machine's `/usr` for all that the rig runs.
    fn start_over(usr: Option<&Path>) -> Self {
        let dir = tempfile::Builder::new().prefix("ac-podman-").tempdir().expect("a temporary folder");
        let criu = criu_folder().join("bin");
        let mut server = Self { dir, criu, anchor: Anchor::start(usr), service: None, registry: None };
        server.configure();
        server.import_busybox();
        server.start_service();
        server
    }

    /// The same with a registry on a free port of 127.0.0.1 that has an image; see [`PodmanServer::remote_image`].
    pub fn start_with_registry() -> Self {
        let mut server = Self::start();
        server.add_registry();
        server
    }

    /// Starts a registry beside the service, which is restarted to know it as insecure.
    pub fn add_registry(&mut self) {
        self.registry = Some(Registry::start(&self.anchor, self.dir.path()));
        self.configure();
        let remote = self.remote_image();
        // Made here alone, so that no layer of it is present.
        let archive = noisy_archive(self.dir.path());
        self.run(&["import", "-q", "--change", "ENV PATH=/bin", &archive, &remote]);
        self.run(&["push", "-q", &remote]);
        self.run(&["rmi", &remote]);
        self.stop_service();
        self.start_service();
    }

    /// An image that only the registry has.
    pub fn remote_image(&self) -> String {
        let registry = self.registry.as_ref().expect("started with a registry");
        registry.image()
    }

    /// The service's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("podman.sock")
    }

    /// A folder for the test's own files.
    pub fn files(&self) -> PathBuf {
        let files = self.dir.path().join("files");
        fs::create_dir_all(&files).expect("a folder");
        files
    }

    /// An adapter for it.
    pub fn adapter(&self) -> Podman {
        Podman::new(self.config())
    }

    /// The adapter's configuration.
    pub fn config(&self) -> PodmanConfig {
        PodmanConfig { socket: Some(self.socket()), node: NODE.to_owned(), ..PodmanConfig::default() }
    }

    /// Runs a podman command on the same storage and gives what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).stdin(Stdio::null()).output().expect("podman runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "podman {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Ends the service, as a crash of it would; its containers go on.
    pub fn stop_service(&mut self) {
        if let Some(mut service) = self.service.take() {
            let _ = service.kill();
            let _ = service.wait();
        }
        let _ = fs::remove_file(self.socket());
    }

    /// Starts the service again.
    pub fn start_service(&mut self) {
        let log = fs::File::create(self.dir.path().join("service.log")).expect("a log file");
        let address = format!("unix://{}", self.socket().display());
        let mut command = self.command();
        command.args(["system", "service", "-t", "0", &address]).stdin(Stdio::null()).stdout(Stdio::null());
        self.service = Some(command.stderr(log).spawn().expect("podman starts"));
        until("the service's socket", START_LIMIT, || UnixStream::connect(self.socket()).ok());
    }

    /// Hangs the service: it keeps its connections and answers nothing more until [`PodmanServer::thaw_service`].
    pub fn freeze_service(&self) {
        self.signal_service(Signal::SIGSTOP);
    }

    /// Lets the service go on.
    pub fn thaw_service(&self) {
        self.signal_service(Signal::SIGCONT);
    }

    fn signal_service(&self, signal: Signal) {
        let service = self.service.as_ref().expect("the service runs");
        kill(Pid::from_raw(service.id().try_into().expect("a process id")), signal).expect("a signal is sent");
    }

    /// How many connections to the service are open. The kernel lists them where their clients are: outside.
    pub fn connections(&self) -> usize {
        let sockets = fs::read_to_string("/proc/net/unix").expect("the sockets");
        let socket = self.socket().display().to_string();
        // Columns: number, references, protocol, flags, type, state (03 is connected), inode, path.
        let is_open = |line: &&str| line.ends_with(&socket) && line.split_whitespace().nth(5) == Some("03");
        sockets.lines().filter(is_open).count()
    }

    /// A command in the rig's network and mount namespaces.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        self.anchor.inside(program)
    }

    fn command(&self) -> Command {
        let dir = self.dir.path();
        let path = |name: &str| dir.join(name).into_os_string();
        let mut command = self.inside("podman");
        command.arg("--root").arg(path("root")).arg("--runroot").arg(path("runroot")).arg("--tmpdir").arg(path("tmp"));
        command.arg("--network-config-dir").arg(path("networks"));
        command.args(["--events-backend=file", "--cgroup-manager=cgroupfs"]);
        let paths = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{paths}", self.criu.display()));
        command.env("CONTAINERS_CONF", path("containers.conf"));
        command.env("CONTAINERS_REGISTRIES_CONF", path("registries.conf"));
        command
    }

    fn configure(&self) {
        let dir = self.dir.path();
        for folder in ["root", "runroot", "tmp", "networks"] {
            fs::create_dir_all(dir.join(folder)).expect("a folder");
        }
        // A rootful service here has no CAP_SYS_RESOURCE, so limits may not be raised.
        let containers = "[engine]\nruntime = \"runc\"\n\
            [containers]\nlog_driver = \"k8s-file\"\ndefault_ulimits = [\"nofile=1024:1024\", \"nproc=1000:1000\"]\n\
            [network]\nnetwork_backend = \"netavark\"\n";
        fs::write(dir.join("containers.conf"), containers).expect("containers.conf");
        let insecure =
            |registry: &Registry| format!("[[registry]]\nlocation = \"{}\"\ninsecure = true\n", registry.address());
        let registry = self.registry.as_ref().map(insecure).unwrap_or_default();
        let registries = format!("unqualified-search-registries = [\"localhost\"]\n{registry}");
        fs::write(dir.join("registries.conf"), registries).expect("registries.conf");
    }

    /// Slows the rig's loopback down, so that a pull lasts some seconds.
    pub fn limit_loopback(&self) {
        self.shape_loopback("20mbit", "256k");
    }

    /// Lets small packets through the rig's loopback and no large ones, so that a pull begins and never gets on.
    pub fn stall_loopback(&self) {
        self.shape_loopback("1mbit", "4k");
    }

    fn shape_loopback(&self, rate: &str, burst: &str) {
        let arguments = ["qdisc", "add", "dev", "lo", "root", "tbf", "rate", rate, "burst", burst, "latency", "400ms"];
        let limited = self.inside("tc").args(arguments).status().expect("iproute2 is installed");
        assert!(limited.success());
    }

    fn import_busybox(&self) {
        let tree = busybox_tree(self.dir.path());
        let archive = archive(self.dir.path(), &tree, "busybox.tar");
        self.run(&["import", "-q", "--change", "ENV PATH=/bin", &archive, IMAGE]);
        // The same with a volume of its own and a user.
        self.run(&[
            "import",
            "-q",
            "--change",
            "ENV PATH=/bin",
            "--change",
            "VOLUME /data",
            "--change",
            "USER web",
            &archive,
            "localhost/volume:1",
        ]);
    }
}

/// The `/usr` of that Podman 5.
pub fn unpacked_v5() -> Option<PathBuf> {
    let by_default = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/actioncontroller/podman5"));
    let folder = std::env::var_os("ACTIONCONTROLLER_PODMAN5_DIR").map(PathBuf::from).or_else(by_default)?;
    folder.join("complete").exists().then(|| folder.join("root/usr"))
}

impl Drop for PodmanServer {
    fn drop(&mut self) {
        self.stop_service();
        // Through the command, so that networks, cgroups and conmons go with their containers.
        for arguments in [["pod", "rm", "-fa", "-t0"], ["rm", "-fa", "-t0", "-v"]] {
            let _ = self.command().args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        self.registry = None;
        kill_left_over(self.dir.path());
    }
}
