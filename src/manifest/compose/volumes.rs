//! `volumes` and `tmpfs` of a service, and the project's own `volumes`.
//!
//! A named volume is the engine's `{project}_{name}` and outlives the project. One without a name lives and goes with its
//! service. A host path has to be there, but where `create_host_path` asks for it; paths are absolute, because the daemon
//! knows of no folder that they could start in.

use std::collections::BTreeMap;

use super::scalars::{amount, boolean, flag, one_or_more};
use super::words;
use crate::manifest::error::{ManifestError, ManifestResult};
use crate::manifest::names;
use crate::manifest::node::Value;
use crate::manifest::plain::Mounts;
use crate::manifest::reader::{Fields, Place};
use crate::model::text::{normalized, shown};
use crate::model::workload::{HostPathKind, VolumeSource};

/// Names of the engine's volumes by the project's.
pub(super) type Volumes = BTreeMap<String, String>;

/// Reads the project's `volumes`.
pub(super) fn of_project(place: Option<Place<'_>>, project: &str) -> ManifestResult<Volumes> {
    let mut volumes = Volumes::new();
    let Some(place) = place else { return Ok(volumes) };
    for (entry, at) in place.named()? {
        let mut name = format!("{project}_{}", entry.key);
        if !at.node.is_null() {
            let mut fields = at.fields()?;
            if let Some(own) = fields.take("name") {
                name = own.text()?;
            }
            fields.only(&[("driver", &["local", "default"])])?;
            refuse_external(&mut fields, "volume")?;
            fields.refuse(&["driver_opts", "labels"])?;
            fields.finish_but_extensions()?;
        }
        names::object(&name).map_err(|why| at.invalid(why))?;
        volumes.insert(entry.key.clone(), name);
    }
    Ok(volumes)
}

/// What others have made is not looked for.
pub(super) fn refuse_external(fields: &mut Fields<'_>, what: &str) -> ManifestResult<()> {
    let Some(place) = fields.take("external") else { return Ok(()) };
    if matches!(place.node.value, Value::Scalar(_)) && !boolean(&place)? {
        return Ok(());
    }
    let message = format!("an external {what} is not supported: it is not this daemon's to use");
    Err(place.unsupported(message).hint("take external out, and the daemon makes it"))
}

/// Reads a service's `volumes` and `tmpfs`.
pub(super) fn of_service(fields: &mut Fields<'_>, volumes: &Volumes) -> ManifestResult<Mounts> {
    let mut mounts = Mounts::default();
    for item in fields.items("volumes")? {
        let wanted = match item.node.value {
            Value::Map(_) => long(&item, volumes)?,
            Value::Scalar(_) | Value::List(_) => short(&item, volumes)?,
        };
        let Wanted { source, path, sub_path, read_only } = wanted;
        mounts.add(source, &path, &sub_path, read_only).map_err(|error| placed(error, &item))?;
    }
    if let Some(place) = fields.take("tmpfs") {
        for item in one_or_more(&place)? {
            let (path, size) = tmpfs(&item)?;
            mounts.add(in_memory(size), &path, "", false).map_err(|error| placed(error, &item))?;
        }
    }
    Ok(mounts)
}

fn placed(error: ManifestError, item: &Place<'_>) -> ManifestError {
    error.at(item.path.clone(), item.node.line)
}

struct Wanted {
    source: VolumeSource,
    path: String,
    sub_path: String,
    read_only: bool,
}

fn in_memory(size: Option<u64>) -> VolumeSource {
    VolumeSource::EmptyDir { memory: true, size_limit_bytes: size.filter(|bytes| *bytes > 0) }
}

fn named(item: &Place<'_>, name: &str, volumes: &Volumes) -> ManifestResult<VolumeSource> {
    let name = volumes.get(name).cloned().ok_or_else(|| {
        let error = item.invalid(format!("volume '{}' is not among the project's volumes", shown(name)));
        error.hint("name it under the top-level volumes, or give an absolute path of the host")
    })?;
    Ok(VolumeSource::Named { name })
}

fn host_path(item: &Place<'_>, path: &str, kind: HostPathKind) -> ManifestResult<VolumeSource> {
    if path.starts_with(['.', '~']) {
        let message = format!("'{}' is relative to a folder that the daemon does not know", shown(path));
        return Err(item.unsupported(message).hint("give an absolute path"));
    }
    names::absolute_path(path).map_err(|why| item.invalid(why))?;
    Ok(VolumeSource::HostPath { path: normalized(path), kind })
}

