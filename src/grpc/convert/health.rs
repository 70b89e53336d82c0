//! How the node is, as the wire has it.

use protobuf::MessageField;

use super::timestamp_ms;
use crate::dispatch::service::{NodeHealth, StoreHealth};
use crate::model::schedule::{Misses, TaskName};
use crate::proto::actions as wire;
use crate::runtime::adapter::Probe;

/// How the node is.
pub fn node(health: NodeHealth) -> wire::NodeHealthResponse {
    wire::NodeHealthResponse {
        serving: health.serving,
        node: health.node,
        version: health.version,
        engines: health.engines.into_iter().map(engine).collect(),
        store: MessageField::some(store(health.store)),
        deadline_misses: health.misses.into_iter().map(misses).collect(),
        ..Default::default()
    }
}

fn engine((name, probe): (String, Probe)) -> wire::EngineHealth {
    match probe {
        Probe::Available { version, .. } => wire::EngineHealth { name, available: true, version, ..Default::default() },
        Probe::Unavailable { reason } => wire::EngineHealth { name, reason, ..Default::default() },
    }
}

fn store(store: StoreHealth) -> wire::StoreHealth {
    wire::StoreHealth {
        backend: store.backend,
        problem: store.problem,
        outcomes_waiting: number(store.outcomes_waiting),
        outcomes_bound: number(store.outcomes_bound),
        states_waiting: number(store.states_waiting),
        outcomes_owed: number(store.outcomes_owed),
        set_aside: number(store.set_aside),
        ..Default::default()
    }
}

fn misses((TaskName { schedule, node, task }, misses): (TaskName, Misses)) -> wire::DeadlineMisses {
    let (count, last_at) = (misses.count, timestamp_ms(misses.last_ms));
    wire::DeadlineMisses { schedule, node, task, count, last_at, ..Default::default() }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
