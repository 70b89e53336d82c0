//! How long outcomes are kept: [`prune`] deletes what is too old or too many, [`Retention`] decides when that is due.
//!
//! Pruning means walking over every key, so it is not done per outcome: between two prunings [`Retention`] only counts
//! what is recorded, and lets the number run a little over before it prunes again.

use std::sync::{Mutex, PoisonError};

use super::StoreError;
use super::records::{Changes, Records};
use crate::clock::Deadline;

/// Outcomes that are kept unless configured otherwise.
pub const DEFAULT_KEEP: usize = 10_000;
/// Milliseconds for which outcomes are kept unless configured otherwise: 7 days.
pub const DEFAULT_MAX_AGE_MS: u64 = 7 * 24 * 3600 * 1000;

/// Outcomes deleted by one commit, and keys read at once.
const PAGE: usize = 256;
/// Pruning is due after this part of `keep` has been recorded since the last one.
const SLACK_DIVISOR: usize = 16;
/// Age is looked at at least this often.
const AGE_PERIOD_MS: u64 = 10 * 60 * 1000;

/// Deletes outcomes beyond the newest `keep` and those that ended more than `max_age_ms` before `now_ms`, and says how
/// many. Walks over the keys of those that stay, in pages; deletes in commits of at most 256. After an error what is
/// deleted stays deleted, and another call goes on. `forgotten` is told each id.
pub fn prune(
    records: &Records,
    keep: usize,
    max_age_ms: u64,
    now_ms: u64,
    forgotten: &dyn Fn(&str),
    deadline: Deadline,
) -> Result<usize, StoreError> {
    let oldest_kept_ms = now_ms.saturating_sub(max_age_ms);
    let last = last_kept(records, keep, oldest_kept_ms, deadline)?;
    let mut deleted = 0;
    loop {
        let due = records.ended(&last, PAGE, deadline)?;
        if due.is_empty() {
            return Ok(deleted);
        }
        let mut changes = Changes::new();
        for (key, _, action_id) in &due {
            changes.delete_outcome(key, action_id);
        }
        records.commit(changes, deadline)?;
        due.iter().for_each(|(_, _, action_id)| forgotten(action_id));
        deleted += due.len();
    }
}

/// The key of the oldest outcome that stays; empty where none does.
fn last_kept(records: &Records, keep: usize, oldest_ms: u64, deadline: Deadline) -> Result<String, StoreError> {
    let mut last = String::new();
    let mut left = keep;
    while left > 0 {
        let asked = PAGE.min(left);
        let page = records.ended(&last, asked, deadline)?;
        let found = page.len();
        for (key, ended_ms, _) in page {
            if ended_ms < oldest_ms {
                return Ok(last);
            }
            last = key;
        }
        if found < asked {
            break;
        }
        left -= found;
    }
    Ok(last)
}

/// Prunes when it is due: at first, after a sixteenth of `keep` was recorded, and every ten minutes for the age. So at
/// most a sixteenth more than `keep` is there, and an outcome costs on average the reading of 17 keys.
#[derive(Debug)]
pub struct Retention {
    keep: usize,
    max_age_ms: u64,
    progress: Mutex<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Outcomes recorded since the last pruning began.
    recorded: usize,
    /// When that was; `None` before the first.
    pruned_ms: Option<u64>,
}

impl Retention {
    /// Keeps the newest `keep` outcomes, none longer than `max_age_ms` milliseconds.
    pub fn new(keep: usize, max_age_ms: u64) -> Self {
        Self { keep, max_age_ms, progress: Mutex::default() }
    }

    /// To be called now and then with how many outcomes were recorded since the last call; prunes where that is due and
    /// says how many outcomes went; `forgotten` is told the id of each. A failure costs nothing but that more are kept
    /// until it is due again.
    pub fn recorded(
        &self,
        records: &Records,
        count: usize,
        now_ms: u64,
        forgotten: &dyn Fn(&str),
        deadline: Deadline,
    ) -> Result<usize, StoreError> {
        if !self.is_due(count, now_ms) {
            return Ok(0);
        }
        prune(records, self.keep, self.max_age_ms, now_ms, forgotten, deadline)
    }

