//! Exclusive CPUs beside actions: the ledger held against records and against what runs, at the start of the daemon and
//! whenever something has happened on an engine or with the ledger.
//!
//! What a workload holds is freed here where it has ended by itself and is not started again, where it is not known any
//! more, and where an action was undone later. Nothing is decided here of a workload that an intent or a repair is about.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvError, Sender, bounded, select};

use super::restarts::asks_for_restart;
use crate::cancel::CancelToken;
use crate::clock::{Clock, Deadline};
use crate::error::Result;
use crate::events::HubEvent;
use crate::model::cores::Holding;
use crate::model::state::ContainerStatus;
use crate::model::workload::labels;
use crate::realtime::keeper::{CoreKeeper, Read};
use crate::runtime::adapter::{Call, ListFilter, NoProgress};
use crate::runtime::registry::EngineRegistry;
use crate::storage::StoreError;
use crate::storage::records::{Changes, Desired, Records, WorkloadRecord};

/// The time that the node's own store has.
const STORE_BUDGET: Duration = Duration::from_secs(5);

/// The time of a look at everything.
const LOOK_BUDGET: Duration = Duration::from_secs(30);

/// After a look that could not be finished, or did not bring about what it should, the next one comes so much later by
/// itself.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// What is looked at.
pub struct CoreSources {
    /// The ledger.
    pub keeper: Arc<CoreKeeper>,
    /// Records, intents and repairs.
    pub records: Records,
    /// The engines.
    pub engines: Arc<EngineRegistry>,
    /// Wall-clock time.
    pub clock: Arc<dyn Clock>,
    /// This node.
    pub node: String,
}

/// The thread's handle.
pub struct CoreWatch {
    stop: Sender<Infallible>,
    cancel: CancelToken,
    thread: JoinHandle<()>,
}

impl CoreWatch {
    /// Starts the thread, which looks at everything once.
    pub fn start(sources: CoreSources) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let cancel = CancelToken::new();
        let token = cancel.clone();
        sources.keeper.nudge();
        let run = move || sources.run(&stopped, &token);
        let thread = thread::Builder::new().name("cores".to_owned()).spawn(run)?;
        Ok(Self { stop, cancel, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.cancel.cancel("the daemon is stopping");
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the thread of exclusive CPUs panicked");
        }
    }
}

/// What is told of the engines to have everything looked at again.
pub fn waker(keeper: &Arc<CoreKeeper>) -> impl Fn(&HubEvent) + Send + Sync + 'static {
    let keeper = Arc::clone(keeper);
    move |event| match event {
        HubEvent::Disconnected { .. } => {}
        HubEvent::Listed { .. }
        | HubEvent::Started(_)
        | HubEvent::Stopped { .. }
        | HubEvent::Removed(_)
        | HubEvent::Hibernated(_)
        | HubEvent::Woken(_)
        | HubEvent::Reconnected { .. } => keeper.nudge(),
    }
}

impl CoreSources {
    fn run(&self, stopped: &Receiver<Infallible>, cancel: &CancelToken) {
        let nudges = self.keeper.nudges();
        let mut is_first = true;
        let mut again = crossbeam_channel::never();
        loop {
            select! {
                recv(nudges) -> _ => {}
                recv(again) -> _ => {}
                recv(stopped) -> end => match end {
                    Ok(never) => match never {},
                    Err(RecvError) => return,
                },
            }
            let call = Call { deadline: Deadline::after(LOOK_BUDGET), cancel, progress: &NoProgress };
            let regained = if std::mem::take(&mut is_first) { self.regain(&call) } else { Ok(()) };
            let tidied = regained.and_then(|()| self.tidy(&call));
            let looked = tidied.and_then(|()| self.keeper.sweep(&call, BTreeSet::new()));
            again = match looked {
                Ok(swept) => {
                    swept.log();
                    // An engine that did not answer is told of once it does.
                    match swept.problems.is_empty() {
                        true => crossbeam_channel::never(),
                        false => crossbeam_channel::after(LOOK_AGAIN),
                    }
                }
                Err(error) => {
                    crate::limited!(log::Level::Warn, "exclusive CPUs could not be looked after: {error}");
                    crossbeam_channel::after(LOOK_AGAIN)
                }
            };
        }
    }

