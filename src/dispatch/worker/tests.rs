//! Workers over a scripted act: what is run, in which order, and what everyone is answered.

use crate::action::Recovery;
use std::sync::mpsc;
use std::thread;

use super::*;
use crate::action::fingerprint;
use crate::dispatch::double::{ScriptedAct, job, loaded, recovery, request, shared, until};
use crate::model::action::Verb;

struct Rig {
    act: Arc<ScriptedAct>,
    shared: Arc<Shared>,
    threads: Vec<thread::JoinHandle<()>>,
}

/// A rig with so many workers, the first one for urgent actions alone.
fn rig(workers: usize) -> Rig {
    let act = Arc::new(ScriptedAct::default());
    let shared = shared(&act);
    let start = |number: usize| {
        let own = Arc::clone(&shared);
        thread::Builder::new().name(format!("worker-{number}")).spawn(move || own.work(number == 0)).unwrap()
    };
    let threads = (0..workers).map(start).collect();
    Rig { act, shared, threads }
}

impl Rig {
    fn submit(&self, id: &str, verb: Verb, target: &str) -> mpsc::Receiver<Outcome> {
        self.follow(&self.shared.submit(request(id, verb, target)).unwrap())
    }

    fn follow(&self, entry: &Entry) -> mpsc::Receiver<Outcome> {
        let (sender, receiver) = mpsc::channel();
        entry.on_end(Box::new(move |outcome| drop(sender.send(outcome.clone()))));
        receiver
    }

    fn begun(&self, id: &str) {
        until(&format!("the beginning of {id}"), || self.act.log().contains(&format!("begin {id}")));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.shared.lanes.close();
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || thread::panicking());
        }
    }
}

fn answer(receiver: &mpsc::Receiver<Outcome>) -> Outcome {
    receiver.recv_timeout(Duration::from_secs(60)).expect("it is answered")
}

fn code(outcome: &Outcome) -> &str {
    outcome.failure.as_ref().map_or("", |failure| &failure.code)
}

#[test]
fn stop_begins_while_every_other_worker_is_busy_and_ends_a_queued_launch() {
    let rig = rig(2);
    rig.act.hold("pull");
    let pull = rig.submit("pull", Verb::Launch, "other");
    rig.begun("pull");
    let launch = rig.submit("launch", Verb::Launch, "w");
    let stop = rig.submit("stop", Verb::Stop, "w");
    assert_eq!(answer(&stop).state, ActionState::Succeeded);
    assert!(rig.act.superseded("stop").contains("w"));
    // The one worker is still busy: what looks after the queue answers.
    rig.shared.end_overdue();
    let launch = answer(&launch);
    assert_eq!((launch.state, code(&launch)), (ActionState::Cancelled, "SUPERSEDED"));
    rig.act.release("pull");
    assert_eq!(answer(&pull).state, ActionState::Succeeded);
}

#[test]
fn stop_of_a_running_launch_runs_when_that_has_ended() {
    let rig = rig(3);
    rig.act.means("p", loaded("p", &["a", "b"]));
    rig.act.hold("launch");
    let launch = rig.submit("launch", Verb::Launch, "p");
    rig.begun("launch");
    rig.act.means("p", loaded("p", &["p"]));
    let stop = rig.submit("stop", Verb::Stop, "p");
    assert_eq!(answer(&stop).state, ActionState::Succeeded);
    assert_eq!(answer(&launch).state, ActionState::Cancelled);
    assert_eq!(rig.act.log(), ["begin launch", "end launch", "begin stop", "end stop"]);
    assert!(rig.act.superseded("stop").contains("p"));
}

#[test]
fn repeated_id_is_answered_from_the_store_and_run_once() {
    let rig = rig(2);
    let first = answer(&rig.submit("a", Verb::Launch, "w"));
    // The queue takes it, as when it came in the moment in which the first one ended.
    let again = answer(&rig.submit("a", Verb::Launch, "w"));
    assert_eq!(again, first);
    let other = answer(&rig.submit("a", Verb::Launch, "x"));
    assert_eq!(code(&other), "ACTION_ID_REUSED");
    assert_eq!(rig.act.log(), ["begin a", "end a"]);
    let stored = rig.act.stored("a", Deadline::after(Duration::from_secs(1))).unwrap().unwrap();
    assert_eq!(stored.fingerprint, fingerprint(&request("a", Verb::Launch, "w")), "the first outcome is kept");
    assert!(rig.shared.lanes.reserve(Lane::Normal).is_ok() && rig.shared.inflight.count() == 0);
}

