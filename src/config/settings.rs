//! Every setting with its default. `config/actioncontroller.yaml` is the same for people; a test keeps them equal.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::runtimes::Runtimes;
use super::units;
use crate::model::cores::CpuSet;
use crate::security::ceiling::Ceiling;

/// All settings. Sections by what they concern.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The name of this node, which labels and records carry. Empty in a file: the host name, which
    /// [`Config::load`](super::Config::load) puts here.
    pub node: String,
    /// Where requests are taken.
    pub listen: Listen,
    /// Where the embedded store keeps its files.
    pub state_dir: PathBuf,
    /// Log output.
    pub log: Log,
    /// Threads and queues.
    pub dispatch: Dispatch,
    /// Time limits of actions, and how long their outcomes are kept.
    pub actions: Actions,
    /// Bounds on what one caller may ask.
    pub limits: Limits,
    /// Container engines.
    pub runtimes: Runtimes,
    /// Checkpoints of containers.
    pub hibernation: Hibernation,
    /// CPUs that workloads may have alone.
    pub realtime: Realtime,
    /// The daemon's end.
    pub shutdown: Shutdown,
    /// Where documents and desired state live.
    pub store: Store,
    /// Rules on who may do what.
    pub policy: Policy,
    /// What documents may ask for at most.
    pub security: Ceiling,
    /// This node's place in an installation of Eclipse Pullpiri.
    pub pullpiri: Pullpiri,
    /// How other nodes are reached, by their names; those that are not named, by Pullpiri's store and NodeAgent.
    pub nodes: BTreeMap<String, OtherNode>,
    /// The scheduler of real-time tasks.
    pub timpani: Timpani,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            node: String::new(),
            listen: Listen::default(),
            state_dir: "/var/lib/actioncontroller".into(),
            log: Log::default(),
            dispatch: Dispatch::default(),
            actions: Actions::default(),
            limits: Limits::default(),
            runtimes: Runtimes::default(),
            hibernation: Hibernation::default(),
            realtime: Realtime::default(),
            shutdown: Shutdown::default(),
            store: Store::default(),
            policy: Policy::default(),
            security: Ceiling::default(),
            pullpiri: Pullpiri::default(),
            nodes: BTreeMap::new(),
            timpani: Timpani::default(),
        }
    }
}

/// Where requests are taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Listen {
    /// Path of the unix socket; empty: none.
    pub unix: PathBuf,
    /// Permissions of the socket.
    pub unix_mode: FileMode,
    /// Group that owns the socket; empty: the daemon's own.
    pub unix_group: String,
    /// TCP addresses, `host:port`; port 0 takes a free one.
    pub tcp: Vec<String>,
    /// Allow `tcp` addresses that other machines reach, although nothing is encrypted and no caller is known there.
    pub insecure: bool,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            unix: "/run/actioncontroller/actioncontroller.sock".into(),
            unix_mode: FileMode(0o660),
            unix_group: String::new(),
            tcp: Vec::new(),
            insecure: false,
        }
    }
}

/// A file mode, written as a quoted octal number (`"0660"`): unquoted, YAML takes it for a decimal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileMode(pub u32);

impl TryFrom<String> for FileMode {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let digits = matches!(text.len(), 3 | 4) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
        match u32::from_str_radix(&text, 8) {
            Ok(mode) if digits && mode <= 0o777 => Ok(Self(mode)),
            Ok(_) | Err(_) => Err(format!("must be a quoted octal mode such as \"0660\", not '{text}'")),
        }
    }
}

impl From<FileMode> for String {
    fn from(mode: FileMode) -> Self {
        format!("{:04o}", mode.0)
    }
}

/// Log output.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The least severe level that is written.
    pub level: LogLevel,
}

/// How severe a line of the log is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Someone has to act.
    Error,
    /// Something is not as it should be; the daemon goes on.
    Warn,
    /// One line per action, start, end and change of settings.
    #[default]
    Info,
    /// Each step, for finding faults.
    Debug,
    /// Each message to and from engines.
    Trace,
}

