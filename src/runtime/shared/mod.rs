//! What adapters do alike whatever their way to the engine: the state machine over their verbs, owners, fields in the form
//! that engines take, capabilities, limits of what runs, how calls fail that no engine has answered, files that are kept and
//! programs that are run.
//!
//! Enters: what adapters of different kinds would otherwise write twice. Stays out: any engine's paths, fields and words.
//! This is no adapter: its code names none.

pub(super) mod calls;
pub(super) mod capabilities;
pub(super) mod criu;
pub(super) mod durable;
pub(super) mod fields;
pub(super) mod json;
pub(super) mod owned;
pub(super) mod platform;
pub(super) mod program;
pub(super) mod resize;
pub(super) mod tiny;
pub(super) mod usage;
pub(super) mod verbs;
pub(super) mod volumes;
