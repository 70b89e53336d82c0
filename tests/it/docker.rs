//! From a call to containers on a real Docker: the engine that dies, hangs and comes back, and the daemon that does.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::grpc::status::details;
use actioncontroller::proto::actions::{ActionSpec, ExecuteActionRequest, Outcome, Verb};
use actioncontroller::proto::workloads::{GetWorkloadRequest, Workload, WorkloadState};
use nix::sys::signal::Signal;
use protobuf::MessageField;

use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod, with_sim};
use crate::support::docker::DockerServer;
use crate::support::rig::BUSYBOX;
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Runs until SIGTERM and then ends with 7.
const RUNS: &str = "trap \"exit 7\" TERM; while :; do sleep 0.05; done";

/// A daemon with a Docker, and the simulator beside it.
struct Rig {
    // Ends before its engine does.
    daemon: DaemonProcess,
    server: DockerServer,
}

impl Rig {
    fn new() -> Self {
        let server = DockerServer::start();
        let docker = format!("  docker: {{enabled: true, socket: {}}}\n", server.socket().display());
        let daemon =
            DaemonProcess::start(|folder| with_sim(folder).replacen("runtimes:\n", &format!("runtimes:\n{docker}"), 1));
        Self { daemon, server }
    }

    fn done(&self, action: ActionSpec) -> Outcome {
        self.daemon.done(action)
    }

    /// The code of the failure of an action that fails.
    fn fails(&self, action: ActionSpec) -> String {
        match self.daemon.execute(action) {
            Ok(outcome) => panic!("it succeeded: {outcome:?}"),
            Err(grpcio::Error::RpcFailure(status)) => details(&status).expect("details").error.code.clone(),
            Err(error) => panic!("{error}"),
        }
    }

    fn workload(&self, name: &str) -> Option<Workload> {
        let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
        self.daemon.workloads().get_workload(&request, options()).ok()
    }

    fn await_state(&self, name: &str, state: WorkloadState) -> Workload {
        until("the workload's state", LIMIT, || self.workload(name).filter(|found| found.state == state.into()))
    }

    fn pid(&self, container: &str) -> String {
        self.server.run(&["inspect", "-f", "{{.State.Pid}}", container])
    }
}

/// A document that asks for Docker by annotation.
fn on_docker(name: &str) -> String {
    let annotated = format!("metadata: {{name: {name}, annotations: {{actioncontroller.io/runtime: Docker}}}}");
    pod(name, BUSYBOX, RUNS).replace(&format!("metadata: {{name: {name}}}"), &annotated)
}

// req: AC-12
#[test]
fn document_that_asks_for_docker_lives_its_life_there() {
    let rig = Rig::new();
    let outcome = rig.done(launch(&on_docker("w")));
    assert_eq!((outcome.engine.as_str(), outcome.engine_reason.as_str()), ("docker", "annotation"), "{outcome:?}");
    assert!(rig.server.run(&["ps", "--format", "{{.Names}}"]).contains("w_main"));
    assert!(!rig.done(launch(&on_docker("w"))).changed, "the same again");
    rig.done(on_target(Verb::VERB_PAUSE, "w"));
    rig.await_state("w", WorkloadState::WORKLOAD_STATE_PAUSED);
    rig.done(on_target(Verb::VERB_RESUME, "w"));
    rig.done(on_target(Verb::VERB_STOP, "w"));
    let stopped = rig.workload("w").unwrap();
    assert_eq!(stopped.containers[0].exit_code, Some(7), "{stopped:?}");
    rig.done(on_target(Verb::VERB_TERMINATE, "w"));
    assert_eq!(rig.server.run(&["ps", "-aq"]), "");
    let shown = rig.daemon.ctl(&["runtimes"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("docker") && shown.contains("pause exec"), "{shown}");
}

#[test]
fn docker_that_is_killed_gives_no_wrong_answer_and_its_containers_go_on_under_the_next_one() {
    let mut rig = Rig::new();
    rig.done(launch(&on_docker("w")));
    let pid = rig.pid("w_main");
    rig.server.kill_dockerd();
    assert_eq!(rig.fails(ActionSpec { deadline_ms: 3_000, ..on_target(Verb::VERB_STOP, "w") }), "ENGINE_UNAVAILABLE");
    assert_eq!(rig.fails(on_target(Verb::VERB_RESTART, "w")), "ENGINE_UNAVAILABLE");
    assert!(fs::metadata(format!("/proc/{pid}")).is_ok(), "it runs on without the engine");
    rig.server.start_dockerd();
    rig.await_state("w", WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_eq!(rig.pid("w_main"), pid);
    rig.daemon.kill();
    rig.daemon.start_again();
    rig.await_state("w", WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_eq!(rig.pid("w_main"), pid, "it is adopted");
    until("Docker is noticed again", LIMIT, || rig.daemon.execute(on_target(Verb::VERB_STOP, "w")).ok());
    assert_eq!(rig.workload("w").unwrap().containers[0].exit_code, Some(7));
}

// req: BM-06
#[test]
fn docker_that_hangs_holds_up_no_action_on_another_engine() {
    let rig = Rig::new();
    (0..8).for_each(|n| drop(rig.done(launch(&on_docker(&format!("w{n}"))))));
    let on_sim = |n: usize| {
        let mut action = launch(&pod(&format!("s{n}"), "i", "sleep 1000"));
        action.parameters.mut_or_insert_default().engine = "sim".to_owned();
        action
    };
    let took = |range: std::ops::Range<usize>| {
        let begun = Instant::now();
        range.for_each(|n| assert!(rig.done(on_sim(n)).changed));
        begun.elapsed()
    };
    let before = took(0..25);
    // Docker has just answered: that it hangs is still to be found out.
    rig.server.signal_dockerd(Signal::SIGSTOP);
    // More than there are workers; those that are under way wait for Docker until their time is over.
    let hanging: Vec<_> = (0..8)
        .map(|n| {
            let actions = rig.daemon.actions();
            let action = ActionSpec { deadline_ms: 20_000, ..on_target(Verb::VERB_RESTART, &format!("w{n}")) };
            thread::spawn(move || {
                let action = MessageField::some(action);
                actions.execute_action(&ExecuteActionRequest { action, ..Default::default() }, options()).is_err()
            })
        })
        .collect();
    let (first, meanwhile) = (took(25..26), took(26..51));
    assert!(!hanging.iter().all(thread::JoinHandle::is_finished), "Docker still hangs");
    rig.server.signal_dockerd(Signal::SIGCONT);
    hanging.into_iter().for_each(|call| assert!(call.join().is_ok()));
    assert!(first < Duration::from_secs(3), "{first:?} for the first");
    assert!(meanwhile < before * 3 + Duration::from_secs(1), "{meanwhile:?} for what took {before:?}");
    until("Docker is noticed again", LIMIT, || rig.daemon.execute(on_target(Verb::VERB_TERMINATE, "w0")).ok());
}
