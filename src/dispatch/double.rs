//! What the tests of this room share: requests, jobs, and an [`Act`] that does as it is told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::entry::Entry;
use super::lanes::{Job, Lanes, Work};
use super::worker::{Budgets, Shared};
use crate::action::{Act, Context, Loaded, Recovered, Recovery, blank, fingerprint, refused};
use crate::cancel::{CancelToken, Urge};
use crate::clock::{Deadline, SystemClock};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, ActionState, Outcome, Parameters, Verb};
use crate::model::plan::Plan;
use crate::policy::WorkloadRuling;
use crate::storage::records::{Intent, StoredOutcome};

/// A request without anything special.
pub fn request(id: &str, verb: Verb, target: &str) -> ActionRequest {
    ActionRequest {
        id: id.to_owned(),
        verb,
        target: target.to_owned(),
        manifest: String::new(),
        parameters: Parameters::default(),
        deadline_ms: None,
        priority: 0,
        dry_run: false,
    }
}

/// An entry with this place among all.
pub fn entry(sequence: u64, request: ActionRequest) -> Arc<Entry> {
    let print = fingerprint(&request);
    Arc::new(Entry::new(request, print, sequence, 0, Duration::from_secs(60)))
}

/// A job to run an entry.
pub fn job(entry: &Arc<Entry>) -> Job {
    Job { entry: Arc::clone(entry), work: Work::Run, loaded: None, share: Default::default() }
}

/// What concerns these workloads under a common name.
pub fn loaded(target: &str, workloads: &[&str]) -> Loaded {
    let workloads = workloads.iter().map(|name| (*name).to_owned()).collect();
    Loaded { target: target.to_owned(), workloads, ..Loaded::default() }
}

/// A recovery of an interrupted action on one workload.
pub fn recovery(id: &str, verb: Verb, workload: &str) -> Recovery {
    let plan =
        Plan { verb, target: workload.to_owned(), engine: String::new(), steps: Vec::new(), warnings: Vec::new() };
    let intent = Intent {
        request: request(id, verb, workload),
        plan,
        cores: BTreeMap::new(),
        specs: BTreeMap::new(),
        before: BTreeMap::new(),
        engines: BTreeMap::new(),
        existed: BTreeMap::from([(workload.to_owned(), Vec::new())]),
        ran: BTreeMap::new(),
        schedule: None,
        network: None,
        undone_alone: BTreeSet::new(),
        accepted_ms: 0,
    };
    Recovery { intent, is_repair: false, tries: 0 }
}

/// How a scripted action behaves, by its id.
#[derive(Default)]
struct Script {
    held: BTreeSet<String>,
    panics: BTreeSet<String>,
    members: BTreeMap<String, Loaded>,
    stored: BTreeMap<String, StoredOutcome>,
    superseded: BTreeMap<String, BTreeSet<String>>,
    log: Vec<String>,
    engine_is_away: bool,
}

/// Runs actions as scripted, and keeps what happened in its order.
#[derive(Default)]
pub struct ScriptedAct(Mutex<Script>);

impl ScriptedAct {
    fn script<T>(&self, change: impl FnOnce(&mut Script) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    /// The action of this id runs until it is released or cancelled.
    pub fn hold(&self, id: &str) {
        self.script(|script| script.held.insert(id.to_owned()));
    }

    /// Lets a held action end.
    pub fn release(&self, id: &str) {
        self.script(|script| script.held.remove(id));
    }

    /// The action of this id panics.
    pub fn panics(&self, id: &str) {
        self.script(|script| script.panics.insert(id.to_owned()));
    }

    /// What the target is loaded as from now on; without this it is a workload.
    pub fn means(&self, target: &str, loaded: Loaded) {
        self.script(|script| script.members.insert(target.to_owned(), loaded));
    }

    /// Recoveries find no engine, or find it again.
    pub fn engine_is_away(&self, is_away: bool) {
        self.script(|script| script.engine_is_away = is_away);
    }

    /// `begin ID` and `end ID` in the order in which they happened.
    pub fn log(&self) -> Vec<String> {
        self.script(|script| script.log.clone())
    }

    /// What the action of this id was told to have superseded.
    pub fn superseded(&self, id: &str) -> BTreeSet<String> {
        self.script(|script| script.superseded.get(id).cloned().unwrap_or_default())
    }

    fn note(&self, what: &str, id: &str) {
        self.script(|script| script.log.push(format!("{what} {id}")));
    }
}

impl Act for ScriptedAct {
    fn load_scenario(&self, scenario: &str, _deadline: Deadline) -> Result<(Verb, Loaded)> {
        Ok((Verb::Launch, Loaded::only(scenario)))
    }

