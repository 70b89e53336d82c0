//! `healthcheck` of a service, as a liveness probe. It is kept and does not act yet.

use super::scalars::{amount, flag, number};
use super::words;
use crate::manifest::error::ManifestResult;
use crate::manifest::node::Value;
use crate::manifest::reader::{Fields, Notes, Place};
use crate::model::text::shown;
use crate::model::workload::{ProbeAction, ProbeSpec};

const NOT_YET: &str = "the health check is kept, but health checks do not act yet";

/// Compose's own, seconds.
const DEFAULT_S: u32 = 30;

/// Compose's own.
const DEFAULT_RETRIES: u32 = 3;

/// Reads it; `None` where there is none, or it is switched off.
pub(super) fn read(fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<Option<ProbeSpec>> {
    let Some(place) = fields.take("healthcheck") else { return Ok(None) };
    let mut fields = place.fields()?;
    let is_off = flag(&mut fields, "disable")?;
    let test = fields.take("test").map(|place| test(&place)).transpose()?;
    let probe = |command: Vec<String>, fields: &mut Fields<'_>| -> ManifestResult<ProbeSpec> {
        Ok(ProbeSpec {
            action: ProbeAction::Exec { command },
            initial_delay_s: seconds(fields, "start_period", 0, 0)?,
            period_s: seconds(fields, "interval", 1, DEFAULT_S)?,
            timeout_s: seconds(fields, "timeout", 1, DEFAULT_S)?,
            failure_threshold: match fields.take("retries") {
                Some(place) => number(&place, 1, i64::from(i32::MAX))?,
                None => DEFAULT_RETRIES,
            },
        })
    };
    let read = match test {
        Some(Test::Command(_)) if is_off => return Err(place.invalid("has a test and is disabled")),
        Some(Test::Command(command)) => Some(probe(command, &mut fields)?),
        Some(Test::None) => None,
        None if is_off => None,
        None => {
            let error = place.unsupported("the test of the image is not known here");
            return Err(error.hint("give the test"));
        }
    };
    if read.is_none() {
        fields.skip(&["start_period", "interval", "timeout", "retries"]);
    }
    fields.refuse(&["start_interval"])?;
    fields.finish_but_extensions()?;
    if read.is_some() {
        notes.warn(&place.path, place.node.line, NOT_YET);
    }
    Ok(read)
}

enum Test {
    None,
    Command(Vec<String>),
}

fn test(place: &Place<'_>) -> ManifestResult<Test> {
    let shell = |text: &str| Test::Command(["/bin/sh", "-c", text].map(str::to_owned).to_vec());
    if matches!(place.node.value, Value::Scalar(_)) {
        return Ok(shell(&place.text()?));
    }
    let words = place.texts()?;
    match words.as_slice() {
        [only] if only == "NONE" => Ok(Test::None),
        [kind, text] if kind == "CMD-SHELL" => Ok(shell(text)),
        [kind, command @ ..] if kind == "CMD" && !command.is_empty() => Ok(Test::Command(command.to_vec())),
        [kind, ..] if !matches!(kind.as_str(), "NONE" | "CMD" | "CMD-SHELL") => {
            Err(place.invalid(format!("'{}' is none of NONE, CMD, CMD-SHELL", shown(kind))))
        }
        _ => Err(place.invalid("must be NONE, CMD with a command, or CMD-SHELL with one text")),
    }
}

/// A duration in seconds; the probe knows no parts of them.
fn seconds(fields: &mut Fields<'_>, name: &'static str, least: u32, otherwise: u32) -> ManifestResult<u32> {
    let Some(place) = fields.take(name) else { return Ok(otherwise) };
    let millis = amount(&place, words::milliseconds)?;
    if !millis.is_multiple_of(1000) {
        return Err(place.unsupported("parts of a second are not supported"));
    }
    match u32::try_from(millis / 1000) {
        Ok(seconds) if seconds >= least => Ok(seconds),
        Ok(_) | Err(_) => Err(place.invalid(format!("must be at least {least} s"))),
    }
}
