//! CPUs that one workload has alone, from the document to the kernel: the real daemon on real engines, on a machine with
//! two CPUs of which the second can be had. What is so is read from `/proc`, never through the daemon.

mod ledger;
mod random;

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use actioncontroller::proto::actions::{ActionSpec, ListCoresRequest, ListCoresResponse, Outcome, Verb};
use actioncontroller::proto::workloads::GetWorkloadRequest;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod, with_podman};
use crate::support::layout;
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::rig::{BUSYBOX, criu_folder, kill_left_over, own_network};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs with three processes until SIGTERM and then ends with 0.
const RUNS: &str = "trap \"exit 0\" TERM; (while :; do sleep 0.05; done) & while :; do sleep 0.05; done";

/// A Pod of one container with annotations of ours; it is not started again by itself.
fn asking(name: &str, image: &str, annotations: &[(&str, &str)]) -> String {
    let annotations: Vec<_> =
        annotations.iter().map(|(key, value)| format!("actioncontroller.io/{key}: \"{value}\"")).collect();
    let metadata = format!("metadata: {{name: {name}, annotations: {{{}}}}}", annotations.join(", "));
    let pod = pod(name, image, RUNS).replace(&format!("metadata: {{name: {name}}}"), &metadata);
    format!("{pod}  restartPolicy: Never\n")
}

/// A daemon with its engine. What it leaves is ended when this is dropped.
struct Rig {
    daemon: DaemonProcess,
    image: &'static str,
    _server: Option<PodmanServer>,
}

impl Rig {
    fn on_podman() -> Self {
        let server = PodmanServer::start();
        let daemon = DaemonProcess::start(|_| with_podman(&server.socket()));
        Self { daemon, image: IMAGE, _server: Some(server) }
    }

    fn on_oci() -> Self {
        own_network();
        let mut daemon = DaemonProcess::start(|folder| {
            let images = folder.join("images/busybox");
            fs::create_dir_all(&images).unwrap();
            layout::busybox(&images, BUSYBOX);
            format!(
                "runtimes:\n  preference: [oci]\n  podman: {{enabled: false}}\n  \
                 oci: {{enabled: true, runtime: runc, run_dir: {0}/run, image_folders: [{0}/images]}}\n",
                folder.display()
            )
        });
        let paths = std::env::var("PATH").unwrap_or_default();
        daemon.kill();
        daemon.set_variable("PATH", format!("{}:{paths}", criu_folder().join("bin").display()));
        daemon.start_again();
        Self { daemon, image: BUSYBOX, _server: None }
    }

    fn asking(&self, name: &str, annotations: &[(&str, &str)]) -> ActionSpec {
        launch(&asking(name, self.image, annotations))
    }

    fn done(&self, action: ActionSpec) -> Outcome {
        self.daemon.done(action)
    }

    fn cores(&self) -> ListCoresResponse {
        self.daemon.actions().list_cores(&ListCoresRequest::default(), options()).unwrap()
    }

    /// Who holds CPU 1; empty for nobody.
    fn holder(&self) -> String {
        self.cores().cores[1].holder.clone()
    }

    fn pid(&self, name: &str) -> i32 {
        self.daemon.workload(name).containers[0].pid
    }

    fn kill_and_start_again(&mut self) {
        self.daemon.kill();
        self.daemon.start_again();
    }

    /// Waits until all threads of a workload's container, and what keeps it, are where they should be.
    fn await_cpus(&self, name: &str, cpus: &str, keeper: &str) {
        let pid = self.pid(name);
        let wanted = (set(cpus), set(keeper));
        until(&format!("{name} on {cpus}, its keeper on {keeper}"), LIMIT, || {
            let found = (cpus_of(&tree(pid)), cpus_of(&[parent(pid)?]));
            (found == wanted).then_some(())
        });
    }

    fn await_daemon(&self, cpus: &str) {
        let own = self.daemon.pid();
        until(&format!("the daemon on {cpus}"), LIMIT, || (cpus_of(&[own]) == set(cpus)).then_some(()));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        for workload in ["a", "b", "c"] {
            let _ = self.daemon.execute(on_target(Verb::VERB_TERMINATE, workload));
        }
        self.daemon.kill();
        kill_left_over(&self.daemon.path(""));
    }
}

fn set(cpus: &str) -> BTreeSet<String> {
    [cpus.to_owned()].into()
}

fn named(name: &str) -> GetWorkloadRequest {
    GetWorkloadRequest { name: name.to_owned(), ..Default::default() }
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

/// A process and its descendants.
fn tree(pid: i32) -> Vec<i32> {
    let mut all = vec![pid];
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    all.extend(children.split_whitespace().filter_map(|child| child.parse().ok()).flat_map(tree));
    all
}

/// Where the threads of these processes may run, each list once.
fn cpus_of(pids: &[i32]) -> BTreeSet<String> {
    let tasks = pids.iter().flat_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten());
    let list = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        Some(line.trim().to_owned())
    };
    tasks.filter_map(list).collect()
}

