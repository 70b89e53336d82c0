//! Launches with no engine daemon: through the daemon, and by conmon with crun's or runc's create and start by hand.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use actioncontroller::proto::actions::{ActionSpec, Parameters, Verb};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use command_fds::{CommandFdExt, FdMapping};
use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use protobuf::MessageField;

use super::calls::channel;
use super::launches::{execute, sleeper};
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, launch, on_target};
use super::support::layout;
use super::support::rig::BUSYBOX;

/// Rounds at most, and when no more are begun.
const ROUNDS: usize = 20;
const LIMIT: Duration = Duration::from_secs(60);

pub fn measure(report: &mut Report) {
    report.part("oci");
    let daemon = DaemonProcess::start(|folder| {
        let images = folder.join("images/busybox");
        fs::create_dir_all(&images).expect("a folder");
        layout::busybox(&images, BUSYBOX);
        format!(
            "log: {{level: info}}\nruntimes:\n  preference: [oci]\n  podman: {{enabled: false}}\n  \
             oci: {{enabled: true, runtime: runc, run_dir: {0}/run, image_folders: [{0}/images]}}\n",
            folder.display()
        )
    });
    let client = ActionControllerClient::new(channel(&daemon.address()));
    let at_once = |name: &str| {
        let parameters = Parameters { grace_ms: Some(0), ..Default::default() };
        ActionSpec { parameters: MessageField::some(parameters), ..on_target(Verb::VERB_TERMINATE, name) }
    };
    execute(&client, launch(&sleeper("first")));
    let by_hand = ByHand::of(&daemon);
    let [mut ours, mut theirs] = [(); 2].map(|()| Samples::default());
    let begun = Instant::now();
    for round in 0..=ROUNDS {
        ours.time(|| execute(&client, launch(&sleeper("ours"))));
        execute(&client, at_once("ours"));
        theirs.time(|| by_hand.run(&format!("hand{round}")));
        by_hand.remove(&format!("hand{round}"));
        if round == 0 {
            [ours, theirs] = [(); 2].map(|()| Samples::default());
        } else if begun.elapsed() > LIMIT {
            break;
        }
    }
    execute(&client, at_once("first"));
    report.beside("launch, one container (runc, no engine)", &ours, "conmon, create, start by hand", &theirs);
}

/// The same bundle as the daemon's own container has, run without the daemon.
struct ByHand {
    folder: PathBuf,
    bundle: PathBuf,
}

impl ByHand {
    fn of(daemon: &DaemonProcess) -> Self {
        let mut containers = fs::read_dir(daemon.path("state/oci/containers")).expect("containers").flatten();
        let bundle = containers.next().expect("a container").path();
        let folder = daemon.path("by-hand");
        fs::create_dir_all(folder.join("exits")).expect("a folder");
        Self { folder, bundle }
    }

    fn run(&self, id: &str) {
        let dir = self.folder.join(id);
        fs::create_dir(&dir).expect("a folder");
        let spec = fs::read_to_string(self.bundle.join("config.json")).expect("a specification");
        let mut spec: serde_json::Value = serde_json::from_str(&spec).expect("JSON");
        spec["linux"]["cgroupsPath"] = format!("/actioncontroller/{id}").into();
        fs::write(dir.join("config.json"), spec.to_string()).expect("a bundle");
        let (sync, theirs) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let (their_start, start) = pipe2(OFlag::O_CLOEXEC).expect("a pipe");
        let mut conmon = Command::new("conmon");
        conmon.args(["--api-version", "1", "-c", id, "-u", id, "-n", id, "-r", &runc(), "--runtime-arg", "--root"]);
        conmon.arg("--runtime-arg").arg(self.folder.join("run")).arg("-b").arg(&dir).arg("-p").arg(dir.join("pid"));
        conmon.arg("-P").arg(dir.join("conmon.pid")).arg("--exit-dir").arg(self.folder.join("exits"));
        conmon.arg("--full-attach").arg("-l").arg(format!("k8s-file:{}", dir.join("log").display()));
        conmon.env("_OCI_SYNCPIPE", "3").env("_OCI_STARTPIPE", "4").stdin(Stdio::null());
        let mapped = conmon.fd_mappings(vec![
            FdMapping { parent_fd: theirs, child_fd: 3 },
            FdMapping { parent_fd: their_start, child_fd: 4 },
        ]);
        mapped.expect("descriptors");
        let mut child = conmon.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("conmon is installed");
        drop(conmon);
        fs::File::from(start).write_all(&[0]).expect("the start");
        child.wait().expect("conmon goes on by itself");
        let mut told = [0; 256];
        let read = fs::File::from(sync).read(&mut told).expect("what conmon tells");
        assert!(String::from_utf8_lossy(&told[..read]).contains("\"data\""), "{id} was not created");
        self.runc(&["start", id]);
    }

    fn remove(&self, id: &str) {
        self.runc(&["delete", "--force", id]);
        drop(fs::remove_dir_all(self.folder.join(id)));
    }

    fn runc(&self, words: &[&str]) {
        let mut command = Command::new(runc());
        let status = command.arg("--root").arg(self.folder.join("run")).args(words).stdout(Stdio::null()).status();
        assert!(status.expect("runc is installed").success(), "runc {words:?}");
    }
}

fn runc() -> String {
    let places = ["/usr/sbin/runc", "/usr/bin/runc"];
    places.into_iter().find(|path| Path::new(path).exists()).expect("runc is installed").to_owned()
}
