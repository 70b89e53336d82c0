//! Bytes to and from other processes; no domain words.
//!
//! Enters: one client per kind of wire ([`http`]: HTTP/1.1 on unix sockets; [`channel`], [`duplex`] and [`inflow`]: gRPC;
//! [`dbus`]: D-Bus; [`varlink`]). Every call takes a [`Deadline`](crate::clock::Deadline) and a
//! [`CancelToken`](crate::cancel::CancelToken), every buffer has a bound, and an error says which of the ways to fail it
//! was. Stays out: what the bytes mean, and which peer it is.

pub mod channel;
pub mod dbus;
pub mod duplex;
#[cfg(test)]
pub(crate) mod fake;
pub mod http;
pub mod inflow;
pub mod unix;
pub mod varlink;
pub mod wait;

#[cfg(test)]
mod tests;
