//! [`CoreKeeper`]: the ledger of exclusive CPUs as it is kept, with the CPUs of this node and the containers on its
//! engines. What it means for actions is `action::cores`, who asks it to look again is `application::cores`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::census::Occupant;
use super::confine::{Foreign, Machine, Problems, Scene};
use super::cores::{CorePolicy, Grounds, Ledger};
use super::topology::Topology;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::cores::{CpuSet, Holding};
use crate::model::workload::labels;
use crate::runtime::adapter::{Call, ListFilter, RtResult, RuntimeAdapter, RuntimeError};
use crate::runtime::registry::EngineRegistry;
use crate::storage::cores as stored;
use crate::storage::records::Records;

/// The time that one engine has to tell what runs on it.
const LIST_BUDGET: Duration = Duration::from_secs(2);

/// The time that the node's own store has.
const STORE_BUDGET: Duration = Duration::from_secs(5);

/// The ledger as it was read.
#[derive(Debug, Clone)]
pub struct Read {
    /// Who holds what.
    pub ledger: Ledger,
    /// Of the key that is compared by who takes or frees.
    pub revision: u64,
    /// Holdings that are not believed, each with why.
    pub refused: BTreeMap<String, String>,
}

/// What came of a look at everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// What could not be done, by workload; the empty name stands for what keeps containers, and for this daemon.
    pub problems: Problems,
    /// Engines that did not tell what runs on them, each with why: that may be on CPUs that are not its.
    pub unknown: BTreeMap<String, String>,
}

impl Swept {
    /// Tells operators what is not as it should be.
    pub fn log(&self) {
        for (of, why) in &self.problems {
            let whose = if of.is_empty() { "what keeps containers" } else { of };
            crate::limited!(log::Level::Warn, "'{whose}' is not where it should be: {why}");
        }
        for (engine, why) in &self.unknown {
            crate::limited!(log::Level::Warn, "what runs on '{engine}' may be on CPUs that others hold: {why}");
        }
    }
}

/// The CPUs of this node as they are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeCores {
    /// The CPUs and which of them may be handed out.
    pub grounds: Grounds,
    /// What each workload holds.
    pub holdings: BTreeMap<String, Holding>,
    /// Processes of others that may run on CPUs that are held.
    pub foreign: Vec<Foreign>,
    /// What is not as it should be, one line each.
    pub problems: Vec<String>,
}

/// Keeps the CPUs of this node.
pub struct CoreKeeper {
    machine: Machine,
    policy: CorePolicy,
    engines: Arc<EngineRegistry>,
    records: Records,
    node: String,
    /// One look at everything at a time.
    work: Mutex<()>,
    nudges: (Sender<()>, Receiver<()>),
    /// What is about to be committed changes the ledger.
    is_noted: AtomicBool,
}

impl CoreKeeper {
    /// A keeper of the CPUs of `machine` for what runs on these engines under this node's name.
    pub fn new(
        machine: Machine,
        policy: CorePolicy,
        engines: Arc<EngineRegistry>,
        records: Records,
        node: String,
    ) -> Self {
        Self {
            machine,
            policy,
            engines,
            records,
            node,
            work: Mutex::default(),
            nudges: bounded(1),
            is_noted: AtomicBool::new(false),
        }
    }

    /// A keeper of the CPUs that this runs on.
    pub fn of_this_machine(
        policy: CorePolicy,
        engines: &Arc<EngineRegistry>,
        records: &Records,
        node: impl Into<String>,
    ) -> Arc<Self> {
        Arc::new(Self::new(Machine::this(), policy, Arc::clone(engines), records.clone(), node.into()))
    }

    /// The CPUs now, and which may be handed out.
    pub fn grounds(&self) -> Result<Grounds> {
        let topology = Topology::read(&self.machine.devices).map_err(|why| {
            let message = format!("the CPUs of this node are not known: {why}");
            Error::new(ErrorKind::FailedPrecondition, ErrorCode::CoresTaken, message)
        })?;
        Ok(Grounds { topology, policy: self.policy.clone() })
    }

