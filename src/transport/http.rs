//! The one HTTP client: blocking HTTP/1.1 to a daemon on a unix socket.
//!
//! [`HttpClient::request`] reads a whole, bounded answer; [`HttpClient::stream`] gives the body piece by piece. Each
//! request has a connection of its own, a deadline that covers connecting, sending and reading, and ends at once when
//! its token is cancelled: the socket is shut down and the blocked reader gets [`HttpError::Cancelled`]. A status code
//! is no error here; what it means is the caller's business.

use std::fmt::Write as _;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ureq::http;
use ureq::{Agent, BodyReader};

use super::unix::{BUFFER, Link, NoResolver, UnixConnector};
use crate::cancel::{CancelToken, Registration};
use crate::clock::Deadline;

/// The longest whole answer, bytes. A listing of some thousand objects fits; more is a fault of the peer.
pub const MAX_BODY: usize = 8 * 1024 * 1024;

/// The longest line of a line-wise stream, bytes.
pub const MAX_LINE: usize = 1024 * 1024;

/// How an HTTP exchange fails. The socket's path and the system's words are in the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// There is no socket at the path.
    #[error("there is no socket at {}", .0.display())]
    NoSocket(PathBuf),
    /// There is a socket, but nothing listens on it.
    #[error("nothing listens on {}", .0.display())]
    Refused(PathBuf),
    /// The socket may not be opened.
    #[error("no permission to open {}", .0.display())]
    Denied(PathBuf),
    /// The peer did not answer, or not to the end, in time.
    #[error("no whole answer within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The peer closed the connection before its answer was whole. Whether it acted is not known.
    #[error("the peer closed the connection {0}")]
    Closed(&'static str),
    /// The token was cancelled.
    #[error("cancelled")]
    Cancelled,
    /// The answer is longer than the bound, bytes.
    #[error("the answer is longer than {0} bytes")]
    TooLarge(usize),
    /// What came is not HTTP, or the request could not be put into it.
    #[error("{0}")]
    Protocol(String),
    /// Another failure of the socket.
    #[error("{0}")]
    Io(String),
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The method.
    pub method: Method,
    /// The path with its query, encoded, with a leading slash.
    pub target: &'a str,
    /// A JSON document to send.
    pub json: Option<&'a [u8]>,
}

/// The methods in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// Reads.
    Get,
    /// Acts.
    Post,
    /// Deletes.
    Delete,
}

impl Method {
    /// The method's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Delete => "DELETE",
        }
    }
}

/// The time and the token of one exchange.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Covers connecting, sending and reading.
    pub deadline: Deadline,
    /// Ends it at any point.
    pub cancel: &'a CancelToken,
}

/// A whole answer.
#[derive(Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body, at most [`MAX_BODY`] bytes.
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value; empty where it is absent or not text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A client for one socket. Holds no connection, so it costs nothing and can be shared.
#[derive(Debug, Clone)]
pub struct HttpClient {
    socket: PathBuf,
}

impl HttpClient {
    /// A client for the socket at this path, which need not exist yet.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// The socket's path.
    pub fn socket(&self) -> &std::path::Path {
        &self.socket
    }

    /// One exchange with a whole answer of at most [`MAX_BODY`] bytes.
    pub fn request(&self, limits: Limits<'_>, request: &Request<'_>) -> Result<Response, HttpError> {
        self.stream(limits, request)?.into_response()
    }

    /// One exchange of which the body is read piece by piece. Returns once the answer's head is there.
    pub fn stream(&self, limits: Limits<'_>, request: &Request<'_>) -> Result<Streaming, HttpError> {
        let exchange = Exchange::begin(&self.socket, limits);
        let connector = UnixConnector {
            path: self.socket.clone(),
            link: Arc::clone(&exchange.link),
            cancel: limits.cancel.clone(),
            deadline: limits.deadline,
        };
        let agent = Agent::with_parts(config(), connector, NoResolver);
        let answer = send(&agent, request).map_err(|error| exchange.explain(error, "before it answered"))?;
        let (head, body) = answer.into_parts();
        Ok(Streaming {
            status: head.status.as_u16(),
            headers: head.headers,
            reader: body.into_reader(),
            pending: Vec::new(),
            exchange,
        })
    }
}

fn config() -> ureq::config::Config {
    Agent::config_builder()
        // The environment's proxies are for the network.
        .proxy(None)
        .http_status_as_error(false)
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections(0)
        .max_response_header_size(BUFFER)
        .user_agent("actioncontroller")
        .build()
}

fn send(agent: &Agent, request: &Request<'_>) -> Result<http::Response<ureq::Body>, ureq::Error> {
    let uri = format!("http://localhost{}", request.target);
    let builder = http::Request::builder().method(request.method.as_str()).uri(uri);
    match request.json {
        Some(json) => agent.run(builder.header("content-type", "application/json").body(json)?),
        // Without a body ureq would announce a chunked one.
        None if request.method == Method::Post => agent.run(builder.body(&b""[..])?),
        None => agent.run(builder.body(())?),
    }
}

