//! Whole actions over the simulator: what is left on the engine and in the store, and what the caller is told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::*;
use crate::action::{Outside, PhaseClock, Reporter, Settings, SettingsCell};
use crate::clock::SystemClock;
use crate::manifest::Limits;
use crate::model::action::{Parameters, StepResult, StepState};
use crate::policy::builtin::BuiltinPolicy;
use crate::realtime::cores::CorePolicy;
use crate::realtime::keeper::CoreKeeper;
use crate::runtime::adapter::{Call, Change, ListFilter, NoProgress, RuntimeAdapter};
use crate::runtime::registry::EngineRegistry;
use crate::runtime::sim::SimRuntime;
use crate::runtime::sim::config::{SimConfig, SimFailure, SimFailureKind, SimFault, SimOp};
use crate::security::ceiling::Ceiling;
use crate::storage::documents::Documents;
use crate::storage::memory::MemoryStore;
use crate::storage::records::Records;
use crate::storage::{Batch, Entry, StateStore, StoreStats};

/// A store that can be taken away.
#[derive(Default)]
struct Removable {
    store: MemoryStore,
    is_away: AtomicBool,
}

impl Removable {
    fn there(&self) -> std::result::Result<&MemoryStore, StoreError> {
        let away = self.is_away.load(Ordering::SeqCst);
        if away { Err(StoreError::Unavailable("as scripted".into())) } else { Ok(&self.store) }
    }
}

impl StateStore for Removable {
    fn get(&self, key: &str, deadline: Deadline) -> std::result::Result<Option<Entry>, StoreError> {
        self.there()?.get(key, deadline)
    }
    fn scan(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
        at: Deadline,
    ) -> std::result::Result<Vec<Entry>, StoreError> {
        self.there()?.scan(prefix, after, limit, at)
    }
    fn commit(&self, batch: Batch, deadline: Deadline) -> std::result::Result<(), StoreError> {
        self.there()?.commit(batch, deadline)
    }
    fn check(&self, deadline: Deadline) -> std::result::Result<(), StoreError> {
        self.there()?.check(deadline)
    }
    fn stats(&self) -> StoreStats {
        self.store.stats()
    }
}

struct Rig {
    sim: SimRuntime,
    store: Arc<Removable>,
    pipeline: Pipeline,
    cancel: CancelToken,
}

fn rig() -> Rig {
    let sim = SimRuntime::open(SimConfig::default(), "n").unwrap();
    let mut engines = EngineRegistry::new();
    engines.register(Arc::new(sim.clone())).unwrap();
    let store = Arc::new(Removable::default());
    let settings = Settings::alone("n".into(), Limits::default(), Ceiling::default());
    let records = Records::new(Arc::clone(&store) as _);
    let engines = Arc::new(engines);
    let ports = Ports {
        engines: Arc::clone(&engines),
        records: records.clone(),
        policy: Arc::new(BuiltinPolicy::load(&[]).unwrap()),
        clock: Arc::new(SystemClock),
        settings: Arc::new(SettingsCell::new(settings)),
        outside: Outside::none(Documents::own(records.clone())),
        cores: CoreKeeper::of_this_machine(CorePolicy::default(), &engines, &records, "n"),
        outbox: None,
    };
    Rig { sim, store, pipeline: Pipeline::new(ports), cancel: CancelToken::new() }
}

/// Does something when a step has come to a state.
struct At<'a> {
    title: &'a str,
    state: StepState,
    then: &'a (dyn Fn() + Sync),
}

impl Reporter for At<'_> {
    fn planned(&self, _plan: &Plan) {}
    fn step(&self, result: &StepResult) {
        if result.title == self.title && result.state == self.state {
            (self.then)();
        }
    }
    fn bytes(&self, _index: usize, _what: &str, _done: u64, _total: u64) {}
    fn state(&self, _state: ActionState) {}
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn request(id: &str, verb: Verb, manifest: &str) -> ActionRequest {
    ActionRequest {
        id: id.into(),
        verb,
        target: if manifest.is_empty() { "w".into() } else { String::new() },
        manifest: manifest.into(),
        parameters: Parameters::default(),
        deadline_ms: None,
        priority: 0,
        dry_run: false,
    }
}

/// A workload of two containers, the second one of which does as it is told.
fn pod(second: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: w\nspec:\n  containers:\n  - name: a\n    image: i\n    \
         volumeMounts:\n    - {{name: tmp, mountPath: /tmp}}\n  - name: b\n    image: j\n    command: [\"{second}\"]\n  \
         volumes:\n  - name: tmp\n    emptyDir: {{}}\n"
    )
}

