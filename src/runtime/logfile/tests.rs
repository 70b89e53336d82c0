//! Reader and writer together: tails, rotation, and followers that lose nothing.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::reader::{IsOver, open};
use super::writer::{LogWriter, Rotation};
use super::{MOST_OLDER, rotated};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, LogChunk, LogOptions, NoProgress, OutputStream, RuntimeError};

const ALL: LogOptions = LogOptions { follow: false, tail: None, since_ms: 0, stdout: true, stderr: true };
const FOLLOW: LogOptions = LogOptions { follow: true, ..ALL };
const LARGE: Rotation = Rotation { max_bytes: u64::MAX, files: 2 };
const OUT: OutputStream = OutputStream::Stdout;
const ERR: OutputStream = OutputStream::Stderr;

struct Log {
    _folder: tempfile::TempDir,
    path: PathBuf,
    token: CancelToken,
}

impl Log {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { path: folder.path().join("log"), _folder: folder, token: CancelToken::new() }
    }

    fn writer(&self, rotation: Rotation) -> LogWriter {
        LogWriter::open(&self.path, rotation).unwrap()
    }

    fn stream(
        &self,
        options: &LogOptions,
        is_over: IsOver,
    ) -> impl Iterator<Item = Result<LogChunk, RuntimeError>> + use<> {
        let deadline = Deadline::after(Duration::from_secs(20));
        open(&self.path, &Call { deadline, cancel: &self.token, progress: &NoProgress }, options, is_over).unwrap()
    }

    fn read(&self, options: &LogOptions) -> Vec<LogChunk> {
        self.stream(options, Box::new(|| Ok(true))).map(Result::unwrap).collect()
    }

    fn text(&self, options: &LogOptions) -> String {
        text(&self.read(options))
    }
}

fn text(chunks: &[LogChunk]) -> String {
    chunks.iter().map(|chunk| String::from_utf8_lossy(&chunk.bytes).into_owned()).collect()
}

#[test]
fn streams_parts_times_and_tails_are_as_they_were_written() {
    let log = Log::new();
    assert_eq!(log.read(&ALL), [], "there is no file");
    let mut writer = log.writer(LARGE);
    writer.write(OUT, b"one\nbegin", 1_000_000_000);
    writer.write(ERR, b"wrong\n", 2_000_000_000);
    writer.write(OUT, b" end\n", 1_500_000_000);
    writer.write(OUT, b"open", 3_000_000_000);
    let chunks: Vec<_> =
        log.read(&ALL).into_iter().map(|chunk| (chunk.stream, chunk.timestamp_ns / 1_000_000, chunk.bytes)).collect();
    let expected: [(OutputStream, u64, &[u8]); 5] = [
        (OUT, 1000, b"one\n"),
        (OUT, 1000, b"begin"),
        (ERR, 2000, b"wrong\n"),
        (OUT, 2000, b" end\n"),
        (OUT, 3000, b"open"),
    ];
    assert_eq!(chunks, expected.map(|(stream, time, bytes)| (stream, time, bytes.to_vec())));
    let tail = |count, stdout, stderr| log.text(&LogOptions { tail: Some(count), stdout, stderr, ..ALL });
    assert_eq!(tail(0, true, true), "");
    assert_eq!(tail(1, true, true), "open");
    assert_eq!(tail(2, true, true), "begin end\nopen", "a line that another came into");
    assert_eq!(tail(3, true, true), "beginwrong\n end\nopen");
    assert_eq!(tail(usize::MAX, true, true), "one\nbeginwrong\n end\nopen");
    assert_eq!((tail(1, false, true), tail(9, false, true)), ("wrong\n".to_owned(), "wrong\n".to_owned()));
    assert_eq!(log.text(&LogOptions { since_ms: 2_000, ..ALL }), "wrong\n end\nopen");
    assert_eq!(log.text(&LogOptions { since_ms: 2_000, stdout: false, ..ALL }), "wrong\n");
    assert_eq!(log.text(&LogOptions { stdout: false, stderr: false, ..ALL }), "");
}

#[test]
fn what_is_no_record_is_given_as_it_is_and_long_lines_in_pieces() {
    let log = Log::new();
    let long = "x".repeat(200_000);
    fs::write(&log.path, format!("garbage\n1970-01-01T00:00:01Z stderr F {long}\n1970-01-01T00:00:02Z stdout F y\n"))
        .unwrap();
    let chunks = log.read(&ALL);
    assert_eq!((chunks[0].bytes.as_slice(), chunks[0].stream), (&b"garbage\n"[..], OUT));
    assert!(chunks.iter().all(|chunk| chunk.bytes.len() <= 64 * 1024));
    assert_eq!(text(&chunks), format!("garbage\n{long}\ny\n"));
    assert!(chunks.iter().filter(|chunk| chunk.bytes.starts_with(b"x")).all(|chunk| chunk.stream == ERR));
    assert_eq!(log.text(&LogOptions { tail: Some(2), ..ALL }), format!("{long}\ny\n"));
}

