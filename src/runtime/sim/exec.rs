//! Commands inside simulated containers: they run by the same words as containers do, in their own time.

use std::time::Instant;

use crate::runtime::adapter::{Call, ExecOutcome, MAX_EXEC_OUTPUT, RtResult, RuntimeError};

use super::Engine;
use super::config::SimOp;
use super::inside::View;
use super::script::{self, Program};
use super::state::{State, invalid_state};

/// The most of each repeated line that an exec keeps.
const MAX_LINES: u64 = 1_000_000;

/// The exit code of a command that does not exist, as shells have it.
const NOT_THERE: i32 = 127;

/// The exit code of what was killed with its container.
const KILLED: i32 = 137;

/// A command that runs inside a container.
struct Running {
    program: Program,
    began: u64,
    id: String,
    pid: i32,
}

impl Engine {
    pub(super) fn exec(&self, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
        let passage = self.faults.enter(call, SimOp::Exec, &self.name_of(id))?;
        let Some(first) = argv.first() else {
            return Err(RuntimeError::InvalidSpec { reason: "the command is empty".to_owned() });
        };
        let running = self.change(|state, now| begin(state, id, argv, now))?;
        let Some(running) = running else {
            let stderr = format!("{first}: not found\n").into_bytes();
            return passage.leave(ExecOutcome { exit_code: NOT_THERE, stdout: Vec::new(), stderr, truncated: false });
        };
        let waiter = self.lock().wakers.add(call.cancel);
        let outcome = loop {
            if let Err(error) = passage.check() {
                break Err(error);
            }
            match self.look(|state| Ok(running.outcome(state, self.clock.now()))) {
                Err(error) => break Err(error),
                Ok(Some(outcome)) => break Ok(outcome),
                Ok(None) => {}
            }
            let end: Option<Instant> = running.program.end.map(|end| self.clock.instant(running.began + end.at));
            waiter.wait(Some(end.map_or(call.deadline.instant(), |end| end.min(call.deadline.instant()))));
        };
        self.lock().wakers.remove(waiter.number);
        passage.leave(outcome?)
    }
}

/// Begins the command; `None` where the simulator does not know it.
fn begin(state: &mut State, id: &str, argv: &[String], now: u64) -> RtResult<Option<Running>> {
    let container = state.find(id)?;
    let pid = match &container.run {
        Some(run) if container.status().is_running() => run.pid,
        Some(_) | None => return Err(invalid_state("exec", container)),
    };
    let invalid = |reason| RuntimeError::InvalidSpec { reason };
    let Some(directives) = script::read(argv).map_err(invalid)? else { return Ok(None) };
    let (id, config) = (container.id.clone(), container.config.clone());
    let mut view = View { id: &id, config: &config, pods: &state.pods, files: &mut state.files };
    let mut program = Program::start(&directives, &mut view).map_err(invalid)?;
    if !directives.is_empty() {
        program.end_with_output();
    }
    Ok(Some(Running { program, began: now, id, pid }))
}

impl Running {
    /// What it came to, once it has ended or its container has.
    fn outcome(&self, state: &State, now: u64) -> Option<ExecOutcome> {
        let run = state.containers.get(&self.id).and_then(|container| container.run.as_ref());
        let own = now.saturating_sub(self.began);
        let (to, exit_code) = match (run.is_some_and(|run| run.pid == self.pid), self.program.end) {
            (_, Some(end)) if end.at <= own => (end.at, end.code),
            (true, _) => return None,
            (false, _) => (own, KILLED),
        };
        let (mut stdout, mut stderr, mut truncated) = (Vec::new(), Vec::new(), false);
        for line in self.program.lines(None, to, MAX_LINES) {
            let into = if line.stderr { &mut stderr } else { &mut stdout };
            let bytes = (line.text + "\n").into_bytes();
            let room = MAX_EXEC_OUTPUT - into.len();
            truncated |= bytes.len() > room;
            into.extend(bytes.into_iter().take(room));
        }
        Some(ExecOutcome { exit_code, stdout, stderr, truncated })
    }
}
