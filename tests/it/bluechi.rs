//! Services on nodes of a BlueChi's: the whole life by way of the daemon, nodes that go away, a controller that is begun
//! anew or hangs.

mod services;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use actioncontroller::cancel::CancelToken;
use actioncontroller::clock::Deadline;
use actioncontroller::model::state::{ContainerStatus, Health};
use actioncontroller::model::workload::labels;
use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::workloads::WorkloadState;
use actioncontroller::runtime::adapter::{
    Call, Change, ContainerConfig, EngineEventKind, ListFilter, NoProgress, RuntimeAdapter, RuntimeError, StopOptions,
};
use actioncontroller::runtime::bluechi::Bluechi;

use nix::sys::signal::Signal;

use crate::support::bluechi::BluechiStandIn;
use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod, with_sim};
use crate::support::rig::{BUSYBOX, container};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

const GRACE: Duration = Duration::from_secs(10);

/// Runs until SIGTERM and then ends with 7.
const UNIT: &str = "[Unit]\nDescription=Lamp\n[Service]\nType=exec\n\
    ExecStart=/bin/sh -c 'trap \"exit 7\" TERM; while :; do sleep 0.05; done'\n[X-ActionController]\nName=lamp\n";

/// The unit for a node.
fn on(node: &str) -> String {
    format!("{UNIT}Node={node}\n")
}

/// A daemon on the node `main` of a BlueChi's that has `worker1` as well, and the simulator beside it.
struct Rig {
    // Ends before its engine does.
    daemon: DaemonProcess,
    bluechi: BluechiStandIn,
}

impl Rig {
    fn new() -> Self {
        Self::with("manage: true")
    }

    /// With more settings of BlueChi.
    fn with(more: &str) -> Self {
        let bluechi = BluechiStandIn::start(&["main", "worker1"]);
        let (bus, main) = (bluechi.socket(), bluechi.server("main"));
        let engine = format!(
            "  bluechi: {{enabled: true, node: main, bus: {}, unit_dir: {}, {more}}}\n  systemd: {{bus: {}}}\n",
            bus.display(),
            main.units().display(),
            main.socket().display()
        );
        let daemon = DaemonProcess::start(|folder| {
            let units = "security: {units: true}\n";
            units.to_owned() + &with_sim(folder).replacen("runtimes:\n", &format!("runtimes:\n{engine}"), 1)
        });
        Self { daemon, bluechi }
    }
}

// Podman's generator is asked by this node's systemd alone.
#[test]
fn quadlet_and_transient_unit_of_this_node_are_refused_by_name() {
    let rig = Rig::new();
    let transient = UNIT.replace("Name=lamp\n", "Name=lamp\nNode=main\nTransient=yes\n");
    let (code, message) = rig.daemon.fails(launch(&transient));
    assert_eq!(code, "ENGINE_LACKS_CAPABILITY", "{message}");
    assert!(message.contains("bluechi does not support Transient=yes on this node"), "{message}");
    let (code, message) =
        rig.daemon.fails(launch("[Container]\nImage=i\n[X-ActionController]\nName=web\nNode=worker1\n"));
    assert_eq!(code, "ENGINE_LACKS_CAPABILITY", "{message}");
    assert!(message.contains("bluechi does not support Podman's Quadlet files"), "{message}");
}

/// An adapter with one container, from a unit's text.
struct Alone {
    adapter: Bluechi,
    cancel: CancelToken,
    bluechi: BluechiStandIn,
}

impl Alone {
    fn new() -> Self {
        let bluechi = BluechiStandIn::start(&["main", "worker1"]);
        Self { adapter: bluechi.adapter(), cancel: CancelToken::new(), bluechi }
    }

