//! IPv4 addresses: ranges of them, those that the host routes to already, and ports of the host.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use serde::{Deserialize, Serialize};

use crate::model::workload::{PortSpec, Protocol};

/// The bits of a network's own part.
const ROOM_BITS: u8 = 24;

/// A range of addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Subnet {
    first: u32,
    bits: u8,
}

impl Subnet {
    /// The network that begins with this address.
    pub const fn of(first: Ipv4Addr) -> Self {
        Self { first: u32::from_be_bytes(first.octets()), bits: ROOM_BITS }
    }

    /// From `10.90.0.0/16`; `None` where it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let first = u32::from(address.parse::<Ipv4Addr>().ok()?);
        let bits = bits.parse().ok().filter(|bits| *bits <= 32)?;
        let subnet = Self { first, bits };
        (first & !subnet.mask() == 0).then_some(subnet)
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    /// Whether networks can be made of it.
    pub fn has_rooms(self) -> bool {
        (8..=ROOM_BITS).contains(&self.bits)
    }

    /// How many networks can be made of it.
    pub fn rooms(self) -> u32 {
        1 << (ROOM_BITS.saturating_sub(self.bits))
    }

    /// The network of this number.
    pub fn room(self, number: u32) -> Self {
        Self { first: self.first + (number << (32 - u32::from(ROOM_BITS))), bits: ROOM_BITS }
    }

    /// The host's own address in it.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::from(self.first + 1)
    }

    /// The addresses for containers.
    pub fn hosts(self) -> impl Iterator<Item = Ipv4Addr> {
        (self.first + 2..self.first | !self.mask()).map(Ipv4Addr::from)
    }

    /// Whether they have an address in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let mask = self.mask() & other.mask();
        self.first & mask == other.first & mask
    }
}

impl From<Subnet> for String {
    fn from(subnet: Subnet) -> Self {
        format!("{}/{}", Ipv4Addr::from(subnet.first), subnet.bits)
    }
}

impl TryFrom<String> for Subnet {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("'{text}' is no range of addresses"))
    }
}

/// What the host routes to, apart from its default.
pub fn routes() -> Vec<Subnet> {
    parse_routes(&fs::read_to_string("/proc/thread-self/net/route").unwrap_or_default())
}

/// Destination and mask are the second and the eighth column, each the bytes of an address read as a number.
fn parse_routes(table: &str) -> Vec<Subnet> {
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(|value| u32::from_be_bytes(value.to_ne_bytes()));
    let route = |line: &str| {
        let columns: Vec<_> = line.split_whitespace().collect();
        let (first, mask) = (number(columns.get(1)?)?, number(columns.get(7)?)?);
        let bits = u8::try_from(mask.count_ones()).ok()?;
        (bits > 0).then_some(Subnet { first, bits })
    };
    table.lines().skip(1).filter_map(route).collect()
}

/// A port of the host as errors name it: `port 8080/tcp`.
pub fn told(port: &PortSpec) -> String {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    format!("port {}/{protocol}", port.host_port.unwrap_or(0))
}

/// Whether both would have the same port of the same address.
pub fn clash(one: &PortSpec, other: &PortSpec) -> bool {
    let is_any = |port: &PortSpec| matches!(port.host_ip.as_str(), "" | "0.0.0.0" | "::");
    let same_address = is_any(one) || is_any(other) || one.host_ip == other.host_ip;
    same_address && one.host_port == other.host_port && one.protocol == other.protocol
}

/// Whether the port of the host is free, as the kernel sees it.
pub fn try_to_bind(port: &PortSpec) -> io::Result<()> {
    let Some(number) = port.host_port else { return Ok(()) };
    let address = match port.host_ip.as_str() {
        "" => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        text => text.parse().map_err(|_| io::Error::other(format!("'{text}' is no address")))?,
    };
    match port.protocol {
        Protocol::Tcp => TcpListener::bind((address, number)).map(drop),
        Protocol::Udp => UdpSocket::bind((address, number)).map(drop),
        // Sockets of this kind are not to be had everywhere.
        Protocol::Sctp => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_has_networks_and_these_have_addresses() {
        let pool = Subnet::parse("10.90.0.0/16").unwrap();
        assert_eq!(pool.rooms(), 256);
        let third = pool.room(3);
        assert_eq!(String::from(third), "10.90.3.0/24");
        assert_eq!(third.gateway().to_string(), "10.90.3.1");
        let hosts: Vec<_> = third.hosts().collect();
        assert_eq!((hosts.len(), hosts[0].to_string()), (253, "10.90.3.2".to_owned()));
        assert_eq!(hosts[252].to_string(), "10.90.3.254");
        assert!(pool.overlaps(&third) && third.overlaps(&pool) && !third.overlaps(&pool.room(4)));
        for text in ["", "10.90.0.0", "10.90.0.1/16", "10.90.0.0/33", "x/8"] {
            assert_eq!(Subnet::parse(text), None, "{text}");
        }
        assert_eq!(Subnet::parse("0.0.0.0/0").map(Subnet::has_rooms), Some(false));
    }

    #[test]
    fn routes_of_the_host_are_read() {
        let head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\n";
        let line = |destination: u32, mask: u32| {
            let hex = |value: u32| format!("{:08X}", u32::from_ne_bytes(value.to_be_bytes()));
            format!("eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\n", hex(destination), hex(mask))
        };
        let table = format!("{head}{}{}", line(0, 0), line(0x0a5a_0000, 0xffff_ff00));
        assert_eq!(parse_routes(&table), [Subnet::parse("10.90.0.0/24").unwrap()]);
    }

    #[test]
    fn ports_clash_on_one_address_and_protocol() {
        let port = |host_ip: &str, host_port, protocol| PortSpec {
            host_ip: host_ip.into(),
            host_port: Some(host_port),
            container_port: 80,
            protocol,
        };
        let one = port("127.0.0.1", 8080, Protocol::Tcp);
        assert!(clash(&one, &port("", 8080, Protocol::Tcp)));
        assert!(!clash(&one, &port("127.0.0.2", 8080, Protocol::Tcp)));
        assert!(!clash(&one, &port("", 8080, Protocol::Udp)));
        assert!(!clash(&one, &port("", 8081, Protocol::Tcp)));
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = port("127.0.0.1", held.local_addr().unwrap().port(), Protocol::Tcp);
        assert_eq!(try_to_bind(&taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(held);
        assert!(try_to_bind(&taken).is_ok());
    }
}
