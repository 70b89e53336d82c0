//! What the daemon is connected with, built from the settings: the shared store, other nodes, policy servers, the
//! scheduler, and those who are told.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{DaemonError, failed};
use crate::action::{Outside, PolicySettings, Settings};
use crate::application::audience::Audience;
use crate::application::faults::Faults;
use crate::application::health::StoreSources;
use crate::application::overruns::{self, Overruns};
use crate::application::publish::{Publisher, Sources};
use crate::application::report::{Pace, ReportConfig, Reporter};
use crate::application::restarts::Accept;
use crate::application::status::Status;
use crate::config::Config;
use crate::config::settings::{
    AbsentTimpani, Backend, Etcd, OtherNode, PolicyDialect, Report, SecondSchedule, TimpaniDialect, TimpaniRecovery,
};
use crate::grpc::client::Called;
use crate::grpc::client::monitoring_server::MonitoringServer;
use crate::grpc::client::nodes::NodeClients;
use crate::grpc::client::pharos::Pharos;
use crate::grpc::client::policy_manager::PolicyManager;
use crate::grpc::client::policy_server::PolicyServer;
use crate::grpc::client::state_manager::StateManager;
use crate::grpc::client::timpani::{Release, Timpani};
use crate::grpc::client::timpani_scheduler::TimpaniScheduler;
use crate::manifest::{Limits, Schedules};
use crate::networks::NetworkAnswers;
use crate::nodes::NodeAddress;
use crate::nodes::directory::StoreDirectory;
use crate::policy::PolicyGate;
use crate::realtime::{Desk, RealtimeScheduler, Rules};
use crate::runtime::registry::EngineRegistry;
use crate::security::ceiling::Ceiling;
use crate::storage::StateStore;
use crate::storage::copies::{Copies, CopyKeeper};
use crate::storage::documents::Documents;
use crate::storage::etcd::{EtcdConfig, EtcdStore};
use crate::storage::outbox::{Outbox, OutboxConfig};
use crate::storage::records::Records;
use crate::storage::rocksdb_service::RocksDbStore;
use crate::storage::shared::SharedStore;
use crate::transport::channel::{ChannelThreads, Tls};

/// The store that is shared with others; `None` where the node's own is the store.
pub fn shared_store(config: &Config, threads: &ChannelThreads) -> Result<Option<Arc<dyn SharedStore>>, DaemonError> {
    let store = &config.store;
    Ok(match store.backend {
        Backend::Embedded => None,
        Backend::Etcd => Some(Arc::new(EtcdStore::new(etcd(config)?, threads))),
        Backend::RocksDb => Some(Arc::new(RocksDbStore::new(&store.rocksdb.address, store.timeout, threads))),
    })
}

fn etcd(config: &Config) -> Result<EtcdConfig, DaemonError> {
    let Etcd { endpoints, user, password_file, ca_file, cert_file, key_file, server_name, lease } = &config.store.etcd;
    let read = |path: &Path| {
        let wrong = |error| failed("store.etcd")(format!("'{}' cannot be read: {error}", path.display()));
        fs::read(path).map_err(|error| DaemonError { is_configuration: true, ..wrong(error) })
    };
    let user = match user.as_str() {
        "" => None,
        user => {
            let text = String::from_utf8_lossy(&read(password_file)?).into_owned();
            Some((user.to_owned(), text.lines().next().unwrap_or_default().to_owned()))
        }
    };
    let tls = if ca_file.as_os_str().is_empty() {
        None
    } else {
        let own = !cert_file.as_os_str().is_empty();
        let identity = own.then(|| Ok((read(cert_file)?, read(key_file)?))).transpose()?;
        Some(Tls { authorities: read(ca_file)?, identity, server_name: server_name.clone() })
    };
    Ok(EtcdConfig { endpoints: endpoints.clone(), user, tls, lease: *lease, timeout: config.store.timeout })
}

/// Where outcomes and states go that the shared store gets.
pub fn outbox(
    config: &Config,
    own: &Arc<dyn StateStore>,
    shared: Option<&Arc<dyn SharedStore>>,
) -> Result<Option<Arc<Outbox>>, DaemonError> {
    let Some(shared) = shared else { return Ok(None) };
    let outbox_config = OutboxConfig {
        node: config.node.clone(),
        entries: config.store.backlog.entries,
        reserve: config.store.backlog.reserve,
        timeout: config.store.timeout,
    };
    Outbox::open(Arc::clone(own), Arc::clone(shared), outbox_config).map(Some).map_err(failed("store"))
}

