//! Units as they are installed on a node: which services there are, which of them are started with its boot, and having their
//! files read anew. The methods are systemd's, whether it is asked itself or by way of BlueChi.
//!
//! Source: `org.freedesktop.systemd1(5)` of systemd 252, `GetUnitFileState` in `systemctl(1)`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::OWN_UNITS;
use crate::runtime::adapter::{RtResult, RuntimeError};
use crate::runtime::nodes::{InstalledService, ServiceState, UnitFileChange, UnitFilesOrder, UnitFilesVerb};
use crate::transport::dbus::{OwnedObjectPath, zvariant};

/// A node's systemd, asked by its own methods.
pub trait Asked {
    /// Asks for one.
    fn ask<B, A>(&self, member: &str, body: &B) -> RtResult<A>
    where
        B: Serialize + zvariant::DynamicType,
        A: DeserializeOwned + zvariant::Type;
}

/// A unit as systemd lists it: name, description, load state, active state, sub state, and what is of no use here.
pub type ListedUnit = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// A change as systemd tells it: what was done, the path, and where that leads to.
type Changed = (String, String, String);

/// What names of units end with. Source: `systemd.unit(5)`.
const KINDS: [&str; 11] =
    ["service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope"];

/// The longest name of a unit that systemd takes.
const LONGEST: usize = 255;

/// The state of a unit as systemd lists it.
pub fn state(node: &str, (unit, _, _, active, sub, ..): ListedUnit) -> ServiceState {
    ServiceState { node: node.to_owned(), unit, active, sub }
}

/// The services of the node, those that are loaded and those that are installed alone.
pub fn services(asked: &impl Asked, node: &str) -> RtResult<Vec<InstalledService>> {
    let units: Vec<ListedUnit> = asked.ask("ListUnits", &())?;
    let files: Vec<(String, String)> = asked.ask("ListUnitFiles", &())?;
    let name = |path: String| path.rsplit('/').next().map(str::to_owned).unwrap_or_default();
    let mut starts: BTreeMap<_, _> = files.into_iter().map(|(path, start)| (name(path), start)).collect();
    let mut all: Vec<_> = units
        .into_iter()
        .map(|unit| {
            let state = state(node, unit);
            InstalledService { start: starts.remove(&state.unit).unwrap_or_default(), state }
        })
        .collect();
    // Of a template there is nothing to be in a state.
    let at_rest = starts.into_iter().filter(|(unit, _)| !unit.contains("@."));
    all.extend(at_rest.map(|(unit, start)| {
        let (active, sub) = ("inactive".to_owned(), "dead".to_owned());
        InstalledService { state: ServiceState { node: node.to_owned(), unit, active, sub }, start }
    }));
    Ok(all)
}

/// Enables or disables units, all of them or none, and has unit files read anew. What was changed; nothing where it was so.
pub fn arrange(asked: &impl Asked, order: &UnitFilesOrder) -> RtResult<Vec<UnitFileChange>> {
    order.units.iter().try_for_each(|unit| check_name(unit))?;
    let changes: Vec<Changed> = match order.verb {
        UnitFilesVerb::Enable => {
            for unit in &order.units {
                let state = asked.ask("GetUnitFileState", unit).map_err(|error| absent(unit, error))?;
                check_enable(unit, state)?;
            }
            let body = (&order.units, order.is_for_this_boot, order.by_force);
            asked.ask::<_, (bool, Vec<Changed>)>("EnableUnitFiles", &body)?.1
        }
        UnitFilesVerb::Disable => asked.ask("DisableUnitFiles", &(&order.units, order.is_for_this_boot))?,
    };
    let changes = changes.into_iter().map(|(kind, path, target)| UnitFileChange { kind, path, target });
    let changes: Vec<_> = changes.collect();
    asked.ask::<_, ()>("Reload", &()).map_err(|error| half_done(error, &changes))?;
    Ok(changes)
}

/// systemd does not say which it did not find.
fn absent(unit: &str, error: RuntimeError) -> RuntimeError {
    match error {
        RuntimeError::NotFound { .. } => RuntimeError::NotFound { what: format!("the file of unit '{unit}'") },
        other => other,
    }
}

/// Where links were changed, the failure says so.
fn half_done(error: RuntimeError, changes: &[UnitFileChange]) -> RuntimeError {
    let Some(first) = changes.first() else { return error };
    RuntimeError::Io {
        what: format!("reading unit files anew after a change of '{}'", first.path),
        reason: format!("{error}; the change stays"),
    }
}

/// Refuses what is no name of a unit, a path among them, and what this daemon itself starts.
fn check_name(unit: &str) -> RtResult<()> {
    let invalid = |why: String| Err(RuntimeError::InvalidSpec { reason: format!("units: '{unit}' {why}") });
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b":_.\\@-".contains(&byte);
    let has_kind = unit.rsplit_once('.').is_some_and(|(name, kind)| !name.is_empty() && KINDS.contains(&kind));
    if !has_kind || unit.len() > LONGEST || !unit.bytes().all(is_plain) {
        return invalid(format!("is no name of a unit, such as NAME.service; known are .{}", KINDS.join(" .")));
    }
    if unit.starts_with(OWN_UNITS) {
        return invalid("is a workload of this daemon, and its file is gone with the next boot".to_owned());
    }
    Ok(())
}

/// Refuses a unit that systemd would not enable, or would enable without an effect.
fn check_enable(unit: &str, state: String) -> RtResult<()> {
    let why = match state.as_str() {
        "static" => ": its file has no [Install] section that says what starts it",
        "generated" => ": what it is generated from says when it starts",
        "transient" => ": it has no file",
        "masked" | "masked-runtime" | "bad" => "",
        _ => return Ok(()),
    };
    let (op, id) = ("enable".to_owned(), unit.to_owned());
    Err(RuntimeError::InvalidState { op, id, state: format!("{state}{why}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_units_are_taken_and_paths_and_workloads_are_not() {
        for name in ["a.service", "a@b:1.timer", "dev-sda\\x2d1.mount", "x.y.target"] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for (name, what) in [
            ("", "no name"),
            ("a", "no name"),
            (".service", "no name"),
            ("/etc/a.service", "no name"),
            ("a b.service", "no name"),
            ("a.conf", ".service .socket"),
            ("actioncontroller-lamp.service", "workload of this daemon"),
        ] {
            assert!(check_name(name).unwrap_err().to_string().contains(what), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_enabled_is_told_with_its_state() {
        for state in ["enabled", "disabled", "indirect", "linked", "alias"] {
            assert_eq!(check_enable("a.service", state.to_owned()), Ok(()));
        }
        for (state, what) in [("static", "[Install]"), ("generated", "generated from"), ("masked", "masked")] {
            let error = check_enable("a.service", state.to_owned()).unwrap_err().to_string();
            assert!(error.contains("'a.service'") && error.contains(what), "{error}");
        }
    }
}
