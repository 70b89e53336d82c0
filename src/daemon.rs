//! The composition root: builds every port, starts threads in order and stops them. Nothing else.
//!
//! Start: store (its lock before anything is bound), shared store, engines, outbox, copies, publisher, teller, reporter,
//! faults, dispatcher, recoveries, restarts, overruns, exclusive CPUs, hub (once its listeners are there), server.
//! Stop: health NOT_SERVING, then what asks for actions by itself (hub, reporter, restarts, overruns) and what looks after
//! CPUs, the dispatcher (workers end or are cancelled at a limit), what tells of their ends (teller, faults, copies,
//! publisher, outbox), and at last the
//! server, so that callers still get their answers.

mod cores;
mod engines;
mod peers;

use std::sync::Arc;
use std::time::Duration;

use crate::action::{Pipeline, Ports, Recovery, Settings, SettingsCell};
use crate::application::cores::{self as core_watch, CoreWatch};
use crate::application::faults::{FaultKeeper, Places};
use crate::application::health::Health;
use crate::application::history::History;
use crate::application::overruns::Overruns;
use crate::application::publish::Publisher;
use crate::application::report::Reporter;
use crate::application::restarts::{self, Accept, Restarts, Timing};
use crate::application::status::Status;
use crate::application::teller::{Teller, changes_of};
use crate::clock::{Clock, Deadline, SystemClock};
use crate::config::Config;
use crate::dispatch::service::Service;
use crate::dispatch::{DispatchConfig, DispatchPorts, Dispatcher, ServiceDesk, Told};
use crate::events::{Hub, HubEvent, Listener};
use crate::grpc::server::{HealthState, Offers, Server, ServerConfig, UnixConfig};
use crate::manifest::Limits;
use crate::policy::builtin::BuiltinPolicy;
use crate::policy::{Chain, PolicyGate};
use crate::security::ceiling::Ceiling;
use crate::storage::StateStore;
use crate::storage::copies::{Copies, CopyKeeper};
use crate::storage::embedded::EmbeddedStore;
use crate::storage::outbox::Outbox;
use crate::storage::published;
use crate::storage::records::Records;
use crate::storage::retention::Retention;
use crate::transport::channel::ChannelThreads;

/// Of the shutdown's time, what undoing cancelled actions may take.
const UNDO_SHARE: u32 = 4;

/// The time that reading the store at start has.
const START_BUDGET: Duration = Duration::from_secs(30);

/// Why the daemon does not start, or a reload is refused: one line.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct DaemonError {
    what: &'static str,
    reason: String,
    /// Files that people write are wrong, rather than the machine not ready: starting again is of no use.
    pub is_configuration: bool,
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> DaemonError {
    move |error| DaemonError { what, reason: error.to_string(), is_configuration: false }
}

/// The rules of the policy folders, which are configuration as much as the settings.
fn policy(config: &Config) -> Result<BuiltinPolicy, DaemonError> {
    let wrong = |error| DaemonError { is_configuration: true, ..failed("policy")(error) };
    BuiltinPolicy::load(&config.policy.folders).map_err(wrong)
}

/// Tells two of what happens on the engines.
fn both(first: impl Fn(&HubEvent) + Send + Sync + 'static, second: Listener) -> Listener {
    Arc::new(move |event| {
        first(&event);
        second(event);
    })
}

/// The running daemon.
pub struct Daemon {
    server: Server,
    health: Arc<HealthState>,
    running: Running,
    settings: Arc<SettingsCell>,
    policy: Arc<BuiltinPolicy>,
    records: Records,
    config: Config,
}

/// What runs beneath the server.
struct Running {
    hub: Hub,
    reporter: Option<Reporter>,
    restarts: Restarts,
    core_watch: CoreWatch,
    overruns: Option<Overruns>,
    dispatcher: Arc<Dispatcher>,
    teller: Teller,
    fault_keeper: FaultKeeper,
    copy_keeper: Option<CopyKeeper>,
    publisher: Option<Publisher>,
    outbox: Option<Arc<Outbox>>,
}

