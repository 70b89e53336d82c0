//! Liveness probes: Kubernetes' `livenessProbe` of a container and Pullpiri's `probeConfig` of a Model. They are kept
//! and do not act yet.

use std::collections::BTreeMap;

use super::error::ManifestResult;
use super::reader::{Fields, Notes, Place};
use crate::model::workload::{ProbeAction, ProbeSpec};

const NOT_YET: &str = "the probe is kept, but probes do not act yet";

/// Reads `livenessProbe`; `ports` are the container's ports by name.
pub(super) fn kubernetes(
    place: &Place<'_>,
    ports: &BTreeMap<String, u16>,
    notes: &mut Notes,
) -> ManifestResult<ProbeSpec> {
    let mut fields = place.fields()?;
    let http = fields.take("httpGet").map(|place| http_get(&place, ports, notes)).transpose()?;
    let tcp = fields.take("tcpSocket").map(|place| tcp_socket(&place, ports, notes)).transpose()?;
    let exec = fields.take("exec").map(|place| exec(&place, notes)).transpose()?;
    fields.refuse(&["grpc", "terminationGracePeriodSeconds"])?;
    fields.only(&[("successThreshold", &["1"])])?;
    let action = one(place, [http, tcp, exec], "httpGet, tcpSocket or exec")?;
    finish(place, fields, action, notes)
}

/// Reads `probeConfig`; `None` where it holds no probe.
pub(super) fn pullpiri(place: &Place<'_>, notes: &mut Notes) -> ManifestResult<Option<ProbeSpec>> {
    let mut config = place.fields()?;
    let liveness = config.take("liveness");
    config.finish(notes);
    let Some(place) = liveness else { return Ok(None) };
    let mut fields = place.fields()?;
    let no_names = BTreeMap::new();
    let http = fields.take("http").map(|place| http_get(&place, &no_names, notes)).transpose()?;
    let tcp = fields.take("tcp").map(|place| tcp_socket(&place, &no_names, notes)).transpose()?;
    let exec = fields.take("exec").map(|place| exec(&place, notes)).transpose()?;
    let action = one(&place, [http, tcp, exec], "http, tcp or exec")?;
    finish(&place, fields, action, notes).map(Some)
}

fn finish(
    place: &Place<'_>,
    mut fields: Fields<'_>,
    action: ProbeAction,
    notes: &mut Notes,
) -> ManifestResult<ProbeSpec> {
    let probe = ProbeSpec {
        action,
        initial_delay_s: fields.count("initialDelaySeconds", 0, 0)?,
        period_s: fields.count("periodSeconds", 1, 10)?,
        timeout_s: fields.count("timeoutSeconds", 1, 1)?,
        failure_threshold: fields.count("failureThreshold", 1, 3)?,
    };
    fields.finish(notes);
    notes.warn(&place.path, place.node.line, NOT_YET);
    Ok(probe)
}

/// The one way of asking that is given.
fn one(place: &Place<'_>, ways: [Option<ProbeAction>; 3], words: &str) -> ManifestResult<ProbeAction> {
    let mut given = ways.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(action), None) => Ok(action),
        (Some(_), Some(_)) => Err(place.invalid(format!("must have only one of {words}"))),
        (None, _) => Err(place.invalid(format!("must have {words}"))),
    }
}

fn http_get(place: &Place<'_>, ports: &BTreeMap<String, u16>, notes: &mut Notes) -> ManifestResult<ProbeAction> {
    let mut fields = place.fields()?;
    let path = fields.text("path")?;
    let port = port(&fields.require("port")?, ports)?;
    fields.refuse(&["host", "httpHeaders"])?;
    fields.only(&[("scheme", &["HTTP"])])?;
    fields.finish(notes);
    let path = if path.is_empty() { "/".to_owned() } else { path };
    Ok(ProbeAction::Http { path, port })
}

fn tcp_socket(place: &Place<'_>, ports: &BTreeMap<String, u16>, notes: &mut Notes) -> ManifestResult<ProbeAction> {
    let mut fields = place.fields()?;
    let port = port(&fields.require("port")?, ports)?;
    fields.refuse(&["host"])?;
    fields.finish(notes);
    Ok(ProbeAction::Tcp { port })
}

fn exec(place: &Place<'_>, notes: &mut Notes) -> ManifestResult<ProbeAction> {
    let mut fields = place.fields()?;
    let list = fields.require("command")?;
    let command = list.texts()?;
    fields.finish(notes);
    if command.is_empty() { Err(list.invalid("must not be empty")) } else { Ok(ProbeAction::Exec { command }) }
}

/// A port by number or by the name that the container gives it.
fn port(place: &Place<'_>, ports: &BTreeMap<String, u16>) -> ManifestResult<u16> {
    match ports.get(&place.text()?) {
        Some(port) => Ok(*port),
        None => place.integer(1, 65535),
    }
}
