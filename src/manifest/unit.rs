//! systemd units: one workload whose container is the unit's text.
//!
//! The text goes to systemd as it is, so only its form is looked at here, and the section `[X-ActionController]`, which
//! systemd ignores like every section that begins with `X-`: `Name=` names the workload, `Node=` the node whose systemd
//! shall run it, `Transient=` says whether systemd gets it without a file, and `ExclusiveCpus=`, `ExclusiveCpuCount=`,
//! `CoresMode=` and `HibernateWithCores=` which CPUs it has alone (the header of `cores`). Source: `systemd.syntax(7)`;
//! `[Container]` and `[Kube]` are Podman's `podman-systemd.unit(5)`.

use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::reader::Notes;
use super::{cores, names, plain};
use crate::model::text::shown;
use crate::model::workload::{ManifestFormat, WorkloadSpec};

/// Our own section.
const OWN: &str = "X-ActionController";

/// Sections of which a unit that runs something has one.
const RUN: &[&str] = &["Service", "Container", "Kube"];

/// The container's name within the workload.
const CONTAINER: &str = "unit";

/// What a unit says of CPUs, each with the annotation that means the same.
const CORES: &[(&str, &str)] = &[
    ("ExclusiveCpus", cores::CPUS),
    ("ExclusiveCpuCount", cores::COUNT),
    ("CoresMode", cores::MODE),
    ("HibernateWithCores", cores::HIBERNATE),
];

/// Whether the text is a unit: what it begins with is the header of a section.
pub(super) fn is_unit(text: &str) -> bool {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().map(str::trim).find(|line| !is_ignored(line));
    first.is_some_and(|line| section(line).is_some())
}

/// Reads a unit. Without a name of its own it has the `given` one.
pub(super) fn read(text: &str, given: &str) -> ManifestResult<(WorkloadSpec, Notes)> {
    let unit = parse(text).map_err(|error| error.within("Unit"))?;
    let name = match &unit.name {
        Some((name, line)) => {
            names::subdomain(name).map_err(|why| invalid(why).at(format!("{OWN}.Name"), *line).within("Unit"))?;
            name.clone()
        }
        None if given.is_empty() => {
            let error = invalid("the unit has no name").at(format!("{OWN}.Name"), 0).within("Unit");
            return Err(error.hint(format!("write a section [{OWN}] with Name=, or name the target")));
        }
        None => {
            let at =
                |why| invalid(format!("the unit has no name, and {why}")).at(format!("{OWN}.Name"), 0).within("Unit");
            names::subdomain(given).map_err(at)?;
            given.to_owned()
        }
    };
    let mut spec = plain::workload(&name, ManifestFormat::Unit);
    if let Some((node, line)) = unit.node {
        let at = |why| invalid(why).at(format!("{OWN}.Node"), line).within("Unit");
        names::object(&node).map_err(at)?;
        spec.node = node;
    }
    let cores = unit.cores.request();
    spec.cores = cores.map_err(|why| invalid(why).at(OWN, unit.cores_line).within("Unit"))?;
    let mut container = plain::container(CONTAINER);
    text.clone_into(&mut container.unit);
    spec.containers = vec![container];
    Ok((spec, Notes::new(format!("Unit '{name}'"))))
}

/// What is said of a unit, with the lines.
#[derive(Default)]
struct Unit {
    name: Option<(String, u32)>,
    node: Option<(String, u32)>,
    transient: Option<(String, u32)>,
    cores: cores::Cores,
    cores_line: u32,
}

fn invalid(message: impl Into<String>) -> ManifestError {
    ManifestError::new(ManifestErrorKind::Invalid, message)
}

fn is_ignored(line: &str) -> bool {
    line.is_empty() || line.starts_with(['#', ';'])
}

/// The name in a section's header.
fn section(line: &str) -> Option<&str> {
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let is_inner = |one: char| one.is_ascii_alphanumeric() || matches!(one, '-' | '_' | ' ' | '.');
    (!name.is_empty() && name.chars().all(is_inner)).then_some(name)
}

fn parse(text: &str) -> ManifestResult<Unit> {
    let mut unit = Unit::default();
    let mut current: Option<&str> = None;
    let mut runs = false;
    // A line that ends with a backslash goes on in the next one that is no comment.
    let mut goes_on = None;
    let lines = text.strip_prefix('\u{feff}').unwrap_or(text).lines().zip(1_u32..);
    for (raw, number) in lines {
        let line = raw.trim();
        if line.contains('\0') {
            return Err(invalid("the line holds a NUL character").at("", number));
        }
        let is_continued = goes_on.is_some();
        if line.starts_with(['#', ';']) || (line.is_empty() && !is_continued) {
            continue;
        }
        goes_on = line.ends_with('\\').then_some(number);
        if is_continued {
            continue;
        }
        if line.starts_with('[') {
            let name = section(line)
                .ok_or_else(|| invalid(format!("'{}' is no header of a section", shown(line))).at("", number))?;
            runs |= RUN.contains(&name);
            current = Some(name);
            continue;
        }
        let Some(section) = current else {
            return Err(invalid(format!("'{}' stands before the first section", shown(line))).at("", number));
        };
        let path = section.to_owned();
        let Some((key, value)) = line.split_once('=').map(|(key, value)| (key.trim(), value.trim())) else {
            return Err(invalid(format!("'{}' is no KEY=VALUE", shown(line))).at(path, number));
        };
        if key.is_empty() || key.chars().any(|one| one.is_whitespace() || one.is_control()) {
            return Err(invalid(format!("'{}' is no key", shown(key))).at(path, number));
        }
        if section == OWN {
            own(&mut unit, key, value, number)?;
        }
    }
    if let Some(number) = goes_on {
        return Err(invalid("the line goes on, and there is no next one").at("", number));
    }
    if !runs {
        let error = invalid(format!("the unit has none of the sections {}", RUN.join(", "))).at("", 1);
        return Err(error.hint("only units that run something are workloads"));
    }
    Ok(unit)
}

fn own(unit: &mut Unit, key: &str, value: &str, line: u32) -> ManifestResult<()> {
    let path = super::reader::join(OWN, key);
    let target = match key {
        "Name" => &mut unit.name,
        "Node" => &mut unit.node,
        "Transient" => &mut unit.transient,
        _ => {
            let Some((_, annotation)) = CORES.iter().find(|(name, _)| *name == key) else {
                let known: Vec<_> =
                    ["Name", "Node", "Transient"].into_iter().chain(CORES.iter().map(|(name, _)| *name)).collect();
                let message = format!("'{}' is none of {}", shown(key), known.join(", "));
                return Err(ManifestError::new(ManifestErrorKind::Unsupported, message).at(path, line));
            };
            unit.cores_line = line;
            return unit.cores.read(annotation, value).map_err(|why| invalid(why).at(path, line));
        }
    };
    if value.is_empty() || value.ends_with('\\') {
        return Err(invalid("must not be empty, and must be on one line").at(path, line));
    }
    if key == "Transient" && !matches!(value, "yes" | "no") {
        return Err(invalid(format!("'{}' is neither yes nor no", shown(value))).at(path, line));
    }
    if target.replace((value.to_owned(), line)).is_some() {
        return Err(invalid(format!("{key} is given twice")).at(path, line));
    }
    Ok(())
}
