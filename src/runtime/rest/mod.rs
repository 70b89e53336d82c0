//! What engines have in common that are asked over REST on a unix socket: the client, the probe, the state machine over
//! their verbs, creates that fail, images, owners, events, multiplexed output, and documents and words that they share.
//!
//! Enters: what more than one of them does alike. Stays out: their paths, fields and causes, which are each adapter's
//! own, and HTTP itself ([`crate::transport::http`]). This is no adapter: its code names none.

pub(super) mod asked;
pub(super) mod client;
pub(super) mod create;
pub(super) mod events;
pub(super) mod exchange;
pub(super) mod image;
pub(super) mod lifecycle;
pub(super) mod output;
pub(super) mod owned;
pub(super) mod probe;
pub(super) mod told;
pub(super) mod wire;
