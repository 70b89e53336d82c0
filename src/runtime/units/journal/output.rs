//! What a unit has written, as a stream of chunks: all of it, its tail, what is new, and what is still to come.
//!
//! A follower reads what journalctl follows until the unit has ended; then the journal is told to write down what it has, and
//! what came after the last entry is read to its end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::export::{Entry, Parser};
use super::{Journal, MOST_COMPLAINT, unreadable};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, LogChunk, NoProgress, OutputStream, RtResult, RuntimeError};
use crate::runtime::logfile::reader::IsOver;
use crate::runtime::shared::calls::late;
use crate::runtime::shared::program::{Output, Piped};

/// What is read at once, bytes.
const PIECE: usize = 16 * 1024;

/// The most of a chunk, bytes: with an end of line still within 64 KiB.
const MOST_CHUNK: usize = 64 * 1024 - 1;

/// Between two questions whether more is to come.
const ASK: Duration = Duration::from_millis(200);

/// How long journalctl may look for the next entry where it is not to wait for any: journals may be large.
const SILENCE: Duration = Duration::from_secs(60);

/// How long it may take to end once it has nothing more to say.
const ENDING: Duration = Duration::from_secs(5);

/// The least urgent that is told as standard error: a warning.
const WARNING: u8 = 4;

const OP: &str = "logs";

/// Which entries are given.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) stdout: bool,
    pub(super) stderr: bool,
    pub(super) from_us: u64,
}

impl Wanted {
    fn has(self, entry: &Entry) -> bool {
        let is_of_stream = match stream_of(entry) {
            OutputStream::Stdout => self.stdout,
            OutputStream::Stderr => self.stderr,
        };
        is_of_stream && entry.time_us >= self.from_us
    }
}

fn stream_of(entry: &Entry) -> OutputStream {
    match entry.priority {
        Some(priority) if priority <= WARNING => OutputStream::Stderr,
        Some(_) | None => OutputStream::Stdout,
    }
}

/// Where reading begins.
pub(super) enum Place {
    /// With what is of this time, microseconds since the epoch, or later.
    From(u64),
    /// With the entry of this cursor.
    At(String),
    /// With the one after it.
    After(String),
    /// At the end, backwards.
    End,
}

impl Place {
    pub(super) fn argument(&self) -> String {
        match self {
            Self::From(us) => format!("--since=@{}.{:06}", us / 1_000_000, us % 1_000_000),
            Self::At(cursor) => format!("--cursor={cursor}"),
            Self::After(cursor) => format!("--after-cursor={cursor}"),
            Self::End => "--reverse".to_owned(),
        }
    }
}

/// What is found of a unit.
pub(super) struct Found {
    journal: Journal,
    unit: String,
    wanted: Wanted,
    cancel: CancelToken,
    place: Place,
    /// `None`: what there is.
    follow: Option<IsOver>,
    /// `None` once everything is read.
    reader: Option<Reader>,
    ready: VecDeque<LogChunk>,
    asked: Instant,
}

/// A journalctl that reads.
struct Reader {
    piped: Piped,
    parser: Parser,
    /// When it last said something.
    heard: Instant,
}

impl Reader {
    /// The entries that come until then, none of them where there are none yet; `None` at the end.
    fn entries(&mut self, deadline: Deadline) -> RtResult<Option<Vec<Entry>>> {
        let (mut piece, mut found) = ([0; PIECE], Vec::new());
        match self.piped.read(&mut piece, deadline).map_err(|error| unreadable(error.to_string()))? {
            Output::End => return Ok(None),
            Output::Nothing => {}
            Output::Bytes(read) => {
                self.heard = Instant::now();
                self.parser.take(&piece[..read], &mut found).map_err(unreadable)?;
            }
        }
        Ok(Some(found))
    }

    /// Fails where it failed, once it has nothing more to say.
    fn end(self, cancel: &CancelToken) -> RtResult<()> {
        let call = Call { deadline: Deadline::after(ENDING), cancel, progress: &NoProgress };
        let ended = self.piped.end(&call, OP)?;
        if ended.status.success() { Ok(()) } else { Err(unreadable(ended.complaint())) }
    }
}

impl Found {
    pub(super) fn new(journal: Journal, unit: &str, wanted: Wanted, cancel: &CancelToken) -> Self {
        Self {
            journal,
            unit: unit.to_owned(),
            wanted,
            cancel: cancel.clone(),
            place: Place::From(wanted.from_us),
            follow: None,
            reader: None,
            ready: VecDeque::new(),
            asked: Instant::now(),
        }
    }