impl Running {
    /// Ends it all; actions under way have `drain` to end, then `undo` to be undone. Gives how many are left.
    fn stop(self, drain: Duration, undo: Duration) -> usize {
        self.hub.stop();
        self.reporter.into_iter().for_each(Reporter::stop);
        self.restarts.stop();
        self.core_watch.stop();
        self.overruns.into_iter().for_each(Overruns::stop);
        let left = self.dispatcher.stop(drain, undo);
        self.teller.stop();
        self.fault_keeper.stop();
        self.copy_keeper.into_iter().for_each(CopyKeeper::stop);
        self.publisher.into_iter().for_each(Publisher::stop);
        self.outbox.iter().for_each(|outbox| outbox.stop());
        left
    }
}

impl Daemon {
    /// Checks what the settings name, without an effect: the rules of the policy folders.
    pub fn check(config: &Config) -> Result<(), DaemonError> {
        policy(config).map(|_| ())
    }

    /// Starts everything. On return requests are taken.
    pub fn start(config: Config) -> Result<Self, DaemonError> {
        let policy = Arc::new(policy(&config)?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let opened = EmbeddedStore::open(&config.state_dir, &Default::default()).map_err(failed("store"))?;
        let own: Arc<dyn StateStore> = Arc::new(opened.store);
        let records = Records::new(Arc::clone(&own));
        let threads = ChannelThreads::start();
        let shared = peers::shared_store(&config, &threads)?;
        let engines = Arc::new(engines::open(&config, &threads)?);
        let nodes = engines::node_services(&config)?;
        let settings = Arc::new(SettingsCell::new(settings(&config)));
        let outbox = peers::outbox(&config, &own, shared.as_ref())?;
        let networks = Arc::default();
        let copies = Arc::new(Copies::new(Arc::clone(&own)));
        let copy_keeper = peers::copy_keeper(&config, shared.as_ref(), &copies)?;
        let keeper = cores::keeper(&config, &engines, &records);
        let outside = peers::outside(&config, &own, shared.as_ref().map(|s| (s, &copies)), &networks, &threads);
        let ports = Ports {
            engines: Arc::clone(&engines),
            records: records.clone(),
            policy: gates(&config, &policy, &threads),
            clock: Arc::clone(&clock),
            settings: Arc::clone(&settings),
            outside: outside.clone(),
            cores: Arc::clone(&keeper),
            outbox: outbox.clone(),
        };
        let history = Arc::new(History::new(records.clone()));
        let ids = history.ids(Deadline::after(START_BUDGET)).map_err(failed("store"))?;
        let status = Arc::new(Status::new(records.clone(), Arc::clone(&engines), Arc::clone(&settings)));
        let publisher = peers::publisher(&config, &own, &status, outbox.as_ref())?;
        let ended = publisher.as_ref().map(|publisher| Arc::new(publisher.waker()) as _);
        let act = Arc::new(Pipeline::new(ports));
        let prune = pruner(&config, &records, outbox.clone(), &clock);
        let state_manager = peers::state_manager(&config, &threads);
        let teller = Teller::start(state_manager.iter().cloned().collect()).map_err(failed("threads"))?;
        let reporter = peers::reporter(&config, &engines, &records, state_manager, &threads)?;
        let places = Places { node: config.node.clone(), records: records.clone(), outbox: outbox.clone() };
        let fault_keeper = FaultKeeper::start(places).map_err(failed("threads"))?;
        let (told, faults) = (Some(told(&teller, &clock)), fault_keeper.faults());
        let missed = Arc::clone(&faults);
        let stores = peers::stores(&config, &records, shared, outbox.as_ref());
        let health = Health::new(config.node.clone(), Arc::clone(&engines), stores, Arc::clone(&faults));
        let health = Arc::new(health);
        let dispatch_ports = DispatchPorts {
            act,
            status,
            history,
            health,
            clock: Arc::clone(&clock),
            prune,
            told,
            ended,
            faults,
            networks,
            cores: Arc::clone(&keeper),
        };
        let dispatcher = Dispatcher::start(dispatch_config(&config), dispatch_ports).map_err(failed("threads"))?;
        let dispatcher = Arc::new(dispatcher);
        dispatcher.note_ended(ids);
        let sources = cores::sources(&config, &keeper, &engines, &records, &clock);
        cores::repair(&sources);
        recover(&dispatcher, &records)?;
        let (listener, events) = restarts::events();
        let timing = Timing { first: config.actions.restart_after, most: config.actions.restart_after_most };
        let restarts =
            Restarts::start(events, accept(&dispatcher), records.clone(), timing).map_err(failed("threads"))?;
        let overruns = peers::overruns(&config, &outside, &records, missed, accept(&dispatcher))?;
        let listener = match &reporter {
            Some(reporter) => both(reporter.waker(), listener),
            None => listener,
        };
        let listener = both(core_watch::waker(&keeper), listener);
        let core_watch = CoreWatch::start(sources).map_err(failed("threads"))?;
        let hub = Hub::start(&engines, &config.node, &listener).map_err(failed("threads"))?;
        let health = Arc::new(HealthState::default());
        let pullpiri = config.pullpiri.enabled.then(|| Arc::clone(&dispatcher) as _);
        let services = Arc::new(ServiceDesk { dispatcher: Arc::clone(&dispatcher), nodes });
        let offers = Offers { service: Arc::clone(&dispatcher) as _, pullpiri, services };
        let server = Server::start(&server_config(&config), offers, Arc::clone(&health), clock);
        let running = Running {
            hub,
            reporter,
            restarts,
            core_watch,
            overruns,
            dispatcher,
            teller,
            fault_keeper,
            copy_keeper,
            publisher,
            outbox,
        };
        match server {
            Ok(server) => Ok(Self { server, health, running, settings, policy, records, config }),
            Err(error) => {
                running.stop(Duration::ZERO, Duration::from_secs(1));
                Err(failed("listening")(error))
            }
        }
    }

    /// Where requests are taken: the unix socket, and TCP addresses with their ports as bound.
    pub fn addresses(&self) -> Vec<String> {
        let unix = &self.config.listen.unix;
        let unix = (!unix.as_os_str().is_empty()).then(|| format!("unix://{}", unix.display()));
        unix.into_iter().chain(self.server.tcp_addresses().iter().cloned()).collect()
    }

    /// One line for the supervisor and the log.
    pub fn describe(&self) -> String {
        format!("node '{}', {} actions under way", self.config.node, self.running.dispatcher.active())
    }

    /// A check for the watchdog: whether the store answers.
    pub fn health_check(&self) -> impl Fn() -> Result<(), String> + Send + 'static {
        let records = self.records.clone();
        move || records.check(Deadline::after(Duration::from_secs(2))).map_err(|error| error.to_string())
    }

