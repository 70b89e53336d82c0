//! Container runtimes behind one port.
//!
//! Enters: the port ([`adapter`]), one folder or file per engine, what those over REST share (`rest`), what those that
//! run units of systemd share ([`units`]), what all kinds of them do alike (`shared`), the [`registry`] that picks one, and
//! the [`search`] that asks all. Stays out:
//! anything that knows what an action is. A new engine implements [`adapter::RuntimeAdapter`], is built in
//! `daemon.rs`, and is added to the conformance suite in `tests/it/conformance`.

pub mod adapter;
pub mod bluechi;
mod bridge;
pub mod containerd;
pub mod docker;
#[cfg(test)]
mod double;
mod failure;
pub mod hibernation;
pub mod logfile;
pub mod names;
pub mod nodes;
pub mod oci;
pub mod podman;
mod probes;
pub mod processes;
pub mod registry;
mod rest;
pub mod search;
mod shared;
pub mod sim;
pub mod specification;
pub mod systemd;
pub mod units;