/// Threads and queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dispatch {
    /// Threads that run actions, `urgent_workers` among them.
    pub workers: usize,
    /// Of these, how many take nothing but stop, kill, remove and terminate.
    pub urgent_workers: usize,
    /// Threads for lists, logs, exec, stats and waits.
    pub readers: usize,
    /// Actions that may wait in the urgent lane.
    pub urgent_queue: usize,
    /// Actions that may wait in the normal lane.
    pub normal_queue: usize,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self { workers: 4, urgent_workers: 1, readers: 8, urgent_queue: 256, normal_queue: 256 }
    }
}

/// Time limits of actions, and how long their outcomes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Actions {
    /// The time of an action that names none.
    #[serde(with = "units::duration")]
    pub default_deadline: Duration,
    /// The longest time that an action may name.
    #[serde(with = "units::duration")]
    pub max_deadline: Duration,
    /// Outcomes kept at most; the oldest go first.
    pub keep_outcomes: usize,
    /// How long an outcome is kept.
    #[serde(with = "units::duration")]
    pub keep_for: Duration,
    /// After how long a container that has ended is started again, where its document asks for it; each further time
    /// takes twice as long.
    #[serde(with = "units::duration")]
    pub restart_after: Duration,
    /// The longest such time.
    #[serde(with = "units::duration")]
    pub restart_after_most: Duration,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            default_deadline: Duration::from_secs(10 * 60),
            max_deadline: Duration::from_secs(24 * 3600),
            keep_outcomes: 10_000,
            keep_for: Duration::from_secs(7 * 24 * 3600),
            restart_after: Duration::from_secs(10),
            restart_after_most: Duration::from_secs(300),
        }
    }
}

/// Bounds on what one caller may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Bytes of one gRPC message.
    #[serde(with = "units::size")]
    pub message_bytes: u64,
    /// Documents in one manifest.
    pub documents: usize,
    /// Containers in one manifest, over all its workloads.
    pub containers: usize,
    /// Open streams of one TCP peer address.
    pub streams_per_peer: usize,
    /// Open streams on the unix socket, over all its callers.
    pub streams_unix: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message_bytes: 4 << 20, documents: 256, containers: 256, streams_per_peer: 32, streams_unix: 64 }
    }
}

/// Rules on who may do what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Policy {
    /// Folders with files of rules; those of later folders mask earlier ones of the same name.
    pub folders: Vec<PathBuf>,
    /// A policy server that is asked beside the rules.
    pub server: PolicyServer,
    /// Use the node that a refusal suggests.
    pub move_to_suggested: bool,
    /// Whether stop, kill, remove and terminate go on while the policy server does not answer.
    pub end_without_server: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            folders: vec!["/usr/lib/actioncontroller/policy.d".into(), "/etc/actioncontroller/policy.d".into()],
            server: PolicyServer::default(),
            move_to_suggested: false,
            end_without_server: true,
        }
    }
}

/// A policy server that is asked beside the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyServer {
    /// Where it is, `host:port` or `unix:///path`; empty: none is asked.
    pub address: String,
    /// What it is asked.
    pub dialect: PolicyDialect,
    /// How long it has for an answer.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

impl Default for PolicyServer {
    fn default() -> Self {
        Self { address: String::new(), dialect: PolicyDialect::default(), timeout: Duration::from_secs(2) }
    }
}

/// What a policy server is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PolicyDialect {
    /// Pullpiri's `CheckNodePolicy`, for launch, update and offload of a Package that names a Policy.
    #[default]
    Pullpiri,
    /// Our own `ValidateAction`, for everything.
    V1,
}

