//! The first process: its command, environment, user and capabilities.

use std::collections::BTreeSet;

use oci_spec::runtime::{Capabilities, LinuxCapabilities, Process, User};

use super::users::{self, Identity};
use super::{ImageDefaults, Place, invalid};
use crate::model::security::SecurityContext;
use crate::model::workload::EnvVar;
use crate::runtime::adapter::{ContainerConfig, RtResult, unsupported};
use crate::runtime::shared::capabilities::{CAPABILITIES, has_capability, own_bounding_set};
use crate::runtime::shared::fields;

/// What every container's bounding set has unless it is dropped: the set that Podman gives.
const USUAL: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Where programs are looked for when neither the image nor the document says.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The process.
pub(super) fn process(config: &ContainerConfig, image: &ImageDefaults, place: &Place) -> RtResult<Process> {
    let spec = &config.spec;
    let asked = fields::user(&spec.security, &image.user)?;
    let user = if asked.is_empty() { image.user.as_str() } else { asked.as_str() };
    let identity = users::identity(place.rootfs, user)?;
    let directories = [spec.working_dir.as_str(), image.working_dir.as_str(), "/"];
    let cwd = directories.into_iter().find(|dir| !dir.is_empty()).unwrap_or("/");
    if !cwd.starts_with('/') {
        return Err(invalid(format!("working_dir: '{cwd}' is not absolute")));
    }
    let mut process = Process::default();
    process
        .set_args(Some(args(config, image)?))
        .set_env(Some(environment(&image.env, &spec.env, spec.tty)))
        .set_cwd(cwd.into())
        .set_terminal(Some(spec.tty))
        .set_user(user_of(&identity, &spec.security))
        .set_capabilities(Some(capabilities(&spec.security, identity.uid, place.engine)?))
        .set_no_new_privileges(Some(spec.security.no_new_privileges.unwrap_or(false)))
        // Raising a limit needs a right that a confined daemon may lack.
        .set_rlimits(None);
    Ok(process)
}

/// As Kubernetes has it: a command drops the image's arguments too.
fn args(config: &ContainerConfig, image: &ImageDefaults) -> RtResult<Vec<String>> {
    let spec = &config.spec;
    let (program, rest) = match (spec.command.is_empty(), spec.args.is_empty()) {
        (false, _) => (&spec.command, &spec.args),
        (true, false) => (&image.entrypoint, &spec.args),
        (true, true) => (&image.entrypoint, &image.cmd),
    };
    let args: Vec<String> = program.iter().chain(rest).cloned().collect();
    if args.first().is_none_or(String::is_empty) {
        return Err(invalid(format!("container '{}': neither it nor its image names a command", config.name)));
    }
    Ok(args)
}

/// The image's with the document's over it, each name once.
fn environment(image: &[String], asked: &[EnvVar], tty: bool) -> Vec<String> {
    let name = |entry: &str| entry.split_once('=').map_or(entry, |(name, _)| name).to_owned();
    let usual = [PATH.to_owned()].into_iter().chain(tty.then(|| "TERM=xterm".to_owned()));
    let asked = asked.iter().map(|variable| format!("{}={}", variable.name, variable.value));
    let mut all: Vec<(String, String)> = Vec::new();
    for entry in usual.chain(image.iter().cloned()).chain(asked) {
        let name = name(&entry);
        match all.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = entry,
            None => all.push((name, entry)),
        }
    }
    all.into_iter().map(|(_, entry)| entry).collect()
}

fn user_of(identity: &Identity, security: &SecurityContext) -> User {
    let groups: BTreeSet<u32> = identity.groups.iter().chain(&security.supplemental_groups).copied().collect();
    let mut user = User::default();
    user.set_uid(identity.uid).set_gid(identity.gid).set_additional_gids(Some(groups.into_iter().collect()));
    user
}

/// Root has its whole set at once; another user has what was asked for beyond the usual, in its ambient set, so that it
/// outlasts the `exec`, and gets the rest only through programs that have it.
fn capabilities(security: &SecurityContext, uid: u32, engine: &str) -> RtResult<LinuxCapabilities> {
    let (bounding, added) = capability_sets(security, engine)?;
    let own = if uid == 0 { &bounding } else { &added };
    let none = Capabilities::new();
    let mut sets = LinuxCapabilities::default();
    sets.set_bounding(Some(set(&bounding)?))
        .set_effective(Some(set(own)?))
        .set_permitted(Some(set(own)?))
        .set_inheritable(Some(if uid == 0 { none.clone() } else { set(own)? }))
        .set_ambient(Some(if uid == 0 { none } else { set(own)? }));
    Ok(sets)
}

/// All that may ever be had, and what was asked for beyond the usual; names without `CAP_`.
pub fn capability_sets(security: &SecurityContext, engine: &str) -> RtResult<(BTreeSet<String>, BTreeSet<String>)> {
    let held = own_bounding_set().unwrap_or(u64::MAX);
    let all = || CAPABILITIES.iter().copied().filter(|name| has_capability(held, name));
    let plain = |name: &String| name.strip_prefix("CAP_").unwrap_or(name).to_owned();
    let mut added: BTreeSet<String> = security.add_capabilities.iter().map(plain).collect();
    let dropped: BTreeSet<String> = security.drop_capabilities.iter().map(plain).collect();
    if let Some(unknown) =
        added.iter().chain(&dropped).find(|name| *name != "ALL" && !CAPABILITIES.contains(&name.as_str()))
    {
        return Err(invalid(format!("security.capabilities: '{unknown}' is no capability")));
    }
    if let Some(missing) = fields::missing_capability(security, |name| has_capability(held, name)) {
        let what = format!("security.add_capabilities: this daemon itself does not have '{missing}'");
        return Err(unsupported(engine, what));
    }
    if added.remove("ALL") || security.privileged {
        added.extend(all().map(str::to_owned));
    }
    let usual = USUAL.iter().filter(|_| !dropped.contains("ALL")).filter(|name| has_capability(held, name));
    let mut bounding: BTreeSet<String> = usual.map(|name| (*name).to_owned()).collect();
    bounding.extend(added.iter().cloned());
    if !security.privileged {
        bounding.retain(|name| !dropped.contains(name));
        added.retain(|name| !dropped.contains(name));
    }
    Ok((bounding, added))
}

fn set(names: &BTreeSet<String>) -> RtResult<Capabilities> {
    let names: Vec<String> = names.iter().map(|name| format!("CAP_{name}")).collect();
    serde_json::from_value(serde_json::json!(names)).map_err(|error| invalid(format!("security.capabilities: {error}")))
}
