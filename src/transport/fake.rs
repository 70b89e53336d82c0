//! A server on the real wire that answers as a test says, well or badly. Each way to misbehave has a name.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// What the server does with one request.
#[derive(Debug, Clone)]
pub(crate) enum Behaviour {
    /// A whole answer: status, more head lines, body.
    Answer(u16, &'static str, Vec<u8>),
    /// Says nothing until the client goes away.
    SaysNothing,
    /// Sends the head and these bytes of a longer body, then nothing until the client goes away.
    HangsInBody(Vec<u8>),
    /// Closes without a word.
    ClosesAtOnce,
    /// Sends the head and these bytes of a longer body, then closes.
    ClosesInBody(Vec<u8>),
    /// Sends these bytes as they are, then closes.
    Raw(Vec<u8>),
    /// Sends a body without end.
    NeverEnds,
}

impl Behaviour {
    /// A JSON answer.
    pub(crate) fn json(status: u16, body: &str) -> Self {
        Self::Answer(status, "Content-Type: application/json\r\n", body.as_bytes().to_vec())
    }
}

/// What a client sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Method and target.
    pub(crate) line: String,
    pub(crate) body: String,
}

type Script = dyn Fn(&Seen) -> Behaviour + Send + Sync;

/// A running server; its threads end with their connections, and the listener's with the test.
pub(crate) struct FakeServer {
    _dir: tempfile::TempDir,
    path: PathBuf,
    seen: Arc<Mutex<Vec<Seen>>>,
    left_by_client: Arc<AtomicUsize>,
}

impl FakeServer {
    /// A server that asks `script` about each request.
    pub(crate) fn start(script: impl Fn(&Seen) -> Behaviour + Send + Sync + 'static) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fake.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = Self { _dir: dir, path, seen: Arc::default(), left_by_client: Arc::default() };
        let (seen, left) = (Arc::clone(&server.seen), Arc::clone(&server.left_by_client));
        let script: Arc<Script> = Arc::new(script);
        let accept = move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, left, script) = (Arc::clone(&seen), Arc::clone(&left), Arc::clone(&script));
                let serve = move || {
                    // A client that went away is part of many tests.
                    let _ = serve(stream, &seen, &left, &*script);
                };
                Builder::new().name("fake-connection".to_owned()).spawn(serve).unwrap();
            }
        };
        Builder::new().name("fake-listener".to_owned()).spawn(accept).unwrap();
        server
    }

    /// The socket.
    pub(crate) fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// The requests so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// Waits until a client has gone away from a server that still had something to say.
    pub(crate) fn await_client_gone(&self) {
        let begun = Instant::now();
        while self.left_by_client.load(Ordering::SeqCst) == 0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "the connection is still open");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn serve(stream: UnixStream, seen: &Mutex<Vec<Seen>>, left: &AtomicUsize, script: &Script) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let request = read_request(&mut reader)?;
    seen.lock().unwrap().push(request.clone());
    let behaviour = script(&request);
    act(stream, behaviour, &mut reader, left)
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Seen> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut length = 0;
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? == 0 || header == "\r\n" {
            break;
        }
        if let Some(value) = header.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let line = line.trim().trim_end_matches(" HTTP/1.1").to_owned();
    Ok(Seen { line, body: String::from_utf8_lossy(&body).into_owned() })
}

fn act(mut out: UnixStream, behaviour: Behaviour, reader: &mut impl Read, left: &AtomicUsize) -> std::io::Result<()> {
    let long = "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n";
    let mut until_gone = || {
        let ended = reader.read(&mut [0]);
        left.fetch_add(1, Ordering::SeqCst);
        ended.map(drop)
    };
    match behaviour {
        Behaviour::Answer(status, head, body) => {
            write!(out, "HTTP/1.1 {status} X\r\n{head}Content-Length: {}\r\n\r\n", body.len())?;
            out.write_all(&body)
        }
        Behaviour::SaysNothing => until_gone(),
        Behaviour::HangsInBody(bytes) => {
            out.write_all(long.as_bytes())?;
            out.write_all(&bytes)?;
            until_gone()
        }
        Behaviour::ClosesAtOnce => Ok(()),
        Behaviour::ClosesInBody(bytes) => {
            out.write_all(long.as_bytes())?;
            out.write_all(&bytes)
        }
        Behaviour::Raw(bytes) => out.write_all(&bytes),
        Behaviour::NeverEnds => {
            out.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
            while out.write_all(&[b'a'; 64 * 1024]).is_ok() {}
            left.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }
}
