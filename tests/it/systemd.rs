//! From a unit's text to a service of a real systemd: the whole life by way of the daemon, which is killed meanwhile.

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
        let server = SystemdServer::start();
        let (bus, units) = (server.socket(), server.units());
        let systemd = format!("  systemd: {{enabled: true, bus: {}, unit_dir: {}}}\n", bus.display(), units.display());
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
