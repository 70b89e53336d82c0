//! One record: from bytes and to bytes. Pure.

use jiff::Timestamp;

use crate::runtime::adapter::OutputStream;

/// The most text that is put into one record, bytes.
pub const MAX_TEXT: usize = 16 * 1024;

/// A record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// Where it came from.
    pub stream: OutputStream,
    /// Whether its text is the end of a line.
    pub ends_line: bool,
    /// Its text, without the end of the line.
    pub text: &'a [u8],
}

/// Reads a line, which is given without its end; `None` where it is no record.
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time: Timestamp = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let stream = match fields.next()? {
        b"stdout" => OutputStream::Stdout,
        b"stderr" => OutputStream::Stderr,
        _ => return None,
    };
    // Further tags come after a colon.
    let ends_line = match fields.next()?.split(|byte| *byte == b':').next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    let time_ns = u64::try_from(time.as_nanosecond()).unwrap_or(0);
    Some(Record { time_ns, stream, ends_line, text: fields.next().unwrap_or_default() })
}

/// Appends what was written to a stream at one time: each line a record, and what is left of the last one as a part.
pub fn append(to: &mut Vec<u8>, time_ns: u64, stream: OutputStream, bytes: &[u8]) {
    let time = time_text(time_ns);
    let name = match stream {
        OutputStream::Stdout => "stdout",
        OutputStream::Stderr => "stderr",
    };
    let mut put = |tag: &str, text: &[u8]| {
        for field in [time.as_bytes(), b" ", name.as_bytes(), b" ", tag.as_bytes(), b" ", text, b"\n"] {
            to.extend_from_slice(field);
        }
    };
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let (mut text, ends_line) = line.strip_suffix(b"\n").map_or((line, false), |text| (text, true));
        while text.len() > MAX_TEXT {
            let (part, rest) = text.split_at(MAX_TEXT);
            put("P", part);
            text = rest;
        }
        put(if ends_line { "F" } else { "P" }, text);
    }
}

/// RFC 3339 in UTC with nine digits of the second.
fn time_text(time_ns: u64) -> String {
    match Timestamp::from_nanosecond(i128::from(time_ns)) {
        Ok(time) => format!("{time:.9}"),
        // Beyond the year 9999.
        Err(_) => "9999-12-30T22:00:00.000000000Z".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn records_of_conmon_and_of_the_cri_are_read() {
        let conmon = b"2026-11-22T10:57:28.123456789+01:00 stderr F out put";
        let expected = Record {
            time_ns: 1_795_341_448_123_456_789,
            stream: OutputStream::Stderr,
            ends_line: true,
            text: b"out put",
        };
        assert_eq!(parse(conmon), Some(expected));
        let cri = parse(b"2026-11-22T09:57:28Z stdout P:x ").unwrap();
        assert_eq!((cri.ends_line, cri.text), (false, &b""[..]));
        for none in
            [&b""[..], b"2026 stdout F x", b"2026-11-22T09:57:28Z stdin F x", b"2026-11-22T09:57:28Z stdout X x"]
        {
            assert_eq!(parse(none), None);
        }
    }

    #[test]
    fn time_has_nine_digits_always() {
        assert_eq!(time_text(1_000_000_000), "1970-01-01T00:00:01.000000000Z");
        assert!(parse(format!("{} stdout F x", time_text(u64::MAX)).as_bytes()).is_some());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(bytes in prop::collection::vec(prop::sample::select(b"ab\n\0\xff".to_vec()), 0..60),
            blank in 0_usize..3, long in 0_usize..40_000, time_ns in 0_u64..u64::MAX / 2) {
            let mut output = bytes;
            let place = output.len() / 3 * blank.min(2);
            output.splice(place..place, vec![b'x'; long]);
            let mut file = Vec::new();
            append(&mut file, time_ns, OutputStream::Stderr, &output);
            let mut back = Vec::new();
            for line in file.split_inclusive(|byte| *byte == b'\n') {
                let record = parse(line.strip_suffix(b"\n").unwrap()).unwrap();
                prop_assert_eq!((record.time_ns, record.stream), (time_ns, OutputStream::Stderr));
                prop_assert!(record.text.len() <= MAX_TEXT);
                back.extend_from_slice(record.text);
                if record.ends_line { back.push(b'\n'); }
            }
            prop_assert_eq!(back, output);
        }
    }
}