/// A workload takes CPU 1 from everybody, keeps it over the daemon's death, and gives it back.
fn life(mut rig: Rig) {
    rig.done(rig.asking("b", &[]));
    rig.await_cpus("b", "0-1", "0-1");
    let outcome = rig.done(rig.asking("a", &[("exclusive-cpus", "1")]));
    assert!(outcome.steps.iter().any(|step| step.title == "pin a_main"), "{outcome:?}");
    rig.await_cpus("a", "1", "0");
    rig.await_cpus("b", "0", "0");
    rig.await_daemon("0");
    assert_eq!(rig.holder(), "a");
    let (a, b) = (rig.pid("a"), rig.pid("b"));

    // Nobody else gets it, and nothing is changed.
    let before = rig.cores();
    let (code, message) = rig.daemon.fails(rig.asking("c", &[("exclusive-cpu-count", "1")]));
    assert_eq!(code, "CORES_TAKEN");
    let expected = "workload 'c' asks for 1 exclusive CPU: 0 can be had; free: none; held: 1 by 'a'";
    assert!(message.contains(expected), "{message}");
    let (_, message) = rig.daemon.fails(rig.asking("c", &[("exclusive-cpus", "0-1")]));
    assert!(message.contains("CPU 0 is reserved for the system"), "{message}");
    assert_eq!((rig.cores().cores, rig.pid("a"), rig.pid("b")), (before.cores, a, b));

    rig.kill_and_start_again();
    assert_eq!((rig.pid("a"), rig.pid("b"), rig.holder().as_str()), (a, b, "a"));
    rig.await_daemon("0");
    rig.await_cpus("a", "1", "0");
    // What starts later is kept off as well.
    rig.done(rig.asking("c", &[]));
    rig.await_cpus("c", "0", "0");
    assert!(rig.done(on_target(Verb::VERB_RESTART, "a")).changed);
    rig.await_cpus("a", "1", "0");

    rig.done(on_target(Verb::VERB_STOP, "a"));
    assert_eq!(rig.holder(), "");
    for workload in ["b", "c"] {
        rig.await_cpus(workload, "0-1", "0-1");
    }
    rig.await_daemon("0-1");
    rig.done(on_target(Verb::VERB_START, "a"));
    rig.await_cpus("a", "1", "0");
    rig.await_cpus("b", "0", "0");

    // It ends by itself and is not started again.
    kill(Pid::from_raw(rig.pid("a")), Signal::SIGKILL).unwrap();
    until("its CPU to be free", LIMIT, || rig.holder().is_empty().then_some(()));
    rig.await_cpus("b", "0-1", "0-1");
    rig.done(rig.asking("a", &[("exclusive-cpus", "1")]));
    rig.await_cpus("a", "1", "0");
    rig.done(on_target(Verb::VERB_TERMINATE, "a"));
    assert_eq!(rig.holder(), "");
}

#[test]
fn cpu_is_taken_kept_over_a_crash_and_given_back_on_oci() {
    life(Rig::on_oci());
}

#[test]
fn cpu_is_taken_kept_over_a_crash_and_given_back_on_podman() {
    life(Rig::on_podman());
}

#[test]
fn every_container_of_a_pod_is_on_its_cpu_and_the_pause_process_is_not() {
    let rig = Rig::on_podman();
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: a, annotations: {{actioncontroller.io/exclusive-cpu-count: \
         \"1\"}}}}\nspec:\n  initContainers:\n  - {{name: init, image: '{0}', command: [sh, -c, 'sleep 0.2']}}\n  \
         containers:\n  - {{name: x, image: '{0}', command: [sh, -c, '{RUNS}']}}\n  - {{name: y, image: '{0}', command: \
         [sh, -c, '{RUNS}']}}\n",
        rig.image
    );
    rig.done(launch(&text));
    let containers = rig.daemon.workload("a").containers;
    let pids: Vec<_> = containers.iter().filter(|container| !container.init).map(|container| container.pid).collect();
    assert_eq!(pids.len(), 2);
    for pid in pids {
        assert_eq!((cpus_of(&tree(pid)), cpus_of(&[parent(pid).unwrap()])), (set("1"), set("0")));
    }
    let inspected = rig._server.as_ref().unwrap().run(&["ps", "-a", "--format", "{{.Pid}} {{.IsInfra}}"]);
    let pause = inspected.lines().find_map(|line| line.strip_suffix(" true")).unwrap().parse().unwrap();
    assert_eq!((cpus_of(&[pause]), cpus_of(&[parent(pause).unwrap()])), (set("0"), set("0")));
}

#[test]
fn hibernation_is_refused_unless_it_is_allowed_and_what_is_woken_is_on_its_cpu() {
    let rig = Rig::on_oci();
    rig.done(rig.asking("a", &[("exclusive-cpus", "1")]));
    let (code, message) = rig.daemon.fails(on_target(Verb::VERB_HIBERNATE, "a"));
    assert!(code == "INVALID_STATE" && message.contains("it has CPUs alone"), "{code} {message}");
    rig.done(on_target(Verb::VERB_TERMINATE, "a"));
    rig.done(rig.asking("a", &[("exclusive-cpus", "1"), ("hibernate-with-cores", "true")]));
    rig.done(on_target(Verb::VERB_HIBERNATE, "a"));
    assert_eq!(rig.holder(), "a", "it is kept for the wake");
    let woken = rig.done(on_target(Verb::VERB_WAKE, "a"));
    assert!(woken.steps.iter().any(|step| step.title == "pin a_main"), "{woken:?}");
    rig.await_cpus("a", "1", "0");
}

#[test]
fn cpus_are_drawn() {
    let rig = Rig::on_oci();
    rig.done(rig.asking("a", &[("exclusive-cpus", "1")]));
    let drawn = String::from_utf8(rig.daemon.ctl(&["cores"]).stdout).unwrap();
    let line = |cpu: &str| drawn.lines().find(|line| line.starts_with(cpu)).unwrap().to_owned();
    assert!(line("0").contains("reserved") && line("1").ends_with("a"), "{drawn}");
    // This very test is of no workload and may run there.
    let own = format!("({})", std::process::id());
    assert!(drawn.contains("of no workload, and may run there") || drawn.contains(&own), "{drawn}");
}
