//! The ledger without processes, on the simulator: what is refused, taken back and repaired.

use actioncontroller::clock::Deadline;
use actioncontroller::proto::actions::{ExecuteActionRequest, GetActionRequest, PlanRequest, Verb};
use actioncontroller::storage::embedded::EmbeddedStore;
use actioncontroller::storage::{Batch, StateStore, keys};
use protobuf::MessageField;

use super::{LIMIT, asking, launch, on_target};
use crate::support::daemon::{DaemonProcess, options, with_sim};
use crate::support::wait::until;

fn holder(daemon: &DaemonProcess) -> String {
    let request = actioncontroller::proto::actions::ListCoresRequest::default();
    daemon.actions().list_cores(&request, options()).unwrap().cores[1].holder.clone()
}

#[test]
fn launch_whose_cpus_cannot_be_enforced_is_undone_and_with_best_effort_warned_of() {
    let mut daemon = DaemonProcess::on_sim();
    // The simulator's processes are not there for the kernel.
    let (code, message) = daemon.fails(launch(&asking("a", "i", &[("exclusive-cpu-count", "1")])));
    assert_eq!(code, "CORES_TAKEN");
    assert!(message.contains("container 'a_main' has no process on this machine"), "{message}");
    assert_eq!((holder(&daemon).as_str(), daemon.ctl(&["ps", "-o", "name"]).stdout.len()), ("", 0), "it is undone");
    let wanted = [("exclusive-cpu-count", "1"), ("cores-mode", "best-effort")];
    let outcome = daemon.done(launch(&asking("a", "i", &wanted)));
    assert!(outcome.warnings.iter().any(|warning| warning.message.contains("no process")), "{outcome:?}");
    assert_eq!(holder(&daemon), "a");
    let (code, _) = daemon.fails(launch(&asking("b", "i", &wanted)));
    assert_eq!(code, "CORES_TAKEN");
    daemon.kill();
    daemon.start_again();
    assert_eq!(holder(&daemon), "a");
    daemon.done(on_target(Verb::VERB_PAUSE, "a"));
    assert_eq!(holder(&daemon), "a");
    daemon.done(on_target(Verb::VERB_RESUME, "a"));
    // Without the annotation it is another document, which asks for none.
    let mut update = launch(&asking("a", "i", &[]));
    update.verb = Verb::VERB_UPDATE.into();
    daemon.done(update);
    assert_eq!(holder(&daemon), "");
    daemon.done(on_target(Verb::VERB_ROLLBACK, "a"));
    assert_eq!(holder(&daemon), "a");
    daemon.done(on_target(Verb::VERB_KILL, "a"));
    assert_eq!(holder(&daemon), "");
}

#[test]
fn documents_that_ask_wrongly_are_refused_with_path_and_line() {
    let daemon = DaemonProcess::on_sim();
    for (annotations, why) in [
        (&[("exclusive-cpus", "1"), ("exclusive-cpu-count", "1")][..], "asked for twice"),
        (&[("exclusive-cpus", "1-x")], "no CPU or range"),
        (&[("cores-mode", "best-effort")], "neither"),
    ] {
        let (code, message) = daemon.fails(launch(&asking("a", "i", annotations)));
        assert!(code == "INVALID_MANIFEST" && message.contains(why), "{code} {message}");
    }
}

#[test]
fn plan_is_refused_alike_and_takes_nothing() {
    let daemon = DaemonProcess::on_sim();
    let plan = |cpus: &str| {
        let actions = vec![launch(&asking("a", "i", &[("exclusive-cpus", cpus)]))];
        let request = PlanRequest { actions, ..Default::default() };
        daemon.actions().plan(&request, options()).unwrap().plan.unwrap()
    };
    let errors = plan("7").errors;
    assert!(errors[0].code == "CORES_TAKEN" && errors[0].message.contains("there is no CPU 7"), "{errors:?}");
    let planned = plan("1");
    assert!(planned.errors.is_empty() && planned.steps.iter().any(|step| step.title == "pin a_main"), "{planned:?}");
    assert_eq!(holder(&daemon), "");
}

