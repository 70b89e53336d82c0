//! [`Client`]: requests to the REST service of one engine: which socket, which version of its API, and refusals.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::exchange::{NO_BODY, away, garbled, parse, to_json, wire_error};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::transport::http::{HttpClient, HttpError, Limits, Method, Request, Response, Streaming};

/// For one exchange that finds out what answers: a local engine does it in some milliseconds, and a probe has 2 s.
const HELLO_TIMEOUT: Duration = Duration::from_millis(1500);

/// The most that is told of a refusal without a document, characters.
const MOST_TEXT: usize = 500;

/// What is an engine's own of its service.
pub trait Dialect {
    /// The engine's name.
    const ENGINE: &'static str;
    /// The request that says what answers, as errors call it.
    const HELLO: &'static str;
    /// Its target.
    const HELLO_TARGET: &'static str;
    /// A version of the API.
    type Api: Copy;

    /// What targets begin with in this version.
    fn prefix(api: Self::Api) -> String;

    /// Reads the answer that came from `socket`; the error says why it is none to speak with.
    fn greeted(socket: &Path, response: &Response) -> Result<Greeting<Self::Api>, String>;

    /// Whether a refusal for this cause is one of what was asked for, whatever its code.
    fn is_bad_spec(_cause: &str) -> bool {
        false
    }
}

/// Where a socket usually is: below `/run` and the user's folder for such, the daemon's own first.
pub fn usual_sockets(relative: &str, user_dir: Option<&Path>, is_root: bool) -> Vec<PathBuf> {
    let mut sockets = vec![Path::new("/run").join(relative)];
    sockets.extend(user_dir.map(|dir| dir.join(relative)));
    if !is_root {
        sockets.reverse();
    }
    sockets
}

/// The sockets that a client looks for: the one that is configured, else the usual ones.
pub fn sockets(configured: Option<&Path>, relative: &str) -> Vec<PathBuf> {
    match configured {
        Some(socket) => vec![socket.to_owned()],
        None => {
            let user_dir = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
            usual_sockets(relative, user_dir.as_deref(), nix::unistd::geteuid().is_root())
        }
    }
}

/// What answered a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting<A> {
    /// What to speak with it.
    pub api: A,
    /// The version of the API, for people.
    pub api_version: String,
    /// Its own version.
    pub version: String,
}

/// The document of a refusal.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Refusal {
    cause: String,
    message: String,
}

/// The refusal of one request, before the caller says what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    engine: &'static str,
    is_bad_spec: bool,
    /// The call.
    pub op: String,
    /// The HTTP code.
    pub status: u16,
    /// The innermost reason, where the engine tells one.
    pub cause: String,
    /// What it says.
    pub message: String,
}

impl Failure {
    fn read<D: Dialect>(op: &str, response: &Response) -> Self {
        // After an internal error some handlers append a second document; the first is the reason.
        let mut documents = serde_json::Deserializer::from_slice(&response.body).into_iter::<Refusal>();
        let Refusal { cause, message } = documents.next().and_then(Result::ok).unwrap_or_default();
        let message = if message.is_empty() {
            String::from_utf8_lossy(&response.body).trim().chars().take(MOST_TEXT).collect()
        } else {
            message
        };
        let (op, is_bad_spec) = (op.to_owned(), D::is_bad_spec(&cause));
        Self { engine: D::ENGINE, is_bad_spec, op, status: response.status, cause, message }
    }

    /// The object is not there.
    pub fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// The object's state, or another object of that name, does not allow it.
    pub fn is_conflict(&self) -> bool {
        self.status == 409
    }

    /// The error where nothing more is known than the answer.
    pub fn into_error(self) -> RuntimeError {
        match self.status {
            404 => RuntimeError::NotFound { what: self.message },
            400 => RuntimeError::InvalidSpec { reason: self.message },
            401 | 403 => RuntimeError::PermissionDenied { reason: self.message },
            _ if self.is_bad_spec => RuntimeError::InvalidSpec { reason: self.message },
            status => RuntimeError::Engine {
                engine: self.engine.to_owned(),
                op: self.op,
                code: i64::from(status),
                message: self.message,
            },
        }
    }
}

/// What came of a request that was answered.
pub enum Answer {
    /// A code below 300.
    Done(Response),
    /// 304: it was so already.
    Unchanged,
    /// Any other.
    Refused(Failure),
}

/// Talks to one engine.
pub struct Client<D: Dialect> {
    sockets: Vec<PathBuf>,
    /// What the last greeting found; `None` before the first and after one that failed.
    api: Mutex<Option<D::Api>>,
}

impl<D: Dialect> Client<D> {
    /// For an engine whose socket is at one of these places, best first.
    pub fn new(sockets: Vec<PathBuf>) -> Self {
        Self { sockets, api: Mutex::new(None) }
    }

    /// The client for the first socket that is there.
    fn http(&self) -> RtResult<HttpClient> {
        match self.sockets.iter().find(|path| path.exists()) {
            Some(path) => Ok(HttpClient::new(path)),
            None => {
                let paths: Vec<_> = self.sockets.iter().map(|path| path.display().to_string()).collect();
                Err(away(D::ENGINE, format!("there is no socket at {}", paths.join(" or "))))
            }
        }
    }

