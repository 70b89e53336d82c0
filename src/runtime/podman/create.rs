//! Creating a container: the image, the checks that need the engine, the request, and what of it did not take effect.

use super::client::{Client, is_taken};
use super::lifecycle::{self, Own, find};
use super::wire::Image;
use super::{ENGINE, PodmanConfig, image, spec, status};
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{
    Call, ContainerConfig, ContainerInstance, MountSource, RtResult, RuntimeError, unsupported,
};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::create::{discard, refused, remove_cut_off};
use crate::runtime::rest::exchange::{garbled, parse};
use crate::runtime::rest::wire::{Created, Volume};
use crate::runtime::shared::owned::taken;
use crate::transport::http::Method;

const OP: &str = "create";

/// Creates the container and gives it as the engine then knows it.
pub(super) fn create(
    client: &Client,
    settings: &PodmanConfig,
    call: &Call,
    config: &ContainerConfig,
) -> RtResult<ContainerInstance> {
    let api = client.api(call)?;
    for (field, value) in [("name", &config.name), ("image", &config.spec.image)] {
        if value.is_empty() {
            return Err(RuntimeError::InvalidSpec { reason: format!("{field}: is empty") });
        }
    }
    let user_of_image = config.spec.security.run_as_non_root || config.spec.security.run_as_group.is_some();
    if !user_of_image {
        // Refused before anything is asked where it does not depend on the image.
        spec::generator(settings, api, config, "")?;
    }
    volumes_are_there(client, call, config)?;
    let image_user = match user_of_image || config.spec.pull == PullPolicy::Always {
        true => present(client, settings, call, config)?.user,
        // It mostly is there, of which its absence tells.
        false => String::new(),
    };
    let generator = spec::generator(settings, api, config, &image_user)?;
    let mut answer = client.send(call, OP, Method::Post, "/containers/create", Some(&generator));
    if matches!(answer, Ok(Answer::Refused(_))) && image::find(client, call, &config.spec.image)?.is_none() {
        present(client, settings, call, config)?;
        answer = client.send(call, OP, Method::Post, "/containers/create", Some(&generator));
    }
    let created = match answer {
        Ok(Answer::Done(response)) => parse::<Created>(ENGINE, OP, &response)?,
        Ok(Answer::Unchanged) => return Err(garbled(ENGINE, OP, 304, "nothing was created")),
        Ok(Answer::Refused(failure)) => {
            let is_taken = is_taken(&failure);
            return Err(refused(&Own(client), call, &settings.node, &config.name, failure, is_taken));
        }
        Err(error) => {
            remove_cut_off(&Own(client), &generator.name, &generator.labels);
            return Err(error);
        }
    };
    accept(client, call, config, &created).inspect_err(|_| discard(&Own(client), &created.id))
}

/// The image, made present. Nothing is pulled for a name that is taken.
fn present(client: &Client, settings: &PodmanConfig, call: &Call, config: &ContainerConfig) -> RtResult<Image> {
    if let Some(holder) = find(client, call, &config.name)? {
        return Err(taken(&settings.node, &config.name, &holder.config.labels));
    }
    image::ensure(client, call, &config.spec.image, config.spec.pull)?;
    Ok(image::find(client, call, &config.spec.image)?.unwrap_or_default())
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
