//! A container's output, from the log that the logger writes.

use std::sync::Arc;
use std::time::Duration;

use super::ContainerdConfig;
use super::client::Client;
use super::record;
use crate::clock::Deadline;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{BlockingStream, Call, LogChunk, LogOptions, NoProgress, RtResult, RuntimeError};
use crate::runtime::logfile::{logger, reader};

/// The time of one look at the container by who follows its log.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// How long a follower bears that containerd does not answer: it may be started again.
const AWAY_LIMIT: Duration = Duration::from_secs(60);

/// Opens the stream.
pub(super) fn open(
    client: &Arc<Client>,
    settings: &ContainerdConfig,
    call: &Call,
    id: &str,
    options: &LogOptions,
) -> RtResult<BlockingStream<LogChunk>> {
    let id = record::inspect(client.own(), call, id)?.container.id;
    let folder = settings.folder(&id);
    let log = logger::log_file(&folder);
    let (client, cancel) = (Arc::clone(client), call.cancel.clone());
    let mut away: Option<Deadline> = None;
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
        Ok(!status.is_live() && status != ContainerStatus::Created && !logger::is_written(&folder))
    };
    reader::open(&log, call, options, Box::new(is_over))
}
