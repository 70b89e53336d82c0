//! Verbs on what is there already: start, stop, restart, rm, terminate, pause, resume, kill, rollback; and the options
//! that every action has.

use std::time::Duration;

use clap::Args;

use super::Context;
use crate::api::{ActionSpec, Parameters, Verb};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::jobs::{self, Job, Manner};
use crate::values::{duration, millis, positive_duration, signal};

/// Options of every action.
#[derive(Debug, Clone, Default, Args)]
pub struct ActionArgs {
    /// Name the action, so that repeating the command is safe: the same id attaches to the same action
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The action's own time, after which it is ended and undone [default: the node's]
    #[arg(long, value_name = "TIME", value_parser = positive_duration)]
    pub deadline: Option<Duration>,
    /// Among waiting actions the higher goes first
    #[arg(long, value_name = "NUMBER", default_value_t, allow_negative_numbers = true)]
    pub priority: i32,
    /// The runtime engine [default: the document's, or the node's choice]
    #[arg(long, value_name = "ENGINE", visible_alias = "engine")]
    pub runtime: Option<String>,
    /// Show what would be done, and touch nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Wait for the action's end (the default)
    #[arg(long, conflicts_with = "no_wait")]
    pub wait: bool,
    /// Do not wait: print the action's id once it is accepted
    #[arg(long = "async", conflicts_with = "dry_run")]
    pub no_wait: bool,
}

impl ActionArgs {
    /// An action of this verb on this target, with these options.
    pub fn spec(&self, verb: Verb, target: &str) -> ActionSpec {
        let parameters = Parameters { engine: self.runtime.clone().unwrap_or_default(), ..Default::default() };
        ActionSpec {
            action_id: self.id.clone().unwrap_or_default(),
            verb: verb.into(),
            target: target.to_owned(),
            parameters: Some(parameters).into(),
            deadline_ms: self.deadline.map_or(0, millis),
            priority: self.priority,
            ..Default::default()
        }
    }

    /// How the actions are carried out; an id belongs to one action alone.
    pub fn manner(&self, count: usize) -> Result<Manner> {
        if self.id.is_some() && count > 1 {
            return Err(Failure::usage(format!("--id names one action, but these are {count}"))
                .hint("leave --id out, or ask for them one by one"));
        }
        Ok(match (self.dry_run, self.no_wait) {
            (true, _) => Manner::DryRun,
            (false, true) => Manner::Accept,
            (false, false) => Manner::Follow,
        })
    }
}

/// The option of verbs that may concern several workloads.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct PartialArgs {
    /// Take each workload by itself: where one is refused or fails, it alone is undone and the others go on
    #[arg(long)]
    pub partial: bool,
}

/// Options of verbs without any of their own.
#[derive(Debug, Clone, Args)]
pub struct PlainArgs {
    /// Workloads, Packages or Scenarios
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<String>,
    /// Each workload by itself.
    #[command(flatten)]
    pub each: PartialArgs,
    /// Options of every action.
    #[command(flatten)]
    pub action: ActionArgs,
}

/// Options of verbs that stop.
#[derive(Debug, Clone, Args)]
pub struct StopArgs {
    /// Time between the signal and SIGKILL, for example 500ms or 10s [default: the document's, or 10s]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub grace: Option<Duration>,
    /// First signal [default: SIGTERM]
    #[arg(long, value_name = "SIGNAL", value_parser = signal)]
    pub signal: Option<String>,
    /// What every verb has.
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// Options of `rm`.
#[derive(Debug, Clone, Args)]
pub struct RemoveArgs {
    /// Remove also what runs
    #[arg(short, long)]
    pub force: bool,
    /// What every verb has.
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// Options of `rollback`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "A workload returns to the document that its last launch or update replaced, once: a rollback that \
    is repeated changes\nnothing. Where there is no earlier document it is refused (exit code 3)."
)]
pub struct RollbackArgs {
    /// What every verb has.
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// Options of `kill`.
#[derive(Debug, Clone, Args)]
pub struct KillArgs {
    /// The signal, by name or number [default: SIGKILL]
    #[arg(short, long, value_name = "SIGNAL", value_parser = signal)]
    pub signal: Option<String>,
    /// What every verb has.
    #[command(flatten)]
    pub plain: PlainArgs,
}

/// start, pause, resume, rollback.
pub fn plain(verb: Verb, args: PlainArgs, context: &mut Context) -> Result<Exit> {
    on_targets(verb, &args, |_| {}, context)
}

/// stop, restart, terminate.
pub fn stop(verb: Verb, args: StopArgs, context: &mut Context) -> Result<Exit> {
    let set = |parameters: &mut Parameters| {
        parameters.grace_ms = args.grace.map(millis);
        parameters.signal = args.signal.clone().unwrap_or_default();
    };
    on_targets(verb, &args.plain, set, context)
}

/// rm.
pub fn remove(args: RemoveArgs, context: &mut Context) -> Result<Exit> {
    on_targets(Verb::VERB_REMOVE, &args.plain, |parameters| parameters.force = args.force, context)
}

/// kill.
pub fn kill(args: KillArgs, context: &mut Context) -> Result<Exit> {
    let set = |parameters: &mut Parameters| parameters.signal = args.signal.clone().unwrap_or_default();
    on_targets(Verb::VERB_KILL, &args.plain, set, context)
}

/// The verb on each target, with what `set` adds.
pub(super) fn on_targets(
    verb: Verb,
    args: &PlainArgs,
    set: impl Fn(&mut Parameters),
    context: &mut Context,
) -> Result<Exit> {
    let manner = args.action.manner(args.targets.len())?;
    let jobs = args.targets.iter().map(|target| {
        let mut spec = args.action.spec(verb, target);
        spec.parameters.mut_or_insert_default().partial = args.each.partial;
        set(spec.parameters.mut_or_insert_default());
        Job::new(spec)
    });
    jobs::carry_out(jobs.collect(), manner, context)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_id_is_not_for_several_actions() {
        let args = ActionArgs { id: Some("a-1".to_owned()), ..Default::default() };
        assert!(args.manner(1).is_ok());
        assert_eq!(args.manner(2).unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn options_arrive_in_the_action() {
        let args = ActionArgs {
            id: Some("a-1".to_owned()),
            deadline: Some(Duration::from_secs(90)),
            priority: -3,
            runtime: Some("sim".to_owned()),
            ..Default::default()
        };
        let spec = args.spec(Verb::VERB_STOP, "web");
        assert_eq!((spec.action_id.as_str(), spec.target.as_str()), ("a-1", "web"));
        assert_eq!((spec.deadline_ms, spec.priority), (90_000, -3));
        assert_eq!(spec.parameters.engine, "sim");
    }
}
