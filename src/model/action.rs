//! Actions: what a caller asks for, how far it is, and how it ended.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::resources::Resources;

/// The longest action id that is taken.
pub const MAX_ACTION_ID: usize = 128;

/// Declares [`Verb`] with its word.
macro_rules! verbs {
    ($($(#[$doc:meta])* $name:ident = $word:literal,)*) => {
        /// What an action does to its workloads.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum Verb { $($(#[$doc])* $name,)* }

        impl Verb {
            /// Every verb.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The verb's word, lower case.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// The verb of this word.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$name),)* _ => None }
            }
        }
    };
}

verbs! {
    /// Create and start from documents; unchanged where it runs from the same ones.
    Launch = "launch",
    /// Start what was stopped.
    Start = "start",
    /// SIGTERM, grace, SIGKILL.
    Stop = "stop",
    /// Stop and start.
    Restart = "restart",
    /// Replace by a changed document.
    Update = "update",
    /// Return to the document before.
    Rollback = "rollback",
    /// Delete what is stopped.
    Remove = "remove",
    /// Stop and remove.
    Terminate = "terminate",
    /// Freeze.
    Pause = "pause",
    /// Thaw.
    Resume = "resume",
    /// Checkpoint to disk.
    Hibernate = "hibernate",
    /// Restore from a checkpoint.
    Wake = "wake",
    /// SIGKILL at once.
    Kill = "kill",
    /// Change resources of what runs.
    Scale = "scale",
    /// Move to another node.
    Offload = "offload",
}

/// Which of the two queues an action waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Lane {
    /// Ends things; never waits behind what it ends.
    Urgent,
    /// Everything else.
    Normal,
}

impl Verb {
    /// The lane in which this verb waits.
    pub fn lane(self) -> Lane {
        match self {
            Self::Stop | Self::Kill | Self::Remove | Self::Terminate => Lane::Urgent,
            Self::Launch
            | Self::Start
            | Self::Restart
            | Self::Update
            | Self::Rollback
            | Self::Pause
            | Self::Resume
            | Self::Hibernate
            | Self::Wake
            | Self::Scale
            | Self::Offload => Lane::Normal,
        }
    }

    /// Whether a failure or cancel undoes what was done; the urgent verbs end where they are.
    pub fn is_undone(self) -> bool {
        self.lane() == Lane::Normal
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a document may ask for and the caller explicitly gives up, by name (`--ignore schedule`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ignorable {
    /// A Package's Schedule.
    Schedule,
}

/// How an action is to be carried out, beside its verb and target.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// Between SIGTERM and SIGKILL, milliseconds; `None` takes the document's, or 10 s.
    pub grace_ms: Option<u64>,
    /// The signal of a kill or of a stop's first step, by name (`SIGUSR1`); `None` takes SIGKILL or SIGTERM.
    pub signal: Option<String>,
    /// Remove also what still runs; of a scale, take also memory that is in use.
    pub force: bool,
    /// The runtime engine by name; `None` selects.
    pub engine: Option<String>,
    /// What the caller gives up.
    pub ignore: BTreeSet<Ignorable>,
    /// Each workload by itself: where one is refused or fails it alone is undone, and the others go on.
    #[serde(skip_serializing_if = "is_false")]
    pub partial: bool,
    /// Of an offload: the node that the workload moves to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_node: Option<String>,
    /// Of an offload: the node that the workload has to be on; `None` is wherever it is. Of another action on a model of
    /// `package` that nobody has recorded: the node to look for it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_node: Option<String>,
    /// The Package that holds the model; `None` where the workload's record says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// Of a launch: what is recorded as running on another node is started again there, because somebody found it not
    /// to run.
    #[serde(skip_serializing_if = "is_false")]
    pub reconcile: bool,
    /// Of a start or a scale: the containers alone that have these names within the workload; empty is all.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub containers: BTreeSet<String>,
    /// Of a start: only while the workload shall be running. The daemon's own restarts ask so, after which nobody has
    /// stopped it.
    #[serde(skip_serializing_if = "is_false")]
    pub supervised: bool,
    /// Of a scale: the limits that change.
    #[serde(skip_serializing_if = "Resources::is_empty")]
    pub resources: Resources,
}

/// For serde, which gives a reference.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's form")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// One action as asked for. Two requests with equal fields are the same request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionRequest {
    /// Chosen by the caller or given by the daemon; 1 to 128 characters of `A-Z a-z 0-9 . _ : -`.
    pub id: String,
    /// What to do.
    pub verb: Verb,
    /// Workload, package or scenario by name; may be empty where `manifest` says it.
    pub target: String,
    /// Documents, YAML or JSON; empty where the target is known by name.
    pub manifest: String,
    /// How to do it.
    pub parameters: Parameters,
    /// The action's own time from its acceptance, milliseconds; `None` takes the configured default.
    pub deadline_ms: Option<u64>,
    /// Among waiting actions of one kind the higher goes first.
    pub priority: i32,
    /// Plan only.
    pub dry_run: bool,
}

/// Where an action is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ActionState {
    /// Accepted, not begun.
    Queued,
    /// Under way.
    Running,
    /// Being undone after a failure, a cancel or a crash.
    Undoing,
    /// Done.
    Succeeded,
    /// Refused before any effect.
    Refused,
    /// Begun and failed; the outcome says what is left.
    Failed,
    /// Cancelled; the outcome says what is left.
    Cancelled,
    /// Not begun, because an action that it depends on failed.
    Skipped,
    /// A crash of the daemon ended it and it could not be told whether it was done.
    Interrupted,
}

