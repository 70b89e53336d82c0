//! Multiplexed output of attach, exec and logs: frames of `[stream, 0, 0, 0, length as big-endian u32]`.
//!
//! A frame may be longer than is wanted at once; it is given in pieces of at most [`PIECE`] bytes.

use super::exchange::wire_error;
use super::told::nanos;
use crate::runtime::adapter::{
    ExecOutcome, LogChunk, LogOptions, MAX_EXEC_OUTPUT, OutputStream, RtResult, RuntimeError,
};
use crate::transport::http::Streaming;

/// The most that is given at once, bytes.
pub const PIECE: usize = 64 * 1024;

/// The most lines that a tail asks for: engines allocate them at once.
const MAX_TAIL: usize = 100_000;

/// The longest text that is taken for a timestamp.
const MAX_TIMESTAMP: usize = 40;

/// A part of a frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Where it came from.
    pub stream: OutputStream,
    /// Whether it is the frame's first.
    pub first: bool,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// Takes a multiplexed body apart.
pub struct Demux {
    engine: &'static str,
    op: &'static str,
    body: Streaming,
    /// The frame under way and how much of it is left.
    rest: Option<(OutputStream, usize)>,
}

impl Demux {
    /// For this body.
    pub fn new(engine: &'static str, op: &'static str, body: Streaming) -> Self {
        Self { engine, op, body, rest: None }
    }

    /// The next piece; `None` at an end between two frames.
    pub fn next_piece(&mut self) -> RtResult<Option<Piece>> {
        let (stream, left, first) = match self.rest.take() {
            Some((stream, left)) => (stream, left, false),
            None => match self.next_frame()? {
                Some((stream, length)) => (stream, length, true),
                None => return Ok(None),
            },
        };
        let mut bytes = vec![0; left.min(PIECE)];
        if !self.read(&mut bytes)? && !bytes.is_empty() {
            return Err(self.broken("the stream ended inside a frame"));
        }
        let left = left - bytes.len();
        self.rest = (left > 0).then_some((stream, left));
        Ok(Some(Piece { stream, first, bytes }))
    }

    fn read(&mut self, bytes: &mut [u8]) -> RtResult<bool> {
        self.body.read_full(bytes).map_err(|error| wire_error(self.engine, self.op, error))
    }

    fn next_frame(&mut self) -> RtResult<Option<(OutputStream, usize)>> {
        let mut head = [0; 8];
        if !self.read(&mut head)? {
            return Ok(None);
        }
        let [kind, a, b, c, length @ ..] = head;
        let stream = match (kind, [a, b, c]) {
            (0 | 1, [0, 0, 0]) => OutputStream::Stdout,
            (2, [0, 0, 0]) => OutputStream::Stderr,
            _ => return Err(self.broken("what came is no frame")),
        };
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| self.broken("a frame is too long"))?;
        Ok(Some((stream, length)))
    }

    fn broken(&self, reason: &str) -> RuntimeError {
        let (engine, op) = (self.engine.to_owned(), self.op.to_owned());
        RuntimeError::Connection { engine, op, reason: reason.to_owned() }
    }

    /// Reads to the end what a command writes; what is beyond the bound is dropped and said so. The exit code is still
    /// to be asked for.
    pub fn collect(mut self) -> RtResult<ExecOutcome> {
        let mut outcome = ExecOutcome { exit_code: 0, stdout: Vec::new(), stderr: Vec::new(), truncated: false };
        while let Some(piece) = self.next_piece()? {
            let kept = match piece.stream {
                OutputStream::Stdout => &mut outcome.stdout,
                OutputStream::Stderr => &mut outcome.stderr,
            };
            let room = MAX_EXEC_OUTPUT - kept.len();
            outcome.truncated |= piece.bytes.len() > room;
            kept.extend_from_slice(&piece.bytes[..piece.bytes.len().min(room)]);
        }
        Ok(outcome)
    }
}

/// A container's output, where each frame begins with its timestamp.
pub struct Chunks {
    frames: Demux,
    /// That of the frame under way.
    timestamp_ns: u64,
}

impl Chunks {
    /// Of these frames.
    pub fn new(frames: Demux) -> Self {
        Self { frames, timestamp_ns: 0 }
    }

    /// The next chunk; `None` at the end.
    pub fn next_chunk(&mut self) -> RtResult<Option<LogChunk>> {
        let Some(mut piece) = self.frames.next_piece()? else { return Ok(None) };
        if piece.first {
            self.timestamp_ns = take_timestamp(&mut piece.bytes);
        }
        Ok(Some(LogChunk { stream: piece.stream, timestamp_ns: self.timestamp_ns, bytes: piece.bytes }))
    }
}

/// Takes the timestamp with the blank after it from the front; nanoseconds, 0 where there is none.
pub fn take_timestamp(line: &mut Vec<u8>) -> u64 {
    let length = timestamp_length(line);
    let text = String::from_utf8_lossy(&line[..length]);
    let timestamp_ns = nanos(text.trim_end());
    line.drain(..length);
    timestamp_ns
}

/// How many bytes at the begin are a timestamp with the blank after it.
fn timestamp_length(line: &[u8]) -> usize {
    let head = &line[..line.len().min(MAX_TIMESTAMP)];
    head.iter().position(|byte| *byte == b' ').map_or(0, |blank| blank + 1)
}

/// The resource and query of a container's logs.
pub fn logs_query(options: &LogOptions) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_has_every_option() {
        let options = LogOptions { follow: true, tail: Some(usize::MAX), since_ms: 1_002, stdout: true, stderr: false };
        let expected = "logs?follow=true&stdout=true&stderr=false&timestamps=true&tail=100000&since=1.002";
        assert_eq!(logs_query(&options), expected);
    }

    #[test]
    fn timestamp_is_told_from_the_line() {
        assert_eq!(timestamp_length(b"2026-11-22T09:57:28Z out put\n"), 21);
        assert_eq!(timestamp_length(b"\n"), 0);
        let mut line = b"1970-01-01T00:00:01Z x\n".to_vec();
        assert_eq!((take_timestamp(&mut line), line.as_slice()), (1_000_000_000, &b"x\n"[..]));
    }
}
