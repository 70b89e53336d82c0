//! `completions` and `man`: what a package installs beside the program, made from the command line itself.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

use super::Context;
use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::{Failure, Result};

/// Options of `completions`.
#[derive(Debug, Clone, Args)]
pub struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    pub shell: Shell,
}

/// Prints the completions of a shell.
pub fn completions(args: CompletionsArgs, context: &mut Context) -> Result<Exit> {
    context.screen.only_text("completions")?;
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "actionctl", &mut text);
    context.screen.bytes(&text)?;
    Ok(Exit::Ok)
}

/// Options of `man`.
#[derive(Debug, Clone, Args)]
pub struct ManArgs {
    /// Write a page for actionctl and each command into this folder, instead of the first to stdout
    #[arg(value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// Writes the manual pages.
pub fn man(args: ManArgs, context: &mut Context) -> Result<Exit> {
    context.screen.only_text("man")?;
    let mut command = Cli::command();
    command.build();
    match args.folder {
        None => context.screen.bytes(&page(&command)?)?,
        Some(folder) => write_pages(&command, &folder)?,
    }
    Ok(Exit::Ok)
}

/// The page of a command.
fn page(command: &Command) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    let rendered = Man::new(command.clone()).render(&mut text);
    rendered.map_err(|error| Failure::new(Exit::Failed, format!("cannot make a manual page: {error}")))?;
    Ok(text)
}

/// Writes a command's page and those of its commands: `actionctl.1`, `actionctl-stop.1`.
fn write_pages(command: &Command, folder: &Path) -> Result<()> {
    let name = command.get_display_name().unwrap_or(command.get_name());
    let path = folder.join(format!("{name}.1"));
    std::fs::write(&path, page(command)?)
        .map_err(|error| Failure::usage(format!("cannot write '{}': {error}", path.display())))?;
    let shown = command.get_subcommands().filter(|inner| !inner.is_hide_set());
    shown.into_iter().try_for_each(|inner| write_pages(inner, folder))
}
