//! What is planned for which request in which state, and what holds for every plan.

mod order;
mod scale;

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::action::difference::revision;
use crate::manifest::{Bundle, ExpandOptions, Limits};
use crate::model::state::{ContainerStatus, Health};
use crate::model::workload::NetworkMode;
use crate::storage::records::Desired;

const RUNNING: ContainerStatus = ContainerStatus::Running { health: Health::None };
const ENDED: ContainerStatus = ContainerStatus::Exited { code: Some(0), oom: false };

/// A workload with one init container and two others, a volume of its own, a named one and a network.
fn spec(name: &str) -> WorkloadSpec {
    static READ: OnceLock<Mutex<BTreeMap<String, WorkloadSpec>>> = OnceLock::new();
    let mut read = READ.get_or_init(Mutex::default).lock().unwrap();
    read.entry(name.to_owned()).or_insert_with(|| read_spec(name)).clone()
}

fn read_spec(name: &str) -> WorkloadSpec {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  initContainers: [{{name: prepare, image: i}}]\n  \
         containers:\n  - {{name: a, image: i, volumeMounts: [{{name: tmp, mountPath: /t}}]}}\n  - {{name: b, image: \
         j}}\n  volumes: [{{name: tmp, emptyDir: {{}}}}]\n"
    );
    let bundle = Bundle::parse(&text, &Limits::default()).unwrap();
    let ignore = BTreeSet::new();
    let options = ExpandOptions::new(Verb::Launch, name, "n", &ignore);
    let mut spec = bundle.expand(&options).unwrap().workloads.remove(0);
    spec.network = NetworkMode::Named(vec!["net".into()]);
    spec
}

fn record(spec: &WorkloadSpec) -> WorkloadRecord {
    WorkloadRecord {
        spec: spec.clone(),
        revision: revision(spec),
        engine: "sim".into(),
        desired: Desired::Running,
        action_id: "before".into(),
        updated_ms: 0,
        previous: None,
        returned_from: String::new(),
        scaled: BTreeMap::new(),
        schedule: None,
    }
}

fn container(spec: &WorkloadSpec, name: &str, status: ContainerStatus) -> ContainerInstance {
    let mut own = BTreeMap::from([(labels::CONTAINER.to_owned(), name.to_owned())]);
    own.insert(labels::REVISION.to_owned(), revision(spec));
    if spec.init_containers.iter().any(|init| init.name == name) {
        own.insert(labels::ROLE.to_owned(), "init".to_owned());
    }
    ContainerInstance {
        id: format!("id-{name}"),
        name: spec.container_name(name),
        engine: "sim".into(),
        status,
        image: "i".into(),
        labels: own,
        annotations: BTreeMap::new(),
        ports: Vec::new(),
        ips: Vec::new(),
        pid: 0,
        cgroup_path: String::new(),
        created_ms: 0,
        started_ms: 0,
        finished_ms: 0,
    }
}

/// A workload that is not known.
fn unknown(name: &str) -> View {
    let spec = spec(name);
    View {
        name: name.into(),
        engine: "sim".into(),
        revision: revision(&spec),
        spec: Some(spec),
        record: None,
        containers: Vec::new(),
        in_force: BTreeMap::new(),
        leftovers: Leftovers::default(),
        taken: Vec::new(),
        superseded: false,
    }
}

/// A recorded workload whose init container has ended and whose others are as given.
fn known(name: &str, a: ContainerStatus, b: ContainerStatus) -> View {
    let view = unknown(name);
    let spec = spec(name);
    let containers = vec![container(&spec, "prepare", ENDED), container(&spec, "a", a), container(&spec, "b", b)];
    let leftovers = Leftovers { pods: vec![name.into()], volumes: vec![format!("{name}_tmp")], networks: Vec::new() };
    View { record: Some(record(&spec)), containers, leftovers, ..view }
}

/// The same workload from another document.
fn changed(view: View) -> View {
    let mut spec = view.spec.clone().unwrap();
    spec.containers[0].image = "other".into();
    spec.network = NetworkMode::Named(vec!["other-net".into()]);
    View { revision: revision(&spec), spec: Some(spec), ..view }
}

