//! `securityContext` of a pod and of a container, merged: what the container says wins over what its pod says.

use std::collections::BTreeSet;

use super::error::ManifestResult;
use super::names;
use super::reader::{Fields, Notes, Place};
use crate::model::security::SecurityContext;

/// The largest user or group id; the kernel keeps the one above for "none".
pub(super) const MAX_ID: i64 = u32::MAX as i64 - 1;

/// What a pod's `securityContext` gives to its containers.
#[derive(Debug, Clone, Default)]
pub(super) struct PodSecurity {
    shared: SecurityContext,
}

/// Reads a pod's `securityContext`.
pub(super) fn of_pod(place: Option<Place<'_>>, notes: &mut Notes) -> ManifestResult<PodSecurity> {
    let mut shared = SecurityContext::default();
    let Some(place) = place else { return Ok(PodSecurity { shared }) };
    let mut fields = place.fields()?;
    users(&mut fields, &mut shared, notes)?;
    for item in fields.items("supplementalGroups")? {
        shared.supplemental_groups.insert(item.integer(0, MAX_ID)?);
    }
    fields.refuse(&["fsGroup", "fsGroupChangePolicy", "sysctls"])?;
    fields.only(&[("supplementalGroupsPolicy", &["Merge"])])?;
    fields.skip(&["seLinuxChangePolicy"]);
    fields.finish(notes);
    Ok(PodSecurity { shared })
}

/// Reads a container's `securityContext` over its pod's.
pub(super) fn of_container(
    pod: &PodSecurity,
    place: Option<Place<'_>>,
    notes: &mut Notes,
) -> ManifestResult<SecurityContext> {
    let mut security = pod.shared.clone();
    let Some(place) = place else { return Ok(security) };
    let mut fields = place.fields()?;
    users(&mut fields, &mut security, notes)?;
    security.privileged = fields.flag("privileged")?;
    security.read_only_root = fields.flag("readOnlyRootFilesystem")?;
    if let Some(escalation) = fields.take("allowPrivilegeEscalation") {
        let allowed = escalation.boolean()?;
        if !allowed && security.privileged {
            return Err(escalation.invalid("must not be false where privileged is true"));
        }
        security.no_new_privileges = Some(!allowed);
    }
    if let Some(capabilities) = fields.take("capabilities") {
        let mut lists = capabilities.fields()?;
        security.add_capabilities = capability_set(lists.items("add")?)?;
        security.drop_capabilities = capability_set(lists.items("drop")?)?;
        lists.finish(notes);
    }
    fields.only(&[("procMount", &["Default"])])?;
    fields.finish(notes);
    if security.run_as_non_root && security.run_as_user == Some(0) {
        return Err(place.invalid("runAsUser must not be 0 where runAsNonRoot is true"));
    }
    Ok(security)
}

/// The fields that pods and containers share.
fn users(fields: &mut Fields<'_>, security: &mut SecurityContext, notes: &mut Notes) -> ManifestResult<()> {
    if let Some(user) = fields.take("runAsUser") {
        security.run_as_user = Some(user.integer(0, MAX_ID)?);
    }
    if let Some(group) = fields.take("runAsGroup") {
        security.run_as_group = Some(group.integer(0, MAX_ID)?);
    }
    if let Some(non_root) = fields.take("runAsNonRoot") {
        security.run_as_non_root = non_root.boolean()?;
    }
    if let Some(profile) = fields.take("seccompProfile") {
        security.seccomp_profile = seccomp(&profile, notes)?;
    }
    if let Some(profile) = fields.take("appArmorProfile") {
        let mut profile = profile.fields()?;
        profile.only(&[("type", &["RuntimeDefault"])])?;
        profile.refuse(&["localhostProfile"])?;
        profile.finish(notes);
    }
    fields.refuse(&["seLinuxOptions", "windowsOptions"])
}

/// `type: RuntimeDefault`, `Unconfined`, or `Localhost` with an absolute path of the node.
fn seccomp(place: &Place<'_>, notes: &mut Notes) -> ManifestResult<Option<String>> {
    #[derive(Clone, Copy)]
    enum Profile {
        Default,
        Unconfined,
        File,
    }
    let mut fields = place.fields()?;
    let words =
        [("RuntimeDefault", Profile::Default), ("Unconfined", Profile::Unconfined), ("Localhost", Profile::File)];
    let kind = fields.require("type")?.word(&words)?;
    let profile = match kind {
        Profile::Default => None,
        Profile::Unconfined => Some("unconfined".to_owned()),
        Profile::File => {
            let path = fields.require("localhostProfile")?;
            let text = path.text()?;
            names::absolute_path(&text).map_err(|why| path.invalid(why))?;
            Some(crate::model::text::normalized(&text))
        }
    };
    fields.finish(notes);
    Ok(profile)
}

/// Capabilities in the form of the model: upper case, without `CAP_`.
pub(super) fn capability_set(items: Vec<Place<'_>>) -> ManifestResult<BTreeSet<String>> {
    let read = |item: &Place<'_>| {
        let text = item.text()?.to_ascii_uppercase();
        let name = text.strip_prefix("CAP_").unwrap_or(&text);
        let is_inner = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
        if name.is_empty() || name.len() > names::MAX_NAME || !name.bytes().all(is_inner) {
            return Err(item.invalid("is no capability such as NET_ADMIN"));
        }
        Ok(name.to_owned())
    };
    items.iter().map(read).collect()
}
