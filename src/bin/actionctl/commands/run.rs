//! `run`: launches one container from an image, through a Pod document made of the options, or one command as a service of
//! systemd, through a transient unit.

use clap::Args;

use super::Context;
use super::verbs::ActionArgs;
use crate::api::Verb;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::jobs::{self, Job};
use crate::pod::PodRequest;
use crate::unit::UnitRequest;
use crate::values::{Publish, Volume, bytes, cpus, env_var};

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    /// The workload's name [default: the last part of the image]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// A variable, or just its name for the value that it has here
    #[arg(short, long, value_name = "NAME[=VALUE]", value_parser = env_var)]
    pub env: Vec<(String, String)>,
    /// A port of the host for one of the container
    #[arg(short, long, value_name = "[ADDRESS:]HOST:CONTAINER[/udp]")]
    pub publish: Vec<Publish>,
    /// A folder of the host, or a volume by name, mounted into the container
    #[arg(short, long, value_name = "SOURCE:PATH[:ro]")]
    pub volume: Vec<Volume>,
    /// A network by name, or 'host' [default: the engine's own]
    #[arg(long, value_name = "NAME")]
    pub network: Vec<String>,
    /// The most memory, for example 256m
    #[arg(short, long, value_name = "SIZE", value_parser = bytes)]
    pub memory: Option<u64>,
    /// The most CPU, for example 1.5 or 500m
    #[arg(long, value_name = "NUMBER", value_parser = cpus)]
    pub cpus: Option<String>,
    /// Print the document instead of launching it
    #[arg(long, conflicts_with_all = ["dry_run", "no_wait", "wait"])]
    pub print: bool,
    /// Options of every action.
    #[command(flatten)]
    pub action: ActionArgs,
    /// The image's reference; with --runtime systemd the program's path
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Arguments in place of the image's; with --runtime systemd the program's
    #[arg(value_name = "ARGUMENT", trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<String>,
}

/// The engine that has no images.
const SYSTEMD: &str = "systemd";

/// Launches one container, or one service.
pub fn run(args: RunArgs, context: &mut Context) -> Result<Exit> {
    let (name, text) = match args.action.runtime.as_deref() {
        Some(SYSTEMD) => service(&args)?,
        _ => pod(&args)?,
    };
    if args.print {
        context.screen.only_text("run --print")?;
        context.screen.line(&text)?;
        return Ok(Exit::Ok);
    }
    let mut spec = args.action.spec(Verb::VERB_LAUNCH, &name);
    spec.manifest = text;
    jobs::carry_out(vec![Job::new(spec)], args.action.manner(1)?, context)
}

fn service(args: &RunArgs) -> Result<(String, String)> {
    let has_own_network = args.network.iter().any(|network| network != "host");
    let foreign = [
        ("--publish", !args.publish.is_empty()),
        ("--volume", !args.volume.is_empty()),
        ("--network", has_own_network),
    ];
    if let Some((option, _)) = foreign.iter().find(|(_, is_given)| *is_given) {
        return Err(Failure::usage(format!("{option}: a service of systemd has the node's own network and files")));
    }
    let request = UnitRequest {
        name: args.name.clone().unwrap_or_default(),
        program: args.image.clone(),
        args: args.args.clone(),
        env: args.env.clone(),
        memory: args.memory,
        cpus: args.cpus.clone(),
    };
    request.document().map_err(Failure::usage)
}

fn pod(args: &RunArgs) -> Result<(String, String)> {
    let request = PodRequest {
        image: args.image.clone(),
        name: args.name.clone().unwrap_or_default(),
        env: args.env.clone(),
        publish: args.publish.clone(),
        volumes: args.volume.clone(),
        networks: args.network.clone(),
        memory: args.memory,
        cpus: args.cpus.clone(),
        args: args.args.clone(),
    };
    let document = request.document().map_err(Failure::usage)?;
    let name = document.pointer("/metadata/name").and_then(|name| name.as_str()).unwrap_or_default();
    Ok((name.to_owned(), format!("{document:#}")))
}