fn planned(verb: Verb, parameters: &Parameters, views: &[View]) -> Result<Plan> {
    plan(&Asked { verb, target: "w", parameters, node: "n", schedule: None, connects: false }, "sim", views)
}

fn steps(verb: Verb, view: &View) -> Vec<String> {
    titles(&planned(verb, &Parameters::default(), std::slice::from_ref(view)).unwrap().steps)
}

fn titles(steps: &[Step]) -> Vec<String> {
    steps.iter().map(Step::title).collect()
}

fn refusal(verb: Verb, view: &View) -> Error {
    planned(verb, &Parameters::default(), std::slice::from_ref(view)).unwrap_err()
}

// req: AC-09
#[test]
fn launch_makes_ground_then_containers_then_starts_them_with_init_ones_first() {
    let plan = planned(Verb::Launch, &Parameters::default(), &[unknown("w")]).unwrap();
    let stages: Vec<Vec<String>> =
        plan.stages().iter().map(|stage| stage.iter().map(|index| plan.steps[*index].title()).collect()).collect();
    let expected: [&[&str]; 6] = [
        &["pull i", "pull j", "ensure volume w_tmp", "ensure network net"],
        &["ensure pod w"],
        &["create w_prepare", "create w_a", "create w_b"],
        &["start w_prepare"],
        &["await w_prepare"],
        &["start w_a", "start w_b"],
    ];
    assert_eq!(stages, expected);
}

#[test]
fn launch_of_what_runs_from_the_same_document_does_nothing() {
    assert!(steps(Verb::Launch, &known("w", RUNNING, RUNNING)).is_empty());
    let unrecorded = View { record: None, ..known("w", RUNNING, RUNNING) };
    assert!(steps(Verb::Launch, &unrecorded).is_empty());
}

#[test]
fn launch_of_a_changed_document_is_refused_while_it_runs_and_names_field_and_verb() {
    let error = refusal(Verb::Launch, &changed(known("w", RUNNING, ENDED)));
    assert_eq!((error.kind, error.code), (ErrorKind::FailedPrecondition, ErrorCode::WorkloadDiffers));
    assert_eq!(error.field, "spec.containers[0].image");
    assert!(error.hint.contains("update"), "{}", error.hint);
}

#[test]
fn launch_after_a_stop_starts_the_same_document_again_with_its_containers() {
    let again = steps(Verb::Launch, &known("w", ENDED, ENDED));
    assert_eq!(again, ["start w_prepare", "await w_prepare", "start w_a", "start w_b"]);
}

#[test]
fn launch_after_a_stop_of_a_changed_document_has_its_images_before_anything_is_deleted() {
    let view = changed(known("w", ENDED, ENDED));
    let plan = planned(Verb::Launch, &Parameters::default(), &[view]).unwrap();
    let titles = titles(&plan.steps);
    let pulls: BTreeSet<usize> = (0..titles.len()).filter(|index| titles[*index].starts_with("pull ")).collect();
    for (index, title) in titles.iter().enumerate() {
        if title.starts_with("remove w") {
            assert!(plan.steps[index].after.is_superset(&pulls), "{title} comes before a pull");
        }
    }
    for gone in ["remove w_a", "remove pod w", "remove volume w_tmp", "remove network net"] {
        assert!(titles.contains(&gone.to_owned()), "{titles:?}");
    }
    assert!(titles.iter().all(|title| !title.contains("remove network other-net")));
}

#[test]
fn name_that_another_has_is_refused_without_a_word_of_an_engine_that_is_not_its() {
    let view = View { taken: vec!["w_a".into()], ..unknown("w") };
    let error = refusal(Verb::Launch, &view);
    assert_eq!((error.kind, error.code), (ErrorKind::AlreadyExists, ErrorCode::NameTaken));
    assert!(error.hint.contains("'sim'") && !error.hint.contains("podman"), "{}", error.hint);
}

