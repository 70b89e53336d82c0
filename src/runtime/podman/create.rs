//! Creating a container: the image, the checks that need the engine, the request, and what of it did not take effect.

use super::client::{Client, is_taken};
use super::lifecycle::{self, find};
use super::wire::Inspect;
use super::{ENGINE, PodmanConfig, image, spec, status};
use crate::model::workload::labels;
use crate::runtime::adapter::{
    Call, ContainerConfig, ContainerInstance, MountSource, RtResult, RuntimeError, unsupported,
};
use crate::runtime::rest::client::{Answer, Failure};
use crate::runtime::rest::exchange::{apart, find_cut_off, garbled, parse};
use crate::runtime::rest::wire::{Created, Strings, Volume};
use crate::transport::http::{Method, encode};

const OP: &str = "create";

/// Creates the container and gives it as the engine then knows it.
pub(super) fn create(
    client: &Client,
    settings: &PodmanConfig,
    call: &Call,
    config: &ContainerConfig,
) -> RtResult<ContainerInstance> {
    let api = client.api(call)?;
    // Refused before anything is pulled where it does not depend on the image.
    if config.name.is_empty() {
        return Err(RuntimeError::InvalidSpec { reason: "name: is empty".to_owned() });
    }
    if let Some(holder) = find(client, call, &config.name)? {
        return Err(taken(settings, &config.name, &holder));
    }
    let user_of_image = config.spec.security.run_as_non_root || config.spec.security.run_as_group.is_some();
    if !user_of_image {
        spec::generator(settings, api, config, "")?;
    }
    volumes_are_there(client, call, config)?;
    image::ensure(client, call, &config.spec.image, config.spec.pull)?;
    let image_user = image::find(client, call, &config.spec.image)?.unwrap_or_default().user;
    let generator = spec::generator(settings, api, config, &image_user)?;
    let created = match client.send(call, OP, Method::Post, "/containers/create", Some(&generator)) {
        Ok(Answer::Done(response)) => parse::<Created>(ENGINE, OP, &response)?,
        Ok(Answer::Unchanged) => return Err(garbled(ENGINE, OP, 304, "nothing was created")),
        Ok(Answer::Refused(failure)) => return Err(refused(client, settings, call, config, failure)),
        Err(error) => {
            remove_cut_off(client, &generator.name, &generator.labels);
            return Err(error);
        }
    };
    accept(client, call, config, &created).inspect_err(|_| discard(client, &created.id))
}

/// A name that is taken, by whom.
fn taken(settings: &PodmanConfig, name: &str, holder: &Inspect) -> RuntimeError {
    let label = |key: &str| holder.config.labels.get(key).map(String::as_str).unwrap_or_default();
    let detail = match (label(labels::NODE) == settings.node, label(labels::WORKLOAD)) {
        (true, "") => " and is ours".to_owned(),
        (true, workload) => format!(" and belongs to workload '{workload}'"),
        (false, _) => " and is not ours".to_owned(),
    };
    RuntimeError::AlreadyExists { what: format!("container '{name}'"), detail }
}

/// Podman would make a missing volume by itself, without our labels, so that nobody would ever delete it.
fn volumes_are_there(client: &Client, call: &Call, config: &ContainerConfig) -> RtResult<()> {
    for mount in &config.mounts {
        let MountSource::Volume(name, _) = &mount.source else { continue };
        if name.is_empty() || super::volume::find(client, call, name)?.is_none_or(|volume: Volume| volume.name != *name)
        {
            return Err(RuntimeError::NotFound { what: format!("volume '{name}'") });
        }
    }
    Ok(())
}

fn refused(
    client: &Client,
    settings: &PodmanConfig,
    call: &Call,
    config: &ContainerConfig,
    failure: Failure,
) -> RuntimeError {
    if is_taken(&failure) {
        return match find(client, call, &config.name) {
            Ok(Some(holder)) => taken(settings, &config.name, &holder),
            _ => RuntimeError::AlreadyExists { what: format!("container '{}'", config.name), detail: String::new() },
        };
    }
    failure.into_error()
}

/// Looks at what Podman dropped without refusing, then at the container itself.
fn accept(client: &Client, call: &Call, config: &ContainerConfig, created: &Created) -> RtResult<ContainerInstance> {
    for warning in &created.warnings {
        match spec::dropped_field(warning) {
            Some(field) => return Err(unsupported(ENGINE, field)),
            None => log::info!("container '{}': {warning}", config.name),
        }
    }
    let inspect = lifecycle::inspect(client, call, &created.id)?;
    if let Some(capability) = spec::missing_capability(&config.spec.security, &inspect.bounding_caps) {
        let what = format!("security.add_capabilities: the engine itself does not have '{capability}'");
        return Err(unsupported(ENGINE, what));
    }
    Ok(status::instance(inspect))
}

/// Deletes what was created and cannot be kept.
fn discard(client: &Client, id: &str) {
    if let Err(error) = apart(|call| lifecycle::delete(client, call, id, true)) {
        log::error!("container '{id}' was created, cannot be kept and could not be removed: {error}");
    }
}

/// After a create whose answer never came: deletes the container if the engine made it all the same. The name was free
/// just before, so one with exactly our labels is that of this request.
fn remove_cut_off(client: &Client, name: &str, labels: &Strings) {
    let Some(found) = find_cut_off(|call| find(client, call, name)) else { return };
    if labels.iter().all(|(key, value)| found.config.labels.get(key) == Some(value)) {
        discard(client, &found.id);
    }
}

/// The path of a container's resource.
pub(super) fn path(id: &str, what: &str) -> String {
    format!("/containers/{}/{what}", encode(id))
}
