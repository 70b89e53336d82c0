//! Words that these engines share, in ours: times, health, protocols and published ports.

use super::wire::PortMap;
use crate::model::state::Health;
use crate::model::workload::{PortSpec, Protocol};

/// Milliseconds since the epoch of seconds; 0 for what is before it.
pub fn seconds(since_epoch: i64) -> u64 {
    u64::try_from(since_epoch).unwrap_or(0).saturating_mul(1000)
}

/// Milliseconds since the epoch; 0 for Go's zero time (year 1) and what is no time.
pub fn millis(rfc3339: &str) -> u64 {
    nanos(rfc3339) / 1_000_000
}

/// Nanoseconds since the epoch; 0 for Go's zero time (year 1) and what is no time.
pub fn nanos(rfc3339: &str) -> u64 {
    let time = rfc3339.parse::<jiff::Timestamp>().map(|time| time.as_nanosecond());
    time.ok().and_then(|nanos| u64::try_from(nanos).ok()).unwrap_or(0)
}

/// What a health check of the engine's own said.
pub fn health(word: &str) -> Health {
    match word {
        "starting" => Health::Starting,
        "healthy" => Health::Healthy,
        "unhealthy" => Health::Unhealthy,
        _ => Health::None,
    }
}

/// The protocol of the engine's word; `None` where it is not one of ours.
pub fn protocol_of(word: &str) -> Option<Protocol> {
    match word.trim() {
        "tcp" | "" => Some(Protocol::Tcp),
        "udp" => Some(Protocol::Udp),
        "sctp" => Some(Protocol::Sctp),
        _ => None,
    }
}

/// The engine's word for the protocol.
pub fn protocol_word(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    }
}

/// Published ports; those of protocols that are none of ours are left out.
pub fn bindings(ports: &PortMap) -> Vec<PortSpec> {
    let mut published = Vec::new();
    for (inside, hosts) in ports {
        let (port, protocol) = inside.split_once('/').unwrap_or((inside, "tcp"));
        let (Ok(container_port), Some(protocol)) = (port.parse(), protocol_of(protocol)) else { continue };
        for host in hosts.iter().flatten() {
            let (host_ip, host_port) = (host.host_ip.clone(), host.host_port.parse().ok());
            published.push(PortSpec { host_ip, host_port, container_port, protocol });
        }
    }
    published
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_the_epoch_are_none() {
        assert_eq!(millis("0001-01-01T00:00:00Z"), 0);
        assert_eq!(millis("1970-01-01T00:00:01.5Z"), 1500);
        assert_eq!(nanos("1970-01-01T01:00:00.000000001+01:00"), 1);
        assert_eq!(millis("soon"), 0);
    }
}
