//! The daemon: arguments, configuration, start, signals, stop, exit code. What it is made of is in `daemon.rs`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use actioncontroller::config::Config;
use actioncontroller::daemon::Daemon;
use actioncontroller::runtime::logfile::logger;
use actioncontroller::signals::{Signal, Signals};
use actioncontroller::{logging, supervisor};
use clap::{Parser, Subcommand};

/// Takes actions over gRPC and drives container runtimes.
#[derive(Debug, Parser)]
#[command(name = "actioncontroller", version, about)]
struct Arguments {
    /// Read this file or folder in place of the usual ones; may be given several times.
    #[arg(long, value_name = "FILE|DIR")]
    config: Vec<PathBuf>,
    /// Check the configuration, print what is wrong, and end.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    command: Option<Other>,
}

/// What the program does in place of being the daemon.
#[derive(Debug, Subcommand)]
enum Other {
    /// Writes the output of a container; started by containerd's shims.
    #[command(name = logger::COMMAND, hide = true)]
    ContainerLog {
        /// The container's folder.
        folder: PathBuf,
    },
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Stopped by a signal, as asked.
    Stopped,
    /// It could not start, or lost what it needs.
    Failed,
    /// The configuration is wrong. `EX_CONFIG` of sysexits.h.
    Configuration,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Stopped => 0,
            Exit::Failed => 1,
            Exit::Configuration => 78,
        })
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.command {
        Some(Other::ContainerLog { folder }) => write_log(folder).into(),
        None => run(&arguments).into(),
    }
}

fn write_log(folder: &Path) -> Exit {
    match logger::run(folder) {
        Ok(()) => Exit::Stopped,
        Err(error) => {
            complain(&format!("the output of a container is not written to '{}': {error}", folder.display()));
            Exit::Failed
        }
    }
}

fn run(arguments: &Arguments) -> Exit {
    let loaded = match Config::load(&arguments.config) {
        Ok(loaded) => loaded,
        Err(error) => {
            complain(&error.to_string());
            return Exit::Configuration;
        }
    };
    if arguments.check {
        loaded.warnings.iter().for_each(|warning| complain(warning));
        return match Daemon::check(&loaded.config) {
            Ok(()) => Exit::Stopped,
            Err(error) => {
                complain(&error.to_string());
                Exit::Configuration
            }
        };
    }
    if let Err(error) = logging::start(loaded.config.log.level) {
        complain(&format!("log output: {error}"));
        return Exit::Failed;
    }
    let files: Vec<_> = loaded.files.iter().map(|file| file.display().to_string()).collect();
    log::info!("actioncontroller {} starts with {}", env!("CARGO_PKG_VERSION"), configured_by(&files));
    loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
    // Blocked before the first thread starts.
    let mut signals = match Signals::start() {
        Ok(signals) => signals,
        Err(error) => {
            log::error!("signals cannot be received: {error}");
            return Exit::Failed;
        }
    };
    let exit = match Daemon::start(loaded.config) {
        Ok(daemon) => serve(daemon, &signals, arguments),
        Err(error) => {
            log::error!("{error}");
            if error.is_configuration { Exit::Configuration } else { Exit::Failed }
        }
    };
    signals.stop();
    exit
}

fn serve(mut daemon: Daemon, signals: &Signals, arguments: &Arguments) -> Exit {
    let watchdog = supervisor::Watchdog::start(daemon.health_check());
    if let Err(error) = &watchdog {
        log::error!("the watchdog's thread does not start: {error}");
    }
    log::info!("ready: {}; listening on {}", daemon.describe(), daemon.addresses().join(", "));
    supervisor::ready(&daemon.describe());
    loop {
        match signals.received().recv() {
            Ok(Signal::Reload) => reload(&mut daemon, arguments),
            Ok(signal @ (Signal::Terminate | Signal::Interrupt)) => {
                log::info!("stopping on {signal:?}: containers go on");
                break;
            }
            Err(_) => {
                log::error!("the thread of signals is gone");
                break;
            }
        }
    }
    supervisor::stopping("actions under way end; containers go on");
    daemon.stop();
    if let Ok(mut watchdog) = watchdog {
        watchdog.stop();
    }
    log::info!("stopped");
    Exit::Stopped
}

/// A bad file leaves the settings as they are, and is named.
fn reload(daemon: &mut Daemon, arguments: &Arguments) {
    supervisor::reloading();
    match Config::load(&arguments.config) {
        Err(error) => log::error!("the settings stay as they are: {error}"),
        Ok(loaded) => match daemon.reload(loaded.config) {
            Err(error) => log::error!("the settings stay as they are: {error}"),
            Ok(restart) => {
                loaded.warnings.iter().for_each(|warning| log::warn!("{warning}"));
                if restart.is_empty() {
                    log::info!("settings were read again");
                } else {
                    log::warn!("settings were read again; these need a restart: {}", restart.join(", "));
                }
            }
        },
    }
    supervisor::ready(&daemon.describe());
}

fn configured_by(files: &[String]) -> String {
    if files.is_empty() { "its defaults".to_owned() } else { files.join(", ") }
}

/// Before there is a log.
#[allow(clippy::print_stderr, clippy::disallowed_macros, reason = "there is no log yet")]
fn complain(message: &str) {
    eprintln!("actioncontroller: {message}");
}