    fn within(&self, time: Duration) -> Call<'_> {
        Call { deadline: Deadline::after(time), cancel: &self.cancel, progress: &NoProgress }
    }

    fn call(&self) -> Call<'_> {
        self.within(LIMIT)
    }

    /// Creates it, and gives its id.
    fn create(&self, unit: &str) -> String {
        self.adapter.create_container(&self.call(), &self.config(unit)).unwrap_or_else(|error| panic!("{error}")).id
    }

    fn config(&self, unit: &str) -> ContainerConfig {
        let mut config = container("lamp", "");
        (config.spec.image, config.spec.command, config.spec.args) = (String::new(), Vec::new(), Vec::new());
        unit.clone_into(&mut config.spec.unit);
        config.node = unit.rsplit_once("Node=").map(|(_, node)| node.trim().to_owned()).unwrap_or_default();
        config.labels = [(labels::NODE.to_owned(), self.bluechi.config().node)].into();
        config
    }

    fn status(&self, id: &str) -> ContainerStatus {
        self.adapter.inspect_container(&self.call(), id).unwrap().status
    }

    /// As a list tells it.
    fn listed(&self) -> ContainerStatus {
        let filter = ListFilter { all: true, ..ListFilter::default() };
        self.adapter.list_containers(&self.call(), &filter).unwrap().remove(0).status
    }
}

fn running(health: Health) -> ContainerStatus {
    ContainerStatus::Running { health }
}

// req: AC-14, BM-02
#[test]
fn unit_lives_its_life_on_another_node() {
    let rig = Rig::new();
    let outcome = rig.daemon.done(launch(&on("worker1")));
    assert_eq!((outcome.engine.as_str(), outcome.engine_reason.as_str()), ("bluechi", "format"), "{outcome:?}");
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    let unit = "actioncontroller-test:lamp_unit.service";
    let of = |node: &str, property: &str| rig.bluechi.server(node).show(unit, property);
    assert_eq!((of("worker1", "ActiveState"), of("main", "ActiveState")), ("active".into(), "inactive".into()));
    assert_eq!((of("worker1", "Transient"), of("worker1", "Description")), ("yes".into(), "Lamp".into()));
    let pid = of("worker1", "MainPID");
    assert!(!rig.daemon.done(launch(&on("worker1"))).changed, "the same again");
    rig.daemon.done(on_target(Verb::VERB_PAUSE, "lamp"));
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_PAUSED);
    assert_eq!(of("worker1", "FreezerState"), "frozen");
    rig.daemon.done(on_target(Verb::VERB_RESUME, "lamp"));
    rig.daemon.done(on_target(Verb::VERB_RESTART, "lamp"));
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_ne!(of("worker1", "MainPID"), pid);
    rig.daemon.done(on_target(Verb::VERB_STOP, "lamp"));
    assert_eq!(rig.daemon.workload("lamp").containers[0].exit_code, Some(7));
    rig.daemon.done(on_target(Verb::VERB_START, "lamp"));
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    rig.daemon.done(on_target(Verb::VERB_TERMINATE, "lamp"));
    assert_eq!(of("worker1", "LoadState"), "not-found");
}

#[test]
fn unit_of_this_node_has_a_file_and_is_adopted() {
    let mut rig = Rig::new();
    rig.daemon.done(launch(&on("main")));
    let running = rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    let file = rig.bluechi.server("main").units().join("actioncontroller-test:lamp_unit.service");
    assert_eq!(fs::read_to_string(&file).ok(), Some(on("main")));
    rig.daemon.kill();
    rig.daemon.start_again();
    let adopted = rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    assert_eq!(adopted.containers[0].pid, running.containers[0].pid);
    rig.daemon.done(on_target(Verb::VERB_TERMINATE, "lamp"));
    assert!(!file.exists());
}

