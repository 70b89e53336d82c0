//! [`Failure`]: why a command did not do what was asked, as people read it on stderr, and the exit code that goes
//! with it.
//!
//! A failed call carries a google.rpc.Status with the daemon's own words; they are shown, never a dump of the error.

use grpcio::{Error as RpcError, RpcStatus, RpcStatusCode};
use protobuf::Message;

use crate::address::Address;
use crate::api::{ActionState, ErrorDetail, Outcome, Status, StepState};
use crate::exit::Exit;
use crate::render::text;
use crate::render::words::word;

/// Shown where nobody answers.
const IS_IT_RUNNING: &str = "is the daemon running? systemctl status actioncontroller";

/// Why a command did not do what was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// What the program ends with.
    pub exit: Exit,
    /// One sentence.
    pub message: String,
    /// Further lines, each with what it is: `at`, `step`, `left`, `hint`.
    pub notes: Vec<(&'static str, String)>,
    /// What the daemon said in its own form, where it said something.
    pub detail: Option<Box<ErrorDetail>>,
    /// The outcome, where an action was begun.
    pub outcome: Option<Box<Outcome>>,
}

/// The result of what fails with [`Failure`].
pub type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    /// A failure with one sentence.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), notes: Vec::new(), detail: None, outcome: None }
    }

    /// A wrong command line, or a file that cannot be read.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The same failure with a further line; an empty one is left out.
    #[must_use]
    pub fn note(mut self, label: &'static str, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.notes.push((label, text));
        }
        self
    }

    /// The same failure with what to do next.
    #[must_use]
    pub fn hint(self, hint: impl Into<String>) -> Self {
        self.note("hint", hint)
    }

    /// Nobody answers at this address.
    pub fn unreachable(address: &Address, cause: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, format!("cannot reach the daemon at {address}"))
            .note("cause", cause)
            .hint(IS_IT_RUNNING)
    }

    /// A call that failed.
    pub fn of_rpc(error: RpcError, address: &Address) -> Self {
        match error {
            RpcError::RpcFailure(status) | RpcError::RpcFinished(Some(status)) => Self::of_status(&status, address),
            RpcError::RpcFinished(None) | RpcError::RemoteStopped => {
                Self::unreachable(address, "the connection ended in the middle of the answer")
            }
            RpcError::Codec(cause) => Self::new(Exit::Failed, format!("the daemon's answer cannot be read: {cause}"))
                .hint("daemon and actionctl may be of different versions"),
            // What is left concerns starting a call or servers; none of it says anything to a user.
            other => Self::new(Exit::Failed, format!("the call could not be made: {other}")),
        }
    }

    /// A call that ended with this status.
    fn of_status(status: &RpcStatus, address: &Address) -> Self {
        let (detail, outcome) = details(status.details());
        if let Some(outcome) = outcome {
            return Self::of_outcome(outcome);
        }
        let exit = Exit::of_status(status.code());
        if let Some(detail) = detail {
            return Self::of_detail(exit, detail);
        }
        match status.code() {
            RpcStatusCode::UNAVAILABLE => {
                let cause = address.diagnose().unwrap_or_else(|| status.message().to_owned());
                Self::unreachable(address, cause)
            }
            RpcStatusCode::DEADLINE_EXCEEDED => {
                Self::new(exit, format!("no answer from {address} in time")).hint("give it longer with --timeout")
            }
            RpcStatusCode::UNIMPLEMENTED => Self::new(exit, "the daemon does not know this call")
                .hint("daemon and actionctl may be of different versions"),
            _ if status.message().is_empty() => Self::new(exit, format!("the call ended with {}", status.code())),
            _ => Self::new(exit, status.message()),
        }
    }

    /// What the daemon said of a call that was refused or failed.
    pub fn of_detail(exit: Exit, detail: ErrorDetail) -> Self {
        let message = with_code(&detail);
        let failure = Self::new(exit, message).note("at", &*detail.field).hint(&*detail.hint);
        Self { detail: Some(Box::new(detail)), ..failure }
    }

    /// An action that did not succeed: what it was, the step that failed, and what is left.
    pub fn of_outcome(outcome: Outcome) -> Self {
        let detail = outcome.error.clone().into_option();
        let reason = reason(&outcome);
        let state = word(outcome.state);
        let head = format!("{} of {} {state}", word(outcome.verb), text::or_dash(&outcome.target));
        let mut failure = Self::new(Exit::of_outcome(&outcome), format!("{head}: {reason}"));
        for workload in &outcome.failed {
            let error = workload.error.get_or_default();
            failure = failure.note("failed", format!("{}: {}", workload.name, with_code(error)));
            if !error.hint.is_empty() {
                failure = failure.note("hint", format!("{}: {}", workload.name, error.hint));
            }
        }
        for step in &outcome.steps {
            match step.state.enum_value_or_default() {
                StepState::STEP_STATE_FAILED | StepState::STEP_STATE_UNDO_FAILED => {
                    let line = format!("{} ({}): {}", step.title, word(step.state), step.message);
                    failure = failure.note("step", line);
                }
                StepState::STEP_STATE_UNSPECIFIED
                | StepState::STEP_STATE_PENDING
                | StepState::STEP_STATE_RUNNING
                | StepState::STEP_STATE_CHANGED
                | StepState::STEP_STATE_UNCHANGED
                | StepState::STEP_STATE_UNDONE
                | StepState::STEP_STATE_SKIPPED => {}
            }
        }
        if let Some(detail) = &detail {
            failure = failure.note("at", &*detail.field);
        }
        for left in &outcome.left {
            failure = failure.note("left", &**left);
        }
        if outcome.state.enum_value() != Ok(ActionState::ACTION_STATE_REFUSED) {
            failure = failure.note("action", &*outcome.action_id);
        }
        // Of single workloads that failed, the hints are given.
        if let Some(detail) = detail.as_ref().filter(|_| outcome.failed.is_empty()) {
            failure = failure.hint(&*detail.hint);
        }
        Self { detail: detail.map(Box::new), outcome: Some(Box::new(outcome)), ..failure }
    }

    /// As shown: the sentence after `error:`, and each further line indented with its label. `label` dresses a label,
    /// for example in colour. Control characters of foreign texts are shown, not obeyed.
    pub fn render(&self, label: impl Fn(&str) -> String) -> String {
        let mut lines = vec![format!("{} {}", label("error:"), text::clean(&self.message))];
        for (name, note) in &self.notes {
            lines.push(format!("  {} {}", label(&format!("{name}:")), text::clean(note)));
        }
        lines.join("\n")
    }
}

