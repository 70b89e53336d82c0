//! IPv4 addresses that the host routes to already, and ports of the host.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, TcpListener, UdpSocket};

use crate::model::subnet::Subnet;
use crate::model::workload::{PortSpec, Protocol};

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
        (bits > 0).then(|| Subnet::new(first, bits))
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
