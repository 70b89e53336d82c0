//! Volumes of ours: known by our node label; one that is not ours is never touched.

use super::client::Client;
use super::request::VolumeCreate;
use super::wire::Volumes;
use super::{DockerConfig, spec};
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError, VolumeSpec};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::exchange::NO_BODY;
use crate::runtime::rest::filters::workload_filter;
use crate::runtime::rest::wire::{Strings, Volume};
use crate::runtime::shared::owned::{is_ours, owner_of};
use crate::transport::http::{Method, encode};

/// The volume of exactly this name.
pub(super) fn find(client: &Client, call: &Call, name: &str) -> RtResult<Option<Volume>> {
    if name.is_empty() {
        return Ok(None);
    }
    let found: Option<Volume> = client.find(call, "volume inspect", &format!("/volumes/{}", encode(name)))?;
    Ok(found.filter(|volume| volume.name == name))
}

/// Makes it present.
pub(super) fn ensure(client: &Client, settings: &DockerConfig, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
    if let Some(found) = find(client, call, &volume.name)? {
        return owner_of(&settings.node, "volume", &volume.name, &found.labels);
    }
    let document = VolumeCreate {
        name: volume.name.clone(),
        driver: "local",
        labels: spec::owned(settings, &volume.labels),
        driver_opts: options(volume),
    };
    match client.send(call, "volume create", Method::Post, "/volumes/create", Some(&document))? {
        // One that somebody else has made meanwhile is given as it is, with its own labels.
        Answer::Done(_) | Answer::Unchanged => match find(client, call, &volume.name)? {
            Some(made) => owner_of(&settings.node, "volume", &volume.name, &made.labels).map(|_| Change::Changed),
            None => Err(RuntimeError::NotFound { what: format!("volume '{}'", volume.name) }),
        },
        Answer::Refused(failure) => Err(failure.into_error()),
    }
}

fn options(volume: &VolumeSpec) -> Strings {
    let Some(bytes) = volume.tmpfs_bytes else { return Strings::new() };
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let mut options = Strings::from([option("type", "tmpfs"), option("device", "tmpfs")]);
    if bytes > 0 {
        options.insert("o".to_owned(), format!("size={bytes}"));
    }
    options
}

/// Deletes it if it is ours.
pub(super) fn remove(client: &Client, settings: &DockerConfig, call: &Call, name: &str) -> RtResult<Change> {
    let Some(found) = find(client, call, name)? else { return Ok(Change::Unchanged) };
    if !is_ours(&settings.node, &found.labels) {
        return Ok(Change::Unchanged);
    }
    match client.send(call, "volume remove", Method::Delete, &format!("/volumes/{}", encode(name)), NO_BODY)? {
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
    settings: &DockerConfig,
    call: &Call,
    workload: &str,
) -> RtResult<Vec<String>> {
    let path = format!("/volumes?filters={}", workload_filter(&settings.node, workload));
    let found: Volumes = client.get(call, "volume list", &path)?;
    Ok(found.volumes.into_iter().map(|volume| volume.name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_limited_in_bytes() {
        let volume = |tmpfs_bytes| VolumeSpec { name: "v".to_owned(), labels: Strings::new(), tmpfs_bytes };
        assert_eq!(options(&volume(None)), Strings::new());
        assert!(!options(&volume(Some(0))).contains_key("o"));
        assert_eq!(options(&volume(Some(4096)))["o"], "size=4096");
    }
}
