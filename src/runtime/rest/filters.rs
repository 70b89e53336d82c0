//! Filters of listings, as these engines take them.

use crate::model::workload::labels;
use crate::transport::http::encode;

/// The encoded filter for what has all these labels.
pub fn label_filter<'a>(wanted: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let wanted: Vec<_> = wanted.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
    encode(&serde_json::json!({ "label": wanted }).to_string())
}

/// The same for what is of this node's and of the workload.
pub fn workload_filter(node: &str, workload: &str) -> String {
    label_filter([(labels::NODE, node), (labels::WORKLOAD, workload)])
}
