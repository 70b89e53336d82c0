//! What the simulator is told by configuration: which images there are, and which calls are late, fail or hang.
//!
//! Plain data. Durations are milliseconds; unknown keys are refused.

use serde::{Deserialize, Serialize};

/// Settings of the simulator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimConfig {
    /// Use it. Off on a vehicle: what it is given to run does not run.
    pub enabled: bool,
    /// A file that keeps containers, pods, networks and volumes, so that they "go on" while this process is away and
    /// are found again at the next start. Empty keeps them in memory alone. One simulator at a time may use a file.
    pub state_file: String,
    /// Images with settings of their own.
    pub images: Vec<SimImage>,
    /// What every other image is.
    pub other_images: SimImageState,
    /// The size of an image whose entry gives none, bytes.
    pub image_bytes: u64,
    /// How long a pull takes of an image whose entry says nothing, milliseconds.
    pub pull_ms: u64,
    /// Calls that are late, fail or hang. All that fit a call take effect in this order, until one fails it.
    pub faults: Vec<SimFault>,
    /// The engine is away: every call fails with this reason. Empty: it is there.
    pub unavailable: String,
}

impl Default for SimConfig {
    fn default() -> Self {
        Self {
            enabled: false,
            state_file: String::new(),
            images: Vec::new(),
            other_images: SimImageState::Pullable,
            image_bytes: 4 * 1024 * 1024,
            pull_ms: 0,
            faults: Vec::new(),
            unavailable: String::new(),
        }
    }
}

/// An image that the simulator knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimImage {
    /// Its reference, as documents name it.
    pub reference: String,
    /// Where it is.
    pub state: SimImageState,
    /// Its size, bytes; absent takes `image_bytes`.
    #[serde(default)]
    pub bytes: Option<u64>,
    /// How long its pull takes, milliseconds; absent takes `pull_ms`.
    #[serde(default)]
    pub pull_ms: Option<u64>,
}

/// Where an image is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SimImageState {
    /// On the node from the beginning.
    Present,
    /// In a registry: the first use pulls it.
    Pullable,
    /// Nowhere: a pull fails.
    Missing,
}

/// The calls that faults can be set on and that are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the adapter's call of that name")]
pub enum SimOp {
    Probe,
    Pull,
    Create,
    Start,
    Stop,
    Signal,
    Remove,
    Inspect,
    List,
    Wait,
    Pause,
    Resume,
    Resize,
    ProveCheckpoint,
    Checkpoint,
    Restore,
    EnsureNetwork,
    RemoveNetwork,
    EnsureVolume,
    RemoveVolume,
    EnsurePod,
    RemovePod,
    Leftovers,
    Stats,
    Logs,
    Exec,
    Events,
}

impl SimOp {
    /// The call's word in errors.
    pub fn word(self) -> &'static str {
        match self {
            Self::Probe => "probe",
            Self::Pull => "pull",
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Signal => "signal",
            Self::Remove => "remove",
            Self::Inspect => "inspect",
            Self::List => "list",
            Self::Wait => "wait",
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Resize => "resize",
            Self::ProveCheckpoint => "prove checkpoint",
            Self::Checkpoint => "checkpoint",
            Self::Restore => "restore",
            Self::EnsureNetwork => "ensure network",
            Self::RemoveNetwork => "remove network",
            Self::EnsureVolume => "ensure volume",
            Self::RemoveVolume => "remove volume",
            Self::EnsurePod => "ensure pod",
            Self::RemovePod => "remove pod",
            Self::Leftovers => "list leftovers",
            Self::Stats => "stats",
            Self::Logs => "logs",
            Self::Exec => "exec",
            Self::Events => "events",
        }
    }
}

/// One scripted fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimFault {
    /// Only this call; absent is every call.
    pub op: Option<SimOp>,
    /// Only where the name fits, `*` and `?` as in a shell: the container's name, for pulls the image's reference, for
    /// networks, volumes and pods theirs. Calls without a name (probe, list, events) fit only `*`.
    pub name: String,
    /// Only the so-manieth call that fits `op` and `name`, counted from 1; absent is each.
    pub nth: Option<u64>,
    /// The call takes so much longer, milliseconds.
    pub delay_ms: u64,
    /// The call blocks until its deadline or its cancel.
    pub hang: bool,
    /// The call fails, after the delay.
    pub fail: Option<SimFailure>,
    /// All this comes after the call took effect, as when an answer is lost, instead of before.
    pub after_effect: bool,
}

impl Default for SimFault {
    fn default() -> Self {
        Self { op: None, name: "*".to_owned(), nth: None, delay_ms: 0, hang: false, fail: None, after_effect: false }
    }
}

/// How a call is made to fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SimFailure {
    /// The kind of error.
    pub kind: SimFailureKind,
    /// The engine's words.
    pub message: String,
}

/// The kinds of error that a call can be made to fail with; each is the [`RuntimeError`] of that name.
///
/// [`RuntimeError`]: crate::runtime::adapter::RuntimeError
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "each is the runtime error of that name")]
pub enum SimFailureKind {
    EngineNotAvailable,
    Connection,
    NotFound,
    AlreadyExists,
    InvalidState,
    InvalidSpec,
    Unsupported,
    Timeout,
    ImagePull,
    PermissionDenied,
    Io,
    Engine,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_key_is_refused() {
        let error = serde_json::from_str::<SimConfig>(r#"{"state_fil": "/x"}"#).unwrap_err();
        assert!(error.to_string().contains("state_fil"), "{error}");
    }

    #[test]
    fn fault_needs_only_what_it_says() {
        let text = r#"{"faults": [{"op": "pull", "nth": 2, "fail": {"kind": "image_pull", "message": "no route"}}]}"#;
        let config: SimConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.faults[0].name, "*");
        assert_eq!(config.faults[0].nth, Some(2));
        assert_eq!(config.other_images, SimImageState::Pullable);
    }
}
