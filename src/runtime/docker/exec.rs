//! Commands inside a container: a session is made, started and read to its end, then asked for its exit code.
//!
//! A cancel ends the waiting, not the command: Docker has no call that ends a session.

use std::time::{Duration, Instant};

use super::ENGINE;
use super::client::Client;
use super::lifecycle::inspect;
use super::request::{ExecCreate, ExecStart};
use super::status::status;
use super::wire::ExecState;
use crate::cancel::Urge;
use crate::runtime::adapter::{Call, ExecOutcome, RtResult, RuntimeError};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::exchange::{parse, path};
use crate::runtime::rest::output::Demux;
use crate::runtime::rest::wire::MadeId;
use crate::runtime::shared::calls::{late, not_allowed};
use crate::transport::http::{Method, encode};

/// Between two looks at a session whose output has ended and that is not over yet.
const POLL: Duration = Duration::from_millis(20);

/// Runs the command and gives what came of it.
pub(super) fn run(client: &Client, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
    if argv.is_empty() {
        return Err(RuntimeError::InvalidSpec { reason: "exec: the command is empty".to_owned() });
    }
    let container = inspect(client, call, id)?;
    let state = status(&container.state);
    if !state.is_running() {
        return Err(not_allowed("exec", id, &state));
    }
    let create = ExecCreate { cmd: argv, attach_stdout: true, attach_stderr: true };
    let session: MadeId = match client.send(call, "exec", Method::Post, &path(&container.id, "exec"), Some(&create))? {
        Answer::Done(response) => parse(ENGINE, "exec", &response)?,
        Answer::Unchanged => return Err(not_allowed("exec", id, &state)),
        Answer::Refused(failure) if failure.is_conflict() => {
            return Err(not_allowed("exec", id, &status(&inspect(client, call, &container.id)?.state)));
        }
        Answer::Refused(failure) => return Err(failure.into_error()),
    };
    let session = encode(&session.id);
    let start = ExecStart { detach: false, tty: false };
    let body = client.stream(call, "exec", Method::Post, &format!("/exec/{session}/start"), Some(&start))?;
    let outcome = Demux::new(ENGINE, "exec", body).collect()?;
    Ok(ExecOutcome { exit_code: exit_code(client, call, &session)?, ..outcome })
}

/// The exit code comes a little after the end of the output.
fn exit_code(client: &Client, call: &Call, session: &str) -> RtResult<i32> {
    let begun = Instant::now();
    loop {
        let state: ExecState = client.get(call, "exec", &format!("/exec/{session}/json"))?;
        if let (false, Some(code)) = (state.running, state.exit_code) {
            return Ok(code);
        }
        if call.deadline.is_over() {
            return Err(late("exec", begun));
        }
        if call.cancel.wait(Urge::Cancel, call.deadline.at_most(POLL)) == Urge::Cancel {
            return Err(RuntimeError::Cancelled { op: "exec".to_owned() });
        }
    }
}
