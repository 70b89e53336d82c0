//! A create that does not give a container: the name is taken, what was made cannot be kept, or its answer never came.

use super::client::Failure;
use super::exchange::{apart, find_cut_off};
use super::lifecycle::Containers;
use super::owned::is_ours;
use super::wire::Strings;
use crate::model::workload::labels;
use crate::runtime::adapter::{Call, RuntimeError};

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

/// A refusal of the create, `is_taken` for the name's sake.
pub fn refused(
    engine: &impl Containers,
    call: &Call,
    node: &str,
    name: &str,
    failure: Failure,
    is_taken: bool,
) -> RuntimeError {
    if !is_taken {
        return failure.into_error();
    }
    match engine.look(call, name) {
        Ok(Some(holder)) => taken(node, name, &holder.labels),
        Ok(None) | Err(_) => RuntimeError::AlreadyExists { what: format!("container '{name}'"), detail: String::new() },
    }
}

/// Deletes what was created and cannot be kept.
pub fn discard(engine: &impl Containers, id: &str) {
    if let Err(error) = apart(|call| engine.delete(call, id)) {
        log::error!("container '{id}' was created, cannot be kept and could not be removed: {error}");
    }
}

/// After a create whose answer never came: deletes the container if the engine made it all the same. The name was free
/// just before, so one with exactly these labels is that of this request.
pub fn remove_cut_off(engine: &impl Containers, name: &str, labels: &Strings) {
    let Some(found) = find_cut_off(|call| engine.look(call, name)) else { return };
    if labels.iter().all(|(key, value)| found.labels.get(key) == Some(value)) {
        discard(engine, &found.id);
    }
}
