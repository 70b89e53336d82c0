//! [`EtcdCluster`]: a private etcd of one or several members on free ports of 127.0.0.1, in one temporary folder.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::wait::until;

/// How long a cluster has to be ready.
const START_LIMIT: Duration = Duration::from_secs(30);

struct Member {
    name: String,
    client: u16,
    peer: u16,
    child: Option<Child>,
}

/// A cluster; its members end when it is dropped.
pub struct EtcdCluster {
    folder: tempfile::TempDir,
    members: Vec<Member>,
    options: Vec<String>,
    is_secured: bool,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl EtcdCluster {
    /// A cluster of so many members, in plain text.
    pub fn start(members: usize) -> Self {
        Self::start_with(members, &[])
    }

    /// As [`EtcdCluster::start`], with options for each member.
    pub fn start_with(members: usize, options: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("ac-etcd-").tempdir().unwrap();
        let is_secured = options.iter().any(|option| option.starts_with("--cert-file"));
        let options = options.iter().map(|option| option.replace("FOLDER", &folder.path().display().to_string()));
        let options = options.collect();
        let member =
            |number| Member { name: format!("m{number}"), client: free_port(), peer: free_port(), child: None };
        let members = (0..members).map(member).collect();
        let mut cluster = Self { folder, members, options, is_secured };
        if is_secured {
            cluster.make_certificates();
        }
        (0..cluster.members.len()).for_each(|index| cluster.spawn(index));
        cluster.wait_ready();
        cluster
    }

    fn scheme(&self) -> &'static str {
        if self.is_secured { "https" } else { "http" }
    }

    fn spawn(&mut self, index: usize) {
        let all: Vec<_> = self.members.iter().map(|m| format!("{}=http://127.0.0.1:{}", m.name, m.peer)).collect();
        let scheme = self.scheme();
        let member = &self.members[index];
        let (client, peer) =
            (format!("{scheme}://127.0.0.1:{}", member.client), format!("http://127.0.0.1:{}", member.peer));
        let log = fs::File::create(self.folder.path().join(format!("{}.log", member.name))).unwrap();
        let mut command = Command::new("etcd");
        command.arg("--name").arg(&member.name).arg("--data-dir").arg(self.folder.path().join(&member.name));
        command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
        command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        command.args(["--initial-cluster", &all.join(","), "--logger=zap", "--log-level=warn"]).args(&self.options);
        command.env("ETCD_UNSUPPORTED_ARCH", "arm64").stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.members[index].child = Some(command.spawn().expect("etcd is installed"));
    }

    /// Waits until the cluster takes writes.
    pub fn wait_ready(&self) {
        until("etcd is ready", START_LIMIT, || self.try_ctl(&["put", "ready", "1"]));
    }

    /// The members' addresses for clients.
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(|member| format!("127.0.0.1:{}", member.client)).collect()
    }

    /// A file in the cluster's folder: `ca.pem`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Runs etcdctl; what it printed where it succeeded.
    pub fn try_ctl(&self, arguments: &[&str]) -> Option<String> {
        let mut command = Command::new("etcdctl");
        let urls: Vec<_> = self.endpoints().into_iter().map(|at| format!("{}://{at}", self.scheme())).collect();
        command.env("ETCDCTL_API", "3").arg("--endpoints").arg(urls.join(",")).arg("--command-timeout=2s");
        if self.is_secured {
            command.arg("--cacert").arg(self.file("ca.pem"));
            command.arg("--cert").arg(self.file("client.pem")).arg("--key").arg(self.file("client.key"));
        }
        let output = command.args(arguments).stdin(Stdio::null()).output().expect("etcdctl is installed");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Runs etcdctl.
    ///
    /// # Panics
    /// Where it fails.
    pub fn ctl(&self, arguments: &[&str]) -> String {
        self.try_ctl(arguments).unwrap_or_else(|| panic!("etcdctl {arguments:?}"))
    }

    /// Kills a member as a crash would.
    pub fn kill(&mut self, index: usize) {
        if let Some(mut child) = self.members[index].child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Starts a killed member again.
    pub fn restart(&mut self, index: usize) {
        self.spawn(index);
    }

    /// Hangs a member, or lets it go on.
    pub fn signal(&self, index: usize, signal: Signal) {
        let child = self.members[index].child.as_ref().expect("it runs");
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
    }

    /// The member that leads.
    pub fn leader(&self) -> usize {
        until("a leader", START_LIMIT, || {
            let leads = |member: &Member| {
                let mut command = Command::new("etcdctl");
                command.env("ETCDCTL_API", "3").args(["--command-timeout=2s", "-w", "json", "--endpoints"]);
                let output = command.arg(format!("127.0.0.1:{}", member.client)).args(["endpoint", "status"]).output();
                let text = String::from_utf8_lossy(&output.unwrap().stdout).into_owned();
                let status: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let status = &status[0]["Status"];
                !status.is_null() && status["leader"] == status["header"]["member_id"]
            };
            self.members.iter().position(|member| member.child.is_some() && leads(member))
        })
    }

    /// An authority, and certificates of it for servers and clients.
    fn make_certificates(&self) {
        let run = |arguments: &[&str]| {
            let made = Command::new("openssl").args(arguments).current_dir(self.folder.path()).output();
            let made = made.expect("openssl is installed");
            assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        };
        let names = self.file("names.cnf");
        fs::write(&names, "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
        let authority = ["req", "-x509", "-days", "2", "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.pem"];
        run(&[&authority[..], &key[..]].concat());
        for name in ["server", "client"] {
            let (secret, request, certificate) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
            let subject = format!("/CN={name}");
            run(&[&["req", "-subj", &subject, "-keyout", &secret, "-out", &request][..], &key[..]].concat());
            let sign = ["x509", "-req", "-days", "2", "-in", &request, "-CA", "ca.pem", "-CAkey", "ca.key"];
            run(&[&sign[..], &["-CAcreateserial", "-extfile", &path(&names), "-out", &certificate][..]].concat());
        }
    }
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|index| self.kill(index));
    }
}
