//! Bytes to and from local daemons; no domain words.
//!
//! Enters: one client per kind of wire ([`http`]: HTTP/1.1 on unix sockets). Every call takes a
//! [`Deadline`](crate::clock::Deadline) and a [`CancelToken`](crate::cancel::CancelToken), every buffer has a bound,
//! and an error says which of the ways to fail it was. Stays out: what the bytes mean, retries, and which peer it is.

#[cfg(test)]
pub(crate) mod fake;
pub mod http;
mod unix;

#[cfg(test)]
mod tests;
