//! Networks between containers, and ports published on the host, for engines that have none of their own: bridges that
//! netavark sets up, each container with a network namespace that this daemon makes.
//!
//! ```text
//! DIR/networks/NAME.json   a network: its number, subnet and labels
//! DIR/members/ID.json      a container: its networks, its address in each, and its ports
//! RUN_DIR/netns/ID         its network namespace, until the next boot
//! RUN_DIR/netns/ID.json    what netavark was told, from before it is told until it has taken that down: until then it is
//!                          taken down again before the next set-up, and before its own
//! RUN_DIR/dns/             aardvark-dns's files
//! ```
//!
//! An address is chosen when a container is made and is its own until it is removed. The namespace is made and set up at
//! each start, and taken down once the container has ended, so that its ports are free then; what ended unseen is taken
//! down before the next one is set up. Names are resolved in named networks by aardvark-dns, not on the bridge that
//! containers share by default.
//!
//! Enters: what is the same of networks for such engines. Stays out: containers, and whether they run.

mod address;
mod kept;
mod namespace;
mod netavark;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use self::kept::{DEFAULT, Kept, Member, Network};
use self::netavark::Programs;
use super::adapter::{Call, Change, ContainerConfig, NetworkSpec, RtResult, RuntimeError, unsupported};
use super::shared::calls::{apart, late};
use super::shared::owned::{is_ours, owner_of};
use crate::cancel::Urge;
use crate::model::subnet::Subnet;
use crate::model::workload::{NetworkMode, PortSpec};

/// Between two tries for its turn of whoever sets something up.
const TURN: Duration = Duration::from_millis(10);

/// How long a proof that failed holds.
const PATIENCE: Duration = Duration::from_secs(60);

/// How bridges are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BridgeConfig {
    /// The engine's name, for errors.
    pub engine: &'static str,
    /// This node's name: networks with another one's label are never touched.
    pub node: String,
    /// Where networks and members are kept.
    pub dir: PathBuf,
    /// Where namespaces are, until the next boot.
    pub run_dir: PathBuf,
    /// From where each network gets 256 addresses, as `10.90.0.0/16`.
    pub pool: String,
    /// Where programs are looked for in place of the daemon's own `PATH`.
    pub path: Option<OsString>,
}

/// The bridges of one engine.
pub struct Bridges {
    config: BridgeConfig,
    pool: Subnet,
    kept: Kept,
    /// Whoever chooses addresses, sets up or takes down holds this.
    turn: Mutex<()>,
    /// How often each container was set up by this process.
    set_ups: Mutex<BTreeMap<String, u64>>,
    proved: Mutex<Option<Proved>>,
}

/// What the last proof came to.
#[derive(Clone)]
struct Proved {
    outcome: Result<(), String>,
    programs: Option<(PathBuf, Option<SystemTime>)>,
    at: Instant,
}

/// Where a container finds the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Its network namespace; there once it is connected.
    pub netns: PathBuf,
    /// Its addresses, one for each network.
    pub ips: Vec<String>,
    /// Servers that resolve names for it; empty takes the host's.
    pub name_servers: Vec<String>,
}

impl Bridges {
    /// Opens what is kept, or makes the folders.
    pub fn open(config: BridgeConfig) -> RtResult<Self> {
        let pool = Subnet::parse(&config.pool).filter(|pool| pool.has_rooms()).ok_or_else(|| {
            let reason = format!("'{}' is no range of IPv4 addresses from /8 to /24", config.pool);
            RuntimeError::InvalidSpec { reason }
        })?;
        let kept = Kept::open(&config.dir)?;
        for folder in ["netns", "dns"] {
            let path = config.run_dir.join(folder);
            fs::create_dir_all(&path).map_err(|error| io_error("making", &path, &error))?;
        }
        Ok(Self { config, pool, kept, turn: Mutex::default(), set_ups: Mutex::default(), proved: Mutex::default() })
    }

