//! The Action Controller: takes actions over gRPC, checks them, and drives container runtimes, with its state kept.
//!
//! ARCHITECTURE.md has the bird's view, the code map and the invariants. Read [`action`] first: it is what an action
//! means, from top to bottom; then [`dispatch`], which is where it waits and runs.

// Tests may start threads without a name.
#![cfg_attr(test, allow(clippy::disallowed_methods))]

pub mod action;
pub mod application;
pub mod cancel;
pub mod cgroup;
pub mod clock;
pub mod config;
pub mod daemon;
pub mod dispatch;
pub mod error;
pub mod events;
pub mod grpc;
pub mod hooks;
pub mod logging;
pub mod manifest;
pub mod model;
pub mod networks;
pub mod nodes;
pub mod policy;
pub mod proto;
pub mod realtime;
pub mod runtime;
pub mod security;
pub mod signals;
pub mod storage;
pub mod supervisor;
pub mod transport;
