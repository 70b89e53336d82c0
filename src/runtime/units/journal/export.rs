//! Entries as `journalctl --output=export` writes them: from bytes, as they come, to entries. Pure.
//!
//! Source: "Journal Export Formats" of systemd.

use std::mem;

/// The most of a message that is kept, bytes.
pub(super) const MOST_MESSAGE: usize = 256 * 1024;

/// The most of any other value that is kept, bytes.
const MOST_VALUE: usize = 1024;

/// The longest name of a field, bytes; systemd's own bound is 64.
const MOST_NAME: usize = 256;

/// What is asked for of entries, beside cursor and time, which always come.
pub(super) const FIELDS: &str = "MESSAGE,PRIORITY,_LINE_BREAK,CONTAINER_PARTIAL_MESSAGE";

/// An entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// Where it is in the journal.
    pub(super) cursor: String,
    /// When the journal got it, microseconds since the epoch.
    pub(super) time_us: u64,
    /// 0 (emergency) to 7 (debug).
    pub(super) priority: Option<u8>,
    /// What was written had no end of a line here.
    pub(super) is_part: bool,
    /// What it says, as far as it was kept.
    pub(super) message: Vec<u8>,
    /// How much of that was not kept, bytes.
    pub(super) dropped: usize,
}

/// Reads entries from pieces of any size. It holds one entry at most.
#[derive(Default)]
pub(super) struct Parser {
    expects: Expects,
    name: Vec<u8>,
    value: Vec<u8>,
    dropped: usize,
    entry: Entry,
}

/// What the next byte is of.
#[derive(Clone, Copy, Default)]
enum Expects {
    /// A field's name, or the blank line after an entry.
    #[default]
    Name,
    /// A value up to the end of the line.
    Text,
    /// The length of a value that may have any bytes: 64 bits, the least first; how many bytes of it came.
    Length(u64, u32),
    /// So many bytes of such a value.
    Bytes(u64),
    /// The end of the line after one.
    End,
}

impl Parser {
    /// Takes what was read; the entries that end with it are added. Fails with what is no entry.
    pub(super) fn take(&mut self, mut bytes: &[u8], found: &mut Vec<Entry>) -> Result<(), String> {
        while !bytes.is_empty() {
            bytes = self.step(bytes, found)?;
        }
        Ok(())
    }

