//! `update`: replaces workloads by changed documents.

use clap::Args;

use super::Context;
use super::apply::FileArgs;
use super::verbs::{ActionArgs, PartialArgs};
use crate::api::Verb;
use crate::exit::Exit;
use crate::failure::Result;
use crate::jobs;

/// Options of `update`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Workloads are made anew from the documents of -f, or by name from the documents that are stored \
    now:\n  actionctl update -f web.yaml\n  actionctl update web\nThe document before is kept: actionctl rollback web \
    returns to it. What has not changed is left alone, or started where it\ndoes not run. What is not there yet is \
    launched, with a warning."
)]
pub struct UpdateArgs {
    /// Where documents come from.
    #[command(flatten)]
    pub files: FileArgs,
    /// Each workload by itself.
    #[command(flatten)]
    pub each: PartialArgs,
    /// Options of every action.
    #[command(flatten)]
    pub action: ActionArgs,
    /// Workloads, Packages or Scenarios whose documents are stored
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}

/// Replaces workloads by changed documents.
pub fn update(args: UpdateArgs, context: &mut Context) -> Result<Exit> {
    let example = "write actionctl update -f FILE, or name what is stored: actionctl update web";
    let mut jobs = args.files.jobs_or_targets(Verb::VERB_UPDATE, &args.action, &args.targets, example)?;
    for job in &mut jobs {
        job.spec.parameters.mut_or_insert_default().partial = args.each.partial;
    }
    let manner = args.action.manner(jobs.len())?;
    jobs::carry_out(jobs, manner, context)
}
