//! The multiplexed stream of attach, exec and logs: frames of `[stream, 0, 0, 0, length as big-endian u32]`.
//!
//! A frame may be longer than is wanted at once; it is given in pieces of at most [`PIECE`] bytes.

use super::ENGINE;
use super::client::wire_error;
use crate::runtime::adapter::{OutputStream, RtResult, RuntimeError};
use crate::transport::http::Streaming;

/// The most that is given at once, bytes.
pub(super) const PIECE: usize = 64 * 1024;

/// A part of a frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) stream: OutputStream,
    /// Whether it is the frame's first.
    pub(super) first: bool,
    /// Whether it is the frame's last.
    pub(super) last: bool,
    pub(super) bytes: Vec<u8>,
}

/// Takes a multiplexed body apart.
pub(super) struct Demux {
    op: &'static str,
    body: Streaming,
    /// The frame under way and how much of it is left.
    rest: Option<(OutputStream, usize)>,
}

impl Demux {
    pub(super) fn new(op: &'static str, body: Streaming) -> Self {
        Self { op, body, rest: None }
    }

    /// The next piece; `None` at an end between two frames.
    pub(super) fn next_piece(&mut self) -> RtResult<Option<Piece>> {
        let (stream, left, first) = match self.rest.take() {
            Some((stream, left)) => (stream, left, false),
            None => match self.next_frame()? {
                Some((stream, length)) => (stream, length, true),
                None => return Ok(None),
            },
        };
        let mut bytes = vec![0; left.min(PIECE)];
        if !self.body.read_full(&mut bytes).map_err(|error| wire_error(self.op, error))? && !bytes.is_empty() {
            return Err(self.broken("the stream ended inside a frame"));
        }
        let left = left - bytes.len();
        self.rest = (left > 0).then_some((stream, left));
        Ok(Some(Piece { stream, first, last: left == 0, bytes }))
    }

    fn next_frame(&mut self) -> RtResult<Option<(OutputStream, usize)>> {
        let mut head = [0; 8];
        if !self.body.read_full(&mut head).map_err(|error| wire_error(self.op, error))? {
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
        RuntimeError::Connection { engine: ENGINE.to_owned(), op: self.op.to_owned(), reason: reason.to_owned() }
    }
}
