//! Checkpoint and restore by crun or runc, with CRIU.
//!
//! A checkpoint looks like a death: conmon writes the exit code of a SIGKILL and ends. The container's folder has a mark
//! from before that until the next start, by which nobody takes it for one. A restore is a start under a new conmon.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use uuid::Uuid;

use super::events::CHECKPOINTED;
use super::lifecycle::Begin;
use super::probe::{PROOF_OF_CHECKPOINTS, write_bundle};
use super::record::Record;
use super::{ENGINE, Engine};
use crate::cancel::Urge;
use crate::cgroup::Cgroups;
use crate::clock::Deadline;
use crate::runtime::adapter::{
    Call, Change, CheckpointImage, CheckpointOptions, EngineEventKind, RestoreTo, RtResult, RuntimeError, unsupported,
};
use crate::runtime::processes::{Which, end_trees};
use crate::runtime::shared::calls::{apart, not_allowed};
use crate::runtime::shared::criu::{last_errors, works_on};
use crate::runtime::shared::durable::kept;
use crate::runtime::shared::program;
use crate::runtime::shared::tiny::TinyRoot;
use crate::runtime::shared::verbs;

/// The folder of CRIU's files in the one that is given for an image.
const IMAGE: &str = "criu";

/// How long conmon may take to end after its container was checkpointed; some milliseconds are usual.
const CONMON_LIMIT: Duration = Duration::from_secs(5);

/// How long what is restored has to be there before it counts.
const LIFE: Duration = Duration::from_millis(100);

impl Engine {
    /// Writes what runs to disk and ends it.
    pub(super) fn checkpoint(&self, call: &Call, id: &str, options: &CheckpointOptions) -> RtResult<CheckpointImage> {
        self.check(call, "checkpoint")?;
        let record = self.records.get(id)?;
        let id = record.id.as_str();
        let folder = options.dir.join(IMAGE);
        fs::create_dir_all(&folder).map_err(|error| kept("making", &folder, &error))?;
        self.bus.set_checkpointing(id, true);
        let written = self.write_image(call, &record, &folder);
        self.bus.set_checkpointing(id, false);
        written?;
        self.bus.tell(&record, EngineEventKind::Hibernated);
        Ok(CheckpointImage { root: options.dir.clone(), parts: vec![PathBuf::from(IMAGE)] })
    }

    /// Has the image written to the folder. A failure leaves the container running.
    fn write_image(&self, call: &Call, record: &Record, folder: &Path) -> RtResult<()> {
        let id = record.id.as_str();
        let mark = self.records.folder(id).join(CHECKPOINTED);
        fs::write(&mark, "").map_err(|error| kept("writing", &mark, &error))?;
        let (image, work) = (folder.display().to_string(), self.records.folder(id).display().to_string());
        let ordered = self.order_checkpoint(call, &image, &work, id);
        let log = self.records.folder(id).join("dump.log");
        if let Err(error) = ordered {
            let error = with_words_of_criu(error, &log);
            self.runs_on(record, folder);
            let _ = fs::remove_file(log);
            return Err(error);
        }
        let _ = fs::remove_file(log);
        self.await_conmon(record);
        let _ = fs::remove_file(self.records.exits().join(id));
        Ok(())
    }

    fn order_checkpoint(&self, call: &Call, image: &str, work: &str, id: &str) -> RtResult<()> {
        let mut words = vec!["checkpoint", "--image-path", image, "--work-path", work];
        let programs = self.programs()?;
        words.extend(programs.words_on_groups());
        words.push(id);
        self.order(call, "checkpoint", &words).map(drop)
    }

    /// After a checkpoint that failed or was cut off: what it froze goes on, and what it wrote is deleted. One that was done
    /// just before it was to be ended is taken back.
    fn runs_on(&self, record: &Record, folder: &Path) {
        end_trees(Which::All, |words| works_on(words, "checkpoint", &record.id));
        if let Ok(groups) = Cgroups::read()
            && groups.is_frozen(&self.group(&record.id))
            && let Err(error) = groups.thaw(&self.group(&record.id))
        {
            log::error!("container '{}' stays frozen by a failed checkpoint: {error}", record.config.name);
        }
        if !self.is_alive(record) && folder.join("inventory.img").exists() {
            let taken_back = apart(|call| self.begin(call, record, Begin::Restored(folder)));
            if let Err(error) = taken_back {
                log::error!("container '{}' was checkpointed in vain and does not go on: {error}", record.config.name);
            }
        }
        self.records.unmark(&record.id);
        if let Err(error) = fs::remove_dir_all(folder) {
            log::warn!("'{}' of a failed checkpoint stays: {error}", folder.display());
        }
        // A death meanwhile was taken for the checkpoint's.
        self.note_death(record);
    }

    /// Waits until conmon has ended, which writes the exit code before; ends it where it does not.
    pub(super) fn await_conmon(&self, record: &Record) {
        let limit = Deadline::after(CONMON_LIMIT);
        while self.conmon(record).is_some() {
            if limit.is_over() {
                return self.end_conmon(record);
            }
            apart(|call| call.cancel.wait(Urge::Cancel, limit.at_most(Duration::from_millis(2))));
        }
    }

