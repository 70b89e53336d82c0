//! Verbs over containers, alike for every engine: the table of transitions is asked before the engine is, and a grace is
//! never rounded, because the engines' own stop, which counts whole seconds, is not used.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::calls::{late, not_allowed};
use crate::cancel::Urge;
use crate::clock::Deadline;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError, StopOptions};

/// The first wait between two looks at a container that is to end; doubled up to [`SLOWEST_POLL`].
pub const FIRST_POLL: Duration = Duration::from_millis(5);

/// An inspect costs an engine some 3 ms, so this keeps a long grace below a twentieth of a core.
pub const SLOWEST_POLL: Duration = Duration::from_millis(80);

/// What an engine is told to do with a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order<'a> {
    /// Start it.
    Start,
    /// Freeze it.
    Pause,
    /// Thaw it.
    Thaw,
    /// Send it the signal of this name (`SIGTERM`).
    Signal(&'a str),
}

/// What came of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acted {
    /// It was done.
    Done,
    /// It was so already.
    Unchanged,
    /// The container's state does not allow it.
    WrongState,
}

/// A container as far as verbs need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The engine's id.
    pub id: String,
    /// Its state.
    pub status: ContainerStatus,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
}

/// An engine's containers.
pub trait Containers {
    /// The container of exactly this id or name; `None` where there is none.
    fn look(&self, call: &Call, id: &str) -> RtResult<Option<Found>>;

    /// Carries out an order on the container with this engine's id. `op` is what errors call it.
    fn act(&self, call: &Call, op: &str, id: &str, order: Order) -> RtResult<Acted>;

    /// Deletes the container with this engine's id, also one that runs.
    fn delete(&self, call: &Call, id: &str) -> RtResult<Change>;
}

/// The container, or `NotFound`.
pub fn found(engine: &impl Containers, call: &Call, id: &str) -> RtResult<Found> {
    engine.look(call, id)?.ok_or_else(|| RuntimeError::NotFound { what: format!("container '{id}'") })
}

/// An order with the transition that it is for.
struct Way {
    op: &'static str,
    order: Order<'static>,
    transition: Transition,
}

/// Starts it.
pub fn start(engine: &impl Containers, call: &Call, id: &str) -> RtResult<Change> {
    start_from(engine, call, id, &found(engine, call, id)?)
}

/// Starts it, as it was seen a moment ago.
pub fn start_from(engine: &impl Containers, call: &Call, id: &str, before: &Found) -> RtResult<Change> {
    transit_from(engine, call, id, before, Way { op: "start", order: Order::Start, transition: Transition::Start })
}

/// Freezes it.
pub fn pause(engine: &impl Containers, call: &Call, id: &str) -> RtResult<Change> {
    transit(engine, call, id, Way { op: "pause", order: Order::Pause, transition: Transition::Pause })
}

/// Thaws it.
pub fn resume(engine: &impl Containers, call: &Call, id: &str) -> RtResult<Change> {
    transit(engine, call, id, Way { op: "resume", order: Order::Thaw, transition: Transition::Resume })
}

fn transit(engine: &impl Containers, call: &Call, id: &str, way: Way) -> RtResult<Change> {
    transit_from(engine, call, id, &found(engine, call, id)?, way)
}

/// Asks the table of transitions, then the engine; a refusal for the state's sake means that the state moved between
/// the two, and is told as the state that it is now.
fn transit_from(engine: &impl Containers, call: &Call, id: &str, before: &Found, way: Way) -> RtResult<Change> {
    let Way { op, order, transition } = way;
    match before.status.allows(transition) {
        Allowed::Unchanged => return Ok(Change::Unchanged),
        Allowed::No => return Err(not_allowed(op, id, &before.status)),
        Allowed::Yes => {}
    }
    match engine.act(call, op, &before.id, order)? {
        Acted::Done => Ok(Change::Changed),
        Acted::Unchanged => Ok(Change::Unchanged),
        Acted::WrongState => {
            let now = found(engine, call, &before.id)?.status;
            match now.allows(transition) {
                Allowed::Unchanged => Ok(Change::Unchanged),
                Allowed::Yes | Allowed::No => Err(not_allowed(op, id, &now)),
            }
        }
    }
}

