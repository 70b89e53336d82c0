//! Plans: the steps that an action will run, with their order. A plan is data: it can be shown, compared and merged.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::action::{Verb, Warning};
use super::resources::Resources;

/// What another node is asked to do with a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeCommand {
    /// Make it run from the document given.
    Start,
    /// Stop and delete it.
    Stop,
    /// Stop and start it.
    Restart,
}

impl fmt::Display for NodeCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        })
    }
}

/// What a step does. Names of containers are the engine's (`{workload}_{container}`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "op")]
pub enum StepOp {
    /// Make the image present.
    EnsureImage {
        /// The image's reference.
        image: String,
    },
    /// Make the host path what the document asks for: there, or made where it may be.
    EnsurePath {
        /// The absolute path.
        path: String,
    },
    /// Make the network present.
    EnsureNetwork {
        /// The network's name.
        network: String,
    },
    /// Make the volume present.
    EnsureVolume {
        /// The volume's name on the engine.
        volume: String,
    },
    /// Make the pod present.
    EnsurePod {
        /// The pod's name.
        pod: String,
    },
    /// Create a container.
    Create {
        /// The container's name.
        container: String,
    },
    /// Start a container.
    Start {
        /// The container's name.
        container: String,
    },
    /// Wait until an init container has ended with code 0.
    AwaitCompletion {
        /// The container's name.
        container: String,
    },
    /// Stop a container.
    Stop {
        /// The container's name.
        container: String,
        /// Between the signal and SIGKILL, milliseconds.
        grace_ms: u64,
        /// The first signal.
        signal: String,
    },
    /// Send a signal that ends a container at once.
    Kill {
        /// The container's name.
        container: String,
        /// The signal.
        signal: String,
    },
    /// Freeze a container.
    Pause {
        /// The container's name.
        container: String,
    },
    /// Thaw a container.
    Resume {
        /// The container's name.
        container: String,
    },
    /// Checkpoint a container to disk.
    Hibernate {
        /// The container's name.
        container: String,
    },
    /// Restore a container from its checkpoint.
    Wake {
        /// The container's name.
        container: String,
    },
    /// Change limits of a container that runs.
    Resize {
        /// The container's name.
        container: String,
        /// The limits that change.
        resources: Resources,
        /// The limits as they are recorded before.
        before: Resources,
        /// Also where memory is in use that is taken.
        force: bool,
    },
    /// Delete a container.
    Remove {
        /// The container's name.
        container: String,
        /// Also where it runs.
        force: bool,
    },
    /// Free what the pod holds while none of its containers runs.
    StopPod {
        /// The pod's name.
        pod: String,
    },
    /// Delete the pod.
    RemovePod {
        /// The pod's name.
        pod: String,
    },
    /// Delete a volume that lives with the workload.
    RemoveVolume {
        /// The volume's name on the engine.
        volume: String,
    },
    /// Delete the network if no member is left.
    RemoveNetwork {
        /// The network's name.
        network: String,
    },
    /// Have another node do something with the workload.
    Delegate {
        /// The node.
        node: String,
        /// What.
        command: NodeCommand,
    },
    /// Have the real-time tasks of a Schedule admitted.
    Admit {
        /// The Schedule's name.
        schedule: String,
    },
    /// Have the network that the documents describe set up for the workload.
    Connect {
        /// The pod by the name that it was started under.
        pod: String,
    },
    /// Have a container run on the CPUs that its workload has alone, and nobody else there.
    Pin {
        /// The container's name.
        container: String,
    },
    /// Write into the stored Package that the workload is on this node from now on.
    Place {
        /// The Package.
        package: String,
        /// The node.
        node: String,
    },
}

