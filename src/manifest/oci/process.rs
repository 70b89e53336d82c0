//! `process` of a bundle.

use std::collections::BTreeSet;

use crate::manifest::error::ManifestResult;
use crate::manifest::names;
use crate::manifest::privileges::{MAX_ID, capability_set};
use crate::manifest::reader::{Fields, Place};
use crate::model::text::shown;
use crate::model::workload::{ContainerSpec, EnvVar};

const REFUSED: &[&str] = &[
    "apparmorProfile",
    "commandLine",
    "consoleSize",
    "execCPUAffinity",
    "ioPriority",
    "rlimits",
    "scheduler",
    "selinuxLabel",
];

/// The sets of capabilities that a process of its own user has.
const SETS: [&str; 3] = ["bounding", "effective", "permitted"];

/// Reads it into the container.
pub(super) fn read(place: &Place<'_>, container: &mut ContainerSpec) -> ManifestResult<()> {
    let mut fields = place.fields()?;
    fields.refuse(REFUSED)?;
    fields.only(&[("oomScoreAdj", &["0"])])?;
    let args = fields.require("args")?;
    container.command = args.texts()?;
    if container.command.first().is_none_or(String::is_empty) {
        return Err(args.invalid("must begin with a program"));
    }
    let cwd = fields.require("cwd")?;
    container.working_dir = cwd.text()?;
    names::absolute_path(&container.working_dir).map_err(|why| cwd.invalid(why))?;
    container.env = environment(&mut fields)?;
    container.tty = fields.flag("terminal")?;
    container.security.no_new_privileges = Some(fields.flag("noNewPrivileges")?);
    // A bundle names every capability that it has.
    container.security.drop_capabilities = BTreeSet::from(["ALL".to_owned()]);
    if let Some(place) = fields.take("capabilities") {
        container.security.add_capabilities = capabilities(&place)?;
    }
    user(fields.take("user"), container)?;
    fields.finish_strictly()
}

fn environment(fields: &mut Fields<'_>) -> ManifestResult<Vec<EnvVar>> {
    let variable = |item: Place<'_>| {
        let text = item.text()?;
        let Some((name, value)) = text.split_once('=') else {
            return Err(item.invalid(format!("'{}' is no NAME=VALUE", shown(&text))));
        };
        names::variable(name).map_err(|why| item.invalid(why))?;
        Ok(EnvVar { name: name.to_owned(), value: value.to_owned() })
    };
    fields.items("env")?.into_iter().map(variable).collect()
}

/// One set for all; what the sets have beside it cannot be given.
fn capabilities(place: &Place<'_>) -> ManifestResult<BTreeSet<String>> {
    let mut fields = place.fields()?;
    let bounding = capability_set(fields.items(SETS[0])?)?;
    for name in &SETS[1..] {
        if capability_set(fields.items(name)?)? != bounding {
            let message = format!("another set of capabilities than {} is not supported", SETS[0]);
            return Err(fields
                .require(name)
                .map_or_else(|_| place.unsupported(message.clone()), |set| set.unsupported(&*message)));
        }
    }
    fields.refuse(&["ambient", "inheritable"])?;
    fields.finish_strictly()?;
    Ok(bounding)
}

fn user(place: Option<Place<'_>>, container: &mut ContainerSpec) -> ManifestResult<()> {
    // The specification has both at 0 where they are missing.
    let security = &mut container.security;
    (security.run_as_user, security.run_as_group) = (Some(0), Some(0));
    let Some(place) = place else { return Ok(()) };
    let mut fields = place.fields()?;
    for (name, target) in [("uid", &mut security.run_as_user), ("gid", &mut security.run_as_group)] {
        if let Some(place) = fields.take(name) {
            *target = Some(place.integer(0, MAX_ID)?);
        }
    }
    for item in fields.items("additionalGids")? {
        security.supplemental_groups.insert(item.integer(0, MAX_ID)?);
    }
    fields.refuse(&["umask", "username"])?;
    fields.finish_strictly()
}