#[test]
fn start_of_a_degraded_workload_starts_what_does_not_run_and_runs_no_init_container() {
    assert_eq!(steps(Verb::Start, &known("w", RUNNING, ENDED)), ["start w_b"]);
}

#[test]
fn start_makes_a_main_container_that_somebody_deleted() {
    let mut view = known("w", RUNNING, ENDED);
    view.containers.retain(|container| container.name != "w_b");
    let made = steps(Verb::Start, &view);
    assert!(made.contains(&"create w_b".to_owned()) && made.contains(&"start w_b".to_owned()), "{made:?}");
    assert!(!made.iter().any(|title| title.contains("w_a") || title.contains("prepare")), "{made:?}");
}

#[test]
fn start_of_a_frozen_workload_is_refused_with_its_state() {
    let error = refusal(Verb::Start, &known("w", ContainerStatus::Paused, RUNNING));
    assert_eq!(error.code, ErrorCode::InvalidState);
    assert!(error.message.contains("paused") && error.hint.contains("resume"), "{error}");
}

#[test]
fn stop_concerns_what_lives_and_takes_the_documents_grace() {
    let mut view = known("w", RUNNING, ContainerStatus::Created);
    view.record.as_mut().unwrap().spec.grace_ms = Some(500);
    let plan = planned(Verb::Stop, &Parameters::default(), &[view]).unwrap();
    let stop = StepOp::Stop { container: "w_a".into(), grace_ms: 500, signal: "SIGTERM".into() };
    // Nothing of it runs any more then, so that its pod gives its ports back.
    let free = StepOp::StopPod { pod: "w".into() };
    assert_eq!(plan.steps.iter().map(|step| &step.op).collect::<Vec<_>>(), [&stop, &free]);
    assert!(plan.steps[1].after.contains(&0));
    assert!(steps(Verb::Stop, &known("w", ContainerStatus::Created, ENDED)).is_empty());
}

#[test]
fn what_is_not_known_is_not_found_unless_its_launch_was_just_ended() {
    let absent = View { spec: None, ..unknown("w") };
    for verb in [Verb::Start, Verb::Stop, Verb::Kill, Verb::Restart, Verb::Pause, Verb::Resume, Verb::Launch] {
        assert_eq!(refusal(verb, &absent).code, ErrorCode::WorkloadNotFound, "{verb}");
    }
    for verb in [Verb::Remove, Verb::Terminate] {
        assert!(steps(verb, &absent).is_empty(), "{verb} of what is not there is done already");
    }
    let superseded = View { superseded: true, ..absent };
    assert!(steps(Verb::Stop, &superseded).is_empty() && steps(Verb::Kill, &superseded).is_empty());
}

#[test]
fn remove_of_what_runs_needs_force_and_terminate_stops_first() {
    let view = known("w", RUNNING, ENDED);
    assert_eq!(refusal(Verb::Remove, &view).code, ErrorCode::InvalidState);
    let forced = Parameters { force: true, ..Parameters::default() };
    let forced = planned(Verb::Remove, &forced, std::slice::from_ref(&view)).unwrap();
    assert!(forced.steps.contains(&Step {
        workload: "w".into(),
        op: StepOp::Remove { container: "w_a".into(), force: true },
        after: BTreeSet::new()
    }));
    let terminated = planned(Verb::Terminate, &Parameters::default(), &[view]).unwrap();
    let all = titles(&terminated.steps);
    let at = |title: &str| all.iter().position(|other| other == title).unwrap();
    assert!(terminated.steps[at("remove w_a")].after.contains(&at("stop w_a")));
    for later in ["remove pod w", "remove volume w_tmp", "remove network net"] {
        assert!(terminated.steps[at(later)].after.contains(&at("remove w_b")), "{later}");
    }
}

#[test]
fn restart_stops_everything_and_runs_init_containers_again() {
    let order = steps(Verb::Restart, &known("w", RUNNING, RUNNING));
    assert_eq!(order, ["stop w_a", "stop w_b", "start w_prepare", "await w_prepare", "start w_a", "start w_b"]);
}

