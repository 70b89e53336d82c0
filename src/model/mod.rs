//! Plain data: what the program talks about. No I/O, no wire types, no clocks, no threads.
//!
//! Enters: types that two or more rooms share, with the pure rules that belong to them.
//! Stays out: anything generated, anything that reads or writes the outside.

pub mod action;
pub mod cores;
pub mod plan;
pub mod pullpiri;
pub mod quantity;
pub mod report;
pub mod resources;
pub mod schedule;
pub mod security;
pub mod state;
pub mod subnet;
pub mod text;
pub mod workload;