    /// Whether netavark sets up a container's network here, in namespaces that are gone afterwards: nothing of the host's is
    /// touched. `Unsupported` says why not.
    pub fn prove(&self, call: &Call) -> RtResult<()> {
        let found = Programs::find(self.config.path.as_deref());
        let programs = found.as_ref().map(|programs| (programs.netavark.clone(), changed(&programs.netavark)));
        let before = self.proved.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let holds =
            |before: &Proved| before.programs == programs && (before.outcome.is_ok() || before.at.elapsed() < PATIENCE);
        let outcome = match (before.filter(holds), found) {
            (Some(before), _) => before.outcome,
            (None, None) => Err("there is no netavark".to_owned()),
            (None, Some(found)) => {
                netavark::prove(&found, call, &self.config.run_dir).map_err(|error| error.to_string())
            }
        };
        let proved = Proved { outcome: outcome.clone(), programs, at: Instant::now() };
        *self.proved.lock().unwrap_or_else(PoisonError::into_inner) = Some(proved);
        outcome.map_err(|reason| unsupported(self.config.engine, format!("bridged networks: {reason}")))
    }

    /// Makes the network present. One of that name without our node label is `AlreadyExists`.
    pub fn ensure(&self, call: &Call, network: &NetworkSpec) -> RtResult<Change> {
        self.prove(call)?;
        let programs = self.programs()?;
        if programs.aardvark.is_none() {
            return Err(unsupported(self.config.engine, "named networks: there is no aardvark-dns"));
        }
        kept::check_name(&network.name)?;
        let _turn = self.turn(call, "network create")?;
        if let Some(found) = self.kept.network(&network.name)? {
            return owner_of(&self.config.node, "network", &network.name, &found.labels);
        }
        self.make(&network.name, |found| found.labels.clone_from(&network.labels), true)?;
        Ok(Change::Changed)
    }

    fn make(&self, name: &str, label: impl FnOnce(&mut Network), dns: bool) -> RtResult<Network> {
        let all = self.kept.networks()?;
        let numbers: Vec<u32> = all.iter().map(|network| network.number).collect();
        let taken: Vec<Subnet> = all.iter().map(|network| network.subnet).chain(address::routes()).collect();
        let free = (0..self.pool.rooms())
            .filter(|number| !numbers.contains(number))
            .map(|number| (number, self.pool.room(number)))
            .find(|(_, subnet)| !taken.iter().any(|other| other.overlaps(subnet)));
        let Some((number, subnet)) = free else {
            let reason = format!("network '{name}': all of {} is taken (runtimes.oci.bridge_pool)", self.config.pool);
            return Err(RuntimeError::InvalidSpec { reason });
        };
        let mut network = Network { name: name.to_owned(), number, subnet, dns, labels: Default::default() };
        label(&mut network);
        self.kept.keep_network(&network)?;
        Ok(network)
    }

    /// Deletes the network if it is ours and no container is in it, running or not.
    pub fn remove(&self, call: &Call, name: &str) -> RtResult<Change> {
        kept::check_name(name)?;
        let _turn = self.turn(call, "network remove")?;
        let Some(found) = self.kept.network(name)? else { return Ok(Change::Unchanged) };
        let is_used = self.kept.members()?.iter().any(|(_, member)| member.is_in(name));
        if !is_ours(&self.config.node, &found.labels) || is_used {
            return Ok(Change::Unchanged);
        }
        self.kept.forget_network(name)?;
        Ok(Change::Changed)
    }

    /// The names of our networks that no container is in.
    pub fn unused(&self) -> RtResult<Vec<String>> {
        let members = self.kept.members()?;
        let is_left = |network: &Network| {
            is_ours(&self.config.node, &network.labels)
                && !members.iter().any(|(_, member)| member.is_in(&network.name))
        };
        Ok(self.kept.networks()?.into_iter().filter(is_left).map(|network| network.name).collect())
    }

