//! Actions, outcomes, plans and events, as the wire has them.

use protobuf::{EnumOrUnknown, MessageField};

use super::{count, timestamp_ms};
use crate::dispatch::service::{ActionView, Cancelled, Page, PlanView, Progress, StepView, WatchEvent};
use crate::grpc::status::detail_of;
use crate::model::action::{ActionState, Failure, Outcome, Phases, StepResult, StepState, Verb, Warning};
use crate::proto::actions as wire;
use crate::proto::actions::watch_action_response::Event;

/// The verb.
pub fn verb(verb: Verb) -> EnumOrUnknown<wire::Verb> {
    EnumOrUnknown::new(match verb {
        Verb::Launch => wire::Verb::VERB_LAUNCH,
        Verb::Start => wire::Verb::VERB_START,
        Verb::Stop => wire::Verb::VERB_STOP,
        Verb::Restart => wire::Verb::VERB_RESTART,
        Verb::Update => wire::Verb::VERB_UPDATE,
        Verb::Rollback => wire::Verb::VERB_ROLLBACK,
        Verb::Remove => wire::Verb::VERB_REMOVE,
        Verb::Terminate => wire::Verb::VERB_TERMINATE,
        Verb::Pause => wire::Verb::VERB_PAUSE,
        Verb::Resume => wire::Verb::VERB_RESUME,
        Verb::Hibernate => wire::Verb::VERB_HIBERNATE,
        Verb::Wake => wire::Verb::VERB_WAKE,
        Verb::Kill => wire::Verb::VERB_KILL,
        Verb::Scale => wire::Verb::VERB_SCALE,
        Verb::Offload => wire::Verb::VERB_OFFLOAD,
    })
}

/// The state of an action.
pub fn action_state(state: ActionState) -> EnumOrUnknown<wire::ActionState> {
    EnumOrUnknown::new(match state {
        ActionState::Queued => wire::ActionState::ACTION_STATE_QUEUED,
        ActionState::Running => wire::ActionState::ACTION_STATE_RUNNING,
        ActionState::Undoing => wire::ActionState::ACTION_STATE_UNDOING,
        ActionState::Succeeded => wire::ActionState::ACTION_STATE_SUCCEEDED,
        ActionState::Refused => wire::ActionState::ACTION_STATE_REFUSED,
        ActionState::Failed => wire::ActionState::ACTION_STATE_FAILED,
        ActionState::Cancelled => wire::ActionState::ACTION_STATE_CANCELLED,
        ActionState::Skipped => wire::ActionState::ACTION_STATE_SKIPPED,
        ActionState::Interrupted => wire::ActionState::ACTION_STATE_INTERRUPTED,
    })
}

/// The state of a step.
pub fn step_state(state: StepState) -> EnumOrUnknown<wire::StepState> {
    EnumOrUnknown::new(match state {
        StepState::Pending => wire::StepState::STEP_STATE_PENDING,
        StepState::Running => wire::StepState::STEP_STATE_RUNNING,
        StepState::Changed => wire::StepState::STEP_STATE_CHANGED,
        StepState::Unchanged => wire::StepState::STEP_STATE_UNCHANGED,
        StepState::Failed => wire::StepState::STEP_STATE_FAILED,
        StepState::Undone => wire::StepState::STEP_STATE_UNDONE,
        StepState::UndoFailed => wire::StepState::STEP_STATE_UNDO_FAILED,
        StepState::Skipped => wire::StepState::STEP_STATE_SKIPPED,
    })
}

/// The outcome.
pub fn outcome(outcome: Outcome) -> wire::Outcome {
    let workload = |(name, container_ids)| wire::WorkloadResult { name, container_ids, ..Default::default() };
    wire::Outcome {
        action_id: outcome.action_id,
        verb: verb(outcome.verb),
        target: outcome.target,
        state: action_state(outcome.state),
        changed: outcome.changed,
        message: outcome.message,
        error: outcome.failure.map(failure).into(),
        warnings: outcome.warnings.into_iter().map(warning).collect(),
        left: outcome.left,
        workloads: outcome.workloads.into_iter().map(workload).collect(),
        engine: outcome.engine,
        engine_reason: outcome.engine_reason,
        steps: outcome.steps.into_iter().map(step_result).collect(),
        phases: MessageField::some(phases(outcome.phases)),
        accepted_at: timestamp_ms(outcome.accepted_ms),
        ended_at: timestamp_ms(outcome.ended_ms),
        recovered: outcome.recovered,
        plan: outcome.plan.map(|plan| plan_view(PlanView::of(&plan))).into(),
        failed: outcome.failed.into_iter().map(failed_workload).collect(),
        ..Default::default()
    }
}

