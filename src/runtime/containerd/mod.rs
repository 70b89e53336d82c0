//! containerd through its gRPC API on a unix socket (1.6 and later), in a namespace of our own.
//!
//! [`Containerd`] is the door; of the other files `client` asks, `documents` reads what images say, `content`, `image` and
//! `unpack` make root file systems of them, `record` has containers as containerd keeps them, and the rest is one verb or
//! one kind of object each. Enters: what is containerd's. Stays out: policy, plans, gRPC itself
//! ([`crate::transport::channel`]), and what the OCI runtime specification says ([`crate::runtime::specification`]).
//!
//! What is ours is known by the label [`labels::NODE`](crate::model::workload::labels::NODE) with this node's name: anything
//! else of the same name is `AlreadyExists` and is never changed or deleted. containerd keeps no output and has no volumes:
//! both are folders below a folder of this daemon's, which the shims see as well. Networks are the host's or none.
//!
//! ```text
//! DIR/containers/ID/log      output, written by the logger (runtime::logfile::logger)
//! DIR/containers/ID/exec-…   pipes of commands inside
//! DIR/volumes/               volumes
//! DIR/roots/                 where root file systems are looked at
//! ```

mod checkpoint;
mod client;
mod content;
mod create;
mod documents;
mod events;
mod exec;
mod image;
mod lifecycle;
mod logs;
mod probe;
mod proof;
mod record;
mod resize;
mod unpack;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use self::client::{Client, Scope};
use super::adapter::{
    BlockingStream, Call, Change, CheckpointImage, CheckpointOptions, ContainerConfig, ContainerInstance,
    ContainerStats, EngineEvent, ExecOutcome, Leftovers, ListFilter, LogChunk, LogOptions, Probe, RestoreTo, RtResult,
    RuntimeAdapter, RuntimeCapabilities, RuntimeError, StopOptions, VolumeSpec,
};
use super::logfile::logger;
use super::shared::calls::not_allowed;
use super::shared::usage;
use super::shared::volumes::Volumes;
use crate::cgroup::Cgroups;
use crate::model::resources::Resources;
use crate::model::workload::PullPolicy;
use crate::transport::channel::ChannelThreads;

/// The engine's name.
const ENGINE: &str = "containerd";

/// Death by SIGKILL as an exit code.
const KILLED: i32 = 137;

/// Where it listens usually.
pub const SOCKET: &str = "/run/containerd/containerd.sock";

/// How containerd is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerdConfig {
    /// Its socket.
    pub socket: PathBuf,
    /// The namespace of all that is made.
    pub namespace: String,
    /// This node's name, the value of [`labels::NODE`](crate::model::workload::labels::NODE) on all that is made.
    pub node: String,
    /// A folder of our own, absolute, that containerd and its shims see as well.
    pub dir: PathBuf,
    /// The program that has the logger's subcommand ([`logger::COMMAND`]): this daemon's own.
    pub logger: PathBuf,
}

impl ContainerdConfig {
    /// The folder of a container's own.
    fn folder(&self, id: &str) -> PathBuf {
        self.dir.join("containers").join(id)
    }
}

/// What calls are carried out with.
#[derive(Clone, Copy)]
struct Place<'a> {
    /// Our namespace.
    scope: Scope<'a>,
    settings: &'a ContainerdConfig,
    volumes: &'a Volumes,
    marks: &'a Mutex<Marks>,
}

/// Of so many containers that were created last the names are kept.
const LATEST: usize = 256;

/// What is under way, by names and ids.
#[derive(Debug, Default)]
struct Marks {
    /// Names of containers that are being created: containerd knows ids alone.
    created: BTreeSet<String>,
    /// First processes whose end is a checkpoint, by the container's id.
    hibernating: BTreeMap<String, u32>,
    /// Containers that were created last, for who hears of them when they are gone: events have nothing but ids.
    latest: VecDeque<(String, Named)>,
}

/// A container's name and labels.
type Named = (String, BTreeMap<String, String>);

impl Marks {
    /// Keeps the name of a container that is about to be created.
    fn keep_name(&mut self, id: &str, named: Named) {
        self.latest.truncate(LATEST - 1);
        self.latest.push_front((id.to_owned(), named));
    }

