//! A log as a stream of chunks: all of it, its tail, what is new, and what is still to come.
//!
//! A follower holds the file open that it reads, so that a rotation takes nothing away that it has not read: it reads
//! the old file to its end and goes on with those that came after it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lines::{Lines, Piece};
use super::record::parse;
use super::{MOST_OLDER, rotated};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;
use crate::runtime::adapter::{BlockingStream, Call, LogChunk, LogOptions, OutputStream, RtResult, RuntimeError};

/// Between two looks at a file that does not grow: the first, and the longest after doubling.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(100));

/// Between two questions whether more is to come.
const ASK: Duration = Duration::from_millis(200);

/// The most lines of a tail.
const MAX_TAIL: usize = 100_000;

/// How many lines are looked at between two looks at the call.
const LINES_AT_ONCE: usize = 1024;

/// Whether nothing more will be written. What is written before it says so is read.
pub type IsOver = Box<dyn FnMut() -> RtResult<bool> + Send>;

/// Opens the log at `path`, which need not be there (yet). The call bounds the opening, its token the reading. `is_over`
/// is asked by those who follow alone.
pub fn open(path: &Path, call: &Call, options: &LogOptions, is_over: IsOver) -> RtResult<BlockingStream<LogChunk>> {
    if !(options.stdout || options.stderr) {
        return Ok(Box::new(std::iter::empty()));
    }
    let files: VecDeque<_> = present(path, None).map_err(|error| failed(path, &error))?.into();
    let mut log = Log {
        path: path.to_owned(),
        cancel: call.cancel.clone(),
        wanted: Wanted { stdout: options.stdout, stderr: options.stderr, since_ns: options.since_ms * 1_000_000 },
        follow: options.follow.then_some(is_over),
        files,
        last: (0, OutputStream::Stdout, true),
        from: [(0, 0); 2],
        passed: 0,
        is_over: false,
        asked: None,
    };
    if let Some(tail) = options.tail {
        log.skip_to_tail(call, tail.min(MAX_TAIL))?;
    }
    Ok(Box::new(log))
}

/// The log's files that are newer than the one with this identity, oldest first; all without one, or where that is none
/// of them any more.
fn present(path: &Path, than: Option<(u64, u64)>) -> io::Result<Vec<Lines>> {
    let mut files: Vec<Lines> = Vec::new();
    let mut seen = Vec::from_iter(than);
    for times in 0..=MOST_OLDER {
        let lines = match File::open(rotated(path, times)) {
            Ok(file) => Lines::new(Arc::new(file)),
            // A rotation is under way, or the log has never been written.
            Err(error) if error.kind() == io::ErrorKind::NotFound && times == 0 => continue,
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        };
        let identity = lines.identity()?;
        if Some(identity) == than {
            break;
        }
        // It was rotated since it was seen under its former name.
        if !seen.contains(&identity) {
            seen.push(identity);
            files.push(lines);
        }
    }
    files.reverse();
    Ok(files)
}

fn failed(path: &Path, error: &io::Error) -> RuntimeError {
    RuntimeError::Io { what: format!("log '{}'", path.display()), reason: error.to_string() }
}

fn index(stream: OutputStream) -> usize {
    match stream {
        OutputStream::Stdout => 0,
        OutputStream::Stderr => 1,
    }
}

/// Which records are given.
#[derive(Clone, Copy)]
struct Wanted {
    stdout: bool,
    stderr: bool,
    since_ns: u64,
}

impl Wanted {
    fn has(self, stream: OutputStream, time_ns: u64) -> bool {
        let is_of_stream = match stream {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        };
        is_of_stream && time_ns >= self.since_ns
    }
}

/// Where a record begins: the file, counted from the oldest at the opening, and the offset.
type Place = (usize, u64);

struct Log {
    path: PathBuf,
    cancel: CancelToken,
    wanted: Wanted,
    /// `None`: what there is.
    follow: Option<IsOver>,
    /// Oldest first; the first is read.
    files: VecDeque<Lines>,
    /// Time, stream and end of the last record, for what comes of the same line.
    last: (u64, OutputStream, bool),
    /// Where each stream begins to be wanted.
    from: [Place; 2],
    /// How many files have been read to their end.
    passed: usize,
    is_over: bool,
    asked: Option<Instant>,
}

