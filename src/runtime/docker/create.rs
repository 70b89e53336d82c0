//! Creating a container: the image, the checks that need the engine, the request, and what of it did not take effect.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;

use super::client::Client;
use super::lifecycle::{self, Own, find};
use super::request::NetworkConnect;
use super::{DockerConfig, ENGINE, image, network, spec, status, volume};
use crate::model::workload::NetworkMode;
use crate::runtime::adapter::{
    Call, ContainerConfig, ContainerInstance, MountSource, RtResult, RuntimeError, unsupported,
};
use crate::runtime::rest::client::Answer;
use crate::runtime::rest::create::{discard, refused, remove_cut_off};
use crate::runtime::rest::exchange::{garbled, parse};
use crate::runtime::rest::wire::Created;
use crate::runtime::shared::owned::taken;
use crate::transport::http::{Method, encode};

const OP: &str = "create";

/// The largest seccomp profile that is read, bytes: Docker's own has some 12 thousand.
const MOST_SECCOMP: u64 = 1024 * 1024;

/// Creates the container and gives it as the engine then knows it.
pub(super) fn create(
    client: &Client,
    settings: &DockerConfig,
    call: &Call,
    config: &ContainerConfig,
) -> RtResult<ContainerInstance> {
    let api = client.api(call)?;
    // Refused before anything is pulled where it does not depend on the image.
    if config.name.is_empty() {
        return Err(RuntimeError::InvalidSpec { reason: "name: is empty".to_owned() });
    }
    if let Some(holder) = find(client, call, &config.name)? {
        return Err(taken(&settings.node, &config.name, &holder.config.labels));
    }
    let seccomp = config.spec.security.seccomp_profile.as_deref().map(seccomp).transpose()?;
    let user_of_image = config.spec.security.run_as_non_root || config.spec.security.run_as_group.is_some();
    if !user_of_image {
        spec::create(settings, api, config, "", seccomp.as_deref())?;
    }
    volumes_are_there(client, call, config)?;
    networks_are_there(client, call, config)?;
    image::ensure(client, call, &config.spec.image, config.spec.pull)?;
    let image_user = image::find(client, call, &config.spec.image)?.unwrap_or_default().config.user;
    let document = spec::create(settings, api, config, &image_user, seccomp.as_deref())?;
    let path = format!("/containers/create?name={}", encode(&config.name));
    let created = match client.send(call, OP, Method::Post, &path, Some(&document)) {
        Ok(Answer::Done(response)) => parse::<Created>(ENGINE, OP, &response)?,
        Ok(Answer::Unchanged) => return Err(garbled(ENGINE, OP, 304, "nothing was created")),
        Ok(Answer::Refused(failure)) => {
            let is_taken = failure.is_conflict();
            return Err(refused(&Own(client), call, &settings.node, &config.name, failure, is_taken));
        }
        Err(error) => {
            remove_cut_off(&Own(client), &config.name, &document.labels);
            return Err(error);
        }
    };
    accept(client, call, config, &created).inspect_err(|_| discard(&Own(client), &created.id))
}

/// Docker takes the profile's content; `unconfined` is a word of its own.
fn seccomp(profile: &str) -> RtResult<String> {
    if profile == "unconfined" {
        return Ok(profile.to_owned());
    }
    let refused =
        |why: String| RuntimeError::InvalidSpec { reason: format!("security.seccomp_profile: '{profile}' {why}") };
    let io = |error: io::Error| refused(format!("cannot be read: {error}"));
    // A pipe has an end only once somebody writes to it, so nothing is waited for before it is known to be a file.
    let file = OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(profile).map_err(io)?;
    if !file.metadata().map_err(io)?.is_file() {
        return Err(refused("is no file".to_owned()));
    }
    let mut content = String::new();
    file.take(MOST_SECCOMP + 1).read_to_string(&mut content).map_err(io)?;
    if content.len() as u64 > MOST_SECCOMP {
        return Err(refused(format!("has more than {MOST_SECCOMP} bytes")));
    }
    Ok(content)
}

/// Docker would make a missing volume by itself, without our labels, so that nobody would ever delete it.
fn volumes_are_there(client: &Client, call: &Call, config: &ContainerConfig) -> RtResult<()> {
    for mount in &config.mounts {
        let MountSource::Volume(name, _) = &mount.source else { continue };
        if volume::find(client, call, name)?.is_none() {
            return Err(RuntimeError::NotFound { what: format!("volume '{name}'") });
        }
    }
    Ok(())
}

/// Docker would find out at the start alone.
fn networks_are_there(client: &Client, call: &Call, config: &ContainerConfig) -> RtResult<()> {
    let NetworkMode::Named(names) = &config.network else { return Ok(()) };
    for name in names {
        if network::find(client, call, name)?.is_none() {
            return Err(RuntimeError::NotFound { what: format!("network '{name}'") });
        }
    }
    Ok(())
}

/// Looks at what Docker dropped without refusing, joins further networks, then looks at the container itself.
fn accept(client: &Client, call: &Call, config: &ContainerConfig, created: &Created) -> RtResult<ContainerInstance> {
    for warning in &created.warnings {
        match spec::dropped_field(warning) {
            Some(field) => return Err(unsupported(ENGINE, field)),
            None => log::info!("container '{}': {warning}", config.name),
        }
    }
    if let NetworkMode::Named(names) = &config.network {
        // Before 1.44 a container is created in one network only.
        for name in names.iter().skip(1) {
            let endpoint_config = spec::endpoint(config);
            network::connect(client, call, name, &NetworkConnect { container: &created.id, endpoint_config })?;
        }
    }
    Ok(status::instance(lifecycle::inspect(client, call, &created.id)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seccomp_profile_is_a_file_that_can_be_read_and_a_pipe_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        nix::unistd::mkfifo(at("pipe").as_str(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(at("profile"), "{}").unwrap();
        assert_eq!(seccomp(&at("profile")).unwrap(), "{}");
        assert_eq!(seccomp("unconfined").unwrap(), "unconfined");
        for (profile, why) in [(at("pipe"), "is no file"), (at(""), "is no file"), (at("gone"), "cannot be read")] {
            let error = seccomp(&profile).unwrap_err().to_string();
            assert!(error.contains("security.seccomp_profile") && error.contains(why), "{error}");
        }
    }
}
