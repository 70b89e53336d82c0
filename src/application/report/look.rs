//! [`Looker`]: the thread that looks at one engine and puts what it has on the board.
//!
//! An engine that hangs holds up its own thread alone. Between two looks that find the same, nothing but the list is
//! asked: annotations of a container never change and are read once, records of workloads are read again now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::board::{Board, Closed};
use super::containers::{report, workload};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::model::report::ContainerReport;
use crate::model::workload::WorkloadSpec;
use crate::runtime::adapter::{
    Call, ContainerInstance, ListFilter, NoProgress, RtResult, RuntimeAdapter, RuntimeError,
};
use crate::storage::records::Records;

/// The time of one look.
const LOOK_BUDGET: Duration = Duration::from_secs(5);

/// The time that reading records has.
const READ_BUDGET: Duration = Duration::from_secs(2);

/// After an event: several that come together are looked at once.
const SETTLE: Duration = Duration::from_millis(50);

/// How long a list that stays the same is told from the same records: a Scenario may take over what runs already.
const RECORDS_HOLD: Duration = Duration::from_secs(10);

/// One engine.
pub(super) struct Looker {
    engine: Arc<dyn RuntimeAdapter>,
    node: String,
    records: Records,
    board: Arc<Board>,
    stop: CancelToken,
    /// What was found last, and when records were read for it.
    last: Option<(Vec<ContainerInstance>, Instant)>,
    /// Annotations by container id, where the list has none.
    annotations: BTreeMap<String, BTreeMap<String, String>>,
    /// Workloads by name, as read last.
    specs: BTreeMap<String, WorkloadSpec>,
}

impl Looker {
    /// Looks at `engine`.
    pub fn new(
        engine: Arc<dyn RuntimeAdapter>,
        node: String,
        records: Records,
        board: Arc<Board>,
        stop: CancelToken,
    ) -> Self {
        let (annotations, specs) = (BTreeMap::new(), BTreeMap::new());
        Self { engine, node, records, board, stop, last: None, annotations, specs }
    }

    /// Looks every so often and whenever it is asked to, until the board is closed.
    pub fn run(mut self, every: Duration) {
        while let Ok(was_asked) = self.turn(every) {
            if was_asked {
                self.stop.wait(Urge::Cancel, Deadline::after(SETTLE));
            }
        }
    }

    /// One look, and the wait after it.
    fn turn(&mut self, every: Duration) -> Result<bool, Closed> {
        self.board.wait_for_telling()?;
        let due = Instant::now() + every;
        if let Err(error) = self.look() {
            // That an engine is away is told by the hub; what is known of its containers stays.
            log::debug!("the containers on '{}' are told as they were known last: {error}", self.engine.name());
        }
        let name = self.engine.name();
        Ok(self.board.wait(Some(due), |state| state.take_asked(name).then_some(()))?.is_some())
    }

    fn look(&mut self) -> RtResult<()> {
        let call = Call { deadline: Deadline::after(LOOK_BUDGET), cancel: &self.stop, progress: &NoProgress };
        let filter = ListFilter { all: true, labels: BTreeMap::new() };
        let found = self.engine.list_containers(&call, &filter)?;
        let is_known = |(last, at): &(Vec<_>, Instant)| *last == found && at.elapsed() < RECORDS_HOLD;
        if self.last.as_ref().is_some_and(is_known) {
            return Ok(());
        }
        let is_complete = read_annotations(self.engine.as_ref(), &call, &found, &mut self.annotations);
        self.read_records(&found);
        let reports = found.iter().map(|instance| self.report(instance)).collect();
        self.board.put(self.engine.name(), reports);
        // What could not be read is read by the next look.
        self.last = is_complete.then(|| (found, Instant::now()));
        Ok(())
    }

    fn report(&self, instance: &ContainerInstance) -> ContainerReport {
        let none = BTreeMap::new();
        let annotations = self.annotations.get(&instance.id).unwrap_or(&none);
        let spec = workload(instance, &self.node).and_then(|name| self.specs.get(name));
        report(instance, annotations, spec, &self.node)
    }

    fn read_records(&mut self, found: &[ContainerInstance]) {
        if !found.iter().any(|instance| workload(instance, &self.node).is_some()) {
            return;
        }
        match self.records.workloads(Deadline::after(READ_BUDGET)) {
            Ok(records) => {
                let specs = records.logged().into_iter().map(|record| record.value.spec);
                self.specs = specs.map(|spec| (spec.name.clone(), spec)).collect();
            }
            Err(error) => {
                let engine = self.engine.name();
                crate::limited!(log::Level::Warn, "Packages of containers on '{engine}' are as known last: {error}");
            }
        }
    }
}

/// Reads the annotations of containers that are new, and forgets those of containers that are gone. Says whether all are
/// known.
fn read_annotations(
    engine: &dyn RuntimeAdapter,
    call: &Call<'_>,
    found: &[ContainerInstance],
    known: &mut BTreeMap<String, BTreeMap<String, String>>,
) -> bool {
    let ids: BTreeSet<_> = found.iter().map(|instance| &instance.id).collect();
    known.retain(|id, _| ids.contains(id));
    for instance in found.iter().filter(|instance| instance.annotations.is_empty()) {
        if known.contains_key(&instance.id) {
            continue;
        }
        let annotations = match engine.inspect_container(call, &instance.id) {
            Ok(full) => full.annotations,
            // It is gone again.
            Err(RuntimeError::NotFound { .. }) => BTreeMap::new(),
            Err(error) => {
                log::debug!("the annotations of '{}' are not known yet: {error}", instance.name);
                return false;
            }
        };
        known.insert(instance.id.clone(), annotations);
    }
    true
}
