//! What is told to others: how far Scenarios are, as Pullpiri's StateManager has it.

/// How far a Scenario is, as Pullpiri's StateManager has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ScenarioState {
    /// Known.
    Idle,
    /// Its condition is waited for.
    Waiting,
    /// Its condition holds.
    Satisfied,
    /// Policy allows it.
    Allowed,
    /// Policy refuses it.
    Denied,
    /// Its action is done.
    Completed,
}

impl ScenarioState {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Satisfied => "satisfied",
            Self::Allowed => "allowed",
            Self::Denied => "denied",
            Self::Completed => "completed",
        }
    }
}

/// A Scenario's step from one state to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScenarioChange {
    /// The Scenario.
    pub scenario: String,
    /// From.
    pub from: ScenarioState,
    /// To.
    pub to: ScenarioState,
    /// What led to it: unique for each change.
    pub transition_id: String,
    /// Nanoseconds since the epoch.
    pub time_ns: i64,
}
