//! Whose an object is: by its labels. What is not ours is never changed or deleted.

use super::wire::Strings;
use crate::model::workload::labels;
use crate::runtime::adapter::{Change, RtResult, RuntimeError};
use crate::transport::http::encode;

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

/// The encoded filter for what has all these labels.
pub fn label_filter<'a>(wanted: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let wanted: Vec<_> = wanted.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    encode(&serde_json::json!({ "label": wanted }).to_string())
}

/// The same for what is of this node's and of the workload.
pub fn workload_filter(node: &str, workload: &str) -> String {
    label_filter([(labels::NODE, node), (labels::WORKLOAD, workload)])
}