/// Sends a signal; `false` when there was nothing left to send it to.
fn send_signal(engine: &impl Containers, call: &Call, op: &str, id: &str, signal: &str) -> RtResult<bool> {
    let acted = engine.act(call, op, id, Order::Signal(signal))?;
    Ok(acted != Acted::WrongState)
}

/// Sends one signal to what runs.
pub fn signal(engine: &impl Containers, call: &Call, id: &str, signal: &str) -> RtResult<()> {
    let container = found(engine, call, id)?;
    if !container.status.is_live() || !send_signal(engine, call, "signal", &container.id, signal)? {
        return Err(not_allowed("signal", id, &container.status));
    }
    Ok(())
}

/// Signal, thaw, grace, SIGKILL; returns once it has ended. A cancel leaves it as it then is.
pub fn stop(engine: &impl Containers, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
    let container = found(engine, call, id)?;
    match container.status.allows(Transition::Stop) {
        Allowed::Unchanged => return Ok(Change::Unchanged),
        Allowed::No => return Err(not_allowed("stop", id, &container.status)),
        Allowed::Yes => {}
    }
    let id = &container.id;
    let kill_at_once = options.signal == "SIGKILL" || call.cancel.urge() == Urge::Hasten;
    if !kill_at_once {
        send_signal(engine, call, "stop", id, &options.signal)?;
    }
    if container.status == ContainerStatus::Paused {
        // SIGKILL comes after the thaw: on cgroup v1 a frozen process does not die, and the engine would wait for it. Some
        // thaw by themselves with the signal, and it may have ended meanwhile.
        engine.act(call, "resume", id, Order::Thaw)?;
    }
    let grace = if kill_at_once { Duration::ZERO } else { options.grace };
    if !grace.is_zero() && await_end(engine, call, id, call.deadline.at_most(grace), Urge::Hasten)? {
        return Ok(Change::Changed);
    }
    send_signal(engine, call, "kill", id, "SIGKILL")?;
    let begun = Instant::now();
    match await_end(engine, call, id, call.deadline, Urge::Cancel)? {
        true => Ok(Change::Changed),
        false => Err(late("the end of the container after SIGKILL", begun)),
    }
}

/// Looks until the container has ended (`true`), or until `until` or the urge (`false`). A cancel is an error.
fn await_end(engine: &impl Containers, call: &Call, id: &str, until: Deadline, urge: Urge) -> RtResult<bool> {
    let mut poll = FIRST_POLL;
    loop {
        match engine.look(call, id)? {
            None => return Ok(true),
            Some(container) if !container.status.is_live() => return Ok(true),
            Some(_) if until.is_over() => return Ok(false),
            Some(_) => {}
        }
        match call.cancel.wait(urge, until.at_most(poll)) {
            Urge::Cancel => return Err(RuntimeError::Cancelled { op: "stop".to_owned() }),
            Urge::Hasten if urge == Urge::Hasten => return Ok(false),
            Urge::Hasten | Urge::None => poll = (poll * 2).min(SLOWEST_POLL),
        }
    }
}

/// Blocks until the container with this engine's id has been started: engines take one that never ran for one that has
/// ended.
pub fn await_start(engine: &impl Containers, call: &Call, id: &str) -> RtResult<()> {
    let begun = Instant::now();
    while found(engine, call, id)?.status == ContainerStatus::Created {
        if call.deadline.is_over() {
            return Err(late("wait", begun));
        }
        if call.cancel.wait(Urge::Cancel, call.deadline.at_most(SLOWEST_POLL)) == Urge::Cancel {
            return Err(RuntimeError::Cancelled { op: "wait".to_owned() });
        }
    }
    Ok(())
}
