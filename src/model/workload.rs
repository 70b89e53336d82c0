//! Workloads: what documents describe and engines run. A workload is one or more containers that belong together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::cores::CoreRequest;
use super::resources::Resources;
use super::security::SecurityContext;

/// Labels by which containers, pods, networks and volumes are known as ours.
pub mod labels {
    /// The node whose Action Controller made it.
    pub const NODE: &str = "actioncontroller.io/node";
    /// The workload.
    pub const WORKLOAD: &str = "actioncontroller.io/workload";
    /// The container's name within the workload.
    pub const CONTAINER: &str = "actioncontroller.io/container";
    /// The workload's revision.
    pub const REVISION: &str = "actioncontroller.io/revision";
    /// `init` on init containers.
    pub const ROLE: &str = "actioncontroller.io/role";
    /// The action that created it.
    pub const ACTION: &str = "actioncontroller.io/action";
    /// An annotation, seen on what runs because it was woken: its processes are others than those that were started.
    pub const WOKEN: &str = "actioncontroller.io/woken";
    /// An annotation, seen on what is hibernated by a checkpoint that was not finished: it may be of no use.
    pub const UNFINISHED: &str = "actioncontroller.io/checkpoint-unfinished";
    /// An annotation of documents: what a wake does whose checkpoint is of no use.
    pub const WAKE_FALLBACK: &str = "actioncontroller.io/wake-fallback";
    /// Its one value beside `none`: the containers are started anew.
    pub const COLD_START: &str = "cold-start";
    /// Every label or annotation of ours starts like this.
    pub const PREFIX: &str = "actioncontroller.io/";
}

/// A workload as asked for: the result of reading documents, independent of any engine.
///
/// It is stored, and its JSON form is what its fingerprint is taken of. So a field that is added, here or below, has
/// `serde(default, skip_serializing_if)`: older records are read, and equal documents keep their fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkloadSpec {
    /// Unique on the node; a DNS label or subdomain (lower case, digits, `-`, `.`), at most 63 characters.
    pub name: String,
    /// The Package it belongs to; empty for none.
    pub package: String,
    /// The Scenario that the Package was launched by; empty for none.
    pub scenario: String,
    /// The Policy document named by the Package; empty for none.
    pub policy: String,
    /// The node that the document names; empty for none.
    pub node: String,
    /// The engine that the document names by annotation; empty for none.
    pub engine: String,
    /// Whether no other engine will do.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub engine_required: bool,
    /// The document's format, by which an engine may be preferred.
    pub format: ManifestFormat,
    /// Labels of the document.
    pub labels: BTreeMap<String, String>,
    /// Annotations of the document.
    pub annotations: BTreeMap<String, String>,
    /// What network the containers are in.
    pub network: NetworkMode,
    /// The host name inside; empty takes the workload's name.
    pub hostname: String,
    /// Share the host's inter-process communication namespace.
    pub host_ipc: bool,
    /// Share the host's process namespace.
    pub host_pid: bool,
    /// Run to completion in order before the others start.
    pub init_containers: Vec<ContainerSpec>,
    /// Run together.
    pub containers: Vec<ContainerSpec>,
    /// Volumes that the containers mount, by name.
    pub volumes: BTreeMap<String, VolumeSource>,
    /// When a container that ended is to be started again.
    pub restart_policy: RestartPolicy,
    /// Between SIGTERM and SIGKILL, milliseconds; `None` takes the default of 10 s.
    pub grace_ms: Option<u64>,
    /// Names beside its own by which members of its named networks find it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<String>,
    /// What has to be before its containers start, where one action starts both. An action that ends both ends this one
    /// first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// CPUs that it has alone while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cores: Option<CoreRequest>,
    /// Of a workload that runs on another node: what that one is given. `None`: it runs on this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<Delegate>,
}

/// What a workload waits for before it starts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    /// The other workload.
    pub workload: String,
    /// How far it has to be.
    pub until: Until,
}

/// How far a workload has to be before what depends on it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Until {
    /// Its containers are started.
    Started,
    /// Its containers have ended with code 0.
    Completed,
}

/// A workload's place on another node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delegate {
    /// The node.
    pub node: String,
    /// The Pod document that the node gets, without annotations that tell where it comes from.
    pub document: String,
}

impl WorkloadSpec {
    /// The engine's name of a container of this workload. Pullpiri calls it the same.
    pub fn container_name(&self, container: &str) -> String {
        format!("{}_{container}", self.name)
    }

    /// The node that it runs on, where that is another one.
    pub fn other_node(&self) -> Option<&str> {
        self.delegate.as_ref().map(|delegate| delegate.node.as_str())
    }

    /// The engine's name of a volume that lives with this workload.
    pub fn volume_name(&self, volume: &str) -> String {
        format!("{}_{volume}", self.name)
    }

