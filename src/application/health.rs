//! [`Health`]: how the node is, as told: its engines, its store with what waits for delivery, and missed deadlines.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::faults::Faults;
use crate::clock::Deadline;
use crate::dispatch::service::{NodeHealth, StoreHealth};
use crate::runtime::registry::EngineRegistry;
use crate::storage::outbox::Outbox;
use crate::storage::records::Records;
use crate::storage::shared::SharedStore;

/// The time that the node's own store has, and again a shared one. Engines have as much.
const STORE_BUDGET: Duration = Duration::from_secs(2);

/// The store that the settings name.
pub struct StoreSources {
    /// Its kind, as the settings name it.
    pub backend: &'static str,
    /// The node's own.
    pub own: Records,
    /// The one that is shared with others, where there is one.
    pub shared: Option<Arc<dyn SharedStore>>,
    /// What waits for the shared one.
    pub outbox: Option<Arc<Outbox>>,
}

/// Tells how the node is.
pub struct Health {
    node: String,
    engines: Arc<EngineRegistry>,
    store: StoreSources,
    faults: Arc<Faults>,
}

impl Health {
    /// Tells of these.
    pub fn new(node: String, engines: Arc<EngineRegistry>, store: StoreSources, faults: Arc<Faults>) -> Self {
        Self { node, engines, store, faults }
    }

    /// A look at everything, within a few seconds whatever hangs. Whether actions are taken is for the caller to say.
    pub fn look(&self, serving: bool) -> NodeHealth {
        let (engines, store) = thread::scope(|scope| {
            // Beside each other, so that a store that hangs takes no time beyond an engine that does.
            let look = || self.store.look();
            let store = thread::Builder::new().name("health-store".to_owned()).spawn_scoped(scope, look);
            let engines = self.engines.overview();
            let lost = |problem: String| StoreHealth { problem, ..self.store.told() };
            let store = match store.map(thread::ScopedJoinHandle::join) {
                Ok(Ok(store)) => store,
                Ok(Err(_)) => lost("asking it met a fault in this daemon".to_owned()),
                Err(error) => lost(format!("no thread to ask it: {error}")),
            };
            (engines, store)
        });
        NodeHealth {
            serving,
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            engines,
            store,
            misses: self.faults.all(),
        }
    }
}

impl StoreSources {
    /// What is known without asking.
    fn told(&self) -> StoreHealth {
        let backlog = self.outbox.as_ref().map(|outbox| outbox.backlog()).unwrap_or_default();
        StoreHealth {
            backend: self.backend.to_owned(),
            problem: backlog.problem,
            outcomes_waiting: backlog.waiting,
            outcomes_bound: backlog.bound,
            states_waiting: backlog.states,
            outcomes_owed: backlog.owed,
            set_aside: backlog.set_aside,
        }
    }

    fn look(&self) -> StoreHealth {
        let mut health = self.told();
        if let Err(error) = self.own.check(Deadline::after(STORE_BUDGET)) {
            health.problem = format!("the node's own store: {error}");
        } else if let (Some(shared), true) = (&self.shared, health.problem.is_empty())
            && let Err(error) = shared.check(Deadline::after(STORE_BUDGET))
        {
            health.problem = error.to_string();
        }
        health
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::service::Fault;
    use crate::runtime::adapter::Probe;
    use crate::runtime::sim::SimRuntime;
    use crate::runtime::sim::config::SimConfig;
    use crate::storage::memory::MemoryStore;

    #[test]
    fn look_tells_engines_store_and_misses() {
        let sim = SimRuntime::open(SimConfig { enabled: true, ..SimConfig::default() }, "n").unwrap();
        let mut engines = EngineRegistry::new();
        engines.register(Arc::new(sim)).unwrap();
        let faults = Arc::new(Faults::default());
        let (schedule, node, task) = ("s".to_owned(), "n".to_owned(), "t".to_owned());
        faults.note(&Fault { schedule, node, task, is_deadline_miss: true }, 5);
        let own = Records::new(Arc::new(MemoryStore::new()));
        let store = StoreSources { backend: "embedded", own, shared: None, outbox: None };
        let health = Health::new("n".to_owned(), Arc::new(engines), store, faults).look(true);
        assert!(health.serving && matches!(health.engines["sim"].probe, Probe::Available { .. }), "{health:?}");
        assert_eq!(health.store, StoreHealth { backend: "embedded".to_owned(), ..StoreHealth::default() });
        assert_eq!(health.misses.values().map(|misses| misses.count).collect::<Vec<_>>(), [1]);
    }
}
