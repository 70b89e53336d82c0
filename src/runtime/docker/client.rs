//! Requests to Docker's Engine API: which socket, which version of the API, and what refusals mean.
//!
//! Source: the Engine API 1.41 to 1.47 (Docker 20.10 to 27; `api/swagger.yaml` of Moby). Codes say what a refusal is; the
//! body has a `message`.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::wire::{Refusal, Version};
use super::{DockerConfig, ENGINE};
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::rest::exchange::{self, NO_BODY, to_json};
use crate::transport::http::{HttpClient, HttpError, Limits, Method, Request, Response, Streaming};

/// For one exchange that finds out what answers: a local engine does it in some milliseconds, and a probe has 2 s.
const HELLO_TIMEOUT: Duration = Duration::from_millis(1500);

/// The oldest API that is spoken: Docker 20.10.
const OLDEST: Api = Api(1, 41);

/// The newest API that is spoken. Docker 29 takes 1.44 and later.
const NEWEST: Api = Api(1, 47);

/// A version of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Api(u32, u32);

impl Api {
    fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.')?;
        Some(Self(major.parse().ok()?, minor.parse().ok()?))
    }

    fn prefix(self) -> String {
        format!("/v{}.{}", self.0, self.1)
    }
}

impl std::fmt::Display for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Since which mounts may name a path within a volume.
pub(super) const SUB_PATHS_SINCE: Api = Api(1, 45);

/// What answered a greeting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    /// What to speak with it.
    pub(super) api: Api,
    /// Its own version.
    pub(super) version: String,
}

/// Talks to one Docker Engine.
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
    pub(super) message: String,
}

impl Failure {
    fn read(op: &str, response: &Response) -> Self {
        let refusal: Refusal = serde_json::from_slice(&response.body).unwrap_or_default();
        let message = if refusal.message.is_empty() {
            String::from_utf8_lossy(&response.body).trim().chars().take(500).collect()
        } else {
            refusal.message
        };
        Self { op: op.to_owned(), status: response.status, message }
    }

    /// The object is not there.
    pub(super) fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// The object's state, or another object of that name, does not allow it.
    pub(super) fn is_conflict(&self) -> bool {
        self.status == 409
    }

    /// The error where nothing more is known than the answer.
    pub(super) fn into_error(self) -> RuntimeError {
        match self.status {
            404 => RuntimeError::NotFound { what: self.message },
            400 => RuntimeError::InvalidSpec { reason: self.message },
            401 | 403 => RuntimeError::PermissionDenied { reason: self.message },
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
    pub(super) fn new(config: &DockerConfig) -> Self {
        Self { sockets: config.sockets(), api: Mutex::new(None) }
    }

    /// The client for the first socket that is there.
    fn http(&self) -> RtResult<HttpClient> {
        match self.sockets.iter().find(|path| path.exists()) {
            Some(path) => Ok(HttpClient::new(path)),
            None => {
                let paths: Vec<_> = self.sockets.iter().map(|path| path.display().to_string()).collect();
                Err(exchange::away(ENGINE, format!("there is no socket at {}", paths.join(" or "))))
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

    /// Asks the engine which versions it speaks, and keeps the newest that both do.
    pub(super) fn greet(&self, call: &Call) -> RtResult<Greeting> {
        let found = self.negotiate(call);
        *self.api.lock().unwrap_or_else(PoisonError::into_inner) = found.as_ref().ok().map(|greeting| greeting.api);
        found
    }

    fn negotiate(&self, call: &Call) -> RtResult<Greeting> {
        let http = self.http()?;
        let limits = Limits { deadline: call.deadline.at_most(HELLO_TIMEOUT), cancel: call.cancel };
        let request = Request { method: Method::Get, target: "/version", json: None };
        let away = |reason: String| exchange::away(ENGINE, reason);
        let response = http.request(limits, &request).map_err(|error| match error {
            HttpError::Timeout(_) if !call.deadline.is_over() => {
                away(format!("{} does not answer: {error}", http.socket().display()))
            }
            error => exchange::wire_error(ENGINE, "version", error),
        })?;
        let other = || away(format!("what answers on {} is not Docker", http.socket().display()));
        // It speaks Docker's language too, and its containers are told of by its own adapter.
        if response.header("server").starts_with("Libpod/") {
            return Err(away(format!("what answers on {} is Podman", http.socket().display())));
        }
        if response.status != 200 {
            return Err(other());
        }
        let told: Version = serde_json::from_slice(&response.body).map_err(|_| other())?;
        let newest = Api::parse(&told.api_version).ok_or_else(other)?;
        let oldest = Api::parse(&told.min_api_version).unwrap_or(newest);
        let api = newest.min(NEWEST);
        if api < OLDEST || api < oldest {
            let spoken = format!("it speaks {oldest} to {newest}, this daemon {OLDEST} to {NEWEST}");
            return Err(away(format!("there is no common version of the Engine API: {spoken}")));
        }
        Ok(Greeting { api, version: told.version })
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
        let target = format!("{}{path}", self.api(call)?.prefix());
        let limits = Limits { deadline: call.deadline, cancel: call.cancel };
        let request = Request { method, target: &target, json: json.as_deref() };
        let response = self.http()?.request(limits, &request);
        let response = response.map_err(|error| exchange::wire_error(ENGINE, op, error))?;
        Ok(match response.status {
            200..=299 => Answer::Done(response),
            304 => Answer::Unchanged,
            _ => Answer::Refused(Failure::read(op, &response)),
        })
    }

    /// GET of a document; a refusal is an error.
    pub(super) fn get<T: DeserializeOwned>(&self, call: &Call, op: &str, path: &str) -> RtResult<T> {
        match self.send(call, op, Method::Get, path, NO_BODY)? {
            Answer::Done(response) => parse(op, &response),
            Answer::Unchanged => Err(exchange::garbled(ENGINE, op, 304, "an answer without a document")),
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

    /// A request whose answer is read piece by piece.
    pub(super) fn stream(
        &self,
        call: &Call,
        op: &str,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> RtResult<Streaming> {
        let json = body.map(|body| to_json(op, body)).transpose()?;
        let target = format!("{}{path}", self.api(call)?.prefix());
        let limits = Limits { deadline: call.deadline, cancel: call.cancel };
        let request = Request { method, target: &target, json: json.as_deref() };
        let wire_error = |error| exchange::wire_error(ENGINE, op, error);
        let streaming = self.http()?.stream(limits, &request).map_err(wire_error)?;
        if (200..300).contains(&streaming.status) {
            return Ok(streaming);
        }
        let response = streaming.into_response().map_err(wire_error)?;
        Err(Failure::read(op, &response).into_error())
    }
}

/// Reads an answer's document.
pub(super) fn parse<T: DeserializeOwned>(op: &str, response: &Response) -> RtResult<T> {
    exchange::parse(ENGINE, op, response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Api::parse("1.9").unwrap() < Api::parse("1.41").unwrap());
        assert_eq!(Api::parse("1.41").unwrap().prefix(), "/v1.41");
        assert_eq!((Api::parse("1"), Api::parse("one.two")), (None, None));
    }
}
