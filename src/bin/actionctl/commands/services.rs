//! `services`: nodes whose services are managed from one place, what manages them, the services as they change, and which of
//! them start with the boot.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use crate::api::{
    ControlManagerRequest, ListNodesResponse, ListServicesRequest, ManagerVerb, ServiceManager, ServiceState,
    UnitFilesRequest, UnitFilesResponse, WatchServicesRequest,
};
use crate::client::Next;
use crate::exit::Exit;
use crate::failure::Result;
use crate::render::services;
use crate::render::tree::{ToNode, object};
use crate::screen::Format;

/// How often a quiet stream is looked after.
const LOOK: Duration = Duration::from_secs(60);

/// Options of `services`.
#[derive(Debug, Clone, Args)]
pub struct ServicesArgs {
    /// What is done; without, the nodes are shown.
    #[command(subcommand)]
    pub what: Option<What>,
}

/// What `services` does.
#[derive(Debug, Clone, Subcommand)]
pub enum What {
    /// Show the nodes and what manages services on this one
    Nodes,
    /// Start the controller, or this node's agent
    Start(ManagerArgs),
    /// Stop the controller or an agent; what they have started goes on
    Stop(ManagerArgs),
    /// Stop the controller or an agent and start it again
    Restart(ManagerArgs),
    /// Show services as they are, then each as it changes
    Watch(WatchArgs),
    /// Show services as they are, and whether they start with the boot
    List(WatchArgs),
    /// Have units start with the boot, as their [Install] sections say; nothing is started now
    Enable(EnableArgs),
    /// Have units start with the boot no more; what runs goes on
    Disable(UnitsArgs),
    /// Have a node read its unit files anew, and run its generators
    Reload(NodeArgs),
}

/// Which node.
#[derive(Debug, Clone, Args)]
pub struct NodeArgs {
    /// Of this node; without, the one that the daemon is on
    #[arg(long, value_name = "NODE", default_value_t, hide_default_value = true)]
    pub node: String,
}

/// Which units.
#[derive(Debug, Clone, Args)]
pub struct UnitsArgs {
    /// The units, with what their names end with (NAME.service)
    #[arg(value_name = "UNIT", required = true)]
    pub units: Vec<String>,
    #[command(flatten)]
    pub node: NodeArgs,
    /// What was asked for up to the next boot alone
    #[arg(long)]
    pub runtime: bool,
}

/// Options of `enable`.
#[derive(Debug, Clone, Args)]
pub struct EnableArgs {
    #[command(flatten)]
    pub units: UnitsArgs,
    /// Replace links that are in the way
    #[arg(long)]
    pub force: bool,
}

/// Which manager.
#[derive(Debug, Clone, Args)]
pub struct ManagerArgs {
    /// What manages services
    #[arg(value_name = "MANAGER", value_enum)]
    pub manager: Manager,
    /// Of this node; without, the one that the daemon is on
    #[arg(long, value_name = "NODE", default_value_t, hide_default_value = true)]
    pub node: String,
}

/// What manages services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Manager {
    /// Of all nodes
    Controller,
    /// Of one node
    Agent,
}

/// Which services.
#[derive(Debug, Clone, Args)]
pub struct WatchArgs {
    /// Of this node alone
    #[arg(long, value_name = "NODE", default_value_t, hide_default_value = true)]
    pub node: String,
    /// This unit alone; without, all services
    #[arg(value_name = "UNIT", default_value_t, hide_default_value = true)]
    pub unit: String,
}

/// Does it.
pub fn services(args: ServicesArgs, context: &mut Context) -> Result<Exit> {
    match args.what.unwrap_or(What::Nodes) {
        What::Nodes => nodes(context),
        What::Start(args) => control(args, ManagerVerb::MANAGER_VERB_START, context),
        What::Stop(args) => control(args, ManagerVerb::MANAGER_VERB_STOP, context),
        What::Restart(args) => control(args, ManagerVerb::MANAGER_VERB_RESTART, context),
        What::Watch(args) => watch(args, context),
        What::List(args) => list(args, context),
        What::Enable(args) => {
            let request = UnitFilesRequest { force: args.force, ..unit_files(args.units) };
            let changed = context.connect()?.enable_units(&request)?;
            told(&changed, &request, "enabled", context)
        }
        What::Disable(args) => {
            let request = unit_files(args);
            let changed = context.connect()?.disable_units(&request)?;
            told(&changed, &request, "disabled", context)
        }
        What::Reload(args) => reload(args, context),
    }
}