    /// Takes some of it and gives the rest.
    fn step<'a>(&mut self, bytes: &'a [u8], found: &mut Vec<Entry>) -> Result<&'a [u8], String> {
        match self.expects {
            Expects::Name => self.name(bytes, found),
            Expects::Text => {
                let end = bytes.iter().position(|byte| *byte == b'\n');
                let (text, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
                self.keep(text);
                if end.is_some() {
                    self.finish();
                }
                Ok(rest.get(1..).unwrap_or_default())
            }
            Expects::Length(length, count) => {
                let length = length | u64::from(bytes[0]) << (8 * count);
                self.expects = match count {
                    7 if length == 0 => Expects::End,
                    7 => Expects::Bytes(length),
                    _ => Expects::Length(length, count + 1),
                };
                Ok(&bytes[1..])
            }
            Expects::Bytes(left) => {
                let (some, rest) = bytes.split_at(usize::try_from(left).map_or(bytes.len(), |l| l.min(bytes.len())));
                self.keep(some);
                let left = left - some.len() as u64;
                self.expects = if left == 0 { Expects::End } else { Expects::Bytes(left) };
                Ok(rest)
            }
            Expects::End if bytes[0] == b'\n' => {
                self.finish();
                Ok(&bytes[1..])
            }
            Expects::End => Err(format!("'{}' goes on after its length", String::from_utf8_lossy(&self.name))),
        }
    }

    fn name<'a>(&mut self, bytes: &'a [u8], found: &mut Vec<Entry>) -> Result<&'a [u8], String> {
        let end = bytes.iter().position(|byte| matches!(byte, b'=' | b'\n'));
        let (name, rest) = bytes.split_at(end.unwrap_or(bytes.len()));
        self.name.extend_from_slice(&name[..name.len().min(MOST_NAME + 1)]);
        if self.name.len() > MOST_NAME {
            return Err(format!("'{}' is no field", String::from_utf8_lossy(&self.name).escape_debug()));
        }
        let Some((end, rest)) = rest.split_first() else { return Ok(rest) };
        match (end, self.name.is_empty()) {
            (b'=', _) => self.expects = Expects::Text,
            (_, false) => self.expects = Expects::Length(0, 0),
            (_, true) if self.entry.cursor.is_empty() => {}
            (_, true) => found.push(mem::take(&mut self.entry)),
        }
        Ok(rest)
    }

    fn keep(&mut self, bytes: &[u8]) {
        let most = if self.name == b"MESSAGE" { MOST_MESSAGE } else { MOST_VALUE };
        let room = most.saturating_sub(self.value.len()).min(bytes.len());
        self.value.extend_from_slice(&bytes[..room]);
        self.dropped += bytes.len() - room;
    }

    /// The field is whole.
    fn finish(&mut self) {
        let (name, value, dropped) =
            (mem::take(&mut self.name), mem::take(&mut self.value), mem::take(&mut self.dropped));
        self.expects = Expects::Name;
        let text = || String::from_utf8_lossy(&value).into_owned();
        match name.as_slice() {
            b"__CURSOR" => self.entry.cursor = text(),
            b"__REALTIME_TIMESTAMP" => self.entry.time_us = text().parse().unwrap_or(0),
            b"PRIORITY" => self.entry.priority = text().parse().ok(),
            // Of journald, and of conmon.
            b"_LINE_BREAK" | b"CONTAINER_PARTIAL_MESSAGE" => self.entry.is_part = true,
            b"MESSAGE" => (self.entry.message, self.entry.dropped) = (value, dropped),
            // Some come unasked.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(pieces: &[&[u8]]) -> Result<Vec<Entry>, String> {
        let (mut parser, mut found) = (Parser::default(), Vec::new());
        pieces.iter().try_for_each(|piece| parser.take(piece, &mut found))?;
        Ok(found)
    }

    /// A message as a field that may have any bytes.
    fn binary(message: &[u8]) -> Vec<u8> {
        let length = (message.len() as u64).to_le_bytes();
        [b"__CURSOR=c\nMESSAGE\n".as_slice(), &length, message, b"\n\n"].concat()
    }

    #[test]
    fn entries_are_read_with_text_and_with_bytes() {
        let text = b"__CURSOR=s=1;i=2\n__REALTIME_TIMESTAMP=1795826855889128\n_BOOT_ID=9\nPRIORITY=3\nMESSAGE=a=b\n\n\
            __CURSOR=n\nMESSAGE\n\x03\0\0\0\0\0\0\0\n=\xff\n_LINE_BREAK=eof\n\n__CURSOR=half\n";
        let first = Entry {
            cursor: "s=1;i=2".into(),
            time_us: 1_795_826_855_889_128,
            priority: Some(3),
            message: b"a=b".to_vec(),
            ..Entry::default()
        };
        let second = Entry { cursor: "n".into(), is_part: true, message: b"\n=\xff".to_vec(), ..Entry::default() };
        assert_eq!(parsed(&[text]), Ok(vec![first, second]));
        assert_eq!(parsed(&[&binary(b"")]).unwrap()[0].message, b"");
    }

    #[test]
    fn what_is_no_entry_is_refused_and_what_is_too_long_is_cut() {
        assert!(parsed(&[&b"x".repeat(10_000)]).unwrap_err().contains("no field"));
        assert!(parsed(&[b"A\n\x01\0\0\0\0\0\0\0bc"]).unwrap_err().contains("'A'"));
        for long in [binary(&b"x".repeat(MOST_MESSAGE + 7)), {
            let text = "x".repeat(MOST_MESSAGE + 7);
            format!("__CURSOR=c\nMESSAGE={text}\n\n").into_bytes()
        }] {
            let entries = parsed(&long.chunks(1000).collect::<Vec<_>>()).unwrap();
            assert_eq!((entries[0].message.len(), entries[0].dropped), (MOST_MESSAGE, 7));
        }
    }

    proptest! {
        #[test]
        fn pieces_of_any_size_are_the_same_entry(message in prop::collection::vec(any::<u8>(), 0..200), size in 1_usize..50) {
            let bytes = binary(&message);
            let entries = parsed(&bytes.chunks(size).collect::<Vec<_>>()).unwrap();
            prop_assert_eq!(&entries[0].message, &message);
        }

        #[test]
        fn whatever_comes_nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parsed(&[&bytes]);
        }
    }
}