#[test]
fn of_launches_at_once_only_so_many_get_a_cpu_as_there_are() {
    let daemon = DaemonProcess::on_sim();
    let wanted = [("exclusive-cpu-count", "1"), ("cores-mode", "best-effort")];
    let launches: Vec<_> = std::thread::scope(|scope| {
        let launch = |name: &'static str| {
            let daemon = &daemon;
            scope.spawn(move || (name, daemon.execute(launch(&asking(name, "i", &wanted)))))
        };
        let asked: Vec<_> = ["a", "b", "c", "d"].into_iter().map(launch).collect();
        asked.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let held: Vec<_> = launches.iter().filter(|(_, launched)| launched.is_ok()).map(|(name, _)| *name).collect();
    assert_eq!(held, [holder(&daemon)], "{launches:?}");
}

#[test]
fn what_a_launch_had_taken_is_free_again_once_its_crash_is_undone_and_kept_where_it_is_finished() {
    for (delay, is_after) in [("create", false), ("start", true)] {
        let mut daemon = DaemonProcess::start(|folder| {
            let fault = format!("{{op: {delay}, nth: 1, delay_ms: 2000, after_effect: {is_after}}}");
            with_sim(folder).replace("enabled: true,", &format!("enabled: true, faults: [{fault}],"))
        });
        let wanted = [("exclusive-cpu-count", "1"), ("cores-mode", "best-effort")];
        let mut action = launch(&asking("a", "i", &wanted));
        action.action_id = "begun".to_owned();
        let request = ExecuteActionRequest { action: MessageField::some(action), no_wait: true, ..Default::default() };
        daemon.actions().execute_action(&request, options()).unwrap();
        until("the CPU to be taken", LIMIT, || (holder(&daemon) == "a").then_some(()));
        let is_begun = || {
            let request = GetActionRequest { action_id: "begun".to_owned(), ..Default::default() };
            let action = daemon.actions().get_action(&request, options()).unwrap();
            action.progress.current_step.contains(delay).then_some(())
        };
        until("the step to be begun", LIMIT, is_begun);
        daemon.kill();
        daemon.start_again();
        let is_over = || {
            let request = GetActionRequest { action_id: "begun".to_owned(), ..Default::default() };
            let action = daemon.actions().get_action(&request, options()).ok()?;
            action.outcome.into_option().map(|outcome| outcome.recovered)
        };
        let how = until("its end", LIMIT, is_over);
        let wanted = if how == "finished" { "a" } else { "" };
        until(&format!("the CPU of what was {how} to be '{wanted}'s"), LIMIT, || {
            (holder(&daemon) == wanted).then_some(())
        });
        let runs = !daemon.ctl(&["ps", "-o", "name"]).stdout.is_empty();
        assert_eq!(runs, how == "finished");
    }
}

#[test]
fn ledger_that_was_lost_is_made_again_from_what_runs_and_damage_keeps_nobody_from_starting() {
    let mut daemon = DaemonProcess::on_sim();
    let wanted = [("exclusive-cpu-count", "1"), ("cores-mode", "best-effort")];
    daemon.done(launch(&asking("a", "i", &wanted)));
    daemon.kill();
    let soon = Deadline::after(LIMIT);
    let opened = EmbeddedStore::open(&daemon.path("state"), &Default::default()).unwrap();
    let delete = vec![keys::holding("a")];
    let put = vec![(keys::holding("ghost"), b"{".to_vec())];
    opened.store.commit(Batch { put, delete, ..Batch::default() }, soon).unwrap();
    drop(opened);
    daemon.start_again();
    until("the CPU to be regained", LIMIT, || (holder(&daemon) == "a").then_some(()));
    let log = daemon.log();
    assert!(log.contains("the CPUs of workload 'ghost' are freed"), "{log}");
    assert!(log.contains("workload 'a' held no CPUs and gets 1 again"), "{log}");
}
