//! The command line: options of all commands, and the commands. Each command's own options stand beside it in
//! [`commands`](crate::commands).

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};

use crate::address::{self, Address};
use crate::commands::actions::{ActionsArgs, CancelArgs};
use crate::commands::apply::ApplyArgs;
use crate::commands::generate::{CompletionsArgs, ManArgs};
use crate::commands::offload::OffloadArgs;
use crate::commands::output::{ExecArgs, LogsArgs};
use crate::commands::plan::PlanArgs;
use crate::commands::policy::PolicyArgs;
use crate::commands::run::RunArgs;
use crate::commands::scale::ScaleArgs;
use crate::commands::services::ServicesArgs;
use crate::commands::update::UpdateArgs;
use crate::commands::verbs::{KillArgs, PlainArgs, RemoveArgs, RollbackArgs, StopArgs};
use crate::commands::workloads::{GetArgs, PsArgs, StatsArgs, WaitArgs};
use crate::exit::{self, Exit};
use crate::screen::Format;
use crate::values::positive_duration;

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "actionctl",
    version,
    about = "Controls the workloads of this node through the Action Controller",
    after_help = after_help(),
    disable_help_subcommand = true
)]
pub struct Cli {
    /// Options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the help and the manual page say at their end.
fn after_help() -> String {
    format!(
        "{}\nEnvironment:\n  {}  where the daemon listens, unless --address says it\n  NO_COLOR  no colour, where \
         it is not empty\n",
        exit::table_text(),
        address::VARIABLE
    )
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Where the daemon listens: unix:///PATH or HOST:PORT. Default: $ACTIONCONTROLLER_ADDRESS, or
    /// unix:///run/actioncontroller/actioncontroller.sock
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Global options")]
    pub address: Option<Address>,
    /// How long to wait for the answer, for example 500ms, 30s or 2m; an action goes on
    #[arg(long, global = true, value_name = "TIME", value_parser = positive_duration, help_heading = "Global options")]
    pub timeout: Option<Duration>,
    /// Form of the answer; the fields of json and yaml are those of the API and stable
    #[arg(
        short,
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    pub output: Format,
    /// Only errors: no progress, no warnings
    #[arg(short, long, global = true, help_heading = "Global options")]
    pub quiet: bool,
}

impl Global {
    /// The address from the option, the environment or the default.
    pub fn address(&self) -> Result<Address, String> {
        if let Some(address) = &self.address {
            return Ok(address.clone());
        }
        match std::env::var(address::VARIABLE) {
            Ok(text) if !text.is_empty() => text.parse().map_err(|error| format!("{} {error}", address::VARIABLE)),
            Ok(_) | Err(std::env::VarError::NotPresent) => address::DEFAULT.parse(),
            Err(std::env::VarError::NotUnicode(_)) => Err(format!("{} is no UTF-8 text", address::VARIABLE)),
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Launch what documents describe
    Apply(ApplyArgs),
    /// Replace workloads by changed documents; the ones before are kept for a rollback
    Update(UpdateArgs),
    /// Return workloads to the documents that an update replaced
    Rollback(RollbackArgs),
    /// Launch one container from an image
    Run(RunArgs),
    /// Start workloads that were stopped
    Start(PlainArgs),
    /// Stop workloads: signal, grace, SIGKILL
    Stop(StopArgs),
    /// Stop workloads and start them again
    Restart(StopArgs),
    /// Remove stopped workloads
    #[command(visible_alias = "remove")]
    Rm(RemoveArgs),
    /// Stop workloads and remove them
    Terminate(StopArgs),
    /// Freeze workloads
    Pause(PlainArgs),
    /// Thaw workloads
    Resume(PlainArgs),
    /// End workloads with SIGKILL or another signal, at once
    Kill(KillArgs),
    /// Move a workload to another node
    Offload(OffloadArgs),
    /// Checkpoint workloads to disk
    Hibernate(PlainArgs),
    /// Restore workloads from their checkpoints
    Wake(PlainArgs),
    /// Change limits of what runs, with no restart
    Scale(ScaleArgs),
    /// Cancel an action that waits or runs
    Cancel(CancelArgs),
    /// Show what actions would do, and touch nothing
    Plan(PlanArgs),
    /// List workloads or their containers
    Ps(PsArgs),
    /// Show one workload or action in full
    Get(GetArgs),
    /// Show the output of a container
    Logs(LogsArgs),
    /// Run a command in a container; ends with the command's exit code
    Exec(ExecArgs),
    /// Show what containers use of the node
    Stats(StatsArgs),
    /// Wait until a workload runs, is healthy, has ended or is gone
    Wait(WaitArgs),
    /// List actions, or follow one
    Actions(ActionsArgs),
    /// Ask what policy says
    Policy(PolicyArgs),
    /// Ask whether the daemon takes requests, and how its engines and store are
    Health,
    /// Show the runtime engines, what they can do, and why one is not available
    Runtimes,
    /// Show the CPUs, which workload has them alone, and who else may run there
    Cores,
    /// Show nodes and their services, have these start with the boot, or start and stop BlueChi
    Services(ServicesArgs),
    /// Print the completions of a shell
    Completions(CompletionsArgs),
    /// Write the manual pages
    Man(ManArgs),
}

/// Reads the command line. Help, the version and what is wrong are printed here; what comes back then is the exit
/// code, of `exec` one of its own.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, Exit> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    Cli::try_parse_from(&arguments).map_err(|error| {
        // There is nowhere to tell that printing failed.
        let _ = error.print();
        match error.use_stderr() {
            false => Exit::Ok,
            true if is_exec(arguments) => Exit::Usage.of_exec(),
            true => Exit::Usage,
        }
    })
}

