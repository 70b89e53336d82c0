//! `actionctl`: the Action Controller from a terminal or a script. It talks to the daemon over gRPC and nothing else.
//!
//! Reads as: [`args`] says what can be asked, [`commands`] does it through [`client`], [`render`] and [`screen`] show
//! it, [`failure`] says why not, and [`exit`] is what a script sees.

mod address;
mod api;
mod args;
mod bundle;
mod client;
mod commands;
mod exit;
mod failure;
mod follow;
mod interrupt;
mod jobs;
mod outcomes;
mod pod;
mod progress;
mod render;
mod screen;
mod sources;
mod unit;
mod values;
mod wait;

use std::process::ExitCode;

fn main() -> ExitCode {
    let exit = match args::parse(std::env::args_os()) {
        Ok(cli) => commands::run(cli),
        Err(exit) => exit,
    };
    ExitCode::from(exit.code())
}