    /// Puts in force what can be changed while the daemon runs, and says which changed keys need a restart. An error
    /// leaves everything as it was.
    pub fn reload(&mut self, new: Config) -> Result<Vec<String>, DaemonError> {
        self.policy.reload(&new.policy.folders).map_err(failed("policy"))?;
        let difference = self.config.reloadable_difference(&new);
        self.running.dispatcher.set_deadlines(new.actions.default_deadline, new.actions.max_deadline);
        crate::logging::set_level(new.log.level);
        self.config = self.config.with_reloadable(&new);
        // Of what is in force now: paths that wait for a restart are still the old ones.
        self.settings.set(settings(&self.config));
        Ok(difference.at_restart)
    }

    /// Ends within the configured time. Containers go on.
    pub fn stop(self) {
        self.health.not_serving();
        let limit = self.config.shutdown.drain;
        let undo = limit / UNDO_SHARE;
        let left = self.running.stop(limit.saturating_sub(undo), undo);
        if left > 0 {
            log::warn!("{left} actions did not end in time; the next start ends them");
        }
        let counted = self.records.stats();
        log::info!("the store made {} commits with {} syncs since the start", counted.commits, counted.syncs);
        self.server.stop(Duration::from_secs(1));
    }
}

fn settings(config: &Config) -> Settings {
    let bytes = usize::try_from(config.limits.message_bytes).unwrap_or(usize::MAX);
    let limits = Limits {
        max_bytes: bytes,
        max_documents: config.limits.documents,
        max_containers: config.limits.containers,
        ..Limits::default()
    };
    peers::settings(config, limits, ceiling(config))
}

/// The ceiling as configured; this daemon's own folders and sockets are above it wherever they are.
fn ceiling(config: &Config) -> Ceiling {
    let mut ceiling = config.security.clone();
    let engines = engines::governing_paths(config);
    let own = [&config.state_dir, &config.listen.unix].into_iter().chain(&engines);
    let own = own.chain(&config.policy.folders).filter(|path| !path.as_os_str().is_empty());
    ceiling.denied_host_paths.extend(own.map(|path| path.display().to_string()));
    ceiling
}