    /// The ledger now.
    pub fn read(&self) -> Result<Read> {
        let stored::StoredCores { holdings, damaged, revision } =
            stored::read(&self.records, Deadline::after(STORE_BUDGET))?;
        let (ledger, doubled) = Ledger::of(holdings);
        let mut refused: BTreeMap<_, _> =
            damaged.iter().map(|damaged| (damaged.name().to_owned(), damaged.to_string())).collect();
        for (workload, holding) in doubled {
            refused.insert(workload, format!("CPUs {} are somebody else's, too", holding.cpus));
        }
        Ok(Read { ledger, revision, refused })
    }

    /// Asks whoever looks after this to look at everything again. Does not block.
    pub fn nudge(&self) {
        // One that waits stands for all.
        let _ = self.nudges.0.try_send(());
    }

    /// Notes that a change of the ledger is about to be committed.
    pub fn note_change(&self) {
        self.is_noted.store(true, Ordering::SeqCst);
    }

    /// A nudge where a change was noted: called once that is committed.
    pub fn nudge_if_noted(&self) {
        if self.is_noted.swap(false, Ordering::SeqCst) {
            self.nudge();
        }
    }

    /// Where a nudge arrives.
    pub fn nudges(&self) -> Receiver<()> {
        self.nudges.1.clone()
    }

    /// Has every container and whatever keeps it run where it may. `fresh` names containers that were started just now.
    /// Costs a few reads of the store where no CPU is held and none was.
    pub fn sweep(&self, call: &Call, fresh: BTreeSet<String>) -> Result<Swept> {
        let _one = self.work.lock().unwrap_or_else(PoisonError::into_inner);
        let ledger = self.read()?.ledger;
        let exclusive = ledger.taken();
        let withheld = stored::withheld(&self.records, Deadline::after(STORE_BUDGET))?;
        if exclusive.is_empty() && withheld.is_empty() {
            return Ok(Swept::default());
        }
        let online = self.grounds()?.topology.online;
        let all = withheld.and(&exclusive);
        if all != withheld {
            // Known before anything is taken from anybody, so that it is given back after a crash as well.
            stored::put_withheld(&self.records, &all, Deadline::after(STORE_BUDGET))?;
        }
        let (occupants, unknown) = self.occupants(call);
        let scene = Scene { occupants, withheld: all.clone(), fresh, ..scene(&ledger, &online) };
        let problems = self.machine.settle(&scene);
        let swept = Swept { problems, unknown };
        if swept.problems.is_empty() && swept.unknown.is_empty() && all != exclusive {
            stored::put_withheld(&self.records, &exclusive, Deadline::after(STORE_BUDGET))?;
        }
        Ok(swept)
    }

    /// Has a container that was started or woken just now run on what its workload holds and nobody else there. An error is
    /// that this is not so; what else should be known is given as text.
    pub fn pin(&self, call: &Call, workload: &str, container: &str) -> Result<String> {
        let swept = self.sweep(call, BTreeSet::from([container.to_owned()]))?;
        let held = self.read()?.ledger.of_workload(workload).map(|holding| holding.cpus.clone());
        let Some(held) = held else {
            return Err(Error::internal(format!("workload '{workload}' holds no CPUs, although it asked for some")));
        };
        if held.within(&self.grounds()?.topology.online).is_empty() {
            return Err(not_enforced(workload, &format!("CPUs {held} are offline")));
        }
        if let Some((of, why)) = swept.problems.iter().next() {
            let whose = if of.is_empty() { "what keeps containers".to_owned() } else { format!("'{of}'") };
            return Err(not_enforced(workload, &format!("of {whose}, {why}")));
        }
        let unknown: Vec<_> = swept.unknown.iter().map(|(engine, why)| format!("'{engine}': {why}")).collect();
        if unknown.is_empty() {
            return Ok(String::new());
        }
        Ok(format!("what runs on these runtimes may be on CPUs {held} as well: {}", unknown.join(", ")))
    }

