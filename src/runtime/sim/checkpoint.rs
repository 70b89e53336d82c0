//! Checkpoints of simulated containers: a run that is frozen, written to a file, and goes on from there.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::model::state::{Allowed, Transition};
use crate::runtime::adapter::{
    Call, Change, CheckpointImage, CheckpointOptions, EngineEventKind, RestoreTo, RtResult, RuntimeError,
};

use super::Engine;
use super::config::SimOp;
use super::run::Run;
use super::state::{LastRun, State, invalid_state};

/// The image's one file.
const FILE: &str = "run.json";

/// A run as it is written.
#[derive(Clone, Serialize, Deserialize)]
struct Dumped {
    run: Run,
    /// Up to where its lines are in the log.
    taken: Option<u64>,
}

fn failed(path: &Path, reason: impl ToString) -> RuntimeError {
    RuntimeError::Io { what: format!("the image '{}'", path.display()), reason: reason.to_string() }
}

/// Puts a run back as it was dumped.
fn revive(state: &mut State, id: &str, dumped: &Dumped, now: u64) -> RtResult<()> {
    let pid = state.new_pid();
    let container = state.find_mut(id)?;
    let mut run = dumped.run.clone();
    run.revive(pid, dumped.taken);
    run.thaw(now);
    container.run = Some(run);
    Ok(())
}

impl Engine {
    pub(super) fn prove_checkpoint(&self, call: &Call) -> RtResult<()> {
        self.faults.enter(call, SimOp::ProveCheckpoint, "")?.leave(())
    }

    pub(super) fn checkpoint(&self, call: &Call, id: &str, options: &CheckpointOptions) -> RtResult<CheckpointImage> {
        let passage = self.faults.enter(call, SimOp::Checkpoint, &self.name_of(id))?;
        let path = options.dir.join(FILE);
        let (id, dumped) = self.change(|state, now| {
            let container = state.find_mut(id)?;
            let id = container.id.clone();
            let may = container.status().allows(Transition::Hibernate) == Allowed::Yes;
            let Some(mut run) = container.run.take_if(|_| may) else {
                return Err(invalid_state("checkpoint", container));
            };
            let before = run.clone();
            run.freeze(now);
            let dumped = Dumped { taken: run.taken_up_to(), run };
            let text = serde_json::to_vec(&dumped).map_err(|error| failed(&path, error));
            if let Err(error) = text.and_then(|text| fs::write(&path, text).map_err(|error| failed(&path, error))) {
                container.run = Some(before);
                return Err(error);
            }
            container.last = Some(LastRun { started_ns: before.started_ns, finished_ns: now, code: 137, oom: false });
            Ok((id, dumped))
        })?;
        // What fails from here on leaves it running.
        if let Err(error) = passage.leave(()) {
            self.change(|state, now| revive(state, &id, &dumped, now))?;
            return Err(error);
        }
        self.change(|state, now| {
            state.tell(&id, EngineEventKind::Hibernated, now);
            Ok(())
        })?;
        Ok(CheckpointImage { root: options.dir.clone(), parts: vec![FILE.into()] })
    }

    pub(super) fn restore(&self, call: &Call, id: &str, image: &CheckpointImage, to: RestoreTo) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::Restore, &self.name_of(id))?;
        let path = image.root.join(FILE);
        let text = fs::read(&path).map_err(|error| failed(&path, error))?;
        let dumped: Dumped = serde_json::from_slice(&text).map_err(|error| failed(&path, error))?;
        self.change(|state, now| {
            let container = state.find(id)?;
            if container.run.is_some() {
                return Err(invalid_state("restore", container));
            }
            let id = container.id.clone();
            revive(state, &id, &dumped, now)?;
            state.tell(&id, EngineEventKind::Woken, now);
            if to == RestoreTo::Paused
                && let Some(run) = &mut state.find_mut(&id)?.run
            {
                run.freeze(now);
                state.tell(&id, EngineEventKind::Paused, now);
            }
            Ok(())
        })?;
        passage.leave(Change::Changed)
    }
}
