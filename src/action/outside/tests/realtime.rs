//! Whole actions on workloads that have real-time tasks: what is admitted when, what is held, and what is given back.

use super::*;
use crate::storage::held::Held;

impl Rig {
    /// The Schedules that were handed over since the last time.
    fn handed(&self) -> Vec<String> {
        std::mem::take(&mut *self.scheduler.0.lock().unwrap()).into_iter().map(|schedule| schedule.name).collect()
    }

    /// The Schedule that is held, and for whom.
    fn held(&self) -> (String, Vec<String>) {
        let held = crate::storage::held::read(&self.records, soon()).unwrap();
        let holders = held.shares.iter().flat_map(|share| share.holders.keys().cloned());
        (held.name.clone(), holders.collect())
    }

    /// Launches a Pod of its own Package `q`, with this Schedule.
    fn launch_other(&self, workload: &str, schedule: &str) -> Outcome {
        let mut changes = Changes::new();
        let package = format!(
            "apiVersion: v1\nkind: Package\nmetadata: {{name: q}}\nspec:\n  schedule: {schedule}\n  pattern: [{{type: plain}}]\n  models: [{{name: {workload}, node: {OWN}}}]\n"
        );
        let tasks =
            format!("apiVersion: v1\nkind: Schedule\nmetadata: {{name: {schedule}}}\nspec: [{{name: t, period: 7}}]\n");
        changes.put_document("Package", "q", &package);
        changes.put_document("Schedule", schedule, &tasks);
        self.records.commit(changes, soon()).unwrap();
        self.store_model(workload, "i");
        self.run(Verb::Launch, "q", Parameters::default())
    }
}

fn nothing() -> (String, Vec<String>) {
    (String::new(), Vec::new())
}

// req: AC-18
#[test]
fn second_schedule_is_refused_before_any_effect_until_the_first_ones_last_workload_ends() {
    let rig = rig();
    rig.store("launch", &[("a", OWN), ("b", "Z")], "good");
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    assert_eq!(rig.held(), ("good".to_owned(), vec!["a".to_owned(), "b".to_owned()]));

    let refused = rig.launch_other("c", "other");
    assert_eq!(refused.state, ActionState::Refused, "{refused:?}");
    let failure = refused.failure.unwrap();
    assert_eq!((failure.code.as_str(), refused.steps.len()), ("SCHEDULE_HELD", 0));
    assert!(failure.message.contains("'other'") && failure.message.contains("holds Schedule 'good'"), "{failure:?}");

    assert_eq!(rig.launch_other("c", "good").state, ActionState::Succeeded, "the same is shared");
    for (verb, target) in [(Verb::Terminate, "c"), (Verb::Stop, "a")] {
        assert_eq!(rig.run(verb, target, Parameters::default()).state, ActionState::Succeeded);
        assert_eq!(rig.launch_other("c", "other").state, ActionState::Refused);
    }
    assert_eq!(
        rig.run(Verb::Remove, "b", Parameters { force: true, ..Parameters::default() }).state,
        ActionState::Succeeded
    );
    assert_eq!(rig.held(), nothing());
    assert_eq!(rig.handed(), ["good", "good"]);
    assert_eq!(rig.launch_other("c", "other").state, ActionState::Succeeded);
    assert_eq!((rig.handed(), rig.held().0), (vec!["other".to_owned()], "other".to_owned()));

    // What was stopped needs its tasks admitted to run again.
    let start = rig.run(Verb::Start, "a", Parameters::default());
    assert_eq!((start.state, start.failure.unwrap().code.as_str()), (ActionState::Refused, "SCHEDULE_HELD"));
    rig.run(Verb::Terminate, "c", Parameters::default());
    assert_eq!(rig.run(Verb::Start, "a", Parameters::default()).state, ActionState::Succeeded);
    assert_eq!((rig.handed(), rig.held()), (vec!["good".to_owned()], ("good".to_owned(), vec!["a".to_owned()])));
}

// req: AC-18
#[test]
fn launch_that_fails_holds_nothing_and_an_update_that_fails_what_was_held_before() {
    let rig = rig();
    rig.store("launch", &[("a", "Z")], "good");
    rig.nodes.set("Z", NodeCommand::Start, Some(Answer::Refuses));
    assert_eq!(rig.trigger().state, ActionState::Failed);
    assert_eq!((rig.handed(), rig.held()), (vec!["good".to_owned()], nothing()));
    rig.nodes.set("Z", NodeCommand::Start, None);
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    rig.handed();

    rig.store("update", &[("a", "Y")], "newer");
    rig.nodes.set("Y", NodeCommand::Start, Some(Answer::Refuses));
    assert_eq!(rig.trigger().state, ActionState::Failed);
    assert_eq!(rig.handed(), ["newer", "good"], "the tasks that run again are in force again");
    assert_eq!(rig.held(), ("good".to_owned(), vec!["a".to_owned()]));
    rig.nodes.set("Y", NodeCommand::Start, None);
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    assert_eq!((rig.handed(), rig.held().0), (vec!["newer".to_owned()], "newer".to_owned()));

    rig.store("rollback", &[("a", "Y")], "newer");
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    assert_eq!(
        (rig.handed(), rig.held().0),
        (vec!["good".to_owned()], "good".to_owned()),
        "a rollback returns to them"
    );
}

