//! [`Exit`]: what the program's exit code says, and which failure becomes which code.
//!
//! The numbers are part of the interface: scripts branch on them, and they never change. They are listed in the help
//! and in the manual page, both from [`TABLE`].

use std::fmt::Write as _;

use grpcio::RpcStatusCode;

use crate::api::{ActionState, Outcome};

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exit {
    /// What was asked for is so.
    Ok,
    /// The action was begun and failed, or the daemon itself did.
    Failed,
    /// The command line is wrong, or a file that it names cannot be read. Nothing was sent.
    Usage,
    /// Refused before any effect.
    Refused,
    /// The time was over.
    Timeout,
    /// The daemon, or what it needs for this, does not answer. A later try may work.
    Unreachable,
    /// The action was cancelled.
    Cancelled,
    /// Interrupted from the keyboard; the action goes on.
    Interrupted,
    /// The code of the command that `exec` ran.
    Command(u8),
    /// A failure of `exec` itself, kept apart from the codes of the command.
    Exec(ExecFailure),
}

/// The failures of `exec` itself: those of [`Exit`] moved by 120, as `timeout` (124) and container engines (125) do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExecFailure {
    /// [`Exit::Failed`].
    Failed,
    /// [`Exit::Usage`].
    Usage,
    /// [`Exit::Refused`].
    Refused,
    /// [`Exit::Timeout`].
    Timeout,
    /// [`Exit::Unreachable`].
    Unreachable,
    /// [`Exit::Cancelled`].
    Cancelled,
}

/// Every code of the program's own, with its meaning for the help.
pub const TABLE: &[(Exit, &str)] = &[
    (Exit::Ok, "what was asked for is so"),
    (Exit::Failed, "the action was begun and failed; what is left is listed"),
    (Exit::Usage, "wrong command line or unreadable file; nothing was sent"),
    (Exit::Refused, "refused before any effect: invalid, denied, not found, exists already, wrong state, a limit"),
    (Exit::Timeout, "the time was over"),
    (Exit::Unreachable, "the daemon, or what it needs, does not answer; a later try may work"),
    (Exit::Cancelled, "the action was cancelled"),
    (Exit::Interrupted, "interrupted twice from the keyboard; the action goes on"),
];

impl Exit {
    /// The number that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Timeout => 4,
            Self::Unreachable => 5,
            Self::Cancelled => 6,
            Self::Interrupted => 130,
            Self::Command(code) => code,
            Self::Exec(ExecFailure::Failed) => 121,
            Self::Exec(ExecFailure::Usage) => 122,
            Self::Exec(ExecFailure::Refused) => 123,
            Self::Exec(ExecFailure::Timeout) => 124,
            Self::Exec(ExecFailure::Unreachable) => 125,
            Self::Exec(ExecFailure::Cancelled) => 126,
        }
    }

    /// The same failure as one of `exec` itself; what is no failure stays as it is.
    pub fn of_exec(self) -> Self {
        match self {
            Self::Failed => Self::Exec(ExecFailure::Failed),
            Self::Usage => Self::Exec(ExecFailure::Usage),
            Self::Refused => Self::Exec(ExecFailure::Refused),
            Self::Timeout => Self::Exec(ExecFailure::Timeout),
            Self::Unreachable => Self::Exec(ExecFailure::Unreachable),
            Self::Cancelled => Self::Exec(ExecFailure::Cancelled),
            Self::Ok | Self::Interrupted | Self::Command(_) | Self::Exec(_) => self,
        }
    }

    /// Of a call that failed with this gRPC status code and without an action having begun.
    pub fn of_status(status: RpcStatusCode) -> Self {
        match status {
            RpcStatusCode::OK => Self::Ok,
            RpcStatusCode::INVALID_ARGUMENT
            | RpcStatusCode::NOT_FOUND
            | RpcStatusCode::ALREADY_EXISTS
            | RpcStatusCode::PERMISSION_DENIED
            | RpcStatusCode::UNAUTHENTICATED
            | RpcStatusCode::FAILED_PRECONDITION
            | RpcStatusCode::OUT_OF_RANGE
            | RpcStatusCode::RESOURCE_EXHAUSTED
            | RpcStatusCode::ABORTED
            | RpcStatusCode::UNIMPLEMENTED => Self::Refused,
            RpcStatusCode::DEADLINE_EXCEEDED => Self::Timeout,
            RpcStatusCode::UNAVAILABLE => Self::Unreachable,
            RpcStatusCode::CANCELLED => Self::Cancelled,
            // UNKNOWN, INTERNAL, DATA_LOSS, and numbers that gRPC does not define.
            _ => Self::Failed,
        }
    }

    /// Of an action that came to this outcome. One whose time was over is a timeout in whatever state it ended; one
    /// that was refused because a peer is away is not a refusal, since repeating it is of use.
    pub fn of_outcome(outcome: &Outcome) -> Self {
        let status = outcome.error.as_ref().map_or(RpcStatusCode::OK, |error| RpcStatusCode::from(error.status));
        let late = status == RpcStatusCode::DEADLINE_EXCEEDED;
        match outcome.state.enum_value_or_default() {
            // A part that failed is a failure, whatever the whole is called.
            ActionState::ACTION_STATE_SUCCEEDED if !outcome.failed.is_empty() => Self::Failed,
            ActionState::ACTION_STATE_QUEUED
            | ActionState::ACTION_STATE_RUNNING
            | ActionState::ACTION_STATE_UNDOING
            | ActionState::ACTION_STATE_SUCCEEDED => Self::Ok,
            ActionState::ACTION_STATE_FAILED | ActionState::ACTION_STATE_CANCELLED if late => Self::Timeout,
            ActionState::ACTION_STATE_CANCELLED => Self::Cancelled,
            ActionState::ACTION_STATE_REFUSED => match Self::of_status(status) {
                Self::Timeout => Self::Timeout,
                Self::Unreachable => Self::Unreachable,
                Self::Cancelled => Self::Cancelled,
                Self::Failed => Self::Failed,
                Self::Ok | Self::Usage | Self::Refused | Self::Interrupted | Self::Command(_) | Self::Exec(_) => {
                    Self::Refused
                }
            },
            ActionState::ACTION_STATE_UNSPECIFIED
            | ActionState::ACTION_STATE_FAILED
            | ActionState::ACTION_STATE_SKIPPED
            | ActionState::ACTION_STATE_INTERRUPTED => Self::Failed,
        }
    }
}