/// What keeps copies of documents up to date, where the shared store tells of changes.
pub fn copy_keeper(
    config: &Config,
    shared: Option<&Arc<dyn SharedStore>>,
    copies: &Arc<Copies>,
) -> Result<Option<CopyKeeper>, DaemonError> {
    let watched = shared.filter(|shared| config.store.use_copies && shared.abilities().watch);
    let start = |shared: &Arc<dyn SharedStore>| CopyKeeper::start(Arc::clone(shared), Arc::clone(copies));
    watched.map(start).transpose().map_err(failed("threads"))
}

/// What is told of the stores.
pub fn stores(
    config: &Config,
    own: &Records,
    shared: Option<Arc<dyn SharedStore>>,
    outbox: Option<&Arc<Outbox>>,
) -> StoreSources {
    let backend = match config.store.backend {
        Backend::Embedded => "embedded",
        Backend::Etcd => "etcd",
        Backend::RocksDb => "rocksdb",
    };
    StoreSources { backend, own: own.clone(), shared, outbox: outbox.cloned() }
}

/// What hands the states of workloads over.
pub fn publisher(
    config: &Config,
    own: &Arc<dyn StateStore>,
    status: &Arc<Status>,
    outbox: Option<&Arc<Outbox>>,
) -> Result<Option<Publisher>, DaemonError> {
    let Some(outbox) = outbox else { return Ok(None) };
    let sources = Sources {
        node: config.node.clone(),
        status: Arc::clone(status),
        records: Records::new(Arc::clone(own)),
        store: Arc::clone(own),
        outbox: Arc::clone(outbox),
    };
    Publisher::start(sources).map(Some).map_err(failed("threads"))
}

/// What lies outside of this node.
pub fn outside(
    config: &Config,
    own: &Arc<dyn StateStore>,
    shared: Option<(&Arc<dyn SharedStore>, &Arc<Copies>)>,
    networks: &Arc<NetworkAnswers>,
    threads: &ChannelThreads,
) -> Outside {
    let documents = Arc::new(match shared {
        Some((shared, copies)) => {
            let store = &config.store;
            let (shared, copies) = (Arc::clone(shared), Arc::clone(copies));
            Documents::shared(Arc::clone(own), shared, copies, store.use_copies, store.timeout)
        }
        None => Documents::own(Records::new(Arc::clone(own))),
    });
    let address = |node: &OtherNode| match node.action_controller.as_str() {
        "" => NodeAddress::NodeAgent(node.node_agent.clone()),
        address => NodeAddress::ActionController(address.to_owned()),
    };
    let known = config.nodes.iter().map(|(name, node)| (name.clone(), address(node))).collect();
    let directory = StoreDirectory::new(known, Arc::clone(&documents), config.pullpiri.node_agent_port);
    let clients =
        NodeClients::new(Arc::new(directory), config.pullpiri.timeout, config.pullpiri.start_timeout, threads.clone());
    let pullpiri = &config.pullpiri;
    let pharos = || {
        let called = Called::new("Pharos", &pullpiri.pharos, pullpiri.timeout, threads);
        Pharos::new(called, Arc::clone(networks), pullpiri.network_wait)
    };
    Outside {
        nodes: delegates(config).then(|| Arc::new(clients) as _),
        realtime: desk(config, Records::new(Arc::clone(own)), threads),
        networks: (!pullpiri.pharos.is_empty()).then(|| Arc::new(pharos()) as _),
        documents,
    }
}

/// The desk in front of the scheduler of real-time tasks, where there is one.
fn desk(config: &Config, records: Records, threads: &ChannelThreads) -> Option<Arc<Desk>> {
    let timpani = &config.timpani;
    if timpani.address.is_empty() {
        return None;
    }
    let called = Called::new("TIMPANI", &timpani.address, timpani.timeout, threads);
    let release = match timpani.recovery {
        TimpaniRecovery::Never => Release::Untold,
        TimpaniRecovery::Stop => Release::Stop,
        TimpaniRecovery::Terminate => Release::Terminate,
    };
    let scheduler: Arc<dyn RealtimeScheduler> = match timpani.dialect {
        TimpaniDialect::SchedInfo => Arc::new(Timpani::new(called, release)),
        TimpaniDialect::V1 => Arc::new(TimpaniScheduler::new(called)),
    };
    let rules = Rules { limit: timpani.cpu_limit, merges: timpani.second == SecondSchedule::Merge };
    Some(Arc::new(Desk::new(scheduler, records, rules)))
}

