//! The store goes away while the daemon runs: what begins is refused, what ends goes on, and nothing that was done is
//! forgotten.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use actioncontroller::action::{Outside, Pipeline, Ports, Settings, SettingsCell};
use actioncontroller::application::health::{Health, StoreSources};
use actioncontroller::application::history::History;
use actioncontroller::application::status::Status;
use actioncontroller::clock::{Deadline, SystemClock};
use actioncontroller::dispatch::service::Service;
use actioncontroller::dispatch::{DispatchConfig, DispatchPorts, Dispatcher};
use actioncontroller::error::ErrorKind;
use actioncontroller::manifest::Limits;
use actioncontroller::model::action::{ActionRequest, ActionState, Outcome, Parameters, Verb};
use actioncontroller::policy::builtin::BuiltinPolicy;
use actioncontroller::realtime::cores::CorePolicy;
use actioncontroller::realtime::keeper::CoreKeeper;
use actioncontroller::runtime::registry::EngineRegistry;
use actioncontroller::runtime::sim::SimRuntime;
use actioncontroller::runtime::sim::config::{SimConfig, SimFault, SimOp};
use actioncontroller::security::ceiling::Ceiling;
use actioncontroller::storage::documents::Documents;
use actioncontroller::storage::memory::MemoryStore;
use actioncontroller::storage::records::{Desired, Records};
use actioncontroller::storage::{Batch, Entry, StateStore, StoreError, StoreStats};
use futures_executor::block_on;

use super::LONG;
use crate::support::daemon::pod;
use crate::support::wait::until;

/// A store that can be taken away for reads, for writes, and for outcomes alone.
#[derive(Default)]
struct Door {
    store: MemoryStore,
    no_reads: AtomicBool,
    no_writes: AtomicBool,
    no_outcomes: AtomicBool,
    /// Whether it says that it is full, or does not answer.
    is_full: AtomicBool,
    written: Mutex<Vec<String>>,
}

impl Door {
    fn error(&self) -> StoreError {
        let why = "for the test".to_owned();
        if self.is_full.load(Ordering::SeqCst) { StoreError::Full(why) } else { StoreError::Unavailable(why) }
    }

    fn set(&self, reads: bool, writes: bool) {
        self.no_reads.store(!reads, Ordering::SeqCst);
        self.no_writes.store(!writes, Ordering::SeqCst);
    }
}

impl StateStore for Door {
    fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
        if self.no_reads.load(Ordering::SeqCst) { Err(self.error()) } else { self.store.get(key, deadline) }
    }

    fn scan(&self, prefix: &str, after: &str, limit: usize, deadline: Deadline) -> Result<Vec<Entry>, StoreError> {
        if self.no_reads.load(Ordering::SeqCst) {
            return Err(self.error());
        }
        self.store.scan(prefix, after, limit, deadline)
    }

    fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
        let is_outcome = batch.put.iter().any(|(key, _)| key.starts_with("outcome/"));
        let is_refused = is_outcome && self.no_outcomes.load(Ordering::SeqCst);
        if is_refused || self.no_writes.load(Ordering::SeqCst) {
            return Err(self.error());
        }
        self.written.lock().unwrap().extend(batch.put.iter().map(|(key, _)| key.clone()));
        self.store.commit(batch, deadline)
    }

    fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
        self.store.check(deadline)
    }

    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

struct Rig {
    door: Arc<Door>,
    records: Records,
    sim: SimRuntime,
    dispatcher: Dispatcher,
}

