//! `kill -9` at every step of launch, stop, restart and terminate, on a real Podman.

use std::time::Duration;

use actioncontroller::proto::actions::{ActionSpec, Outcome, Verb};

use super::{
    Containers, Death, LONG, Moment, assert_tells, die_at, exit_codes, is_running, listed, must, outcome, succeeded,
    target, with_id,
};
use crate::support::daemon::{DaemonProcess, launch, with_podman};
use crate::support::podman::{IMAGE, PodmanServer};
use crate::support::wait::until;

/// In the middle of what a step asks of Podman.
const MIDDLE: Duration = Duration::from_millis(30);

struct Rig {
    podman: PodmanServer,
    daemon: DaemonProcess,
}

impl Rig {
    fn start() -> Self {
        let podman = PodmanServer::start();
        let daemon = DaemonProcess::start(|_| with_podman(&podman.socket()));
        Self { podman, daemon }
    }

    /// What Podman itself lists, the infra containers of pods left out.
    fn containers(&self) -> Containers {
        let text = self.podman.run(&["ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}} {{.Pid}} {{.IsInfra}}"]);
        let lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let read = |words: Vec<&str>| (words[0].to_owned(), (words[1].to_owned(), words[2].parse().unwrap()));
        lines.filter(|words| words.get(3) != Some(&"true")).map(read).collect()
    }

    /// Everything that a workload may leave.
    fn objects(&self) -> String {
        let lists = [["ps", "-aq"], ["pod", "ls"], ["volume", "ls"]];
        let pods = self.podman.run(&["pod", "ls", "-q"]);
        let volumes = self.podman.run(&["volume", "ls", "-q"]);
        format!("{}{pods}{volumes}", self.podman.run(&lists[0]))
    }

    fn interrupt(&mut self, action: ActionSpec, moment: Moment) -> (Death, Outcome) {
        let id = action.action_id.clone();
        let death = die_at(&mut self.daemon, action, moment);
        self.daemon.start_again();
        (death, outcome(&self.daemon, &id))
    }

    /// Begins an action at every moment of it, until it ends before.
    fn at_every_moment(&mut self, mut once: impl FnMut(&mut Self, usize, Moment) -> Death) {
        for number in 0..100 {
            let later = if number % 2 == 0 { Duration::ZERO } else { MIDDLE };
            if let Death::TooLate = once(self, number, Moment { events: number / 2 + 1, later }) {
                return;
            }
        }
        panic!("the action does not end");
    }

    fn assert_runs(&self, name: &str) {
        let listed = listed(&self.daemon);
        assert!(is_running(&listed[name]), "{:?}", listed[name]);
        let on_engine = self.containers();
        assert_eq!(on_engine.len(), listed[name].containers.len(), "{on_engine:?}");
        for container in super::workload(&self.daemon, name).containers {
            assert_eq!((container.id, i64::from(container.pid)), on_engine[&container.engine_name]);
        }
    }
}

/// Its container ends with 7 when it is stopped.
fn document() -> String {
    let script = "trap \"exit 7\" TERM; while true; do sleep 0.05; done";
    crate::support::daemon::pod("w", IMAGE, script)
}

/// Two containers in a pod, one with a volume of its own.
fn document_of_two() -> String {
    let command = "[sh, -c, 'trap \"exit 7\" TERM; while true; do sleep 0.05; done']";
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: w}}\nspec:\n  volumes: [{{name: cache, emptyDir: {{}}}}]\n  \
         containers:\n  - {{name: one, image: '{IMAGE}', command: {command}, \
         volumeMounts: [{{name: cache, mountPath: /cache}}]}}\n  - {{name: two, image: '{IMAGE}', command: {command}}}\n"
    )
}

#[test]
fn launch_on_podman_is_finished_or_undone_whole() {
    let mut rig = Rig::start();
    let (mut finished, mut undone) = (0, 0);
    rig.at_every_moment(|rig, number, moment| {
        let action = with_id(launch(&document_of_two()), &format!("launch-{number}"));
        let (death, outcome) = rig.interrupt(action, moment);
        if outcome.recovered == "undone" {
            undone += 1;
            assert_tells(&outcome, &["undone"]);
            // Podman goes on with what the dead daemon had asked of it; what comes of that goes by itself too.
            until("everything is gone", LONG, || rig.objects().is_empty().then_some(()));
            assert!(listed(&rig.daemon).is_empty());
            return death;
        }
        finished += 1;
        assert!(succeeded(&outcome), "{outcome:?}");
        rig.assert_runs("w");
        let before = rig.containers();
        let again = must(&rig.daemon, launch(&document_of_two()));
        assert!(!again.changed);
        assert_eq!(rig.containers(), before);
        must(&rig.daemon, target(Verb::VERB_STOP, "w"));
        let codes = exit_codes(&rig.daemon, "w");
        assert_eq!((codes["one"], codes["two"]), (Some(7), Some(7)));
        must(&rig.daemon, target(Verb::VERB_TERMINATE, "w"));
        assert_eq!(rig.objects(), "");
        death
    });
    assert!(finished > 0 && undone > 4, "{finished} {undone}");
}

#[test]
fn stop_restart_and_terminate_on_podman_are_finished() {
    let mut rig = Rig::start();
    rig.at_every_moment(|rig, number, moment| {
        must(&rig.daemon, launch(&document()));
        let before = rig.containers();
        let (death, outcome) = rig.interrupt(with_id(target(Verb::VERB_STOP, "w"), &format!("stop-{number}")), moment);
        assert!(succeeded(&outcome), "{outcome:?}");
        assert_eq!(exit_codes(&rig.daemon, "w")["main"], Some(7));
        assert_eq!(rig.containers()["w_main"], (before["w_main"].0.clone(), 0));
        death
    });
    rig.at_every_moment(|rig, number, moment| {
        must(&rig.daemon, launch(&document()));
        let before = rig.containers();
        let action = with_id(target(Verb::VERB_RESTART, "w"), &format!("restart-{number}"));
        let (death, outcome) = rig.interrupt(action, moment);
        assert!(succeeded(&outcome), "{outcome:?}");
        rig.assert_runs("w");
        let after = rig.containers();
        assert_eq!(after["w_main"].0, before["w_main"].0);
        assert_ne!(after["w_main"].1, before["w_main"].1, "told as restarted and was not: {moment:?}");
        death
    });
    rig.at_every_moment(|rig, number, moment| {
        must(&rig.daemon, launch(&document()));
        let action = with_id(target(Verb::VERB_TERMINATE, "w"), &format!("terminate-{number}"));
        let (death, outcome) = rig.interrupt(action, moment);
        assert!(succeeded(&outcome), "{outcome:?}");
        assert_eq!(rig.objects(), "");
        assert!(listed(&rig.daemon).is_empty());
        death
    });
}