fn list(args: WatchArgs, context: &mut Context) -> Result<Exit> {
    let request = ListServicesRequest { node: args.node, unit: args.unit, ..Default::default() };
    let found = context.connect()?.list_services(&request)?;
    context.screen.answer(
        || found.node(),
        |format| match format {
            Format::Name => services::units(&found),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => services::list(&found),
        },
    )?;
    Ok(Exit::Ok)
}

fn unit_files(args: UnitsArgs) -> UnitFilesRequest {
    UnitFilesRequest { node: args.node.node, units: args.units, runtime: args.runtime, ..Default::default() }
}

fn told(done: &UnitFilesResponse, request: &UnitFilesRequest, word: &str, context: &mut Context) -> Result<Exit> {
    let word = if done.changed { word } else { "unchanged" };
    context.screen.answer(|| done.node(), |_| services::arranged(done, &request.units, word))?;
    Ok(Exit::Ok)
}

fn reload(args: NodeArgs, context: &mut Context) -> Result<Exit> {
    let of = of_node(&args.node);
    context.connect()?.reload_units(args.node)?;
    context.screen.answer(|| object! { changed: true }, |_| format!("unit files{of} read anew"))?;
    Ok(Exit::Ok)
}

fn of_node(node: &str) -> String {
    if node.is_empty() { String::new() } else { format!(" of node '{node}'") }
}

fn nodes(context: &mut Context) -> Result<Exit> {
    let found: ListNodesResponse = context.connect()?.nodes()?;
    context.screen.answer(
        || found.node(),
        |format| match format {
            Format::Name => services::names(&found),
            Format::Text | Format::Wide | Format::Json | Format::Yaml => services::nodes(&found),
        },
    )?;
    Ok(Exit::Ok)
}

fn control(args: ManagerArgs, verb: ManagerVerb, context: &mut Context) -> Result<Exit> {
    let (manager, word) = match args.manager {
        Manager::Controller => (ServiceManager::SERVICE_MANAGER_CONTROLLER, "controller"),
        Manager::Agent => (ServiceManager::SERVICE_MANAGER_AGENT, "agent"),
    };
    let request = ControlManagerRequest {
        manager: manager.into(),
        node: args.node.clone(),
        verb: verb.into(),
        ..Default::default()
    };
    let changed = context.connect()?.control_manager(&request)?.changed;
    let done = match (changed, verb) {
        (false, _) => "unchanged",
        (true, ManagerVerb::MANAGER_VERB_STOP) => "stopped",
        (true, ManagerVerb::MANAGER_VERB_RESTART) => "restarted",
        (true, _) => "started",
    };
    let of = of_node(&args.node);
    context.screen.answer(|| object! { changed: changed }, |_| format!("{word}{of} {done}"))?;
    Ok(Exit::Ok)
}

fn watch(args: WatchArgs, context: &mut Context) -> Result<Exit> {
    let request = WatchServicesRequest { node: args.node, unit: args.unit, ..Default::default() };
    let mut messages = context.connect()?.watch_services(&request)?;
    while !context.screen.is_closed() {
        match messages.next(LOOK)? {
            Next::Message(state) => show(&state, context)?,
            Next::Quiet => {}
            Next::End => break,
        }
    }
    Ok(Exit::Ok)
}

fn show(state: &ServiceState, context: &mut Context) -> Result<()> {
    match context.screen.format() {
        Format::Json | Format::Yaml => context.screen.document(&state.node()),
        Format::Text | Format::Wide | Format::Name => context.screen.line(&services::state(state)),
    }
}
