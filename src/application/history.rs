//! Ended actions: looked up by id, listed from the latest on.

use crate::clock::Deadline;
use crate::dispatch::service::{Page, PageQuery};
use crate::error::{Error, Result};
use crate::model::action::Outcome;
use crate::storage::StoreError;
use crate::storage::records::{Records, StoredOutcome};

/// Entries of a page where none are asked for, and the most that may be.
pub const PAGE: (u32, u32) = (100, 1000);

/// Keys looked at in one go while walking back through time.
const STRIDE: usize = 256;

/// The log of ended actions.
pub struct History {
    records: Records,
}

impl History {
    /// The log kept in `records`.
    pub fn new(records: Records) -> Self {
        Self { records }
    }

    /// The outcome of an ended action.
    pub fn stored(&self, action_id: &str, deadline: Deadline) -> Result<Option<StoredOutcome>> {
        Ok(self.records.outcome(action_id, deadline)?)
    }

    /// The ids of all ended actions.
    pub fn ids(&self, deadline: Deadline) -> Result<Vec<String>> {
        let (mut ids, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.records.ended(&after, STRIDE, deadline)?;
            let Some((last, ..)) = page.last() else { return Ok(ids) };
            after.clone_from(last);
            ids.extend(page.into_iter().map(|(_, _, id)| id));
        }
    }

    /// A page of outcomes, the latest first, of one target where it is not empty. The token is the key of the last
    /// outcome given, so that new outcomes move nothing. One that cannot be read is left out and logged.
    pub fn list(&self, page: &PageQuery, target: &str, deadline: Deadline) -> Result<Page<Outcome>> {
        let size = page_size(page)?;
        let (mut items, mut last) = (Vec::new(), page.token.clone());
        let mut after = page.token.clone();
        loop {
            let keys = self.records.ended(&after, STRIDE.min(size + 1), deadline)?;
            if keys.is_empty() {
                return Ok(Page { items, next_token: String::new() });
            }
            for (key, _, id) in keys {
                let outcome = self.readable(&id, deadline)?;
                after.clone_from(&key);
                let Some(outcome) = outcome.filter(|found| target.is_empty() || found.target == target) else {
                    continue;
                };
                if items.len() == size {
                    return Ok(Page { items, next_token: last });
                }
                items.push(outcome);
                last = key;
            }
        }
    }

    /// The outcome; `None` where it was pruned meanwhile or is damaged.
    fn readable(&self, id: &str, deadline: Deadline) -> Result<Option<Outcome>> {
        match self.records.outcome(id, deadline) {
            Ok(stored) => Ok(stored.map(|stored| stored.outcome)),
            Err(error @ StoreError::Damaged { .. }) => {
                crate::limited!(log::Level::Error, "an action is not listed: {error}");
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The size of a page that is asked for.
pub fn page_size(page: &PageQuery) -> Result<usize> {
    let size = if page.size == 0 { PAGE.0 } else { page.size };
    if size > PAGE.1 {
        return Err(Error::invalid("page_size", format!("a page has at most {} entries", PAGE.1)));
    }
    Ok(usize::try_from(size).unwrap_or(usize::MAX))
}
