//! A create that does not give a container: it is refused, what was made cannot be kept, or its answer never came.

use super::client::Failure;
use super::exchange::find_cut_off;
use super::wire::Strings;
use crate::runtime::adapter::{Call, RuntimeError};
use crate::runtime::shared::calls::apart;
use crate::runtime::shared::owned::taken;
use crate::runtime::shared::verbs::Containers;

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
