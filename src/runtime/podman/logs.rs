//! A container's output as a stream of chunks.
//!
//! Podman's REST service gives timestamps in whole seconds, in versions 4 and 5 alike, although its log file has
//! nanoseconds; they are passed on as they are. They never fall, but lines of one second share theirs.
//!
//! Version 4 sends the head of a followed answer together with the first line, so a followed stream is asked for when
//! it is first read: opening it does not wait for a container that says nothing.

use super::ENGINE;
use super::client::{Client, Libpod};
use super::lifecycle::inspect;
use super::status::status;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{BlockingStream, Call, LogChunk, LogOptions, RtResult};
use crate::runtime::rest::client::Later;
use crate::runtime::rest::exchange::{NO_BODY, path};
use crate::runtime::rest::output::{Chunks, Demux, logs_query};
use crate::transport::http::Method;

const OP: &str = "logs";

/// Opens the stream.
pub(super) fn open(client: &Client, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
    let container = inspect(client, call, id)?;
    let never_ran = status(&container.state) == ContainerStatus::Created;
    if !(options.stdout || options.stderr) || (never_ran && !options.follow) {
        return Ok(Box::new(std::iter::empty()));
    }
    let path = path(&container.id, &logs_query(options));
    let source = if options.follow {
        Source::Later(client.later(call, &path)?)
    } else {
        let body = client.stream(call, OP, Method::Get, &path, NO_BODY)?;
        body.lift_deadline();
        Source::Open(Box::new(Chunks::new(Demux::new(ENGINE, OP, body))))
    };
    Ok(Box::new(Logs { source }))
}

/// Where the chunks come from.
enum Source {
    /// Asked for at the first read.
    Later(Later<Libpod>),
    /// Under way.
    Open(Box<Chunks>),
    /// At its end, or failed.
    Ended,
}

struct Logs {
    source: Source,
}

impl Logs {
    fn next_chunk(&mut self) -> RtResult<Option<LogChunk>> {
        let mut chunks = match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Later(later) => Box::new(Chunks::new(Demux::new(ENGINE, OP, later.open(OP)?))),
            Source::Open(chunks) => chunks,
            Source::Ended => return Ok(None),
        };
        let chunk = chunks.next_chunk()?;
        if chunk.is_some() {
            self.source = Source::Open(chunks);
        }
        Ok(chunk)
    }
}

impl Iterator for Logs {
    type Item = RtResult<LogChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_chunk().transpose()
    }
}