    /// Counts more outcomes. Only one of several callers at a time is told that pruning is due.
    fn is_due(&self, count: usize, now_ms: u64) -> bool {
        let mut progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.recorded += count;
        let many = progress.recorded > self.keep / SLACK_DIVISOR;
        let late = progress.pruned_ms.is_none_or(|pruned_ms| now_ms.abs_diff(pruned_ms) >= AGE_PERIOD_MS);
        if many || late {
            *progress = Progress { recorded: 0, pruned_ms: Some(now_ms) };
        }
        many || late
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::model::action::{ActionState, Outcome, Phases, Verb};
    use crate::storage::memory::MemoryStore;
    use crate::storage::records::StoredOutcome;
    use crate::storage::{Batch, Entry, StateStore, StoreStats};

    const FOREVER: u64 = u64::MAX;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_secs(60))
    }

    fn outcome(n: u64) -> StoredOutcome {
        let outcome = Outcome {
            action_id: format!("action-{n}"),
            verb: Verb::Stop,
            target: "w".to_owned(),
            state: ActionState::Succeeded,
            changed: true,
            message: String::new(),
            failure: None,
            warnings: Vec::new(),
            left: Vec::new(),
            workloads: BTreeMap::new(),
            engine: String::new(),
            engine_reason: String::new(),
            steps: Vec::new(),
            phases: Phases::default(),
            accepted_ms: n,
            ended_ms: n,
            plan: None,
            recovered: String::new(),
            failed: BTreeMap::new(),
        };
        StoredOutcome { fingerprint: String::new(), outcome }
    }

    fn record(records: &Records, numbers: impl IntoIterator<Item = u64>) {
        for n in numbers {
            let mut changes = Changes::new();
            changes.put_outcome(&outcome(n)).unwrap();
            records.commit(changes, soon()).unwrap();
        }
    }

    fn kept(records: &Records) -> Vec<u64> {
        records.ended("", usize::MAX, soon()).unwrap().into_iter().map(|(_, ended_ms, _)| ended_ms).collect()
    }

    fn memory() -> Records {
        Records::new(Arc::new(MemoryStore::new()))
    }

    #[test]
    fn oldest_beyond_the_number_go_with_their_outcomes() {
        let records = memory();
        record(&records, 0..1000);
        assert_eq!(prune(&records, 300, FOREVER, 2000, &|_| (), soon()).unwrap(), 700);
        assert!(kept(&records).into_iter().eq((700..1000).rev()));
        assert_eq!(records.outcome("action-699", soon()).unwrap(), None);
        assert!(records.outcome("action-700", soon()).unwrap().is_some());
        assert_eq!(prune(&records, 300, FOREVER, 2000, &|_| (), soon()).unwrap(), 0);
    }

    #[test]
    fn too_old_ones_go_whatever_the_number() {
        let records = memory();
        record(&records, 0..600);
        assert_eq!(prune(&records, 10_000, 1000, 1500, &|_| (), soon()).unwrap(), 500);
        assert!(kept(&records).into_iter().eq((500..600).rev()));
        assert_eq!(prune(&records, 10_000, 1000, 500, &|_| (), soon()).unwrap(), 0, "a clock set back deletes nothing");
    }

    #[test]
    fn whole_pages_are_pruned_to_the_last() {
        for number in [0, 1, 255, 256, 257, 512] {
            let records = memory();
            record(&records, 0..number);
            assert_eq!(prune(&records, 0, FOREVER, 2000, &|_| (), soon()).unwrap() as u64, number);
            assert!(kept(&records).is_empty());
        }
    }

    #[test]
    fn deadline_that_is_over_is_an_error_and_nothing_goes() {
        let records = memory();
        record(&records, 0..10);
        assert!(prune(&records, 0, FOREVER, 2000, &|_| (), Deadline::after(Duration::ZERO)).is_err());
        assert_eq!(kept(&records).len(), 10);
    }

    /// Counts the entries that scans give.
    #[derive(Default)]
    struct Counting(MemoryStore, Mutex<usize>);

    impl StateStore for Counting {
        fn get(&self, key: &str, deadline: Deadline) -> Result<Option<Entry>, StoreError> {
            self.0.get(key, deadline)
        }
        fn scan(&self, prefix: &str, after: &str, limit: usize, at: Deadline) -> Result<Vec<Entry>, StoreError> {
            let found = self.0.scan(prefix, after, limit, at)?;
            *self.1.lock().unwrap() += found.len();
            Ok(found)
        }
        fn commit(&self, batch: Batch, deadline: Deadline) -> Result<(), StoreError> {
            self.0.commit(batch, deadline)
        }
        fn check(&self, deadline: Deadline) -> Result<(), StoreError> {
            self.0.check(deadline)
        }
        fn stats(&self) -> StoreStats {
            self.0.stats()
        }
    }

    #[test]
    fn an_outcome_costs_few_keys_and_the_number_stays_near_the_bound() {
        const KEEP: usize = 3200;
        let store = Arc::new(Counting::default());
        let records = Records::new(Arc::clone(&store) as Arc<dyn StateStore>);
        let retention = Retention::new(KEEP, FOREVER);
        record(&records, 0..KEEP as u64);
        for n in KEEP as u64..2 * KEEP as u64 {
            record(&records, [n]);
            retention.recorded(&records, 1, 0, &|_| (), soon()).unwrap();
        }
        let read = *store.1.lock().unwrap();
        assert!(read < 25 * KEEP, "{} keys read per outcome", read / KEEP);
        let kept = kept(&records).len();
        assert!((KEEP..=KEEP + KEEP / SLACK_DIVISOR).contains(&kept), "{kept}");
    }

    #[test]
    fn age_is_looked_at_when_few_outcomes_come() {
        let records = memory();
        let retention = Retention::new(10_000, 1000);
        record(&records, [0]);
        assert_eq!(retention.recorded(&records, 1, 10, &|_| (), soon()).unwrap(), 0);
        record(&records, [2000]);
        assert_eq!(retention.recorded(&records, 1, 2000, &|_| (), soon()).unwrap(), 0, "not due yet");
        record(&records, [AGE_PERIOD_MS]);
        assert_eq!(retention.recorded(&records, 1, 10 + AGE_PERIOD_MS, &|_| (), soon()).unwrap(), 2);
    }
}
