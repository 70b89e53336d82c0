//! What the API tells of what runs: output, commands inside, waiting.

use std::time::{Duration, Instant};

use actioncontroller::proto::actions::Verb;
use actioncontroller::proto::workloads::{
    Condition, ListWorkloadsRequest, LogsRequest, LogsResponse, OutputStream, WaitRequest, WaitResponse, WorkloadState,
};
use futures_executor::block_on_stream;
use grpcio::RpcStatusCode;

use super::{LIMIT, RUNS, Rig, entry, one, pod, read};
use crate::support::daemon::options;
use crate::support::wait::until;

fn logs(rig: &Rig, request: &LogsRequest) -> Vec<LogsResponse> {
    // Kept until the end: a channel that is gone does not connect any more.
    let client = rig.daemon.workloads();
    block_on_stream(client.logs(request, options()).unwrap())
        .map(|piece| piece.unwrap_or_else(|error| panic!("{:?}", read(&error))))
        .collect()
}

fn text(pieces: &[LogsResponse], stream: OutputStream) -> String {
    let of_stream = pieces.iter().filter(|piece| piece.stream.enum_value() == Ok(stream));
    let bytes: Vec<u8> = of_stream.flat_map(|piece| piece.data.clone()).collect();
    String::from_utf8(bytes).unwrap()
}

const OUT: OutputStream = OutputStream::OUTPUT_STREAM_STDOUT;
const ERR: OutputStream = OutputStream::OUTPUT_STREAM_STDERR;

#[test]
// req: LS-05
fn followed_logs_keep_the_streams_apart_and_end_with_the_container() {
    let rig = Rig::new();
    let writes = "echo out-1; echo err-1 >&2; until test -e /go; do sleep 0.05; done; echo out-2; echo out-3; \
        echo err-2 >&2; printf 'no end of line' >&2; exit 0";
    rig.launch(&one("w", writes, ""));
    let request = LogsRequest { workload: "w".to_owned(), follow: true, ..Default::default() };
    let client = rig.daemon.workloads();
    let mut stream = block_on_stream(client.logs(&request, options()).unwrap());
    let mut pieces: Vec<LogsResponse> = Vec::new();
    while !(text(&pieces, OUT).contains("out-1") && text(&pieces, ERR).contains("err-1")) {
        pieces.push(stream.next().expect("the container runs").unwrap());
    }
    rig.exec("w", "main", "touch /go");
    pieces.extend(stream.map(Result::unwrap));
    assert_eq!(text(&pieces, OUT), "out-1\nout-2\nout-3\n");
    assert_eq!(text(&pieces, ERR), "err-1\nerr-2\nno end of line");
    let times: Vec<_> = pieces.iter().map(|piece| (piece.time.seconds, piece.time.nanos)).collect();
    assert!(times.is_sorted() && times[0].0 > 1_700_000_000, "{times:?}");

    // What is there, after the end, in parts.
    let all = LogsRequest { workload: "w".to_owned(), ..Default::default() };
    assert_eq!(text(&logs(&rig, &all), ERR), "err-1\nerr-2\nno end of line");
    let only = LogsRequest { workload: "w".to_owned(), streams: vec![ERR.into()], ..Default::default() };
    let only = logs(&rig, &only);
    assert_eq!((text(&only, ERR).as_str(), text(&only, OUT).as_str()), ("err-1\nerr-2\nno end of line", ""));
}

#[test]
fn tail_gives_the_last_lines_of_what_is_there() {
    let rig = Rig::new();
    rig.launch(&one("w", &format!("for n in 1 2 3 4 5; do echo line-$n; done; {RUNS}"), ""));
    let tail = |lines| LogsRequest { workload: "w".to_owned(), tail: Some(lines), ..Default::default() };
    until("all lines", LIMIT, || (text(&logs(&rig, &tail(100)), OUT).lines().count() == 5).then_some(()));
    assert_eq!(text(&logs(&rig, &tail(2)), OUT), "line-4\nline-5\n");
    assert_eq!(text(&logs(&rig, &tail(0)), OUT), "");
}

#[test]
fn logs_of_several_containers_want_one_named_and_of_nothing_are_not_found() {
    let rig = Rig::new();
    let spec = format!("containers:\n{}{}", entry("a", &format!("echo of a; {RUNS}"), ""), entry("b", RUNS, ""));
    rig.launch(&pod("w", &spec));
    let fails = |workload: &str, container: &str| {
        let request =
            LogsRequest { workload: workload.to_owned(), container: container.to_owned(), ..Default::default() };
        let client = rig.daemon.workloads();
        let error = block_on_stream(client.logs(&request, options()).unwrap()).find_map(Result::err).expect("it fails");
        read(&error).error
    };
    let unnamed = fails("w", "");
    assert!(unnamed.message.contains("a, b"), "{unnamed:?}");
    assert_eq!(fails("w", "c").code, "CONTAINER_NOT_FOUND");
    assert_eq!(fails("v", "").code, "WORKLOAD_NOT_FOUND");
    let request = LogsRequest { workload: "w".to_owned(), container: "a".to_owned(), ..Default::default() };
    until("the output", LIMIT, || (text(&logs(&rig, &request), OUT) == "of a\n").then_some(()));
}

