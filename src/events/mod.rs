//! What happens on the engines, whoever did it: the [`Hub`] watches them and tells one listener.
//!
//! Enters: watching, and the difference between what was known and what is there. Stays out: what follows from it. The hub
//! is never in an action's way.

mod hub;
mod tracked;

pub use hub::{Hub, HubEvent, Listener};
