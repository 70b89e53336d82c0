//! What a service may do beyond an ordinary process: users, capabilities, `security_opt`, devices, namespaces.

use std::collections::BTreeSet;

use super::scalars::flag;
use crate::manifest::error::ManifestResult;
use crate::manifest::names;
use crate::manifest::node::Value;
use crate::manifest::privileges::{MAX_ID, capability_set};
use crate::manifest::reader::{Fields, Place};
use crate::model::security::SecurityContext;
use crate::model::text::{normalized, shown};
use crate::model::workload::DeviceSpec;

/// The most devices of one service.
const MAX_DEVICES: usize = 256;

/// Reads the fields about it.
pub(super) fn read(fields: &mut Fields<'_>) -> ManifestResult<SecurityContext> {
    let (run_as_user, run_as_group) = user(fields)?;
    let mut security = SecurityContext {
        privileged: flag(fields, "privileged")?,
        add_capabilities: capability_set(fields.items("cap_add")?)?,
        drop_capabilities: capability_set(fields.items("cap_drop")?)?,
        run_as_user,
        run_as_group,
        supplemental_groups: groups(fields)?,
        run_as_non_root: false,
        read_only_root: flag(fields, "read_only")?,
        no_new_privileges: None,
        seccomp_profile: None,
    };
    for item in fields.items("security_opt")? {
        option(&item, &mut security)?;
    }
    Ok(security)
}

/// `UID[:GID]`. Names are known inside of the image alone.
fn user(fields: &mut Fields<'_>) -> ManifestResult<(Option<u32>, Option<u32>)> {
    let Some(place) = fields.take("user") else { return Ok((None, None)) };
    let text = place.text()?;
    let (user, group) = text.split_once(':').map_or((text.as_str(), None), |(user, group)| (user, Some(group)));
    let id = |text: &str| id(&place, text);
    Ok((Some(id(user)?), group.map(id).transpose()?))
}

fn id(place: &Place<'_>, text: &str) -> ManifestResult<u32> {
    match text.parse::<u32>() {
        Ok(id) if i64::from(id) <= MAX_ID => Ok(id),
        Ok(_) | Err(_) => {
            let error = place.unsupported(format!("'{}' is no number: names are known inside the image", shown(text)));
            Err(error.hint("give the numbers of user and group"))
        }
    }
}

fn groups(fields: &mut Fields<'_>) -> ManifestResult<BTreeSet<u32>> {
    fields.items("group_add")?.iter().map(|item| id(item, &item.text()?)).collect()
}

/// `no-new-privileges[:true|false]` and `seccomp:PROFILE`, with `=` as well.
fn option(item: &Place<'_>, security: &mut SecurityContext) -> ManifestResult<()> {
    let text = item.text()?;
    let (name, value) = text.split_once([':', '=']).unwrap_or((&text, ""));
    match (name, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = Some(true),
        ("no-new-privileges", "false") => security.no_new_privileges = Some(false),
        ("seccomp", "unconfined") => security.seccomp_profile = Some("unconfined".to_owned()),
        ("seccomp", path) => {
            names::absolute_path(path).map_err(|why| item.invalid(why))?;
            security.seccomp_profile = Some(normalized(path));
        }
        (_, _) => {
            let message = format!("'{}' is not supported, only no-new-privileges and seccomp", shown(&text));
            return Err(item.unsupported(message));
        }
    }
    Ok(())
}

/// Reads `devices`: `HOST[:INSIDE[:PERMISSIONS]]`, or a mapping of the same.
pub(super) fn devices(fields: &mut Fields<'_>) -> ManifestResult<Vec<DeviceSpec>> {
    let items = fields.items("devices")?;
    if let Some(item) = items.get(MAX_DEVICES) {
        return Err(item.invalid(format!("there are more than {MAX_DEVICES} devices")));
    }
    items.iter().map(device).collect()
}

fn device(item: &Place<'_>) -> ManifestResult<DeviceSpec> {
    let (host, inside, permissions) = match item.node.value {
        Value::Map(_) => {
            let mut fields = item.fields()?;
            let parts = (fields.require_text("source")?, fields.text("target")?, fields.text("permissions")?);
            fields.finish_but_extensions()?;
            parts
        }
        Value::Scalar(_) | Value::List(_) => {
            let text = item.text()?;
            let mut parts = text.splitn(3, ':').map(str::to_owned);
            let mut next = || parts.next().unwrap_or_default();
            (next(), next(), next())
        }
    };
    if !host.starts_with('/') {
        let message = format!("'{}' is no path of a device; other ways to name one are not supported", shown(&host));
        return Err(item.unsupported(message));
    }
    for path in [&host, &inside].into_iter().filter(|path| !path.is_empty()) {
        names::absolute_path(path).map_err(|why| item.invalid(why))?;
    }
    let is_known = permissions.bytes().all(|byte| b"rwm".contains(&byte)) && permissions.len() <= 3;
    if !is_known {
        return Err(item.invalid(format!("'{}' are no permissions of r, w and m", shown(&permissions))));
    }
    let path = if inside.is_empty() { host.clone() } else { inside };
    let permissions = if permissions.is_empty() { "rwm".to_owned() } else { permissions };
    Ok(DeviceSpec { host_path: normalized(&host), path: normalized(&path), permissions })
}

/// Whether a namespace is the host's; sharing it with another container is not possible.
pub(super) fn shares_host(fields: &mut Fields<'_>, name: &'static str) -> ManifestResult<bool> {
    let Some(place) = fields.take(name) else { return Ok(false) };
    match place.text()?.as_str() {
        "host" => Ok(true),
        "" | "private" => Ok(false),
        other => Err(place.unsupported(format!("'{name}: {}' is not supported, only host", shown(other)))),
    }
}
