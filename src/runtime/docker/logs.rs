//! A container's output as a stream of chunks, from Docker's own log file, with its timestamps in nanoseconds.
//!
//! A container with a terminal has one stream, which Docker does not multiplex.

use super::ENGINE;
use super::client::Client;
use super::lifecycle::inspect;
use super::status::status;
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{BlockingStream, Call, LogChunk, LogOptions, OutputStream, RtResult};
use crate::runtime::rest::exchange::{NO_BODY, path, wire_error};
use crate::runtime::rest::output::{Chunks, Demux, PIECE, logs_query, take_timestamp};
use crate::transport::http::{Method, Streaming};

const OP: &str = "logs";

/// Opens the stream.
pub(super) fn open(client: &Client, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
    let container = inspect(client, call, id)?;
    let never_ran = status(&container.state) == ContainerStatus::Created;
    if !(options.stdout || options.stderr) || (never_ran && !options.follow) {
        return Ok(Box::new(std::iter::empty()));
    }
    let body = client.stream(call, OP, Method::Get, &path(&container.id, &logs_query(options)), NO_BODY)?;
    body.lift_deadline();
    let source = match container.config.tty {
        true => Source::Terminal(Box::new(Terminal { body, rest: Vec::new(), timestamp_ns: 0 })),
        false => Source::Frames(Box::new(Chunks::new(Demux::new(ENGINE, OP, body)))),
    };
    Ok(Box::new(Logs(source)))
}

/// Where the chunks come from.
enum Source {
    Frames(Box<Chunks>),
    Terminal(Box<Terminal>),
    /// At its end, or failed.
    Ended,
}

struct Logs(Source);

impl Iterator for Logs {
    type Item = RtResult<LogChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        let chunk = match &mut self.0 {
            Source::Frames(chunks) => chunks.next_chunk(),
            Source::Terminal(terminal) => terminal.next_chunk(),
            Source::Ended => Ok(None),
        };
        if !matches!(chunk, Ok(Some(_))) {
            self.0 = Source::Ended;
        }
        chunk.transpose()
    }
}

/// Lines, each with its timestamp before it.
struct Terminal {
    body: Streaming,
    /// What is left of a long line.
    rest: Vec<u8>,
    timestamp_ns: u64,
}

impl Terminal {
    fn next_chunk(&mut self) -> RtResult<Option<LogChunk>> {
        if self.rest.is_empty() {
            let line = self.body.next_line().map_err(|error| wire_error(ENGINE, OP, error))?;
            let Some(mut line) = line else { return Ok(None) };
            self.timestamp_ns = take_timestamp(&mut line);
            line.push(b'\n');
            self.rest = line;
        }
        let later = self.rest.split_off(self.rest.len().min(PIECE));
        let bytes = std::mem::replace(&mut self.rest, later);
        Ok(Some(LogChunk { stream: OutputStream::Stdout, timestamp_ns: self.timestamp_ns, bytes }))
    }
}
