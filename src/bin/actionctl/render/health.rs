//! How the node is, for people: engines, store and missed deadlines.

use jiff::Timestamp as Instant;

use super::describe::Lines;
use super::table::table;
use super::words::age;
use crate::api::{NodeHealthResponse, StoreHealth};

/// A short block; what there is nothing to say of is left out.
pub fn node(health: &NodeHealthResponse, now: Instant) -> String {
    let store = health.store.get_or_default();
    let mut lines = Lines::default();
    lines.field("Node", &health.node).field("Version", &health.version).field("Store", &state(store));
    if store.outcomes_bound > 0 {
        lines.field("Waiting", &waiting(store));
    }
    if store.set_aside > 0 {
        lines.field("Set aside", &format!("{} documents that the store refused", store.set_aside));
    }
    let engines = health.engines.iter().map(|engine| {
        let state = if engine.available { "available" } else { "unavailable" };
        vec![engine.name.clone(), state.to_owned(), engine.version.clone(), engine.reason.clone()]
    });
    if !health.engines.is_empty() {
        lines.block("Engines", &table(&["NAME", "STATE", "VERSION", "REASON"], engines));
    }
    let misses = health.deadline_misses.iter().map(|misses| {
        let last = age(misses.last_at.as_ref(), now);
        vec![misses.schedule.clone(), misses.node.clone(), misses.task.clone(), misses.count.to_string(), last]
    });
    if !health.deadline_misses.is_empty() {
        lines.block("Missed deadlines", &table(&["SCHEDULE", "NODE", "TASK", "COUNT", "LAST"], misses));
    }
    lines.text()
}

fn state(store: &StoreHealth) -> String {
    match store.problem.as_str() {
        "" => store.backend.clone(),
        problem => format!("{}: {problem}", store.backend),
    }
}

/// What waits for a shared store.
fn waiting(store: &StoreHealth) -> String {
    let owed = match store.outcomes_owed {
        0 => String::new(),
        owed => format!(", {owed} outcomes more in the action log"),
    };
    format!("{} of {} outcomes, {} states{owed}", store.outcomes_waiting, store.outcomes_bound, store.states_waiting)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{DeadlineMisses, EngineHealth, Timestamp};

    fn now() -> Instant {
        Instant::from_second(1_000).unwrap()
    }

    #[test]
    fn node_without_a_shared_store_says_nothing_of_delivery() {
        let store = StoreHealth { backend: "embedded".to_owned(), ..Default::default() };
        let sim =
            EngineHealth { name: "sim".to_owned(), available: true, version: "1".to_owned(), ..Default::default() };
        let health = NodeHealthResponse {
            serving: true,
            node: "HPC".to_owned(),
            version: "0.1.0".to_owned(),
            engines: vec![sim],
            store: Some(store).into(),
            ..Default::default()
        };
        assert_eq!(
            node(&health, now()),
            "Node:         HPC\nVersion:      0.1.0\nStore:        embedded\nEngines:\n  \
             NAME   STATE       VERSION   REASON\n  sim    available   1         -"
        );
    }

    #[test]
    fn store_that_is_away_shows_why_and_what_waits() {
        let store = StoreHealth {
            backend: "etcd".to_owned(),
            problem: "no member answers".to_owned(),
            outcomes_waiting: 3,
            outcomes_bound: 1000,
            states_waiting: 2,
            outcomes_owed: 1,
            set_aside: 4,
            ..Default::default()
        };
        let misses = DeadlineMisses {
            schedule: "s".to_owned(),
            node: "HPC".to_owned(),
            task: "t".to_owned(),
            count: 7,
            last_at: Some(Timestamp { seconds: 990, ..Default::default() }).into(),
            ..Default::default()
        };
        let health =
            NodeHealthResponse { store: Some(store).into(), deadline_misses: vec![misses], ..Default::default() };
        assert_eq!(
            node(&health, now()),
            "Store:        etcd: no member answers\n\
             Waiting:      3 of 1000 outcomes, 2 states, 1 outcomes more in the action log\n\
             Set aside:    4 documents that the store refused\nMissed deadlines:\n  \
             SCHEDULE   NODE   TASK   COUNT   LAST\n  s          HPC    t      7       10s"
        );
    }
}
