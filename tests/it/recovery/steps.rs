//! `kill -9` at every step of launch, stop, restart, scale and terminate, on the simulator: at the step's start, after its
//! effect, and at its end.

use std::time::Duration;

use actioncontroller::proto::actions::{ActionSpec, Verb};
use actioncontroller::proto::resources::Resources;
use protobuf::MessageField;

use super::{
    Containers, Death, Moment, assert_tells, die_at, exit_codes, is_running, listed, must, outcome, sim,
    sim_containers, sim_objects, succeeded, target, with_id, workload,
};
use crate::support::daemon::{DaemonProcess, launch};

/// Every call of the simulator takes so long before its effect, and again after it, milliseconds.
const DELAY_MS: u64 = 15;

/// More moments than any action here has.
const MOST: usize = 200;

/// A Pod with a volume of its own; its containers end with 7 and 8 when they are stopped.
fn document(name: &str, image: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  volumes: [{{name: cache, emptyDir: {{}}}}]\n  \
         containers:\n  - {{name: one, image: '{image}', command: ['on-term:1ms:7'], \
         volumeMounts: [{{name: cache, mountPath: /cache}}]}}\n  \
         - {{name: two, image: '{image}', command: ['on-term:1ms:8']}}\n"
    )
}

fn daemon() -> DaemonProcess {
    DaemonProcess::start(|folder| sim(folder, DELAY_MS, ""))
}

/// Calls `check` with a number, and whether the daemon died in the middle, for each moment of an action until the
/// action ends before it.
fn at_every_moment(mut once: impl FnMut(usize, Moment) -> Death) {
    let after_effect = Duration::from_millis(DELAY_MS * 3 / 2);
    let mut in_time = 0;
    for number in 0..MOST {
        let later = if number % 2 == 0 { Duration::ZERO } else { after_effect };
        match once(number, Moment { events: number / 2 + 1, later }) {
            Death::TooLate if number > 3 && in_time > 0 => return,
            // A busy machine kills late now and then.
            Death::TooLate => {}
            Death::Interrupted => in_time += 1,
        }
    }
    panic!("the action does not end");
}

/// Kills at the moment and starts again; gives the action's outcome and the containers as the kill left them.
fn interrupt(
    daemon: &mut DaemonProcess,
    action: ActionSpec,
    moment: Moment,
) -> (Death, actioncontroller::proto::actions::Outcome, Containers) {
    let id = action.action_id.clone();
    let death = die_at(daemon, action, moment);
    let left = sim_containers(daemon);
    daemon.start_again();
    let outcome = outcome(daemon, &id);
    (death, outcome, left)
}

fn assert_runs(daemon: &DaemonProcess, name: &str) {
    let containers = sim_containers(daemon);
    assert_eq!(containers.len(), 2, "{containers:?}");
    let listed = listed(daemon);
    assert!(is_running(&listed[name]), "{:?}", listed[name]);
    for container in &listed[name].containers {
        let (id, pid) = &containers[&container.engine_name];
        assert_eq!((&container.id, i64::from(container.pid)), (id, *pid));
    }
}

fn stop_gives_the_codes_of_the_programs(daemon: &DaemonProcess, name: &str) {
    must(daemon, target(Verb::VERB_STOP, name));
    let codes = exit_codes(daemon, name);
    assert_eq!((codes["one"], codes["two"]), (Some(7), Some(8)));
}

#[test]
fn launch_is_finished_or_undone_whole() {
    let mut daemon = daemon();
    let (mut finished, mut undone) = (0, 0);
    at_every_moment(|number, moment| {
        let action = with_id(launch(&document("w", "localhost/busybox:1")), &format!("launch-{number}"));
        let (death, outcome, left) = interrupt(&mut daemon, action, moment);
        if outcome.recovered == "undone" {
            undone += 1;
            assert_tells(&outcome, &["undone"]);
            assert_eq!(outcome.error.code, "INTERRUPTED");
            assert!(sim_objects(&daemon).is_empty(), "{:?} {moment:?}", sim_objects(&daemon));
            assert!(listed(&daemon).is_empty());
        } else {
            finished += 1;
            if matches!(death, Death::Interrupted) && !outcome.recovered.is_empty() {
                assert_tells(&outcome, &["finished"]);
            }
            assert!(succeeded(&outcome), "{outcome:?}");
            assert_eq!(sim_containers(&daemon), left, "what runs was touched");
            assert_runs(&daemon, "w");
            assert_eq!(outcome.workloads[0].container_ids.len(), 2);
            let again = must(&daemon, launch(&document("w", "localhost/busybox:1")));
            assert!(!again.changed, "{again:?}");
            stop_gives_the_codes_of_the_programs(&daemon, "w");
        }
        if !listed(&daemon).is_empty() {
            must(&daemon, target(Verb::VERB_TERMINATE, "w"));
        }
        assert!(sim_objects(&daemon).is_empty(), "{:?}", sim_objects(&daemon));
        death
    });
    assert!(finished > 0 && undone > 4, "{finished} {undone}");
}

