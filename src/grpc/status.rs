//! Failures on the wire: the one table from [`ErrorKind`] to gRPC code, and the details that travel with the code.
//!
//! A failed call carries a `google.rpc.Status` in the trailer `grpc-status-details-bin`, with an `ErrorDetail` and, where
//! an action ended, its `Outcome`. Trailers are small: many clients refuse more than 8 KiB of them. So texts and lists
//! are cut until all of it fits; making a status never fails.

use grpcio::{RpcStatus, RpcStatusCode};
use protobuf::well_known_types::any::Any;
use protobuf::{EnumOrUnknown, Message, MessageField};

use crate::error::{Error, ErrorKind};
use crate::proto::actions::{ErrorDetail, Outcome, StepState, Warning};
use crate::proto::rpc_status::Status;

/// The most that the encoded details take. As base64 they become 5,464 bytes.
pub const MAX_DETAILS: usize = 4096;

/// The most of a sentence, bytes. As the call's message it travels percent-encoded and takes three times that at worst;
/// with the details and the names of all trailers it stays below 8,192 bytes.
const MAX_TEXT: usize = 512;

/// The most of a name, a field's path or a hint, bytes. Names that the server takes are shorter.
const MAX_NAME: usize = 256;

/// What a shortened list says of itself.
const SHORTENED: &str = "shortened to fit into the error; GetAction has the whole outcome";

/// How the full names of our messages begin in an `Any`.
const TYPE_URL: &str = "type.googleapis.com/actioncontroller.v1.";

/// The gRPC code of a kind of failure. Each kind has its own, so that a caller can tell them apart by the code alone.
pub fn code_of(kind: ErrorKind) -> RpcStatusCode {
    match kind {
        ErrorKind::InvalidArgument => RpcStatusCode::INVALID_ARGUMENT,
        ErrorKind::NotFound => RpcStatusCode::NOT_FOUND,
        ErrorKind::AlreadyExists => RpcStatusCode::ALREADY_EXISTS,
        ErrorKind::PermissionDenied => RpcStatusCode::PERMISSION_DENIED,
        ErrorKind::FailedPrecondition => RpcStatusCode::FAILED_PRECONDITION,
        ErrorKind::ResourceExhausted => RpcStatusCode::RESOURCE_EXHAUSTED,
        ErrorKind::Unavailable => RpcStatusCode::UNAVAILABLE,
        ErrorKind::Aborted => RpcStatusCode::ABORTED,
        ErrorKind::Cancelled => RpcStatusCode::CANCELLED,
        ErrorKind::DeadlineExceeded => RpcStatusCode::DEADLINE_EXCEEDED,
        ErrorKind::Unimplemented => RpcStatusCode::UNIMPLEMENTED,
        ErrorKind::Internal => RpcStatusCode::INTERNAL,
        ErrorKind::NotRecorded => RpcStatusCode::DATA_LOSS,
    }
}

/// The error as details.
pub fn detail_of(error: &Error) -> ErrorDetail {
    ErrorDetail {
        code: error.code.as_str().to_owned(),
        message: error.message.clone(),
        field: error.field.clone(),
        hint: error.hint.clone(),
        status: code_of(error.kind).into(),
        ..ErrorDetail::default()
    }
}

/// The status of a call that failed.
pub fn of_error(error: &Error) -> RpcStatus {
    build(&error.to_string(), detail_of(error), None)
}

/// The status of a call whose action ended without success: the code, the sentence and the detail are those of the
/// outcome's own error, and the outcome goes along.
pub fn of_outcome(outcome: Outcome) -> RpcStatus {
    let mut detail = outcome.error.clone().unwrap_or_default();
    if detail.code.is_empty() {
        detail = detail_of(&Error::internal("the action ended without success and without a reason"));
    }
    let message = detail.message.clone();
    build(&message, detail, Some(outcome))
}

/// What the details of a failed call say, for clients.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// Why it failed.
    pub error: ErrorDetail,
    /// What the action came to, where there was one.
    pub outcome: Option<Outcome>,
}

/// Reads the details of a failed call; `None` where it carries none of ours.
pub fn details(status: &RpcStatus) -> Option<Details> {
    let decoded = Status::parse_from_bytes(status.details()).ok()?;
    let find = |name: &str| {
        decoded.details.iter().find(|any| any.type_url.strip_prefix(TYPE_URL) == Some(name)).map(|any| &any.value)
    };
    let error = ErrorDetail::parse_from_bytes(find("ErrorDetail")?).ok()?;
    let outcome = find("Outcome").and_then(|bytes| Outcome::parse_from_bytes(bytes).ok());
    Some(Details { error, outcome })
}