// req: AC-18
#[test]
fn tasks_that_cannot_be_scheduled_are_refused_by_field_and_nobody_is_asked() {
    let rig = rig();
    rig.store("launch", &[("a", OWN)], "good");
    let mut changes = Changes::new();
    let tasks = "apiVersion: v1\nkind: Schedule\nmetadata: {name: good}\nspec:\n  - {name: t, period: 7}\n  - {name: u, period: 7, deadline: 8}\n";
    changes.put_document("Schedule", "good", tasks);
    rig.records.commit(changes, soon()).unwrap();
    let outcome = rig.trigger();
    assert_eq!((outcome.state, outcome.steps.len()), (ActionState::Refused, 0));
    let failure = outcome.failure.unwrap();
    assert_eq!((failure.code.as_str(), failure.field.as_str()), ("SCHEDULE_REFUSED", "spec[1].deadline"));
    assert!(failure.message.contains("Schedule 'good' cannot be admitted: task 'u': deadline of 8 µs"), "{failure:?}");
    assert!(rig.handed().is_empty() && rig.held() == nothing());
}

#[test]
fn crash_leaves_nothing_held_by_what_is_undone() {
    let rig = rig();
    rig.store("launch", &[("a", "Z")], "good");
    rig.trigger();
    // As if the daemon had ended right after the tasks of another launch were admitted: its intent is there.
    let held = crate::storage::held::read(&rig.records, soon()).unwrap();
    let share = held.shares[0].clone();
    let holders = [("ghost".to_owned(), "gone".to_owned())].into();
    let shares = vec![share.clone(), crate::storage::held::Share { holders, ..share }];
    crate::storage::held::write(&rig.records, &Held { shares, ..held }, soon()).unwrap();
    assert_eq!(rig.run(Verb::Stop, "a", Parameters::default()).state, ActionState::Succeeded);
    assert_eq!(rig.held(), nothing(), "nobody has begun an action 'gone'");
}

#[test]
fn tasks_go_with_a_workload_to_its_new_node_unless_another_one_there_has_them() {
    let rig = rig();
    rig.store("launch", &[("a", OWN), ("b", "Z")], "good");
    let mut changes = Changes::new();
    let tasks = format!(
        "apiVersion: v1\nkind: Schedule\nmetadata: {{name: good}}\nspec:\n  - {{name: t, period: 7, node_id: {OWN}}}\n  - {{name: u, period: 7, node_id: Z}}\n"
    );
    changes.put_document("Schedule", "good", &tasks);
    rig.records.commit(changes, soon()).unwrap();
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    let nodes = || {
        let schedules = std::mem::take(&mut *rig.scheduler.0.lock().unwrap());
        schedules.into_iter().map(|s| s.tasks.into_iter().map(|task| task.node).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    assert_eq!(nodes(), [[OWN, "Z"]]);
    rig.nodes.set("Y", NodeCommand::Start, Some(Answer::Refuses));
    assert_eq!(rig.run(Verb::Offload, "a", to("Y")).state, ActionState::Failed);
    assert_eq!(nodes(), [["Y", "Z"], [OWN, "Z"]], "it runs where it was");
    assert_eq!(rig.run(Verb::Offload, "a", to("Z")).state, ActionState::Succeeded);
    assert_eq!(nodes(), [["Z", "Z"]]);
    let away = rig.run(Verb::Offload, "a", to(OWN));
    assert_eq!(away.state, ActionState::Succeeded);
    assert!(away.warnings.iter().any(|warning| warning.message.contains("where 'b' has it")), "{:?}", away.warnings);
    assert!(nodes().is_empty());
}

#[test]
fn package_that_names_no_schedule_any_more_holds_none_once_it_is_updated_or_started_again() {
    let rig = rig();
    let models = [("a", OWN), ("b", "Z")];
    rig.store("launch", &models, "good");
    rig.trigger();
    rig.run(Verb::Stop, "a", Parameters::default());
    assert_eq!(rig.run(Verb::Launch, "a", Parameters::default()).state, ActionState::Succeeded);
    assert_eq!(rig.handed(), ["good", "good"], "what is launched by its own name is as it was");
    assert_eq!(rig.held().1, ["a", "b"]);

    rig.store("launch", &models, "");
    rig.run(Verb::Stop, "a", Parameters::default());
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    assert_eq!(rig.held().1, ["b"], "it was started without");
    rig.store("update", &models, "");
    assert_eq!(rig.trigger().state, ActionState::Succeeded);
    assert_eq!(rig.held(), nothing());
    assert!(rig.handed().is_empty());
}