#[test]
fn what_another_node_cannot_be_given_is_refused_with_no_effect() {
    let rig = Rig::new();
    let (_, message) = rig.daemon.fails(launch(&on("worker9")));
    assert!(message.contains("node 'worker9' is not known to BlueChi"), "{message}");
    let (_, message) = rig.daemon.fails(launch(&on("worker1").replace("Type=exec", "DynamicUser=yes")));
    assert!(message.contains("DynamicUser= of [Service]"), "{message}");
    let mut action = launch(&pod("w", BUSYBOX, "sleep 1000"));
    action.parameters.mut_or_insert_default().engine = "bluechi".to_owned();
    let (code, message) = rig.daemon.fails(action);
    assert_eq!(code, "ENGINE_LACKS_CAPABILITY", "{message}");
    rig.bluechi.lose("worker1");
    let (code, message) = rig.daemon.fails(launch(&on("worker1")));
    assert!(message.contains("node 'worker1' is offline"), "{code} {message}");
    let all = rig.daemon.ctl(&["list"]);
    assert!(!String::from_utf8_lossy(&all.stdout).contains("lamp"), "{all:?}");
}

// req: AC-14
#[test]
fn node_that_is_lost_is_noticed_and_nothing_of_it_has_ended() {
    let rig = Rig::new();
    rig.daemon.done(launch(&on("worker1")));
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    rig.bluechi.lose("worker1");
    let (code, message) = rig.daemon.fails(on_target(Verb::VERB_STOP, "lamp"));
    assert_eq!(code, "ENGINE_UNAVAILABLE", "{message}");
    assert!(message.contains("node 'worker1' is offline"), "{message}");
    // Others are as they were.
    let other = on("main").replace("Name=lamp", "Name=horn");
    assert!(rig.daemon.done(launch(&other)).changed);
    rig.bluechi.bring_back("worker1");
    rig.daemon.await_state("lamp", WorkloadState::WORKLOAD_STATE_RUNNING);
    rig.daemon.done(on_target(Verb::VERB_STOP, "lamp"));
    assert_eq!(rig.daemon.workload("lamp").containers[0].exit_code, Some(7));
}

// req: AC-14
#[test]
fn container_of_a_lost_node_is_told_as_not_well() {
    let alone = Alone::new();
    let id = alone.create(&on("worker1"));
    let call = alone.call();
    let events = alone.adapter.watch_events(&call).unwrap();
    assert_eq!(alone.adapter.start_container(&call, &id), Ok(Change::Changed));
    assert_eq!(alone.listed(), running(Health::None));
    alone.bluechi.lose("worker1");
    assert_eq!(alone.listed(), running(Health::Unhealthy));
    assert!(matches!(alone.adapter.inspect_container(&call, &id), Err(RuntimeError::EngineNotAvailable { .. })));
    let stopped = alone.adapter.stop_container(&call, &id, &StopOptions::graceful(GRACE));
    assert!(matches!(stopped, Err(RuntimeError::EngineNotAvailable { .. })), "{stopped:?}");
    alone.bluechi.bring_back("worker1");
    assert_eq!((alone.listed(), alone.status(&id)), (running(Health::None), running(Health::None)));
    assert_eq!(alone.adapter.stop_container(&call, &id, &StopOptions::graceful(GRACE)), Ok(Change::Changed));
    assert_eq!(alone.status(&id), ContainerStatus::Exited { code: Some(7), oom: false });
    alone.adapter.remove_container(&call, &id, false).unwrap();
    let told: Vec<_> = events.take(3).map(|event| event.unwrap().kind).collect();
    let died = EngineEventKind::Died { exit_code: Some(7) };
    assert_eq!(told, [EngineEventKind::Started, died, EngineEventKind::Removed], "the loss is no end");
}

#[test]
fn start_that_fails_is_no_start_and_no_end_for_who_watches() {
    let alone = Alone::new();
    let events = alone.adapter.watch_events(&alone.call()).unwrap();
    // Whoever watches looks as soon as anything changes.
    let (told, watched) = crossbeam_channel::unbounded();
    thread::scope(|scope| {
        // Also where something is not as it should be.
        let _end = Ends(&alone.cancel);
        scope.spawn(move || events.map_while(Result::ok).try_for_each(|event| told.send(event.kind)));
        for node in ["main", "worker1"].into_iter().cycle().take(10) {
            let id = alone.create(&on(node).replace("ExecStart=/bin/sh", "ExecStart=/nowhere/sh"));
            assert!(alone.adapter.start_container(&alone.call(), &id).is_err());
            assert_eq!(alone.status(&id), ContainerStatus::Created, "{node}");
            assert_eq!(alone.adapter.remove_container(&alone.call(), &id, false), Ok(Change::Changed));
            let next = || watched.recv_timeout(LIMIT).unwrap();
            assert_eq!([next(), next()], [EngineEventKind::Created, EngineEventKind::Removed], "{node}");
        }
    });
}

