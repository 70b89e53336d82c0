//! Plans: the steps that actions then run, merged and by stage, with nothing touched.

use actioncontroller::proto::actions::{
    ActionSpec, ExecuteActionRequest, ListActionsRequest, Plan, PlanRequest, Step, StepState, Verb,
};
use actioncontroller::proto::workloads::ListWorkloadsRequest;
use grpcio::RpcStatusCode;

use super::{QUICK, assert_refused, daemon, launch_of, named, refusal, sim_file, state_of, stop};
use crate::support::daemon::{DaemonProcess, launch, on_target, options, pod};

const TWO: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: alpha}\nspec:\n  \
                   volumes: [{name: scratch, emptyDir: {}}]\n  initContainers:\n  \
                   - {name: first, image: 'localhost/quick:1', command: ['true']}\n  containers:\n  \
                   - {name: one, image: 'localhost/quick:1', volumeMounts: [{name: scratch, mountPath: /s}]}\n  \
                   - {name: two, image: 'localhost/other:1'}\n";

fn plan(daemon: &DaemonProcess, actions: &[ActionSpec]) -> grpcio::Result<Plan> {
    let request = PlanRequest { actions: actions.to_vec(), ..Default::default() };
    Ok(daemon.actions().plan(&request, options())?.plan.unwrap())
}

/// Everything that a plan could have touched: the engine's state, and what the daemon lists.
fn everything(daemon: &DaemonProcess) -> (String, String, String) {
    let workloads = daemon.workloads().list_workloads(&ListWorkloadsRequest::default(), options()).unwrap();
    let actions = daemon.actions().list_actions(&ListActionsRequest::default(), options()).unwrap();
    (sim_file(daemon), format!("{workloads:?}"), format!("{actions:?}"))
}

fn titles(steps: &[Step]) -> Vec<&str> {
    steps.iter().map(|step| step.title.as_str()).collect()
}

/// Steps come after those that they wait for, in a later stage than each of them.
#[track_caller]
fn assert_staged(plan: &Plan) {
    for (place, step) in plan.steps.iter().enumerate() {
        assert_eq!(usize::try_from(step.index).unwrap(), place);
        assert_eq!(step.state.enum_value(), Ok(StepState::STEP_STATE_PENDING));
        let before: Vec<_> = step.after.iter().map(|before| &plan.steps[usize::try_from(*before).unwrap()]).collect();
        assert!(before.iter().all(|before| before.index < step.index), "{step:?}");
        assert_eq!(step.stage, before.iter().map(|before| before.stage + 1).max().unwrap_or(0), "{step:?}");
    }
    assert_eq!(plan.stage_count, plan.steps.iter().map(|step| step.stage + 1).max().unwrap_or(0));
}

// req: AC-09
#[test]
fn planned_steps_are_those_that_run_and_planning_touches_nothing() {
    let daemon = daemon("[]", "");
    daemon.execute(launch_of("other", QUICK)).unwrap();
    let actions = [
        named("launch", launch(TWO)),
        named("stop", stop("alpha", 0)),
        named("start", on_target(Verb::VERB_START, "alpha")),
        named("restart", on_target(Verb::VERB_RESTART, "alpha")),
        named("pause", on_target(Verb::VERB_PAUSE, "alpha")),
        named("terminate", on_target(Verb::VERB_TERMINATE, "alpha")),
    ];
    for action in actions {
        let before = everything(&daemon);
        let planned = plan(&daemon, std::slice::from_ref(&action)).unwrap();
        let dry = ExecuteActionRequest { action: Some(action.clone()).into(), dry_run: true, ..Default::default() };
        let dry = daemon.actions().execute_action(&dry, options()).unwrap().outcome.unwrap();
        assert_eq!(everything(&daemon), before, "{action:?}");
        assert_staged(&planned);
        assert!(planned.errors.is_empty() && !planned.steps.is_empty(), "{planned:?}");
        assert_eq!(dry.plan.steps, planned.steps);
        let ran = daemon.execute(action).unwrap();
        let ran: Vec<_> = ran.steps.iter().map(|step| step.title.as_str()).collect();
        assert_eq!(titles(&planned.steps), ran);
    }
    assert!(daemon.execute(launch(TWO)).unwrap().changed, "the planned one is made as if nothing had been");
}