/// `[SOURCE:]PATH[:MODE]`.
fn short(item: &Place<'_>, volumes: &Volumes) -> ManifestResult<Wanted> {
    let text = item.text()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, path, modes) = match parts.as_slice() {
        [path] => ("", *path, ""),
        [source, path] => (*source, *path, ""),
        [source, path, modes] => (*source, *path, *modes),
        _ => return Err(item.invalid(format!("'{}' has more parts than SOURCE:PATH:MODE", shown(&text)))),
    };
    let mut read_only = false;
    for mode in modes.split(',').filter(|mode| !mode.is_empty()) {
        match mode {
            "ro" => read_only = true,
            "rw" | "rprivate" => {}
            other => return Err(item.unsupported(format!("mode '{}' is not supported, only ro and rw", shown(other)))),
        }
    }
    let source = match source {
        "" => VolumeSource::EmptyDir { memory: false, size_limit_bytes: None },
        path if path.starts_with(['/', '.', '~']) => host_path(item, path, HostPathKind::Any)?,
        name => named(item, name, volumes)?,
    };
    Ok(Wanted { source, path: path.to_owned(), sub_path: String::new(), read_only })
}

/// `PATH[:OPTIONS]`, of which only the size can take effect.
fn tmpfs(item: &Place<'_>) -> ManifestResult<(String, Option<u64>)> {
    let text = item.text()?;
    let Some((path, options)) = text.split_once(':') else { return Ok((text, None)) };
    let mut size = None;
    for option in options.split(',').filter(|option| !matches!(*option, "" | "rw")) {
        let Some(given) = option.strip_prefix("size=") else {
            return Err(item.unsupported(format!("option '{}' is not supported, only size", shown(option))));
        };
        size = Some(words::bytes(given).map_err(|why| item.invalid(format!("size '{}' {why}", shown(given))))?);
    }
    Ok((path.to_owned(), size))
}

fn long(item: &Place<'_>, volumes: &Volumes) -> ManifestResult<Wanted> {
    #[derive(Clone, Copy)]
    enum Kind {
        Bind,
        Volume,
        Tmpfs,
    }
    let mut fields = item.fields()?;
    let kind = fields.require("type")?;
    if let word @ ("cluster" | "npipe" | "image") = kind.text()?.as_str() {
        return Err(kind.unsupported(format!("mounts of type '{word}' are not supported")));
    }
    let kind = kind.word(&[("bind", Kind::Bind), ("volume", Kind::Volume), ("tmpfs", Kind::Tmpfs)])?;
    let (source, path) = (fields.text("source")?, fields.require_text("target")?);
    let read_only = flag(&mut fields, "read_only")?;
    let (mut sub_path, source) = (
        String::new(),
        match kind {
            Kind::Bind => {
                let mut made = HostPathKind::Any;
                if let Some(place) = fields.take("bind") {
                    let mut bind = place.fields()?;
                    if flag(&mut bind, "create_host_path")? {
                        made = HostPathKind::DirectoryOrCreate;
                    }
                    bind.only(&[("propagation", &["rprivate"])])?;
                    bind.refuse(&["recursive", "selinux"])?;
                    bind.finish_but_extensions()?;
                }
                host_path(item, &source, made)?
            }
            Kind::Volume if source.is_empty() => VolumeSource::EmptyDir { memory: false, size_limit_bytes: None },
            Kind::Volume => named(item, &source, volumes)?,
            Kind::Tmpfs => {
                let mut size = None;
                if let Some(place) = fields.take("tmpfs") {
                    let mut options = place.fields()?;
                    size = options.take("size").map(|place| amount(&place, words::bytes)).transpose()?;
                    options.refuse(&["mode"])?;
                    options.finish_but_extensions()?;
                }
                if !source.is_empty() {
                    return Err(item.invalid("a tmpfs has no source"));
                }
                in_memory(size)
            }
        },
    );
    if let (Kind::Volume, Some(place)) = (kind, fields.take("volume")) {
        let mut options = place.fields()?;
        if let Some(place) = options.take("subpath") {
            sub_path = place.text()?;
            names::relative_path(&sub_path).map_err(|why| place.invalid(why))?;
        }
        if let Some(place) = options.take("nocopy").filter(|place| !matches!(boolean(place), Ok(false))) {
            return Err(place.unsupported("field 'nocopy' is not supported"));
        }
        options.refuse(&["labels"])?;
        options.finish_but_extensions()?;
    }
    fields.refuse(&["consistency"])?;
    fields.finish_but_extensions()?;
    Ok(Wanted { source, path, sub_path, read_only })
}
