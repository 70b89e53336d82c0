//! Bundles of the OCI runtime specification: a `config.json` as one workload of one container.
//!
//! Its root file system is a folder of the node, so `root.path` is absolute: a text that comes over a wire has no folder
//! beside it. The name is the annotation `actioncontroller.io/name`. What every runtime mounts and masks anyway is passed
//! over where it stands as `runc spec` writes it; every other field takes effect or is refused by name. Source: the OCI
//! Runtime Specification 1.2.

mod linux;
mod mounts;
mod process;

use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::names;
use super::node::{Node, Value};
use super::plain;
use super::pod::{Metadata, Reading};
use super::reader::{Fields, Notes, Place, join};
use crate::model::text::{normalized, shown};
use crate::model::workload::{ManifestFormat, WorkloadSpec};

/// The annotation that names the workload.
const NAME: &str = "actioncontroller.io/name";

/// The container's name within the workload.
const CONTAINER: &str = "main";

/// Parts that belong to other systems, or that nothing here does.
const REFUSED: &[&str] = &["domainname", "freebsd", "hooks", "solaris", "vm", "windows", "zos"];

/// Whether the document is a bundle's configuration.
pub(super) fn is_bundle(root: &Node) -> bool {
    let Value::Map(entries) = &root.value else { return false };
    entries.iter().any(|entry| entry.key == "ociVersion")
}

/// Reads a bundle. Without a name of its own it has the `given` one.
pub(super) fn read(root: &Node, given: &str, reading: &mut Reading<'_>) -> ManifestResult<(WorkloadSpec, Notes)> {
    let root = Place::new(root, "");
    let mut fields = root.fields()?;
    let (name, metadata) = metadata(&mut fields, given).map_err(|error| error.within("Bundle"))?;
    let mut notes = Notes::new(format!("Bundle '{name}'"));
    let spec = workload(&root, fields, &name, metadata, reading, &mut notes);
    let spec = spec.map_err(|error| error.within(&notes.title))?;
    Ok((spec, notes))
}

/// The name, and what other annotations say.
fn metadata(fields: &mut Fields<'_>, given: &str) -> ManifestResult<(String, Metadata)> {
    let mut metadata = Metadata::default();
    let mut name = None;
    if let Some(place) = fields.take("annotations") {
        for (entry, value) in place.text_map()? {
            let at = |why: String| place.invalid(why).at(join(&place.path, &entry.key), entry.line);
            if entry.key == NAME {
                names::subdomain(&value).map_err(at)?;
                name = Some(value);
            } else {
                metadata.annotate(&entry.key, value).map_err(at)?;
            }
        }
    }
    let missing = |message: String| {
        let error = ManifestError::new(ManifestErrorKind::Invalid, message);
        error
            .at(format!("annotations.{NAME}"), fields.line)
            .hint(format!("add the annotation {NAME}, or name the target"))
    };
    match name {
        Some(name) => Ok((name, metadata)),
        None if given.is_empty() => Err(missing(format!("the bundle has no annotation {NAME}"))),
        None => {
            names::subdomain(given)
                .map_err(|why| missing(format!("the bundle has no annotation {NAME}, and {why}")))?;
            Ok((given.to_owned(), metadata))
        }
    }
}

fn workload(
    root: &Place<'_>,
    mut fields: Fields<'_>,
    name: &str,
    metadata: Metadata,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<WorkloadSpec> {
    reading.count_containers(1, root)?;
    version(&fields.require("ociVersion")?)?;
    fields.refuse(REFUSED)?;
    let mut spec = plain::workload(name, ManifestFormat::Bundle);
    let mut container = plain::container(CONTAINER);
    container.rootfs = root_path(&mut fields, &mut container.security.read_only_root)?;
    process::read(&fields.require("process")?, &mut container)?;
    let mounts = mounts::read(fields.items("mounts")?)?;
    (spec.volumes, container.mounts) = (mounts.volumes, mounts.mounts);
    if let Some(place) = fields.take("hostname") {
        spec.hostname = place.text()?;
        names::subdomain(&spec.hostname).map_err(|why| place.invalid(why))?;
    }
    linux::read(fields.take("linux"), root, &mut spec, &mut container, notes)?;
    spec.containers = vec![container];
    plain::annotate(&mut spec, metadata).map_err(|why| root.invalid(why).at("annotations", root.node.line))?;
    fields.finish_strictly()?;
    Ok(spec)
}

/// Versions of one major number understand one another.
fn version(place: &Place<'_>) -> ManifestResult<()> {
    let text = place.text()?;
    if text.starts_with("1.") {
        return Ok(());
    }
    Err(place.unsupported(format!("version '{}' is not supported, only 1", shown(&text))))
}

fn root_path(fields: &mut Fields<'_>, read_only: &mut bool) -> ManifestResult<String> {
    let mut root = fields.require("root")?.fields()?;
    let place = root.require("path")?;
    let path = place.text()?;
    if !path.starts_with('/') {
        let message = format!("'{}' is relative to a bundle's folder, which the daemon does not know", shown(&path));
        return Err(place.unsupported(message).hint("give the absolute path of the root file system"));
    }
    names::absolute_path(&path).map_err(|why| place.invalid(why))?;
    *read_only = root.flag("readonly")?;
    root.finish_strictly()?;
    Ok(normalized(&path))
}
