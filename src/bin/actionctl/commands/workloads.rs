//! `ps`, `get`, `stats` and `wait`: what runs here, and how.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;

use super::Context;
use crate::api::{self, StatsResponse, WaitRequest};
use crate::exit::Exit;
use crate::failure::Result;
use crate::render::tree::{Node, ToNode, object};
use crate::render::words::word;
use crate::render::{describe, table};
use crate::screen::Format;
use crate::values::millis;

/// How long `wait` waits unless told otherwise, as the API has it.
const WAIT: Duration = Duration::from_secs(60);

/// Options of `ps`.
#[derive(Debug, Clone, Args)]
pub struct PsArgs {
    /// Containers instead of workloads
    #[arg(short, long)]
    pub containers: bool,
    /// Init containers as well; implies --containers
    #[arg(short, long)]
    pub all: bool,
    /// Only workloads of this Package
    #[arg(long, value_name = "PACKAGE", default_value_t, hide_default_value = true)]
    pub package: String,
}

/// Lists workloads or their containers.
pub fn ps(args: PsArgs, context: &mut Context) -> Result<Exit> {
    let list = context.connect()?.workloads(&args.package)?;
    let now = Timestamp::now();
    context.screen.answer(
        || list.node(),
        |format| match format {
            Format::Name => list.workloads.iter().map(|one| one.name.clone()).collect::<Vec<_>>().join("\n"),
            Format::Text | Format::Wide | Format::Json | Format::Yaml if args.containers || args.all => {
                table::containers(&list.workloads, args.all, format == Format::Wide, now)
            }
            Format::Text | Format::Wide | Format::Json | Format::Yaml => {
                table::workloads(&list.workloads, format == Format::Wide, now)
            }
        },
    )?;
    Ok(Exit::Ok)
}

/// Options of `get`.
#[derive(Debug, Clone, Args)]
pub struct GetArgs {
    /// What is shown.
    #[command(subcommand)]
    pub what: What,
}

/// What `get` shows.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// One workload with its containers
    Workload {
        /// The workload
        name: String,
    },
    /// One action: how far it is, or what it came to
    Action {
        /// The action
        #[arg(value_name = "ID")]
        id: String,
    },
}

/// Shows one workload or action in full.
pub fn get(args: GetArgs, context: &mut Context) -> Result<Exit> {
    let client = context.connect()?;
    let now = Timestamp::now();
    match args.what {
        What::Workload { name } => {
            let workload = client.workload(&name)?;
            context.screen.answer(
                || workload.node(),
                |format| match format {
                    Format::Name => workload.name.clone(),
                    Format::Text | Format::Wide | Format::Json | Format::Yaml => describe::workload(&workload, now),
                },
            )?;
        }
        What::Action { id } => {
            let action = client.action(&id)?;
            context.screen.answer(
                || action.node(),
                |format| match format {
                    Format::Name => action.action_id.clone(),
                    Format::Text | Format::Wide | Format::Json | Format::Yaml => describe::action(&action, now),
                },
            )?;
        }
    }
    Ok(Exit::Ok)
}

/// Options of `stats`.
#[derive(Debug, Clone, Args)]
pub struct StatsArgs {
    /// Workloads [default: all that there are]
    #[arg(value_name = "WORKLOAD")]
    pub workloads: Vec<String>,
}

/// Shows what containers use of the node. Without names, a workload that goes away in the meantime is passed over.
pub fn stats(args: StatsArgs, context: &mut Context) -> Result<Exit> {
    let client = context.connect()?;
    let are_named = !args.workloads.is_empty();
    let names = match are_named {
        true => args.workloads,
        false => client.workloads("")?.workloads.into_iter().map(|workload| workload.name).collect(),
    };
    let mut answers: Vec<(String, StatsResponse)> = Vec::new();
    for name in names {
        match client.stats(&name) {
            Ok(answer) => answers.push((name, answer)),
            Err(failure) if are_named || failure.exit == Exit::Unreachable => return Err(failure),
            Err(failure) => context.screen.warning(&format!("{name}: {}", failure.message)),
        }
    }
    let rows =
        || answers.iter().flat_map(|(name, answer)| answer.containers.iter().map(|stats| (name.as_str(), stats)));
    context.screen.answer(
        || stats_node(&answers),
        |format| match format {
            Format::Name => rows().map(|(name, stats)| format!("{name}/{}", stats.name)).collect::<Vec<_>>().join("\n"),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => table::stats(rows()),
        },
    )?;
    Ok(Exit::Ok)
}

/// The answers for programs: always a list, with the workload beside each answer.
fn stats_node(answers: &[(String, StatsResponse)]) -> Node {
    let entries = answers.iter().map(|(name, answer)| object! { workload: name, stats: answer });
    object! { workloads: Node::List(entries.collect()) }
}

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Condition {
    /// All containers run
    Running,
    /// All are healthy, or run where they have no health check
    Healthy,
    /// All have ended
    Exited,
    /// None is there
    Gone,
}

impl From<Condition> for api::Condition {
    fn from(condition: Condition) -> Self {
        match condition {
            Condition::Running => Self::CONDITION_RUNNING,
            Condition::Healthy => Self::CONDITION_HEALTHY,
            Condition::Exited => Self::CONDITION_EXITED,
            Condition::Gone => Self::CONDITION_GONE,
        }
    }
}

/// Options of `wait`.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Waits 60s unless --timeout says otherwise; ends with code 4 when the time is over.")]
pub struct WaitArgs {
    /// The workload
    #[arg(value_name = "WORKLOAD")]
    pub workload: String,
    /// What to wait for
    #[arg(long = "for", value_enum, value_name = "CONDITION")]
    pub condition: Condition,
}

/// Waits until a workload is as asked for.
pub fn wait(args: WaitArgs, context: &mut Context) -> Result<Exit> {
    let client = context.connect()?;
    let condition = api::Condition::from(args.condition);
    let request = WaitRequest {
        workload: args.workload.clone(),
        condition: condition.into(),
        timeout_ms: millis(client.timeout().unwrap_or(WAIT)),
        ..Default::default()
    };
    let answer = client.wait(&request)?;
    context.screen.answer(
        || Node::from(answer.workload.as_ref()),
        |format| match format {
            Format::Name => args.workload.clone(),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => match args.condition {
                Condition::Running | Condition::Healthy | Condition::Gone => {
                    format!("{} is {}", args.workload, word(condition.into()))
                }
                Condition::Exited => format!("{} has {}", args.workload, word(condition.into())),
            },
        },
    )?;
    Ok(Exit::Ok)
}