/// This node's place in an installation of Eclipse Pullpiri.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pullpiri {
    /// Serve `actioncontroller.ActionControllerConnection`, and send models of other nodes to these.
    pub enabled: bool,
    /// StateManager's `host:port`; empty: it is not told.
    pub state_manager: String,
    /// MonitoringServer's `host:port`; empty: it is not told.
    pub monitoring_server: String,
    /// Pharos' `host:port`; empty: no network is asked for.
    pub pharos: String,
    /// How long Pharos has to say that a network it took on is set; zero does not wait for it.
    #[serde(with = "units::duration")]
    pub network_wait: Duration,
    /// The port of NodeAgent on every node.
    pub node_agent_port: u16,
    /// Whether container lists and node information are sent.
    pub report: Report,
    /// Between two of them.
    #[serde(with = "units::duration")]
    pub report_every: Duration,
    /// Where TIMPANI's faults are taken, `host:port`; empty: nowhere.
    pub faults: String,
    /// Start a model on its old node although the new one does not answer and may run it.
    pub return_from_silent_node: bool,
    /// How long a peer has for an answer.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// How long another node has to start a model, with the pull of its image.
    #[serde(with = "units::duration")]
    pub start_timeout: Duration,
}

impl Default for Pullpiri {
    fn default() -> Self {
        Self {
            enabled: false,
            state_manager: String::new(),
            monitoring_server: String::new(),
            pharos: String::new(),
            network_wait: Duration::from_secs(30),
            node_agent_port: 47004,
            report: Report::default(),
            report_every: Duration::from_secs(1),
            faults: String::new(),
            return_from_silent_node: false,
            timeout: Duration::from_secs(5),
            start_timeout: Duration::from_secs(120),
        }
    }
}

/// Whether container lists and node information are sent to StateManager and MonitoringServer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Report {
    /// While no NodeAgent answers on this node, which would report by itself.
    #[default]
    Auto,
    /// Whatever else reports.
    Always,
    /// Not at all.
    Never,
}

/// How another node is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtherNode {
    /// Its NodeAgent's `host:port`.
    pub node_agent: String,
    /// Its own Action Controller's `host:port` or `unix:///path`, which is asked instead.
    pub action_controller: String,
}

/// The scheduler of real-time tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timpani {
    /// The `host:port` of timpani-o, or of a scheduler of our own kind; empty: there is none.
    pub address: String,
    /// What it speaks.
    pub dialect: TimpaniDialect,
    /// What a Package with a Schedule comes to where there is none.
    pub absent: AbsentTimpani,
    /// What a Schedule comes to while another one is held.
    pub second: SecondSchedule,
    /// What tasks may use of a CPU, percent.
    pub cpu_limit: u32,
    /// What timpani-o is told of tasks that nobody needs any more.
    pub recovery: TimpaniRecovery,
    /// How long after missed deadlines have led to an action on a workload others can.
    #[serde(with = "units::duration")]
    pub cooldown: Duration,
    /// How long it has for an answer.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
}

impl Default for Timpani {
    fn default() -> Self {
        Self {
            address: String::new(),
            dialect: TimpaniDialect::default(),
            absent: AbsentTimpani::default(),
            second: SecondSchedule::default(),
            cpu_limit: 90,
            recovery: TimpaniRecovery::default(),
            cooldown: Duration::from_secs(30),
            timeout: Duration::from_secs(2),
        }
    }
}

/// What a scheduler of real-time tasks speaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimpaniDialect {
    /// Eclipse TIMPANI's `schedinfo.v1`.
    #[default]
    SchedInfo,
    /// This daemon's own `timpani.v1`.
    V1,
}

/// What a Schedule comes to while another one is held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SecondSchedule {
    /// It is refused with the first one's name.
    #[default]
    Refuse,
    /// Its tasks are handed over with those of the first, under the first one's name.
    Merge,
}

/// What timpani-o is told of tasks that nobody needs any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimpaniRecovery {
    /// Nothing: most have no call for it.
    #[default]
    Never,
    /// To stop them (`RecoveryService`).
    Stop,
    /// To terminate them.
    Terminate,
}

/// What a Package with a Schedule comes to where no TIMPANI is configured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AbsentTimpani {
    /// It is refused.
    #[default]
    Refuse,
    /// It runs without real time, with a warning.
    Warn,
}

