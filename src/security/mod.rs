//! What the node allows a workload to ask for. Pure: no files, no engine.
//!
//! Enters: bounds that an operator sets and the checks against them. Stays out: who may call (that is `grpc`), and
//! rules about targets and images (that is `policy`).

pub mod ceiling;