    /// The CPUs of this node as they are told.
    pub fn look(&self, call: &Call) -> Result<NodeCores> {
        let grounds = self.grounds()?;
        let Read { ledger, refused, .. } = self.read()?;
        let mut problems: Vec<_> = refused.into_iter().map(|(workload, why)| format!("'{workload}': {why}")).collect();
        let offline = ledger.taken().without(&grounds.topology.online);
        if !offline.is_empty() {
            problems.push(format!("CPUs {offline} are held and offline"));
        }
        let mut foreign = Vec::new();
        if !ledger.taken().is_empty() {
            let (occupants, unknown) = self.occupants(call);
            problems.extend(unknown.into_iter().map(|(engine, why)| format!("runtime '{engine}': {why}")));
            foreign = self.machine.foreign(&Scene { occupants, ..scene(&ledger, &grounds.topology.online) });
        }
        Ok(NodeCores { grounds, holdings: ledger.holdings().clone(), foreign, problems })
    }

    /// The containers of ours that have processes, and the engines that did not tell.
    fn occupants(&self, call: &Call) -> (Vec<Occupant>, BTreeMap<String, String>) {
        let labels = BTreeMap::from([(labels::NODE.to_owned(), self.node.clone())]);
        let filter = ListFilter { all: true, labels };
        let engines: Vec<_> = self.engines.names().iter().filter_map(|name| self.engines.get(name)).collect();
        let ask = |engine: &Arc<dyn RuntimeAdapter>| {
            self.engines.check_answers(engine).map_err(|error| error.to_string())?;
            let call = Call { deadline: call.deadline.at_most(LIST_BUDGET), ..*call };
            list(engine.as_ref(), &call, &filter).map_err(|error| error.to_string())
        };
        // Beside each other, so that one that hangs takes no time beyond its own.
        let (ask, mut told) = (&ask, Vec::new());
        thread::scope(|scope| {
            let spawn = |engine: &Arc<dyn RuntimeAdapter>| {
                let (named, engine) =
                    (thread::Builder::new().name(format!("list-{}", engine.name())), Arc::clone(engine));
                named.spawn_scoped(scope, move || ask(&engine))
            };
            let asked: Vec<_> = engines.iter().skip(1).map(|engine| (engine, spawn(engine))).collect();
            told.extend(engines.first().map(|engine| (engine, ask(engine))));
            told.extend(asked.into_iter().map(|(engine, thread)| {
                let answer = thread.map_err(|error| error.to_string()).and_then(|thread| {
                    thread.join().unwrap_or_else(|_| Err("asking it met a fault in this daemon".to_owned()))
                });
                (engine, answer)
            }));
        });
        let (mut occupants, mut unknown) = (Vec::new(), BTreeMap::new());
        for (engine, answer) in told {
            match answer {
                Ok(found) => occupants.extend(found),
                Err(why) => drop(unknown.insert(engine.name().to_owned(), why)),
            }
        }
        (occupants, unknown)
    }
}

fn list(engine: &dyn RuntimeAdapter, call: &Call, filter: &ListFilter) -> RtResult<Vec<Occupant>> {
    let listed = engine.list_containers(call, filter)?;
    let mut found = Vec::new();
    for listed in listed.into_iter().filter(|listed| listed.status.is_live()) {
        let Some(workload) = listed.labels.get(labels::WORKLOAD).cloned() else { continue };
        let instance = match engine.inspect_container(call, &listed.id) {
            Ok(instance) => instance,
            Err(RuntimeError::NotFound { .. }) => continue,
            Err(error) => return Err(error),
        };
        if instance.status.is_live() {
            let (container, pid, group) = (instance.name, instance.pid, instance.cgroup_path);
            found.push(Occupant { workload, container, pid, group });
        }
    }
    Ok(found)
}

/// The scene of a ledger, without who is there.
fn scene(ledger: &Ledger, online: &CpuSet) -> Scene {
    let own = |(workload, holding): (&String, &Holding)| (workload.clone(), holding.cpus.within(online));
    let holdings = ledger.holdings().iter().map(own).filter(|(_, cpus)| !cpus.is_empty());
    let exclusive = ledger.taken();
    Scene { holdings: holdings.collect(), exclusive, online: online.clone(), ..Scene::default() }
}

fn not_enforced(workload: &str, why: &str) -> Error {
    let message = format!("the exclusive CPUs of '{workload}' cannot be enforced: {why}");
    let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::CoresTaken, message);
    error.hint("the annotation actioncontroller.io/cores-mode: best-effort makes this a warning")
}
