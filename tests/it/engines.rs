//! Several engines under one daemon, each with containers of its own, and the daemon killed in between.

use std::fs;
use std::time::Duration;

use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::workloads::{GetWorkloadRequest, Workload};

use crate::support::daemon::{on_target, options};
use crate::support::engines::{ENGINES, EnginesRig};
use crate::support::wait::until;

const LIMIT: Duration = Duration::from_secs(60);

/// Containers of each engine.
const EACH: usize = 5;

/// Every workload with the engine that it is on and the code that it ends with.
fn workloads() -> impl Iterator<Item = (String, &'static str, i32)> {
    ENGINES.into_iter().enumerate().flat_map(|(index, engine)| {
        (0..EACH).map(move |n| (format!("{engine}-{n}"), engine, i32::try_from(index * EACH + n + 3).unwrap()))
    })
}

fn workload(rig: &EnginesRig, name: &str) -> Option<Workload> {
    let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
    rig.daemon.workloads().get_workload(&request, options()).ok()
}

fn pids(rig: &EnginesRig) -> Vec<i32> {
    let pid = |name: &str| {
        until("the workload's process", LIMIT, || {
            workload(rig, name)?.containers.first().map(|container| container.pid).filter(|pid| *pid > 0)
        })
    };
    workloads().map(|(name, ..)| pid(&name)).collect()
}

#[test]
fn containers_of_all_engines_are_adopted_with_their_processes_and_end_with_their_codes() {
    let mut rig = EnginesRig::start();
    for (name, engine, code) in workloads() {
        let runs = format!("trap \"exit {code}\" TERM; while :; do sleep 0.05; done");
        let action = rig.launch_on(engine, &name, &runs);
        let outcome = rig.daemon.execute(action).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(outcome.engine, engine, "{outcome:?}");
    }
    let before = pids(&rig);
    rig.daemon.kill();
    rig.daemon.start_again();
    assert_eq!(pids(&rig), before, "each runs on as the same process");
    for (name, _, code) in workloads() {
        rig.daemon.execute(on_target(Verb::VERB_STOP, &name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let stopped = workload(&rig, &name).unwrap();
        assert_eq!(stopped.containers[0].exit_code, Some(code), "{stopped:?}");
    }
    for (name, ..) in workloads() {
        rig.daemon.execute(on_target(Verb::VERB_TERMINATE, &name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    assert_eq!(rig.podman.run(&["ps", "-aq"]), "");
    assert_eq!(rig.docker.run(&["ps", "-aq"]), "");
    assert_eq!(rig.containerd.run(&["containers", "ls", "-q"]), "");
    assert_eq!(fs::read_dir(rig.daemon.path("state/oci/containers")).unwrap().count(), 0);
}
