//! The HTTP client against a server that misbehaves on the real wire.

use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use super::fake::{Behaviour, FakeServer};
use super::http::{HttpClient, HttpError, Limits, MAX_BODY, Method, Request, Response, encode};
use crate::cancel::{CancelToken, Urge};
use crate::clock::Deadline;

const GET: Request<'static> = Request { method: Method::Get, target: "/x?y=1", json: None };

const SECOND: Duration = Duration::from_secs(1);

/// Asks the server with a budget; gives the answer and how long it took.
fn ask(server: &FakeServer, request: &Request<'_>, budget: Duration) -> (Result<Response, HttpError>, Duration) {
    let cancel = CancelToken::new();
    let limits = Limits { deadline: Deadline::after(budget), cancel: &cancel };
    let begun = Instant::now();
    let result = HttpClient::new(server.path()).request(limits, request);
    (result, begun.elapsed())
}

fn answering(behaviour: Behaviour) -> FakeServer {
    FakeServer::start(move |_| behaviour.clone())
}

#[test]
fn request_and_answer_arrive_whole() {
    let server = answering(Behaviour::Answer(418, "X-Word: short\r\n", b"and stout".to_vec()));
    let request = Request { method: Method::Post, target: "/tea?pot=%2F", json: Some(b"{\"a\":1}") };
    let (answer, _) = ask(&server, &request, SECOND * 5);
    let answer = answer.unwrap();
    assert_eq!((answer.status, answer.header("x-word"), answer.body.as_slice()), (418, "short", &b"and stout"[..]));
    assert_eq!(answer.header("missing"), "");
    let seen = server.seen().remove(0);
    assert_eq!((seen.line.as_str(), seen.body.as_str()), ("POST /tea?pot=%2F", "{\"a\":1}"));
}

#[test]
fn missing_socket_and_socket_without_listener_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let cancel = CancelToken::new();
    let limits = Limits { deadline: Deadline::after(SECOND), cancel: &cancel };
    let client = HttpClient::new(&path);
    assert_eq!(client.request(limits, &GET).unwrap_err(), HttpError::NoSocket(path.clone()));
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(client.request(limits, &GET).unwrap_err(), HttpError::Refused(path.clone()));
    assert_eq!(client.socket(), path);
}

#[test]
fn peer_that_never_accepts_is_a_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    let client = HttpClient::new(&path);
    let cancel = CancelToken::new();
    let limits = Limits { deadline: Deadline::after(SECOND / 2), cancel: &cancel };
    // Fills the queue of connections; the first ones wait for an answer, the rest for a place.
    thread::scope(|scope| {
        let callers: Vec<_> = (0..200).map(|_| scope.spawn(|| client.request(limits, &GET).map(drop))).collect();
        for caller in callers {
            assert!(matches!(caller.join().unwrap(), Err(HttpError::Timeout(after)) if after < SECOND * 4));
        }
    });
    drop(listener);
}

#[test]
fn hung_peer_is_a_timeout_whether_before_or_in_the_answer() {
    for behaviour in [Behaviour::SaysNothing, Behaviour::HangsInBody(b"abc".to_vec())] {
        let server = answering(behaviour);
        let (ended, took) = ask(&server, &GET, Duration::from_millis(200));
        assert!(matches!(ended, Err(HttpError::Timeout(_))), "{ended:?}");
        assert!(took >= Duration::from_millis(200) && took < SECOND, "{took:?}");
        server.await_client_gone();
    }
}

#[test]
fn peer_that_closes_early_is_no_timeout() {
    let half_chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n".to_vec();
    let behaviours = [
        Behaviour::ClosesAtOnce,
        Behaviour::ClosesInBody(b"abc".to_vec()),
        Behaviour::Raw(b"HTTP/1.1 200 OK\r\nConte".to_vec()),
        Behaviour::Raw(half_chunked),
    ];
    for behaviour in behaviours {
        let server = answering(behaviour.clone());
        let (ended, took) = ask(&server, &GET, SECOND * 10);
        assert!(matches!(ended, Err(HttpError::Closed(_))), "{behaviour:?}: {ended:?}");
        assert!(took < SECOND, "{took:?}");
    }
}

#[test]
fn what_is_no_http_is_a_protocol_error() {
    let server = answering(Behaviour::Raw(b"\x15\x03\x01 what is this\r\n\r\n".to_vec()));
    let (ended, _) = ask(&server, &GET, SECOND * 5);
    assert!(matches!(ended, Err(HttpError::Protocol(_))), "{ended:?}");
}

