//! Whole actions that reach other nodes, over the simulator and scripted nodes: what each is asked for, what is taken
//! back, and what the caller is told.

mod realtime;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::*;
use crate::action::{Act, Context, PhaseClock, Pipeline, Ports, Recovered, Settings, SettingsCell, Silent};
use crate::clock::SystemClock;
use crate::manifest::{Limits, Schedules};
use crate::model::action::{ActionState, Outcome, Parameters, StepResult, StepState, Verb};
use crate::model::schedule::Schedule;
use crate::nodes::NodeError;
use crate::policy::builtin::BuiltinPolicy;
use crate::realtime::cores::CorePolicy;
use crate::realtime::keeper::CoreKeeper;
use crate::realtime::{AdmissionError, RealtimeScheduler, Rules};
use crate::runtime::registry::EngineRegistry;
use crate::runtime::sim::SimRuntime;
use crate::runtime::sim::config::SimConfig;
use crate::security::ceiling::Ceiling;
use crate::storage::memory::MemoryStore;
use crate::storage::records::{Changes, Records};

const OWN: &str = "HPC";

/// How a scripted node answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Away,
    Silent,
    Refuses,
}

/// Nodes that do what they are told, except as scripted by node and command.
#[derive(Default)]
struct Nodes {
    script: Mutex<BTreeMap<(String, NodeCommand), Answer>>,
    orders: Mutex<Vec<String>>,
    documents: Mutex<Vec<String>>,
}

impl Nodes {
    fn set(&self, node: &str, command: NodeCommand, answer: Option<Answer>) {
        let mut script = self.script.lock().unwrap();
        match answer {
            Some(answer) => script.insert((node.to_owned(), command), answer),
            None => script.remove(&(node.to_owned(), command)),
        };
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.orders.lock().unwrap())
    }
}

impl NodeControl for Nodes {
    fn order(
        &self,
        order: &Order<'_>,
        _deadline: Deadline,
        _cancel: &CancelToken,
    ) -> std::result::Result<(), NodeError> {
        self.orders.lock().unwrap().push(format!("{} {} on {}", order.command, order.workload, order.node));
        self.documents.lock().unwrap().push(order.document.to_owned());
        let node = order.node.to_owned();
        let reason = "as scripted".to_owned();
        match self.script.lock().unwrap().get(&(node.clone(), order.command)) {
            None => Ok(()),
            Some(Answer::Away) => Err(NodeError::Away { node, reason }),
            Some(Answer::Silent) => Err(NodeError::Silent { node, reason }),
            Some(Answer::Refuses) => {
                let workload = order.workload.to_owned();
                Err(NodeError::Refused { node, command: order.command, workload, reason })
            }
        }
    }
}

/// Keeps what was admitted; refuses a Schedule called `bad`.
#[derive(Default)]
struct Scheduler(Mutex<Vec<Schedule>>);

impl RealtimeScheduler for Scheduler {
    fn admit(&self, schedule: &Schedule, _: Deadline, _: &CancelToken) -> std::result::Result<(), AdmissionError> {
        self.0.lock().unwrap().push(schedule.clone());
        if schedule.name != "bad" {
            return Ok(());
        }
        let (scheduler, reason) = ("scripted".to_owned(), "too much".to_owned());
        Err(AdmissionError::Refused { schedule: schedule.name.clone(), scheduler, reason })
    }

    fn release(&self, _: &str, _: Deadline, _: &CancelToken) -> std::result::Result<(), AdmissionError> {
        Ok(())
    }

    fn name(&self) -> &'static str {
        "scripted"
    }
}

struct Rig {
    nodes: Arc<Nodes>,
    scheduler: Arc<Scheduler>,
    records: Records,
    pipeline: Pipeline,
}

