//! Hibernation in front of the simulator, where its engine fails or changes behind its back. What it does for every
//! engine is proved by the conformance suite in `tests/it/conformance`.

use std::sync::Arc;
use std::time::Duration;

use super::images::{Record, Stage};
use super::{Hibernation, HibernationConfig};
use crate::cancel::CancelToken;
use crate::model::state::ContainerStatus;
use crate::model::workload::labels;
use crate::runtime::adapter::{Call, Change, CheckpointImage, RestoreTo, RuntimeAdapter, RuntimeError, StopOptions};
use crate::runtime::double;
use crate::runtime::processes::boot;
use crate::runtime::sim::SimRuntime;
use crate::runtime::sim::config::{SimConfig, SimFailure, SimFailureKind, SimFault, SimOp};

const LONG: Duration = Duration::from_secs(60);

struct Rig {
    engine: Arc<SimRuntime>,
    hibernation: Hibernation,
    cancel: CancelToken,
    // Ends with its images.
    _dir: tempfile::TempDir,
}

impl Rig {
    fn new(faults: Vec<SimFault>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Arc::new(SimRuntime::open(SimConfig { faults, ..SimConfig::default() }, "here").unwrap());
        let config = HibernationConfig {
            dir: dir.path().to_owned(),
            max_bytes: 1 << 40,
            checkpoint_limit: LONG,
            restore_limit: LONG,
        };
        let hibernation = Hibernation::open(Arc::clone(&engine) as _, config).unwrap();
        Self { engine, hibernation, cancel: CancelToken::new(), _dir: dir }
    }

    /// Begun again after an end in the middle of a checkpoint.
    fn with_begun(self, id: &str, image: Option<CheckpointImage>) -> Self {
        let instance = self.engine.inspect_container(&self.call(), id).unwrap();
        let record = Record {
            id: id.to_owned(),
            name: instance.name,
            started_ms: instance.started_ms,
            boot: boot(),
            stage: Stage::Begun,
            image,
            files: Vec::new(),
        };
        self.hibernation.images.put(record).unwrap();
        let config = self.hibernation.config.clone();
        let hibernation = Hibernation::open(Arc::clone(&self.engine) as _, config).unwrap();
        Self { hibernation, ..self }
    }

    fn call_within(&self, budget: Duration) -> Call<'_> {
        double::call(&self.cancel, budget)
    }

    fn call(&self) -> Call<'_> {
        self.call_within(LONG)
    }

    fn create(&self, name: &str) -> String {
        let mut container = double::config(name);
        container.spec.command = ["sleep", "1000"].map(str::to_owned).to_vec();
        container.spec.args.clear();
        self.hibernation.create_container(&self.call(), &container).unwrap().id
    }

    fn run(&self, name: &str) -> String {
        let id = self.create(name);
        self.hibernation.start_container(&self.call(), &id).unwrap();
        id
    }

    fn hibernated(&self, name: &str) -> String {
        let id = self.run(name);
        assert_eq!(self.hibernation.hibernate_container(&self.call(), &id), Ok(Change::Changed));
        id
    }

    fn wake(&self, id: &str) -> Result<Change, RuntimeError> {
        self.hibernation.wake_container(&self.call(), id, RestoreTo::Running)
    }

    fn status(&self, id: &str) -> ContainerStatus {
        self.hibernation.inspect_container(&self.call(), id).unwrap().status
    }

    /// Removes it on the engine itself, as an operator does.
    fn remove_behind(&self, id: &str) {
        self.engine.remove_container(&self.call(), id, true).unwrap();
    }
}

fn fault(op: SimOp) -> SimFault {
    SimFault { op: Some(op), nth: Some(1), ..SimFault::default() }
}