#[test]
fn pause_and_resume_concern_what_is_not_so_already() {
    let half = known("w", RUNNING, ContainerStatus::Paused);
    assert_eq!(steps(Verb::Pause, &half), ["pause w_a"]);
    assert_eq!(steps(Verb::Resume, &half), ["resume w_b"]);
    assert_eq!(refusal(Verb::Pause, &known("w", ENDED, RUNNING)).code, ErrorCode::InvalidState);
}

#[test]
fn image_and_network_are_made_once_for_workloads_of_one_engine_that_want_them_alike() {
    let count = |views: &[View], title: &str| {
        let plan = planned(Verb::Launch, &Parameters::default(), views).unwrap();
        titles(&plan.steps).iter().filter(|other| *other == title).count()
    };
    let alike = [unknown("v"), unknown("w")];
    assert_eq!((count(&alike, "pull i"), count(&alike, "ensure network net")), (1, 1));
    let elsewhere = [unknown("v"), View { engine: "podman".into(), ..unknown("w") }];
    assert_eq!((count(&elsewhere, "pull i"), count(&elsewhere, "ensure network net")), (2, 2));
    let mut always = unknown("w");
    always.spec.as_mut().unwrap().containers[0].pull = PullPolicy::Always;
    let unlike = [unknown("v"), always];
    assert_eq!((count(&unlike, "pull i"), count(&unlike, "pull j")), (2, 1));
}

#[test]
fn network_of_two_workloads_goes_once_when_the_members_of_both_are_gone() {
    let views = [known("v", RUNNING, ENDED), known("w", ENDED, ENDED)];
    let plan = planned(Verb::Terminate, &Parameters::default(), &views).unwrap();
    let removal: Vec<_> = plan.steps.iter().filter(|step| step.title() == "remove network net").collect();
    assert_eq!(removal.len(), 1);
    for container in ["remove v_a", "remove v_b", "remove w_a", "remove w_b"] {
        let index = plan.steps.iter().position(|step| step.title() == container).unwrap();
        assert!(removal[0].after.contains(&index), "{container}");
    }
}

#[test]
fn step_that_waits_for_a_shared_one_comes_after_the_earlier_plan_of_its_own_workload() {
    let parameters = Parameters::default();
    let stop = planned(Verb::Stop, &parameters, &[known("w", RUNNING, RUNNING)]).unwrap();
    let launch = planned(Verb::Launch, &parameters, &[unknown("v"), unknown("w")]).unwrap();
    let merged = merge(&[stop.clone(), launch]);
    let create = merged.iter().find(|step| step.title() == "create w_a").unwrap();
    // It waits for the image, which counts as a step of 'v', and all the same for the stop.
    assert!(reaches(&merged, create, &(0..stop.steps.len()).collect()), "{create:?}");
}

/// Whether a step comes after all of `earlier`.
fn reaches(steps: &[Step], step: &Step, earlier: &BTreeSet<usize>) -> bool {
    let (mut open, mut seen) = (step.after.clone(), BTreeSet::new());
    while let Some(index) = open.pop_first() {
        if seen.insert(index) {
            open.extend(&steps[index].after);
        }
    }
    earlier.is_subset(&seen)
}

fn any_status() -> impl Strategy<Value = ContainerStatus> {
    select(vec![
        ContainerStatus::Created,
        ContainerStatus::Starting,
        RUNNING,
        ContainerStatus::Paused,
        ContainerStatus::Stopping,
        ENDED,
        ContainerStatus::Failed { reason: "x".into() },
    ])
}

fn any_view() -> impl Strategy<Value = View> {
    let state = (any_status(), any_status(), any::<[bool; 3]>(), any::<[bool; 3]>());
    (select(vec!["u", "v", "w"]), state).prop_map(|(name, (a, b, there, [is_known, is_recorded, is_changed]))| {
        let mut view = if is_known { known(name, a, b) } else { unknown(name) };
        let mut there = there.into_iter();
        view.containers.retain(|_| there.next().unwrap_or(true));
        if !is_recorded {
            view.record = None;
        }
        if is_changed { changed(view) } else { view }
    })
}

