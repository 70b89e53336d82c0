//! [`ContainerdServer`]: a private containerd with an image and a registry.
//!
//! Everything lies in one temporary folder and in one network and mount namespace. Dropping the rig deletes what is left
//! of containers through containerd's own command, then ends what it started by process id.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use actioncontroller::runtime::containerd::{Containerd, ContainerdConfig};
use actioncontroller::transport::channel::ChannelThreads;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::rig::{
    Anchor, BUSYBOX, Registry, START_LIMIT, archive, busybox_tree, criu_folder, kill_left_over, noisy_archive, pids_in,
};
use super::wait::until;

/// The node whose label the rig's adapter uses.
pub const NODE: &str = "it";

/// The namespace of the rig's adapter.
pub const NAMESPACE: &str = "actioncontroller";

/// A running private containerd.
pub struct ContainerdServer {
    dir: tempfile::TempDir,
    criu: PathBuf,
    anchor: Anchor,
    containerd: Option<Child>,
    registry: Option<Registry>,
}

impl ContainerdServer {
    /// Starts the containerd that is installed, with an image.
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same without its CRI plugin, as some distributions configure it.
    pub fn start_without_cri() -> Self {
        Self::start_with("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n")
    }

    fn start_with(configuration: &str) -> Self {
        let criu = criu_folder().join("bin");
        let dir = tempfile::Builder::new().prefix("ac-containerd-").tempdir().expect("a temporary folder");
        fs::write(dir.path().join("containerd.toml"), configuration).expect("a file");
        let mut server = Self { dir, criu, anchor: Anchor::start(None), containerd: None, registry: None };
        server.start_containerd();
        let tree = busybox_tree(server.dir.path());
        let layer = archive(server.dir.path(), &tree, "busybox.tar");
        server.import(NAMESPACE, BUSYBOX, Path::new(&layer));
        server
    }

    /// The same with a registry that has an image; see [`ContainerdServer::remote_image`].
    pub fn start_with_registry() -> Self {
        Self::start().with_registry()
    }

    /// The same with a CRI plugin that keeps no layers once it has unpacked them.
    pub fn start_with_registry_and_no_layers() -> Self {
        Self::start_with(
            "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\ndiscard_unpacked_layers = true\n",
        )
        .with_registry()
    }

    fn with_registry(self) -> Self {
        let mut server = self;
        server.registry = Some(Registry::start(&server.anchor, server.dir.path()));
        let layer = noisy_archive(server.dir.path());
        let remote = server.remote_image();
        server.import("rig", &remote, Path::new(&layer));
        server.run_in("rig", &["images", "push", "--plain-http", &remote]);
        // What is left of it would be found by the pull.
        server.run_in("rig", &["images", "rm", "--sync", &remote]);
        server
    }

    /// An image that only the registry has.
    pub fn remote_image(&self) -> String {
        self.registry.as_ref().expect("started with a registry").image()
    }

    /// The socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    /// A path in the rig's folder at which nobody listens.
    pub fn nowhere(&self) -> PathBuf {
        self.dir.path().join("nobody.sock")
    }

    /// The rig's folder.
    pub fn files(&self) -> &Path {
        self.dir.path()
    }

    /// An adapter for it.
    pub fn adapter(&self) -> Containerd {
        Containerd::open(self.config(), &ChannelThreads::start()).expect("its folder can be made")
    }

    /// The adapter's configuration.
    pub fn config(&self) -> ContainerdConfig {
        ContainerdConfig {
            socket: self.socket(),
            namespace: NAMESPACE.to_owned(),
            node: NODE.to_owned(),
            dir: self.dir.path().join("adapter"),
            logger: env!("CARGO_BIN_EXE_actioncontroller").into(),
        }
    }