#[test]
fn answer_without_end_is_cut_at_the_bound() {
    let server = answering(Behaviour::NeverEnds);
    let (ended, _) = ask(&server, &GET, SECOND * 20);
    assert_eq!(ended.unwrap_err(), HttpError::TooLarge(MAX_BODY));
    server.await_client_gone();
    let head = [b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'a'; 200_000]].concat();
    let (ended, _) = ask(&answering(Behaviour::Raw(head)), &GET, SECOND * 5);
    assert!(matches!(ended, Err(HttpError::TooLarge(_) | HttpError::Closed(_))), "{ended:?}");
}

#[test]
fn cancel_closes_the_connection_and_ends_the_reader_at_once() {
    for behaviour in [Behaviour::SaysNothing, Behaviour::HangsInBody(b"abc".to_vec())] {
        let server = answering(behaviour);
        let cancel = CancelToken::new();
        let limits = Limits { deadline: Deadline::after(SECOND * 60), cancel: &cancel };
        thread::scope(|scope| {
            let asking = scope.spawn(|| HttpClient::new(server.path()).request(limits, &GET));
            cancel.wait(Urge::Cancel, Deadline::after(Duration::from_millis(100)));
            let begun = Instant::now();
            cancel.cancel("test");
            assert_eq!(asking.join().unwrap().unwrap_err(), HttpError::Cancelled);
            assert!(begun.elapsed() < SECOND, "{:?}", begun.elapsed());
        });
        server.await_client_gone();
        // What begins after the cancel does not begin.
        assert_eq!(HttpClient::new(server.path()).request(limits, &GET).unwrap_err(), HttpError::Cancelled);
    }
}

#[test]
fn body_that_ends_with_the_connection_is_still_cancelled_and_not_ended() {
    let server = FakeServer::start(|_| Behaviour::NeverEnds);
    let cancel = CancelToken::new();
    let limits = Limits { deadline: Deadline::after(SECOND * 60), cancel: &cancel };
    let mut stream = HttpClient::new(server.path()).stream(limits, &GET).unwrap();
    let mut piece = [0; 4096];
    assert!(stream.read_full(&mut piece).unwrap());
    cancel.cancel("test");
    let ended = loop {
        match stream.read(&mut piece) {
            Ok(amount) => assert!(amount > 0, "a cancelled body looked like a whole one"),
            Err(error) => break error,
        }
    };
    assert_eq!(ended, HttpError::Cancelled);
}

#[test]
fn lifted_deadline_lets_a_stream_wait() {
    let server = answering(Behaviour::HangsInBody(b"first\n\nsec".to_vec()));
    let cancel = CancelToken::new();
    let limits = Limits { deadline: Deadline::after(SECOND / 2), cancel: &cancel };
    let mut stream = HttpClient::new(server.path()).stream(limits, &GET).unwrap();
    stream.lift_deadline();
    assert_eq!(stream.next_line().unwrap().unwrap(), b"first");
    thread::scope(|scope| {
        let reading = scope.spawn(move || stream.next_line());
        cancel.wait(Urge::Cancel, Deadline::after(SECOND));
        assert!(!reading.is_finished(), "it ended at the deadline");
        cancel.cancel("test");
        assert_eq!(reading.join().unwrap().unwrap_err(), HttpError::Cancelled);
    });
}

#[test]
fn lines_are_whole_and_bounded() {
    let server = answering(Behaviour::Answer(200, "", b"one\r\n\ntwo\nlast".to_vec()));
    let cancel = CancelToken::new();
    let limits = Limits { deadline: Deadline::after(SECOND * 20), cancel: &cancel };
    let mut stream = HttpClient::new(server.path()).stream(limits, &GET).unwrap();
    let mut lines = Vec::new();
    while let Some(line) = stream.next_line().unwrap() {
        lines.push(String::from_utf8(line).unwrap());
    }
    assert_eq!(lines, ["one\r", "two", "last"]);
    let endless = answering(Behaviour::NeverEnds);
    let mut stream = HttpClient::new(endless.path()).stream(limits, &GET).unwrap();
    assert!(matches!(stream.next_line(), Err(HttpError::TooLarge(_))));
}

#[test]
fn values_are_encoded_byte_by_byte() {
    assert_eq!(encode("a-Z_0.~"), "a-Z_0.~");
    assert_eq!(encode("a/b?c=d&é\n"), "a%2Fb%3Fc%3Dd%26%C3%A9%0A");
}