/// What one exchange needs to end and to say how it ended.
struct Exchange {
    socket: PathBuf,
    link: Arc<Link>,
    cancel: CancelToken,
    begun: Instant,
    /// Shuts the socket down on a cancel for as long as the exchange lasts.
    _on_cancel: Registration,
}

impl Exchange {
    fn begin(socket: &std::path::Path, limits: Limits<'_>) -> Self {
        let link = Link::new(limits.deadline);
        let to_shut = Arc::clone(&link);
        let registration = limits.cancel.on_cancel(move || to_shut.shut_down());
        Self {
            socket: socket.to_owned(),
            link,
            cancel: limits.cancel.clone(),
            begun: Instant::now(),
            _on_cancel: registration,
        }
    }

    /// Which of the ways to fail it was; `when` says how far the exchange was.
    fn explain(&self, error: ureq::Error, when: &'static str) -> HttpError {
        if self.cancel.is_cancelled() {
            return HttpError::Cancelled;
        }
        match error {
            ureq::Error::Timeout(_) => HttpError::Timeout(self.begun.elapsed()),
            ureq::Error::Io(error) => self.explain_io(&error, when),
            ureq::Error::LargeResponseHeader(..) => HttpError::TooLarge(BUFFER),
            other => HttpError::Protocol(other.to_string()),
        }
    }

    fn explain_io(&self, error: &io::Error, when: &'static str) -> HttpError {
        match error.kind() {
            io::ErrorKind::NotFound => HttpError::NoSocket(self.socket.clone()),
            io::ErrorKind::ConnectionRefused => HttpError::Refused(self.socket.clone()),
            io::ErrorKind::PermissionDenied => HttpError::Denied(self.socket.clone()),
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::NotConnected
            | io::ErrorKind::WriteZero => HttpError::Closed(when),
            _ if self.link.is_late() => HttpError::Timeout(self.begun.elapsed()),
            _ => HttpError::Io(format!("{}: {error}", self.socket.display())),
        }
    }
}

/// An answer whose body is still coming. Dropping it closes the connection.
pub struct Streaming {
    /// The status code.
    pub status: u16,
    /// The headers.
    pub headers: http::HeaderMap,
    reader: BodyReader<'static>,
    /// Bytes read beyond the last line.
    pending: Vec<u8>,
    exchange: Exchange,
}

impl Streaming {
    /// From now on reads wait without end: only the token (or the peer) ends them.
    pub fn lift_deadline(&self) {
        self.exchange.link.lift_deadline();
    }

    /// Reads what is there, waiting for the first byte; 0 is the end of the body.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, HttpError> {
        match self.reader.read(buffer) {
            // A shut down socket looks like an end where the body has no length.
            Ok(0) if self.exchange.cancel.is_cancelled() => Err(HttpError::Cancelled),
            Ok(amount) => Ok(amount),
            Err(error) => Err(self.exchange.explain(error.into(), "in the middle of its answer")),
        }
    }

    /// Fills the buffer; `false` when the body ended before its first byte, and [`HttpError::Closed`] when it ended
    /// after that.
    pub fn read_full(&mut self, buffer: &mut [u8]) -> Result<bool, HttpError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.read(&mut buffer[filled..])? {
                0 if filled == 0 => return Ok(false),
                0 => return Err(HttpError::Closed("in the middle of its answer")),
                amount => filled += amount,
            }
        }
        Ok(true)
    }

    /// The next line without its end, of at most [`MAX_LINE`] bytes; `None` at the end. Blank lines are passed over.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        let mut searched = 0;
        loop {
            if let Some(end) = self.pending[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                searched = 0;
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(line));
                }
                continue;
            }
            searched = self.pending.len();
            if searched > MAX_LINE {
                return Err(HttpError::TooLarge(MAX_LINE));
            }
            let mut piece = [0; 16 * 1024];
            match self.read(&mut piece)? {
                0 => {
                    let line = std::mem::take(&mut self.pending);
                    return Ok(if line.trim_ascii().is_empty() { None } else { Some(line) });
                }
                amount => self.pending.extend_from_slice(&piece[..amount]),
            }
        }
    }

    /// Reads the rest, at most [`MAX_BODY`] bytes.
    pub fn into_response(mut self) -> Result<Response, HttpError> {
        let mut body = std::mem::take(&mut self.pending);
        let mut piece = [0; 16 * 1024];
        loop {
            match self.read(&mut piece)? {
                0 => return Ok(Response { status: self.status, headers: self.headers, body }),
                amount if body.len() + amount > MAX_BODY => return Err(HttpError::TooLarge(MAX_BODY)),
                amount => body.extend_from_slice(&piece[..amount]),
            }
        }
    }
}

/// A value as one segment of a path or one value of a query: everything but letters, digits and `-._~` encoded.
pub fn encode(value: &str) -> String {
    let mut encoded = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
