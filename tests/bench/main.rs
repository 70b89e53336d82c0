//! `make bench`: what the daemon costs, measured from outside on the real process.
//!
//! A time alone says little of a machine that does other things too. So each is measured in turns with the least that
//! could do the same there: a gRPC server that does nothing, a write that is synced, Podman's own calls; and told as a
//! ratio, beside the machine's load. Fails where something cannot be measured, or a firm aim is missed.

// A bench may fail loudly and print; nothing of this is in the daemon.
#![allow(clippy::disallowed_macros, clippy::disallowed_methods, clippy::expect_used, clippy::panic)]
#![allow(clippy::print_stderr, clippy::print_stdout, clippy::unwrap_used, missing_docs)]

mod calls;
mod crowded;
mod direct;
mod docker;
mod echo;
mod footprint;
mod hung;
mod launches;
mod oci;
mod podman;
mod report;
mod samples;
#[allow(dead_code, reason = "the integration tests use the rest")]
#[path = "../it/support/mod.rs"]
mod support;
mod triggers;

use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    let mut report = Report::begin();
    footprint::measure(&mut report);
    calls::measure(&mut report);
    launches::measure(&mut report);
    podman::measure(&mut report);
    docker::measure(&mut report);
    oci::measure(&mut report);
    hung::measure(&mut report);
    crowded::measure(&mut report);
    triggers::measure(&mut report);
    report.print();
    if report.is_met() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