fn rig_with(change: impl FnOnce(&mut Settings)) -> Rig {
    let sim = SimRuntime::open(SimConfig::default(), OWN).unwrap();
    let mut engines = EngineRegistry::new();
    engines.register(Arc::new(sim)).unwrap();
    let records = Records::new(Arc::new(MemoryStore::new()));
    let mut settings = Settings::alone(OWN.into(), Limits::default(), Ceiling::default());
    (settings.delegates, settings.schedules) = (true, Schedules::Admitted);
    change(&mut settings);
    let (nodes, scheduler) = (Arc::new(Nodes::default()), Arc::new(Scheduler::default()));
    let rules = Rules { limit: 90, merges: false };
    let outside = Outside {
        nodes: Some(Arc::clone(&nodes) as _),
        realtime: Some(Arc::new(Desk::new(Arc::clone(&scheduler) as _, records.clone(), rules))),
        networks: None,
        documents: Arc::new(Documents::own(records.clone())),
    };
    let engines = Arc::new(engines);
    let pipeline = Pipeline::new(Ports {
        engines: Arc::clone(&engines),
        records: records.clone(),
        policy: Arc::new(BuiltinPolicy::load(&[]).unwrap()),
        clock: Arc::new(SystemClock),
        settings: Arc::new(SettingsCell::new(settings)),
        outside,
        cores: CoreKeeper::of_this_machine(CorePolicy::default(), &engines, &records, OWN),
        outbox: None,
    });
    Rig { nodes, scheduler, records, pipeline }
}

fn rig() -> Rig {
    rig_with(|_| ())
}

fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

fn context(cancel: &CancelToken) -> Context<'_> {
    Context {
        deadline: soon(),
        cancel,
        reporter: &Silent,
        phases: PhaseClock::since(Instant::now()),
        accepted_ms: 1,
        superseded: BTreeSet::new(),
    }
}

impl Rig {
    /// Stores a Package `p` of these models with their nodes, and a Scenario `s` that does `action` with it.
    fn store(&self, action: &str, models: &[(&str, &str)], schedule: &str) {
        let mut changes = Changes::new();
        let list: String =
            models.iter().map(|(name, node)| format!("    - {{name: {name}, node: {node}}}\n")).collect();
        let scenario =
            format!("apiVersion: v1\nkind: Scenario\nmetadata: {{name: s}}\nspec: {{action: {action}, target: p}}\n");
        let schedule_line = if schedule.is_empty() { String::new() } else { format!("  schedule: {schedule}\n") };
        let package = format!(
            "apiVersion: v1\nkind: Package\nmetadata: {{name: p}}\nspec:\n{schedule_line}  pattern: [{{type: plain}}]\n  models:\n{list}"
        );
        changes.put_document("Scenario", "s", &scenario);
        changes.put_document("Package", "p", &package);
        if !schedule.is_empty() {
            let tasks = format!(
                "apiVersion: v1\nkind: Schedule\nmetadata: {{name: {schedule}}}\nspec:\n  - {{name: t, period: 7}}\n"
            );
            changes.put_document("Schedule", schedule, &tasks);
        }
        self.records.commit(changes, soon()).unwrap();
        models.iter().for_each(|(name, _)| self.store_model(name, "i"));
    }

    fn store_model(&self, name: &str, image: &str) {
        let mut changes = Changes::new();
        let model = format!(
            "apiVersion: v1\nkind: Model\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  containers: [{{name: c, image: {image}}}]\n"
        );
        changes.put_document("Model", name, &model);
        self.records.commit(changes, soon()).unwrap();
    }

    fn trigger(&self) -> Outcome {
        let (verb, loaded) = self.pipeline.load_scenario("s", soon()).unwrap();
        let request = super::super::scenario::request(uuid::Uuid::now_v7().to_string(), verb, "s");
        self.pipeline.run(&request, &loaded, context(&CancelToken::new()))
    }

    fn run(&self, verb: Verb, target: &str, parameters: Parameters) -> Outcome {
        let id = uuid::Uuid::now_v7().to_string();
        let mut request = super::super::scenario::request(id, verb, target);
        request.parameters = parameters;
        let loaded = self.pipeline.load(&request, soon()).unwrap();
        self.pipeline.run(&request, &loaded, context(&CancelToken::new()))
    }

    fn node_of(&self, workload: &str) -> Option<String> {
        let record = self.records.workload(workload, soon()).unwrap()?;
        Some(record.value.spec.node)
    }

    fn package(&self) -> String {
        self.records.document("Package", "p", soon()).unwrap().unwrap()
    }
}

fn to(node: &str) -> Parameters {
    Parameters { target_node: Some(node.into()), ..Parameters::default() }
}