    /// Whether this end of a first process is no death: what was dumped is killed. It may be heard of after the next start.
    fn is_checkpoint(&self, id: &str, pid: u32, exit_code: Option<i32>) -> bool {
        exit_code == Some(KILLED) && self.hibernating.get(id) == Some(&pid)
    }

    /// The name of a container that was created lately.
    fn name_of(&self, id: &str) -> Option<&Named> {
        self.latest.iter().find(|(latest, _)| latest == id).map(|(_, named)| named)
    }
}

/// The adapter for one containerd.
pub struct Containerd {
    settings: ContainerdConfig,
    client: Arc<Client>,
    volumes: Volumes,
    capabilities: Mutex<RuntimeCapabilities>,
    marks: Arc<Mutex<Marks>>,
}

impl Containerd {
    /// An adapter for the service, which need not run yet. Fails where its folder cannot be made.
    pub fn open(settings: ContainerdConfig, threads: &ChannelThreads) -> RtResult<Self> {
        let client = Arc::new(Client::new(&settings.socket, &settings.namespace, threads));
        make_folder(&settings.dir)?;
        let volumes = Volumes::open(&settings.dir.join("volumes"), &settings.node)?;
        view::clean(&settings.dir.join("roots"));
        let (capabilities, marks) = (Mutex::default(), Arc::default());
        Ok(Self { settings, client, volumes, capabilities, marks })
    }

    fn place(&self) -> Place<'_> {
        Place { scope: self.client.own(), settings: &self.settings, volumes: &self.volumes, marks: &self.marks }
    }
}

/// Makes a folder that only root enters, with those above it.
fn make_folder(path: &Path) -> RtResult<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| file_error("making", path, &error))
}