    /// The API's version, found out where it is not known yet.
    pub fn api(&self, call: &Call) -> RtResult<D::Api> {
        let known = *self.api.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(api) => Ok(api),
            None => Ok(self.greet(call)?.api),
        }
    }

    /// Asks the engine which version it speaks, and keeps that.
    pub fn greet(&self, call: &Call) -> RtResult<Greeting<D::Api>> {
        let found = self.hello(call);
        *self.api.lock().unwrap_or_else(PoisonError::into_inner) = found.as_ref().ok().map(|greeting| greeting.api);
        found
    }

    fn hello(&self, call: &Call) -> RtResult<Greeting<D::Api>> {
        let limits = Limits { deadline: call.deadline.at_most(HELLO_TIMEOUT), cancel: call.cancel };
        let http = self.http()?;
        let request = Request { method: Method::Get, target: D::HELLO_TARGET, json: None };
        let response = http.request(limits, &request).map_err(|error| match error {
            HttpError::Timeout(_) if !call.deadline.is_over() => {
                away(D::ENGINE, format!("{} does not answer: {error}", http.socket().display()))
            }
            error => wire_error(D::ENGINE, D::HELLO, error),
        })?;
        D::greeted(http.socket(), &response).map_err(|reason| away(D::ENGINE, reason))
    }

    fn target(&self, call: &Call, path: &str) -> RtResult<String> {
        Ok(format!("{}{path}", D::prefix(self.api(call)?)))
    }

    /// One request under the versioned path, with a JSON body where one is given.
    pub fn send(
        &self,
        call: &Call,
        op: &str,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> RtResult<Answer> {
        let json = body.map(|body| to_json(op, body)).transpose()?;
        let target = self.target(call, path)?;
        let limits = Limits { deadline: call.deadline, cancel: call.cancel };
        let request = Request { method, target: &target, json: json.as_deref() };
        let response = self.http()?.request(limits, &request).map_err(|error| wire_error(D::ENGINE, op, error))?;
        Ok(match response.status {
            200..=299 => Answer::Done(response),
            304 => Answer::Unchanged,
            _ => Answer::Refused(Failure::read::<D>(op, &response)),
        })
    }

    /// GET of a document; a refusal is an error.
    pub fn get<T: DeserializeOwned>(&self, call: &Call, op: &str, path: &str) -> RtResult<T> {
        match self.send(call, op, Method::Get, path, NO_BODY)? {
            Answer::Done(response) => parse(D::ENGINE, op, &response),
            Answer::Unchanged => Err(garbled(D::ENGINE, op, 304, "an answer without a document")),
            Answer::Refused(failure) => Err(failure.into_error()),
        }
    }

    /// GET of a document that may be absent.
    pub fn find<T: DeserializeOwned>(&self, call: &Call, op: &str, path: &str) -> RtResult<Option<T>> {
        match self.get(call, op, path) {
            Ok(document) => Ok(Some(document)),
            Err(RuntimeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// POST or DELETE whose answer has nothing to read. `false` when it was so already.
    pub fn act(&self, call: &Call, op: &str, method: Method, path: &str) -> RtResult<Result<bool, Failure>> {
        Ok(match self.send(call, op, method, path, NO_BODY)? {
            Answer::Done(_) => Ok(true),
            Answer::Unchanged => Ok(false),
            Answer::Refused(failure) => Err(failure),
        })
    }

    /// A request whose answer is read piece by piece.
    pub fn stream(
        &self,
        call: &Call,
        op: &str,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> RtResult<Streaming> {
        self.stream_at(call, op, method, &self.target(call, path)?, body)
    }

    /// The same of a whole target.
    pub fn stream_at(
        &self,
        call: &Call,
        op: &str,
        method: Method,
        target: &str,
        body: Option<&impl Serialize>,
    ) -> RtResult<Streaming> {
        let json = body.map(|body| to_json(op, body)).transpose()?;
        let limits = Limits { deadline: call.deadline, cancel: call.cancel };
        open::<D>(op, &self.http()?, limits, &Request { method, target, json: json.as_deref() })
    }

    /// A GET that is sent when its answer is first wanted, and waits for it without end.
    pub fn later(&self, call: &Call, path: &str) -> RtResult<Later<D>> {
        let target = self.target(call, path)?;
        Ok(Later { http: self.http()?, target, cancel: call.cancel.clone(), dialect: std::marker::PhantomData })
    }
}

/// See [`Client::later`].
pub struct Later<D> {
    http: HttpClient,
    target: String,
    cancel: CancelToken,
    dialect: std::marker::PhantomData<fn() -> D>,
}

impl<D: Dialect> Later<D> {
    /// Sends the request. Only the token ends the wait.
    pub fn open(&self, op: &str) -> RtResult<Streaming> {
        let limits = Limits { deadline: Deadline::after(Duration::MAX), cancel: &self.cancel };
        open::<D>(op, &self.http, limits, &Request { method: Method::Get, target: &self.target, json: None })
    }
}

/// The stream, or its refusal as an error.
fn open<D: Dialect>(op: &str, http: &HttpClient, limits: Limits, request: &Request) -> RtResult<Streaming> {
    let wire_error = |error| wire_error(D::ENGINE, op, error);
    let streaming = http.stream(limits, request).map_err(wire_error)?;
    if (200..300).contains(&streaming.status) {
        return Ok(streaming);
    }
    let response = streaming.into_response().map_err(wire_error)?;
    Err(Failure::read::<D>(op, &response).into_error())
}