/// Puts code, message and details together, cut to what fits.
fn build(message: &str, mut detail: ErrorDetail, outcome: Option<Outcome>) -> RpcStatus {
    if !(1..=16).contains(&detail.status) {
        detail.status = RpcStatusCode::INTERNAL.into();
    }
    let code = detail.status;
    shorten_detail(&mut detail);
    // The same text in both places: readers of the details compare the two.
    let message = shortened(message, MAX_TEXT);
    let mut status = Status { code, message: message.clone(), ..Status::default() };
    status.details.push(packed("ErrorDetail", &detail));
    if let Some(outcome) = outcome {
        // An `Any` costs its name, and each of the two lengths at most three bytes.
        let taken = encoded(&status).len() + TYPE_URL.len() + "Outcome".len() + 9;
        status.details.push(packed("Outcome", &fitting(outcome, MAX_DETAILS.saturating_sub(taken))));
    }
    RpcStatus::with_details(code, message, encoded(&status))
}

/// A message as `Any`.
fn packed(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("{TYPE_URL}{name}"), value: encoded(message), ..Any::default() }
}

/// The message's bytes. Encoding to memory fails only for messages beyond 2 GiB and for missing required fields, which
/// proto3 does not have.
fn encoded(message: &impl Message) -> Vec<u8> {
    message.write_to_bytes().unwrap_or_default()
}

/// `text`, or its beginning with a mark where it is longer than `most` bytes.
fn shortened(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub("…".len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        *text = shortened(text, most);
    }
}

fn shorten_detail(detail: &mut ErrorDetail) {
    shorten(&mut detail.code, MAX_NAME);
    shorten(&mut detail.message, MAX_TEXT);
    shorten(&mut detail.field, MAX_NAME);
    shorten(&mut detail.hint, MAX_NAME);
}

/// The outcome, cut as little as it takes to encode it in `most` bytes. What tells least goes first.
fn fitting(mut outcome: Outcome, most: usize) -> Outcome {
    // The detail beside it says the same.
    outcome.error = MessageField::none();
    let fits = |outcome: &Outcome| encoded(outcome).len() <= most;
    if fits(&outcome) {
        return outcome;
    }
    outcome.warnings.insert(0, Warning { message: SHORTENED.to_owned(), ..Warning::default() });
    for cut in [drop_plan, cut_texts, drop_quiet_steps, halve_lists, drop_lists] {
        cut(&mut outcome);
        if fits(&outcome) {
            return outcome;
        }
    }
    outcome.message.clear();
    outcome
}

fn drop_plan(outcome: &mut Outcome) {
    outcome.plan = MessageField::none();
}

fn cut_texts(outcome: &mut Outcome) {
    let name = |text: &mut String| shorten(text, MAX_NAME);
    name(&mut outcome.action_id);
    name(&mut outcome.target);
    name(&mut outcome.engine);
    name(&mut outcome.engine_reason);
    name(&mut outcome.recovered);
    shorten(&mut outcome.message, MAX_TEXT);
    outcome.left.iter_mut().for_each(name);
    for step in &mut outcome.steps {
        name(&mut step.title);
        name(&mut step.message);
    }
    for workload in &mut outcome.failed {
        name(&mut workload.name);
        let error = workload.error.mut_or_insert_default();
        shorten_detail(error);
        name(&mut error.message);
    }
    for warning in &mut outcome.warnings {
        name(&mut warning.path);
        name(&mut warning.message);
    }
}

/// Keeps the steps that went wrong.
fn drop_quiet_steps(outcome: &mut Outcome) {
    let wrong = [StepState::STEP_STATE_FAILED, StepState::STEP_STATE_UNDO_FAILED].map(EnumOrUnknown::new);
    outcome.steps.retain(|step| wrong.contains(&step.state));
}

/// Keeps the first few of each list.
fn halve_lists(outcome: &mut Outcome) {
    outcome.steps.truncate(2);
    outcome.left.truncate(3);
    outcome.warnings.truncate(2);
    outcome.failed.truncate(2);
    outcome.workloads.clear();
}

/// Keeps the note that it was shortened.
fn drop_lists(outcome: &mut Outcome) {
    outcome.steps.clear();
    outcome.left.clear();
    outcome.failed.clear();
    outcome.warnings.truncate(1);
}

#[cfg(test)]
mod tests;