#[test]
fn log_takes_no_more_than_its_bound_and_its_last_lines_are_there() {
    let log = Log::new();
    let rotation = Rotation { max_bytes: 2_000, files: 3 };
    let mut writer = log.writer(rotation);
    for number in 0..1000 {
        writer.write(OUT, format!("{number}\n").as_bytes(), number);
    }
    drop(writer);
    let sizes: Vec<_> =
        (0..=MOST_OLDER).filter_map(|times| fs::metadata(rotated(&log.path, times)).ok()).map(|m| m.len()).collect();
    assert_eq!(sizes.len(), 3);
    assert!(sizes.iter().all(|size| *size <= 2_000), "{sizes:?}");
    let kept: Vec<u64> = log.text(&ALL).lines().map(|line| line.parse().unwrap()).collect();
    assert!(kept.len() > 60 && kept.windows(2).all(|two| two[1] == two[0] + 1), "{kept:?}");
    assert_eq!(kept.last(), Some(&999));
    assert_eq!(log.text(&LogOptions { tail: Some(60), ..ALL }).lines().count(), 60, "over several files");
}

#[test]
fn follower_loses_nothing_over_rotations_and_ends_with_the_container() {
    let log = Log::new();
    for files in [1, 2, 4] {
        let _ = fs::remove_file(&log.path);
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let stream = log.stream(&FOLLOW, Box::new(move || Ok(is_over.load(Ordering::SeqCst))));
        let (count, read) = crossbeam_channel::bounded(0);
        let text = std::thread::scope(|scope| {
            let reading = scope.spawn(move || {
                let mut text = String::new();
                for chunk in stream {
                    text.push_str(&String::from_utf8(chunk.unwrap().bytes).unwrap());
                    let _ = count.send_timeout((), Duration::from_secs(10));
                }
                text
            });
            let mut writer = log.writer(Rotation { max_bytes: 300, files });
            for number in 0..50 {
                writer.write(OUT, format!("{number}\n").as_bytes(), number);
                // What is written while nobody reads may be rotated away, so each is read before the next but one.
                if number > 0 {
                    read.recv_timeout(Duration::from_secs(10)).unwrap();
                }
            }
            over.store(true, Ordering::SeqCst);
            read.recv_timeout(Duration::from_secs(10)).unwrap();
            drop(read);
            reading.join().unwrap()
        });
        assert_eq!(text, (0..50).map(|number| format!("{number}\n")).collect::<String>());
        (0..=MOST_OLDER).for_each(|times| drop(fs::remove_file(rotated(&log.path, times))));
    }
}

#[test]
fn follower_of_what_has_ended_ends_at_once_and_a_failed_question_is_told() {
    let log = Log::new();
    log.writer(LARGE).write(OUT, b"one\ntwo\n", 1);
    assert_eq!(log.text(&LogOptions { tail: Some(1), ..FOLLOW }), "two\n");
    let lost = || RuntimeError::NotFound { what: "container 'x'".to_owned() };
    let mut stream = log.stream(&FOLLOW, Box::new(move || Err(lost())));
    assert_eq!(stream.by_ref().filter_map(Result::ok).count(), 2);
    assert_eq!(stream.next(), None);
}

#[test]
fn cancel_ends_a_follower_that_waits() {
    let log = Log::new();
    let mut stream = log.stream(&FOLLOW, Box::new(|| Ok(false)));
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || stream.next());
        std::thread::sleep(Duration::from_millis(50));
        let begun = Instant::now();
        log.token.cancel("enough");
        assert!(matches!(reading.join().unwrap(), Some(Err(RuntimeError::Cancelled { .. }))));
        assert!(begun.elapsed() < Duration::from_secs(1));
    });
}

#[test]
fn line_that_a_crash_cut_off_is_ended_before_more_is_written() {
    let log = Log::new();
    fs::write(&log.path, "1970-01-01T00:00:01Z stdout F cut").unwrap();
    log.writer(LARGE).write(OUT, b"more\n", 2_000_000_000);
    assert_eq!(log.text(&ALL), "cut\nmore\n");
}

#[test]
fn what_a_full_disk_took_is_said_once_there_is_room() {
    let log = Log::new();
    let mut writer = log.writer(Rotation { max_bytes: 40, files: 2 });
    writer.write(OUT, b"before\n", 1);
    // The rotation cannot rename what is in the way.
    let obstacle = rotated(&log.path, 1);
    fs::create_dir_all(obstacle.join("full")).unwrap();
    writer.write(OUT, b"lost\n", 2);
    fs::remove_dir_all(&obstacle).unwrap();
    writer.write(OUT, b"after\n", 3);
    assert_eq!(log.text(&ALL), "before\nactioncontroller: 5 bytes of output could not be written\nafter\n");
}