impl StepOp {
    /// The step's verb as shown, present tense.
    pub fn word(&self) -> &'static str {
        match self {
            Self::EnsureImage { .. } => "pull",
            Self::EnsurePath { .. } => "ensure path",
            Self::EnsureNetwork { .. } => "ensure network",
            Self::EnsureVolume { .. } => "ensure volume",
            Self::EnsurePod { .. } => "ensure pod",
            Self::Create { .. } => "create",
            Self::Start { .. } => "start",
            Self::AwaitCompletion { .. } => "await",
            Self::Stop { .. } => "stop",
            Self::Kill { .. } => "kill",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Hibernate { .. } => "hibernate",
            Self::Wake { .. } => "wake",
            Self::Resize { .. } => "limit",
            Self::Remove { .. } => "remove",
            Self::StopPod { .. } => "stop pod",
            Self::RemovePod { .. } => "remove pod",
            Self::RemoveVolume { .. } => "remove volume",
            Self::RemoveNetwork { .. } => "remove network",
            Self::Delegate { command: NodeCommand::Start, .. } => "start on",
            Self::Delegate { command: NodeCommand::Stop, .. } => "stop on",
            Self::Delegate { command: NodeCommand::Restart, .. } => "restart on",
            Self::Admit { .. } => "admit",
            Self::Connect { .. } => "connect",
            Self::Place { .. } => "place on",
            Self::Pin { .. } => "pin",
        }
    }

    /// What the step acts on, by name.
    pub fn object(&self) -> &str {
        match self {
            Self::EnsureImage { image } => image,
            Self::EnsurePath { path } => path,
            Self::EnsureNetwork { network } | Self::RemoveNetwork { network } => network,
            Self::EnsureVolume { volume } | Self::RemoveVolume { volume } => volume,
            Self::Delegate { node, .. } | Self::Place { node, .. } => node,
            Self::Admit { schedule } => schedule,
            Self::EnsurePod { pod } | Self::StopPod { pod } | Self::RemovePod { pod } | Self::Connect { pod } => pod,
            Self::Create { container }
            | Self::Start { container }
            | Self::AwaitCompletion { container }
            | Self::Stop { container, .. }
            | Self::Kill { container, .. }
            | Self::Pause { container }
            | Self::Resume { container }
            | Self::Hibernate { container }
            | Self::Wake { container }
            | Self::Resize { container, .. }
            | Self::Pin { container }
            | Self::Remove { container, .. } => container,
        }
    }
}

/// One step of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The workload that the step belongs to.
    pub workload: String,
    /// What it does.
    #[serde(flatten)]
    pub op: StepOp,
    /// Indices of the steps that have to be done before, all lower than this step's own.
    pub after: BTreeSet<usize>,
}

impl Step {
    /// The step in words: `create lane-core_core`.
    pub fn title(&self) -> String {
        match &self.op {
            StepOp::Resize { container, resources, .. } => format!("limit {container} to {resources}"),
            op => format!("{} {}", op.word(), op.object()),
        }
    }
}

/// What an action will do. Steps that do not follow from one another may overlap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What the steps are for.
    pub verb: Verb,
    /// The target as resolved.
    pub target: String,
    /// The engine that runs them.
    pub engine: String,
    /// The steps; one comes after all those that it waits for.
    pub steps: Vec<Step>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// The steps by stage: those of one stage may overlap, each stage follows from earlier ones.
    pub fn stages(&self) -> Vec<Vec<usize>> {
        let mut stage_of = Vec::with_capacity(self.steps.len());
        let mut stages: Vec<Vec<usize>> = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            let stage = step.after.iter().filter_map(|before| stage_of.get(*before)).map(|s: &usize| s + 1).max();
            let stage = stage.unwrap_or(0);
            stage_of.push(stage);
            if stages.len() <= stage {
                stages.resize(stage + 1, Vec::new());
            }
            stages[stage].push(index);
        }
        stages
    }

    /// Whether every step waits only for earlier ones, so that the plan ends.
    pub fn is_ordered(&self) -> bool {
        self.steps.iter().enumerate().all(|(index, step)| step.after.iter().all(|before| *before < index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(op: StepOp, after: &[usize]) -> Step {
        Step { workload: "w".into(), op, after: after.iter().copied().collect() }
    }

    #[test]
    fn stages_follow_the_longest_way() {
        let start = |name: &str| StepOp::Start { container: name.into() };
        let plan = Plan {
            verb: Verb::Launch,
            target: "w".into(),
            engine: "sim".into(),
            steps: vec![
                step(start("a"), &[]),
                step(start("b"), &[0]),
                step(start("c"), &[0, 1]),
                step(start("d"), &[0]),
            ],
            warnings: vec![],
        };
        assert!(plan.is_ordered());
        assert_eq!(plan.stages(), vec![vec![0], vec![1, 3], vec![2]]);
    }
}
