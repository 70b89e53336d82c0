//! Delivery with a shared store that is away, dies in a commit, or is somebody else's; and reopening at any point.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::action::{blank, scenario};
use crate::model::action::{ActionState, Verb};
use crate::storage::memory::MemoryStore;
use crate::storage::records::{Records, StoredOutcome};
use crate::storage::shared::{Abilities, StoreChanges};
use crate::storage::{Entry, StoreStats};

/// A shared store in memory that keeps every write in its order.
#[derive(Default)]
struct Remote {
    store: MemoryStore,
    is_away: AtomicBool,
    /// The next commit is done and its answer lost.
    loses_answer: AtomicBool,
    written: Mutex<Vec<String>>,
}

impl Remote {
    fn there(&self) -> Result<(), StoreError> {
        let is_away = self.is_away.load(Ordering::SeqCst);
        if is_away { Err(StoreError::Unavailable("as scripted".into())) } else { Ok(()) }
    }

    fn actions(&self) -> Vec<String> {
        let written = self.written.lock().unwrap();
        written
            .iter()
            .filter_map(|key| key.strip_prefix("/actioncontroller/v1/nodes/n/actions/"))
            .map(str::to_owned)
            .collect()
    }
}

impl StateStore for Remote {
    fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
        self.there()?;
        self.store.get(key, deadline)
    }
    fn scan(&self, prefix: &str, after: &str, limit: usize, at: Deadline) -> Result<Vec<Entry>, StoreError> {
        self.there()?;
        self.store.scan(prefix, after, limit, at)
    }
    fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
        self.there()?;
        if batch.put.iter().any(|(key, _)| key.ends_with("/bad")) {
            return Err(StoreError::Damaged { key: "bad".into(), reason: "as scripted".into() });
        }
        let keys: Vec<_> = batch.put.iter().map(|(key, _)| key.clone()).collect();
        self.store.commit(batch, deadline)?;
        self.written.lock().unwrap().extend(keys);
        if self.loses_answer.swap(false, Ordering::SeqCst) {
            return Err(StoreError::Unavailable("the answer is lost".into()));
        }
        Ok(())
    }
    fn check(&self, _: Deadline) -> Result<(), StoreError> {
        self.there()
    }
    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

impl SharedStore for Remote {
    fn name(&self) -> &'static str {
        "remote"
    }
    fn abilities(&self) -> Abilities {
        Abilities { compare: true, leases: false, watch: false }
    }
    fn hold(&self, _: &str, _: &str) -> Result<Box<dyn HeldKey>, StoreError> {
        Err(StoreError::Unsupported { store: "remote", what: "hold keys" })
    }
    fn watch(&self, _: &[String], _: &CancelToken) -> Result<StoreChanges, StoreError> {
        Err(StoreError::Unsupported { store: "remote", what: "watch" })
    }
}

struct Rig {
    own: Arc<MemoryStore>,
    remote: Arc<Remote>,
    outbox: Arc<Outbox>,
}

impl Rig {
    fn new() -> Self {
        let (own, remote) = (Arc::new(MemoryStore::new()), Arc::new(Remote::default()));
        let outbox = open(&own, &remote);
        Self { own, remote, outbox }
    }

    fn restart(&mut self) {
        self.outbox.stop();
        self.outbox = open(&self.own, &self.remote);
    }

    fn end(&self, id: &str, verb: Verb) {
        let outcome = blank(&scenario::request(id.into(), verb, "w"), "w", ActionState::Succeeded, 0);
        let mut changes = Changes::new();
        changes.put_outcome(&StoredOutcome { fingerprint: String::new(), outcome: outcome.clone() }).unwrap();
        let urgent = verb.lane() == crate::model::action::Lane::Urgent;
        let _ticket = self.outbox.add(&mut changes, &outcome, urgent, true).unwrap();
        Records::new(Arc::clone(&self.own) as _).commit(changes, soon()).unwrap();
    }

    fn away(&self, is_away: bool) {
        self.remote.is_away.store(is_away, Ordering::SeqCst);
    }

    fn drained(&self) {
        until(|| {
            let backlog = self.outbox.backlog();
            backlog.waiting + backlog.states + backlog.owed == 0
        });
    }
}

fn open(own: &Arc<MemoryStore>, remote: &Arc<Remote>) -> Arc<Outbox> {
    let config = OutboxConfig { node: "n".into(), entries: 4, reserve: 2, timeout: Duration::from_secs(1) };
    Outbox::open(Arc::clone(own) as _, Arc::clone(remote) as _, config).unwrap()
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(60))
}

fn until(holds: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "not in time");
        thread::sleep(Duration::from_millis(5));
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.outbox.stop();
    }
}

