//! The whole schema: every key that is ever written is made here.
//!
//! | key | value |
//! |---|---|
//! | `document/{kind}/{name}` | the document's text, as it came |
//! | `copy/{key of the shared store}` | the last good copy of what the shared store has there |
//! | `workload/{name}` | JSON of `records::WorkloadRecord` |
//! | `intent/{action id}` | JSON of `records::Intent`; gone once the outcome is there |
//! | `repair/{action id}` | JSON of `records::Intent`: an ended action that could not be undone whole, to be tried again |
//! | `outcome/{action id}` | JSON of `records::StoredOutcome` |
//! | `ended/{2^63 less milliseconds, 19 digits}/{action id}` | empty: outcomes by their end, the latest first |
//! | `outbox/{number, 20 digits}` | JSON of what waits to be delivered to the shared store |
//! | `owed/{number, 20 digits}` | the id of an ended action whose outcome is delivered from the action log |
//! | `delivered` | the number of what was delivered last |
//! | `copied` | whether the copies are all that the shared store has |
//! | `core/{workload}` | JSON of `model::cores::Holding`: the CPUs that it has alone |
//! | `cores` | the id of the action that last took CPUs: what takes and frees compares its revision |
//! | `withheld` | the list of CPUs that others are kept off, and may not have been given back |
//! | `misses` | JSON of `misses::MissesDocument` |
//! | `held` | JSON of `held::Held`: what the scheduler of real-time tasks has |
//! | `instance` | this daemon's own name, the same over its restarts |
//! | `published/{key of the shared store}` | the fingerprint of what was handed over for delivery last |
//!
//! Names hold no `/` (checked where they enter), so that keys cannot run into each other.

/// Every document.
pub const DOCUMENTS: &str = "document/";
/// Every last good copy of what a shared store has.
pub const COPIES: &str = "copy/";
/// Everything that waits to be delivered.
pub const OUTBOX: &str = "outbox/";
/// Every outcome that is delivered from the action log.
pub const OWED: &str = "owed/";
/// The number of what was delivered last.
pub const DELIVERED: &str = "delivered";
/// Whether the copies are all that the shared store has.
pub const COPIED: &str = "copied";
/// Every holding of CPUs.
pub const HOLDINGS: &str = "core/";
/// Compared by whoever takes or frees CPUs.
pub const CORES: &str = "cores";
/// CPUs that others are kept off.
pub const WITHHELD: &str = "withheld";
/// Missed deadlines of real-time tasks.
pub const MISSES: &str = "misses";
/// What the scheduler of real-time tasks has.
pub const HELD: &str = "held";
/// This daemon's own name.
pub const INSTANCE: &str = "instance";
/// Fingerprints of what was handed over for delivery.
pub const PUBLISHED: &str = "published/";
/// Every workload.
pub const WORKLOADS: &str = "workload/";
/// Every action under way.
pub const INTENTS: &str = "intent/";
/// Every ended action that has still to be undone.
pub const REPAIRS: &str = "repair/";
/// Every action that ended.
pub const OUTCOMES: &str = "outcome/";
/// Ended actions by time.
pub const ENDED: &str = "ended/";

/// The latest time that a key of [`ENDED`] can hold, milliseconds since the epoch.
const LATEST: u64 = 1 << 63;

/// The key of a document.
pub fn document(kind: &str, name: &str) -> String {
    format!("{DOCUMENTS}{kind}/{name}")
}

/// The key of the last good copy of a shared store's key.
pub fn copy(shared_key: &str) -> String {
    format!("{COPIES}{shared_key}")
}

/// The key of something that waits to be delivered.
pub fn outbox(number: u64) -> String {
    format!("{OUTBOX}{number:020}")
}

/// The key of an outcome that is delivered from the action log.
pub fn owed(number: u64) -> String {
    format!("{OWED}{number:020}")
}

/// The number in a key made by [`outbox`] or [`owed`].
pub fn number_of(key: &str, prefix: &str) -> Option<u64> {
    key.strip_prefix(prefix)?.parse().ok()
}

/// The key of the fingerprint of what was handed over for a key of the shared store.
pub fn published(shared_key: &str) -> String {
    format!("{PUBLISHED}{shared_key}")
}

/// The key of a workload.
pub fn workload(name: &str) -> String {
    format!("{WORKLOADS}{name}")
}

/// The key of the CPUs that a workload holds.
pub fn holding(workload: &str) -> String {
    format!("{HOLDINGS}{workload}")
}

/// The key of an action under way.
pub fn intent(action_id: &str) -> String {
    format!("{INTENTS}{action_id}")
}

/// The key of an ended action that has still to be undone.
pub fn repair(action_id: &str) -> String {
    format!("{REPAIRS}{action_id}")
}

/// The key of an outcome.
pub fn outcome(action_id: &str) -> String {
    format!("{OUTCOMES}{action_id}")
}

/// What the keys of all outcomes that ended at this time begin with. Later ones come first, because a store is walked
/// in one direction only and the latest are what is asked for.
pub fn ended_at(ended_ms: u64) -> String {
    format!("{ENDED}{:019}", LATEST.saturating_sub(ended_ms))
}

/// The key by which an outcome is found by time.
pub fn ended(ended_ms: u64, action_id: &str) -> String {
    format!("{}/{action_id}", ended_at(ended_ms))
}

/// The action id in a key made by [`ended`], with its time.
pub fn parse_ended(key: &str) -> Option<(u64, &str)> {
    let (time, id) = key.strip_prefix(ENDED)?.split_once('/')?;
    Some((LATEST.checked_sub(time.parse().ok()?)?, id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ended_keys_sort_by_time_latest_first_and_read_back() {
        assert!(ended(9, "a") > ended(10, "z"));
        assert!(ended_at(9).as_str() < ended(9, "a").as_str() && ended(10, "z") < ended_at(9));
        assert_eq!(parse_ended(&ended(u64::MAX, "a")), Some((LATEST, "a")));
        assert_eq!(parse_ended(&ended(1_700_000_000_123, "a.b:c")), Some((1_700_000_000_123, "a.b:c")));
        assert_eq!(parse_ended("ended/x/y"), None);
    }
}