    /// Workloads that something is still to be decided about; `None` where that is not known.
    fn undecided(&self) -> Result<Option<BTreeSet<String>>> {
        let deadline = Deadline::after(STORE_BUDGET);
        let (intents, repairs) = (self.records.intents(deadline)?, self.records.repairs(deadline)?);
        if !intents.damaged.is_empty() || !repairs.damaged.is_empty() {
            return Ok(None);
        }
        let all = intents.whole.into_iter().chain(repairs.whole).map(|record| record.value);
        let names = all.flat_map(|intent| intent.existed.into_keys().chain(intent.cores.into_keys()));
        Ok(Some(names.collect()))
    }

    /// Frees what is damaged or held twice, before anything is asked for, and tells of CPUs that are offline. Reports each
    /// to the log.
    pub fn repair(&self) -> Result<()> {
        let Read { ledger, revision, refused } = self.keeper.read()?;
        let mut changes = Changes::new();
        for (workload, why) in &refused {
            log::warn!("the CPUs of workload '{workload}' are freed: {why}");
            changes.delete_holding(workload);
        }
        if !changes.is_empty() {
            changes.take_cores(revision, "repair");
            self.records.commit(changes, Deadline::after(STORE_BUDGET))?;
        }
        if ledger.holdings().is_empty() {
            return Ok(());
        }
        let online = self.keeper.grounds()?.topology.online;
        for (workload, holding) in ledger.holdings() {
            let offline = holding.cpus.without(&online);
            if !offline.is_empty() {
                log::warn!("workload '{workload}' holds CPUs that are offline: {offline}");
            }
        }
        Ok(())
    }