impl Log {
    /// Finds where the last `count` lines of both streams together begin.
    fn skip_to_tail(&mut self, call: &Call, count: usize) -> RtResult<()> {
        let mut lines: VecDeque<(Place, OutputStream)> = VecDeque::new();
        let mut begun: [Option<Place>; 2] = [None; 2];
        let mut end = (0, 0);
        let mut looked_at = 0;
        for file in 0..self.files.len() {
            let mut reading = Lines::new(Arc::clone(self.files[file].file()));
            while let Some(piece) = reading.next().map_err(|error| failed(&self.path, &error))? {
                looked_at += 1;
                if looked_at % LINES_AT_ONCE == 0 {
                    bounded(call)?;
                }
                let place = (file, piece.offset);
                end = (file, piece.offset + 1);
                let Some((stream, time_ns, ends_line)) = self.classify(&piece) else { continue };
                if !self.wanted.has(stream, time_ns) {
                    continue;
                }
                let start = *begun[index(stream)].get_or_insert(place);
                if ends_line {
                    begun[index(stream)] = None;
                    lines.push_back((start, stream));
                }
                if lines.len() > count {
                    lines.pop_front();
                }
            }
        }
        self.last = (0, OutputStream::Stdout, true);
        let mut open: Vec<_> = [OutputStream::Stdout, OutputStream::Stderr]
            .into_iter()
            .filter_map(|stream| Some((begun[index(stream)]?, stream)))
            .collect();
        open.sort_by_key(|(start, _)| *start);
        lines.extend(open);
        let kept = lines.split_off(lines.len().saturating_sub(count));
        for stream in [OutputStream::Stdout, OutputStream::Stderr] {
            let first = kept.iter().filter(|(_, of)| *of == stream).map(|(start, _)| *start).min();
            self.from[index(stream)] = first.unwrap_or(end);
        }
        let start = self.from[0].min(self.from[1]);
        for _ in 0..start.0 {
            self.files.pop_front();
            self.passed += 1;
        }
        // The end lies within the last record, which is read again and not wanted.
        if let Some(first) = self.files.front_mut()
            && start != end
        {
            first.seek(start.1);
        }
        Ok(())
    }

    /// Stream, time and end of line of a piece; `None` of what goes on with a line that is no record.
    fn classify(&mut self, piece: &Piece) -> Option<(OutputStream, u64, bool)> {
        if piece.begins {
            // What is no record is given as it is, as of the time of the record before it.
            self.last = parse(&piece.bytes).map_or((self.last.0, OutputStream::Stdout, true), |record| {
                (record.time_ns, record.stream, record.ends_line)
            });
        }
        let (time_ns, stream, ends_line) = self.last;
        Some((stream, time_ns, ends_line && piece.ends))
    }

    /// The chunk of a piece; `None` where it is not wanted.
    fn chunk(&mut self, piece: Piece) -> Option<LogChunk> {
        let place = (self.passed, piece.offset);
        let (stream, timestamp_ns, ends_line) = self.classify(&piece)?;
        if place < self.from[index(stream)] || !self.wanted.has(stream, timestamp_ns) {
            return None;
        }
        let mut bytes = match parse(&piece.bytes).filter(|_| piece.begins) {
            Some(record) => record.text.to_vec(),
            None => piece.bytes,
        };
        if ends_line {
            bytes.push(b'\n');
        }
        (!bytes.is_empty()).then_some(LogChunk { stream, timestamp_ns, bytes })
    }

    fn next_chunk(&mut self) -> RtResult<Option<LogChunk>> {
        let mut pause = POLL.0;
        loop {
            if self.cancel.is_cancelled() {
                return Err(RuntimeError::Cancelled { op: "logs".to_owned() });
            }
            let read = self.files.front_mut().map_or(Ok(None), Lines::next);
            if let Some(piece) = read.map_err(|error| failed(&self.path, &error))? {
                match self.chunk(piece) {
                    Some(chunk) => return Ok(Some(chunk)),
                    None => continue,
                }
            }
            if self.files.len() > 1 {
                self.files.pop_front();
                self.passed += 1;
                continue;
            }
            if self.follow.is_none() {
                return Ok(None);
            }
            // What is found here came after the file was read to its end, so its end is looked for once more.
            if self.look_for_newer()? {
                continue;
            }
            if self.is_over {
                return Ok(None);
            }
            if self.ask()? {
                continue;
            }
            self.cancel.wait(Urge::Cancel, Deadline::after(pause));
            pause = (pause * 2).min(POLL.1);
        }
    }

    /// Whether there are files after the one that is read.
    fn look_for_newer(&mut self) -> RtResult<bool> {
        let error = |error: io::Error| failed(&self.path, &error);
        let current = self.files.front().map(Lines::identity).transpose().map_err(error)?;
        let written = std::fs::metadata(&self.path).ok().map(|metadata| (metadata.dev(), metadata.ino()));
        if written.is_none() || written == current {
            return Ok(false);
        }
        let newer = present(&self.path, current).map_err(error)?;
        let has_found = !newer.is_empty();
        self.files.extend(newer);
        Ok(has_found)
    }

    /// Whether nothing more is to come, asked not too often.
    fn ask(&mut self) -> RtResult<bool> {
        if self.asked.is_some_and(|when| when.elapsed() < ASK) {
            return Ok(false);
        }
        self.asked = Some(Instant::now());
        if let Some(is_over) = &mut self.follow {
            self.is_over = is_over()?;
        }
        Ok(self.is_over)
    }
}

/// Fails where the call's time is over or its token cancelled.
fn bounded(call: &Call) -> RtResult<()> {
    if call.cancel.is_cancelled() {
        return Err(RuntimeError::Cancelled { op: "logs".to_owned() });
    }
    if call.deadline.is_over() {
        return Err(RuntimeError::Timeout { op: "logs".to_owned(), after: Duration::ZERO });
    }
    Ok(())
}

impl Iterator for Log {
    type Item = RtResult<LogChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_chunk();
        if next.is_err() {
            // Nothing comes after a failure.
            self.files.clear();
            self.follow = None;
        }
        next.transpose()
    }
}
