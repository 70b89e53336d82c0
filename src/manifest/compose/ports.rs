//! `ports` and `expose` of a service.
//!
//! A port that is published on whichever host port is free is refused: nobody would know it, and it would be another one
//! at each start.

use std::collections::BTreeSet;

use super::scalars::number;
use crate::manifest::error::ManifestResult;
use crate::manifest::node::Value;
use crate::manifest::reader::{Fields, Notes, Place};
use crate::model::text::shown;
use crate::model::workload::{PortSpec, Protocol};

/// The most ports of one service, ranges counted port by port.
const MAX_PORTS: usize = 1024;

const PROTOCOLS: [(&str, Protocol); 3] = [("tcp", Protocol::Tcp), ("udp", Protocol::Udp), ("sctp", Protocol::Sctp)];

/// Reads both.
pub(super) fn read(fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<Vec<PortSpec>> {
    let mut ports: Vec<PortSpec> = Vec::new();
    let (published, exposed) = (fields.items("ports")?, fields.items("expose")?);
    for item in &published {
        let more = match item.node.value {
            Value::Map(_) => long(item, notes)?,
            Value::Scalar(_) | Value::List(_) => short(item)?,
        };
        extend(&mut ports, more, item)?;
    }
    let known: BTreeSet<_> = ports.iter().map(|port| (port.container_port, port.protocol)).collect();
    for item in &exposed {
        let (text, protocol) = with_protocol(item)?;
        let inside = range(item, &text)?;
        let is_new = |port: &u16| !known.contains(&(*port, protocol));
        let more = inside.filter(is_new).map(|port| one("", None, port, protocol)).collect();
        extend(&mut ports, more, item)?;
    }
    Ok(ports)
}

fn extend(ports: &mut Vec<PortSpec>, more: Vec<PortSpec>, item: &Place<'_>) -> ManifestResult<()> {
    ports.extend(more);
    if ports.len() > MAX_PORTS { Err(item.invalid(format!("there are more than {MAX_PORTS} ports"))) } else { Ok(()) }
}

fn one(host_ip: &str, host_port: Option<u16>, container_port: u16, protocol: Protocol) -> PortSpec {
    PortSpec { host_ip: host_ip.to_owned(), host_port, container_port, protocol }
}

/// `[[IP:]HOST:]CONTAINER[/PROTOCOL]`, each port a number or a range.
fn short(item: &Place<'_>) -> ManifestResult<Vec<PortSpec>> {
    let (text, protocol) = with_protocol(item)?;
    let (before, inside) = text.rsplit_once(':').unwrap_or(("", &text));
    let (ip, outside) = match before.strip_prefix('[').and_then(|rest| rest.split_once("]:")) {
        Some(pair) => pair,
        None => before.rsplit_once(':').unwrap_or(("", before)),
    };
    if outside.is_empty() {
        return Err(without_host_port(item));
    }
    both(item, ip, outside, inside, protocol)
}

fn without_host_port(item: &Place<'_>) -> crate::manifest::ManifestError {
    let error = item.unsupported("a port without a host port would be published on whichever is free");
    error.hint("name the host port (8080:80), or take it to expose, which publishes nothing")
}

/// The text before `/`, and the protocol behind it.
fn with_protocol(item: &Place<'_>) -> ManifestResult<(String, Protocol)> {
    let text = item.text()?;
    let Some((ports, word)) = text.split_once('/') else { return Ok((text, Protocol::Tcp)) };
    let found = PROTOCOLS.iter().find(|(known, _)| word.eq_ignore_ascii_case(known));
    match found {
        Some((_, protocol)) => Ok((ports.to_owned(), *protocol)),
        None => Err(item.invalid(format!("'{}' is none of tcp, udp, sctp", shown(word)))),
    }
}

fn range(item: &Place<'_>, text: &str) -> ManifestResult<std::ops::RangeInclusive<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (port(first), port(last)) {
        (Some(first), Some(last)) if first <= last => Ok(first..=last),
        _ => Err(item.invalid(format!("'{}' is neither a port nor a range of ports", shown(text)))),
    }
}

/// Ports of two ranges of the same length, one by one.
fn both(item: &Place<'_>, ip: &str, outside: &str, inside: &str, protocol: Protocol) -> ManifestResult<Vec<PortSpec>> {
    if !ip.is_empty() && ip.parse::<std::net::IpAddr>().is_err() {
        return Err(item.invalid(format!("'{}' is no IP address", shown(ip))));
    }
    let (host, container) = (range(item, outside)?, range(item, inside)?);
    if host.len() != container.len() {
        let message = format!("{} host ports for {} of the container", host.len(), container.len());
        return Err(item.unsupported(message).hint("give ranges of the same length"));
    }
    Ok(host.zip(container).map(|(host, container)| one(ip, Some(host), container, protocol)).collect())
}

fn long(item: &Place<'_>, notes: &mut Notes) -> ManifestResult<Vec<PortSpec>> {
    let mut fields = item.fields()?;
    let target: u16 = number(&fields.require("target")?, 1, 65535)?;
    let published = fields.text("published")?;
    let ip = fields.text("host_ip")?;
    let protocol = fields.take("protocol").map_or(Ok(Protocol::Tcp), |place| place.word(&PROTOCOLS))?;
    fields.only(&[("mode", &["host", "ingress"])])?;
    fields.warn(&["name", "app_protocol"], "says nothing to an engine", notes);
    fields.finish_but_extensions()?;
    if published.is_empty() {
        return Err(without_host_port(item));
    }
    both(item, &ip, &published, &target.to_string(), protocol)
}
