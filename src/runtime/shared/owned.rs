//! Whose an object is: by its labels. What is not ours is never changed or deleted.

use std::collections::BTreeMap;

use crate::model::workload::labels;
use crate::runtime::adapter::{Change, RtResult, RuntimeError};

/// Labels.
type Strings = BTreeMap<String, String>;

/// Whether labels are those of something of this node's.
pub fn is_ours(node: &str, found: &Strings) -> bool {
    found.get(labels::NODE).is_some_and(|owner| owner == node)
}

/// Whether labels are those of something of this node's that belongs to the workload.
pub fn is_of_workload(node: &str, found: &Strings, workload: &str) -> bool {
    is_ours(node, found) && found.get(labels::WORKLOAD).is_some_and(|owner| owner == workload)
}

/// `Unchanged` where the labels say that it is ours, else the name is taken.
pub fn owner_of(node: &str, kind: &str, name: &str, found: &Strings) -> RtResult<Change> {
    if is_ours(node, found) {
        return Ok(Change::Unchanged);
    }
    Err(RuntimeError::AlreadyExists { what: format!("{kind} '{name}'"), detail: " and is not ours".to_owned() })
}

/// A name that is taken, by whom.
pub fn taken(node: &str, name: &str, holder: &Strings) -> RuntimeError {
    let workload = holder.get(labels::WORKLOAD).map(String::as_str).unwrap_or_default();
    let detail = match (is_ours(node, holder), workload) {
        (true, "") => " and is ours".to_owned(),
        (true, workload) => format!(" and belongs to workload '{workload}'"),
        (false, _) => " and is not ours".to_owned(),
    };
    RuntimeError::AlreadyExists { what: format!("container '{name}'"), detail }
}