impl Rig {
    fn run(&self, request: &ActionRequest) -> Outcome {
        self.run_with(request, &recovery::Silent)
    }

    fn run_with(&self, request: &ActionRequest, reporter: &dyn Reporter) -> Outcome {
        let loaded = self.pipeline.load(request, soon()).unwrap();
        let context = Context {
            deadline: soon(),
            cancel: &self.cancel,
            reporter,
            phases: PhaseClock::since(Instant::now()),
            accepted_ms: 1,
            superseded: BTreeSet::new(),
        };
        self.pipeline.run(request, &loaded, context)
    }

    fn launch(&self, id: &str, manifest: &str) -> Outcome {
        self.run(&request(id, Verb::Launch, manifest))
    }

    fn call(&self) -> Call<'_> {
        Call { deadline: soon(), cancel: &self.cancel, progress: &NoProgress }
    }

    /// Containers with their states' words, by name.
    fn containers(&self) -> BTreeMap<String, &'static str> {
        let found = self.sim.list_containers(&self.call(), &ListFilter { all: true, ..ListFilter::default() }).unwrap();
        found.into_iter().map(|container| (container.name.clone(), container.status.word())).collect()
    }

    /// Whether nothing of the workload is left on the engine.
    fn is_empty(&self) -> bool {
        let left = self.sim.list_leftovers(&self.call(), "w").unwrap();
        self.containers().is_empty() && left.pods.is_empty() && left.volumes.is_empty() && left.networks.is_empty()
    }

    fn fault(&self, op: SimOp, name: &str, hang: bool) {
        let failure = SimFailure { kind: SimFailureKind::Engine, message: "as scripted".into() };
        let fail = (!hang).then_some(failure);
        self.sim.set_faults(vec![SimFault { op: Some(op), name: name.into(), hang, fail, ..SimFault::default() }]);
    }
}

#[test]
fn same_document_again_is_unchanged_with_the_same_ids_and_after_a_stop_started_with_them() {
    let rig = rig();
    let first = rig.launch("1", &pod("ignore-term"));
    assert_eq!((first.state, first.changed), (ActionState::Succeeded, true), "{first:?}");
    let again = rig.launch("2", &pod("ignore-term"));
    assert_eq!((again.state, again.changed), (ActionState::Succeeded, false));
    assert_eq!(again.workloads, first.workloads);
    assert_eq!(again.workloads["w"].keys().collect::<Vec<_>>(), ["a", "b"]);
    let mut stop = request("3", Verb::Stop, "");
    stop.parameters.grace_ms = Some(1);
    assert!(rig.run(&stop).changed);
    assert!(!rig.run(&ActionRequest { id: "4".into(), ..stop }).changed);
    let started = rig.launch("5", &pod("ignore-term"));
    assert_eq!((started.changed, started.workloads), (true, first.workloads));
    assert_eq!(rig.containers(), BTreeMap::from([("w_a".into(), "running"), ("w_b".into(), "running")]));
}

#[test]
fn failed_launch_leaves_nothing_and_no_record() {
    let rig = rig();
    let outcome = rig.launch("1", &pod("exit-after:0ms:3"));
    assert_eq!(outcome.state, ActionState::Failed);
    assert_eq!(outcome.failure.as_ref().unwrap().code, "CONTAINER_EXITED");
    assert!(outcome.left.is_empty() && !outcome.changed, "{:?}", outcome.left);
    assert!(rig.is_empty());
    assert!(rig.pipeline.ports.records.workload("w", soon()).unwrap().is_none());
    assert!(rig.pipeline.ports.records.intents(soon()).unwrap().whole.is_empty());
}

#[test]
fn failed_start_stops_what_it_started_and_keeps_the_containers() {
    let rig = rig();
    rig.launch("1", &pod("ignore-term"));
    rig.run(&ActionRequest {
        parameters: Parameters { grace_ms: Some(1), ..Default::default() },
        ..request("2", Verb::Stop, "")
    });
    rig.fault(SimOp::Start, "w_b", false);
    assert_eq!(rig.run(&request("3", Verb::Start, "")).state, ActionState::Failed);
    assert_eq!(rig.containers(), BTreeMap::from([("w_a".into(), "exited"), ("w_b".into(), "exited")]));
}