fn any_verb() -> impl Strategy<Value = Verb> {
    select(Verb::ALL.to_vec())
}

/// Plans that were possible, of one action each.
fn any_plans() -> impl Strategy<Value = Vec<Plan>> {
    let action = (any_verb(), vec(any_view(), 1..4), any::<bool>());
    vec(action, 1..5).prop_map(|actions| {
        let made = actions.into_iter().filter_map(|(verb, mut views, force)| {
            let mut seen = BTreeSet::new();
            views.retain(|view| seen.insert(view.name.clone()));
            planned(verb, &Parameters { force, ..Parameters::default() }, &views).ok()
        });
        made.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    // req: AC-09
    #[test]
    fn every_plan_ends_and_has_each_step_in_one_stage(plans in any_plans()) {
        for plan in plans {
            prop_assert!(plan.is_ordered());
            let staged: Vec<usize> = plan.stages().concat();
            prop_assert_eq!(staged.len(), plan.steps.len());
            prop_assert_eq!(staged.into_iter().collect::<BTreeSet<_>>().len(), plan.steps.len());
        }
    }

    #[test]
    fn no_plan_does_the_same_twice_or_starts_what_it_has_not_made(plans in any_plans()) {
        for plan in plans.iter().filter(|plan| plan.verb != Verb::Restart) {
            let mut titles = titles(&plan.steps);
            titles.sort();
            let all = titles.len();
            titles.dedup();
            prop_assert_eq!(titles.len(), all, "{:?}", titles);
        }
        for plan in &plans {
            for (index, step) in plan.steps.iter().enumerate() {
                let StepOp::Start { container } = &step.op else { continue };
                let is_its = |other: &Step| matches!(&other.op, StepOp::Create { container: made } if made == container);
                if let Some(made) = plan.steps.iter().position(is_its) {
                    prop_assert!(reaches(&plan.steps, step, &BTreeSet::from([made])), "{index} of {:?}", plan);
                }
            }
        }
    }

    // req: AC-09
    #[test]
    fn merged_plan_ends_keeps_every_order_and_runs_one_workload_plan_by_plan(plans in any_plans()) {
        let merged = merge(&plans);
        prop_assert_eq!(merged.len(), plans.iter().map(|plan| plan.steps.len()).sum::<usize>());
        let (mut offset, mut earlier) = (0, BTreeMap::<String, BTreeSet<usize>>::new());
        for plan in &plans {
            let own = offset..offset + plan.steps.len();
            for (index, step) in plan.steps.iter().enumerate() {
                let placed = &merged[offset + index];
                prop_assert_eq!((&placed.workload, &placed.op), (&step.workload, &step.op));
                prop_assert!(placed.after.iter().all(|before| *before < offset + index));
                prop_assert!(step.after.iter().all(|before| placed.after.contains(&(before + offset))));
                let before = earlier.get(&step.workload).cloned().unwrap_or_default();
                prop_assert!(reaches(&merged, placed, &before), "{} of {:?}", index, plans);
            }
            for index in own.clone() {
                earlier.entry(merged[index].workload.clone()).or_default().insert(index);
            }
            offset = own.end;
        }
    }
}

/// The same workload on another node.
fn on_node(view: View, node: &str) -> View {
    let mut spec = view.spec.clone().unwrap();
    spec.node = node.to_owned();
    spec.delegate = Some(crate::model::workload::Delegate { node: node.to_owned(), document: "d".into() });
    View { revision: revision(&spec), spec: Some(spec), engine: String::new(), ..view }
}

/// A workload that is recorded as doing this on another node.
fn recorded_on(node: &str, desired: Desired) -> View {
    let view = on_node(unknown("w"), node);
    let record = WorkloadRecord { desired, engine: String::new(), ..record(view.spec.as_ref().unwrap()) };
    View { record: Some(record), ..view }
}

#[test]
fn update_stops_and_replaces_what_runs_once_its_images_are_there() {
    let view = changed(known("w", RUNNING, RUNNING));
    let plan = planned(Verb::Update, &Parameters::default(), std::slice::from_ref(&view)).unwrap();
    let titles = titles(&plan.steps);
    let place = |title: &str| titles.iter().position(|found| found == title).unwrap_or_else(|| panic!("{titles:?}"));
    assert!(place("pull other") < place("stop w_a") && place("stop w_a") < place("remove w_a"));
    assert!(place("remove w_a") < place("create w_a") && place("create w_a") < place("start w_a"));
    assert!(plan.steps[place("stop w_a")].after.contains(&place("pull other")));
    assert!(plan.steps[place("remove w_a")].after.contains(&place("stop w_a")));
}

#[test]
fn update_of_what_is_unchanged_does_nothing_or_starts_it() {
    assert_eq!(steps(Verb::Update, &known("w", RUNNING, RUNNING)), [""; 0]);
    assert_eq!(steps(Verb::Rollback, &known("w", RUNNING, RUNNING)), [""; 0]);
    assert!(steps(Verb::Update, &known("w", ENDED, ENDED)).contains(&"start w_a".to_owned()));
    let new = planned(Verb::Update, &Parameters::default(), &[unknown("w")]).unwrap();
    assert!(new.warnings[0].message.contains("was not there before"), "{:?}", new.warnings);
}

#[test]
fn verbs_on_another_node_are_orders_and_repeating_them_is_none() {
    let nothing: [&str; 0] = [];
    assert_eq!(steps(Verb::Launch, &on_node(unknown("w"), "Z")), ["start on Z"]);
    assert_eq!(steps(Verb::Launch, &recorded_on("Z", Desired::Running)), nothing);
    assert_eq!(steps(Verb::Launch, &recorded_on("Z", Desired::Stopped)), ["start on Z"]);
    assert_eq!(steps(Verb::Start, &recorded_on("Z", Desired::Running)), nothing);
    assert_eq!(steps(Verb::Stop, &recorded_on("Z", Desired::Running)), ["stop on Z"]);
    assert_eq!(steps(Verb::Stop, &recorded_on("Z", Desired::Stopped)), nothing);
    assert_eq!(steps(Verb::Restart, &recorded_on("Z", Desired::Running)), ["restart on Z"]);
    assert_eq!(steps(Verb::Terminate, &recorded_on("Z", Desired::Running)), ["stop on Z"]);
    let reconcile = Parameters { reconcile: true, ..Parameters::default() };
    let plan = planned(Verb::Launch, &reconcile, &[recorded_on("Z", Desired::Running)]).unwrap();
    assert_eq!(titles(&plan.steps), ["restart on Z"], "whoever reconciles has seen that it does not run");
    assert_eq!(refusal(Verb::Pause, &recorded_on("Z", Desired::Running)).code, ErrorCode::NotImplemented);
    let other = View { revision: "other".into(), ..recorded_on("Z", Desired::Running) };
    assert_eq!(refusal(Verb::Launch, &other).code, ErrorCode::WorkloadDiffers);
}

#[test]
fn offload_takes_down_here_before_it_starts_there_and_then_writes_the_package() {
    let mut view = on_node(known("w", RUNNING, RUNNING), "Z");
    view.spec.as_mut().unwrap().package = "p".into();
    view.engine = "sim".into();
    let parameters = Parameters { target_node: Some("Z".into()), ..Parameters::default() };
    let plan = planned(Verb::Offload, &parameters, std::slice::from_ref(&view)).unwrap();
    let titles = titles(&plan.steps);
    assert_eq!(titles[titles.len() - 3..], ["start on Z", "place on Z", "remove network net"], "{titles:?}");
    let start = &plan.steps[titles.len() - 3];
    let gone: Vec<_> = start.after.iter().map(|index| titles[*index].as_str()).collect();
    assert!(gone.contains(&"remove w_a") && gone.contains(&"remove pod w"), "{gone:?}");
    let back = View { record: Some(record(view.spec.as_ref().unwrap())), containers: Vec::new(), ..unknown("w") };
    let to_here = planned(Verb::Offload, &parameters, &[back]).unwrap();
    let first = to_here.steps.iter().find(|step| matches!(step.op, StepOp::Delegate { .. })).unwrap();
    assert_eq!(first.title(), "stop on Z");
    let elsewhere = Parameters { source_node: Some("Y".into()), ..parameters };
    let error = planned(Verb::Offload, &elsewhere, &[recorded_then_meant("X", "Z")]).unwrap_err();
    assert_eq!((error.code, error.field.as_str()), (ErrorCode::InvalidState, "parameters.source_node"));
}

/// A workload recorded on one node and meant for another.
fn recorded_then_meant(node: &str, meant: &str) -> View {
    let there = recorded_on(node, Desired::Running);
    View { record: there.record, ..on_node(unknown("w"), meant) }
}

#[test]
fn tasks_are_admitted_before_anything_starts_and_not_where_nothing_does() {
    let schedule = Schedule { name: "s".into(), tasks: Vec::new(), sporadic: false };
    let parameters = Parameters::default();
    let (verb, target, node, schedule) = (Verb::Launch, "w", "n", Some(&schedule));
    let asked = Asked { verb, target, parameters: &parameters, node, schedule, connects: false };
    let plan_of = |view: View| plan(&asked, "sim", &[view]).unwrap();
    let plan = plan_of(unknown("w"));
    assert_eq!(plan.steps[0].title(), "admit s");
    for step in plan.steps.iter().filter(|step| matches!(step.op, StepOp::Start { .. })) {
        assert!(step.after.contains(&0), "{step:?}");
    }
    assert_eq!(titles(&plan_of(on_node(unknown("w"), "Z")).steps), ["admit s", "start on Z"]);
    let running = known("w", RUNNING, RUNNING);
    assert_eq!(titles(&plan_of(running.clone()).steps), ["admit s"], "it goes on with these tasks");
    let has_it = |record| WorkloadRecord { schedule: schedule.cloned(), ..record };
    assert!(plan_of(View { record: running.record.clone().map(has_it), ..running }).steps.is_empty());
}

#[test]
fn network_is_set_up_once_everything_of_its_workload_has_started() {
    let parameters = Parameters::default();
    let (verb, target, node) = (Verb::Launch, "w", "n");
    let asked = Asked { verb, target, parameters: &parameters, node, schedule: None, connects: true };
    let views = [unknown("w"), on_node(unknown("v"), "Z"), known("u", RUNNING, RUNNING)];
    let plan = plan(&asked, "sim", &views).unwrap();
    let connects: Vec<_> = plan.steps.iter().filter(|step| matches!(step.op, StepOp::Connect { .. })).collect();
    assert_eq!(connects.iter().map(|step| step.title()).collect::<Vec<_>>(), ["connect w", "connect v"]);
    for connect in connects {
        let of_it = |step: &&Step| step.workload == connect.workload && starts(&step.op);
        assert_eq!(connect.after.len(), plan.steps.iter().filter(of_it).count());
        assert!(connect.after.iter().all(|index| starts(&plan.steps[*index].op)));
    }
}

#[test]
fn daemons_own_restart_starts_the_named_containers_of_what_shall_run() {
    let parameters = |names: &[&str]| Parameters {
        supervised: true,
        containers: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Parameters::default()
    };
    let view = known("w", ENDED, ENDED);
    let plan = planned(Verb::Start, &parameters(&["b"]), std::slice::from_ref(&view)).unwrap();
    assert_eq!(titles(&plan.steps), ["start w_b"]);
    let stopped = WorkloadRecord { desired: Desired::Stopped, ..view.record.clone().unwrap() };
    let plan = planned(Verb::Start, &parameters(&["b"]), &[View { record: Some(stopped), ..view }]).unwrap();
    assert!(plan.steps.is_empty());
}
