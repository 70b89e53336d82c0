//! How many workers one engine may have, so that one that hangs leaves some to the others.
//!
//! A normal job whose engine is known takes a share of it before it runs. Where there is none left the job goes back into
//! its lane, out of sight of workers, until a share is given back; it keeps its place in the order, and is cancelled or
//! overdue like any other. What ends things takes none: further workers come for it.

use std::collections::HashMap;

use super::lanes::Lanes;

/// A job's relation to its engine's shares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ShareOf {
    /// The engine, once it is known.
    pub engine: Option<String>,
    /// A share was taken for it when it was handed to a worker.
    pub is_held: bool,
    /// It waits for a share: no token is in the lane's channel for it.
    pub waits: bool,
}

/// A share of an engine, given back when dropped.
pub struct Share<'a> {
    lanes: &'a Lanes,
    engine: String,
}

impl<'a> Share<'a> {
    /// One that was counted.
    pub(super) fn counted(lanes: &'a Lanes, engine: String) -> Self {
        Self { lanes, engine }
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        self.lanes.give_share_back(&self.engine);
    }
}

/// Shares that are taken, by engine.
#[derive(Debug, Default)]
pub struct Taken(HashMap<String, usize>);

impl Taken {
    /// Takes one, where fewer than `most` are taken.
    pub fn take(&mut self, engine: &str, most: usize) -> bool {
        let taken = self.0.entry(engine.to_owned()).or_default();
        let has_room = *taken < most;
        *taken += usize::from(has_room);
        has_room
    }

    /// Gives one back.
    pub fn give_back(&mut self, engine: &str) {
        if let Some(taken) = self.0.get_mut(engine) {
            *taken = taken.saturating_sub(1);
        }
    }
}
