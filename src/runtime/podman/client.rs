//! Requests to Podman's REST service: which socket, which version of its API, and what its refusals mean.
//!
//! Source: `pkg/api` of Podman 4.3.1 and 5.4.2 (libpod API 4.0.0 and 5.0.0). Podman answers most refusals with 500 and
//! says in `cause` what it was, so causes are looked at before codes.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::Refusal;
use super::{ENGINE, PodmanConfig};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::rest::exchange::{self, NO_BODY, to_json};
use crate::transport::http::{HttpClient, HttpError, Limits, Method, Request, Response, Streaming};

/// For one exchange that finds out what answers: a local engine does it in some milliseconds, and a probe has 2 s.
const HELLO_TIMEOUT: Duration = Duration::from_millis(1500);

/// The version of the libpod API that is spoken with this engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// Podman 4.
    V4,
    /// Podman 5 and later, which keep it.
    V5,
}

impl Api {
    fn prefix(self) -> &'static str {
        match self {
            Self::V4 => "/v4.0.0/libpod",
            Self::V5 => "/v5.0.0/libpod",
        }
    }
}

/// What answered a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// What to speak with it.
    pub(super) api: Api,
    /// The newest API that it speaks.
    pub(super) api_version: String,
    /// Its own version.
    pub(super) version: String,
}

/// Talks to one Podman service.
pub(super) struct Client {
    sockets: Vec<PathBuf>,
    /// What the last greeting found; `None` before the first and after one that failed.
    api: Mutex<Option<Api>>,
}

/// The refusal of one request, before the caller says what it means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) op: String,
    pub(super) status: u16,
    pub(super) cause: String,
    pub(super) message: String,
}

impl Failure {
    fn read(op: &str, response: &Response) -> Self {
        // After an internal error some handlers append a second document; the first is the reason.
        let mut documents = serde_json::Deserializer::from_slice(&response.body).into_iter::<Refusal>();
        let refusal = documents.next().and_then(Result::ok).unwrap_or_default();
        let message = if refusal.message.is_empty() {
            String::from_utf8_lossy(&response.body).trim().chars().take(500).collect()
        } else {
            refusal.message
        };
        Self { op: op.to_owned(), status: response.status, cause: refusal.cause, message }
    }

    /// The object is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// The container's state does not allow the call.
    pub(super) fn is_state(&self) -> bool {
        self.cause == "container state improper"
    }

    /// The name is taken.
    pub(super) fn is_taken(&self) -> bool {
        const CAUSES: &[&str] = &[
            "that name is already in use",
            "container already exists",
            "pod already exists",
            "volume already exists",
            "network already exists",
        ];
        CAUSES.contains(&self.cause.as_str())
    }

    /// The error where nothing more is known than the answer.
    pub(super) fn into_error(self) -> RuntimeError {
        const REFUSED_SPECS: &[&str] = &["invalid argument", "invalid configuration"];
        match self.status {
            404 => RuntimeError::NotFound { what: self.message },
            400 => RuntimeError::InvalidSpec { reason: self.message },
            401 | 403 => RuntimeError::PermissionDenied { reason: self.message },
            _ if REFUSED_SPECS.contains(&self.cause.as_str()) => RuntimeError::InvalidSpec { reason: self.message },
            status => RuntimeError::Engine {
                engine: ENGINE.to_owned(),
                op: self.op,
                code: i64::from(status),
                message: self.message,
            },
        }
    }
}

/// What came of a request that was answered.
pub(super) enum Answer {
    /// A code below 300.
    Done(Response),
    /// 304: it was so already.
    Unchanged,
    /// Any other.
    Refused(Failure),
}

impl Client {
    pub(super) fn new(config: &PodmanConfig) -> Self {
        Self { sockets: config.sockets(), api: Mutex::new(None) }
    }

    /// The client for the first socket that is there.
    fn http(&self) -> RtResult<HttpClient> {
        match self.sockets.iter().find(|path| path.exists()) {
            Some(path) => Ok(HttpClient::new(path)),
            None => {
                let paths: Vec<_> = self.sockets.iter().map(|path| path.display().to_string()).collect();
                Err(away(format!("there is no socket at {}", paths.join(" or "))))
            }
        }
    }

    /// The API's version, found out where it is not known yet.
    pub(super) fn api(&self, call: &Call) -> RtResult<Api> {
        let known = *self.api.lock().unwrap_or_else(PoisonError::into_inner);
        match known {
            Some(api) => Ok(api),
            None => Ok(self.greet(call)?.api),
        }
    }

    /// Asks the engine which version it speaks, and keeps that.
    pub(super) fn greet(&self, call: &Call) -> RtResult<Greeting> {
        let found = self.ask_version(call);
        *self.api.lock().unwrap_or_else(PoisonError::into_inner) = found.as_ref().ok().map(|greeting| greeting.api);
        found
    }

