//! How the node is, as the wire has it.

use protobuf::MessageField;

use super::timestamp_ms;
use crate::dispatch::service::{NodeHealth, StoreHealth};
use crate::model::schedule::{Misses, TaskName};
use crate::proto::actions as wire;
use crate::runtime::adapter::Probe;
use crate::runtime::registry::EngineOverview;

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

fn engine((name, overview): (String, EngineOverview)) -> wire::EngineHealth {
    let order = overview.place.map(|place| u32::try_from(place).unwrap_or(u32::MAX)).unwrap_or_default();
    let told = wire::EngineHealth { name, order, ..Default::default() };
    match overview.probe {
        Probe::Available { version, api } => {
            let capabilities = overview.capabilities.words().into_iter().map(str::to_owned).collect();
            wire::EngineHealth { available: true, version, api, capabilities, ..told }
        }
        Probe::Unavailable { reason } => wire::EngineHealth { reason, ..told },
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
