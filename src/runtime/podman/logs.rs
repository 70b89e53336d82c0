//! A container's output as a stream of chunks.
//!
//! Podman's REST service gives timestamps in whole seconds, in versions 4 and 5 alike, although its log file has
//! nanoseconds; they are passed on as they are. They never fall, but lines of one second share theirs.
//!
//! Version 4 sends the head of a followed answer together with the first line, so a followed stream is asked for when
//! it is first read: opening it does not wait for a container that says nothing.

use super::client::{Client, Later, NO_BODY};
use super::create::path;
use super::lifecycle::inspect;
use super::mux::Demux;
use super::status::{nanos, status};
use crate::model::state::ContainerStatus;
use crate::runtime::adapter::{BlockingStream, Call, LogChunk, LogOptions, OutputStream, RtResult};
use crate::transport::http::Method;

const OP: &str = "logs";

/// The most lines that a tail asks for: Podman allocates them at once.
const MAX_TAIL: usize = 100_000;

/// The longest text that is taken for a timestamp.
const MAX_TIMESTAMP: usize = 40;

/// Opens the stream.
pub(super) fn open(client: &Client, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
    let container = inspect(client, call, id)?;
    let never_ran = status(&container.state) == ContainerStatus::Created;
    if !(options.stdout || options.stderr) || (never_ran && !options.follow) {
        return Ok(Box::new(std::iter::empty()));
    }
    let path = path(&container.id, &query(options));
    let source = if options.follow {
        Source::Later(client.later(call, &path)?)
    } else {
        let body = client.stream(call, OP, Method::Get, &path, NO_BODY)?;
        body.lift_deadline();
        Source::Open(Box::new(Demux::new(OP, body)))
    };
    Ok(Box::new(Logs { source, timestamp_ns: 0 }))
}

fn query(options: &LogOptions) -> String {
    let LogOptions { follow, tail, since_ms, stdout, stderr } = options;
    let mut query = format!("logs?follow={follow}&stdout={stdout}&stderr={stderr}&timestamps=true");
    if let Some(tail) = tail {
        query.push_str(&format!("&tail={}", tail.min(&MAX_TAIL)));
    }
    if *since_ms > 0 {
        query.push_str(&format!("&since={}.{:03}", since_ms / 1000, since_ms % 1000));
    }
    query
}

/// Where the frames come from.
enum Source {
    /// Asked for at the first read.
    Later(Later),
    /// Under way.
    Open(Box<Demux>),
    /// At its end, or failed.
    Ended,
}

struct Logs {
    source: Source,
    /// That of the frame under way.
    timestamp_ns: u64,
}

impl Logs {
    fn next_chunk(&mut self) -> RtResult<Option<LogChunk>> {
        let mut frames = match std::mem::replace(&mut self.source, Source::Ended) {
            Source::Later(later) => Box::new(Demux::new(OP, later.open(OP)?)),
            Source::Open(frames) => frames,
            Source::Ended => return Ok(None),
        };
        let Some(mut piece) = frames.next_piece()? else { return Ok(None) };
        self.source = Source::Open(frames);
        if piece.first {
            let length = timestamp_length(&piece.bytes);
            let text = String::from_utf8_lossy(&piece.bytes[..length]);
            self.timestamp_ns = nanos(text.trim_end());
            piece.bytes.drain(..length);
        }
        Ok(Some(LogChunk { stream: piece.stream, timestamp_ns: self.timestamp_ns, bytes: piece.bytes }))
    }
}

/// How many bytes at the frame's begin are its timestamp with the blank after it.
fn timestamp_length(frame: &[u8]) -> usize {
    let head = &frame[..frame.len().min(MAX_TIMESTAMP)];
    head.iter().position(|byte| *byte == b' ').map_or(0, |blank| blank + 1)
}

impl Iterator for Logs {
    type Item = RtResult<LogChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_chunk().transpose()
    }
}

/// Which of an outcome's buffers a piece belongs to.
pub(super) fn of<'a>(stream: OutputStream, stdout: &'a mut Vec<u8>, stderr: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
    match stream {
        OutputStream::Stdout => stdout,
        OutputStream::Stderr => stderr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_has_every_option() {
        let options = LogOptions { follow: true, tail: Some(usize::MAX), since_ms: 1_002, stdout: true, stderr: false };
        let expected = "logs?follow=true&stdout=true&stderr=false&timestamps=true&tail=100000&since=1.002";
        assert_eq!(query(&options), expected);
    }

    #[test]
    fn timestamp_is_told_from_the_line() {
        assert_eq!(timestamp_length(b"2026-11-22T09:57:28Z out put\n"), 21);
        assert_eq!(timestamp_length(b"\n"), 0);
    }
}