#[test]
fn failed_restart_leaves_running_what_ran() {
    let rig = rig();
    rig.launch("1", &pod("on-term:0ms:0"));
    let failure = SimFailure { kind: SimFailureKind::Engine, message: "as scripted".into() };
    let once = SimFault {
        op: Some(SimOp::Start),
        name: "w_b".into(),
        nth: Some(1),
        fail: Some(failure),
        ..Default::default()
    };
    rig.sim.set_faults(vec![once]);
    let outcome = rig.run(&request("2", Verb::Restart, ""));
    assert_eq!((outcome.state, outcome.left.len()), (ActionState::Failed, 0), "{:?}", outcome.left);
    assert_eq!(rig.containers(), BTreeMap::from([("w_a".into(), "running"), ("w_b".into(), "running")]));
}

#[test]
fn failed_recreation_brings_the_old_containers_back() {
    let rig = rig();
    rig.launch("1", &pod("on-term:0ms:0"));
    rig.run(&request("2", Verb::Stop, ""));
    let outcome = rig.launch("3", &pod("exit-after:0ms:3"));
    assert_eq!((outcome.state, outcome.left.len()), (ActionState::Failed, 0), "{:?}", outcome.left);
    assert_eq!(rig.sim.config_of("w_b").unwrap().spec.command, ["on-term:0ms:0"]);
    assert!(rig.containers().values().all(|state| *state != "running"), "{:?}", rig.containers());
    let again = rig.launch("4", &pod("on-term:0ms:0"));
    assert_eq!(again.state, ActionState::Succeeded, "{}", again.message);
}

#[test]
fn cancel_within_a_pull_is_undone() {
    let rig = rig();
    rig.fault(SimOp::Pull, "j", true);
    let cancel = || rig.cancel.cancel("by hand");
    let outcome = {
        let at = At { title: "pull j", state: StepState::Running, then: &cancel };
        rig.run_with(&request("1", Verb::Launch, &pod("echo")), &at)
    };
    assert_eq!(outcome.state, ActionState::Cancelled);
    assert!(outcome.message.contains("by hand"), "{}", outcome.message);
    let rig = Rig { cancel: CancelToken::new(), ..rig };
    assert!(rig.is_empty());
}

#[test]
fn stop_that_fails_is_not_undone_and_says_what_is_left() {
    let rig = rig();
    rig.launch("1", &pod("on-term:0ms:0"));
    rig.fault(SimOp::Stop, "w_b", false);
    let outcome = rig.run(&request("2", Verb::Stop, ""));
    assert_eq!(outcome.state, ActionState::Failed);
    assert_eq!(rig.containers(), BTreeMap::from([("w_a".into(), "exited"), ("w_b".into(), "running")]));
    let left: Vec<_> = outcome.left.iter().filter_map(|line| line.split_once(" is not done")).collect();
    assert_eq!(left.iter().map(|(step, _)| *step).collect::<Vec<_>>(), ["stop w_b", "stop pod w"]);
}

#[test]
fn with_the_store_away_a_stop_goes_on_with_a_warning_and_a_launch_has_no_effect() {
    let rig = rig();
    rig.launch("1", &pod("on-term:0ms:0"));
    rig.store.is_away.store(true, Ordering::SeqCst);
    let stop = rig.run(&request("2", Verb::Stop, ""));
    assert_eq!(stop.state, ActionState::Succeeded, "{}", stop.message);
    assert!(stop.warnings.iter().any(|warning| warning.message.contains("not recorded")), "{:?}", stop.warnings);
    assert_eq!(rig.containers(), BTreeMap::from([("w_a".into(), "exited"), ("w_b".into(), "exited")]));
    let other = pod("echo").replace("name: w\n", "name: v\n");
    assert!(
        rig.pipeline.load(&request("3", Verb::Launch, &other), soon()).is_err() || !rig.launch("3", &other).changed
    );
    assert_eq!(rig.containers().len(), 2);
}

#[test]
fn what_is_done_and_cannot_be_recorded_is_told_as_that() {
    let rig = rig();
    let away = || rig.store.is_away.store(true, Ordering::SeqCst);
    let at = At { title: "start w_b", state: StepState::Running, then: &away };
    let outcome = rig.run_with(&request("1", Verb::Launch, &pod("ignore-term")), &at);
    assert_eq!(outcome.failure.as_ref().unwrap().code, "APPLIED_NOT_RECORDED");
    rig.store.is_away.store(false, Ordering::SeqCst);
    let again = rig.launch("2", &pod("ignore-term"));
    assert_eq!((again.state, again.changed), (ActionState::Succeeded, false), "{}", again.message);
}