/// Checkpoints of containers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hibernation {
    /// Where they are kept, as far as an engine has no place of its own; empty: `checkpoints` below `state_dir`.
    pub folder: PathBuf,
    /// The most bytes that the checkpoints of one engine take.
    #[serde(with = "units::size")]
    pub max_bytes: u64,
    /// How long one checkpoint may take.
    #[serde(with = "units::duration")]
    pub checkpoint_timeout: Duration,
    /// How long one restore may take, after which it is ended with all that it has started.
    #[serde(with = "units::duration")]
    pub restore_timeout: Duration,
}

/// CPUs that workloads may have alone, as lists such as `0-3,6`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Realtime {
    /// Those of the system: never handed out.
    pub reserved_cpus: CpuSet,
    /// Those that are handed out; empty: those that the kernel isolates or, where it isolates none, all.
    pub isolated_cpus: CpuSet,
}

impl Default for Realtime {
    fn default() -> Self {
        Self { reserved_cpus: CpuSet::from_iter([0]), isolated_cpus: CpuSet::new() }
    }
}

impl Default for Hibernation {
    fn default() -> Self {
        Self {
            folder: PathBuf::new(),
            max_bytes: 2 << 30,
            checkpoint_timeout: Duration::from_secs(120),
            restore_timeout: Duration::from_secs(60),
        }
    }
}

/// The daemon's end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shutdown {
    /// How long running actions may go on after SIGTERM before they are cancelled.
    #[serde(with = "units::duration")]
    pub drain: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { drain: Duration::from_secs(20) }
    }
}

/// Where documents and desired state live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// Which store.
    pub backend: Backend,
    /// Launch from the last good copies of documents while the store does not answer.
    pub use_copies: bool,
    /// How long one call to the store may take.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// etcd.
    pub etcd: Etcd,
    /// Pullpiri's RocksDbService.
    pub rocksdb: RocksDb,
    /// What waits for the store while it does not answer.
    pub backlog: Backlog,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            backend: Backend::default(),
            use_copies: true,
            timeout: Duration::from_secs(2),
            etcd: Etcd::default(),
            rocksdb: RocksDb::default(),
            backlog: Backlog::default(),
        }
    }
}

/// Kinds of store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The node's own, below `state_dir`.
    #[default]
    Embedded,
    /// etcd version 3.
    Etcd,
    /// Pullpiri's RocksDbService.
    RocksDb,
}

/// etcd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Etcd {
    /// Members, `host:port`; the next one is tried where one does not answer.
    pub endpoints: Vec<String>,
    /// The user; empty: no authentication.
    pub user: String,
    /// A file with the user's password on its first line.
    pub password_file: PathBuf,
    /// A file with the certificates of the authorities that are trusted; empty: connections are plain.
    pub ca_file: PathBuf,
    /// A file with this node's certificate; empty: none is shown.
    pub cert_file: PathBuf,
    /// A file with the certificate's key.
    pub key_file: PathBuf,
    /// The name in the server's certificate; empty: the endpoint's host.
    pub server_name: String,
    /// How long this node counts as alive after its last sign.
    #[serde(with = "units::duration")]
    pub lease: Duration,
}

impl Default for Etcd {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".into()],
            user: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            cert_file: PathBuf::new(),
            key_file: PathBuf::new(),
            server_name: String::new(),
            lease: Duration::from_secs(30),
        }
    }
}

/// Pullpiri's RocksDbService.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RocksDb {
    /// Its `host:port`.
    pub address: String,
}

impl Default for RocksDb {
    fn default() -> Self {
        Self { address: "127.0.0.1:47007".into() }
    }
}

/// What waits for the store while it does not answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backlog {
    /// Entries that wait at most before launches and the like are refused.
    pub entries: usize,
    /// Entries beyond these for the outcomes of stop, kill, remove and terminate.
    pub reserve: usize,
}

impl Default for Backlog {
    fn default() -> Self {
        Self { entries: 1000, reserve: 200 }
    }
}
