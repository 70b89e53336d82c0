//! A container's output, from the log that the logger writes; and the end of the logger.
//!
//! The shim keeps the write ends of the container's streams for as long as there is a task, so that a logger is told by
//! this daemon that nothing more comes: at the end of a container, as the event stream tells it, and by everyone who is
//! to wait for the rest of the output, because nobody need have been there at that end.

use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, Scope};
use super::record;
use super::{ContainerdConfig, Place};
use crate::cancel::Urge;
use crate::clock::Deadline;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{BlockingStream, Call, LogChunk, LogOptions, NoProgress, RtResult, RuntimeError};
use crate::runtime::logfile::{logger, reader};
use crate::runtime::shared::verbs::{FIRST_POLL, SLOWEST_POLL};

/// How long the last output of a container that has ended may take to be in its log.
const LOG_LIMIT: Duration = Duration::from_secs(2);

/// The time of one look at the container by who follows its log.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// How long a follower bears that containerd does not answer: it may be started again.
const AWAY_LIMIT: Duration = Duration::from_secs(60);

/// Tells the logger of a container that has ended to write what is left and end.
pub(super) fn tell_end(scope: Scope, settings: &ContainerdConfig, call: &Call, id: &str) -> RtResult<()> {
    // Before the look: should the container be started again meanwhile, this is the logger of the run that has ended. No
    // task may be one that is being made.
    let Some(logger) = logger::running(&settings.folder(id)) else { return Ok(()) };
    if record::task(scope, call, id)?.is_some_and(|task| record::has_stopped(&task)) {
        logger.finish();
    }
    Ok(())
}

/// Returns once the output of a container that has ended is in its log, or the time for that is over.
pub(super) fn await_end(place: Place, call: &Call, id: &str) {
    let folder = place.settings.folder(id);
    let limit = call.deadline.at_most(LOG_LIMIT);
    let mut poll = FIRST_POLL;
    while logger::is_written(&folder) {
        if let Err(error) = tell_end(place.scope, place.settings, call, id) {
            log::debug!("whether container '{id}' writes more cannot be told: {error}");
        }
        if limit.is_over() || call.cancel.wait(Urge::Cancel, limit.at_most(poll)) == Urge::Cancel {
            return;
        }
        poll = (poll * 2).min(SLOWEST_POLL);
    }
}

/// Opens the stream.
pub(super) fn open(
    client: &Arc<Client>,
    place: Place,
    call: &Call,
    id: &str,
    options: &LogOptions,
) -> RtResult<BlockingStream<LogChunk>> {
    let known = record::inspect(client.own(), call, id)?;
    let id = known.container.id.clone();
    if matches!(known.status(), ContainerStatus::Exited { .. }) {
        await_end(place, call, &id);
    }
    let log = logger::log_file(&place.settings.folder(&id));
    let (client, settings, cancel) = (Arc::clone(client), place.settings.clone(), call.cancel.clone());
    let (mut away, mut ended): (Option<Deadline>, Option<Deadline>) = (None, None);
    let is_over = move || {
        let call = Call { deadline: Deadline::after(LOOK_LIMIT), cancel: &cancel, progress: &NoProgress };
        let found = match record::find(client.own(), &call, &id) {
            Ok(found) => found,
            Err(
                RuntimeError::EngineNotAvailable { .. }
                | RuntimeError::Connection { .. }
                | RuntimeError::Timeout { .. },
            ) if !away.get_or_insert_with(|| Deadline::after(AWAY_LIMIT)).is_over() => return Ok(false),
            Err(error) => return Err(error),
        };
        away = None;
        // Removed: nothing more is written, and what is open is read to its end.
        let Some(known) = found else { return Ok(true) };
        let status = known.status();
        if status.is_live() || status == ContainerStatus::Created {
            ended = None;
            return Ok(false);
        }
        let limit = ended.get_or_insert_with(|| Deadline::after(LOG_LIMIT));
        if let Err(error) = tell_end(client.own(), &settings, &call, &id) {
            log::debug!("whether container '{id}' writes more cannot be told: {error}");
        }
        Ok(limit.is_over() || !logger::is_written(&settings.folder(&id)))
    };
    reader::open(&log, call, options, Box::new(is_over))
}