/// Whether a wrong command line was one of `exec`.
fn is_exec(arguments: Vec<OsString>) -> bool {
    let lenient = Cli::command().ignore_errors(true).try_get_matches_from(arguments);
    lenient.is_ok_and(|matches| matches.subcommand_name() == Some("exec"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_and_after_the_command() {
        for line in ["actionctl -o json --timeout 2s ps", "actionctl ps -o json --timeout 2s"] {
            let cli = parsed(line).unwrap();
            assert_eq!(cli.global.output, Format::Json);
            assert_eq!(cli.global.timeout, Some(Duration::from_secs(2)));
        }
    }

    #[test]
    fn address_is_checked_when_it_is_read() {
        let cli = parsed("actionctl --address host:50051 ps").unwrap();
        assert_eq!(cli.global.address(), Ok(Address::Tcp("host:50051".to_owned())));
        assert!(parsed("actionctl --address nowhere ps").is_err());
    }

    #[test]
    fn command_of_exec_keeps_its_own_options() {
        let command_of = |line: &str| match parsed(line).unwrap().command {
            Command::Exec(args) => (args.container, args.command),
            other => panic!("{other:?}"),
        };
        for line in ["actionctl exec -c core web -- ls -o -c", "actionctl exec web -c core -- ls -o -c"] {
            let (container, command) = command_of(line);
            assert_eq!((container.as_str(), command), ("core", vec!["ls".into(), "-o".into(), "-c".into()]), "{line}");
        }
        let (_, command) = command_of("actionctl exec web ls -l /");
        assert_eq!(command, ["ls", "-l", "/"]);
    }

    #[test]
    fn wrong_lines_are_refused() {
        for line in [
            "actionctl",
            "actionctl nonsense",
            "actionctl stop",
            "actionctl stop --grace 30 web",
            "actionctl apply",
            "actionctl offload web",
            "actionctl offload --to B",
            "actionctl rollback",
            "actionctl policy",
            "actionctl policy check fly web",
            "actionctl apply -f a --wait --async",
            "actionctl wait web",
            "actionctl wait web --for sunshine",
            "actionctl exec web",
            "actionctl run",
            "actionctl -o xml ps",
            "actionctl logs web --since yesterday",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }

    #[test]
    fn wrong_line_of_exec_has_its_own_code() {
        let code = |line: &str| parse(line.split_whitespace().map(OsString::from)).unwrap_err().code();
        assert_eq!(code("actionctl exec web"), 122);
        assert_eq!(code("actionctl stop"), 2);
        assert_eq!(code("actionctl --version"), 0);
    }
}