    /// Runs a command of containerd's own in the adapter's namespace and gives what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_in(NAMESPACE, arguments)
    }

    fn run_in(&self, namespace: &str, arguments: &[&str]) -> String {
        let mut command = self.command(namespace);
        let output = command.args(arguments).stdin(Stdio::null()).output().expect("ctr runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ctr {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    fn command(&self, namespace: &str) -> Command {
        let mut command = self.anchor.inside("ctr");
        command.arg("--address").arg(self.socket()).args(["--namespace", namespace]);
        command
    }

    /// Makes an image of one layer present under this name.
    fn import(&self, namespace: &str, name: &str, layer: &Path) {
        let archive = oci_archive(self.dir.path(), name, layer);
        let archive = archive.to_string_lossy();
        self.run_in(namespace, &["images", "import", "--no-unpack", &archive]);
    }

    /// Starts it, or starts it again: containers that run have gone on.
    pub fn start_containerd(&mut self) {
        let dir = self.dir.path();
        let log = fs::File::options().create(true).append(true).open(dir.join("containerd.log")).expect("a log file");
        let mut command = self.anchor.inside("containerd");
        let paths = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{paths}", self.criu.display()));
        command.arg("--config").arg(dir.join("containerd.toml")).arg("--root").arg(dir.join("root"));
        command.arg("--state").arg(dir.join("state")).arg("--address").arg(self.socket());
        self.containerd =
            Some(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("containerd"));
        until("containerd's answer", START_LIMIT, || {
            UnixStream::connect(self.socket()).ok()?;
            self.command("rig").arg("version").output().ok().filter(|output| output.status.success())
        });
    }

    /// Ends it, as a crash would; its containers go on.
    pub fn kill_containerd(&mut self) {
        if let Some(mut containerd) = self.containerd.take() {
            let _ = containerd.kill();
            let _ = containerd.wait();
        }
    }

    /// Sends the engine itself a signal, as one that leaves it hanging.
    pub fn signal_containerd(&self, signal: Signal) {
        kill(self.containerd.as_ref().map(pid).expect("it runs"), signal).expect("it runs");
    }

    /// Processes whose command lines name the rig's folder and have this word.
    pub fn pids_with(&self, word: &str) -> Vec<i32> {
        pids_in(self.dir.path(), word)
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a process id"))
}

/// An OCI archive of an image with one layer; its path.
fn oci_archive(dir: &Path, name: &str, layer: &Path) -> PathBuf {
    let layout = dir.join("layout");
    let blobs = layout.join("blobs/sha256");
    let _ = fs::remove_dir_all(&layout);
    fs::create_dir_all(&blobs).expect("a folder");
    let put = |kind: &str, bytes: &[u8]| -> Value {
        let digest = format!("{:x}", Sha256::digest(bytes));
        fs::write(blobs.join(&digest), bytes).expect("a blob");
        let media = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    };
    let layer = put("layer.v1.tar", &fs::read(layer).expect("the layer"));
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"] },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = put("config.v1+json", config.to_string().as_bytes());
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
    let mut manifest = put("manifest.v1+json", manifest.to_string().as_bytes());
    manifest["annotations"] = json!({ "io.containerd.image.name": name });
    let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
    fs::write(layout.join("index.json"), index.to_string()).expect("the index");
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("the layout");
    PathBuf::from(archive(dir, &layout, "image.tar"))
}

impl Drop for ContainerdServer {
    fn drop(&mut self) {
        if let Some(containerd) = &mut self.containerd {
            // One that was left hanging would never end.
            let _ = kill(pid(containerd), Signal::SIGCONT);
        }
        let quietly = |command: &mut Command| command.stderr(Stdio::null()).output().map(|output| output.stdout);
        if self.containerd.is_some() {
            for kind in ["tasks", "containers"] {
                let all = quietly(self.command(NAMESPACE).args([kind, "ls", "-q"])).unwrap_or_default();
                let all = String::from_utf8_lossy(&all).into_owned();
                let force: &[&str] = if kind == "tasks" { &["-f"] } else { &[] };
                if !all.trim().is_empty() {
                    let _ = quietly(self.command(NAMESPACE).args([kind, "rm"]).args(force).args(all.lines()));
                }
            }
        }
        if let Some(mut containerd) = self.containerd.take() {
            let _ = kill(pid(&containerd), Signal::SIGTERM);
            let _ = containerd.wait();
        }
        self.registry = None;
        kill_left_over(self.dir.path());
    }
}