fn dispatch_config(config: &Config) -> DispatchConfig {
    let dispatch = &config.dispatch;
    DispatchConfig {
        workers: dispatch.workers,
        urgent_workers: dispatch.urgent_workers,
        readers: dispatch.readers,
        long_reads: config.limits.streams_unix + config.limits.streams_per_peer,
        urgent_queue: dispatch.urgent_queue,
        normal_queue: dispatch.normal_queue,
        default_deadline: config.actions.default_deadline,
        max_deadline: config.actions.max_deadline,
    }
}

fn server_config(config: &Config) -> ServerConfig {
    let listen = &config.listen;
    let unix = (!listen.unix.as_os_str().is_empty()).then(|| UnixConfig {
        path: listen.unix.clone(),
        mode: listen.unix_mode.0,
        group: listen.unix_group.clone(),
    });
    ServerConfig {
        unix,
        tcp: listen.tcp.clone(),
        insecure: listen.insecure,
        max_message_bytes: u32::try_from(config.limits.message_bytes).unwrap_or(u32::MAX),
        streams_per_peer: config.limits.streams_per_peer,
        streams_unix: config.limits.streams_unix,
        faults: config.pullpiri.faults.clone(),
        ..ServerConfig::default()
    }
}

/// Forgets old outcomes, in the shared store as well.
fn pruner(
    config: &Config,
    records: &Records,
    outbox: Option<Arc<Outbox>>,
    clock: &Arc<dyn Clock>,
) -> crate::dispatch::Prune {
    let node = config.node.clone();
    let forgotten = move |id: &str| {
        let told = outbox.as_ref().map(|outbox| outbox.put_state(&published::action(&node, id), None));
        if let Some(Err(error)) = told {
            crate::limited!(log::Level::Warn, "the shared store keeps the outcome of action '{id}': {error}");
        }
    };
    let (records, clock) = (records.clone(), Arc::clone(clock));
    let age_ms = u64::try_from(config.actions.keep_for.as_millis()).unwrap_or(u64::MAX);
    let retention = Retention::new(config.actions.keep_outcomes, age_ms);
    Box::new(move |count, deadline| Ok(retention.recorded(&records, count, clock.now_ms(), &forgotten, deadline)?))
}

/// The rules, and the policy server where one is configured.
fn gates(config: &Config, rules: &Arc<BuiltinPolicy>, threads: &ChannelThreads) -> Arc<dyn PolicyGate> {
    let mut gates = vec![Arc::clone(rules) as _];
    gates.extend(peers::policy_server(config, threads));
    Arc::new(Chain::new(gates))
}

/// What tells the audiences of a triggered action.
fn told(teller: &Teller, clock: &Arc<dyn Clock>) -> Told {
    let (tell, clock) = (teller.tell(), Arc::clone(clock));
    Arc::new(move |scenario, outcome| {
        let now_ns = i64::try_from(clock.now_ms().saturating_mul(1_000_000)).unwrap_or(i64::MAX);
        changes_of(scenario, outcome, now_ns).iter().for_each(&tell);
    })
}

/// What actions are asked for with that nobody waits for.
fn accept(dispatcher: &Arc<Dispatcher>) -> Accept {
    let service = Arc::clone(dispatcher);
    // Whoever drops the answer ends only the wait.
    Box::new(move |request| drop(service.accept(request)))
}

/// Hands on what the last run left under way.
fn recover(dispatcher: &Dispatcher, records: &Records) -> Result<(), DaemonError> {
    let deadline = Deadline::after(START_BUDGET);
    let intents = records.intents(deadline).map_err(failed("store"))?;
    let repairs = records.repairs(deadline).map_err(failed("store"))?;
    for damaged in intents.damaged.iter().chain(&repairs.damaged) {
        log::error!("an interrupted action is neither finished nor undone: {damaged}");
    }
    let (intents, repairs) = (intents.whole, repairs.whole);
    if !intents.is_empty() || !repairs.is_empty() {
        log::warn!("{} actions were interrupted, {} are to be undone still", intents.len(), repairs.len());
    }
    let recoveries = intents.into_iter().map(|intent| (intent, false)).chain(repairs.into_iter().map(|r| (r, true)));
    for (intent, is_repair) in recoveries {
        dispatcher.recover(Recovery { intent: intent.value, is_repair, tries: 0 });
    }
    Ok(())
}
