//! Volumes of ours: known by our node label; one that is not ours is never touched.

use super::client::{Client, is_taken};
use super::request::VolumeCreate;
use super::{PodmanConfig, spec};
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError, VolumeSpec};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::exchange::NO_BODY;
use crate::runtime::rest::filters::workload_filter;
use crate::runtime::rest::wire::{Strings, Volume};
use crate::runtime::shared::owned::{is_of_workload, is_ours, owner_of};
use crate::transport::http::{Method, encode};

/// The volume of exactly this name. Podman also takes a name's beginning.
pub(super) fn find(client: &Client, call: &Call, name: &str) -> RtResult<Option<Volume>> {
    if name.is_empty() {
        return Ok(None);
    }
    let found: Option<Volume> = client.find(call, "volume inspect", &format!("/volumes/{}/json", encode(name)))?;
    Ok(found.filter(|volume| volume.name == name))
}

/// Makes it present.
pub(super) fn ensure(client: &Client, settings: &PodmanConfig, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
    let known = |found: Option<Volume>| match found {
        Some(found) => owner_of(&settings.node, "volume", &volume.name, &found.labels).map(Some),
        None => Ok(None),
    };
    if let Some(unchanged) = known(find(client, call, &volume.name)?)? {
        return Ok(unchanged);
    }
    let document = VolumeCreate {
        name: volume.name.clone(),
        driver: "local",
        labels: spec::owned(settings, &volume.labels),
        options: options(volume)?,
    };
    match client.send(call, "volume create", Method::Post, "/volumes/create", Some(&document))? {
        Answer::Done(_) => Ok(Change::Changed),
        Answer::Unchanged => Ok(Change::Unchanged),
        // Another workload's action was faster.
        Answer::Refused(failure) if is_taken(&failure) => {
            known(find(client, call, &volume.name)?)?.ok_or_else(|| failure.into_error())
        }
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// Podman takes `size=` for a project quota of its own file system, which tmpfs has none of; `nr_blocks=`, pages, is
/// the same limit and goes to the mount as it is.
fn options(volume: &VolumeSpec) -> RtResult<Strings> {
    let Some(bytes) = volume.tmpfs_bytes else { return Ok(Strings::new()) };
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut options = Strings::from([option("type", "tmpfs"), option("device", "tmpfs")]);
    if bytes > 0 {
        let blocks = bytes.div_ceil(page_size()?);
        options.insert("o".to_owned(), format!("nr_blocks={blocks}"));
    }
    Ok(options)
}

/// The kernel's page size: procfs reports it as its block size.
fn page_size() -> RtResult<u64> {
    let size = nix::sys::statvfs::statvfs("/proc").map(|stat| stat.block_size());
    match size {
        Ok(size) if size > 0 => Ok(size),
        Ok(_) => Err(io("the block size is 0")),
        Err(errno) => Err(io(errno.desc())),
    }
}

fn io(reason: &str) -> RuntimeError {
    RuntimeError::Io { what: "the page size from /proc".to_owned(), reason: reason.to_owned() }
}

/// Deletes it if it is ours.
pub(super) fn remove(client: &Client, settings: &PodmanConfig, call: &Call, name: &str) -> RtResult<Change> {
    let Some(found) = find(client, call, name)? else { return Ok(Change::Unchanged) };
    if !is_ours(&settings.node, &found.labels) {
        return Ok(Change::Unchanged);
    }
    let path = format!("/volumes/{}?force=false", encode(name));
    match client.send(call, "volume remove", Method::Delete, &path, NO_BODY)? {
        Answer::Done(_) => Ok(Change::Changed),
        Answer::Unchanged => Ok(Change::Unchanged),
        Answer::Refused(failure) if failure.is_missing() => Ok(Change::Unchanged),
        Answer::Refused(failure) if failure.is_conflict() => Err(RuntimeError::InvalidState {
            op: "volume remove".to_owned(),
            id: name.to_owned(),
            state: "in use".to_owned(),
        }),
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

/// The names of our volumes of a workload.
pub(super) fn of_workload(
    client: &Client,
    settings: &PodmanConfig,
    call: &Call,
    workload: &str,
) -> RtResult<Vec<String>> {
    let path = format!("/volumes/json?filters={}", workload_filter(&settings.node, workload));
    let found: Vec<Volume> = client.get(call, "volume list", &path)?;
    // Version 4.3 gives volumes that have any of the labels, so they are looked at again.
    let is_its = |volume: &Volume| is_of_workload(&settings.node, &volume.labels, workload);
    Ok(found.into_iter().filter(is_its).map(|volume| volume.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_limited_in_pages_rounded_up() {
        let volume = |tmpfs_bytes| VolumeSpec { name: "v".to_owned(), labels: Strings::new(), tmpfs_bytes };
        let page = page_size().unwrap();
        assert_eq!(options(&volume(None)).unwrap(), Strings::new());
        assert!(!options(&volume(Some(0))).unwrap().contains_key("o"));
        assert_eq!(options(&volume(Some(page + 1))).unwrap()["o"], "nr_blocks=2");
    }
}