#[test]
fn exec_gives_code_and_both_streams_byte_for_byte() {
    let rig = Rig::new();
    rig.launch(&one("w", RUNS, ""));
    let output = rig.exec("w", "", "printf 'a\\000\\377'; echo problem >&2; exit 42");
    assert_eq!(output.exit_code, 42);
    assert_eq!(output.stdout_data, b"a\x00\xff");
    assert_eq!(output.stderr_data, b"problem\n");
    assert!(!output.truncated);
    let long = rig.exec("w", "", "head -c 3000000 /dev/zero");
    assert!(long.truncated && long.stdout_data.len() == 1024 * 1024, "{}", long.stdout_data.len());
}

fn wait(rig: &Rig, condition: Condition, timeout: Duration) -> grpcio::Result<WaitResponse> {
    let request = WaitRequest {
        workload: "w".to_owned(),
        condition: condition.into(),
        timeout_ms: u64::try_from(timeout.as_millis()).unwrap(),
        ..Default::default()
    };
    rig.daemon.workloads().wait(&request, options())
}

#[test]
fn wait_ends_with_its_condition_its_time_or_a_container_that_ends_first() {
    let rig = Rig::new();
    let ends = "until test -e /die; do sleep 0.05; done; exit 5";
    rig.launch(&one("w", ends, ""));
    let running = wait(&rig, Condition::CONDITION_RUNNING, LIMIT).unwrap();
    assert_eq!(running.workload.state.enum_value(), Ok(WorkloadState::WORKLOAD_STATE_RUNNING));

    let begun = Instant::now();
    let late = read(&wait(&rig, Condition::CONDITION_EXITED, Duration::from_millis(700)).unwrap_err()).error;
    assert!((700..3000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert_eq!(late.status, i32::from(RpcStatusCode::DEADLINE_EXCEEDED));
    assert!(late.message.contains("exited") && late.message.contains("700 ms"), "{late:?}");

    std::thread::scope(|scope| {
        let exited = scope.spawn(|| wait(&rig, Condition::CONDITION_EXITED, LIMIT));
        rig.exec("w", "", "touch /die");
        let exited = exited.join().unwrap().unwrap();
        assert_eq!(exited.workload.containers[0].exit_code, Some(5));
    });
    let first = read(&wait(&rig, Condition::CONDITION_RUNNING, LIMIT).unwrap_err()).error;
    assert_eq!(first.code, "CONTAINER_EXITED");
    assert!(first.message.contains("code 5"), "{first:?}");

    std::thread::scope(|scope| {
        let gone = scope.spawn(|| wait(&rig, Condition::CONDITION_GONE, LIMIT));
        rig.verb(Verb::VERB_TERMINATE, "w");
        assert!(gone.join().unwrap().unwrap().workload.is_none());
    });
    assert_eq!(read(&wait(&rig, Condition::CONDITION_RUNNING, LIMIT).unwrap_err()).error.code, "WORKLOAD_NOT_FOUND");
}

#[test]
fn list_tells_workloads_in_pages_and_what_podman_lost_by_other_hands() {
    let mut rig = Rig::new();
    for name in ["c", "a", "b"] {
        rig.launch(&one(name, RUNS, ""));
    }
    let page = |token: &str| {
        let request = ListWorkloadsRequest { page_size: 2, page_token: token.to_owned(), ..Default::default() };
        let answer = rig.daemon.workloads().list_workloads(&request, options()).unwrap();
        let names: Vec<_> = answer.workloads.iter().map(|workload| workload.name.clone()).collect();
        (names, answer.next_page_token)
    };
    let (first, token) = page("");
    assert_eq!(first, ["a", "b"]);
    assert_eq!(page(&token), (vec!["c".to_owned()], String::new()));

    rig.server.run(&["rm", "-f", "-t0", "a_main"]);
    assert_eq!(rig.state("a"), WorkloadState::WORKLOAD_STATE_ABSENT);
    assert!(rig.verb(Verb::VERB_START, "a").changed, "it is made again from what is recorded");
    assert_eq!(rig.state("a"), WorkloadState::WORKLOAD_STATE_RUNNING);

    rig.server.stop_service();
    let away = rig.workload("a");
    assert_eq!(away.state.enum_value(), Ok(WorkloadState::WORKLOAD_STATE_UNKNOWN), "{away:?}");
    assert!(!away.message.is_empty());
    rig.server.start_service();
    assert_eq!(rig.state("a"), WorkloadState::WORKLOAD_STATE_RUNNING);
}