    /// Whether the containers share one network namespace that is not the host's, for which a pod is made.
    pub fn needs_pod(&self) -> bool {
        self.containers.len() + self.init_containers.len() > 1 && self.network != NetworkMode::Host
    }

    /// All containers, init containers first.
    pub fn all_containers(&self) -> impl Iterator<Item = &ContainerSpec> {
        self.init_containers.iter().chain(&self.containers)
    }
}

/// The form of the document that a workload was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ManifestFormat {
    /// Kubernetes Pod or Deployment.
    Kubernetes,
    /// Pullpiri Model or Package.
    Pullpiri,
    /// Docker Compose.
    Compose,
    /// `config.json` of an OCI bundle.
    Bundle,
    /// A systemd unit file.
    Unit,
}

/// When the daemon starts a container again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// After a code other than 0.
    OnFailure,
    /// Not at all.
    Never,
}

/// The network of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "mode", content = "networks")]
pub enum NetworkMode {
    /// Loopback only.
    None,
    /// The host's own.
    Host,
    /// The engine's default bridge.
    Bridge,
    /// Named networks, made on demand and removed with their last member.
    Named(Vec<String>),
}

/// One container of a workload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Unique within the workload.
    pub name: String,
    /// The image's reference; empty where `rootfs` or `unit` stand in its place.
    pub image: String,
    /// A folder of the node, absolute, that is the root file system in place of an image; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub rootfs: String,
    /// The text of a systemd unit file that the container is, in place of an image and a command; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unit: String,
    /// When the image is fetched.
    pub pull: PullPolicy,
    /// Replaces the image's entry point; empty keeps it.
    pub command: Vec<String>,
    /// Replaces the image's arguments; empty keeps them, or drops them where `command` is given.
    pub args: Vec<String>,
    /// Absolute; empty takes the image's.
    pub working_dir: String,
    /// Environment, in the document's order.
    pub env: Vec<EnvVar>,
    /// Published ports.
    pub ports: Vec<PortSpec>,
    /// Mounts.
    pub mounts: Vec<MountSpec>,
    /// Device nodes of the host, passed as they are.
    pub devices: Vec<DeviceSpec>,
    /// Limits.
    pub resources: Resources,
    /// Security settings.
    pub security: SecurityContext,
    /// Keep standard input open.
    pub stdin: bool,
    /// A terminal; stdout and stderr are one stream then.
    pub tty: bool,
    /// The liveness probe. Kept; does not act yet.
    pub liveness: Option<ProbeSpec>,
}

/// When an image is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PullPolicy {
    /// Where it is absent.
    #[default]
    IfNotPresent,
    /// Each time.
    Always,
    /// Never; absent is an error.
    Never,
}

/// One environment variable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnvVar {
    /// The variable's name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A port of the container, published where `host_port` is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortSpec {
    /// The host's address; empty is all.
    pub host_ip: String,
    /// The host's port; `None` does not publish.
    pub host_port: Option<u16>,
    /// The container's port.
    pub container_port: u16,
    /// Transport.
    pub protocol: Protocol,
}

/// Transport of a published port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// A volume mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountSpec {
    /// The volume's name within the workload.
    pub volume: String,
    /// Absolute path inside.
    pub path: String,
    /// Path within the volume; empty is its root.
    pub sub_path: String,
    /// Writes are refused.
    pub read_only: bool,
}

/// A device node of the host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// The host's path.
    pub host_path: String,
    /// The path inside.
    pub path: String,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// Where a volume's content is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "source")]
pub enum VolumeSource {
    /// A path of the host.
    HostPath {
        /// Absolute.
        path: String,
        /// What has to be there.
        kind: HostPathKind,
    },
    /// Made with the workload, deleted with it.
    EmptyDir {
        /// In memory.
        memory: bool,
        /// At most this many bytes; in memory only.
        size_limit_bytes: Option<u64>,
    },
    /// A volume of the engine's by its own name; outlives the workload.
    Named {
        /// The volume's name.
        name: String,
    },
}

/// What a host path has to be, as Kubernetes' `hostPath.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HostPathKind {
    /// Not looked at; the engine refuses what is absent.
    Any,
    /// A folder, made where absent.
    DirectoryOrCreate,
    /// A folder.
    Directory,
    /// A file, made where absent.
    FileOrCreate,
    /// A file.
    File,
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// A liveness probe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// How it asks.
    pub action: ProbeAction,
    /// Before the first, seconds.
    pub initial_delay_s: u32,
    /// Between two, seconds.
    pub period_s: u32,
    /// For an answer, seconds.
    pub timeout_s: u32,
    /// Failures in a row that count as unhealthy.
    pub failure_threshold: u32,
}

/// How a probe asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeAction {
    /// GET on a port of the container.
    Http {
        /// The path.
        path: String,
        /// The port.
        port: u16,
    },
    /// A connection to a port.
    Tcp {
        /// The port.
        port: u16,
    },
    /// A command inside.
    Exec {
        /// The command.
        command: Vec<String>,
    },
}
