//! The state of containers and workloads, and which verb is allowed from which state, whatever the engine.

use serde::{Deserialize, Serialize};

/// A container's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum ContainerStatus {
    /// Made, not started.
    Created,
    /// Being started.
    Starting,
    /// Runs.
    Running {
        /// What its health check says.
        health: Health,
    },
    /// Frozen.
    Paused,
    /// Being checkpointed.
    Hibernating,
    /// Checkpointed to disk.
    Hibernated,
    /// Being restored.
    Waking,
    /// Being restarted by the engine.
    Restarting,
    /// Being stopped.
    Stopping,
    /// Ended.
    Exited {
        /// The exit code; 128 + n after signal n. `None` where it was lost.
        code: Option<i32>,
        /// Killed for want of memory.
        oom: bool,
    },
    /// Never started.
    Failed {
        /// Why.
        reason: String,
    },
}

/// What a health check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// There is none.
    #[default]
    None,
    /// No verdict yet: not healthy.
    Starting,
    /// Well.
    Healthy,
    /// Not well.
    Unhealthy,
}

/// What can be asked of a container, for the table of transitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transition {
    /// Start it.
    Start,
    /// Signal, grace, SIGKILL; or SIGKILL at once.
    Stop,
    /// Freeze.
    Pause,
    /// Thaw.
    Resume,
    /// Checkpoint to disk.
    Hibernate,
    /// Restore from the checkpoint.
    Wake,
    /// Delete; `force` also what runs.
    Remove {
        /// Also what runs.
        force: bool,
    },
}

/// What a transition means from a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Allowed {
    /// The engine is asked.
    Yes,
    /// It is so already.
    Unchanged,
    /// Refused, naming the state.
    No,
}

impl ContainerStatus {
    /// The state's word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Starting => "starting",
            Self::Running { .. } => "running",
            Self::Paused => "paused",
            Self::Hibernating => "hibernating",
            Self::Hibernated => "hibernated",
            Self::Waking => "waking",
            Self::Restarting => "restarting",
            Self::Stopping => "stopping",
            Self::Exited { .. } => "exited",
            Self::Failed { .. } => "failed",
        }
    }

    /// Whether processes of it exist.
    pub fn is_live(&self) -> bool {
        match self {
            Self::Running { .. }
            | Self::Starting
            | Self::Paused
            | Self::Hibernating
            | Self::Waking
            | Self::Restarting
            | Self::Stopping => true,
            Self::Created | Self::Hibernated | Self::Exited { .. } | Self::Failed { .. } => false,
        }
    }

    /// Whether it runs and is not frozen.
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// What `transition` means from here. Repeating is never an error.
    pub fn allows(&self, transition: Transition) -> Allowed {
        use Allowed::{No, Unchanged, Yes};
        // Columns: start, stop, pause, resume, hibernate, wake, remove; removal by force is always possible. What runs
        // because it was woken is woken already: that is not seen from the state, see `runtime::hibernation`.
        let [start, stop, pause, resume, hibernate, wake, remove] = match self {
            Self::Created => [Yes, Unchanged, No, No, No, No, Yes],
            Self::Starting => [Unchanged, Yes, No, No, No, No, No],
            Self::Running { .. } => [Unchanged, Yes, Yes, Unchanged, Yes, No, No],
            Self::Paused => [No, Yes, Unchanged, Yes, No, No, No],
            Self::Hibernated => [No, Yes, No, No, Unchanged, Yes, No],
            Self::Hibernating | Self::Waking | Self::Restarting | Self::Stopping => [No, Yes, No, No, No, No, No],
            Self::Exited { .. } => [Yes, Unchanged, No, No, No, No, Yes],
            Self::Failed { .. } => [No, Unchanged, No, No, No, No, Yes],
        };
        match transition {
            Transition::Start => start,
            Transition::Stop => stop,
            Transition::Pause => pause,
            Transition::Resume => resume,
            Transition::Hibernate => hibernate,
            Transition::Wake => wake,
            Transition::Remove { force: true } => Yes,
            Transition::Remove { force: false } => remove,
        }
    }
}

/// A workload's state, from those of its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadState {
    /// It is known and has no container.
    Absent,
    /// Made, not started.
    Created,
    /// Some containers run, others do not yet or no longer.
    Degraded,
    /// All containers run.
    Running,
    /// All containers are frozen.
    Paused,
    /// All containers are on disk.
    Hibernated,
    /// All containers ended with code 0.
    Completed,
    /// All containers ended, not all with code 0; or one never started.
    Exited,
    /// Its engine does not answer.
    Unknown,
}