    fn load(&self, request: &ActionRequest, _deadline: Deadline) -> Result<Loaded> {
        let known = self.script(|script| script.members.get(&request.target).cloned());
        Ok(known.unwrap_or_else(|| Loaded::only(&request.target)))
    }

    fn run(&self, request: &ActionRequest, loaded: &Loaded, context: Context) -> Outcome {
        let id = &request.id;
        self.note("begin", id);
        self.script(|script| script.superseded.insert(id.clone(), context.superseded.clone()));
        assert!(!self.script(|script| script.panics.contains(id)), "as scripted");
        let mut state = ActionState::Succeeded;
        while self.script(|script| script.held.contains(id)) {
            if context.cancel.wait(Urge::Cancel, Deadline::after(Duration::from_millis(1))) == Urge::Cancel {
                state = ActionState::Cancelled;
                break;
            }
        }
        self.note("end", id);
        let outcome = blank(request, &loaded.target, state, context.accepted_ms);
        let stored = StoredOutcome { fingerprint: fingerprint(request), outcome: outcome.clone() };
        self.script(|script| script.stored.insert(id.clone(), stored));
        outcome
    }

    fn record(&self, request: &ActionRequest, outcome: &mut Outcome, _deadline: Deadline) {
        let stored = StoredOutcome { fingerprint: fingerprint(request), outcome: outcome.clone() };
        self.script(|script| script.stored.insert(request.id.clone(), stored));
    }

    fn stored(&self, action_id: &str, _deadline: Deadline) -> Result<Option<StoredOutcome>> {
        Ok(self.script(|script| script.stored.get(action_id).cloned()))
    }

    fn dry_run(&self, _: &ActionRequest, _: &Loaded, _: Deadline, _: &CancelToken) -> Result<Plan> {
        Err(Error::internal("not scripted"))
    }

    fn check_policy(&self, _: &ActionRequest, _: &Loaded, _: Deadline, _: &CancelToken) -> Vec<WorkloadRuling> {
        Vec::new()
    }

    fn recover(&self, recovery: &Recovery, _context: Context) -> Recovered {
        let id = &recovery.intent.request.id;
        if self.script(|script| script.engine_is_away) {
            let error = Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, "away");
            return Recovered::Later { error, rest: None };
        }
        self.note("recover", id);
        let error = Error::new(ErrorKind::Aborted, ErrorCode::Interrupted, "interrupted");
        Recovered::Ended(Some(Box::new(refused(&recovery.intent.request, "", &error, 0))))
    }
}

/// What workers share, over a scripted act.
pub fn shared(act: &Arc<ScriptedAct>) -> Arc<Shared> {
    let budgets = Budgets { default: Duration::from_secs(60), most: Duration::from_secs(60) };
    Arc::new(Shared::new(Arc::clone(act) as _, Lanes::new(64, 64, 64), Arc::new(SystemClock), budgets))
}

/// Waits until `holds`, a minute at most.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Deadline::after(Duration::from_secs(60));
    while !holds() {
        assert!(!deadline.is_over(), "{what} did not come");
        std::thread::sleep(Duration::from_millis(1));
    }
}