#[test]
fn launch_of_a_changed_document_leaves_the_old_or_the_new() {
    let mut daemon = daemon();
    at_every_moment(|number, moment| {
        must(&daemon, launch(&document("w", "localhost/busybox:1")));
        must(&daemon, target(Verb::VERB_STOP, "w"));
        let action = with_id(launch(&document("w", "localhost/busybox:2")), &format!("changed-{number}"));
        let (death, outcome, _) = interrupt(&mut daemon, action, moment);
        assert_eq!(sim_containers(&daemon).len(), 2);
        let now = workload(&daemon, "w");
        let images: Vec<_> = now.containers.iter().map(|container| container.image.clone()).collect();
        if outcome.recovered == "undone" {
            assert_tells(&outcome, &["undone"]);
            assert!(images.iter().all(|image| image.ends_with(":1")), "{images:?}");
            assert!(!is_running(&now));
            must(&daemon, target(Verb::VERB_START, "w"));
        } else {
            assert!(succeeded(&outcome), "{outcome:?}");
            assert!(images.iter().all(|image| image.ends_with(":2")), "{images:?}");
        }
        assert_runs(&daemon, "w");
        stop_gives_the_codes_of_the_programs(&daemon, "w");
        must(&daemon, target(Verb::VERB_TERMINATE, "w"));
        assert!(sim_objects(&daemon).is_empty(), "{:?}", sim_objects(&daemon));
        death
    });
}

#[test]
fn stop_is_finished() {
    let mut daemon = daemon();
    at_every_moment(|number, moment| {
        must(&daemon, launch(&document("w", "localhost/busybox:1")));
        let before = sim_containers(&daemon);
        let action = with_id(target(Verb::VERB_STOP, "w"), &format!("stop-{number}"));
        let (death, outcome, _) = interrupt(&mut daemon, action, moment);
        if matches!(death, Death::Interrupted) && !outcome.recovered.is_empty() {
            assert_tells(&outcome, &["finished"]);
        }
        assert!(succeeded(&outcome), "{outcome:?}");
        let ids = |containers: &Containers| containers.values().map(|(id, _)| id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(&sim_containers(&daemon)), ids(&before), "no container is lost or new");
        let codes = exit_codes(&daemon, "w");
        assert_eq!((codes["one"], codes["two"]), (Some(7), Some(8)));
        assert_eq!(listed(&daemon)["w"].desired, "stopped");
        must(&daemon, target(Verb::VERB_START, "w"));
        assert_runs(&daemon, "w");
        must(&daemon, target(Verb::VERB_TERMINATE, "w"));
        death
    });
}

#[test]
fn restart_is_finished_and_every_process_is_new() {
    let mut daemon = daemon();
    at_every_moment(|number, moment| {
        must(&daemon, launch(&document("w", "localhost/busybox:1")));
        let before = sim_containers(&daemon);
        let action = with_id(target(Verb::VERB_RESTART, "w"), &format!("restart-{number}"));
        let (death, outcome, _) = interrupt(&mut daemon, action, moment);
        assert!(succeeded(&outcome), "{outcome:?}");
        assert_runs(&daemon, "w");
        for (name, (id, pid)) in sim_containers(&daemon) {
            assert_eq!(id, before[&name].0);
            assert_ne!(pid, before[&name].1, "'{name}' was told as restarted and was not: {moment:?}");
        }
        must(&daemon, target(Verb::VERB_TERMINATE, "w"));
        death
    });
}

#[test]
fn scale_is_finished_or_undone_whole() {
    let mut daemon = daemon();
    must(&daemon, launch(&document("w", "localhost/busybox:1")));
    let before = sim_containers(&daemon);
    let mut memory = 0;
    at_every_moment(|number, moment| {
        let mut action = with_id(target(Verb::VERB_SCALE, "w"), &format!("scale-{number}"));
        let wanted = (64 + u64::try_from(number).unwrap()) << 20;
        let resources = Resources { memory: wanted.to_string(), ..Resources::default() };
        action.parameters.mut_or_insert_default().resources = MessageField::some(resources);
        let (death, outcome, _) = interrupt(&mut daemon, action, moment);
        if succeeded(&outcome) {
            memory = wanted;
        }
        let expected = if memory == 0 { String::new() } else { memory.to_string() };
        for container in workload(&daemon, "w").containers {
            assert_eq!(container.limits.memory, expected, "{moment:?} {outcome:?}");
            assert_eq!(container.limits_in_force.memory, expected, "{moment:?} {outcome:?}");
        }
        assert_eq!(sim_containers(&daemon), before, "nothing was restarted");
        death
    });
}

#[test]
fn terminate_is_finished_and_leaves_nothing() {
    let mut daemon = daemon();
    at_every_moment(|number, moment| {
        must(&daemon, launch(&document("w", "localhost/busybox:1")));
        let action = with_id(target(Verb::VERB_TERMINATE, "w"), &format!("terminate-{number}"));
        let (death, outcome, _) = interrupt(&mut daemon, action, moment);
        assert!(succeeded(&outcome), "{outcome:?}");
        assert!(sim_objects(&daemon).is_empty(), "{:?} {moment:?}", sim_objects(&daemon));
        assert!(listed(&daemon).is_empty());
        death
    });
}