    fn ask_version(&self, call: &Call) -> RtResult<Greeting> {
        let limits = Limits { deadline: call.deadline.at_most(HELLO_TIMEOUT), cancel: call.cancel };
        let http = self.http()?;
        let request = Request { method: Method::Get, target: "/libpod/_ping", json: None };
        let response = http.request(limits, &request).map_err(|error| match error {
            HttpError::Timeout(_) if !call.deadline.is_over() => {
                away(format!("{} does not answer: {error}", http.socket().display()))
            }
            error => wire_error("ping", error),
        })?;
        let api_version = response.header("libpod-api-version").to_owned();
        let api = match api_version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(4) => Api::V4,
            Some(major) if major > 4 => Api::V5,
            Some(_) => return Err(away(format!("its API {api_version} is older than 4.0.0"))),
            None => return Err(away(format!("what answers on {} is not Podman", http.socket().display()))),
        };
        // `Libpod/4.3.1 (linux)`. Asking for the version itself starts conmon and the runtime, which takes its time.
        let server = response.header("server").strip_prefix("Libpod/").and_then(|rest| rest.split(' ').next());
        let version = server.unwrap_or(&api_version).to_owned();
        Ok(Greeting { api, api_version, version })
    }

    /// One request under the versioned path, with a JSON body where one is given.
    pub(super) fn send(
        &self,
        call: &Call,
        op: &str,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> RtResult<Answer> {
        let json = body.map(|body| to_json(op, body)).transpose()?;
        let response = self.exchange(call, op, method, path, json.as_deref())?;
        Ok(match response.status {
            200..=299 => Answer::Done(response),
            304 => Answer::Unchanged,
            _ => Answer::Refused(Failure::read(op, &response)),
        })
    }

    fn exchange(&self, call: &Call, op: &str, method: Method, path: &str, json: Option<&[u8]>) -> RtResult<Response> {
        let target = format!("{}{path}", self.api(call)?.prefix());
        let limits = Limits { deadline: call.deadline, cancel: call.cancel };
        let request = Request { method, target: &target, json };
        self.http()?.request(limits, &request).map_err(|error| wire_error(op, error))
    }

    /// GET of a document; a refusal is an error.
    pub(super) fn get<T: DeserializeOwned>(&self, call: &Call, op: &str, path: &str) -> RtResult<T> {
        match self.send(call, op, Method::Get, path, NO_BODY)? {
            Answer::Done(response) => parse(op, &response),
            Answer::Unchanged => Err(garbled(op, 304, "an answer without a document")),
            Answer::Refused(failure) => Err(failure.into_error()),
        }
    }

    /// GET of a document that may be absent.
    pub(super) fn find<T: DeserializeOwned>(&self, call: &Call, op: &str, path: &str) -> RtResult<Option<T>> {
        match self.get(call, op, path) {
            Ok(document) => Ok(Some(document)),
            Err(RuntimeError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// POST or DELETE whose answer has nothing to read. `false` when it was so already.
    pub(super) fn act(&self, call: &Call, op: &str, method: Method, path: &str) -> RtResult<Result<bool, Failure>> {
        Ok(match self.send(call, op, method, path, NO_BODY)? {
            Answer::Done(_) => Ok(true),
            Answer::Unchanged => Ok(false),
            Answer::Refused(failure) => Err(failure),
        })
    }

    /// A request whose answer is read piece by piece; `target` is the whole path where it starts with `/v`.
    pub(super) fn stream(
        &self,
        call: &Call,
        op: &str,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> RtResult<Streaming> {
        let json = body.map(|body| to_json(op, body)).transpose()?;
        let prefix = self.api(call)?.prefix();
        let target = if path.starts_with("/v1.") { path.to_owned() } else { format!("{prefix}{path}") };
        let limits = Limits { deadline: call.deadline, cancel: call.cancel };
        let request = Request { method, target: &target, json: json.as_deref() };
        accepted(op, self.http()?.stream(limits, &request))
    }

    /// A GET that is sent when its answer is first wanted, and waits for it without end.
    pub(super) fn later(&self, call: &Call, path: &str) -> RtResult<Later> {
        let target = format!("{}{path}", self.api(call)?.prefix());
        Ok(Later { http: self.http()?, target, cancel: call.cancel.clone() })
    }
}

/// See [`Client::later`].
pub(super) struct Later {
    http: HttpClient,
    target: String,
    cancel: CancelToken,
}

impl Later {
    /// Sends the request. Only the token ends the wait.
    pub(super) fn open(&self, op: &str) -> RtResult<Streaming> {
        let limits = Limits { deadline: Deadline::after(Duration::MAX), cancel: &self.cancel };
        accepted(op, self.http.stream(limits, &Request { method: Method::Get, target: &self.target, json: None }))
    }
}

/// The stream, or its refusal as an error.
fn accepted(op: &str, streaming: Result<Streaming, HttpError>) -> RtResult<Streaming> {
    let streaming = streaming.map_err(|error| wire_error(op, error))?;
    if (200..300).contains(&streaming.status) {
        return Ok(streaming);
    }
    let response = streaming.into_response().map_err(|error| wire_error(op, error))?;
    Err(Failure::read(op, &response).into_error())
}

/// Reads an answer's document.
pub(super) fn parse<T: DeserializeOwned>(op: &str, response: &Response) -> RtResult<T> {
    exchange::parse(ENGINE, op, response)
}

/// The error of an answer that is not what the API promises.
pub(super) fn garbled(op: &str, status: u16, what: &str) -> RuntimeError {
    exchange::garbled(ENGINE, op, status, what)
}

fn away(reason: String) -> RuntimeError {
    exchange::away(ENGINE, reason)
}

/// What a failure of the wire means for the call.
pub(super) fn wire_error(op: &str, error: HttpError) -> RuntimeError {
    exchange::wire_error(ENGINE, op, error)
}