#[test]
fn models_go_to_their_nodes_with_pullpiris_annotations_and_a_second_trigger_does_nothing() {
    let rig = rig();
    rig.store("launch", &[("here", OWN), ("there", "Z")], "");
    let outcome = rig.trigger();
    assert_eq!(outcome.state, ActionState::Succeeded, "{outcome:?}");
    assert_eq!(rig.nodes.take(), ["start there on Z"]);
    let document = rig.nodes.documents.lock().unwrap().pop().unwrap();
    for part in ["kind: Pod", "io.pullpiri.annotations.scenario: s", "io.pullpiri.annotations.model: there"] {
        assert!(document.contains(part), "{document}");
    }
    let again = rig.trigger();
    assert!(!again.changed && again.state == ActionState::Succeeded, "{again:?}");
    assert!(rig.nodes.take().is_empty());
    rig.store("terminate", &[("here", OWN), ("there", "Z")], "");
    assert!(rig.trigger().changed);
    assert_eq!(rig.nodes.take(), ["stop there on Z"]);
    assert_eq!(rig.node_of("there"), None);
}

#[test]
fn node_that_is_away_fails_its_model_alone_and_the_rest_runs() {
    let rig = rig();
    rig.store("launch", &[("a", "Y"), ("b", "Z"), ("c", OWN)], "");
    rig.nodes.set("Z", NodeCommand::Start, Some(Answer::Away));
    let outcome = rig.trigger();
    assert_eq!(outcome.state, ActionState::Failed);
    assert_eq!(outcome.failed.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(outcome.failed["b"].code, "NODE_UNAVAILABLE");
    assert!(outcome.message.starts_with("1 of 3 workloads failed: b: "), "{}", outcome.message);
    assert!(rig.node_of("a").is_some() && rig.node_of("c").is_some() && rig.node_of("b").is_none());
    let orders = rig.nodes.take();
    assert!(!orders.contains(&"stop a on Y".to_owned()), "{orders:?}");
    rig.nodes.set("Z", NodeCommand::Start, None);
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    assert_eq!(rig.nodes.take(), ["start b on Z"], "only what did not run is started");
}

#[test]
fn refused_start_is_stopped_again_on_its_node() {
    let rig = rig();
    rig.store("launch", &[("a", "Z")], "");
    rig.nodes.set("Z", NodeCommand::Start, Some(Answer::Refuses));
    let outcome = rig.trigger();
    assert_eq!((outcome.state, outcome.failed["a"].code.as_str()), (ActionState::Failed, "NODE_REFUSED"));
    assert_eq!(rig.nodes.take(), ["start a on Z", "stop a on Z"]);
}

#[test]
fn tasks_are_admitted_once_and_a_refusal_starts_nothing() {
    let rig = rig();
    rig.store("launch", &[("a", "Z")], "good");
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    assert_eq!(rig.scheduler.0.lock().unwrap().len(), 1);
    rig.trigger();
    assert_eq!(rig.scheduler.0.lock().unwrap().len(), 1, "nothing starts, so nothing is handed over");
    let other = self::rig();
    other.store("launch", &[("a", "Z"), ("b", OWN)], "bad");
    let outcome = other.trigger();
    assert_eq!(outcome.state, ActionState::Failed);
    assert_eq!(outcome.failed["a"].code, "SCHEDULE_REFUSED");
    assert_eq!(outcome.failed.len(), 2);
    assert!(other.nodes.take().is_empty() && other.node_of("b").is_none());
}

#[test]
fn scenario_whose_models_are_all_refused_hands_no_tasks_over() {
    let rig = rig();
    rig.store("launch", &[("a", OWN)], "good");
    let mut changes = Changes::new();
    let privileged = "apiVersion: v1\nkind: Model\nmetadata: {name: a}\nspec:\n  hostNetwork: true\n  \
        containers: [{name: c, image: i, securityContext: {privileged: true}}]\n";
    changes.put_document("Model", "a", privileged);
    rig.records.commit(changes, soon()).unwrap();
    let outcome = rig.trigger();
    assert_eq!(outcome.state, ActionState::Refused, "{outcome:?}");
    assert_eq!(outcome.failed.keys().collect::<Vec<_>>(), ["a"]);
    assert!(rig.scheduler.0.lock().unwrap().is_empty());
}

#[test]
fn what_runs_goes_on_until_its_successors_tasks_are_admitted() {
    let rig = rig();
    rig.store("launch", &[("a", "Y"), ("b", OWN)], "");
    rig.trigger();
    rig.nodes.take();
    rig.store("update", &[("a", "Z"), ("b", "Z")], "bad");
    let outcome = rig.trigger();
    assert_eq!(outcome.state, ActionState::Failed, "{outcome:?}");
    assert!(rig.nodes.take().is_empty(), "a refusal of the tasks takes nothing down");
    let has_stopped = |step: &StepResult| step.title.starts_with("stop ") && step.state == StepState::Changed;
    assert!(!outcome.steps.iter().any(has_stopped), "{:?}", outcome.steps);
    assert_eq!((rig.node_of("a").as_deref(), rig.node_of("b").as_deref()), (Some("Y"), Some(OWN)));
}

#[test]
fn repair_leaves_what_a_later_action_has_made_of_its_workload() {
    let rig = rig();
    rig.store("launch", &[("a", "Y")], "");
    rig.trigger();
    rig.nodes.take();
    for command in [NodeCommand::Start, NodeCommand::Stop] {
        rig.nodes.set("Z", command, Some(Answer::Silent));
    }
    rig.run(Verb::Offload, "a", to("Z"));
    let repair = rig.pipeline.take_repairs().pop().unwrap();
    for command in [NodeCommand::Start, NodeCommand::Stop] {
        rig.nodes.set("Z", command, None);
    }
    // By then it runs where it was to go.
    assert_eq!(rig.run(Verb::Offload, "a", to("Z")).state, ActionState::Succeeded);
    rig.nodes.take();
    assert!(matches!(rig.pipeline.recover(&repair, context(&CancelToken::new())), Recovered::Ended(_)));
    assert!(rig.nodes.take().is_empty(), "{:?}", rig.nodes.take());
    assert_eq!(rig.node_of("a").as_deref(), Some("Z"));
}

#[test]
fn offload_moves_a_model_and_writes_its_node_into_the_package() {
    let rig = rig();
    rig.store("launch", &[("a", "Y"), ("b", "Y")], "");
    rig.trigger();
    rig.nodes.take();
    let outcome = rig.run(Verb::Offload, "a", to("Z"));
    assert_eq!(outcome.state, ActionState::Succeeded, "{outcome:?}");
    assert_eq!(rig.nodes.take(), ["stop a on Y", "start a on Z"]);
    assert_eq!(rig.node_of("a").as_deref(), Some("Z"));
    assert!(rig.package().contains("node: Z"), "{}", rig.package());
    assert!(!rig.run(Verb::Offload, "a", to("Z")).changed);
    assert!(rig.nodes.take().is_empty());
    assert!(!rig.trigger().changed, "the Package names the new node, so nothing is to be done");
}

#[test]
fn offload_to_this_node_and_away_from_it_makes_and_removes_containers_here() {
    let rig = rig();
    rig.store("launch", &[("a", "Y")], "");
    rig.trigger();
    rig.nodes.take();
    let here = rig.run(Verb::Offload, "a", to(OWN));
    assert_eq!(here.state, ActionState::Succeeded, "{here:?}");
    assert_eq!(rig.nodes.take(), ["stop a on Y"]);
    assert!(!here.workloads["a"].is_empty(), "{:?}", here.workloads);
    let away = rig.run(Verb::Offload, "a", to("Z"));
    assert_eq!(away.state, ActionState::Succeeded, "{away:?}");
    assert_eq!(rig.nodes.take(), ["start a on Z"]);
    assert!(away.steps.iter().any(|step| step.title == "remove a_c"));
}

#[test]
fn target_that_refuses_gives_the_model_back_to_its_source() {
    let rig = rig();
    rig.store("launch", &[("a", "Y")], "");
    rig.trigger();
    rig.nodes.take();
    rig.nodes.set("Z", NodeCommand::Start, Some(Answer::Refuses));
    let outcome = rig.run(Verb::Offload, "a", to("Z"));
    assert_eq!(outcome.state, ActionState::Failed);
    assert!(outcome.left.is_empty(), "{:?}", outcome.left);
    assert_eq!(rig.nodes.take(), ["stop a on Y", "start a on Z", "stop a on Z", "start a on Y"]);
    assert_eq!(rig.node_of("a").as_deref(), Some("Y"));
}

#[test]
fn target_that_stays_silent_is_told_as_unknown_and_the_source_waits_for_its_answer() {
    let rig = rig();
    rig.store("launch", &[("a", "Y")], "");
    rig.trigger();
    rig.nodes.take();
    rig.nodes.set("Z", NodeCommand::Start, Some(Answer::Silent));
    rig.nodes.set("Z", NodeCommand::Stop, Some(Answer::Silent));
    let outcome = rig.run(Verb::Offload, "a", to("Z"));
    assert_eq!(outcome.state, ActionState::Failed);
    assert_eq!(rig.nodes.take(), ["stop a on Y", "start a on Z", "stop a on Z"]);
    assert!(outcome.left.iter().any(|line| line.contains("is not known")), "{:?}", outcome.left);
    rig.nodes.set("Z", NodeCommand::Stop, None);
    let repair = rig.pipeline.take_repairs().pop().unwrap();
    let repaired = rig.pipeline.recover(&repair, context(&CancelToken::new()));
    assert!(matches!(repaired, Recovered::Ended(_)));
    assert_eq!(rig.nodes.take(), ["stop a on Z", "start a on Y"], "once the target has answered a stop");
}

#[test]
fn source_is_started_beside_a_silent_target_only_where_that_is_configured_and_only_once() {
    let rig = rig_with(|settings| settings.return_from_silent_node = true);
    rig.store("launch", &[("a", "Y")], "");
    rig.trigger();
    rig.nodes.take();
    rig.nodes.set("Z", NodeCommand::Start, Some(Answer::Silent));
    rig.nodes.set("Z", NodeCommand::Stop, Some(Answer::Silent));
    rig.run(Verb::Offload, "a", to("Z"));
    assert_eq!(rig.nodes.take(), ["stop a on Y", "start a on Z", "stop a on Z", "start a on Y"]);
    rig.nodes.set("Z", NodeCommand::Stop, None);
    let repair = rig.pipeline.take_repairs().pop().unwrap();
    rig.pipeline.recover(&repair, context(&CancelToken::new()));
    assert_eq!(rig.nodes.take(), ["stop a on Z"]);
}

#[test]
fn update_keeps_the_document_before_it_and_rollback_returns_to_that_one_once() {
    let rig = rig();
    rig.store("launch", &[("a", OWN), ("b", "Z")], "");
    rig.trigger();
    rig.nodes.take();
    rig.store("rollback", &[("a", OWN), ("b", "Z")], "");
    let error = rig.pipeline.load_scenario("s", soon()).unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::FailedPrecondition, ErrorCode::NothingBefore));
    rig.store("update", &[("a", OWN), ("b", "Z")], "");
    rig.store_model("a", "newer");
    rig.store_model("b", "newer");
    let updated = rig.trigger();
    assert_eq!(updated.state, ActionState::Succeeded, "{updated:?}");
    assert_eq!(rig.nodes.take(), ["stop b on Z", "start b on Z"]);
    assert!(!rig.trigger().changed, "the same document again");
    let image = || rig.records.workload("a", soon()).unwrap().unwrap().value.spec.containers[0].image.clone();
    assert_eq!(image(), "newer");
    rig.store("rollback", &[("a", OWN), ("b", "Z")], "");
    assert!(rig.trigger().changed);
    assert_eq!(image(), "i");
    assert_eq!(rig.nodes.take(), ["stop b on Z", "start b on Z"]);
    assert!(!rig.trigger().changed, "a repeated rollback does not go back and forth");
    assert_eq!(image(), "i");
}

#[test]
fn update_that_fails_leaves_the_old_one_running() {
    let rig = rig();
    rig.store("launch", &[("a", OWN)], "");
    rig.trigger();
    rig.store("update", &[("a", "Z")], "");
    rig.nodes.set("Z", NodeCommand::Start, Some(Answer::Refuses));
    let outcome = rig.trigger();
    assert_eq!(outcome.state, ActionState::Failed);
    assert!(outcome.left.is_empty(), "{outcome:?}");
    assert_eq!(rig.node_of("a").as_deref(), Some(OWN));
    rig.store("launch", &[("a", OWN)], "");
    let again = rig.trigger();
    assert!(!again.changed && again.state == ActionState::Succeeded, "it runs as before: {again:?}");
}
