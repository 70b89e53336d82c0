//! netavark: what it is told, and how it is run.
//!
//! Source: `src/network/types.rs` and `src/commands/setup.rs` of netavark 1.4; seen on the wire of Podman 4.3 and 5.4.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::kept::{Member, Network};
use super::{io_error, namespace};
use crate::model::subnet::Subnet;
use crate::model::workload::{PortSpec, Protocol};
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::shared::program;

/// Where Podman's packages put its helpers.
const FOLDERS: [&str; 3] = ["/usr/lib/podman", "/usr/libexec/podman", "/usr/local/lib/podman"];

/// The most that is kept of what it says, bytes.
const MOST_SAID: usize = 64 * 1024;

/// The programs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Programs {
    /// netavark.
    pub netavark: PathBuf,
    /// aardvark-dns; names are not resolved without it.
    pub aardvark: Option<PathBuf>,
}

impl Programs {
    /// Those of this machine. `path` is looked through in place of `PATH`.
    pub fn find(path: Option<&OsStr>) -> Option<Self> {
        let own = env::var_os("PATH").unwrap_or_default();
        let folders: Vec<_> = env::split_paths(path.unwrap_or(&own)).chain(FOLDERS.map(PathBuf::from)).collect();
        let find = |name: &str| folders.iter().map(|folder| folder.join(name)).find(|path| path.is_file());
        Some(Self { netavark: find("netavark")?, aardvark: find("aardvark-dns") })
    }

    /// Sets up what the file says in the namespace.
    pub fn set_up(&self, call: &Call, dns: &Path, file: &Path, netns: &Path) -> RtResult<()> {
        self.run(call, "setup", dns, file, netns)
    }

    /// Takes it down.
    pub fn take_down(&self, call: &Call, dns: &Path, file: &Path, netns: &Path) -> RtResult<()> {
        self.run(call, "teardown", dns, file, netns)
    }

    fn run(&self, call: &Call, verb: &str, dns: &Path, file: &Path, netns: &Path) -> RtResult<()> {
        let mut command = Command::new(&self.netavark);
        command.arg("--config").arg(dns).arg("--file").arg(file);
        if let Some(aardvark) = &self.aardvark {
            command.arg("--aardvark-binary").arg(aardvark);
        }
        command.arg(verb).arg(netns);
        let ended = program::run(&mut command, call, &format!("network {verb}"), MOST_SAID)?;
        if ended.status.success() {
            return Ok(());
        }
        let said: Option<Value> = serde_json::from_slice(&ended.stdout).ok();
        let said = said.and_then(|said| Some(said.get("error")?.as_str()?.replace("\n\t-", ";")));
        Err(RuntimeError::Engine {
            engine: "netavark".to_owned(),
            op: verb.to_owned(),
            code: i64::from(ended.status.code().unwrap_or(-1)),
            message: said.unwrap_or_else(|| ended.complaint()),
        })
    }
}

/// What it is told of a container.
pub fn document(id: &str, member: &Member, networks: &[(Network, Ipv4Addr)]) -> String {
    let mut options = Map::new();
    let mut infos = Map::new();
    for (index, (network, address)) in networks.iter().enumerate() {
        let aliases: &[String] = if network.dns { &member.aliases } else { &[] };
        options.insert(
            network.name.clone(),
            json!({ "interface_name": format!("eth{index}"), "static_ips": [address], "aliases": aliases }),
        );
        infos.insert(network.name.clone(), info(&network.name, network.number, network.subnet, network.dns));
    }
    let ports: Vec<_> = member.ports.iter().map(port).collect();
    let document = json!({
        "container_id": id,
        "container_name": member.name,
        "networks": options,
        "network_info": infos,
        "port_mappings": ports,
    });
    document.to_string()
}

fn info(name: &str, number: u32, subnet: Subnet, dns: bool) -> Value {
    json!({
        "name": name,
        // 64 digits, of which it makes names of chains.
        "id": format!("{number:08x}{:056x}", 0xac),
        "driver": "bridge",
        "network_interface": format!("ac-br{number}"),
        "subnets": [{ "subnet": subnet, "gateway": subnet.gateway() }],
        "ipv6_enabled": false,
        "internal": false,
        "dns_enabled": dns,
    })
}

fn port(port: &PortSpec) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    json!({
        "container_port": port.container_port,
        "host_ip": port.host_ip,
        "host_port": port.host_port,
        "protocol": protocol,
        "range": 1,
    })
}

/// Sets up and takes down a network with a published port, all of it in namespaces of its own.
pub fn prove(programs: &Programs, call: &Call, run_dir: &Path) -> RtResult<()> {
    let name = format!("proof-{}", Uuid::now_v7().simple());
    let (netns, file) = (run_dir.join(&name), run_dir.join(format!("{name}.json")));
    let port = PortSpec { host_ip: String::new(), host_port: Some(80), container_port: 80, protocol: Protocol::Tcp };
    let member = Member { name: name.clone(), networks: Vec::new(), aliases: Vec::new(), ports: vec![port] };
    // Nobody else is in there.
    let subnet = Subnet::of(Ipv4Addr::new(10, 90, 0, 0));
    let network = Network { name: name.clone(), number: 0, subnet, dns: false, labels: Default::default() };
    let address = subnet.hosts().next().unwrap_or(Ipv4Addr::UNSPECIFIED);
    let proved = namespace::apart(|| {
        fs::write(&file, document(&name, &member, &[(network, address)]))
            .map_err(|error| io_error("writing", &file, &error))?;
        namespace::make(&netns)?;
        programs.set_up(call, run_dir, &file, &netns)?;
        programs.take_down(call, run_dir, &file, &netns)
    });
    namespace::remove(&netns);
    let _ = fs::remove_file(file);
    proved
}
