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
//!
//! Names hold no `/` (checked where they enter), so that keys cannot run into each other.

/// Every document.
pub const DOCUMENTS: &str = "document/";
/// Every last good copy of what a shared store has.
pub const COPIES: &str = "copy/";
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

/// The key of a workload.
pub fn workload(name: &str) -> String {
    format!("{WORKLOADS}{name}")
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
