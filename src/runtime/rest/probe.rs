//! Whether an engine answers, and what it can do on this node, within the time of a probe.

use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use super::client::{Client, Dialect, Greeting};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::runtime::adapter::{Call, NoProgress, Probe, RuntimeCapabilities};

/// The whole probe: `RuntimeAdapter::probe` answers within 2 s.
const TIMEOUT: Duration = Duration::from_millis(1900);

/// How long the engine's view of the node holds, unless another version answers.
const VIEW_HOLDS: Duration = Duration::from_secs(300);

/// What the engine can do, as far as it is known.
#[derive(Debug, Clone)]
pub struct Known<A> {
    /// That.
    pub capabilities: RuntimeCapabilities,
    /// Who said so, and when; `None` where it is assumed.
    proved: Option<(Greeting<A>, Instant)>,
}

impl<A> Default for Known<A> {
    fn default() -> Self {
        Self { capabilities: RuntimeCapabilities::default(), proved: None }
    }
}

/// Asks the engine for its version and, where that is not known yet, for its view of the node, of which `can` says what
/// it allows.
///
/// The greeting alone decides whether it is available. Its view of the node may take it some 200 ms and on a busy machine
/// more than a probe has; until it is known, the engine counts as one whose view is `assumed`.
pub fn probe<D, V>(
    client: &Client<D>,
    known: Known<D::Api>,
    can: fn(&V) -> RuntimeCapabilities,
    assumed: &V,
) -> (Probe, Known<D::Api>)
where
    D: Dialect<Api: PartialEq>,
    V: DeserializeOwned,
{
    let cancel = CancelToken::new();
    let call = Call { deadline: Deadline::after(TIMEOUT), cancel: &cancel, progress: &NoProgress };
    // A restarted engine may be another version.
    let greeting = match client.greet(&call) {
        Ok(greeting) => greeting,
        Err(error) => return (Probe::away(error), Known::default()),
    };
    let available = Probe::Available { version: greeting.version.clone(), api: greeting.api_version.clone() };
    if known.proved.as_ref().is_some_and(|(by, at)| *by == greeting && at.elapsed() < VIEW_HOLDS) {
        return (available, known);
    }
    match client.get::<V>(&call, "info", "/info") {
        Ok(view) => (available, Known { capabilities: can(&view), proved: Some((greeting, Instant::now())) }),
        Err(error) => {
            log::warn!("what {} can do here is not known yet: {error}", D::ENGINE);
            let is_new = known.capabilities == RuntimeCapabilities::default();
            (available, if is_new { Known { capabilities: can(assumed), proved: None } } else { known })
        }
    }
}
