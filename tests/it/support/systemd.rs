//! [`SystemdServer`]: a real systemd, as a user's manager in namespaces of its own, on a bus of its own.
//!
//! It sees a mount namespace with a `/run` of its own and version 2 of control groups alone, below a group that the rig makes
//! and kills at the end with all that is in it. Its unit files and its bus are in the rig's folder, and so is the journal where
//! one is asked for: a systemd-journald that it runs, of a machine of its own, in memory.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use actioncontroller::runtime::adapter::{Probe, RuntimeAdapter};
use actioncontroller::runtime::systemd::{Systemd, SystemdConfig};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::rig::{START_LIMIT, busybox_tree};
use super::wait::until;

/// The node whose label the rig's adapter uses.
const NODE: &str = "it";

static COUNTER: AtomicU64 = AtomicU64::new(0);

/// A running systemd.
pub struct SystemdServer {
    dir: tempfile::TempDir,
    group: PathBuf,
    child: Option<Child>,
}

/// What is run in the new namespaces: `$1` is the rig's folder.
const INSIDE: &str = "set -e; mount --make-rprivate /; mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system /run/user/0; \
    mount --bind \"$1/bus\" /run/user/0; if [ -d \"$1/journal\" ]; then for dir in log/journal systemd/journal; do \
    mkdir -p /run/$dir \"$1/journal/run/$dir\"; mount --bind \"$1/journal/run/$dir\" /run/$dir; done; \
    mkdir /run/systemd/journald.conf.d; cp \"$1/journal/rig.conf\" /run/systemd/journald.conf.d; \
    mount --bind \"$1/journal/machine-id\" /etc/machine-id; fi; \
    if [ -e \"$1/usr\" ]; then mount -t overlay -o \"lowerdir=$(cat \"$1/usr\"):/usr\" overlay /usr; fi; umount -R /sys/fs/cgroup 2>/dev/null || umount -l /sys/fs/cgroup; \
    mount -t cgroup2 none /sys/fs/cgroup; exec env -i PATH=\"$PATH\" HOME=\"$1/home\" XDG_RUNTIME_DIR=/run/user/0 \
    DBUS_SESSION_BUS_ADDRESS=unix:path=/run/user/0/bus SYSTEMD_LOG_TARGET=console SYSTEMD_UNIT_PATH=\"$1/units:\" \
    $(cat \"$1/environment\" 2>/dev/null) /lib/systemd/systemd --user";

/// The unit of its journal. As a user's manager it does not tell the journal whose output is whose, which a system's does,
/// so that the journal has to look before the process is gone.
const JOURNALD: &str = "[Service]\nType=notify\nExecStart=/lib/systemd/systemd-journald\nNice=-20\n\
    StandardOutput=null\nEnvironment=SYSTEMD_LOG_TARGET=null\n";

/// Has it run a journal of a machine of its own, without the kernel's messages and without bounds on how much is written.
pub(super) fn prepare_journal(dir: &Path) {
    let journal = dir.join("journal");
    fs::create_dir(&journal).expect("a folder");
    let settings = "[Journal]\nStorage=volatile\nReadKMsg=no\nAudit=no\nRateLimitBurst=0\n";
    fs::write(journal.join("rig.conf"), settings).expect("a file");
    fs::write(journal.join("machine-id"), format!("{}\n", uuid::Uuid::now_v7().simple())).expect("a file");
    let (name, units) = ("systemd-journald.service", dir.join("units"));
    fs::write(units.join(name), JOURNALD).expect("a unit");
    let wants = units.join("default.target.wants");
    fs::create_dir(&wants).expect("a folder");
    std::os::unix::fs::symlink(units.join(name), wants.join(name)).expect("a link");
}

impl SystemdServer {
    /// Starts it, and waits until it is on its bus.
    pub fn start() -> Self {
        Self::start_with(|_| {})
    }

    /// The same with a journal.
    pub fn start_with_journal() -> Self {
        Self::start_with(prepare_journal)
    }

