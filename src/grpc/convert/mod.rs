//! Between the wire and the model; no other place sees both.
//!
//! [`requests`] reads what callers send and refuses, by the field's path, what the contract does not allow. [`actions`],
//! [`workloads`], [`policy`], [`health`] and [`cores`] write what they are told; [`services`], [`resources`] and [`pullpiri`]
//! do both for theirs. Pure: no I/O and no waiting.

pub mod actions;
pub mod cores;
pub mod health;
pub mod policy;
pub mod pullpiri;
pub mod requests;
pub mod resources;
pub mod services;
pub mod workloads;

use protobuf::MessageField;
use protobuf::well_known_types::timestamp::Timestamp;

/// A time in nanoseconds since the epoch; 0 is no time.
fn timestamp_ns(ns: u64) -> MessageField<Timestamp> {
    if ns == 0 {
        return MessageField::none();
    }
    // Both fit: u64 nanoseconds are less than 2^35 seconds.
    let seconds = i64::try_from(ns / 1_000_000_000).unwrap_or(i64::MAX);
    let nanos = i32::try_from(ns % 1_000_000_000).unwrap_or_default();
    MessageField::some(Timestamp { seconds, nanos, ..Timestamp::default() })
}

/// A time in milliseconds since the epoch; 0 is no time.
fn timestamp_ms(ms: u64) -> MessageField<Timestamp> {
    timestamp_ns(ms.saturating_mul(1_000_000))
}

/// A count as the wire has it. No list of ours comes near the bound.
fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
