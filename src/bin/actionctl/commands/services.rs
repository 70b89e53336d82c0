//! `services`: nodes whose services are managed from one place, what manages them, and the services as they change.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

use super::Context;
use crate::api::{
    ControlManagerRequest, ListNodesResponse, ManagerVerb, ServiceManager, ServiceState, WatchServicesRequest,
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
    }
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
    let of = if args.node.is_empty() { String::new() } else { format!(" of node '{}'", args.node) };
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
