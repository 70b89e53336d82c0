//! `networks` and `network_mode` of a service, and the project's own `networks`.
//!
//! A network is the engine's `{project}_{name}`, is made with its first member and goes with its last. In it a service is
//! found by its own name and its aliases.

use std::collections::BTreeMap;

use super::scalars::flag;
use super::volumes::refuse_external;
use crate::manifest::error::ManifestResult;
use crate::manifest::names;
use crate::manifest::node::Value;
use crate::manifest::reader::{Fields, Place};
use crate::model::text::shown;
use crate::model::workload::NetworkMode;

/// The network of services that name none.
const DEFAULT: &str = "default";

/// The most networks of one service.
const MAX_NETWORKS: usize = 32;

/// Names of the engine's networks by the project's.
pub(super) type Networks = BTreeMap<String, String>;

/// Reads the project's `networks`; the default one is always there.
pub(super) fn of_project(place: Option<Place<'_>>, project: &str) -> ManifestResult<Networks> {
    let mut networks = Networks::from([(DEFAULT.to_owned(), format!("{project}_{DEFAULT}"))]);
    let Some(place) = place else { return Ok(networks) };
    for (entry, at) in place.named()? {
        let mut name = format!("{project}_{}", entry.key);
        if !at.node.is_null() {
            let mut fields = at.fields()?;
            if let Some(own) = fields.take("name") {
                name = own.text()?;
            }
            fields.only(&[("driver", &["bridge", "default"])])?;
            refuse_external(&mut fields, "network")?;
            for name in ["internal", "enable_ipv6"] {
                if flag(&mut fields, name)? {
                    let place = fields.require(name)?;
                    return Err(place.unsupported(format!("field '{name}' is not supported")));
                }
            }
            fields.only(&[("enable_ipv4", &["true"]), ("attachable", &["true", "false"])])?;
            fields.refuse(&["driver_opts", "ipam", "labels"])?;
            fields.finish_but_extensions()?;
        }
        names::object(&name).map_err(|why| at.invalid(why))?;
        networks.insert(entry.key.clone(), name);
    }
    Ok(networks)
}

/// Where a service is, and the names beside its own by which it is found there.
pub(super) struct Membership {
    /// The engine's networks.
    pub mode: NetworkMode,
    /// The aliases.
    pub aliases: Vec<String>,
}

/// Reads a service's `network_mode` and `networks`.
pub(super) fn of_service(fields: &mut Fields<'_>, service: &str, known: &Networks) -> ManifestResult<Membership> {
    let given = fields.take("networks").filter(|place| !place.node.is_empty());
    if let Some(place) = fields.take("network_mode") {
        let mode = match place.text()?.as_str() {
            "host" => NetworkMode::Host,
            "none" => NetworkMode::None,
            "bridge" => NetworkMode::Bridge,
            other => {
                return Err(place.unsupported(format!("'{}' is none of host, none, bridge", shown(other))));
            }
        };
        return match given {
            Some(place) => Err(place.invalid("is not possible beside network_mode")),
            None => Ok(Membership { mode, aliases: Vec::new() }),
        };
    }
    let mut member = Member { networks: Vec::new(), aliases: vec![service.to_owned()], known };
    match given {
        None => member.join(DEFAULT, None)?,
        Some(place) if matches!(place.node.value, Value::Map(_)) => {
            let mut lists = Vec::new();
            for (entry, at) in place.named()? {
                member.join(&entry.key, Some(&at))?;
                lists.push(aliases(&at)?);
            }
            // Engines are told them once, for every network.
            if lists.iter().any(|list| *list != lists[0]) {
                let error = place.unsupported("other aliases in another network are not supported");
                return Err(error.hint("give the service the same aliases in each of its networks"));
            }
            let more = lists.into_iter().next().unwrap_or_default();
            member.aliases.extend(more.into_iter().filter(|alias| alias != service));
        }
        Some(place) => {
            for item in place.items()? {
                member.join(&item.text()?, Some(&item))?;
            }
        }
    }
    Ok(Membership { mode: NetworkMode::Named(member.networks), aliases: member.aliases })
}

struct Member<'k> {
    networks: Vec<String>,
    aliases: Vec<String>,
    known: &'k Networks,
}

impl Member<'_> {
    fn join(&mut self, name: &str, place: Option<&Place<'_>>) -> ManifestResult<()> {
        let found = self.known.get(name).cloned();
        let Some(place) = place else {
            self.networks.extend(found);
            return Ok(());
        };
        let found = found
            .ok_or_else(|| place.invalid(format!("network '{}' is not among the project's networks", shown(name))))?;
        if self.networks.contains(&found) {
            return Err(place.invalid(format!("network '{}' is given twice", shown(name))));
        }
        if self.networks.len() >= MAX_NETWORKS {
            return Err(place.invalid(format!("there are more than {MAX_NETWORKS} networks")));
        }
        self.networks.push(found);
        Ok(())
    }
}

/// The aliases of a service in one network.
fn aliases(place: &Place<'_>) -> ManifestResult<Vec<String>> {
    if place.node.is_null() {
        return Ok(Vec::new());
    }
    let mut fields = place.fields()?;
    let mut aliases = Vec::new();
    for item in fields.items("aliases")? {
        let alias = item.text()?;
        names::object(&alias).map_err(|why| item.invalid(why))?;
        if aliases.contains(&alias) {
            return Err(item.invalid(format!("alias '{alias}' is given twice")));
        }
        aliases.push(alias);
    }
    fields.refuse(&["driver_opts", "gw_priority", "interface_name", "ipv4_address", "ipv6_address"])?;
    fields.refuse(&["link_local_ips", "mac_address", "priority"])?;
    fields.finish_but_extensions()?;
    Ok(aliases)
}
