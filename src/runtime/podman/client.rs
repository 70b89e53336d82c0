//! Podman's REST service: its socket's versions, and what its refusals mean.
//!
//! Source: `pkg/api` of Podman 4.3.1 and 5.4.2 (libpod API 4.0.0 and 5.0.0). Podman answers most refusals with 500 and
//! says in `cause` what it was, so causes are looked at before codes.

use std::path::Path;

use super::ENGINE;
use crate::runtime::rest::client::{self, Dialect, Failure};
use crate::transport::http::Response;

/// The version of the libpod API that is spoken with this engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Api {
    /// Podman 4.
    V4,
    /// Podman 5 and later, which keep it.
    V5,
}

/// Podman's own.
pub(super) struct Libpod;

/// Talks to one Podman service.
pub(super) type Client = client::Client<Libpod>;

impl Dialect for Libpod {
    const ENGINE: &'static str = ENGINE;
    const HELLO: &'static str = "ping";
    const HELLO_TARGET: &'static str = "/libpod/_ping";
    type Api = Api;

    fn prefix(api: Api) -> String {
        match api {
            Api::V4 => "/v4.0.0/libpod".to_owned(),
            Api::V5 => "/v5.0.0/libpod".to_owned(),
        }
    }

    fn greeted(socket: &Path, response: &Response) -> Result<client::Greeting<Api>, String> {
        let api_version = response.header("libpod-api-version").to_owned();
        let api = match api_version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
            Some(4) => Api::V4,
            Some(major) if major > 4 => Api::V5,
            Some(_) => return Err(format!("its API {api_version} is older than 4.0.0")),
            None => return Err(format!("what answers on {} is not Podman", socket.display())),
        };
        // `Libpod/4.3.1 (linux)`. Asking for the version itself starts conmon and the runtime, which takes its time.
        let server = response.header("server").strip_prefix("Libpod/").and_then(|rest| rest.split(' ').next());
        let version = server.unwrap_or(&api_version).to_owned();
        Ok(client::Greeting { api, api_version, version })
    }

    fn is_bad_spec(cause: &str) -> bool {
        matches!(cause, "invalid argument" | "invalid configuration")
    }
}

/// The container's state does not allow the call.
pub(super) fn is_state(failure: &Failure) -> bool {
    failure.cause == "container state improper"
}

/// The name is taken.
pub(super) fn is_taken(failure: &Failure) -> bool {
    matches!(
        failure.cause.as_str(),
        "that name is already in use"
            | "container already exists"
            | "pod already exists"
            | "volume already exists"
            | "network already exists"
    )
}
