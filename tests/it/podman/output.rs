//! Logs, exec, stats, events.

use std::time::Duration;

use actioncontroller::cancel::{CancelToken, Urge};
use actioncontroller::clock::Deadline;
use actioncontroller::runtime::adapter::{
    Call, EngineEventKind, LogChunk, LogOptions, MAX_EXEC_OUTPUT, OutputStream, RuntimeAdapter, RuntimeError,
    StopOptions,
};

use super::{LIMIT, Rig, STUBBORN, container, timed};

/// Everything there is.
pub(super) fn all() -> LogOptions {
    LogOptions { follow: false, tail: None, since_ms: 0, stdout: true, stderr: true }
}

pub(super) fn read(rig: &Rig, id: &str, options: LogOptions) -> Vec<LogChunk> {
    rig.podman.container_logs(&rig.call(), id, &options).unwrap().map(Result::unwrap).collect()
}

fn text(chunks: &[LogChunk], stream: OutputStream) -> String {
    let bytes: Vec<u8> =
        chunks.iter().filter(|chunk| chunk.stream == stream).flat_map(|chunk| chunk.bytes.clone()).collect();
    String::from_utf8(bytes).unwrap()
}

#[test]
// req: LS-05
fn logs_keep_the_streams_apart_and_follow_ends_with_the_container() {
    let rig = Rig::new();
    let id = rig.run(&container("l", "echo one; echo bad >&2; sleep 0.5; echo two; printf '\\377\\001 end'"));
    let (followed, _) = timed(|| read(&rig, &id, LogOptions { follow: true, ..all() }));
    let whole: Vec<u8> = followed
        .iter()
        .filter(|chunk| chunk.stream == OutputStream::Stdout)
        .flat_map(|chunk| chunk.bytes.clone())
        .collect();
    assert_eq!(whole, b"one\ntwo\n\xff\x01 end", "{followed:?}");
    assert_eq!(text(&followed, OutputStream::Stderr), "bad\n");
    let times: Vec<_> =
        followed.iter().filter(|chunk| chunk.stream == OutputStream::Stdout).map(|chunk| chunk.timestamp_ns).collect();
    assert!(times.is_sorted() && times[0] > 1_700_000_000_000_000_000, "{times:?}");

    let errors = read(&rig, &id, LogOptions { stdout: false, ..all() });
    assert!(errors.iter().all(|chunk| chunk.stream == OutputStream::Stderr) && !errors.is_empty());
    let far = u64::try_from(i64::MAX / 1_000_000).unwrap();
    assert!(read(&rig, &id, LogOptions { since_ms: far / 2, ..all() }).is_empty());
}

#[test]
fn tail_gives_the_last_lines_and_long_lines_come_in_pieces() {
    let rig = Rig::new();
    let script = "i=0; while [ $i -lt 50 ]; do echo line $i; i=$((i+1)); done; head -c 300000 /dev/zero | tr '\\0' a; echo; echo last";
    let id = rig.run(&container("t", script));
    rig.podman.wait_container(&rig.call(), &id).unwrap();
    let last = read(&rig, &id, LogOptions { tail: Some(1), ..all() });
    assert_eq!(text(&last, OutputStream::Stdout), "last\n");
    assert!(read(&rig, &id, LogOptions { tail: Some(0), ..all() }).is_empty());
    let whole = read(&rig, &id, all());
    assert!(whole.iter().all(|chunk| chunk.bytes.len() <= 64 * 1024));
    let text = text(&whole, OutputStream::Stdout);
    assert!(text.starts_with("line 0\nline 1\n") && text.ends_with("a\nlast\n"));
    assert_eq!(text.bytes().filter(|byte| *byte == b'a').count(), 300_000 + 1);
}

#[test]
fn logs_of_what_never_ran_are_empty_and_a_followed_stream_is_cancelled() {
    let rig = Rig::new();
    let idle = rig.podman.create_container(&rig.call(), &container("idle", "true")).unwrap().id;
    assert!(read(&rig, &idle, all()).is_empty());
    let id = rig.run(&container("quiet", STUBBORN));
    let cancel = CancelToken::new();
    let short = Deadline::after(Duration::from_millis(400));
    let call = Call { cancel: &cancel, deadline: short, ..rig.call() };
    let mut stream = rig.podman.container_logs(&call, &id, &LogOptions { follow: true, ..all() }).unwrap();
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || stream.next());
        // The call's deadline bounds the opening alone.
        rig.cancel.wait(Urge::Cancel, Deadline::after(Duration::from_millis(800)));
        assert!(!reading.is_finished());
        cancel.cancel("test");
        let (ended, took) = timed(|| reading.join().unwrap());
        assert!(matches!(ended, Some(Err(RuntimeError::Cancelled { .. }))), "{ended:?}");
        assert!(took < Duration::from_secs(1), "{took:?}");
    });
}

