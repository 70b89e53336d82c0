//! [`Overruns`]: acts on real-time tasks that keep missing their deadlines, as the Policy of their workloads says.
//!
//! 1. Misses are counted by [`Faults`], wherever they come from; whoever tells of one never waits for this thread.
//! 2. Of a task that has missed since the last look, the Schedule that is held says whose it is: the workloads that hold
//!    it on the task's node. The Policy of each says what is done and after how many misses: its
//!    `deadlineMissThreshold`, or the task's own `max_dmiss` where the Policy is one of type realtime and gives none.
//! 3. Once there are so many, an ordinary action with an id of its own (`deadline-miss-…`) stops the workload, restarts it,
//!    or moves it to the first other node that the Policy names. Counting begins anew then, and for a while further
//!    misses of that workload lead to nothing.
//!
//! Without a Policy that says so misses are counted, and that is all.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::faults::Faults;
use super::restarts::Accept;
use crate::clock::Deadline;
use crate::error::Result;
use crate::manifest::{Bundle, Kind, Limits};
use crate::model::action::{ActionRequest, Parameters, Verb};
use crate::model::schedule::{MissCounts, MissPolicy, MissStrategy, TaskName};
use crate::realtime::Desk;
use crate::storage::documents::Documents;
use crate::storage::held::{Held, Share};
use crate::storage::records::{Records, WorkloadRecord};

/// Between two looks: tasks may miss at each of their periods.
const PAUSE: Duration = Duration::from_millis(100);

/// What is known of a task's workloads and their Policies is read again after so long.
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// The time that reading that has.
const READ_BUDGET: Duration = Duration::from_secs(5);

/// What overruns are judged by.
pub struct Sources {
    /// This node.
    pub node: String,
    /// What has been missed.
    pub faults: Arc<Faults>,
    /// What is held.
    pub desk: Arc<Desk>,
    /// The workloads.
    pub records: Records,
    /// The Policies.
    pub documents: Arc<Documents>,
    /// Takes actions.
    pub accept: Accept,
    /// How long after an action on a workload nothing more is done to it.
    pub cooldown: Duration,
}

/// The thread's handle.
pub struct Overruns {
    stop: Sender<Infallible>,
    is_over: Arc<AtomicBool>,
    faults: Arc<Faults>,
    thread: JoinHandle<()>,
}

impl Overruns {
    /// Starts the thread. What was missed before counts no more.
    pub fn start(sources: Sources) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let is_over = Arc::new(AtomicBool::new(false));
        let (faults, own) = (Arc::clone(&sources.faults), Arc::clone(&is_over));
        let mut judge = Judge::new(sources);
        let run = move || judge.run(&own, &stopped);
        let thread = thread::Builder::new().name("overruns".to_owned()).spawn(run)?;
        Ok(Self { stop, is_over, faults, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        self.is_over.store(true, Ordering::SeqCst);
        self.faults.wake();
        drop(self.stop);
        if self.thread.join().is_err() {
            log::error!("the thread that acts on missed deadlines panicked");
        }
    }
}

/// What misses of a task lead to, for one of its workloads.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Reaction {
    workload: String,
    policy: String,
    /// So many misses lead to it.
    threshold: u64,
    verb: Verb,
    parameters: Parameters,
}

/// What is known of a task.
#[derive(Debug, Default)]
struct Watched {
    /// Its misses that have been judged.
    base: u64,
    reactions: Vec<Reaction>,
    read: Option<Instant>,
}

struct Judge {
    sources: Sources,
    tasks: BTreeMap<TaskName, Watched>,
    acted: BTreeMap<String, Instant>,
}

impl Judge {
    fn new(sources: Sources) -> Self {
        let judged = |(name, misses): (TaskName, crate::model::schedule::Misses)| {
            (name, Watched { base: misses.count, ..Watched::default() })
        };
        let tasks = sources.faults.all().into_iter().map(judged).collect();
        Self { sources, tasks, acted: BTreeMap::new() }
    }

    fn run(&mut self, is_over: &AtomicBool, stopped: &Receiver<Infallible>) {
        let mut version = 0;
        while let Some((now, counts)) = self.sources.faults.wait_beyond(version, is_over) {
            version = now;
            self.judge(&counts);
            if !matches!(stopped.recv_timeout(PAUSE), Err(RecvTimeoutError::Timeout)) {
                return;
            }
        }
    }

