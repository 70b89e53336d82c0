//! Commands inside a container, and waiting for its end.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use uuid::Uuid;

use super::record::Record;
use super::{ENGINE, Engine, said};
use crate::cancel::Urge;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{Call, ExecOutcome, MAX_EXEC_OUTPUT, RtResult, RuntimeError};
use crate::runtime::logfile::reader::IsOver;
use crate::runtime::processes::end_tree;
use crate::runtime::shared::calls::{late, not_allowed};
use crate::runtime::shared::program;
use crate::runtime::shared::verbs::{self, SLOWEST_POLL};

impl Engine {
    /// Runs a command as the container's own user, without a terminal. At the call's end the command is killed too.
    pub(super) fn exec(&self, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
        const OP: &str = "exec";
        self.check(call, "exec")?;
        let record = self.records.get(id)?;
        if argv.is_empty() {
            return Err(RuntimeError::InvalidSpec { reason: "exec: the command is empty".to_owned() });
        }
        let status = self.status(&record);
        if !status.is_running() {
            return Err(not_allowed(OP, id, &status));
        }
        let pid_file = self.records.folder(&record.id).join(format!("exec-{}", Uuid::now_v7().simple()));
        let mut command = Command::new(&self.programs()?.runtime);
        self.prepare(&mut command);
        command.arg("--root").arg(&self.settings.run_dir).arg(OP).arg("--pid-file").arg(&pid_file);
        command.arg(&record.id).args(argv);
        let ended = program::run(&mut command, call, OP, MAX_EXEC_OUTPUT);
        let pid = crate::cgroup::text(&pid_file).and_then(|pid| pid.parse::<i32>().ok());
        let _ = fs::remove_file(&pid_file);
        let ended = ended.inspect_err(|_| self.kill_inside(&record, pid))?;
        match ended.status.code() {
            // It tells what it cannot run like a command that fails.
            Some(code) if pid.is_none() => {
                let (engine, op, code) = (ENGINE.to_owned(), OP.to_owned(), i64::from(code));
                Err(RuntimeError::Engine { engine, op, code, message: said(&ended) })
            }
            Some(exit_code) => {
                let program::Ended { stdout, stderr, truncated, .. } = ended;
                Ok(ExecOutcome { exit_code, stdout, stderr, truncated })
            }
            None => Err(super::io("exec", &std::io::Error::other(ended.status.to_string()))),
        }
    }

    /// Ends a command that nobody waits for with all that it has started, where its number is still one of the container's.
    fn kill_inside(&self, record: &Record, pid: Option<i32>) {
        if let Some(pid) = pid.filter(|pid| self.is_inside(record, *pid)) {
            end_tree(pid);
        }
    }

    /// Blocks until the container has ended; its exit code, `None` where it was lost.
    pub(super) fn wait(&self, call: &Call, id: &str, begun: Instant) -> RtResult<Option<i32>> {
        verbs::await_start(self, call, id)?;
        loop {
            let record = self.records.get(id)?;
            if let ContainerStatus::Exited { code, .. } = self.status(&record) {
                return Ok(code);
            }
            if call.deadline.is_over() {
                return Err(late("wait", begun));
            }
            self.bus.await_change(call.deadline.at_most(SLOWEST_POLL));
            if call.cancel.urge() == Urge::Cancel {
                return Err(RuntimeError::Cancelled { op: "wait".to_owned() });
            }
        }
    }
}

/// Says when nothing more will be written to the log: the container has ended, or is gone.
pub(super) fn is_over(engine: &Arc<Engine>, record: &Arc<Record>) -> IsOver {
    let (engine, id) = (Arc::clone(engine), record.id.clone());
    Box::new(move || Ok(engine.records.find(&id).is_none_or(|record| !engine.status(&record).is_live())))
}
