//! Claims, barriers and turns, without threads: what each call comes to in each order.

use super::*;
use crate::cancel::Urge;
use crate::dispatch::double::{entry, job, loaded, recovery, request};
use crate::dispatch::lanes::Work;

struct Under {
    inflight: Inflight,
    sequence: u64,
}

fn under() -> Under {
    Under { inflight: Inflight::default(), sequence: 0 }
}

impl Under {
    fn enter(&mut self, verb: Verb, target: &str) -> Arc<Entry> {
        self.sequence += 1;
        let entry = entry(self.sequence, request(&format!("a{}", self.sequence), verb, target));
        assert!(self.inflight.enter(&entry, None).is_none());
        entry
    }

    /// What a worker does with a job of the entry.
    fn claim(&self, entry: &Arc<Entry>, workloads: &[&str]) -> Claim {
        let loaded = loaded(&entry.request.target, workloads);
        self.inflight.widen(entry, &loaded);
        self.inflight.claim(job(entry), loaded)
    }

    fn leave(&self, entry: &Arc<Entry>) -> Vec<String> {
        let freed = self.inflight.leave(entry);
        let mut ids: Vec<_> = freed.iter().map(|job| job.entry.request.id.clone()).collect();
        ids.sort();
        ids
    }
}

fn word(claim: &Claim) -> &'static str {
    match claim {
        Claim::Granted(..) => "granted",
        Claim::Superseded(..) => "superseded",
        Claim::Cancelled(_) => "cancelled",
        Claim::Parked => "parked",
    }
}

#[test]
fn second_action_on_a_workload_waits_until_the_first_has_left() {
    let mut under = under();
    let (first, second) = (under.enter(Verb::Start, "w"), under.enter(Verb::Restart, "w"));
    assert_eq!(word(&under.claim(&first, &["w"])), "granted");
    assert_eq!(word(&under.claim(&second, &["w"])), "parked");
    assert_eq!(under.leave(&first), ["a2"]);
    assert_eq!(word(&under.claim(&second, &["w"])), "granted");
}

#[test]
fn of_several_that_wait_for_one_workload_only_the_next_is_queued_again() {
    let mut under = under();
    let running = under.enter(Verb::Start, "w");
    under.claim(&running, &["w"]);
    for _ in 0..3 {
        let waiting = under.enter(Verb::Start, "w");
        assert_eq!(word(&under.claim(&waiting, &["w"])), "parked");
    }
    assert_eq!(under.leave(&running), ["a2"]);
}

#[test]
fn action_on_two_workloads_is_not_starved_by_actions_on_one() {
    let mut under = under();
    let (on_a, on_b) = (under.enter(Verb::Start, "a"), under.enter(Verb::Start, "b"));
    under.claim(&on_a, &["a"]);
    under.claim(&on_b, &["b"]);
    let both = under.enter(Verb::Start, "p");
    assert_eq!(word(&under.claim(&both, &["a", "b"])), "parked");
    // 'a' is free for a moment: who comes later does not take it.
    assert!(under.leave(&on_a).is_empty());
    let later = under.enter(Verb::Start, "a");
    assert_eq!(word(&under.claim(&later, &["a"])), "parked");
    assert_eq!(under.leave(&on_b), ["a3"]);
    assert_eq!(word(&under.claim(&both, &["a", "b"])), "granted");
    assert_eq!(under.leave(&both), ["a4"]);
}

#[test]
fn urgent_action_cancels_what_runs_and_what_waits_and_knows_of_both() {
    let mut under = under();
    let (running, waiting) = (under.enter(Verb::Launch, "w"), under.enter(Verb::Start, "w"));
    let other = under.enter(Verb::Launch, "other");
    under.claim(&running, &["w"]);
    let stop = under.enter(Verb::Stop, "w");
    assert!(running.token.is_cancelled() && waiting.token.is_cancelled() && !other.token.is_cancelled());
    assert_eq!(word(&under.claim(&stop, &["w"])), "parked");
    assert_eq!(word(&under.claim(&waiting, &["w"])), "superseded");
    under.leave(&waiting);
    under.inflight.note_superseded(&running);
    assert_eq!(under.leave(&running), ["a4"]);
    let Claim::Granted(_, ended) = under.claim(&stop, &["w"]) else { panic!("it is the stop's turn") };
    assert!(ended.contains("w"));
}

#[test]
fn stop_of_a_launch_that_is_only_queued_knows_that_it_ended_it() {
    let mut under = under();
    let _launch = under.enter(Verb::Launch, "w");
    let stop = under.enter(Verb::Stop, "w");
    let Claim::Granted(_, ended) = under.claim(&stop, &["w"]) else { panic!("nothing is in its way") };
    assert!(ended.contains("w"));
}