    /// Chooses addresses for a container that is being made. `None` where it is in no such network.
    pub fn join(&self, call: &Call, id: &str, config: &ContainerConfig) -> RtResult<Option<Attachment>> {
        let names = match &config.network {
            NetworkMode::None | NetworkMode::Host => return Ok(None),
            NetworkMode::Bridge => vec![DEFAULT.to_owned()],
            NetworkMode::Named(names) => names.clone(),
        };
        self.prove(call)?;
        let _turn = self.turn(call, "create")?;
        let members = self.kept.members()?;
        let mut networks = Vec::new();
        for name in names {
            let network = match self.kept.network(&name)? {
                Some(network) => network,
                None if name == DEFAULT => self.make(DEFAULT, |_| {}, false)?,
                None => return Err(RuntimeError::NotFound { what: format!("network '{name}'") }),
            };
            let taken: Vec<_> = members.iter().filter_map(|(_, member)| member.address_in(&name)).collect();
            let Some(address) = network.subnet.hosts().find(|address| !taken.contains(address)) else {
                let reason = format!("network '{name}': each of its addresses is a container's");
                return Err(RuntimeError::InvalidSpec { reason });
            };
            networks.push((name, address));
        }
        // What it calls itself is what others look for.
        let own = Some(config.hostname.clone()).filter(|name| !name.is_empty() && !config.aliases.contains(name));
        let aliases = config.aliases.iter().cloned().chain(own).collect();
        let ports = config.ports.iter().filter(|port| port.host_port.is_some()).cloned().collect();
        self.kept.keep_member(id, &Member { name: config.name.clone(), networks, aliases, ports })?;
        self.attachment(id)
    }

    /// Where a container that has joined finds the network; `None` for one that has not.
    pub fn attachment(&self, id: &str) -> RtResult<Option<Attachment>> {
        let Some(member) = self.kept.member(id)? else { return Ok(None) };
        let mut name_servers = Vec::new();
        for (name, _) in &member.networks {
            name_servers.extend(self.kept.network(name)?.filter(|network| network.dns).map(|n| n.subnet.gateway()));
        }
        Ok(Some(Attachment {
            netns: self.netns(id),
            ips: member.networks.iter().map(|(_, address)| address.to_string()).collect(),
            name_servers: name_servers.iter().map(ToString::to_string).collect(),
        }))
    }

    /// Sets up the network of a container that is about to run; nothing where it is in none, or where it is set up already.
    /// `is_live` tells whether another container runs: of those that do not, what is left is taken down.
    pub fn connect(&self, call: &Call, id: &str, is_live: impl Fn(&str) -> bool) -> RtResult<()> {
        let Some(member) = self.kept.member(id)? else { return Ok(()) };
        let programs = self.programs()?;
        let begun = Instant::now();
        let _turn = self.turn(call, "start")?;
        if self.is_told(id) && namespace::is_there(&self.netns(id)) {
            return Ok(());
        }
        for other in self.told_of() {
            // One that is no member any more was removed.
            if other != id && is_live(&other) && self.kept.member(&other)?.is_some() {
                continue;
            }
            if call.deadline.is_over() {
                return Err(late("start", begun));
            }
            self.take_down(&programs, &other);
        }
        for port in &member.ports {
            self.check_port(port)?;
        }
        let mut networks = Vec::new();
        for (name, address) in &member.networks {
            let found = self.kept.network(name)?;
            networks
                .push((found.ok_or_else(|| RuntimeError::NotFound { what: format!("network '{name}'") })?, *address));
        }
        *self.set_ups.lock().unwrap_or_else(PoisonError::into_inner).entry(id.to_owned()).or_default() += 1;
        let told = netavark::document(id, &member, &networks);
        let (file, netns) = (self.told(id), self.netns(id));
        fs::write(&file, told).map_err(|error| io_error("writing", &file, &error))?;
        let set_up = namespace::make(&netns).and_then(|()| programs.set_up(call, &self.dns(), &file, &netns));
        if set_up.is_err() {
            self.take_down(&programs, id);
        }
        set_up
    }