/// The table as text, for the help and the manual page.
pub fn table_text() -> String {
    let mut text = String::from("Exit codes:\n");
    for (exit, meaning) in TABLE {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {:>3}  {meaning}", exit.code());
    }
    text.push_str("  Of several actions, the code of the first that did not succeed.\n");
    text.push_str("  exec ends with the command's own code; failures of exec itself add 120: 121 failed, 122 usage,\n");
    text.push_str("  123 refused, 124 timeout, 125 unreachable, 126 cancelled.\n");
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::api::ErrorDetail;

    fn outcome(state: ActionState, status: RpcStatusCode) -> Outcome {
        let error = ErrorDetail { status: status.into(), ..Default::default() };
        Outcome { state: state.into(), error: Some(error).into(), ..Default::default() }
    }

    #[test]
    fn every_code_is_its_own() {
        let codes: BTreeSet<u8> = TABLE.iter().flat_map(|(exit, _)| [exit.code(), exit.of_exec().code()]).collect();
        assert_eq!(codes, BTreeSet::from([0, 1, 2, 3, 4, 5, 6, 130, 121, 122, 123, 124, 125, 126]));
    }

    #[test]
    fn refusals_of_a_call_are_told_from_away_late_and_broken() {
        for refused in [
            RpcStatusCode::INVALID_ARGUMENT,
            RpcStatusCode::NOT_FOUND,
            RpcStatusCode::ALREADY_EXISTS,
            RpcStatusCode::PERMISSION_DENIED,
            RpcStatusCode::FAILED_PRECONDITION,
            RpcStatusCode::RESOURCE_EXHAUSTED,
            RpcStatusCode::UNIMPLEMENTED,
            RpcStatusCode::ABORTED,
        ] {
            assert_eq!(Exit::of_status(refused), Exit::Refused, "{refused}");
        }
        assert_eq!(Exit::of_status(RpcStatusCode::UNAVAILABLE), Exit::Unreachable);
        assert_eq!(Exit::of_status(RpcStatusCode::DEADLINE_EXCEEDED), Exit::Timeout);
        assert_eq!(Exit::of_status(RpcStatusCode::CANCELLED), Exit::Cancelled);
        assert_eq!(Exit::of_status(RpcStatusCode::INTERNAL), Exit::Failed);
    }

    #[test]
    fn begun_action_that_lost_its_engine_is_a_failure_but_a_refused_one_may_be_tried_again() {
        let failed = outcome(ActionState::ACTION_STATE_FAILED, RpcStatusCode::UNAVAILABLE);
        let refused = outcome(ActionState::ACTION_STATE_REFUSED, RpcStatusCode::UNAVAILABLE);
        assert_eq!(Exit::of_outcome(&failed), Exit::Failed);
        assert_eq!(Exit::of_outcome(&refused), Exit::Unreachable);
    }

    #[test]
    fn action_out_of_time_is_a_timeout_in_whatever_state_it_ended() {
        for state in
            [ActionState::ACTION_STATE_FAILED, ActionState::ACTION_STATE_CANCELLED, ActionState::ACTION_STATE_REFUSED]
        {
            assert_eq!(Exit::of_outcome(&outcome(state, RpcStatusCode::DEADLINE_EXCEEDED)), Exit::Timeout);
        }
    }

    #[test]
    fn accepted_and_succeeded_actions_are_fine() {
        for state in [ActionState::ACTION_STATE_QUEUED, ActionState::ACTION_STATE_SUCCEEDED] {
            assert_eq!(Exit::of_outcome(&outcome(state, RpcStatusCode::OK)), Exit::Ok);
        }
    }

    #[test]
    fn action_with_a_workload_that_failed_is_no_success() {
        let failed = vec![crate::api::FailedWorkload::default()];
        let whole = outcome(ActionState::ACTION_STATE_SUCCEEDED, RpcStatusCode::OK);
        assert_eq!(Exit::of_outcome(&Outcome { failed, ..whole }), Exit::Failed);
    }

    #[test]
    fn help_names_every_code() {
        let text = table_text();
        for (exit, meaning) in TABLE {
            assert!(text.contains(&format!("{:>3}  {meaning}", exit.code())), "{exit:?}");
        }
    }
}
