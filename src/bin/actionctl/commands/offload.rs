//! `offload`: moves a workload to another node; and the options for it that other commands share.

use clap::Args;

use super::Context;
use super::verbs::ActionArgs;
use crate::api::{Parameters, Verb};
use crate::exit::Exit;
use crate::failure::Result;
use crate::jobs::{self, Job};

/// From where to where.
#[derive(Debug, Clone, Default, Args)]
pub struct MoveArgs {
    /// The node that the workload moves to
    #[arg(long, value_name = "NODE")]
    pub to: Option<String>,
    /// The node that it has to be on [default: wherever it is]
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,
}

impl MoveArgs {
    /// Puts the nodes into the action's parameters.
    pub fn set(&self, parameters: &mut Parameters) {
        parameters.target_node = self.to.clone().unwrap_or_default();
        parameters.source_node = self.from.clone().unwrap_or_default();
    }
}

/// Options of `offload`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "The workload is stopped on its node and started on the other one, from its stored documents. \
    Where that fails, it runs\non its node again.\n  actionctl offload web --to ZONE1\n  \
    actionctl offload web --from HPC --to ZONE1",
    mut_arg("to", |to| to.required(true)))]
pub struct OffloadArgs {
    /// From where to where.
    #[command(flatten)]
    pub nodes: MoveArgs,
    /// Options of every action.
    #[command(flatten)]
    pub action: ActionArgs,
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub workload: String,
}

/// Moves a workload to another node.
pub fn offload(args: OffloadArgs, context: &mut Context) -> Result<Exit> {
    let mut spec = args.action.spec(Verb::VERB_OFFLOAD, &args.workload);
    args.nodes.set(spec.parameters.mut_or_insert_default());
    jobs::carry_out(vec![Job::new(spec)], args.action.manner(1)?, context)
}