#[test]
fn several_plans_are_merged_with_what_may_overlap_in_one_stage() {
    let daemon = daemon("[]", "");
    daemon.execute(launch_of("old", QUICK)).unwrap();
    let actions = [
        named("alpha", launch(TWO)),
        launch_of("beta", QUICK),
        named("stop", stop("old", 0)),
        named("gone", on_target(Verb::VERB_TERMINATE, "old")),
    ];
    let before = everything(&daemon);
    let merged = plan(&daemon, &actions).unwrap();
    assert_eq!(everything(&daemon), before);
    assert_staged(&merged);
    let place = |title: &str| {
        merged.steps.iter().position(|step| step.title == title).unwrap_or_else(|| panic!("{title}: {merged:?}"))
    };
    let stage = |title: &str| merged.steps[place(title)].stage;
    assert_eq!(stage("create alpha_one"), stage("create alpha_two"), "independent steps share a stage");
    assert_eq!(stage("stop old_main"), 0, "it waits for none of the launches");
    assert!(stage("remove old_main") > 0, "actions on one workload keep their order");
    let alone: usize =
        actions.iter().map(|action| plan(&daemon, std::slice::from_ref(action)).unwrap().steps.len()).sum();
    assert_eq!(merged.steps.len(), alone);
}

#[test]
fn refused_actions_are_errors_within_the_plan_of_the_others() {
    let daemon = daemon("[]", "");
    let before = everything(&daemon);
    let actions =
        [launch_of("fine", QUICK), named("bad", launch("kind: Pod\nmetadata: [")), named("nobody", stop("nobody", 0))];
    let merged = plan(&daemon, &actions).unwrap();
    assert_eq!(everything(&daemon), before);
    let told: Vec<_> = merged.errors.iter().map(|error| (error.code.as_str(), &error.field[..10])).collect();
    let expected = [("INVALID_MANIFEST", "actions[1]"), ("WORKLOAD_NOT_FOUND", "actions[2]")];
    assert_eq!(told, expected, "{:?}", merged.errors);
    assert!(titles(&merged.steps).contains(&"start fine_main"), "{merged:?}");
}

#[test]
fn plan_warns_of_what_will_have_no_effect() {
    let daemon = daemon("[]", "");
    let document = pod("alpha", QUICK, "sleep 1000").replace("  hostNetwork", "  serviceAccountName: x\n  hostNetwork");
    let planned = plan(&daemon, &[launch(&document)]).unwrap();
    assert!(planned.warnings.iter().any(|warning| warning.path.contains("serviceAccountName")), "{planned:?}");
    let warned = daemon.launch(&document).unwrap();
    assert_eq!(warned.warnings, planned.warnings);
}

#[test]
fn dry_run_of_what_would_be_refused_is_refused() {
    let daemon = daemon("[]", "");
    let dry = |action: ActionSpec| {
        let request = ExecuteActionRequest { action: Some(action).into(), dry_run: true, ..Default::default() };
        daemon.actions().execute_action(&request, options())
    };
    assert_refused(dry(stop("nobody", 0)), RpcStatusCode::NOT_FOUND, "WORKLOAD_NOT_FOUND");
    let both = ExecuteActionRequest { dry_run: true, no_wait: true, ..Default::default() };
    assert_eq!(refusal(daemon.actions().execute_action(&both, options())).error.field, "no_wait");
    let again = dry(launch_of("alpha", QUICK)).unwrap().outcome.unwrap();
    let ran = daemon.execute(launch_of("alpha", QUICK)).unwrap();
    assert!(ran.changed && state_of(&ran) == state_of(&again), "a dry run does not use its id up");
}