// req: AC-21
#[test]
fn outcomes_arrive_in_order_and_once_also_over_restarts_and_lost_answers() {
    let mut rig = Rig::new();
    rig.end("a", Verb::Launch);
    rig.drained();
    rig.away(true);
    rig.end("b", Verb::Launch);
    rig.restart();
    rig.end("c", Verb::Stop);
    rig.remote.loses_answer.store(true, Ordering::SeqCst);
    rig.away(false);
    rig.drained();
    rig.restart();
    rig.end("d", Verb::Launch);
    rig.drained();
    assert_eq!(rig.remote.actions(), ["a", "b", "c", "d"]);
}

#[test]
fn number_of_what_was_delivered_last_is_not_given_again_after_a_restart() {
    let mut rig = Rig::new();
    for id in ["a", "b", "c"] {
        rig.end(id, Verb::Launch);
        rig.drained();
        rig.restart();
    }
    assert_eq!(rig.remote.actions(), ["a", "b", "c"]);
}

#[test]
fn delivery_that_a_crash_cut_off_before_it_was_noted_is_not_done_again() {
    let mut rig = Rig::new();
    rig.end("a", Verb::Launch);
    rig.drained();
    // As if the process had died between the delivery and its note.
    let key = published::action("n", "a");
    let document = String::from_utf8(rig.remote.store.get(&key, soon()).unwrap().unwrap().value).unwrap();
    let waiting = Waiting { key, document: Some(document), is_state: false };
    let put = vec![(keys::outbox(1), to_json(&waiting).unwrap().into_bytes())];
    rig.own.commit(Batch { put, ..Batch::default() }, soon()).unwrap();
    rig.restart();
    rig.drained();
    assert_eq!(rig.remote.actions(), ["a"]);
}

#[test]
fn at_the_bound_normal_actions_are_refused_and_ends_go_on_into_the_reserve_and_the_log() {
    let mut rig = Rig::new();
    rig.away(true);
    (0..4).for_each(|n| rig.end(&format!("n{n}"), Verb::Launch));
    let refused = rig.outbox.admit().unwrap_err();
    assert_eq!((refused.kind, refused.code), (ErrorKind::ResourceExhausted, ErrorCode::BacklogFull));
    (0..5).for_each(|n| rig.end(&format!("s{n}"), Verb::Stop));
    let told = |rig: &Rig| (rig.outbox.backlog().waiting, rig.outbox.backlog().owed);
    assert_eq!(told(&rig), (6, 3));
    rig.restart();
    assert_eq!(told(&rig), (6, 3));
    assert!(rig.outbox.admit().is_err());
    // What had no effect needs no place.
    let outcome = blank(&scenario::request("r".into(), Verb::Launch, "w"), "w", ActionState::Refused, 0);
    drop(rig.outbox.add(&mut Changes::new(), &outcome, false, false).unwrap());
    assert_eq!(told(&rig), (6, 3));
    rig.away(false);
    rig.drained();
    assert_eq!(rig.remote.actions(), ["n0", "n1", "n2", "n3", "s0", "s1", "s2", "s3", "s4"]);
    rig.outbox.admit().unwrap();
}

#[test]
fn newer_state_takes_the_place_of_the_one_that_waits_and_what_is_refused_for_good_blocks_nothing() {
    let rig = Rig::new();
    rig.away(true);
    (0..50).for_each(|n| rig.outbox.put_state("/x/w", Some(n.to_string())).unwrap());
    rig.outbox.put_state("/x/bad", Some("x".into())).unwrap();
    rig.outbox.put_state("/x/v", Some("v".into())).unwrap();
    assert_eq!(rig.own.scan(keys::OUTBOX, "", 100, soon()).unwrap().len(), 3);
    rig.away(false);
    rig.drained();
    assert_eq!(rig.remote.store.get("/x/w", soon()).unwrap().unwrap().value, b"49");
    assert!(rig.remote.store.get("/x/v", soon()).unwrap().is_some());
    assert_eq!(rig.outbox.backlog().set_aside, 1);
    rig.outbox.put_state("/x/v", None).unwrap();
    rig.drained();
    assert!(rig.remote.store.get("/x/v", soon()).unwrap().is_none());
}

#[test]
fn outcome_whose_batch_is_under_way_is_not_overtaken() {
    let rig = Rig::new();
    let outcome = blank(&scenario::request("first".into(), Verb::Launch, "w"), "w", ActionState::Succeeded, 0);
    let mut changes = Changes::new();
    let ticket = rig.outbox.add(&mut changes, &outcome, false, true).unwrap();
    rig.end("second", Verb::Launch);
    thread::sleep(Duration::from_millis(300));
    assert!(rig.remote.actions().is_empty());
    Records::new(Arc::clone(&rig.own) as _).commit(changes, soon()).unwrap();
    drop(ticket);
    rig.drained();
    assert_eq!(rig.remote.actions(), ["first", "second"]);
}