/// Ends streams when it is dropped.
struct Ends<'a>(&'a CancelToken);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.cancel("all is read");
    }
}

#[test]
fn node_that_is_silent_delays_the_list_of_others_once() {
    let alone = Alone::new();
    let call = alone.call();
    for (name, node) in [("a", "worker1"), ("b", "worker1"), ("c", "worker1"), ("here", "main")] {
        let config = ContainerConfig { name: name.to_owned(), ..alone.config(&on(node)) };
        let id = alone.adapter.create_container(&call, &config).unwrap().id;
        assert_eq!(alone.adapter.start_container(&call, &id), Ok(Change::Changed));
    }
    // As a machine that lost its power: nobody has noticed yet.
    alone.bluechi.server("worker1").signal(Signal::SIGSTOP);
    let begun = Instant::now();
    let all = alone.adapter.list_containers(&call, &ListFilter { all: true, ..ListFilter::default() }).unwrap();
    let took = begun.elapsed();
    alone.bluechi.server("worker1").signal(Signal::SIGCONT);
    let told: Vec<_> = all.into_iter().map(|found| (found.name, found.status)).collect();
    let expected =
        [("a", Health::Unhealthy), ("b", Health::Unhealthy), ("c", Health::Unhealthy), ("here", Health::None)];
    assert_eq!(told, expected.map(|(name, health)| (name.to_owned(), running(health))));
    assert!(took < Duration::from_millis(2_500), "{took:?} for a second of one node");
}

/// Takes two seconds to start.
fn slow(node: &str) -> String {
    on(node).replace("Type=exec\n", "Type=exec\nExecStartPre=/bin/sleep 2\n")
}

/// Starts it on `main`, and does what is given while the job is under way.
fn start_while(
    alone: &mut Alone,
    id: &str,
    meanwhile: impl FnOnce(&mut BluechiStandIn),
) -> Result<Change, RuntimeError> {
    let Alone { adapter, cancel, bluechi } = alone;
    thread::scope(|scope| {
        let (adapter, cancel) = (&*adapter, &*cancel);
        let started = scope.spawn(move || {
            let call = Call { deadline: Deadline::after(LIMIT), cancel, progress: &NoProgress };
            adapter.start_container(&call, id)
        });
        let unit = "actioncontroller-it:lamp.service";
        until("the job", LIMIT, || (bluechi.server("main").show(unit, "ActiveState") == "activating").then_some(()));
        meanwhile(bluechi);
        started.join().unwrap()
    })
}

// req: AC-14
#[test]
fn job_is_awaited_to_its_end() {
    for node in ["main", "worker1"] {
        let alone = Alone::new();
        let id = alone.create(&slow(node));
        let begun = Instant::now();
        assert_eq!(alone.adapter.start_container(&alone.call(), &id), Ok(Change::Changed));
        assert!(begun.elapsed() >= Duration::from_secs(2), "{node}: {:?}", begun.elapsed());
        assert_eq!(alone.status(&id), running(Health::None), "{node}");
        assert_eq!(alone.adapter.remove_container(&alone.call(), &id, true), Ok(Change::Changed));
        // One that fails is told as such, with why.
        let id = alone.create(&on(node).replace("ExecStart=/bin/sh", "ExecStart=/nowhere/sh"));
        let failed = alone.adapter.start_container(&alone.call(), &id).unwrap_err().to_string();
        assert!(failed.contains("the command cannot be run"), "{node}: {failed}");
        assert_eq!(alone.status(&id), ContainerStatus::Created, "{node}");
        assert_eq!(alone.adapter.remove_container(&alone.call(), &id, false), Ok(Change::Changed));
        // systemd calls a job done that has started nothing.
        let unmet = on(node).replace("Description=Lamp", "ConditionPathExists=/nowhere");
        if node == "main" {
            let id = alone.create(&unmet);
            let failed = alone.adapter.start_container(&alone.call(), &id).unwrap_err().to_string();
            assert!(failed.contains("a condition that it names is not met"), "{failed}");
            assert_eq!(alone.status(&id), ContainerStatus::Created);
        }
    }
}

