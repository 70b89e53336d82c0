//! The order of a batch: which actions may begin, which are skipped, and whether it ends at all. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, ErrorCode, ErrorKind, Result};

/// The most entries that a batch may have.
pub const MAX_ENTRIES: usize = 256;

/// Where an entry stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Waiting,
    Begun,
    Succeeded,
    Lost,
}

/// The order of a batch, by the entries' places.
#[derive(Debug, Clone)]
pub struct Order {
    after: Vec<BTreeSet<usize>>,
    standing: Vec<Standing>,
    stop_at_failure: bool,
    failed: bool,
}

impl Order {
    /// The order of entries with these action ids, each with the ids that it waits for. Refuses ids that are used
    /// twice or not known, and names a cycle.
    pub fn new(entries: &[(&str, &[String])], stop_at_failure: bool) -> Result<Self> {
        if entries.is_empty() {
            return Err(Error::invalid("entries", "a batch needs at least one action"));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(Error::invalid("entries", format!("a batch has at most {MAX_ENTRIES} actions")));
        }
        let mut places = BTreeMap::new();
        for (place, (id, _)) in entries.iter().enumerate() {
            if places.insert(*id, place).is_some() {
                let field = format!("entries[{place}].action.action_id");
                return Err(Error::invalid(field, format!("action id '{id}' is in the batch twice")));
            }
        }
        let mut after = Vec::with_capacity(entries.len());
        for (place, (_, depends_on)) in entries.iter().enumerate() {
            let mut before = BTreeSet::new();
            for id in *depends_on {
                let known = places.get(id.as_str()).ok_or_else(|| {
                    let field = format!("entries[{place}].depends_on");
                    Error::invalid(field, format!("no action of the batch has the id '{id}'"))
                })?;
                before.insert(*known);
            }
            after.push(before);
        }
        if let Some(cycle) = find_cycle(&after) {
            let names: Vec<_> = cycle.iter().map(|place| entries[*place].0).collect();
            let message = format!("the actions wait for each other in a circle: {}", names.join(" -> "));
            let error = Error::new(ErrorKind::InvalidArgument, ErrorCode::DependencyCycle, message);
            return Err(error.at("entries.depends_on"));
        }
        let standing = vec![Standing::Waiting; after.len()];
        Ok(Self { after, standing, stop_at_failure, failed: false })
    }

    /// The entries that may begin now; they count as begun from here on.
    pub fn begin(&mut self) -> Vec<usize> {
        if self.stop_at_failure && self.failed {
            return Vec::new();
        }
        let may = |place: &usize| {
            self.standing[*place] == Standing::Waiting
                && self.after[*place].iter().all(|before| self.standing[*before] == Standing::Succeeded)
        };
        let ready: Vec<_> = (0..self.after.len()).filter(may).collect();
        for place in &ready {
            self.standing[*place] = Standing::Begun;
        }
        ready
    }

    /// An entry has ended; gives those that are skipped because of it, with the place of what they waited for.
    pub fn end(&mut self, place: usize, succeeded: bool) -> Vec<(usize, usize)> {
        self.standing[place] = if succeeded { Standing::Succeeded } else { Standing::Lost };
        self.failed |= !succeeded;
        let mut skipped = Vec::new();
        loop {
            let lost = (0..self.after.len()).find_map(|other| self.loses(other, place).map(|cause| (other, cause)));
            let Some((other, cause)) = lost else { return skipped };
            self.standing[other] = Standing::Lost;
            skipped.push((other, cause));
        }
    }

    fn loses(&self, other: usize, ended: usize) -> Option<usize> {
        if self.standing[other] != Standing::Waiting {
            return None;
        }
        let cause = self.after[other].iter().copied().find(|before| self.standing[*before] == Standing::Lost);
        cause.or((self.stop_at_failure && self.failed).then_some(ended))
    }

    /// Whether every entry has ended or is skipped.
    pub fn is_over(&self) -> bool {
        self.standing.iter().all(|standing| matches!(standing, Standing::Succeeded | Standing::Lost))
    }
}

/// A cycle as the places along it, the first again at the end.
fn find_cycle(after: &[BTreeSet<usize>]) -> Option<Vec<usize>> {
    let mut settled = vec![false; after.len()];
    for start in 0..after.len() {
        let mut path: Vec<usize> = Vec::new();
        // Each level is the entries still to be looked at below the path's last entry.
        let mut levels = vec![vec![start]];
        while let Some(level) = levels.last_mut() {
            let Some(place) = level.pop() else {
                levels.pop();
                if let Some(done) = path.pop() {
                    settled[done] = true;
                }
                continue;
            };
            if let Some(at) = path.iter().position(|on_path| *on_path == place) {
                let mut cycle = path[at..].to_vec();
                cycle.push(place);
                return Some(cycle);
            }
            if settled[place] {
                continue;
            }
            path.push(place);
            levels.push(after[place].iter().copied().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(entries: &[(&str, &[&str])], stop: bool) -> Result<Order> {
        let owned: Vec<(&str, Vec<String>)> =
            entries.iter().map(|(id, after)| (*id, after.iter().map(|other| (*other).to_owned()).collect())).collect();
        let borrowed: Vec<(&str, &[String])> = owned.iter().map(|(id, after)| (*id, after.as_slice())).collect();
        Order::new(&borrowed, stop)
    }

    // req: AC-04
    #[test]
    fn cycle_is_named_before_anything_begins() {
        let error = order(&[("a", &["c"]), ("b", &["a"]), ("c", &["b"]), ("d", &[])], false).unwrap_err();
        assert_eq!(error.code, ErrorCode::DependencyCycle);
        assert!(error.message.contains("a -> c -> b -> a"), "{error}");
        assert!(order(&[("a", &["a"])], false).unwrap_err().message.contains("a -> a"));
    }

    #[test]
    fn unknown_and_doubled_ids_are_refused_with_their_place() {
        assert_eq!(order(&[("a", &[]), ("b", &["x"])], false).unwrap_err().field, "entries[1].depends_on");
        assert_eq!(order(&[("a", &[]), ("a", &[])], false).unwrap_err().field, "entries[1].action.action_id");
    }

    #[test]
    fn only_dependants_of_a_failure_are_skipped() {
        let mut order = order(&[("a", &[]), ("b", &["a"]), ("c", &["b"]), ("d", &[])], false).unwrap();
        assert_eq!(order.begin(), [0, 3]);
        assert_eq!(order.end(0, false), [(1, 0), (2, 1)]);
        assert!(order.begin().is_empty());
        assert!(!order.is_over());
        assert!(order.end(3, true).is_empty());
        assert!(order.is_over());
    }

    #[test]
    fn stop_at_failure_begins_nothing_more() {
        let mut order = order(&[("a", &[]), ("b", &[]), ("c", &["b"])], true).unwrap();
        assert_eq!(order.begin(), [0, 1]);
        assert_eq!(order.end(0, false), [(2, 0)]);
        order.end(1, true);
        assert!(order.begin().is_empty() && order.is_over());
    }

    #[test]
    fn diamond_begins_each_once() {
        let mut order = order(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])], false).unwrap();
        assert_eq!(order.begin(), [0]);
        order.end(0, true);
        assert_eq!(order.begin(), [1, 2]);
        order.end(1, true);
        assert!(order.begin().is_empty());
        order.end(2, true);
        assert_eq!(order.begin(), [3]);
    }
}