    /// Lets it go on from an image that is whole.
    pub(super) fn restore(&self, call: &Call, id: &str, image: &CheckpointImage, to: RestoreTo) -> RtResult<Change> {
        self.check(call, "restore")?;
        let record = self.records.get(id)?;
        let Some(part) = image.parts.first() else {
            return Err(RuntimeError::InvalidSpec { reason: format!("the checkpoint of '{id}' has no files") });
        };
        let log = self.records.folder(&record.id).join("restore.log");
        let begun = self.begin(call, &record, Begin::Restored(&image.root.join(part)));
        let restored = begun.map_err(|error| match with_words_of_criu(error, &log) {
            // The checkpoint is whole: this is something of the node's that it needs, and it stays hibernated.
            RuntimeError::InvalidSpec { reason } => RuntimeError::Io { what: format!("restoring '{id}'"), reason },
            error => error,
        });
        // From a damaged image it may be gigabytes.
        let _ = fs::remove_file(log);
        restored?;
        self.bus.tell(&record, EngineEventKind::Woken);
        match to {
            RestoreTo::Running => Ok(Change::Changed),
            RestoreTo::Paused => verbs::pause(self, call, &record.id),
        }
    }

    /// Checkpoints and restores something tiny.
    pub(super) fn prove_checkpoints(&self, call: &Call) -> RtResult<()> {
        self.check(call, "the proof of checkpoints")?;
        let id = format!("{PROOF_OF_CHECKPOINTS}{}", Uuid::now_v7().simple());
        let root = TinyRoot::make(&self.settings.dir)?;
        let bundle = self.settings.dir.join(&id);
        write_bundle(&bundle, root.path(), &self.group(&id), &["/bin/sleep", "600"])?;
        let proved = self.checkpoint_tiny(call, &id, &bundle);
        let deleted = apart(|call| {
            end_trees(Which::All, |words| words.contains(&id));
            if !self.settings.run_dir.join(&id).exists() {
                return Ok(());
            }
            self.order(call, "remove", &["delete", "--force", &id]).map(drop)
        });
        if let Err(error) = deleted {
            log::warn!("the container of the proof of checkpoints, '{id}', stays: {error}");
        }
        let _ = fs::remove_dir_all(self.settings.run_dir.join(&id));
        if let Ok(groups) = Cgroups::read() {
            groups.remove(&self.group(&id));
        }
        let _ = fs::remove_dir_all(&bundle);
        match proved {
            Ok(()) => Ok(()),
            Err(error @ RuntimeError::Cancelled { .. }) => Err(error),
            Err(error) => Err(unsupported(ENGINE, format!("checkpoint: a proof of it failed: {error}"))),
        }
    }

    fn checkpoint_tiny(&self, call: &Call, id: &str, bundle: &Path) -> RtResult<()> {
        let path = |name: &str| bundle.join(name).display().to_string();
        let (image, work, bundle) = (path("image"), path("work"), bundle.display().to_string());
        for folder in [&image, &work] {
            fs::create_dir(folder).map_err(|error| kept("making", Path::new(folder), &error))?;
        }
        self.leave(call, &["run", "--detach", "--bundle", &bundle, id])?;
        let dumped = self.order_checkpoint(call, &image, &work, id);
        dumped.map_err(|error| with_words_of_criu(error, &Path::new(&work).join("dump.log")))?;
        let mut words = vec!["restore", "--detach", "--bundle", &bundle, "--image-path", &image, "--work-path", &work];
        let programs = self.programs()?;
        words.extend(programs.words_on_groups());
        words.push(id);
        let restored = self.leave(call, &words);
        restored.map_err(|error| with_words_of_criu(error, &Path::new(&work).join("restore.log")))?;
        // One that is restored wrongly dies at once.
        if call.cancel.wait(Urge::Cancel, Deadline::after(LIFE)) == Urge::Cancel {
            return Err(RuntimeError::Cancelled { op: "the proof of checkpoints".to_owned() });
        }
        let told = self.order(call, "state", &["state", id])?;
        let state: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap_or_default();
        match state["status"].as_str() {
            Some("running") => Ok(()),
            _ => {
                let now = crate::model::state::ContainerStatus::Exited { code: None, oom: false };
                Err(not_allowed("the proof of checkpoints", id, &now))
            }
        }
    }

    /// Has the runtime leave a process behind; it says why not in a file.
    fn leave(&self, call: &Call, words: &[&str]) -> RtResult<()> {
        let log = self.settings.dir.join(format!("log-{}", Uuid::now_v7().simple()));
        let mut command = Command::new(&self.programs()?.runtime);
        self.prepare(&mut command);
        command.arg("--root").arg(&self.settings.run_dir).arg("--log").arg(&log).args(words);
        let op = words.first().copied().unwrap_or_default();
        let left = program::run_quietly(&mut command, call, op);
        let said = crate::cgroup::text(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        let status = left?;
        if status.success() {
            return Ok(());
        }
        let message = super::conmon::complaint(&said);
        let code = i64::from(status.code().unwrap_or(-1));
        Err(RuntimeError::Engine { engine: ENGINE.to_owned(), op: op.to_owned(), code, message })
    }
}

/// The failure with what CRIU says of it: the runtime tells no more than that there was one.
fn with_words_of_criu(error: RuntimeError, log: &Path) -> RuntimeError {
    match (error, last_errors(log)) {
        (RuntimeError::Engine { engine, op, code, message }, Some(reason)) => {
            RuntimeError::Engine { engine, op, code, message: format!("{reason} ({message})") }
        }
        (error, _) => error,
    }
}