#[test]
fn restore_that_fails_once_it_is_done_leaves_a_container_that_runs_and_whose_end_is_an_end() {
    let fail = Some(SimFailure { kind: SimFailureKind::Connection, message: "the answer is lost".to_owned() });
    let rig = Rig::new(vec![SimFault { fail, after_effect: true, ..fault(SimOp::Restore) }]);
    let id = rig.hibernated("a");
    assert!(rig.wake(&id).is_err());
    let instance = rig.hibernation.inspect_container(&rig.call(), &id).unwrap();
    assert!(instance.status.is_running() && instance.annotations.contains_key(labels::WOKEN), "{instance:?}");
    assert_eq!(rig.wake(&id), Ok(Change::Unchanged));
    rig.hibernation.stop_container(&rig.call(), &id, &StopOptions::kill()).unwrap();
    assert!(matches!(rig.status(&id), ContainerStatus::Exited { .. }), "{:?}", rig.status(&id));
}

#[test]
fn run_that_goes_on_after_an_unfinished_checkpoint_ends_as_any_other() {
    let rig = Rig::new(Vec::new());
    let id = rig.run("a");
    let rig = rig.with_begun(&id, None);
    assert!(rig.status(&id).is_running());
    rig.hibernation.stop_container(&rig.call(), &id, &StopOptions::kill()).unwrap();
    assert!(matches!(rig.status(&id), ContainerStatus::Exited { .. }), "{:?}", rig.status(&id));
}

#[test]
fn checkpoint_that_was_begun_and_of_which_nothing_is_there_counts_as_an_end() {
    let rig = Rig::new(Vec::new());
    let id = rig.run("a");
    rig.engine.stop_container(&rig.call(), &id, &StopOptions::kill()).unwrap();
    let nowhere = CheckpointImage { root: "/nowhere".into(), parts: vec!["pages".into()] };
    let rig = rig.with_begun(&id, Some(nowhere));
    assert_eq!(rig.status(&id), ContainerStatus::Hibernated, "nobody knows better before it is woken");
    assert!(rig.wake(&id).unwrap_err().to_string().contains("damaged"));
    assert!(matches!(rig.status(&id), ContainerStatus::Exited { .. }), "{:?}", rig.status(&id));
}

#[test]
fn checkpoint_of_a_container_that_somebody_else_removed_takes_no_room() {
    let rig = Rig::new(Vec::new());
    let gone = rig.hibernated("gone");
    let kept = rig.hibernated("kept");
    let both = rig.hibernation.images.bytes();
    rig.remove_behind(&gone);
    rig.hibernated("new");
    assert!(rig.hibernation.images.find(&gone).is_none());
    assert!(rig.hibernation.images.find(&kept).is_some());
    assert!(rig.hibernation.images.bytes() < both * 3 / 2, "one came and one went");
    let folder = rig.hibernation.dir().join("sim").join(format!("{gone}.image"));
    assert!(!folder.exists(), "its image is deleted");
    assert_eq!(rig.wake(&kept), Ok(Change::Changed));
}

#[test]
fn container_with_the_name_of_one_that_is_gone_is_not_taken_for_it() {
    let rig = Rig::new(Vec::new());
    let old = rig.hibernated("a");
    rig.remove_behind(&old);
    let new = rig.run("a");
    assert!(rig.hibernation.images.find("a").is_none());
    assert!(rig.hibernation.stop_container(&rig.call(), "a", &StopOptions::kill()).is_ok());
    assert!(matches!(rig.status(&new), ContainerStatus::Exited { .. }), "{:?}", rig.status(&new));
}

#[test]
fn proof_whose_caller_is_out_of_time_says_nothing_of_checkpoints() {
    let rig = Rig::new(vec![SimFault { hang: true, ..fault(SimOp::ProveCheckpoint) }]);
    let id = rig.run("a");
    let late = rig.hibernation.hibernate_container(&rig.call_within(Duration::from_millis(200)), &id);
    assert!(matches!(late, Err(RuntimeError::Timeout { .. })), "{late:?}");
    assert_eq!(rig.hibernation.hibernate_container(&rig.call(), &id), Ok(Change::Changed));
}
