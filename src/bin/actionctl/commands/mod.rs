//! The commands, one file for each group: [`apply`], [`update`], [`offload`], [`run`] and [`verbs`] ask for actions,
//! [`plan`] shows what they would do and [`policy`] whether they may, [`actions`] follows and cancels them, [`workloads`]
//! and [`output`] show what runs, [`health`] how the node is, [`runtimes`] its engines and [`cores`] its CPUs, [`services`] nodes beside it, [`generate`] writes completions
//! and manual pages.
//!
//! A command takes its options and the [`Context`], and gives an [`Exit`] or a [`Failure`]. A new one is a variant of
//! [`Command`] with an arm in [`dispatch`].

pub mod actions;
pub mod apply;
pub mod cores;
pub mod generate;
pub mod health;
pub mod offload;
pub mod output;
pub mod plan;
pub mod policy;
pub mod run;
pub mod runtimes;
pub mod scale;
pub mod services;
pub mod update;
pub mod verbs;
pub mod workloads;

use crate::api::Verb;
use crate::args::{Cli, Command, Global};
use crate::client::Client;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::screen::Screen;

/// What every command has.
pub struct Context {
    /// Where output goes.
    pub screen: Screen,
    global: Global,
}

impl Context {
    /// A connection to the daemon.
    pub fn connect(&self) -> Result<Client> {
        let address = self.global.address().map_err(Failure::usage)?;
        Client::connect(&address, self.global.timeout)
    }
}

/// Runs the command; what is wrong is told here.
pub fn run(cli: Cli) -> Exit {
    let is_exec = matches!(cli.command, Command::Exec(_));
    let mut context = Context { screen: Screen::new(cli.global.output, cli.global.quiet), global: cli.global };
    let exit = dispatch(cli.command, &mut context).unwrap_or_else(|failure| {
        context.screen.failure(&failure);
        failure.exit
    });
    if is_exec { exit.of_exec() } else { exit }
}

fn dispatch(command: Command, context: &mut Context) -> Result<Exit> {
    match command {
        Command::Apply(args) => apply::apply(args, context),
        Command::Update(args) => update::update(args, context),
        Command::Offload(args) => offload::offload(args, context),
        Command::Run(args) => run::run(args, context),
        Command::Start(args) => verbs::plain(Verb::VERB_START, args, context),
        Command::Stop(args) => verbs::stop(Verb::VERB_STOP, args, context),
        Command::Restart(args) => verbs::stop(Verb::VERB_RESTART, args, context),
        Command::Rm(args) => verbs::remove(args, context),
        Command::Terminate(args) => verbs::stop(Verb::VERB_TERMINATE, args, context),
        Command::Pause(args) => verbs::plain(Verb::VERB_PAUSE, args, context),
        Command::Resume(args) => verbs::plain(Verb::VERB_RESUME, args, context),
        Command::Kill(args) => verbs::kill(args, context),
        Command::Rollback(args) => verbs::plain(Verb::VERB_ROLLBACK, args.plain, context),
        Command::Hibernate(args) => verbs::plain(Verb::VERB_HIBERNATE, args, context),
        Command::Wake(args) => verbs::plain(Verb::VERB_WAKE, args, context),
        Command::Scale(args) => scale::scale(args, context),
        Command::Cancel(args) => actions::cancel(args, context),
        Command::Plan(args) => plan::plan(args, context),
        Command::Ps(args) => workloads::ps(args, context),
        Command::Get(args) => workloads::get(args, context),
        Command::Logs(args) => output::logs(args, context),
        Command::Exec(args) => output::exec(args, context),
        Command::Stats(args) => workloads::stats(args, context),
        Command::Wait(args) => workloads::wait(args, context),
        Command::Actions(args) => actions::actions(args, context),
        Command::Policy(args) => policy::policy(args, context),
        Command::Health => health::health(context),
        Command::Cores => cores::cores(context),
        Command::Runtimes => runtimes::runtimes(context),
        Command::Services(args) => services::services(args, context),
        Command::Completions(args) => generate::completions(args, context),
        Command::Man(args) => generate::man(args, context),
    }
}