impl Rig {
    fn new() -> Self {
        let door = Arc::new(Door::default());
        let records = Records::new(Arc::clone(&door) as Arc<dyn StateStore>);
        let sim = SimRuntime::open(SimConfig { enabled: true, ..SimConfig::default() }, "test").unwrap();
        let mut engines = EngineRegistry::new();
        engines.set_preference(vec!["sim".to_owned()]);
        engines.register(Arc::new(sim.clone())).unwrap();
        let engines = Arc::new(engines);
        let settings = Settings::alone("test".to_owned(), Limits::default(), Ceiling::default());
        let settings = Arc::new(SettingsCell::new(settings));
        let pipeline = Pipeline::new(Ports {
            engines: Arc::clone(&engines),
            records: records.clone(),
            policy: Arc::new(BuiltinPolicy::load(&[]).unwrap()),
            clock: Arc::new(SystemClock),
            settings: Arc::clone(&settings),
            outside: Outside::none(Documents::own(records.clone())),
            cores: CoreKeeper::of_this_machine(CorePolicy::default(), &engines, &records, "test"),
            outbox: None,
        });
        let cores = CoreKeeper::of_this_machine(CorePolicy::default(), &engines, &records, "test");
        let stores = StoreSources { backend: "embedded", own: records.clone(), shared: None, outbox: None };
        let ports = DispatchPorts {
            act: Arc::new(pipeline),
            status: Arc::new(Status::new(records.clone(), Arc::clone(&engines), settings)),
            history: Arc::new(History::new(records.clone())),
            health: Arc::new(Health::new("test".to_owned(), engines, stores, Arc::default())),
            clock: Arc::new(SystemClock),
            prune: Box::new(|_, _| Ok(0)),
            told: None,
            ended: None,
            faults: Arc::default(),
            networks: Arc::default(),
            cores,
        };
        let config = DispatchConfig {
            workers: 2,
            urgent_workers: 1,
            readers: 2,
            long_reads: 2,
            urgent_queue: 16,
            normal_queue: 16,
            default_deadline: LONG,
            max_deadline: LONG,
        };
        Self { door, records, sim, dispatcher: Dispatcher::start(config, ports).unwrap() }
    }

    fn run(&self, id: &str, verb: Verb, target: &str) -> Outcome {
        let manifest = match verb {
            Verb::Launch => pod(target, "localhost/busybox:1", "sleep 1000"),
            _ => String::new(),
        };
        let target = if verb == Verb::Launch { String::new() } else { target.to_owned() };
        let parameters = Parameters::default();
        let (id, deadline_ms, priority, dry_run) = (id.to_owned(), None, 0, false);
        let request = ActionRequest { id, verb, target, manifest, parameters, deadline_ms, priority, dry_run };
        block_on(self.dispatcher.execute(request)).unwrap()
    }

    fn desired(&self, name: &str) -> Option<Desired> {
        let record = self.records.workload(name, Deadline::after(LONG)).unwrap();
        record.map(|record| record.value.desired)
    }

    fn kept(&self, id: &str) -> Option<ActionState> {
        let stored = self.records.outcome(id, Deadline::after(LONG)).unwrap();
        stored.map(|stored| stored.outcome.state)
    }

    fn is_there(&self, name: &str) -> bool {
        self.sim.config_of(&format!("{name}_main")).is_some()
    }

    fn calls(&self) -> BTreeMap<SimOp, u64> {
        let mut calls = self.sim.calls();
        calls.retain(|op, _| !matches!(op, SimOp::List | SimOp::Inspect | SimOp::Probe | SimOp::Leftovers));
        calls
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.dispatcher.stop(Duration::ZERO, Duration::from_secs(1));
    }
}

#[test]
fn launch_without_a_store_is_refused_before_any_effect() {
    let rig = Rig::new();
    for (reads, writes) in [(true, false), (false, false)] {
        rig.door.set(reads, writes);
        let refused = rig.run(&format!("a-{reads}"), Verb::Launch, "w");
        let failure = refused.failure.unwrap();
        assert_eq!((refused.state, failure.status), (ActionState::Refused, ErrorKind::Unavailable.number()));
        assert_eq!(failure.code, "STORE_UNAVAILABLE");
        assert!(rig.calls().is_empty(), "{:?}", rig.calls());
    }
    rig.door.is_full.store(true, Ordering::SeqCst);
    rig.door.set(true, false);
    let refused = rig.run("full", Verb::Launch, "w").failure.unwrap();
    assert_eq!((refused.status, refused.code.as_str()), (8, "STORE_UNAVAILABLE"));
    assert!(rig.calls().is_empty());
    rig.door.set(true, true);
    assert_eq!(rig.run("b", Verb::Launch, "w").state, ActionState::Succeeded);
}

