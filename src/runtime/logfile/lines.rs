//! Lines of a file that grows, in pieces of bounded length.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// The most that is given at once, bytes: with an end of line still within 64 KiB.
const PIECE: usize = 64 * 1024 - 1;

/// A line without its end, or a piece of one that is too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// Whether the line begins with it.
    pub(super) begins: bool,
    /// Whether the line ends with it.
    pub(super) ends: bool,
    /// What it says.
    pub(super) bytes: Vec<u8>,
}

/// Reads lines from a place of a file on.
pub(super) struct Lines {
    file: Arc<File>,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    offset: u64,
    /// How much of the buffer is known to have no end of a line.
    searched: usize,
    /// The next piece is of a line that has begun already.
    inside: bool,
}

impl Lines {
    /// From the start of the file.
    pub(super) fn new(file: Arc<File>) -> Self {
        Self { file, buffer: Vec::new(), offset: 0, searched: 0, inside: false }
    }

    /// From this offset, where a line begins.
    pub(super) fn seek(&mut self, offset: u64) {
        *self = Self { offset, ..Self::new(Arc::clone(&self.file)) };
    }

    /// The file.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Which file of the machine it is.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// The next piece; `None` where the file has no whole one at present.
    pub(super) fn next(&mut self) -> io::Result<Option<Piece>> {
        loop {
            let unsearched = &self.buffer[self.searched..];
            let end = unsearched.iter().position(|byte| *byte == b'\n').map(|place| self.searched + place);
            match end {
                Some(end) if end <= PIECE => return Ok(Some(self.take(end, true))),
                Some(_) => return Ok(Some(self.take(PIECE, false))),
                None if self.buffer.len() >= PIECE => return Ok(Some(self.take(PIECE, false))),
                None => self.searched = self.buffer.len(),
            }
            let mut more = [0; 16 * 1024];
            let count = self.file.read_at(&mut more, self.offset + self.buffer.len() as u64)?;
            if count == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(&more[..count]);
        }
    }

    fn take(&mut self, length: usize, ends: bool) -> Piece {
        let mut bytes: Vec<u8> = self.buffer.drain(..length + usize::from(ends)).collect();
        let piece = Piece { offset: self.offset, begins: !self.inside, ends, bytes: Vec::new() };
        self.offset += bytes.len() as u64;
        bytes.truncate(length);
        self.searched = 0;
        self.inside = !ends;
        Piece { bytes, ..piece }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn lines_come_whole_and_long_ones_in_pieces() {
        let mut file = tempfile::tempfile().unwrap();
        let mut lines = Lines::new(Arc::new(file.try_clone().unwrap()));
        file.write_all(b"one\n\ntw").unwrap();
        let mut next =
            || lines.next().unwrap().map(|piece| (piece.offset, piece.begins, piece.ends, piece.bytes.len()));
        assert_eq!((next(), next(), next()), (Some((0, true, true, 3)), Some((4, true, true, 0)), None));
        file.write_all(b"o\n").unwrap();
        assert_eq!((next(), next()), (Some((5, true, true, 3)), None));
        file.write_all(&vec![b'x'; 2 * PIECE]).unwrap();
        assert_eq!(next(), Some((9, true, false, PIECE)));
        assert_eq!(next(), Some((9 + PIECE as u64, false, false, PIECE)));
        assert_eq!(next(), None);
        file.write_all(b"\nlast\n").unwrap();
        assert_eq!(next(), Some((9 + 2 * PIECE as u64, false, true, 0)));
        assert_eq!(next(), Some((10 + 2 * PIECE as u64, true, true, 4)));
    }
}