#[test]
fn exec_gives_both_streams_the_code_and_bounded_output() {
    let rig = Rig::new();
    let id = rig.run(&container("e", STUBBORN));
    let run = |script: &str| rig.podman.exec_in_container(&rig.call(), &id, &["sh", "-c", script].map(str::to_owned));
    let outcome = run("echo out; echo err >&2; exit 3").unwrap();
    assert_eq!((outcome.exit_code, outcome.truncated), (3, false));
    assert_eq!((outcome.stdout.as_slice(), outcome.stderr.as_slice()), (&b"out\n"[..], &b"err\n"[..]));
    let outcome = run("head -c 3000000 /dev/zero; exit 4").unwrap();
    assert_eq!((outcome.exit_code, outcome.truncated, outcome.stdout.len()), (4, true, MAX_EXEC_OUTPUT));
    let missing = rig.podman.exec_in_container(&rig.call(), &id, &["/none".to_owned()]).unwrap();
    assert_eq!(missing.exit_code, 127);

    let short = Call { deadline: Deadline::after(Duration::from_millis(400)), ..rig.call() };
    let sleep = ["sleep", "30"].map(str::to_owned);
    let (late, took) = timed(|| rig.podman.exec_in_container(&short, &id, &sleep));
    assert!(matches!(late, Err(RuntimeError::Timeout { .. })), "{late:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    rig.podman.pause_container(&rig.call(), &id).unwrap();
    assert!(matches!(run("true"), Err(RuntimeError::InvalidState { .. })));
}

#[test]
fn stats_count_time_and_memory() {
    let rig = Rig::new();
    let id = rig.run(&container("s", "while :; do :; done"));
    let first = rig.podman.container_stats(&rig.call(), &id).unwrap();
    // Version 5 tells of no memory right after the start.
    let later = crate::support::wait::until("more CPU time, and memory", LIMIT, || {
        let now = rig.podman.container_stats(&rig.call(), &id).unwrap();
        (now.cpu_ns > first.cpu_ns && now.memory_bytes > 0).then_some(now)
    });
    assert!(later.pids >= 1, "{later:?}");
    assert_eq!(later.memory_limit_bytes, 0, "no limit was asked for");
    rig.podman.stop_container(&rig.call(), &id, &StopOptions::kill()).unwrap();
    let refused = rig.podman.container_stats(&rig.call(), &id);
    assert!(matches!(refused, Err(RuntimeError::InvalidState { .. })), "{refused:?}");
}

#[test]
fn events_tell_a_whole_life_and_nothing_from_before() {
    let mut rig = Rig::new();
    rig.run(&container("before", "true"));
    let cancel = CancelToken::new();
    let call = Call { cancel: &cancel, ..rig.call() };
    let events = rig.podman.watch_events(&call).unwrap();
    let mut config = container("seen", "exit 6");
    config.labels.insert("k".to_owned(), "v".to_owned());
    let id = rig.run(&config);
    rig.podman.wait_container(&rig.call(), &id).unwrap();
    let slow = rig.run(&container("slow", STUBBORN));
    rig.podman.signal_container(&rig.call(), &slow, "SIGHUP").unwrap();
    rig.podman.pause_container(&rig.call(), &slow).unwrap();
    rig.podman.resume_container(&rig.call(), &slow).unwrap();
    rig.podman.remove_container(&rig.call(), &slow, true).unwrap();

    let mut seen = Vec::new();
    let mut events = events;
    while !seen.iter().any(|(name, kind)| name == "slow" && *kind == EngineEventKind::Removed) {
        let event = events.next().unwrap().unwrap();
        if event.name == "seen" {
            assert_eq!((event.id.as_str(), event.labels["k"].as_str()), (id.as_str(), "v"));
        }
        assert!(event.time_ns > 1_700_000_000_000_000_000);
        seen.push((event.name, event.kind));
    }
    let of = |wanted: &str| seen.iter().filter(|(name, _)| name == wanted).map(|(_, kind)| *kind).collect::<Vec<_>>();
    let died = |code| EngineEventKind::Died { exit_code: Some(code) };
    assert_eq!(of("seen"), [EngineEventKind::Created, EngineEventKind::Started, died(6)]);
    let paused = [EngineEventKind::Paused, EngineEventKind::Resumed];
    let whole = of("slow");
    assert_eq!(whole[..4], [EngineEventKind::Created, EngineEventKind::Started, paused[0], paused[1]]);
    assert!(of("before").is_empty() || of("before") == [died(0)], "{seen:?}");

    // An engine that goes away ends the stream with an error.
    rig.server.stop_service();
    let ended = events.find_map(Result::err);
    assert!(matches!(ended, Some(RuntimeError::Connection { .. })), "{ended:?}");
    assert!(events.next().is_none());
}
