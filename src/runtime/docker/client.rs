//! Docker's Engine API: its versions, and what of them is spoken.
//!
//! Source: the Engine API 1.41 to 1.47 (Docker 20.10 to 27; `api/swagger.yaml` of Moby). Codes say what a refusal is; the
//! body has a `message`.

use std::path::Path;

use super::ENGINE;
use super::wire::Version;
use crate::runtime::rest::client::{self, Dialect, Greeting};
use crate::transport::http::Response;

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
}

impl std::fmt::Display for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// Since which mounts may name a path within a volume.
pub(super) const SUB_PATHS_SINCE: Api = Api(1, 45);

/// Docker's own.
pub(super) struct EngineApi;

/// Talks to one Docker Engine.
pub(super) type Client = client::Client<EngineApi>;

impl Dialect for EngineApi {
    const ENGINE: &'static str = ENGINE;
    const HELLO: &'static str = "version";
    const HELLO_TARGET: &'static str = "/version";
    type Api = Api;

    fn prefix(api: Api) -> String {
        format!("/v{api}")
    }

    /// The newest version that both speak.
    fn greeted(socket: &Path, response: &Response) -> Result<Greeting<Api>, String> {
        let other = || format!("what answers on {} is not Docker", socket.display());
        // It speaks Docker's language too, and its containers are told of by its own adapter.
        if response.header("server").starts_with("Libpod/") {
            return Err(format!("what answers on {} is Podman", socket.display()));
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
            return Err(format!("there is no common version of the Engine API: {spoken}"));
        }
        Ok(Greeting { api, api_version: api.to_string(), version: told.version })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(Api::parse("1.9").unwrap() < Api::parse("1.41").unwrap());
        assert_eq!(EngineApi::prefix(Api::parse("1.41").unwrap()), "/v1.41");
        assert_eq!((Api::parse("1"), Api::parse("one.two")), (None, None));
    }
}
