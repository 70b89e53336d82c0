//! `plan`: what actions would do together, by stage, with nothing touched.

use clap::Args;

use super::Context;
use super::apply::FileArgs;
use super::offload::MoveArgs;
use super::verbs::{ActionArgs, PartialArgs};
use crate::api::{ActionSpec, Plan, Verb};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::render::describe::{plan_text, warning_line};
use crate::render::tree::ToNode;
use crate::screen::{Format, Screen};

/// Options of `plan`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Plans the launch of the documents of -f, or a verb on targets that are there:\n  \
    actionctl plan -f web.yaml\n  actionctl plan stop web")]
pub struct PlanArgs {
    /// Where documents come from.
    #[command(flatten)]
    pub files: FileArgs,
    /// The runtime engine [default: the document's, or the node's choice]
    #[arg(long, value_name = "ENGINE", visible_alias = "engine")]
    pub runtime: Option<String>,
    /// Plan as with rm --force
    #[arg(long)]
    pub force: bool,
    /// Each workload by itself.
    #[command(flatten)]
    pub each: PartialArgs,
    /// Of an offload: from where to where.
    #[command(flatten)]
    pub nodes: MoveArgs,
    /// launch, start, stop, restart, update, rollback, rm, terminate, pause, resume, kill or offload [default with -f:
    /// launch]
    #[arg(value_name = "VERB", value_parser = verb)]
    pub verb: Option<Verb>,
    /// Workloads, Packages or Scenarios
    #[arg(value_name = "TARGET")]
    pub targets: Vec<String>,
}

/// A verb by its word or by the command of it.
pub fn verb(text: &str) -> std::result::Result<Verb, String> {
    Ok(match text {
        "apply" | "launch" | "run" => Verb::VERB_LAUNCH,
        "start" => Verb::VERB_START,
        "stop" => Verb::VERB_STOP,
        "restart" => Verb::VERB_RESTART,
        "update" => Verb::VERB_UPDATE,
        "rollback" => Verb::VERB_ROLLBACK,
        "rm" | "remove" => Verb::VERB_REMOVE,
        "terminate" => Verb::VERB_TERMINATE,
        "pause" => Verb::VERB_PAUSE,
        "resume" => Verb::VERB_RESUME,
        "hibernate" => Verb::VERB_HIBERNATE,
        "wake" => Verb::VERB_WAKE,
        "kill" => Verb::VERB_KILL,
        "scale" => Verb::VERB_SCALE,
        "offload" => Verb::VERB_OFFLOAD,
        _ => {
            return Err(String::from(
                "is no verb; launch, start, stop, restart, update, rollback, rm, terminate, pause, resume, kill and \
                 offload are",
            ));
        }
    })
}

/// Shows what the actions would do. A plan that would be refused is refused here too, after what there is of it.
pub fn plan(args: PlanArgs, context: &mut Context) -> Result<Exit> {
    let specs = specs(&args)?;
    let plan = context.connect()?.plan(specs)?;
    show(&plan, &mut context.screen)?;
    Ok(tell_errors(&plan, &context.screen))
}

fn specs(args: &PlanArgs) -> Result<Vec<ActionSpec>> {
    let action = ActionArgs { runtime: args.runtime.clone(), ..Default::default() };
    let verb = args.verb.unwrap_or(Verb::VERB_LAUNCH);
    let example = "write actionctl plan -f FILE, or a verb and targets: actionctl plan stop web";
    let jobs = args.files.jobs_or_targets(verb, &action, &args.targets, example)?;
    let mut specs: Vec<ActionSpec> = jobs.into_iter().map(|job| job.spec).collect();
    for spec in &mut specs {
        let parameters = spec.parameters.mut_or_insert_default();
        (parameters.force, parameters.partial) = (args.force, args.each.partial);
        args.nodes.set(parameters);
    }
    Ok(specs)
}

/// Prints a plan and its warnings.
pub fn show(plan: &Plan, screen: &mut Screen) -> Result<()> {
    for warning in &plan.warnings {
        screen.warning(&warning_line(warning, ""));
    }
    screen.answer(
        || plan.node(),
        |format| match format {
            Format::Name => plan.steps.iter().map(|step| step.title.clone()).collect::<Vec<_>>().join("\n"),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => plan_text(plan, format == Format::Wide),
        },
    )
}

/// Tells why the actions would be refused; the exit code is that of the first reason.
fn tell_errors(plan: &Plan, screen: &Screen) -> Exit {
    let mut exit = Exit::Ok;
    for error in &plan.errors {
        let status = grpcio::RpcStatusCode::from(error.status);
        let failure = Failure::of_detail(Exit::of_status(status), error.clone());
        screen.failure(&failure);
        if exit == Exit::Ok {
            exit = failure.exit;
        }
    }
    exit
}

#[cfg(test)]
mod tests {
    use protobuf::Enum;

    use super::*;
    use crate::render::words::word;

    #[test]
    fn every_verb_can_be_planned_by_its_word() {
        for known in Verb::VALUES.iter().filter(|verb| **verb != Verb::VERB_UNSPECIFIED) {
            assert_eq!(verb(&word((*known).into())), Ok(*known));
        }
        assert!(verb("fly").is_err());
    }
}