#[test]
fn stop_of_a_package_waits_for_the_launch_that_it_cancels() {
    let mut under = under();
    let launch = under.enter(Verb::Launch, "p");
    assert_eq!(word(&under.claim(&launch, &["a", "b"])), "granted");
    let stop = under.enter(Verb::Stop, "p");
    // Not recorded yet: for the stop 'p' is a workload that nobody has claimed.
    assert_eq!(word(&under.claim(&stop, &["p"])), "parked");
    assert_eq!(under.leave(&launch), ["a2"]);
}

#[test]
fn action_that_was_accepted_after_an_urgent_one_waits_for_it_and_is_not_cancelled() {
    let mut under = under();
    let (stop, launch) = (under.enter(Verb::Stop, "w"), under.enter(Verb::Launch, "w"));
    assert_eq!(word(&under.claim(&launch, &["w"])), "parked");
    assert_eq!(word(&under.claim(&stop, &["w"])), "granted");
    assert_eq!(under.leave(&stop), ["a2"]);
    assert_eq!(word(&under.claim(&launch, &["w"])), "granted");
}

#[test]
fn cancelled_job_is_never_parked() {
    let mut under = under();
    let (running, late) = (under.enter(Verb::Start, "w"), under.enter(Verb::Start, "w"));
    under.claim(&running, &["w"]);
    late.token.cancel("asked for");
    assert_eq!(word(&under.claim(&late, &["w"])), "cancelled");
}

#[test]
fn kill_ends_the_grace_of_a_stop_whichever_claims_first() {
    for stop_claims_first in [true, false] {
        let mut under = under();
        let stop = under.enter(Verb::Stop, "w");
        if stop_claims_first {
            under.claim(&stop, &["w"]);
        }
        let kill = under.enter(Verb::Kill, "w");
        under.inflight.widen(&kill, &loaded("w", &["w"]));
        if !stop_claims_first {
            under.claim(&stop, &["w"]);
        }
        assert_eq!(stop.token.urge(), Urge::Hasten, "stop first: {stop_claims_first}");
    }
}

#[test]
fn signal_that_ends_nothing_leaves_the_grace_of_a_stop() {
    let mut under = under();
    let stop = under.enter(Verb::Stop, "w");
    under.claim(&stop, &["w"]);
    let mut hup = request("hup", Verb::Kill, "w");
    hup.parameters.signal = Some("SIGHUP".into());
    under.inflight.enter(&entry(9, hup), None);
    assert_eq!(stop.token.urge(), Urge::None);
}

#[test]
fn recovery_is_neither_superseded_nor_cancelled_while_it_waits_and_comes_first() {
    let mut under = under();
    let recovery = recovery("r", Verb::Launch, "w");
    let recovering = entry(100, recovery.intent.request.clone());
    under.inflight.enter(&recovering, Some(&recovery));
    let mut launch = request("l", Verb::Launch, "w");
    launch.priority = 100;
    let launch = entry(101, launch);
    under.inflight.enter(&launch, None);
    assert_eq!(word(&under.claim(&launch, &["w"])), "parked");
    under.sequence = 200;
    let stop = under.enter(Verb::Stop, "w");
    assert!(!recovering.token.is_cancelled());
    let job = Job {
        entry: Arc::clone(&recovering),
        work: Work::Recover(Box::new(recovery)),
        loaded: None,
        share: Default::default(),
    };
    assert_eq!(word(&under.inflight.claim(job, loaded("w", &["w"]))), "granted");
    assert_eq!(word(&under.claim(&stop, &["w"])), "parked");
}

#[test]
fn barriers_do_not_pile_up_behind_one_action_that_waits() {
    let mut under = under();
    let old = under.enter(Verb::Launch, "");
    for _ in 0..100 {
        for target in ["a", "b"] {
            let stop = under.enter(Verb::Stop, target);
            assert_eq!(word(&under.claim(&stop, &[target])), "granted");
            under.leave(&stop);
        }
    }
    assert_eq!(under.inflight.lock().barriers.len(), 2);
    assert_eq!(word(&under.claim(&old, &["b"])), "superseded");
    under.leave(&old);
    assert!(under.inflight.lock().barriers.is_empty());
}

#[test]
fn nothing_is_left_of_actions_that_have_left() {
    let mut under = under();
    let all: Vec<_> = [Verb::Launch, Verb::Stop, Verb::Start, Verb::Kill, Verb::Launch]
        .into_iter()
        .map(|verb| under.enter(verb, "w"))
        .collect();
    for entry in &all {
        under.claim(entry, &["w"]);
    }
    for entry in &all {
        under.leave(entry);
    }
    let state = under.inflight.lock();
    let left = (state.by_id.len(), state.claims.len(), state.running.len(), state.waiting.len());
    assert_eq!((left, state.barriers.len(), state.parked.len()), ((0, 0, 0, 0), 0, 0));
}