/// Why an action did not succeed, in one sentence. Where single workloads failed the daemon's own sentence names each
/// with its reason; they are listed below it here.
fn reason(outcome: &Outcome) -> String {
    let is_of_some = match outcome.state.enum_value_or_default() {
        ActionState::ACTION_STATE_SUCCEEDED | ActionState::ACTION_STATE_REFUSED | ActionState::ACTION_STATE_FAILED => {
            !outcome.failed.is_empty()
        }
        ActionState::ACTION_STATE_UNSPECIFIED
        | ActionState::ACTION_STATE_QUEUED
        | ActionState::ACTION_STATE_RUNNING
        | ActionState::ACTION_STATE_UNDOING
        | ActionState::ACTION_STATE_CANCELLED
        | ActionState::ACTION_STATE_SKIPPED
        | ActionState::ACTION_STATE_INTERRUPTED => false,
    };
    match (outcome.failed.len(), outcome.error.as_ref()) {
        (1, _) if is_of_some => String::from("one workload did not succeed"),
        (several, _) if is_of_some => format!("{several} workloads did not succeed"),
        (_, Some(detail)) => with_code(detail),
        (_, None) => outcome.message.clone(),
    }
}

/// The sentence with its stable code.
fn with_code(detail: &ErrorDetail) -> String {
    if detail.code.is_empty() { detail.message.clone() } else { format!("{} ({})", detail.message, detail.code) }
}

/// What a google.rpc.Status carries; nothing where there is none or it cannot be read.
fn details(bytes: &[u8]) -> (Option<ErrorDetail>, Option<Outcome>) {
    let (mut detail, mut outcome) = (None, None);
    for any in Status::parse_from_bytes(bytes).unwrap_or_default().details {
        match any.type_url.rsplit('/').next() {
            Some("actioncontroller.v1.ErrorDetail") => detail = ErrorDetail::parse_from_bytes(&any.value).ok(),
            Some("actioncontroller.v1.Outcome") => outcome = Outcome::parse_from_bytes(&any.value).ok(),
            // Details of a newer daemon; what is known says enough.
            Some(_) | None => {}
        }
    }
    (detail, outcome)
}

#[cfg(test)]
mod tests {
    use protobuf::well_known_types::any::Any;

    use super::*;
    use crate::api::{FailedWorkload, StepResult, Verb};

    fn any(name: &str, message: &impl Message) -> Any {
        Any {
            type_url: format!("type.googleapis.com/{name}"),
            value: message.write_to_bytes().unwrap(),
            ..Default::default()
        }
    }

    fn failed(code: RpcStatusCode, details: Vec<Any>) -> RpcError {
        let status = Status { code: code.into(), details, ..Default::default() };
        let bytes = status.write_to_bytes().unwrap();
        RpcError::RpcFailure(RpcStatus::with_details(code, "plain words".to_owned(), bytes))
    }