// req: AC-09
#[test]
fn dry_run_tells_the_steps_that_are_run_and_touches_nothing() {
    let rig = rig();
    let asked = request("1", Verb::Launch, &pod("ignore-term"));
    let loaded = rig.pipeline.load(&asked, soon()).unwrap();
    let plan = rig.pipeline.dry_run(&asked, &loaded, soon(), &rig.cancel).unwrap();
    assert!(rig.is_empty());
    assert!(rig.pipeline.ports.records.workloads(soon()).unwrap().whole.is_empty());
    assert!(rig.pipeline.ports.records.ended("", 10, soon()).unwrap().is_empty());
    let planned: Vec<_> = plan.steps.iter().map(|step| step.title()).collect();
    let run: Vec<_> = rig.run(&asked).steps.into_iter().map(|step| step.title).collect();
    assert_eq!(planned, run);
}

#[test]
fn network_that_is_deleted_before_its_first_member_is_made_again() {
    let rig = rig();
    let asked = request("1", Verb::Launch, &pod("ignore-term"));
    let mut loaded = rig.pipeline.load(&asked, soon()).unwrap();
    let spec = loaded.specs.get_mut("w").unwrap();
    spec.network = crate::model::workload::NetworkMode::Named(vec!["net".into()]);
    let gone = || assert_eq!(rig.sim.remove_network(&rig.call(), "net"), Ok(Change::Changed));
    let reporter = At { title: "ensure network net", state: StepState::Changed, then: &gone };
    let context = Context {
        deadline: soon(),
        cancel: &rig.cancel,
        reporter: &reporter,
        phases: PhaseClock::since(Instant::now()),
        accepted_ms: 1,
        superseded: BTreeSet::new(),
    };
    let outcome = rig.pipeline.run(&asked, &loaded, context);
    assert_eq!(outcome.state, ActionState::Succeeded, "{}", outcome.message);
    assert!(rig.sim.calls()[&SimOp::EnsureNetwork] > 1);
}

#[test]
fn host_path_that_was_there_and_does_not_fit_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty");
    std::fs::write(&path, "").unwrap();
    let manifest = pod("ignore-term")
        .replace("emptyDir: {}", &format!("hostPath: {{path: {}, type: DirectoryOrCreate}}", path.display()));
    let rig = rig();
    let outcome = rig.launch("1", &manifest);
    assert_ne!(outcome.state, ActionState::Succeeded);
    assert!(path.exists() && rig.is_empty());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let file = manifest.replace("DirectoryOrCreate", "FileOrCreate");
    assert_ne!(rig.launch("2", &file).state, ActionState::Succeeded);
    assert!(path.is_dir());
}

#[test]
fn init_container_that_ends_is_no_warning_and_one_that_fails_undoes_the_launch() {
    let with_init = |script: &str| {
        pod("ignore-term").replace(
            "spec:\n",
            &format!("spec:\n  initContainers:\n  - {{name: prepare, image: i, command: [\"{script}\"]}}\n"),
        )
    };
    let rig = rig();
    let outcome = rig.launch("1", &with_init("exit-after:0ms:0"));
    assert_eq!(outcome.state, ActionState::Succeeded, "{}", outcome.message);
    assert!(!outcome.warnings.iter().any(|warning| warning.path.contains("prepare")), "{:?}", outcome.warnings);
    let rig = self::rig();
    let outcome = rig.launch("1", &with_init("exit-after:0ms:4"));
    assert!(outcome.message.contains("code 4") && outcome.message.contains("init"), "{}", outcome.message);
    assert!(rig.is_empty());
}

#[test]
fn terminate_leaves_nothing_but_named_volumes_and_a_second_one_is_unchanged() {
    let rig = rig();
    rig.launch("1", &pod("on-term:0ms:0"));
    let outcome = rig.run(&request("2", Verb::Terminate, ""));
    assert_eq!((outcome.state, outcome.changed), (ActionState::Succeeded, true), "{}", outcome.message);
    assert!(rig.is_empty());
    assert!(!rig.run(&request("3", Verb::Terminate, "")).changed);
    assert!(!rig.run(&request("4", Verb::Remove, "")).changed);
}

#[test]
fn phases_add_up_to_the_total_of_the_outcome() {
    let outcome = rig().launch("1", &pod("ignore-term"));
    let phases = outcome.phases;
    let sum = phases.queue_us + phases.policy_us + phases.plan_us + phases.run_us + phases.store_us;
    assert!(phases.total_us.abs_diff(sum) <= 10, "{phases:?}");
}