#[test]
fn same_id_under_way_is_attached_to_and_another_request_under_it_is_refused() {
    let rig = rig(2);
    rig.act.hold("a");
    let first = rig.submit("a", Verb::Launch, "w");
    let second = rig.submit("a", Verb::Launch, "w");
    let refused = rig.shared.submit(request("a", Verb::Launch, "x")).err().unwrap();
    assert_eq!(refused.code, ErrorCode::ActionIdReused);
    rig.act.release("a");
    assert_eq!(answer(&first), answer(&second));
    assert_eq!(rig.act.log().len(), 2);
}

#[test]
fn panic_of_an_action_is_answered_and_frees_its_workload() {
    let rig = rig(2);
    rig.act.panics("bad");
    let bad = answer(&rig.submit("bad", Verb::Launch, "w"));
    assert_eq!((bad.state, code(&bad)), (ActionState::Failed, "INTERNAL"));
    assert_eq!(answer(&rig.submit("good", Verb::Launch, "w")).state, ActionState::Succeeded);
    assert_eq!(rig.shared.inflight.count(), 0);
}

#[test]
fn cancel_of_a_parked_action_does_not_wait_for_what_blocks_it() {
    let rig = rig(3);
    rig.act.hold("first");
    let first = rig.submit("first", Verb::Start, "w");
    rig.begun("first");
    let second = rig.submit("second", Verb::Start, "w");
    rig.shared.inflight.find("second").unwrap().token.cancel("by hand");
    let parked = || {
        rig.shared.end_overdue();
        second.try_recv().ok()
    };
    let mut outcome = None;
    until("the answer", || {
        outcome = outcome.take().or_else(parked);
        outcome.is_some()
    });
    assert_eq!(code(&outcome.unwrap()), "CANCELLED");
    assert!(!rig.act.log().contains(&"begin second".to_owned()));
    rig.act.release("first");
    answer(&first);
}

#[test]
fn janitor_is_woken_for_what_is_cancelled_before_it_begins() {
    let rig = rig(0);
    let is_rung = || rig.shared.next_due().is_some() && rig.shared.alarm.is_due();
    while rig.shared.alarm.is_due() {
        assert!(rig.shared.alarm.wait());
    }
    let launch = rig.shared.submit(request("l", Verb::Launch, "w")).unwrap();
    assert!(!is_rung(), "its deadline is far");
    rig.shared.submit(request("s", Verb::Stop, "w")).unwrap();
    assert!(launch.token.is_cancelled() && is_rung());
    assert!(rig.shared.alarm.wait());
    // Taken by a worker that had to park it, and freed again, while it was cancelled.
    let job = rig.shared.lanes.next(true).unwrap();
    job.entry.token.cancel("by hand");
    rig.shared.requeue(job);
    assert!(is_rung());
}

#[test]
fn full_lane_is_refused_and_its_places_come_back() {
    let rig = rig(2);
    rig.act.hold("held");
    let held = rig.submit("held", Verb::Start, "w");
    rig.begun("held");
    let queued: Vec<_> = (0..64).map(|n| rig.submit(&format!("q{n}"), Verb::Start, &format!("w{n}"))).collect();
    let error = rig.shared.submit(request("over", Verb::Start, "x")).err().unwrap();
    assert_eq!((error.kind, error.code), (ErrorKind::ResourceExhausted, ErrorCode::QueueFull));
    rig.act.release("held");
    answer(&held);
    queued.iter().for_each(|one| assert_eq!(answer(one).state, ActionState::Succeeded));
    assert_eq!(answer(&rig.submit("over", Verb::Start, "x")).state, ActionState::Succeeded);
}

#[test]
fn actions_on_one_workload_never_overlap_and_all_are_answered() {
    let rig = rig(5);
    let verbs = [Verb::Start, Verb::Restart, Verb::Stop, Verb::Start, Verb::Kill];
    let targets = ["a", "b", "p"];
    rig.act.means("p", loaded("p", &["a", "b"]));
    let submit = |n: usize| rig.submit(&format!("{}-{n}", targets[n % 3]), verbs[n % 5], targets[n % 3]);
    for round in 0..20 {
        let asked: Vec<_> = (round * 15..round * 15 + 15).map(submit).collect();
        asked.iter().for_each(|one| drop(answer(one)));
    }
    assert_eq!(rig.shared.inflight.count(), 0);
    let mut running: Vec<String> = Vec::new();
    for line in rig.act.log() {
        let (what, id) = line.split_once(' ').unwrap();
        if what == "end" {
            running.retain(|other| other != id);
            continue;
        }
        let target = |id: &str| id.split('-').next().unwrap().to_owned();
        let clash =
            running.iter().find(|other| target(other) == target(id) || target(other) == "p" || target(id) == "p");
        assert_eq!(clash, None, "{id} began beside it");
        running.push(id.to_owned());
    }
}