fn failed_workload((name, why): (String, Failure)) -> wire::FailedWorkload {
    wire::FailedWorkload { name, error: MessageField::some(failure(why)), ..Default::default() }
}

/// Plans.
pub fn plan_view(plan: PlanView) -> wire::Plan {
    wire::Plan {
        steps: plan.steps.into_iter().map(step).collect(),
        stage_count: count(plan.stages),
        warnings: plan.warnings.into_iter().map(warning).collect(),
        errors: plan.errors.iter().map(detail_of).collect(),
        ..Default::default()
    }
}

/// The answer to a cancel.
pub fn cancelled(answer: Cancelled) -> wire::CancelActionResponse {
    wire::CancelActionResponse {
        cancelled: answer.cancelled,
        outcome: answer.outcome.map(outcome).into(),
        ..Default::default()
    }
}

/// An action.
pub fn action(view: ActionView) -> wire::Action {
    wire::Action {
        action_id: view.action_id,
        verb: verb(view.verb),
        target: view.target,
        progress: MessageField::some(progress(view.state, view.progress)),
        accepted_at: timestamp_ms(view.accepted_ms),
        outcome: view.outcome.map(outcome).into(),
        ..Default::default()
    }
}

/// A page of actions.
pub fn action_page(page: Page<ActionView>) -> wire::ListActionsResponse {
    wire::ListActionsResponse {
        actions: page.items.into_iter().map(action).collect(),
        next_page_token: page.next_token,
        ..Default::default()
    }
}

/// An event of an action.
pub fn event(event: WatchEvent) -> wire::WatchActionResponse {
    let event = match event {
        WatchEvent::Snapshot(view) => Event::Snapshot(action(*view)),
        WatchEvent::Step(view, state, how_far) => Event::Step(wire::StepEvent {
            step: MessageField::some(step(*view)),
            progress: MessageField::some(progress(state, how_far)),
            ..Default::default()
        }),
        WatchEvent::Progress(state, how_far) => Event::Progress(progress(state, how_far)),
        WatchEvent::Outcome(ended) => Event::Outcome(outcome(*ended)),
    };
    wire::WatchActionResponse { event: Some(event), ..Default::default() }
}

fn failure(failure: Failure) -> wire::ErrorDetail {
    wire::ErrorDetail {
        code: failure.code,
        message: failure.message,
        field: failure.field,
        hint: failure.hint,
        status: failure.status,
        ..Default::default()
    }
}

/// What a caller should know.
pub(super) fn warning(warning: Warning) -> wire::Warning {
    wire::Warning { path: warning.path, line: warning.line, message: warning.message, ..Default::default() }
}

fn phases(phases: Phases) -> wire::Phases {
    wire::Phases {
        queue_us: phases.queue_us,
        policy_us: phases.policy_us,
        plan_us: phases.plan_us,
        run_us: phases.run_us,
        store_us: phases.store_us,
        total_us: phases.total_us,
        ..Default::default()
    }
}

fn step(view: StepView) -> wire::Step {
    wire::Step {
        index: count(view.index),
        title: view.step.title(),
        operation: view.step.op.word().to_owned(),
        object: view.step.op.object().to_owned(),
        workload: view.step.workload,
        after: view.step.after.into_iter().map(count).collect(),
        stage: count(view.stage),
        state: step_state(view.state),
        duration_us: view.micros,
        message: view.message,
        ..Default::default()
    }
}

fn step_result(step: StepResult) -> wire::StepResult {
    wire::StepResult {
        index: count(step.index),
        title: step.title,
        state: step_state(step.state),
        duration_us: step.micros,
        message: step.message,
        ..Default::default()
    }
}