    fn judge(&mut self, counts: &MissCounts) {
        let cooldown = self.sources.cooldown;
        self.acted.retain(|_, acted| acted.elapsed() < cooldown);
        for (name, misses) in counts {
            let watched = self.tasks.entry(name.clone()).or_default();
            // A task without a name stands for all those that are not counted one by one.
            if misses.count <= watched.base || name.task.is_empty() {
                continue;
            }
            if watched.read.is_none_or(|read| read.elapsed() >= KNOWN_FOR) {
                watched.read = Some(Instant::now());
                watched.reactions = self.sources.reactions(name).unwrap_or_else(|error| {
                    crate::limited!(
                        log::Level::Warn,
                        "what misses of task '{}' lead to is not known: {error}",
                        name.task
                    );
                    watched.read = None;
                    Vec::new()
                });
            }
            let missed = misses.count - watched.base;
            let is_resting = watched.reactions.iter().any(|reaction| self.acted.contains_key(&reaction.workload));
            let due: Vec<_> = watched.reactions.iter().filter(|reaction| missed >= reaction.threshold).collect();
            if !is_resting {
                for reaction in &due {
                    self.acted.insert(reaction.workload.clone(), Instant::now());
                    self.sources.react(name, missed, reaction);
                }
            }
            if is_resting || !due.is_empty() {
                // What it was done to is another one by then.
                (watched.base, watched.read) = (misses.count, None);
            } else if watched.reactions.is_empty() && watched.read.is_some() {
                watched.base = misses.count;
            }
        }
    }
}

impl Sources {
    fn react(&self, task: &TaskName, missed: u64, reaction: &Reaction) {
        let Reaction { workload, policy, verb, parameters, .. } = reaction;
        let id = format!("deadline-miss-{}", uuid::Uuid::now_v7());
        let TaskName { schedule, node, task } = task;
        let to = parameters.target_node.as_ref().map(|node| format!(" to node '{node}'")).unwrap_or_default();
        log::warn!(
            "task '{task}' of Schedule '{schedule}' on node '{node}' has missed {missed} deadlines: action '{id}' does \
             {verb} of '{workload}'{to}, as Policy '{policy}' says"
        );
        (self.accept)(ActionRequest {
            id,
            verb: *verb,
            target: workload.clone(),
            manifest: String::new(),
            parameters: parameters.clone(),
            deadline_ms: None,
            priority: 0,
            dry_run: false,
        });
    }

    /// What misses of a task lead to.
    fn reactions(&self, task: &TaskName) -> Result<Vec<Reaction>> {
        let deadline = Deadline::after(READ_BUDGET);
        let held = self.desk.held(deadline)?;
        let Some(share) = share_of(&held, task) else { return Ok(Vec::new()) };
        let own = share.schedule.tasks.iter().find(|other| Held::is_of(other, &task.node, &task.task));
        let own = own.and_then(|own| u32::try_from(own.max_misses).ok());
        let mut reactions = Vec::new();
        for workload in share.holders.keys() {
            let Some(record) = self.records.workload(workload, deadline)? else { continue };
            let record = record.value;
            let name = &record.spec.policy;
            if self.node_of(&record) != task.node || name.is_empty() {
                continue;
            }
            let Some(policy) = self.policy(name, deadline)? else { continue };
            let Some(threshold) = policy.threshold.or(own).filter(|threshold| *threshold > 0) else { continue };
            let (verb, parameters) = self.action(&policy, &record);
            let (workload, policy) = (workload.clone(), name.clone());
            reactions.push(Reaction { workload, policy, threshold: threshold.into(), verb, parameters });
        }
        Ok(reactions)
    }

    fn node_of<'a>(&'a self, record: &'a WorkloadRecord) -> &'a str {
        record.spec.other_node().unwrap_or(&self.node)
    }

    /// What the Policy of this name says of missed deadlines; `None` where it says nothing, or is nowhere.
    fn policy(&self, name: &str, deadline: Deadline) -> Result<Option<MissPolicy>> {
        let kind = Kind::Policy.as_str();
        let Some(found) = self.documents.find(&[(kind, name)], deadline)?.pop().flatten() else { return Ok(None) };
        Ok(Bundle::parse(&found.text, &Limits::default())?.miss_policy(name).cloned())
    }

    /// What the strategy is on a workload. One that has no other node to go to is restarted where it is.
    fn action(&self, policy: &MissPolicy, record: &WorkloadRecord) -> (Verb, Parameters) {
        let here = self.node_of(record);
        let other = policy.nodes.iter().find(|node| *node != here);
        match (policy.strategy, other) {
            (MissStrategy::Stop, _) => (Verb::Stop, Parameters::default()),
            (MissStrategy::Redeploy, Some(node)) => {
                let target_node = Some(node.clone());
                let package = Some(record.spec.package.clone()).filter(|package| !package.is_empty());
                (Verb::Offload, Parameters { target_node, package, ..Parameters::default() })
            }
            (MissStrategy::Restart | MissStrategy::Redeploy, _) => (Verb::Restart, Parameters::default()),
        }
    }
}

/// Whose task it is: tasks of several Schedules are told under the name by which they were handed over.
fn share_of<'a>(held: &'a Held, task: &TaskName) -> Option<&'a Share> {
    let is_ours = held.name == task.schedule || held.shares.iter().any(|share| share.schedule.name == task.schedule);
    if is_ours { held.share_of(&task.node, &task.task) } else { None }
}

#[cfg(test)]
mod tests;
