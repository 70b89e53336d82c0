//! Exclusive CPUs as configured.

use std::sync::Arc;

use crate::application::cores::CoreSources;
use crate::clock::Clock;
use crate::config::Config;
use crate::realtime::cores::CorePolicy;
use crate::realtime::keeper::CoreKeeper;
use crate::runtime::registry::EngineRegistry;
use crate::storage::records::Records;

/// The ledger with the CPUs of this machine.
pub(super) fn keeper(config: &Config, engines: &Arc<EngineRegistry>, records: &Records) -> Arc<CoreKeeper> {
    let realtime = &config.realtime;
    let policy = CorePolicy { reserved: realtime.reserved_cpus.clone(), isolated: realtime.isolated_cpus.clone() };
    CoreKeeper::of_this_machine(policy, engines, records, config.node.clone())
}

/// What is looked at beside actions.
pub(super) fn sources(
    config: &Config,
    keeper: &Arc<CoreKeeper>,
    engines: &Arc<EngineRegistry>,
    records: &Records,
    clock: &Arc<dyn Clock>,
) -> CoreSources {
    CoreSources {
        keeper: Arc::clone(keeper),
        records: records.clone(),
        engines: Arc::clone(engines),
        clock: Arc::clone(clock),
        node: config.node.clone(),
    }
}

/// Holds the ledger against the records. What cannot be done keeps nobody from starting.
pub(super) fn repair(sources: &CoreSources) {
    if let Err(error) = sources.repair() {
        log::error!("the ledger of exclusive CPUs is as it was found: {error}");
    }
}
