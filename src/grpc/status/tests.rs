//! What errors are on the wire, and that they always fit.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::error::ErrorCode;
use crate::proto::actions::{ActionState, FailedWorkload, StepResult, WorkloadResult};

const KINDS: [ErrorKind; 13] = [
    ErrorKind::InvalidArgument,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::PermissionDenied,
    ErrorKind::FailedPrecondition,
    ErrorKind::ResourceExhausted,
    ErrorKind::Unavailable,
    ErrorKind::Aborted,
    ErrorKind::Cancelled,
    ErrorKind::DeadlineExceeded,
    ErrorKind::Unimplemented,
    ErrorKind::Internal,
    ErrorKind::NotRecorded,
];

fn code(kind: ErrorKind) -> i32 {
    code_of(kind).into()
}

#[test]
fn each_kind_has_a_code_of_its_own_and_none_is_ok_or_unknown() {
    let codes: BTreeSet<_> = KINDS.into_iter().map(code).collect();
    assert_eq!(codes.len(), KINDS.len());
    assert!(!codes.contains(&RpcStatusCode::OK.into()) && !codes.contains(&RpcStatusCode::UNKNOWN.into()));
}

#[test]
fn what_a_caller_may_repeat_is_told_from_what_it_must_change() {
    assert_eq!(code_of(ErrorKind::Unavailable), RpcStatusCode::UNAVAILABLE, "a stopping daemon: try again");
    assert_eq!(code_of(ErrorKind::ResourceExhausted), RpcStatusCode::RESOURCE_EXHAUSTED, "a full queue: later");
    assert_eq!(code_of(ErrorKind::InvalidArgument), RpcStatusCode::INVALID_ARGUMENT, "never again like this");
    assert_eq!(code_of(ErrorKind::FailedPrecondition), RpcStatusCode::FAILED_PRECONDITION, "another verb first");
}

#[test]
fn something_done_but_not_recorded_is_not_taken_for_not_done() {
    let not_done = [ErrorKind::Internal, ErrorKind::Unavailable, ErrorKind::Aborted].map(code);
    assert!(!not_done.contains(&code(ErrorKind::NotRecorded)));
}

#[test]
fn details_say_code_field_and_hint() {
    let error = Error::invalid("action.verb", "a verb is required").hint("see actionctl --help");
    let status = of_error(&error);
    assert_eq!(status.code(), RpcStatusCode::INVALID_ARGUMENT);
    assert_eq!(status.message(), "a verb is required (at action.verb)");
    let read = details(&status).unwrap();
    assert_eq!(read.error, detail_of(&error));
    assert_eq!(read.error.code, ErrorCode::InvalidField.as_str());
    assert!(read.outcome.is_none());
    let wire = Status::parse_from_bytes(status.details()).unwrap();
    assert_eq!((wire.code, wire.message.as_str()), (3, status.message()));
}

#[test]
fn foreign_details_are_no_details() {
    assert!(details(&RpcStatus::new(RpcStatusCode::UNAVAILABLE)).is_none());
    assert!(details(&RpcStatus::with_details(RpcStatusCode::INTERNAL, String::new(), vec![255; 9])).is_none());
}

fn failed(steps: usize, text: &str) -> Outcome {
    let error = ErrorDetail {
        code: "ENGINE_FAILED".into(),
        message: text.into(),
        status: RpcStatusCode::INTERNAL.into(),
        ..ErrorDetail::default()
    };
    let step = |index: usize| StepResult {
        index: u32::try_from(index).unwrap(),
        title: format!("start {text}"),
        state: if index == 0 { StepState::STEP_STATE_FAILED } else { StepState::STEP_STATE_CHANGED }.into(),
        message: text.into(),
        ..StepResult::default()
    };
    Outcome {
        action_id: "a-1".into(),
        target: "lane-core".into(),
        state: ActionState::ACTION_STATE_FAILED.into(),
        message: text.into(),
        error: MessageField::some(error.clone()),
        steps: (0..steps).map(step).collect(),
        left: vec![text.to_owned(); steps],
        warnings: vec![Warning { message: text.into(), ..Warning::default() }; steps],
        failed: vec![
            FailedWorkload {
                name: text.into(),
                error: MessageField::some(error.clone()),
                ..Default::default()
            };
            steps
        ],
        workloads: vec![WorkloadResult { name: text.into(), ..WorkloadResult::default() }; steps],
        ..Outcome::default()
    }
}

#[test]
fn small_outcome_goes_along_whole() {
    let outcome = failed(2, "no such image");
    let status = of_outcome(outcome.clone());
    assert_eq!((status.code(), status.message()), (RpcStatusCode::INTERNAL, "no such image"));
    let read = details(&status).unwrap();
    assert_eq!(Some(&read.error), outcome.error.as_ref());
    assert_eq!(read.outcome, Some(Outcome { error: MessageField::none(), ..outcome }));
}

#[test]
fn large_outcome_keeps_what_went_wrong_and_says_that_it_is_short() {
    let read = details(&of_outcome(failed(300, "the engine said no"))).unwrap();
    let outcome = read.outcome.unwrap();
    assert_eq!(outcome.steps.len(), 1);
    assert_eq!(outcome.steps[0].state, StepState::STEP_STATE_FAILED.into());
    assert_eq!(outcome.warnings[0].message, SHORTENED);
    assert_eq!(outcome.action_id, "a-1");
}

#[test]
fn outcome_without_a_reason_is_internal() {
    let status = of_outcome(Outcome::default());
    assert_eq!(status.code(), RpcStatusCode::INTERNAL);
    assert_eq!(details(&status).unwrap().error.code, "INTERNAL");
}

proptest! {
    #[test]
    fn any_failure_fits_into_the_trailers(
        text in "(?s).{0,3000}",
        steps in 0usize..200,
        status in any::<i32>(),
    ) {
        let mut outcome = failed(steps, &text);
        outcome.action_id = text.clone();
        outcome.target = text.clone();
        outcome.error.as_mut().unwrap().status = status;
        outcome.error.as_mut().unwrap().hint = text.clone();
        outcome.error.as_mut().unwrap().field = text;
        let status = of_outcome(outcome);
        prop_assert!(status.details().len() <= MAX_DETAILS, "{} bytes", status.details().len());
        prop_assert!(status.message().len() <= MAX_TEXT);
        prop_assert_eq!(&Status::parse_from_bytes(status.details()).unwrap().message, status.message());
        prop_assert!((1..=16).contains(&i32::from(status.code())));
        prop_assert!(details(&status).unwrap().outcome.is_some());
    }
}
