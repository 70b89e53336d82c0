//! gRPC: the front end that other programs reach this one by.
//!
//! Enters: what is bound to the wire. [`convert`] is the only place that sees wire types and the model, [`status`] the
//! only one that makes gRPC codes of errors, [`server`] the only one that knows how gRPC serves. Stays out: what an
//! action means. A new call is a method in a contract under `proto/`, its conversions, and a handler of a few lines in
//! the file of its service.

pub mod client;
pub mod convert;
pub mod server;
pub mod status;
