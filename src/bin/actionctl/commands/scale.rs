//! `scale`: changes limits of what runs, with no restart.

use clap::Args;

use super::Context;
use super::verbs::{PlainArgs, on_targets};
use crate::api::{Parameters, Resources, Verb};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::values::{limit_bytes, limit_cpus};

/// Options of `scale`.
#[derive(Debug, Clone, Args)]
#[command(
    after_help = "What is not given stays as it is; 0 takes a limit away. New limits outlive stops and restarts, and end \
    with the next\nlaunch or update of another document. `actionctl get` shows them beside those that are in force."
)]
pub struct ScaleArgs {
    /// CPU time, for example 1.5 or 500m; 0 for no limit
    #[arg(long, value_name = "NUMBER", value_parser = limit_cpus)]
    pub cpus: Option<String>,
    /// Relative weight among the busy, 2 to 262144; 0 for the usual one
    #[arg(long, value_name = "NUMBER")]
    pub cpu_shares: Option<u64>,
    /// The most memory, for example 256m; 0 for no limit
    #[arg(short, long, value_name = "SIZE", value_parser = limit_bytes)]
    pub memory: Option<u64>,
    /// Memory that is reclaimed down to under pressure; 0 for none
    #[arg(long, value_name = "SIZE", value_parser = limit_bytes)]
    pub memory_reservation: Option<u64>,
    /// The most processes and threads; 0 for no limit
    #[arg(long, value_name = "NUMBER")]
    pub pids: Option<u64>,
    /// These containers of the workload alone
    #[arg(long, value_name = "NAME")]
    pub container: Vec<String>,
    /// Take memory that is in use as well: the kernel reclaims it, ends processes, or refuses
    #[arg(short, long)]
    pub force: bool,
    /// What every verb has.
    #[command(flatten)]
    pub plain: PlainArgs,
}

impl ScaleArgs {
    fn resources(&self) -> Resources {
        let text = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
        Resources {
            cpu: self.cpus.clone().unwrap_or_default(),
            cpu_shares: self.cpu_shares,
            memory: text(self.memory),
            memory_reservation: text(self.memory_reservation),
            pids: self.pids,
            ..Default::default()
        }
    }
}

/// Changes limits of what runs.
pub fn scale(args: ScaleArgs, context: &mut Context) -> Result<Exit> {
    let resources = args.resources();
    if resources == Resources::default() {
        return Err(Failure::usage("scale changes limits, and none is given").hint("for example --memory 256m"));
    }
    let set = |parameters: &mut Parameters| {
        parameters.resources = Some(resources.clone()).into();
        parameters.containers.clone_from(&args.container);
        parameters.force = args.force;
    };
    on_targets(Verb::VERB_SCALE, &args.plain, set, context)
}
