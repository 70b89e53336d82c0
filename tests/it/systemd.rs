//! From a unit's text to a service of a real systemd: the whole life by way of the daemon, which is killed meanwhile.

mod quadlets;
mod services;

use std::fs;
use std::time::Duration;

use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::workloads::WorkloadState;

use crate::support::daemon::{DaemonProcess, launch, on_target, pod, with_sim};
use crate::support::rig::BUSYBOX;
use crate::support::systemd::SystemdServer;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs until SIGTERM and then ends with 7.
const UNIT: &str = "[Unit]\nDescription=Lamp\n[Service]\nType=exec\n\
    ExecStart=/bin/sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.05; done'\n[X-ActionController]\nName=lamp\n";

/// A daemon with a systemd, and the simulator beside it.
struct Rig {
    // Ends before its engine does.
    daemon: DaemonProcess,
    server: SystemdServer,
}

impl Rig {
    fn new() -> Self {
        Self::over(SystemdServer::start())
    }

    fn over(server: SystemdServer) -> Self {
        Self::with(server, "manage: false")
    }

    /// With more settings of systemd.
    fn with(server: SystemdServer, more: &str) -> Self {
        let systemd = format!(
            "  systemd: {{enabled: true, bus: {}, unit_dir: {}, journal_root: {}, {more}}}\n",
            server.socket().display(),
            server.units().display(),
            server.journal().display()
        );
        let daemon = DaemonProcess::start(|folder| {
            let units = "security: {units: true}\n";
            units.to_owned() + &with_sim(folder).replacen("runtimes:\n", &format!("runtimes:\n{systemd}"), 1)
        });
        Self { daemon, server }
    }

    /// The unit files that the daemon has written.
    fn unit_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.server.units()).unwrap().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.starts_with("actioncontroller-")).collect()
    }
}

#[test]
fn unit_lives_its_life_as_a_service() {
    let rig = Rig::new();
    let outcome = rig.daemon.done(launch(UNIT));
    assert_eq!((outcome.engine.as_str(), outcome.engine_reason.as_str()), ("systemd", "format"), "{outcome:?}");
    let running = rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    let text = fs::read_to_string(rig.server.units().join("actioncontroller-lamp_unit.service"));
    assert_eq!(text.ok().as_deref(), Some(UNIT), "{:?}", rig.unit_files());
    assert!(!rig.daemon.done(launch(UNIT)).changed, "the same again");
    rig.daemon.done(on_target(Verb::VERB_PAUSE, "lamp"));
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_PAUSED);
    rig.daemon.done(on_target(Verb::VERB_RESUME, "lamp"));
    rig.daemon.done(on_target(Verb::VERB_RESTART, "lamp"));
    let again = rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_ne!(again.containers[0].pid, running.containers[0].pid);
    rig.daemon.done(on_target(Verb::VERB_STOP, "lamp"));
    assert_eq!(rig.daemon.workload("lamp").containers[0].exit_code, Some(7));
    rig.daemon.done(on_target(Verb::VERB_TERMINATE, "lamp"));
    assert_eq!(rig.unit_files(), Vec::<String>::new());
    let shown = rig.daemon.ctl(&["runtimes"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("systemd") && shown.contains("services"), "{shown}");
}

#[test]
fn service_goes_on_under_the_next_daemon_and_its_end_meanwhile_is_known() {
    let mut rig = Rig::new();
    rig.daemon.done(launch(UNIT));
    let pid = rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING).containers[0].pid;
    assert!(pid > 0);
    rig.daemon.kill();
    rig.daemon.start_again();
    let adopted = rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_eq!(adopted.containers[0].pid, pid, "it is adopted");
    rig.daemon.kill();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
    rig.daemon.start_again();
    let ended = until("the end is known", LIMIT, || {
        Some(rig.daemon.workload("lamp")).filter(|found| found.containers[0].exit_code.is_some())
    });
    assert_eq!(ended.containers[0].exit_code, Some(7), "{ended:?}");
    assert!(rig.daemon.done(on_target(Verb::VERB_START, "lamp")).changed);
    assert_ne!(rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING).containers[0].pid, pid);
}

#[test]
fn image_and_unit_that_restarts_itself_are_refused_by_name() {
    let rig = Rig::new();
    let mut action = launch(&pod("w", BUSYBOX, "sleep 1000"));
    action.parameters.mut_or_insert_default().engine = "systemd".to_owned();
    let (code, message) = rig.daemon.fails(action);
    assert_eq!(code, "ENGINE_LACKS_CAPABILITY", "{message}");
    assert!(message.contains("systemd does not support image pull"), "{message}");
    let (_, message) = rig.daemon.fails(launch(&UNIT.replace("Type=exec", "Restart=always")));
    assert!(message.contains("Restart=always"), "{message}");
    assert_eq!(rig.unit_files(), Vec::<String>::new());
}