/// Whether workloads of other nodes go to these.
fn delegates(config: &Config) -> bool {
    config.pullpiri.enabled || !config.nodes.is_empty()
}

/// The policy server that is asked beside the rules.
pub fn policy_server(config: &Config, threads: &ChannelThreads) -> Option<Arc<dyn PolicyGate>> {
    let server = &config.policy.server;
    if server.address.is_empty() {
        return None;
    }
    let (name, node) = ("the policy server", config.node.clone());
    Some(match server.dialect {
        PolicyDialect::Pullpiri => {
            let called = Called::new("PolicyManager", &server.address, server.timeout, threads);
            Arc::new(PolicyManager::new(called, node))
        }
        PolicyDialect::V1 => {
            Arc::new(PolicyServer::new(Called::new(name, &server.address, server.timeout, threads), node))
        }
    })
}

/// StateManager, where it is told.
pub fn state_manager(config: &Config, threads: &ChannelThreads) -> Option<Arc<dyn Audience>> {
    let pullpiri = &config.pullpiri;
    let called = || Called::new("StateManager", &pullpiri.state_manager, pullpiri.timeout, threads);
    (!pullpiri.state_manager.is_empty()).then(|| Arc::new(StateManager::new(called())) as _)
}

/// What tells of containers and the node; `None` where nobody is told.
pub fn reporter(
    config: &Config,
    engines: &EngineRegistry,
    own: &Records,
    state_manager: Option<Arc<dyn Audience>>,
    threads: &ChannelThreads,
) -> Result<Option<Reporter>, DaemonError> {
    let pullpiri = &config.pullpiri;
    let mut listeners: Vec<_> = state_manager.map(|listener| (listener, Pace::OnChange)).into_iter().collect();
    if !pullpiri.monitoring_server.is_empty() {
        let called = Called::new("MonitoringServer", &pullpiri.monitoring_server, pullpiri.timeout, threads);
        listeners.push((Arc::new(MonitoringServer::new(called)), Pace::Regularly));
    }
    let agent_port = match pullpiri.report {
        Report::Never => return Ok(None),
        Report::Auto => Some(pullpiri.node_agent_port),
        Report::Always => None,
    };
    if listeners.is_empty() {
        return Ok(None);
    }
    let report = ReportConfig { node: config.node.clone(), every: pullpiri.report_every, agent_port };
    Reporter::start(&report, engines, own, listeners).map(Some).map_err(failed("threads"))
}

/// What acts on missed deadlines, where they are told and there is who holds their Schedules.
pub fn overruns(
    config: &Config,
    outside: &Outside,
    own: &Records,
    faults: Arc<Faults>,
    accept: Accept,
) -> Result<Option<Overruns>, DaemonError> {
    let desk = outside.realtime.as_ref().filter(|_| !config.pullpiri.faults.is_empty());
    let Some(desk) = desk else { return Ok(None) };
    let sources = overruns::Sources {
        node: config.node.clone(),
        faults,
        desk: Arc::clone(desk),
        records: own.clone(),
        documents: Arc::clone(&outside.documents),
        accept,
        cooldown: config.timpani.cooldown,
    };
    Overruns::start(sources).map(Some).map_err(failed("threads"))
}

/// What actions are bound to.
pub fn settings(config: &Config, limits: Limits, ceiling: Ceiling) -> Settings {
    let schedules = match (config.timpani.address.as_str(), config.timpani.absent) {
        ("", AbsentTimpani::Refuse) => Schedules::Refused,
        ("", AbsentTimpani::Warn) => Schedules::Ignored,
        (_, AbsentTimpani::Refuse | AbsentTimpani::Warn) => Schedules::Admitted,
    };
    Settings {
        schedules,
        delegates: delegates(config),
        policy: PolicySettings {
            is_asked: !config.policy.server.address.is_empty(),
            move_to_suggested: config.policy.move_to_suggested,
            end_without: config.policy.end_without_server,
        },
        return_from_silent_node: config.pullpiri.return_from_silent_node,
        ..Settings::alone(config.node.clone(), limits, ceiling)
    }
}