    /// A port that another process has would be taken from it without a word.
    fn check_port(&self, port: &PortSpec) -> RtResult<()> {
        let refused = |why: &str| RuntimeError::Engine {
            engine: self.config.engine.to_owned(),
            op: "start".to_owned(),
            code: 1,
            message: format!("the host's {} {why}", address::told(port)),
        };
        for (id, other) in self.kept.members()? {
            if other.ports.iter().any(|other| address::clash(other, port)) && self.is_told(&id) {
                return Err(refused(&format!("is taken by container '{}'", other.name)));
            }
        }
        match address::try_to_bind(port) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(refused("is taken")),
            Err(error) => Err(refused(&format!("cannot be had: {error}"))),
            Ok(()) => Ok(()),
        }
    }

    /// Which of its set-ups a container has: another one with each start.
    pub fn set_up_of(&self, id: &str) -> u64 {
        self.set_ups.lock().unwrap_or_else(PoisonError::into_inner).get(id).copied().unwrap_or(0)
    }

    /// Takes down the network of a container that has ended, where it has this set-up still; nothing where it is down.
    pub fn disconnect(&self, id: &str, set_up: u64) {
        if !self.is_told(id) {
            return;
        }
        apart(|call| match self.programs().and_then(|programs| Ok((programs, self.turn(call, "stop")?))) {
            Ok((programs, _turn)) if self.is_told(id) && self.set_up_of(id) == set_up => self.take_down(&programs, id),
            Ok(_) => {}
            Err(error) => log::warn!("the network of container '{id}' stays: {error}"),
        });
    }

    fn take_down(&self, programs: &Programs, id: &str) {
        let (file, netns) = (self.told(id), self.netns(id));
        // After a restart of this daemon in a mount namespace of its own it is gone, and netavark wants one, in which it
        // then misses the container's link.
        let is_there = namespace::is_there(&netns);
        let made = if is_there { Ok(()) } else { namespace::make(&netns) };
        let taken_down = made.and_then(|()| apart(|call| programs.take_down(call, &self.dns(), &file, &netns)));
        namespace::remove(&netns);
        match taken_down {
            Err(error) if is_there || !matches!(error, RuntimeError::Engine { .. }) => {
                log::warn!("the network of container '{id}' is not all gone, which is tried again: {error}");
            }
            Ok(()) | Err(_) => drop(fs::remove_file(file)),
        }
    }

    /// Forgets a container that is removed.
    pub fn leave(&self, id: &str) {
        self.disconnect(id, self.set_up_of(id));
        self.kept.forget_member(id);
        self.set_ups.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    fn netns(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("netns").join(id)
    }

    fn told(&self, id: &str) -> PathBuf {
        self.config.run_dir.join("netns").join(format!("{id}.json"))
    }

    fn dns(&self) -> PathBuf {
        self.config.run_dir.join("dns")
    }

    /// Whether netavark was told of it, and has not taken that down.
    fn is_told(&self, id: &str) -> bool {
        self.told(id).exists()
    }

    /// The ids of all of which netavark was told.
    fn told_of(&self) -> Vec<String> {
        let entries = fs::read_dir(self.config.run_dir.join("netns")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".json").map(str::to_owned)).collect()
    }

    fn programs(&self) -> RtResult<Programs> {
        let found = Programs::find(self.config.path.as_deref());
        found.ok_or_else(|| unsupported(self.config.engine, "bridged networks: there is no netavark"))
    }

    fn turn(&self, call: &Call, op: &str) -> RtResult<MutexGuard<'_, ()>> {
        let begun = Instant::now();
        loop {
            match self.turn.try_lock() {
                Ok(turn) => return Ok(turn),
                // What it guards is in files, each written whole.
                Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
                Err(TryLockError::WouldBlock) if call.deadline.is_over() => return Err(late(op, begun)),
                Err(TryLockError::WouldBlock) => {}
            }
            if call.cancel.wait(Urge::Cancel, call.deadline.at_most(TURN)) == Urge::Cancel {
                return Err(RuntimeError::Cancelled { op: op.to_owned() });
            }
        }
    }
}

fn changed(path: &std::path::Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|found| found.modified()).ok()
}

/// The error of a file or folder.
fn io_error(what: &str, path: &std::path::Path, error: &dyn std::fmt::Display) -> RuntimeError {
    RuntimeError::Io { what: format!("{what} '{}'", path.display()), reason: error.to_string() }
}
