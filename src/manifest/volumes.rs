//! `volumes`: where their content is. The same list stands in a Pod, a Model and a Volume document.

use std::collections::{BTreeMap, BTreeSet};

use super::error::ManifestResult;
use super::names;
use super::reader::{Fields, Notes, Place};
use crate::model::workload::{HostPathKind, VolumeSource};

/// Sources that Kubernetes knows and that do not exist here.
const OTHER_SOURCES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "azureFile",
    "cephfs",
    "cinder",
    "configMap",
    "csi",
    "downwardAPI",
    "ephemeral",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "glusterfs",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "projected",
    "quobyte",
    "rbd",
    "scaleIO",
    "secret",
    "storageos",
    "vsphereVolume",
];

/// The most volumes of one list.
const MAX_VOLUMES: usize = 256;

/// Volumes by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Volumes {
    /// Where each one's content is.
    pub sources: BTreeMap<String, VolumeSource>,
    /// Those whose every mount is read-only.
    pub read_only: BTreeSet<String>,
}

/// Reads a list of volumes.
pub(super) fn read(items: Vec<Place<'_>>, notes: &mut Notes) -> ManifestResult<Volumes> {
    let mut volumes = Volumes::default();
    if let Some(item) = items.get(MAX_VOLUMES) {
        return Err(item.invalid(format!("there are more than {MAX_VOLUMES} volumes")));
    }
    for item in items {
        notes.mark(&item);
        let mut fields = item.fields()?;
        let place = fields.require("name")?;
        let name = place.text()?;
        names::label(&name).map_err(|why| place.invalid(why))?;
        let (source, read_only) = source(&item, &mut fields, notes)?;
        fields.finish(notes);
        if read_only {
            volumes.read_only.insert(name.clone());
        }
        if volumes.sources.insert(name.clone(), source).is_some() {
            return Err(place.invalid(format!("volume '{name}' is given twice")));
        }
    }
    Ok(volumes)
}

/// The one source of a volume, and whether it is read-only.
fn source(item: &Place<'_>, fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<(VolumeSource, bool)> {
    let host_path = fields.take("hostPath").map(|place| of_host(&place, notes)).transpose()?;
    let empty_dir = fields.take("emptyDir").map(|place| of_empty_dir(&place, notes)).transpose()?;
    let claim = fields.take("persistentVolumeClaim").map(|place| of_claim(&place, notes)).transpose()?;
    for name in OTHER_SOURCES {
        if let Some(place) = fields.take(name) {
            let message = format!("volumes of source '{name}' are not supported");
            return Err(place.unsupported(message).hint("use hostPath, emptyDir or persistentVolumeClaim"));
        }
    }
    let mut given =
        [host_path.map(|source| (source, false)), empty_dir.map(|source| (source, false)), claim].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(source), None) => Ok(source),
        (Some(_), Some(_)) => Err(item.invalid("has more than one source")),
        (None, _) => Err(item.invalid("has no source: give hostPath, emptyDir or persistentVolumeClaim")),
    }
}

fn of_host(place: &Place<'_>, notes: &mut Notes) -> ManifestResult<VolumeSource> {
    let mut fields = place.fields()?;
    let path_place = fields.require("path")?;
    let path = path_place.text()?;
    names::absolute_path(&path).map_err(|why| path_place.invalid(why))?;
    let words = [
        ("", HostPathKind::Any),
        ("DirectoryOrCreate", HostPathKind::DirectoryOrCreate),
        ("Directory", HostPathKind::Directory),
        ("FileOrCreate", HostPathKind::FileOrCreate),
        ("File", HostPathKind::File),
        ("Socket", HostPathKind::Socket),
        ("CharDevice", HostPathKind::CharDevice),
        ("BlockDevice", HostPathKind::BlockDevice),
    ];
    let kind = fields.take("type").map_or(Ok(HostPathKind::Any), |place| place.word(&words))?;
    fields.finish(notes);
    Ok(VolumeSource::HostPath { path: crate::model::text::normalized(&path), kind })
}

fn of_empty_dir(place: &Place<'_>, notes: &mut Notes) -> ManifestResult<VolumeSource> {
    let mut fields = place.fields()?;
    fields.only(&[("medium", &["Memory"])])?;
    let memory = fields.text("medium")? == "Memory";
    let mut size_limit_bytes = None;
    if let Some(limit) = fields.take("sizeLimit") {
        if !memory {
            let error = limit.unsupported("a sizeLimit is possible with 'medium: Memory' only");
            return Err(error.hint("take sizeLimit out, or set medium: Memory"));
        }
        // 0 is Kubernetes' word for no limit.
        size_limit_bytes = Some(limit.bytes()?).filter(|bytes| *bytes > 0);
    }
    fields.finish(notes);
    Ok(VolumeSource::EmptyDir { memory, size_limit_bytes })
}

fn of_claim(place: &Place<'_>, notes: &mut Notes) -> ManifestResult<(VolumeSource, bool)> {
    let mut fields = place.fields()?;
    let name_place = fields.require("claimName")?;
    let name = name_place.text()?;
    names::object(&name).map_err(|why| name_place.invalid(why))?;
    let read_only = fields.flag("readOnly")?;
    fields.finish(notes);
    Ok((VolumeSource::Named { name }, read_only))
}