    fn detail() -> ErrorDetail {
        ErrorDetail {
            code: "INVALID_FIELD".to_owned(),
            message: "grace_ms must be below 3600000".to_owned(),
            field: "parameters.grace_ms".to_owned(),
            hint: "use a shorter grace".to_owned(),
            status: 3,
            ..Default::default()
        }
    }

    fn address() -> Address {
        "127.0.0.1:1".parse().unwrap()
    }

    #[test]
    fn refused_call_shows_sentence_field_and_hint() {
        let error = failed(RpcStatusCode::INVALID_ARGUMENT, vec![any("actioncontroller.v1.ErrorDetail", &detail())]);
        let failure = Failure::of_rpc(error, &address());
        assert_eq!(failure.exit, Exit::Refused);
        assert_eq!(
            failure.render(str::to_owned),
            "error: grace_ms must be below 3600000 (INVALID_FIELD)\n  at: parameters.grace_ms\n  \
             hint: use a shorter grace"
        );
    }

    #[test]
    fn failed_action_shows_its_step_and_what_is_left() {
        let step = StepResult {
            title: "start web_main".to_owned(),
            state: StepState::STEP_STATE_FAILED.into(),
            message: "exited with 1".to_owned(),
            ..Default::default()
        };
        let outcome = Outcome {
            action_id: "a-1".to_owned(),
            verb: Verb::VERB_LAUNCH.into(),
            target: "web".to_owned(),
            state: ActionState::ACTION_STATE_FAILED.into(),
            error: Some(detail()).into(),
            left: vec!["container web_main".to_owned()],
            steps: vec![step],
            ..Default::default()
        };
        let error = failed(
            RpcStatusCode::INTERNAL,
            vec![any("actioncontroller.v1.ErrorDetail", &detail()), any("actioncontroller.v1.Outcome", &outcome)],
        );
        let failure = Failure::of_rpc(error, &address());
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(
            failure.render(str::to_owned),
            "error: launch of web failed: grace_ms must be below 3600000 (INVALID_FIELD)\n  \
             step: start web_main (failed): exited with 1\n  at: parameters.grace_ms\n  left: container web_main\n  \
             action: a-1\n  hint: use a shorter grace"
        );
    }

    #[test]
    fn workloads_that_failed_are_listed_with_reason_and_hint() {
        let failed = FailedWorkload { name: "log".to_owned(), error: Some(detail()).into(), ..Default::default() };
        let outcome = Outcome {
            verb: Verb::VERB_UPDATE.into(),
            target: "lane".to_owned(),
            state: ActionState::ACTION_STATE_FAILED.into(),
            error: Some(ErrorDetail { message: "1 of 2 workloads failed: log: ...".to_owned(), ..detail() }).into(),
            failed: vec![failed],
            ..Default::default()
        };
        let failure = Failure::of_outcome(outcome);
        assert_eq!(failure.exit, Exit::Failed);
        assert_eq!(
            failure.render(str::to_owned),
            "error: update of lane failed: one workload did not succeed\n  \
             failed: log: grace_ms must be below 3600000 (INVALID_FIELD)\n  hint: log: use a shorter grace\n  \
             at: parameters.grace_ms"
        );
    }

    #[test]
    fn unreachable_daemon_is_told_from_one_whose_engine_is_away() {
        let away = Failure::of_rpc(failed(RpcStatusCode::UNAVAILABLE, vec![]), &address());
        assert!(away.render(str::to_owned).contains("cannot reach the daemon at 127.0.0.1:1"));
        assert!(away.render(str::to_owned).contains("systemctl status actioncontroller"));

        let engine = vec![any("actioncontroller.v1.ErrorDetail", &detail())];
        let engine = Failure::of_rpc(failed(RpcStatusCode::UNAVAILABLE, engine), &address());
        assert!(!engine.render(str::to_owned).contains("cannot reach"));
        assert_eq!((away.exit, engine.exit), (Exit::Unreachable, Exit::Unreachable));
    }

    #[test]
    fn plain_status_of_another_server_is_shown_in_its_words() {
        let failure = Failure::of_rpc(failed(RpcStatusCode::PERMISSION_DENIED, vec![]), &address());
        assert_eq!(failure.render(str::to_owned), "error: plain words");
    }

    #[test]
    fn details_that_cannot_be_read_do_not_hide_the_message() {
        let status = RpcStatus::with_details(RpcStatusCode::NOT_FOUND, "no such thing".to_owned(), vec![0xff, 0xff]);
        let failure = Failure::of_rpc(RpcError::RpcFailure(status), &address());
        assert_eq!(failure.render(str::to_owned), "error: no such thing");
    }

    #[test]
    fn terminal_controls_in_foreign_texts_are_shown_and_not_obeyed() {
        let failure = Failure::new(Exit::Failed, "bad \u{1b}[2J image\nsecond line");
        assert_eq!(failure.render(str::to_owned), "error: bad \\u{1b}[2J image\n    second line");
    }
}