// req: AC-14
#[test]
fn job_that_vanishes_with_its_node_is_judged_by_the_unit() {
    let mut alone = Alone::new();
    let id = alone.create(&slow("main"));
    // No JobRemoved ever comes; the unit goes on in systemd.
    let started = start_while(&mut alone, &id, |bluechi| {
        bluechi.lose("main");
        bluechi.bring_back("main");
    });
    assert_eq!(started, Ok(Change::Changed));
    assert_eq!(alone.status(&id), running(Health::None), "done is done");
    assert_eq!(alone.adapter.stop_container(&alone.call(), &id, &StopOptions::kill()), Ok(Change::Changed));
}

#[test]
fn start_on_a_node_that_stays_away_fails_and_is_told_truthfully_afterwards() {
    let mut alone = Alone::new();
    let id = alone.create(&slow("main"));
    let started = start_while(&mut alone, &id, |bluechi| bluechi.lose("main"));
    assert!(matches!(started, Err(RuntimeError::EngineNotAvailable { .. })), "{started:?}");
    alone.bluechi.bring_back("main");
    until("it runs", LIMIT, || (alone.status(&id) == running(Health::None)).then_some(()));
    assert_eq!(alone.adapter.start_container(&alone.call(), &id), Ok(Change::Unchanged));
    assert_eq!(alone.adapter.remove_container(&alone.call(), &id, true), Ok(Change::Changed));
}

#[test]
fn job_of_a_controller_that_begins_anew_is_judged_by_the_unit() {
    let mut alone = Alone::new();
    let id = alone.create(&slow("main"));
    let mut events = alone.adapter.watch_events(&alone.call()).unwrap();
    let started = start_while(&mut alone, &id, |bluechi| {
        bluechi.restart_controller();
        // The first numbers are other jobs' now.
        (0..3).for_each(|_| bluechi.run_job("worker1", "dbus.service"));
    });
    assert_eq!(started, Ok(Change::Changed));
    assert_eq!(alone.status(&id), running(Health::None), "done is done");
    let broken = events.find_map(|event| event.err());
    assert!(matches!(broken, Some(RuntimeError::Connection { .. })), "monitors are gone: {broken:?}");
    assert!(alone.adapter.watch_events(&alone.call()).is_ok());
    assert_eq!(alone.adapter.stop_container(&alone.call(), &id, &StopOptions::graceful(GRACE)), Ok(Change::Changed));
}

#[test]
fn controller_that_is_away_or_hangs_is_told_in_time() {
    let alone = Alone::new();
    let id = alone.create(&on("main"));
    alone.bluechi.hang(true);
    let begun = Instant::now();
    let started = alone.adapter.start_container(&alone.within(Duration::from_secs(1)), &id);
    assert!(matches!(started, Err(RuntimeError::Timeout { .. })), "{started:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    alone.bluechi.hang(false);
    assert_eq!(alone.adapter.start_container(&alone.call(), &id), Ok(Change::Changed));
    alone.bluechi.stop_controller();
    let stopped = alone.adapter.stop_container(&alone.call(), &id, &StopOptions::graceful(GRACE));
    assert!(matches!(stopped, Err(RuntimeError::EngineNotAvailable { .. })), "{stopped:?}");
    alone.bluechi.restart_controller();
    assert_eq!(alone.adapter.remove_container(&alone.call(), &id, true), Ok(Change::Changed));
}