    /// Gives what runs and has lost what it asks for its CPUs again, and reports each to the log.
    fn regain(&self, call: &Call) -> Result<()> {
        let records = self.records.workloads(Deadline::after(STORE_BUDGET))?.whole.into_iter();
        let asks = |record: &WorkloadRecord| record.spec.cores.is_some() && record.spec.delegate.is_none();
        let records: Vec<_> = records.map(|record| record.value).filter(asks).collect();
        if records.is_empty() {
            return Ok(());
        }
        let Read { mut ledger, revision, .. } = self.keeper.read()?;
        let (grounds, Some(undecided)) = (self.keeper.grounds()?, self.undecided()?) else { return Ok(()) };
        let mut changes = Changes::new();
        for record in &records {
            let (name, Some(request)) = (&record.spec.name, &record.spec.cores) else { continue };
            let is_held = ledger.of_workload(name).is_some() || undecided.contains(name);
            if is_held || record.desired == Desired::Stopped || self.is_used(record, call) != Some(true) {
                continue;
            }
            match ledger.reserve(name, request, &grounds, (&record.action_id, self.clock.now_ms())) {
                Ok(cpus) => log::warn!("workload '{name}' held no CPUs and gets {cpus} again"),
                Err(refusal) => log::error!("workload '{name}' has lost its CPUs: {refusal}"),
            }
            if let Some(holding) = ledger.of_workload(name) {
                changes.put_holding(name, holding)?;
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        changes.take_cores(revision, "repair");
        Ok(self.records.commit(changes, Deadline::after(STORE_BUDGET))?)
    }

    /// Frees what is held and not used any more.
    fn tidy(&self, call: &Call) -> Result<()> {
        let Read { mut ledger, revision, .. } = self.keeper.read()?;
        if ledger.holdings().is_empty() {
            return Ok(());
        }
        let Some(undecided) = self.undecided()? else { return Ok(()) };
        let holdings: BTreeMap<String, Holding> = ledger.holdings().clone();
        let mut changes = Changes::new();
        for (workload, holding) in holdings.iter().filter(|(workload, _)| !undecided.contains(*workload)) {
            let record = match self.records.workload(workload, Deadline::after(STORE_BUDGET)) {
                Ok(record) => record.map(|found| found.value),
                Err(StoreError::Damaged { .. }) => continue,
                Err(error) => return Err(error.into()),
            };
            if let Some(why) = self.why_freed(record.as_ref(), call) {
                log::info!("CPUs {} of workload '{workload}' are free: {why}", holding.taken());
                changes.delete_holding(workload);
                continue;
            }
            let request = record.as_ref().and_then(|record| record.spec.cores.as_ref());
            let came_to_nothing = request.is_some_and(|request| !request.is_met_by(&holding.cpus));
            if ledger.settle(workload, came_to_nothing)
                && let Some(settled) = ledger.of_workload(workload)
            {
                changes.put_holding(workload, settled)?;
            }
        }
        if changes.is_empty() {
            return Ok(());
        }
        changes.compare_cores(revision);
        match self.records.commit(changes, Deadline::after(STORE_BUDGET)) {
            // Somebody has taken or kept CPUs since: all of this is looked at again.
            Err(StoreError::RevisionMoved { .. }) => self.keeper.nudge(),
            other => other?,
        }
        Ok(())
    }

    /// Why what a workload holds is to be freed; `None` where it is to be kept or that is not known.
    fn why_freed(&self, record: Option<&WorkloadRecord>, call: &Call) -> Option<String> {
        let Some(record) = record else { return Some("it is not known any more".to_owned()) };
        if record.spec.cores.is_none() || record.spec.delegate.is_some() {
            return Some("it does not ask for any".to_owned());
        }
        if record.desired == Desired::Stopped {
            return Some("it is stopped".to_owned());
        }
        (self.is_used(record, call) == Some(false)).then(|| "it has ended".to_owned())
    }

    /// Whether what a workload holds is used, or will be without being asked for; `None` where that is not known.
    fn is_used(&self, record: &WorkloadRecord, call: &Call) -> Option<bool> {
        if record.desired == Desired::Hibernated {
            return Some(true);
        }
        let engine = self.engines.get(&record.engine)?;
        self.engines.check_answers(&engine).ok()?;
        let labels = [(labels::NODE, self.node.as_str()), (labels::WORKLOAD, &record.spec.name)];
        let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        let found = engine.list_containers(call, &ListFilter { all: true, labels }).ok()?;
        let is_there = |status: &ContainerStatus| status.is_live() || *status == ContainerStatus::Hibernated;
        if found.iter().any(|container| is_there(&container.status)) {
            return Some(true);
        }
        let mut containers = record.spec.containers.iter();
        Some(containers.any(|container| {
            let name = record.spec.container_name(&container.name);
            let status = found.iter().find(|instance| instance.name == name).map(|instance| &instance.status);
            let code = if let Some(ContainerStatus::Exited { code, .. }) = status { *code } else { None };
            asks_for_restart(record, code)
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::cgroup::Cgroups;
    use crate::clock::SystemClock;
    use crate::manifest::{Bundle, ExpandOptions, Limits};
    use crate::model::action::Verb;
    use crate::model::cores::CpuSet;
    use crate::realtime::confine::{Kernel, Machine};
    use crate::realtime::cores::CorePolicy;
    use crate::realtime::fake;
    use crate::storage::cores as stored;
    use crate::storage::memory::MemoryStore;
    use crate::storage::{Batch, StateStore, keys};

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn set(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    struct Untouched;

    impl Kernel for Untouched {
        fn write(&self, file: &Path, _: &str) -> std::io::Result<()> {
            panic!("'{}' is written", file.display());
        }
        fn set_affinity(&self, thread: i32, _: &CpuSet) -> std::io::Result<()> {
            panic!("thread {thread} is moved");
        }
    }

    struct Rig {
        devices: tempfile::TempDir,
        store: Arc<MemoryStore>,
        sources: CoreSources,
    }

    /// A node of four CPUs, of which the first is the system's, with an engine that is not configured any more.
    fn rig() -> Rig {
        let devices = tempfile::tempdir().unwrap();
        fake::write(devices.path(), 4, 1, 4);
        let store = Arc::new(MemoryStore::new());
        let (records, engines) = (Records::new(Arc::clone(&store) as _), Arc::new(EngineRegistry::new()));
        let machine = Machine {
            devices: devices.path().to_owned(),
            proc: devices.path().join("proc"),
            groups: Some(Cgroups::default()),
            kernel: Box::new(Untouched),
            own: 1,
        };
        let policy = CorePolicy { reserved: set("0"), isolated: set("") };
        let keeper = CoreKeeper::new(machine, policy, Arc::clone(&engines), records.clone(), "n".to_owned());
        let (keeper, clock) = (Arc::new(keeper), Arc::new(SystemClock));
        Rig { devices, store, sources: CoreSources { keeper, records, engines, clock, node: "n".to_owned() } }
    }

    impl Rig {
        /// Records a workload, with what it asks for and what it holds.
        fn record(&self, name: &str, desired: Desired, asks: &str, holds: &str) {
            let text = format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, annotations: {{actioncontroller.io/exclusive-cpus: \
                 '{asks}'}}}}\nspec: {{containers: [{{name: c, image: i}}]}}\n"
            );
            let bundle = Bundle::parse(&text, &Limits::default()).unwrap();
            let ignore = BTreeSet::new();
            let spec =
                bundle.expand(&ExpandOptions::new(Verb::Launch, name, "n", &ignore)).unwrap().workloads.remove(0);
            let record = WorkloadRecord {
                spec,
                revision: String::new(),
                engine: "gone".into(),
                desired,
                action_id: "before".into(),
                updated_ms: 0,
                previous: None,
                returned_from: String::new(),
                scaled: BTreeMap::new(),
                schedule: None,
            };
            let mut changes = Changes::new();
            changes.put_workload(&record).unwrap();
            if !holds.is_empty() {
                changes.put_holding(name, &holding(holds, None)).unwrap();
            }
            self.sources.records.commit(changes, soon()).unwrap();
        }

        fn held(&self) -> Vec<(String, String)> {
            let holdings = stored::read(&self.sources.records, soon()).unwrap().holdings;
            holdings.into_iter().map(|(workload, holding)| (workload, holding.taken().to_string())).collect()
        }

        fn tidy(&self) {
            let cancel = CancelToken::new();
            let call = Call { deadline: soon(), cancel: &cancel, progress: &NoProgress };
            self.sources.tidy(&call).unwrap();
        }
    }

    fn holding(cpus: &str, before: Option<&str>) -> Holding {
        Holding { cpus: set(cpus), action_id: "before".into(), since_ms: 0, before: before.map(set) }
    }

    #[test]
    fn ledger_is_held_against_the_records_at_start_and_an_offline_cpu_keeps_nobody_from_it() {
        let rig = rig();
        rig.record("keeps", Desired::Running, "1", "1");
        rig.record("lost", Desired::Hibernated, "2", "");
        rig.record("unknown", Desired::Running, "3", "");
        let put = vec![(keys::holding("damaged"), b"{".to_vec())];
        rig.store.commit(Batch { put, ..Batch::default() }, soon()).unwrap();
        fake::set_online(rig.devices.path(), &set("0,2-3"));
        rig.sources.repair().unwrap();
        assert_eq!(rig.held(), [("keeps".into(), "1".into())]);
        let cancel = CancelToken::new();
        let call = Call { deadline: soon(), cancel: &cancel, progress: &NoProgress };
        rig.sources.regain(&call).unwrap();
        assert_eq!(rig.held(), [("keeps".into(), "1".into()), ("lost".into(), "2".into())]);
        assert!(stored::read(&rig.sources.records, soon()).unwrap().damaged.is_empty());
        let told = rig.sources.keeper.look(&call).unwrap();
        assert_eq!(told.problems, ["CPUs 1 are held and offline"]);
        fs::remove_dir_all(rig.devices.path().join("cpu")).unwrap();
        rig.sources.repair().unwrap_err();
        assert_eq!(rig.held().len(), 2, "what the machine does not tell is no reason to forget");
    }

    #[test]
    fn what_nobody_uses_is_freed_and_what_is_not_known_is_kept() {
        let rig = rig();
        rig.record("unknown", Desired::Running, "1", "1");
        rig.record("stopped", Desired::Stopped, "2", "2");
        let mut changes = Changes::new();
        changes.put_holding("nobody", &holding("3", None)).unwrap();
        rig.sources.records.commit(changes, soon()).unwrap();
        rig.tidy();
        assert_eq!(rig.held(), [("unknown".into(), "1".into())]);
    }

    #[test]
    fn change_that_was_undone_returns_to_what_was_held_before() {
        let rig = rig();
        rig.record("back", Desired::Hibernated, "1", "");
        rig.record("forth", Desired::Hibernated, "3", "");
        let mut changes = Changes::new();
        changes.put_holding("back", &holding("2", Some("1"))).unwrap();
        changes.put_holding("forth", &holding("3", Some("0"))).unwrap();
        rig.sources.records.commit(changes, soon()).unwrap();
        rig.tidy();
        assert_eq!(rig.held(), [("back".into(), "1".into()), ("forth".into(), "3".into())]);
    }

    #[test]
    fn commit_of_whoever_looked_before_others_took_is_refused() {
        let rig = rig();
        rig.record("stopped", Desired::Stopped, "2", "2");
        let Read { revision, .. } = rig.sources.keeper.read().unwrap();
        let mut changes = Changes::new();
        changes.take_cores(revision, "other");
        rig.sources.records.commit(changes, soon()).unwrap();
        let mut late = Changes::new();
        late.delete_holding("stopped");
        late.compare_cores(revision);
        let late = rig.sources.records.commit(late, soon());
        assert!(matches!(late, Err(StoreError::RevisionMoved { .. })), "{late:?}");
        assert_eq!(rig.held().len(), 1);
    }
}