    /// Goes on until `is_over` says so.
    pub(super) fn follow(&mut self, is_over: IsOver) {
        self.follow = Some(is_over);
    }

    /// Starts to read where it is.
    pub(super) fn start(&mut self) -> RtResult<()> {
        self.reader = Some(self.read(&self.place, self.follow.is_some())?);
        Ok(())
    }

    fn read(&self, place: &Place, follows: bool) -> RtResult<Reader> {
        let mut command = self.journal.reading(&self.unit, place);
        if follows {
            command.args(["--follow", "--no-tail"]);
        }
        let piped = Piped::start(&mut command, &self.cancel, MOST_COMPLAINT)?;
        Ok(Reader { piped, parser: Parser::default(), heard: Instant::now() })
    }

    /// Finds where the last `count` lines begin, from the end backwards.
    pub(super) fn skip_to_tail(&mut self, call: &Call, count: usize) -> RtResult<()> {
        let begun = Instant::now();
        let mut reader = self.read(&Place::End, false)?;
        let (mut lines, mut newest, mut first) = (0, None, None);
        'all: while let Some(entries) = reader.entries(call.deadline)? {
            self.check_call()?;
            if call.deadline.is_over() {
                return Err(late(OP, begun));
            }
            for entry in entries {
                newest.get_or_insert_with(|| entry.cursor.clone());
                if entry.time_us < self.wanted.from_us {
                    break 'all;
                }
                if !self.wanted.has(&entry) {
                    continue;
                }
                // The last line may not be whole.
                if !entry.is_part || first.is_none() {
                    if lines == count {
                        break 'all;
                    }
                    lines += 1;
                }
                first = Some(entry.cursor);
            }
        }
        self.place = match (first, newest) {
            (Some(first), _) => Place::At(first),
            (None, Some(newest)) => Place::After(newest),
            (None, None) => Place::From(self.wanted.from_us),
        };
        Ok(())
    }

    fn check_call(&self) -> RtResult<()> {
        if self.cancel.is_cancelled() { Err(RuntimeError::Cancelled { op: OP.to_owned() }) } else { Ok(()) }
    }

    fn next_chunk(&mut self) -> RtResult<Option<LogChunk>> {
        loop {
            self.check_call()?;
            if let Some(chunk) = self.ready.pop_front() {
                return Ok(Some(chunk));
            }
            let Some(reader) = &mut self.reader else { return Ok(None) };
            let Some(entries) = reader.entries(Deadline::after(ASK))? else {
                let Some(reader) = self.reader.take() else { return Ok(None) };
                reader.end(&self.cancel)?;
                if self.follow.is_some() {
                    return Err(unreadable("journalctl ended while it was to follow".to_owned()));
                }
                return Ok(None);
            };
            let (is_silent, heard) = (entries.is_empty(), reader.heard);
            entries.into_iter().for_each(|entry| self.found(entry));
            if self.follow.is_some() {
                self.ask()?;
            } else if is_silent && heard.elapsed() > SILENCE {
                return Err(late(OP, heard));
            }
        }
    }

    /// Once nothing more is to come, what is left is read.
    fn ask(&mut self) -> RtResult<()> {
        if self.asked.elapsed() < ASK {
            return Ok(());
        }
        self.asked = Instant::now();
        let is_over = self.follow.as_mut().map_or(Ok(true), |is_over| is_over())?;
        if is_over {
            self.follow = None;
            self.journal.sync(&self.cancel);
            self.start()?;
        }
        Ok(())
    }

    fn found(&mut self, entry: Entry) {
        let is_wanted = self.wanted.has(&entry);
        let (stream, timestamp_ns) = (stream_of(&entry), entry.time_us.saturating_mul(1000));
        let mut text = entry.message;
        if entry.dropped > 0 {
            text.extend_from_slice(format!(" [{} more bytes are in the journal]", entry.dropped).as_bytes());
        }
        let mut chunks: VecDeque<_> = text.chunks(MOST_CHUNK).map(<[u8]>::to_vec).collect();
        // conmon writes the end of a line too.
        if !entry.is_part && !text.ends_with(b"\n") {
            match chunks.back_mut() {
                Some(last) => last.push(b'\n'),
                None => chunks.push_back(b"\n".to_vec()),
            }
        }
        if is_wanted {
            self.ready.extend(chunks.into_iter().map(|bytes| LogChunk { stream, timestamp_ns, bytes }));
        }
        self.place = Place::After(entry.cursor);
    }
}

impl Iterator for Found {
    type Item = RtResult<LogChunk>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.next_chunk();
        if next.is_err() {
            // Nothing comes after a failure.
            self.reader = None;
            self.ready.clear();
        }
        next.transpose()
    }
}