impl ActionState {
    /// Whether nothing more happens.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running | Self::Undoing => false,
            Self::Succeeded | Self::Refused | Self::Failed | Self::Cancelled | Self::Skipped | Self::Interrupted => {
                true
            }
        }
    }
}

/// Something that did not stop the action and that the caller should know.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Warning {
    /// Where: a path in a document, a step, a container; may be empty.
    pub path: String,
    /// The document's line, from 1; 0 where there is none.
    pub line: u32,
    /// What.
    pub message: String,
}

impl Warning {
    /// A warning about a place in a document.
    pub fn new(path: impl Into<String>, line: u32, message: impl Into<String>) -> Self {
        Self { path: path.into(), line, message: message.into() }
    }
}

/// Microseconds that each sequential phase took. Steps lie inside `run` and may overlap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Phases {
    /// From acceptance to a worker, with the wait for the workload.
    pub queue_us: u64,
    /// Policy and security checks.
    pub policy_us: u64,
    /// Loading and reading documents, observing, planning.
    pub plan_us: u64,
    /// The steps, with their undoing.
    pub run_us: u64,
    /// Writes to the store. The stored outcome lacks its own.
    pub store_us: u64,
    /// From acceptance to the reply.
    pub total_us: u64,
}

/// How one step went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepResult {
    /// The step's index in the plan.
    pub index: usize,
    /// What it did, as in the plan.
    pub title: String,
    /// How it ended.
    pub state: StepState,
    /// Microseconds it took.
    pub micros: u64,
    /// Why it failed or was not done; empty otherwise.
    pub message: String,
}

/// How far a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Not begun.
    Pending,
    /// Under way.
    Running,
    /// Done, and something changed.
    Changed,
    /// Done, and it was so already.
    Unchanged,
    /// Failed.
    Failed,
    /// Done and then undone.
    Undone,
    /// Done, and undoing it failed.
    UndoFailed,
    /// Not done, because an earlier one failed or the action was cancelled.
    Skipped,
}

/// The failure of an action, as stored and told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The kind's gRPC status code number.
    pub status: i32,
    /// The stable code's text.
    pub code: String,
    /// The sentence.
    pub message: String,
    /// The field at fault; may be empty.
    pub field: String,
    /// What to do next; may be empty.
    pub hint: String,
}

/// What an action came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The action.
    pub action_id: String,
    /// Its verb.
    pub verb: Verb,
    /// Its target as resolved: the workload's or package's name.
    pub target: String,
    /// A final state.
    pub state: ActionState,
    /// Whether anything changed.
    pub changed: bool,
    /// One sentence for people.
    pub message: String,
    /// Why it did not succeed.
    pub failure: Option<Failure>,
    /// What the caller should know beside.
    pub warnings: Vec<Warning>,
    /// What is left behind of a failed or cancelled action, one line each.
    pub left: Vec<String>,
    /// The workloads it acted on, with their container ids by container name.
    pub workloads: BTreeMap<String, BTreeMap<String, String>>,
    /// The engine that did it; empty where none was asked.
    pub engine: String,
    /// Why this engine.
    pub engine_reason: String,
    /// How each step went.
    pub steps: Vec<StepResult>,
    /// Time per phase.
    pub phases: Phases,
    /// When it was accepted, milliseconds since the epoch.
    pub accepted_ms: u64,
    /// When it ended, milliseconds since the epoch.
    pub ended_ms: u64,
    /// The plan of a dry run.
    pub plan: Option<Plan>,
    /// How a restart of the daemon ended it: `finished`, `undone` or empty.
    pub recovered: String,
    /// Of an action that takes each workload by itself: those that were refused or failed, with the reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, Failure>,
}

impl Outcome {
    /// Whether everything was as asked for already, so that nothing was done.
    pub fn is_nothing(&self) -> bool {
        self.state == ActionState::Succeeded && !self.changed && self.steps.is_empty()
    }
}

/// The default time between SIGTERM and SIGKILL.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_read_back_from_their_words() {
        for verb in Verb::ALL {
            assert_eq!(Verb::from_word(verb.as_str()), Some(*verb));
        }
        assert_eq!(Verb::from_word("Launch"), None);
    }

    #[test]
    fn only_what_ends_things_is_urgent_and_never_undone() {
        let urgent: Vec<_> = Verb::ALL.iter().filter(|verb| verb.lane() == Lane::Urgent).collect();
        assert_eq!(urgent, [&Verb::Stop, &Verb::Remove, &Verb::Terminate, &Verb::Kill]);
        assert!(urgent.iter().all(|verb| !verb.is_undone()));
    }
}
