//! `policy check`: what policy says of an action, which is not done.

use clap::{Args, Subcommand};

use super::Context;
use super::apply::FileArgs;
use super::offload::MoveArgs;
use super::plan::verb;
use super::verbs::ActionArgs;
use crate::api::{ActionSpec, CheckPolicyResponse, PolicyVerdict, Verb};
use crate::exit::Exit;
use crate::failure::Result;
use crate::jobs::Job;
use crate::render::describe::warning_line;
use crate::render::table;
use crate::render::tree::{Node, ToNode, object};
use crate::screen::Format;

/// Options of `policy`.
#[derive(Debug, Clone, Args)]
pub struct PolicyArgs {
    /// What is asked.
    #[command(subcommand)]
    pub what: What,
}

/// What `policy` asks.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Ask whether policy allows an action, without doing it
    Check(CheckArgs),
}

/// Options of `policy check`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "Every gate is asked as before the action: the rules from files, then the policy server where one is \
    configured.\nEnds with code 0 where the action is allowed, and 3 where it is not.\n  \
    actionctl policy check launch -f web.yaml\n  actionctl policy check stop web"
)]
pub struct CheckArgs {
    /// Where documents come from.
    #[command(flatten)]
    pub files: FileArgs,
    /// Of an offload: from where to where.
    #[command(flatten)]
    pub nodes: MoveArgs,
    /// launch, start, stop, restart, update, rollback, rm, terminate, pause, resume, kill or offload
    #[arg(value_name = "VERB", value_parser = verb)]
    pub verb: Verb,
    /// Workloads, Packages or Scenarios
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}

/// Asks.
pub fn policy(args: PolicyArgs, context: &mut Context) -> Result<Exit> {
    match args.what {
        What::Check(args) => check(&args, context),
    }
}

fn check(args: &CheckArgs, context: &mut Context) -> Result<Exit> {
    let example = "write actionctl policy check launch -f FILE, or name targets: actionctl policy check stop web";
    let mut jobs = args.files.jobs_or_targets(args.verb, &ActionArgs::default(), &args.targets, example)?;
    let client = context.connect()?;
    let mut answers = Vec::new();
    for job in &mut jobs {
        args.nodes.set(job.spec.parameters.mut_or_insert_default());
        let answer = client.check_policy(&job.spec)?;
        tell_warnings(job, &answer, context);
        answers.push(answer);
    }
    let rows = || jobs.iter().zip(&answers).flat_map(|(job, answer)| rows(&job.spec, answer));
    let allowed = || rows().filter(|(_, verdict)| verdict.allowed).map(|(name, _)| name);
    context.screen.answer(
        || node(&answers),
        |format| match format {
            Format::Name => allowed().collect::<Vec<_>>().join("\n"),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => table::verdicts(rows()),
        },
    )?;
    Ok(if answers.iter().all(|answer| answer.allowed) { Exit::Ok } else { Exit::Refused })
}

/// The verdicts, each with the name of what it is about.
fn rows<'a>(
    spec: &'a ActionSpec,
    answer: &'a CheckPolicyResponse,
) -> impl Iterator<Item = (&'a str, &'a PolicyVerdict)> {
    answer.verdicts.iter().map(|verdict| {
        let name = if verdict.workload.is_empty() { &spec.target } else { &verdict.workload };
        (name.as_str(), verdict)
    })
}

/// The answer for programs: that of the API or, of several actions, a list of those.
fn node(answers: &[CheckPolicyResponse]) -> Node {
    match answers {
        [only] => only.node(),
        several => object! { answers: Node::list(several) },
    }
}

fn tell_warnings(job: &Job, answer: &CheckPolicyResponse, context: &Context) {
    for warning in &answer.warnings {
        let (source, line) = job.bundle.as_ref().map_or(("", warning.line), |bundle| bundle.locate(warning.line));
        let mut placed = warning.clone();
        placed.line = line;
        context.screen.warning(&warning_line(&placed, source));
    }
}