impl WorkloadState {
    /// The state of a workload whose main containers (not init ones) are in these states.
    pub fn of<'a>(containers: impl IntoIterator<Item = &'a ContainerStatus>) -> Self {
        let all: Vec<_> = containers.into_iter().collect();
        let every = |is: fn(&ContainerStatus) -> bool| !all.is_empty() && all.iter().all(|status| is(status));
        if all.is_empty() {
            Self::Absent
        } else if every(ContainerStatus::is_running) {
            Self::Running
        } else if every(|s| matches!(s, ContainerStatus::Paused)) {
            Self::Paused
        } else if every(|s| matches!(s, ContainerStatus::Hibernated)) {
            Self::Hibernated
        } else if every(|s| matches!(s, ContainerStatus::Created)) {
            Self::Created
        } else if every(|s| matches!(s, ContainerStatus::Exited { code: Some(0), .. })) {
            Self::Completed
        } else if all.iter().any(|s| s.is_live() || matches!(s, ContainerStatus::Hibernated)) {
            Self::Degraded
        } else {
            Self::Exited
        }
    }

    /// The state's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Created => "created",
            Self::Degraded => "degraded",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Hibernated => "hibernated",
            Self::Completed => "completed",
            Self::Exited => "exited",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUNNING: ContainerStatus = ContainerStatus::Running { health: Health::None };
    const DONE: ContainerStatus = ContainerStatus::Exited { code: Some(0), oom: false };
    const CRASHED: ContainerStatus = ContainerStatus::Exited { code: Some(137), oom: true };

    #[test]
    fn repeating_a_verb_is_unchanged() {
        assert_eq!(RUNNING.allows(Transition::Start), Allowed::Unchanged);
        assert_eq!(DONE.allows(Transition::Stop), Allowed::Unchanged);
        assert_eq!(ContainerStatus::Paused.allows(Transition::Pause), Allowed::Unchanged);
        assert_eq!(RUNNING.allows(Transition::Resume), Allowed::Unchanged);
    }

    #[test]
    fn start_of_a_paused_container_is_refused_and_stop_is_not() {
        assert_eq!(ContainerStatus::Paused.allows(Transition::Start), Allowed::No);
        assert_eq!(ContainerStatus::Paused.allows(Transition::Stop), Allowed::Yes);
    }

    #[test]
    fn hibernated_is_woken_or_stopped_and_nothing_else() {
        let hibernated = ContainerStatus::Hibernated;
        assert_eq!(RUNNING.allows(Transition::Hibernate), Allowed::Yes);
        assert_eq!(hibernated.allows(Transition::Hibernate), Allowed::Unchanged);
        for transition in [Transition::Wake, Transition::Stop] {
            assert_eq!(hibernated.allows(transition), Allowed::Yes);
        }
        for transition in
            [Transition::Start, Transition::Pause, Transition::Resume, Transition::Remove { force: false }]
        {
            assert_eq!(hibernated.allows(transition), Allowed::No);
        }
        for other in [ContainerStatus::Created, ContainerStatus::Paused, DONE] {
            assert_eq!(other.allows(Transition::Hibernate), Allowed::No);
            assert_eq!(other.allows(Transition::Wake), Allowed::No);
        }
        assert_eq!(RUNNING.allows(Transition::Wake), Allowed::No);
    }

    #[test]
    fn remove_of_what_runs_needs_force() {
        assert_eq!(RUNNING.allows(Transition::Remove { force: false }), Allowed::No);
        assert_eq!(RUNNING.allows(Transition::Remove { force: true }), Allowed::Yes);
        assert_eq!(CRASHED.allows(Transition::Remove { force: false }), Allowed::Yes);
    }

    #[test]
    fn workload_state_is_that_of_all_its_containers() {
        let of = |states: &[&ContainerStatus]| WorkloadState::of(states.iter().copied());
        assert_eq!(of(&[]), WorkloadState::Absent);
        assert_eq!(of(&[&RUNNING, &RUNNING]), WorkloadState::Running);
        assert_eq!(of(&[&RUNNING, &DONE]), WorkloadState::Degraded);
        assert_eq!(of(&[&DONE, &DONE]), WorkloadState::Completed);
        assert_eq!(of(&[&DONE, &CRASHED]), WorkloadState::Exited);
        assert_eq!(of(&[&RUNNING, &ContainerStatus::Paused]), WorkloadState::Degraded);
        assert_eq!(of(&[&ContainerStatus::Hibernated]), WorkloadState::Hibernated);
        assert_eq!(of(&[&ContainerStatus::Hibernated, &DONE]), WorkloadState::Degraded);
    }
}
