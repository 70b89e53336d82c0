//! Workloads that depend on one another.

use super::*;
use crate::model::workload::{Dependency, Until};

/// A workload of one container `a` that depends on others.
fn service(name: &str, needs: &[(&str, Until)]) -> View {
    let mut spec = spec(name);
    spec.init_containers.clear();
    spec.volumes.clear();
    spec.containers.truncate(1);
    spec.containers[0].mounts.clear();
    let on = |(workload, until): &(&str, Until)| Dependency { workload: (*workload).to_owned(), until: *until };
    spec.depends_on = needs.iter().map(on).collect();
    View { revision: revision(&spec), spec: Some(spec), ..unknown(name) }
}

fn running(view: View) -> View {
    let spec = view.spec.clone().unwrap();
    View { record: Some(record(&spec)), containers: vec![container(&spec, "a", RUNNING)], ..view }
}

/// The steps that start or end something, in the order of stages, those of one stage together.
fn stages_of(verb: Verb, views: &[View]) -> Vec<Vec<String>> {
    let plan = planned(verb, &Parameters::default(), views).unwrap();
    assert!(plan.is_ordered(), "{plan:?}");
    let counts = |step: &Step| {
        starts(&step.op)
            || matches!(step.op, StepOp::Stop { .. } | StepOp::Kill { .. } | StepOp::AwaitCompletion { .. })
    };
    let titles = |stage: &Vec<usize>| -> Vec<String> {
        stage.iter().map(|index| &plan.steps[*index]).filter(|step| counts(step)).map(Step::title).collect()
    };
    plan.stages().iter().map(titles).filter(|stage| !stage.is_empty()).collect()
}

fn project() -> [View; 3] {
    let (started, completed) = (Until::Started, Until::Completed);
    [service("a-web", &[("c-store", started)]), service("b-init", &[]), service("c-store", &[("b-init", completed)])]
}

#[test]
fn what_is_depended_on_starts_first_and_ends_last() {
    let [web, init, store] = project();
    let up = [["start b-init_a"], ["await b-init_a"], ["start c-store_a"], ["start a-web_a"]];
    assert_eq!(stages_of(Verb::Launch, &[web.clone(), init.clone(), store.clone()]), up);
    let all = [running(web), running(init), running(store)];
    let down = [["stop a-web_a"], ["stop c-store_a"], ["stop b-init_a"]];
    assert_eq!(stages_of(Verb::Stop, &all), down);
    assert_eq!(stages_of(Verb::Terminate, &all), down);
    assert_eq!(stages_of(Verb::Kill, &all).len(), 1, "a kill waits for nothing");
    // One by itself waits for nobody.
    assert_eq!(stages_of(Verb::Stop, &all[2..]), [["stop c-store_a"]]);
}

#[test]
fn what_runs_already_is_not_waited_for_and_a_circle_ends() {
    let [web, init, store] = project();
    let plan = stages_of(Verb::Launch, &[web, running(init), running(store)]).concat();
    assert!(plan.contains(&"start a-web_a".to_owned()) && !plan.iter().any(|title| title.contains("start c-store")));
    let (started, other) = (Until::Started, service("y", &[("x", Until::Started)]));
    assert_eq!(stages_of(Verb::Launch, &[service("x", &[("y", started)]), other]).len(), 2);
}

#[test]
fn services_of_one_network_are_on_one_engine() {
    let [web, init, _] = project().map(|mut view| {
        view.spec.as_mut().unwrap().format = crate::model::workload::ManifestFormat::Compose;
        view
    });
    let elsewhere = View { engine: "podman".into(), ..web };
    let error = planned(Verb::Launch, &Parameters::default(), &[elsewhere, init]).unwrap_err();
    assert!(error.message.contains("'net'") && error.message.contains("podman"), "{error}");
}
