//! How many of a service there are, what they may use, and when they are started again: `deploy`, and the fields of a
//! service that say the same.

use super::scalars::{limit, number};
use super::words;
use crate::manifest::error::ManifestResult;
use crate::manifest::reader::{Fields, Place};
use crate::model::resources::Resources;
use crate::model::text::shown;
use crate::model::workload::RestartPolicy;

/// The kernel's weight of a CPU is 1,024.
const SHARES_PER_CPU: u64 = 1024;

/// The most processes that a limit can be.
const MAX_PIDS: i64 = i32::MAX as i64;

/// What both say together.
#[derive(Debug)]
pub(super) struct Deployment {
    /// How many.
    pub replicas: u32,
    /// Limits and weights.
    pub resources: Resources,
    /// When one that ended is started again.
    pub restart: RestartPolicy,
}

/// Reads them. Where a service says the same thing twice it has to say the same.
pub(super) fn read(fields: &mut Fields<'_>, most_replicas: usize) -> ManifestResult<Deployment> {
    let place = fields.take("deploy");
    let mut deploy = place.as_ref().map(Place::fields).transpose()?;
    let scale = fields.take("scale").map(|place| count(place, most_replicas)).transpose()?;
    let replicas = within(&mut deploy, "replicas").map(|place| count(place, most_replicas)).transpose()?;
    let replicas = one(scale, replicas)?.unwrap_or(1);
    let own = fields.take("restart").map(restart).transpose()?;
    let policy = within(&mut deploy, "restart_policy").map(restart_policy).transpose()?;
    let restart = one(own, policy)?.unwrap_or(RestartPolicy::Never);
    let resources = resources(fields, within(&mut deploy, "resources"))?;
    if let Some(mut deploy) = deploy {
        deploy.only(&[("mode", &["replicated"])])?;
        deploy.refuse(&["endpoint_mode", "labels", "placement", "rollback_config", "update_config"])?;
        deploy.finish_but_extensions()?;
    }
    Ok(Deployment { replicas, resources, restart })
}

/// A field of `deploy`.
fn within<'a>(deploy: &mut Option<Fields<'a>>, name: &'static str) -> Option<Place<'a>> {
    deploy.as_mut().and_then(|deploy| deploy.take(name))
}

fn count(place: Place<'_>, most: usize) -> ManifestResult<(u32, Place<'_>)> {
    Ok((number(&place, 0, i64::try_from(most).unwrap_or(i64::MAX))?, place))
}

/// The one value of two places, which have to agree.
fn one<T: PartialEq>(here: Option<(T, Place<'_>)>, there: Option<(T, Place<'_>)>) -> ManifestResult<Option<T>> {
    match (here, there) {
        (Some((here, place)), Some((there, other))) if here != there => {
            Err(place.invalid(format!("says something else than {}", other.path)))
        }
        (Some((value, _)), _) | (None, Some((value, _))) => Ok(Some(value)),
        (None, None) => Ok(None),
    }
}

/// `restart`: this daemon starts again what has not been stopped by a caller, so that `always` and `unless-stopped` are
/// the same.
fn restart(place: Place<'_>) -> ManifestResult<(RestartPolicy, Place<'_>)> {
    let policy = match place.text()?.as_str() {
        "no" => RestartPolicy::Never,
        "always" | "unless-stopped" => RestartPolicy::Always,
        "on-failure" => RestartPolicy::OnFailure,
        text if text.starts_with("on-failure:") => {
            let error = place.unsupported("a bound on the restarts is not supported");
            return Err(error.hint("say on-failure: the time between restarts doubles up to five minutes"));
        }
        other => {
            let known = "no, always, on-failure, unless-stopped";
            return Err(place.invalid(format!("'{}' is none of {known}", shown(other))));
        }
    };
    Ok((policy, place))
}

fn restart_policy(place: Place<'_>) -> ManifestResult<(RestartPolicy, Place<'_>)> {
    let mut fields = place.fields()?;
    let words =
        [("none", RestartPolicy::Never), ("on-failure", RestartPolicy::OnFailure), ("any", RestartPolicy::Always)];
    let policy = fields.take("condition").map_or(Ok(RestartPolicy::Always), |place| place.word(&words))?;
    fields.refuse(&["delay", "max_attempts", "window"])?;
    fields.finish_but_extensions()?;
    Ok((policy, place))
}

fn resources(fields: &mut Fields<'_>, deploy: Option<Place<'_>>) -> ManifestResult<Resources> {
    let mut own = Resources {
        cpu_millis: limit(fields, "cpus", words::cpu_millis)?,
        cpu_shares: fields.take("cpu_shares").map(|place| number(&place, 2, 262_144)).transpose()?,
        memory_bytes: limit(fields, "mem_limit", words::bytes)?,
        memory_reservation_bytes: limit(fields, "mem_reservation", words::bytes)?,
        pids: pids(fields, "pids_limit")?,
    };
    let Some(place) = deploy else { return Ok(own) };
    let mut parts = place.fields()?;
    let agree = |name: &str, own: &mut Option<u64>, other: Option<u64>| match (*own, other) {
        (Some(own), Some(other)) if own != other => {
            Err(place.invalid(format!("says something else on {name} than the service itself")))
        }
        (None, Some(_)) => {
            *own = other;
            Ok(())
        }
        (_, _) => Ok(()),
    };
    if let Some(limits) = parts.take("limits") {
        let mut limits = limits.fields()?;
        agree("cpus", &mut own.cpu_millis, limit(&mut limits, "cpus", words::cpu_millis)?)?;
        agree("memory", &mut own.memory_bytes, limit(&mut limits, "memory", words::bytes)?)?;
        agree("pids", &mut own.pids, pids(&mut limits, "pids")?)?;
        limits.finish_but_extensions()?;
    }
    if let Some(reserved) = parts.take("reservations") {
        let mut reserved = reserved.fields()?;
        // As with a Pod's requests: a weight among the busy, and what memory is reclaimed down to.
        let shares = limit(&mut reserved, "cpus", words::cpu_millis)?;
        let shares = shares.map(|millis| (millis.saturating_mul(SHARES_PER_CPU) / 1000).clamp(2, 262_144));
        agree("cpus", &mut own.cpu_shares, shares)?;
        agree("memory", &mut own.memory_reservation_bytes, limit(&mut reserved, "memory", words::bytes)?)?;
        reserved.refuse(&["devices", "generic_resources"])?;
        reserved.finish_but_extensions()?;
    }
    parts.finish_but_extensions()?;
    Ok(own)
}

/// Processes; -1 is no limit.
fn pids(fields: &mut Fields<'_>, name: &'static str) -> ManifestResult<Option<u64>> {
    let Some(place) = fields.take(name) else { return Ok(None) };
    match number::<i64>(&place, -1, MAX_PIDS)? {
        -1 => Ok(None),
        0 => Err(place.invalid("must be above 0, or -1 for no limit")),
        pids => Ok(u64::try_from(pids).ok()),
    }
}
