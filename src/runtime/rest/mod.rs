//! What engines have in common that are asked over REST on a unix socket: the client, the probe, creates that fail, images,
//! filters, events, multiplexed output, and documents and words that they share.
//!
//! Enters: what more than one of them does alike. Stays out: their paths, fields and causes, which are each adapter's
//! own, what is alike for engines of every kind (`runtime::shared`), and HTTP itself ([`crate::transport::http`]). This is no adapter: its code names none.

pub(super) mod client;
pub(super) mod create;
pub(super) mod events;
pub(super) mod exchange;
pub(super) mod filters;
pub(super) mod image;
pub(super) mod output;
pub(super) mod probe;
pub(super) mod told;
pub(super) mod wire;