#[test]
fn recovery_that_waits_keeps_its_id_and_its_workload_from_others() {
    let rig = rig(2);
    rig.act.engine_is_away(true);
    rig.shared.submit_recovery(recovery("r", Verb::Terminate, "w"));
    until("the first try", || rig.shared.retries_waiting() == 1 && rig.shared.inflight.count() == 0);
    let error = rig.shared.submit(request("r", Verb::Terminate, "w")).err().unwrap();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let launch = answer(&rig.submit("l", Verb::Launch, "w"));
    assert_eq!((launch.state, code(&launch)), (ActionState::Refused, "ENGINE_UNAVAILABLE"));
    assert_eq!(answer(&rig.submit("s", Verb::Stop, "w")).state, ActionState::Succeeded);
    rig.act.engine_is_away(false);
    until("the next try", || {
        rig.shared.retry_due();
        rig.act.log().contains(&"recover r".to_owned())
    });
    until("its end", || rig.shared.inflight.count() == 0);
    assert_eq!(answer(&rig.submit("l2", Verb::Launch, "w")).state, ActionState::Succeeded);
}

#[test]
fn launch_that_is_refused_for_one_recovery_loses_no_other() {
    let rig = rig(2);
    rig.act.means("p", loaded("p", &["a", "b"]));
    rig.act.engine_is_away(true);
    rig.shared.submit_recovery(recovery("ra", Verb::Launch, "a"));
    rig.shared.submit_recovery(recovery("rb", Verb::Launch, "b"));
    until("the first tries", || rig.shared.retries_waiting() == 2 && rig.shared.inflight.count() == 0);
    let launch = answer(&rig.submit("l", Verb::Launch, "p"));
    assert_eq!((launch.state, code(&launch)), (ActionState::Refused, "ENGINE_UNAVAILABLE"));
    for id in ["ra", "rb"] {
        assert!(rig.shared.waiting_recovery(id).is_some(), "{id} waits on");
    }
    assert_eq!(rig.shared.retries_waiting(), 2);
    assert!(rig.shared.tried_first.lock().unwrap().is_empty());
}

#[test]
fn repair_has_an_id_that_no_caller_can_choose() {
    let rig = rig(0);
    let repair = Recovery { is_repair: true, ..recovery("r", Verb::Launch, "w") };
    rig.shared.submit_recovery(repair);
    let id = rig.shared.inflight.all()[0].request.id.clone();
    assert!(id.contains('/'), "'{id}' is made of characters that an action id may have");
}

#[test]
fn overdue_recovery_is_left_in_its_queue() {
    let rig = rig(0);
    rig.shared.submit_recovery(recovery("r", Verb::Launch, "w"));
    rig.shared.inflight.find("r").unwrap().token.cancel("by hand");
    rig.shared.end_overdue();
    assert_eq!(rig.shared.inflight.count(), 1);
}

#[test]
fn pruned_ids_are_forgotten_and_those_that_came_meanwhile_are_not() {
    let rig = rig(0);
    rig.shared.note_ended("pruned");
    rig.shared.note_ended("kept");
    let read = || {
        rig.shared.note_ended("new");
        Ok(vec!["kept".to_owned()])
    };
    rig.shared.ended.recount(read).unwrap();
    let known = ["pruned", "kept", "new"].map(|id| rig.shared.ended.may_have(id));
    assert_eq!(known, [false, true, true]);
    rig.shared.ended.recount(|| Err(Error::internal("away"))).unwrap_err();
    assert!(rig.shared.ended.may_have("kept") && rig.shared.ended.may_have("new"));
}

#[test]
fn tokens_of_jobs_that_were_taken_out_wake_nobody_for_nothing() {
    let rig = rig(0);
    for n in 0..50 {
        let entry = rig.shared.submit(request(&format!("a{n}"), Verb::Start, "w")).unwrap();
        entry.token.cancel("by hand");
        rig.shared.end_overdue();
    }
    assert_eq!(rig.shared.inflight.count(), 0);
    rig.shared.submit(request("last", Verb::Start, "w")).unwrap();
    let last = rig.shared.lanes.next(false).unwrap();
    assert_eq!(last.entry.request.id, "last");
    drop(job(&last.entry));
}
