//! `mounts` of a bundle: host paths, and what every container has anyway.

use crate::manifest::error::ManifestResult;
use crate::manifest::names;
use crate::manifest::plain::Mounts;
use crate::manifest::reader::Place;
use crate::model::text::{normalized, shown};
use crate::model::workload::{HostPathKind, VolumeSource};

/// What a runtime mounts by itself: type and place.
const USUAL: &[(&str, &str)] = &[
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("tmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("tmpfs", "/dev/shm"),
    ("mqueue", "/dev/mqueue"),
    ("cgroup", "/sys/fs/cgroup"),
    ("cgroup2", "/sys/fs/cgroup"),
];

/// Reads them.
pub(super) fn read(items: Vec<Place<'_>>) -> ManifestResult<Mounts> {
    let mut mounts = Mounts::default();
    for item in items {
        let mut fields = item.fields()?;
        let place = fields.require("destination")?;
        let path = normalized(&place.text()?);
        let options = fields.items("options")?;
        let words = options.iter().map(Place::text).collect::<ManifestResult<Vec<_>>>()?;
        let (kind, source) = (fields.take("type"), fields.take("source"));
        let is_bind = words.iter().any(|word| matches!(word.as_str(), "bind" | "rbind"));
        let word = kind.as_ref().map_or(Ok(String::new()), Place::text)?;
        if USUAL.iter().any(|(usual, at)| *usual == word && *at == path) && !is_bind {
            fields.finish_strictly()?;
            continue;
        }
        if !(word == "bind" || (is_bind && matches!(word.as_str(), "" | "none"))) {
            let message =
                format!("a mount of type '{}' at '{}' is not supported, only bind", shown(&word), shown(&path));
            return Err(kind.as_ref().unwrap_or(&item).unsupported(message));
        }
        let mut read_only = false;
        for (option, word) in options.iter().zip(&words) {
            match word.as_str() {
                "ro" => read_only = true,
                "rw" => read_only = false,
                "bind" | "rbind" | "private" | "rprivate" => {}
                other => {
                    let message = format!("option '{}' is not supported, only bind, ro and rw", shown(other));
                    return Err(option.unsupported(message));
                }
            }
        }
        let Some(source) = source else { return Err(item.invalid("field 'source' is missing")) };
        let from = source.text()?;
        if !from.starts_with('/') {
            let message =
                format!("'{}' is relative to a bundle's folder, which the daemon does not know", shown(&from));
            return Err(source.unsupported(message).hint("give an absolute path"));
        }
        names::absolute_path(&from).map_err(|why| source.invalid(why))?;
        let volume = VolumeSource::HostPath { path: normalized(&from), kind: HostPathKind::Any };
        let to = place.text()?;
        mounts.add(volume, &to, "", read_only).map_err(|error| error.at(place.path.clone(), place.node.line))?;
        fields.refuse(&["uidMappings", "gidMappings"])?;
        fields.finish_strictly()?;
    }
    Ok(mounts)
}