    /// Starts it with what is put into its folder before.
    pub(super) fn start_with(prepare: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::Builder::new().prefix("ac-systemd-").tempdir().expect("a temporary folder");
        for folder in ["bus", "home", "units"] {
            fs::create_dir(dir.path().join(folder)).expect("a folder");
        }
        for (name, text) in [
            ("dbus.socket", "[Socket]\nListenStream=%t/bus\n"),
            (
                "dbus.service",
                "[Unit]\nRequires=dbus.socket\n[Service]\nExecStart=/usr/bin/dbus-daemon --session --address=systemd: \
                 --nofork --nopidfile --systemd-activation\n",
            ),
            ("default.target", "[Unit]\nRequires=dbus.socket dbus.service\nAfter=dbus.service\n"),
        ] {
            fs::write(dir.path().join("units").join(name), text).expect("a unit");
        }
        busybox_tree(dir.path());
        prepare(dir.path());
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let group = unified().join(format!("ac-systemd-{}-{number}", std::process::id()));
        let mut server = Self { dir, group, child: None };
        server.boot();
        server
    }

    fn boot(&mut self) {
        fs::create_dir_all(&self.group).expect("a control group");
        let log = fs::File::create(self.dir.path().join("log")).expect("a log");
        let enter = format!(
            "echo $$ >{}/cgroup.procs; exec unshare --mount --cgroup sh -c \"$1\" sh \"$2\"",
            self.group.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &enter, "sh", INSIDE]).arg(self.dir.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        self.child = Some(command.spawn().expect("a shell"));
        let is_there = || {
            UnixStream::connect(self.socket()).ok()?;
            let adapter = self.adapter();
            let is_available = matches!(adapter.probe(), Probe::Available { .. });
            let has_journal = adapter.capabilities().supports_logs || !self.journal().exists();
            (is_available && has_journal).then_some(())
        };
        until("systemd is on its bus", START_LIMIT, is_there);
    }

    /// The socket of its bus.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("bus/bus")
    }

    /// Where it looks for units.
    pub fn units(&self) -> PathBuf {
        self.dir.path().join("units")
    }

    /// The root of its journal.
    pub fn journal(&self) -> PathBuf {
        self.dir.path().join("journal")
    }

    /// A root file system for services, with a busybox.
    pub fn tree(&self) -> PathBuf {
        self.dir.path().join("busybox")
    }

    /// The adapter's configuration.
    pub fn config(&self) -> SystemdConfig {
        SystemdConfig {
            node: NODE.to_owned(),
            dir: self.dir.path().join("kept"),
            bus: self.socket().display().to_string(),
            unit_dir: self.units(),
            journal_root: self.journal(),
            ..SystemdConfig::default()
        }
    }

    /// An adapter for it.
    pub fn adapter(&self) -> Systemd {
        Systemd::open(self.config()).expect("the folder can be used")
    }

    /// A property of a unit, as `systemctl` shows it.
    pub fn show(&self, unit: &str, property: &str) -> String {
        let runtime_dir = self.dir.path().join("bus");
        let mut command = Command::new("systemctl");
        command.args(["--user", "show", "--value", "--property", property, "--", unit]);
        let shown = command.env("XDG_RUNTIME_DIR", runtime_dir).output().expect("systemctl");
        assert!(shown.status.success(), "{shown:?}");
        String::from_utf8_lossy(&shown.stdout).trim().to_owned()
    }

    /// The rig's folder.
    pub fn files(&self) -> &Path {
        self.dir.path()
    }

    /// Sends a signal to it alone.
    pub fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().expect("it runs").id();
        kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), signal).expect("it is there");
    }

    /// Ends it with all that it runs.
    pub fn kill(&mut self) {
        let _ = fs::write(self.group.join("cgroup.kill"), "1");
        if let Some(mut child) = self.child.take() {
            let _ = child.wait();
        }
        until("systemd's groups are empty", START_LIMIT, || {
            remove_tree(&self.group);
            (!self.group.exists()).then_some(())
        });
    }
}

/// Where version 2 of control groups is mounted.
fn unified() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("/proc is mounted");
    let line = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"));
    line.and_then(|line| line.split(' ').nth(1)).expect("version 2 of control groups is mounted").into()
}

fn remove_tree(dir: &Path) {
    let below = fs::read_dir(dir).into_iter().flatten().flatten();
    below.filter(|entry| entry.path().is_dir()).for_each(|entry| remove_tree(&entry.path()));
    let _ = fs::remove_dir(dir);
}

impl Drop for SystemdServer {
    fn drop(&mut self) {
        self.kill();
    }
}