#[test]
fn command_is_run_as_a_transient_service_of_which_nothing_is_left() {
    let rig = Rig::new();
    let script = "trap 'exit 7' TERM; echo \"$0 $1\" > \"$OUT\"; while :; do sleep 0.05; done";
    let out = rig.server.units().join("out");
    let variable = format!("OUT={}", out.display());
    let run = [
        "run",
        "--runtime",
        "systemd",
        "--name",
        "lamp",
        "-e",
        &variable,
        "/bin/sh",
        "-c",
        script,
        "50% of $HOME",
        "x",
    ];
    let shown = rig.daemon.ctl(&run);
    assert!(shown.status.success(), "{}", String::from_utf8_lossy(&shown.stderr));
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_eq!(rig.unit_files(), Vec::<String>::new(), "systemd has it without a file");
    let said = until("it has begun", LIMIT, || fs::read_to_string(&out).ok().filter(|said| said.ends_with('\n')));
    assert_eq!(said, "50% of $HOME x\n");
    assert!(!rig.daemon.ctl(&run).stdout.is_empty(), "the same again is told");
    rig.daemon.done(on_target(Verb::VERB_PAUSE, "lamp"));
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_PAUSED);
    rig.daemon.done(on_target(Verb::VERB_RESUME, "lamp"));
    let before = rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING).containers[0].pid;
    rig.daemon.done(on_target(Verb::VERB_RESTART, "lamp"));
    assert_ne!(rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING).containers[0].pid, before);
    rig.daemon.done(on_target(Verb::VERB_STOP, "lamp"));
    assert_eq!(rig.daemon.workload("lamp").containers[0].exit_code, Some(7));
    rig.daemon.done(on_target(Verb::VERB_TERMINATE, "lamp"));

    for (arguments, why) in [
        (["run", "--runtime", "systemd", "nginx:1", "-c", "true"], "no path of a program"),
        (["run", "--runtime", "systemd", "--publish", "80:80", "/bin/true"], "--publish"),
        (["run", "--runtime", "systemd", "--memory", "64m", "/bin/true"], "no controller 'memory'"),
        (["run", "--runtime", "systemd", "--name", "gone", "/bin/absent"], "gone"),
    ] {
        let refused = rig.daemon.ctl(&arguments);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains(why), "{arguments:?}: {said}");
    }
    assert_eq!(rig.unit_files(), Vec::<String>::new());
}

/// Writes lines of every kind, then waits to be ended.
const TALKER: &str = "[Service]\nType=exec\nExecStart=/bin/sh -c 'trap \"echo bye; sleep 0.2; exit 0\" TERM; echo one; \
    echo two >&2; echo \"<3>three\"; printf \"\\\\001\\\\377\\\\n\"; printf %%060000d 7; echo; while :; do sleep 0.05; done'\n\
    [X-ActionController]\nName=talker\n";

/// What `actionctl logs` prints of standard output.
fn printed(daemon: &DaemonProcess, arguments: &[&str]) -> Vec<u8> {
    let output = daemon.ctl(&[&["logs", "talker"], arguments].concat());
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn output_comes_from_the_journal() {
    let rig = Rig::over(SystemdServer::start_with_journal());
    rig.daemon.done(launch(TALKER));
    let of_stdout = until("all is written", LIMIT, || {
        let all = printed(&rig.daemon, &[]);
        all.ends_with(b"7\n").then_some(all)
    });
    let long = format!("{:060000}\n", 7);
    let whole = [b"one\ntwo\n\x01\xff\n".as_slice(), long.as_bytes()].concat();
    assert_eq!(of_stdout, whole, "a line that is longer than the journal's is whole, and what is no text is itself");
    let urgent = rig.daemon.ctl(&["logs", "talker"]).stderr;
    assert_eq!(String::from_utf8_lossy(&urgent), "three\n", "what says that it is urgent is on the other stream");
    assert_eq!(printed(&rig.daemon, &["--tail", "1"]), long.as_bytes());
    assert_eq!(printed(&rig.daemon, &["--tail", "0"]), b"");
    std::thread::scope(|scope| {
        let following = scope.spawn(|| printed(&rig.daemon, &["--follow", "--tail", "0"]));
        until("it is followed", LIMIT, || (!children_named(&rig.daemon, "journalctl").is_empty()).then_some(()));
        rig.daemon.done(on_target(Verb::VERB_STOP, "talker"));
        assert_eq!(following.join().unwrap(), b"bye\n", "it ends with the unit, and has its last line");
    });
    until("nobody reads any more", LIMIT, || children_named(&rig.daemon, "journalctl").is_empty().then_some(()));
    // The second run is after the first.
    rig.daemon.done(on_target(Verb::VERB_START, "talker"));
    until("both runs are there", LIMIT, || {
        let count = String::from_utf8_lossy(&printed(&rig.daemon, &[])).matches("one\n").count();
        (count == 2).then_some(())
    });
    rig.daemon.done(on_target(Verb::VERB_TERMINATE, "talker"));
    rig.daemon.done(launch(TALKER));
    let anew = until("its first line", LIMIT, || Some(printed(&rig.daemon, &[])).filter(|all| all.ends_with(b"7\n")));
    assert!(!String::from_utf8_lossy(&anew).contains("bye"), "what another of its name has written is not its own");
}

#[test]
fn output_is_refused_by_name_where_there_is_no_journal() {
    let rig = Rig::new();
    rig.daemon.done(launch(TALKER));
    let output = rig.daemon.ctl(&["logs", "talker"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("systemd does not support logs"), "{said}");
}

/// The daemon's children of this name.
fn children_named(daemon: &DaemonProcess, name: &str) -> Vec<String> {
    let of_daemon = format!("PPid:\t{}\n", daemon.pid());
    let statuses = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path().join("status"));
    let statuses = statuses.filter_map(|path| fs::read_to_string(path).ok());
    statuses.filter(|status| status.contains(&of_daemon) && status.contains(&format!("Name:\t{name}\n"))).collect()
}