fn progress(state: ActionState, progress: Progress) -> wire::Progress {
    wire::Progress {
        state: action_state(state),
        percent: progress.percent,
        current_step: progress.current_step,
        steps_done: progress.steps_done,
        steps_total: progress.steps_total,
        bytes_done: progress.bytes_done,
        bytes_total: progress.bytes_total,
        detail: progress.detail,
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::grpc::convert::requests;
    use crate::model::plan::{Plan, Step, StepOp};

    fn whole() -> Outcome {
        let create = StepOp::Create { container: "lane_core".into() };
        let step = Step { workload: "lane".into(), op: create, after: BTreeSet::new() };
        Outcome {
            action_id: "a-1".into(),
            verb: Verb::Launch,
            target: "lane".into(),
            state: ActionState::Failed,
            changed: true,
            message: "create lane_core: no such image".into(),
            failure: Some(Failure {
                status: 5,
                code: "IMAGE_UNAVAILABLE".into(),
                message: "no such image".into(),
                field: "spec.containers[0].image".into(),
                hint: "push it".into(),
            }),
            warnings: vec![Warning::new("spec.tty", 7, "has no effect")],
            left: vec!["volume lane_data".into()],
            workloads: BTreeMap::from([("lane".into(), BTreeMap::from([("core".into(), "0af".into())]))]),
            engine: "sim".into(),
            engine_reason: "preference".into(),
            steps: vec![StepResult {
                index: 0,
                title: "create lane_core".into(),
                state: StepState::Failed,
                micros: 12,
                message: "no such image".into(),
            }],
            phases: Phases { queue_us: 1, policy_us: 2, plan_us: 3, run_us: 4, store_us: 5, total_us: 15 },
            accepted_ms: 1_700_000_000_123,
            ended_ms: 0,
            plan: Some(Plan {
                verb: Verb::Launch,
                target: "lane".into(),
                engine: "sim".into(),
                steps: vec![step],
                warnings: vec![],
            }),
            recovered: "undone".into(),
            failed: BTreeMap::new(),
        }
    }

    #[test]
    fn every_verb_is_read_back_as_itself() {
        for each in Verb::ALL {
            assert_eq!(requests::verb(verb(*each), "verb").unwrap(), *each);
        }
    }

    #[test]
    fn nothing_of_an_outcome_is_lost_or_swapped() {
        let sent = outcome(whole());
        assert_eq!((sent.action_id.as_str(), sent.target.as_str(), sent.changed), ("a-1", "lane", true));
        assert_eq!(sent.state, wire::ActionState::ACTION_STATE_FAILED.into());
        let error = sent.error.as_ref().unwrap();
        assert_eq!((error.status, error.code.as_str(), error.hint.as_str()), (5, "IMAGE_UNAVAILABLE", "push it"));
        assert_eq!((error.field.as_str(), error.message.as_str()), ("spec.containers[0].image", "no such image"));
        let warning = &sent.warnings[0];
        assert_eq!((warning.path.as_str(), warning.line, warning.message.as_str()), ("spec.tty", 7, "has no effect"));
        assert_eq!(sent.left, ["volume lane_data"]);
        assert_eq!(sent.workloads[0].container_ids["core"], "0af");
        assert_eq!((sent.engine.as_str(), sent.engine_reason.as_str()), ("sim", "preference"));
        assert_eq!((sent.steps[0].title.as_str(), sent.steps[0].duration_us), ("create lane_core", 12));
        assert_eq!(sent.steps[0].state, wire::StepState::STEP_STATE_FAILED.into());
        assert_eq!(sent.phases.store_us, 5);
        assert_eq!((sent.accepted_at.seconds, sent.accepted_at.nanos), (1_700_000_000, 123_000_000));
        assert!(sent.ended_at.is_none(), "0 is not yet, not 1970");
        assert_eq!(sent.recovered, "undone");
    }

    #[test]
    fn plan_of_a_dry_run_has_its_steps_with_operation_and_object() {
        let plan = outcome(whole()).plan.unwrap();
        assert_eq!((plan.stage_count, plan.steps.len()), (1, 1));
        let step = &plan.steps[0];
        assert_eq!((step.operation.as_str(), step.object.as_str()), ("create", "lane_core"));
        assert_eq!((step.title.as_str(), step.workload.as_str()), ("create lane_core", "lane"));
        assert_eq!(step.state, wire::StepState::STEP_STATE_PENDING.into());
    }
}