#[test]
fn what_ends_things_goes_on_without_a_store_and_is_recorded_when_it_is_back() {
    for (reads, writes) in [(true, false), (false, false)] {
        let rig = Rig::new();
        for name in ["stopped", "killed", "removed", "terminated"] {
            assert_eq!(rig.run(name, Verb::Launch, name).state, ActionState::Succeeded);
        }
        rig.run("stop-first", Verb::Stop, "removed");
        rig.door.set(reads, writes);
        let ends = [
            (Verb::Stop, "stopped"),
            (Verb::Kill, "killed"),
            (Verb::Remove, "removed"),
            (Verb::Terminate, "terminated"),
        ];
        for (verb, name) in ends {
            let outcome = rig.run(&format!("end-{name}"), verb, name);
            assert_eq!(outcome.state, ActionState::Succeeded, "{outcome:?}");
            assert!(outcome.changed);
            let warned = |word: &str| outcome.warnings.iter().any(|warning| warning.message.contains(word));
            assert!(warned("intent was not recorded") && warned("outcome was not recorded"), "{outcome:?}");
        }
        assert!(!rig.is_there("removed") && !rig.is_there("terminated"));
        rig.door.set(true, true);
        until("all are recorded", LONG, || {
            ends.iter().all(|(_, name)| rig.kept(&format!("end-{name}")) == Some(ActionState::Succeeded)).then_some(())
        });
        assert_eq!((rig.desired("removed"), rig.desired("terminated")), (None, None));
        if reads {
            assert_eq!(
                (rig.desired("stopped"), rig.desired("killed")),
                (Some(Desired::Stopped), Some(Desired::Stopped))
            );
        }
    }
}

#[test]
fn applied_and_not_recorded_is_told_and_recorded_in_the_background() {
    let rig = Rig::new();
    rig.door.no_outcomes.store(true, Ordering::SeqCst);
    let outcome = rig.run("a", Verb::Launch, "w");
    let failure = outcome.failure.clone().unwrap();
    assert_eq!((outcome.state, failure.code.as_str()), (ActionState::Failed, "APPLIED_NOT_RECORDED"));
    assert_eq!(failure.status, ErrorKind::NotRecorded.number());
    assert!(outcome.changed && rig.is_there("w"));
    let intents = rig.records.intents(Deadline::after(LONG)).unwrap().whole;
    assert_eq!(intents.len(), 1, "a restart would finish it");
    rig.door.no_outcomes.store(false, Ordering::SeqCst);
    until("the outcome is kept", LONG, || rig.kept("a"));
    assert_eq!(rig.kept("a"), Some(ActionState::Succeeded));
    assert_eq!(rig.desired("w"), Some(Desired::Running));
    assert!(rig.records.intents(Deadline::after(LONG)).unwrap().whole.is_empty());
    assert!(!rig.run("b", Verb::Launch, "w").changed);
}

#[test]
fn older_record_never_replaces_a_newer_one() {
    let rig = Rig::new();
    rig.door.no_outcomes.store(true, Ordering::SeqCst);
    rig.run("a", Verb::Launch, "w");
    rig.run("b", Verb::Stop, "w");
    rig.door.no_outcomes.store(false, Ordering::SeqCst);
    // Asked for at once, before the background has its turn.
    assert_eq!(rig.run("c", Verb::Start, "w").state, ActionState::Succeeded);
    assert_eq!(rig.desired("w"), Some(Desired::Running));
    until("all are kept", LONG, || (rig.kept("a").is_some() && rig.kept("b").is_some()).then_some(()));
    assert_eq!(rig.desired("w"), Some(Desired::Running));
    let written = rig.door.written.lock().unwrap();
    let order: Vec<_> = written.iter().filter_map(|key| key.strip_prefix("outcome/")).collect();
    assert_eq!(order, ["a", "b", "c"]);
}

#[test]
fn failed_undo_is_repaired_even_if_the_store_never_heard_of_it() {
    let rig = Rig::new();
    let gone = |op, nth| SimFault {
        op: Some(op),
        nth,
        fail: Some(actioncontroller::runtime::sim::config::SimFailure {
            kind: actioncontroller::runtime::sim::config::SimFailureKind::Connection,
            message: "gone".to_owned(),
        }),
        ..SimFault::default()
    };
    rig.sim.set_faults(vec![gone(SimOp::Start, None), gone(SimOp::Inspect, None)]);
    rig.door.no_outcomes.store(true, Ordering::SeqCst);
    let failed = rig.run("a", Verb::Launch, "w");
    assert_eq!(failed.state, ActionState::Failed);
    assert!(rig.is_there("w") && !failed.left.is_empty(), "{failed:?}");
    rig.sim.set_faults(Vec::new());
    rig.door.no_outcomes.store(false, Ordering::SeqCst);
    until("the repair", LONG, || (!rig.is_there("w")).then_some(()));
    until("the store is in order", LONG, || {
        let repairs = rig.records.repairs(Deadline::after(LONG)).unwrap().whole;
        (repairs.is_empty() && rig.kept("a") == Some(ActionState::Failed)).then_some(())
    });
}