/// Deletes a folder with all in it; it may be gone.
fn remove_folder(path: &Path) -> RtResult<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("deleting", path, &error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn file_error(what: &str, path: &Path, error: &dyn std::fmt::Display) -> RuntimeError {
    RuntimeError::Io { what: format!("{what} '{}'", path.display()), reason: error.to_string() }
}

/// How a shim is told of the logger (`binary://` in `docs/cri` and `pkg/process/io.go` of containerd). The program is
/// given the query's key and value as its arguments.
fn logger_uri(program: &Path, folder: &Path) -> RtResult<String> {
    let (Some(program), Some(folder)) = (program.to_str(), folder.to_str()) else {
        return Err(RuntimeError::InvalidSpec { reason: "the logger's paths are no text".to_owned() });
    };
    let escaped = |text: &str, kept: &[u8]| -> String {
        let one = |byte: u8| match byte {
            byte if byte.is_ascii_alphanumeric() || kept.contains(&byte) => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        };
        text.bytes().map(one).collect()
    };
    let kept = b"/-._";
    Ok(format!("binary://{}?{}={}", escaped(program, kept), logger::COMMAND, escaped(folder, kept)))
}

impl RuntimeAdapter for Containerd {
    fn name(&self) -> &str {
        ENGINE
    }

    fn probe(&self) -> Probe {
        let (probe, capabilities) = probe::probe(&self.client);
        *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner) = capabilities;
        probe
    }

    fn capabilities(&self) -> RuntimeCapabilities {
        *self.capabilities.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ensure_image(&self, call: &Call, image: &str, pull: PullPolicy) -> RtResult<Change> {
        image::ensure(&self.client, call, image, pull)
    }

    fn create_container(&self, call: &Call, config: &ContainerConfig) -> RtResult<ContainerInstance> {
        create::create(self.place(), call, config)
    }

    fn start_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        lifecycle::start(self.place(), call, id)
    }

    fn stop_container(&self, call: &Call, id: &str, options: &StopOptions) -> RtResult<Change> {
        lifecycle::stop(self.place(), call, id, options)
    }

    fn signal_container(&self, call: &Call, id: &str, signal: &str) -> RtResult<()> {
        lifecycle::signal(self.place(), call, id, signal)
    }

    fn remove_container(&self, call: &Call, id: &str, force: bool) -> RtResult<Change> {
        lifecycle::remove(self.place(), call, id, force)
    }

    fn inspect_container(&self, call: &Call, id: &str) -> RtResult<ContainerInstance> {
        record::inspect(self.client.own(), call, id).map(|known| known.instance(true))
    }

    fn list_containers(&self, call: &Call, filter: &ListFilter) -> RtResult<Vec<ContainerInstance>> {
        lifecycle::list(self.place(), call, filter)
    }

    fn wait_container(&self, call: &Call, id: &str) -> RtResult<Option<i32>> {
        lifecycle::wait(self.place(), call, id)
    }

    fn pause_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        lifecycle::pause(self.place(), call, id)
    }

    fn resume_container(&self, call: &Call, id: &str) -> RtResult<Change> {
        lifecycle::resume(self.place(), call, id)
    }

    fn update_resources(&self, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
        resize::resize(self.place(), call, id, resources, force)
    }

    fn prove_checkpoint(&self, call: &Call) -> RtResult<()> {
        proof::prove(self.place(), call)
    }

    fn checkpoint_container(&self, call: &Call, id: &str, options: &CheckpointOptions) -> RtResult<CheckpointImage> {
        checkpoint::checkpoint(self.place(), call, id, options)
    }

    fn restore_container(&self, call: &Call, id: &str, image: &CheckpointImage, to: RestoreTo) -> RtResult<Change> {
        checkpoint::restore(self.place(), call, id, image, to)
    }

    fn ensure_volume(&self, _call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
        self.volumes.ensure(volume)
    }

    fn remove_volume(&self, call: &Call, name: &str) -> RtResult<Change> {
        create::volume_is_unused(self.place(), call, name)?;
        self.volumes.remove(name)
    }

    fn list_leftovers(&self, _call: &Call, workload: &str) -> RtResult<Leftovers> {
        Ok(Leftovers { volumes: self.volumes.of_workload(workload)?, ..Leftovers::default() })
    }

    fn container_stats(&self, call: &Call, id: &str) -> RtResult<ContainerStats> {
        let known = record::inspect(self.client.own(), call, id)?;
        let status = known.status();
        let pid = known.pid(&status);
        if pid <= 0 {
            return Err(not_allowed("stats", id, &status));
        }
        let groups = Cgroups::read().map_err(|error| file_error("reading", Path::new("/proc/self/mounts"), &error))?;
        let mut stats = usage::usage(&groups, &known.cgroup());
        if known.has_own_network() {
            (stats.rx_bytes, stats.tx_bytes) = usage::network(pid);
        }
        Ok(stats)
    }

    fn container_logs(&self, call: &Call, id: &str, options: &LogOptions) -> RtResult<BlockingStream<LogChunk>> {
        logs::open(&self.client, self.place(), call, id, options)
    }

    fn exec_in_container(&self, call: &Call, id: &str, argv: &[String]) -> RtResult<ExecOutcome> {
        exec::run(self.place(), call, id, argv)
    }

    fn watch_events(&self, call: &Call) -> RtResult<BlockingStream<EngineEvent>> {
        events::watch(&self.client, &self.settings, &self.marks, call)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn end_of_a_checkpoint_is_told_from_deaths_before_and_after_it() {
        let mut marks = Marks::default();
        marks.hibernating.insert("a".to_owned(), 7);
        assert!(marks.is_checkpoint("a", 7, Some(KILLED)));
        for (id, pid, code) in [("a", 7, Some(0)), ("a", 7, None), ("a", 8, Some(KILLED)), ("b", 7, Some(KILLED))] {
            assert!(!marks.is_checkpoint(id, pid, code), "{id} {pid} {code:?}");
        }
    }

    #[test]
    fn names_of_the_latest_containers_are_kept_and_no_more() {
        let mut marks = Marks::default();
        for number in 0..=LATEST {
            marks.keep_name(&number.to_string(), (format!("name-{number}"), BTreeMap::new()));
        }
        assert_eq!((marks.latest.len(), marks.name_of("0")), (LATEST, None));
        assert_eq!(marks.name_of("1").map(|(name, _)| name.as_str()), Some("name-1"));
    }

    #[test]
    fn paths_of_the_logger_are_escaped_for_the_shim() {
        let uri = logger_uri(Path::new("/opt/a b/it"), Path::new("/var/x?y&z=%")).unwrap();
        assert_eq!(uri, "binary:///opt/a%20b/it?container-log=/var/x%3Fy%26z%3D%25");
    }
}
