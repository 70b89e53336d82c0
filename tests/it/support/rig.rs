//! What rigs of container engines share: namespaces of their own, an image, a registry, and that nothing is left running.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, Read};
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use actioncontroller::model::resources::Resources;
use actioncontroller::model::security::SecurityContext;
use actioncontroller::model::workload::{ContainerSpec, NetworkMode, PullPolicy};
use actioncontroller::runtime::adapter::ContainerConfig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::until;

/// The image that every rig has: busybox, with links for its applets.
pub const BUSYBOX: &str = "localhost/busybox:1";

/// How long a server may take to answer.
pub const START_LIMIT: Duration = Duration::from_secs(20);

/// The process that holds a rig's network and mount namespaces.
pub struct Anchor(Child);

impl Anchor {
    /// Starts it, with loopback up and its own lock and namespace folders; `usr` is laid over the machine's `/usr`.
    pub fn start(usr: Option<&Path>) -> Self {
        let script = "set -e; mkdir -p /run/netns; busybox mount -t tmpfs shm /dev/shm; \
            busybox mount -t tmpfs netns /run/netns; busybox ip link set lo up; \
            if [ -n \"$1\" ]; then busybox mount -t overlay -o \"lowerdir=$1:/usr\" overlay /usr; fi; \
            echo ready; exec sleep infinity";
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
        command.arg(usr.unwrap_or(Path::new("")));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("unshare runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("piped");
        std::io::BufReader::new(output).read_line(&mut line).expect("a line");
        assert_eq!(line.trim(), "ready", "the namespaces could not be made");
        Self(child)
    }

    /// A command in the namespaces.
    pub fn inside(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--mount", "--target"]).arg(self.0.id().to_string()).arg("--").arg(program);
        command
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Makes the tree of the image in `dir`.
pub fn busybox_tree(dir: &Path) -> PathBuf {
    let tree = dir.join("busybox");
    for folder in ["bin", "dev", "etc", "proc", "sys", "tmp"] {
        fs::create_dir_all(tree.join(folder)).expect("a folder");
    }
    let mut places = ["/bin/busybox", "/usr/bin/busybox"].into_iter().map(Path::new);
    let busybox = places.find(|path| path.exists()).expect("busybox-static is installed");
    fs::copy(busybox, tree.join("bin/busybox")).expect("busybox");
    let applets = Command::new(busybox).arg("--list").output().expect("busybox runs").stdout;
    for applet in String::from_utf8_lossy(&applets).lines().filter(|name| *name != "busybox") {
        symlink("busybox", tree.join("bin").join(applet)).expect("a link");
    }
    fs::write(tree.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n").expect("passwd");
    fs::write(tree.join("etc/group"), "root:x:0:\nweb:x:1000:\n").expect("group");
    tree
}

/// The tree as an archive in `dir`; its path.
pub fn archive(dir: &Path, tree: &Path, name: &str) -> String {
    let archive = dir.join(name);
    let tarred = Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(&archive).arg(".").status();
    assert!(tarred.expect("tar runs").success());
    archive.to_string_lossy().into_owned()
}

/// An archive of the tree that [`busybox_tree`] has made, with some megabytes of random content, so that it stays as large
/// when compressed and no engine has it.
pub fn noisy_archive(dir: &Path) -> String {
    let tree = dir.join("busybox");
    let mut noise = Vec::new();
    let random = fs::File::open("/dev/urandom").expect("random bytes");
    random.take(6 * 1024 * 1024).read_to_end(&mut noise).expect("random bytes");
    fs::write(tree.join("noise"), noise).expect("a file");
    archive(dir, &tree, "remote.tar")
}

/// A container of busybox that runs this script, with no network.
pub fn container(name: &str, script: &str) -> ContainerConfig {
    let spec = ContainerSpec {
        name: name.to_owned(),
        image: BUSYBOX.to_owned(),
        rootfs: String::new(),
        unit: String::new(),
        pull: PullPolicy::IfNotPresent,
        command: ["sh", "-c"].map(str::to_owned).to_vec(),
        args: vec![script.to_owned()],
        working_dir: String::new(),
        env: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Resources::default(),
        security: SecurityContext::default(),
        stdin: false,
        tty: false,
        liveness: None,
    };
    ContainerConfig {
        name: name.to_owned(),
        spec,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        pod: None,
        network: NetworkMode::None,
        aliases: Vec::new(),
        ports: Vec::new(),
        hostname: String::new(),
        host_ipc: false,
        host_pid: false,
        node: String::new(),
        mounts: Vec::new(),
    }
}

/// Gives the calling thread, and what it starts from now on, a network of its own, with nothing but its loopback.
pub fn own_network() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("the tests run as root");
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
    assert!(up.expect("iproute2 is installed").success());
}

/// A registry on a free port of 127.0.0.1 in a rig's namespaces.
pub struct Registry {
    child: Child,
    port: u16,
}

impl Registry {
    /// The namespace is the rig's own, so any port is free in it; one that the machine gives keeps to its range.
    pub fn start(anchor: &Anchor, dir: &Path) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port").port();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: \"127.0.0.1:{port}\"}}\n",
            dir.join("registry").display()
        );
        fs::write(dir.join("registry.yml"), config).expect("registry.yml");
        let log = fs::File::create(dir.join("registry.log")).expect("a log file");
        let mut command = anchor.inside("docker-registry");
        command.arg("serve").arg(dir.join("registry.yml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().expect("docker-registry is installed");
        // Seen from outside: no client has to run in there.
        let sockets = format!("/proc/{}/net", child.id());
        let listening = format!(":{port:04X} ");
        until("the registry", START_LIMIT, || {
            let tables =
                ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("{sockets}/{table}")).unwrap_or_default());
            tables
                .iter()
                .flat_map(|table| table.lines())
                .find(|line| line.contains(&listening) && line.contains(" 0A "))?;
            Some(())
        });
        Self { child, port }
    }

    /// Its address.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// An image of it.
    pub fn image(&self) -> String {
        format!("{}/test/busybox:1", self.address())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends what still names the folder in its command line: a conmon or network helper that outlived its container.
pub fn kill_left_over(dir: &Path) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    let own = std::process::id().to_string();
    for process in processes.flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        if name == own || !name.bytes().all(|byte| byte.is_ascii_digit()) {
            continue;
        }
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command);
        // Whole path, so that a sibling test's folder is none.
        if command
            .split(['\0', '=', ':', ' '])
            .any(|part| Path::new(part.trim_start_matches("unix://")).starts_with(dir))
        {
            let pid = name.parse().expect("digits");
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

/// Processes whose command lines have both this folder, or one in it, and this word.
pub fn pids_in(dir: &Path, word: &str) -> Vec<i32> {
    let dir = dir.to_string_lossy();
    let fits = |process: &fs::DirEntry| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line);
        line.contains(&*dir) && line.contains(word)
    };
    let processes = fs::read_dir("/proc").expect("/proc").flatten().filter(fits);
    processes.filter_map(|process| process.file_name().to_str()?.parse().ok()).collect()
}

/// Where `tests/rig/criu.sh` unpacks: `$ACTIONCONTROLLER_CRIU_DIR`, by default `~/.cache/actioncontroller/criu`.
pub fn criu_folder() -> PathBuf {
    let by_default = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/actioncontroller/criu"));
    let folder = std::env::var_os("ACTIONCONTROLLER_CRIU_DIR").map(PathBuf::from).or_else(by_default);
    folder.unwrap_or_default()
}

/// A value of the process's cgroup, on the first hierarchy that has the file.
pub fn cgroup_value(pid: i32, files: &[&str]) -> String {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap(), parts.next().unwrap());
        for base in [format!("/sys/fs/cgroup/{controllers}"), "/sys/fs/cgroup".into(), "/sys/fs/cgroup/unified".into()]
        {
            for file in files {
                if let Ok(value) = fs::read_to_string(format!("{base}{path}/{file}")) {
                    return value.trim().to_owned();
                }
            }
        }
    }
    panic!("none of {files:?} is in a cgroup of process {pid}: {groups}");
}
