//! Parts of our configuration in the form in which several engines take them. Pure.

use crate::model::resources::Resources;
use crate::model::security::SecurityContext;
use crate::model::workload::{ContainerSpec, NetworkMode, PortSpec};
use crate::runtime::adapter::{RtResult, RuntimeError, unsupported};

/// The CFS period for limits of 10 thousandths of a CPU and more, microseconds: the kernel's default.
const PERIOD_US: u64 = 100_000;

/// For smaller ones: the kernel takes no quota below 1 ms, and no period above 1 s.
const LONG_PERIOD_US: u64 = 1_000_000;

/// The smallest number of thousandths of a CPU that the default period can hold.
const SMALLEST_IN_PERIOD: u64 = 10;

/// The weight that a group of version 1 has by itself.
pub const DEFAULT_SHARES: u64 = 1024;

/// Limits in the signed numbers that Go's APIs take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// CPU quota and period, microseconds.
    pub cpu: Option<(i64, u64)>,
    /// Relative weight.
    pub cpu_shares: Option<u64>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes.
    pub memory_reservation: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
}

/// The limits, each in its range.
pub fn limits(resources: &Resources) -> RtResult<Limits> {
    let signed =
        |value: Option<u64>, field: &str| match value {
            None => Ok(None),
            Some(value) => i64::try_from(value).ok().filter(|value| *value > 0).map(Some).ok_or_else(|| {
                RuntimeError::InvalidSpec { reason: format!("resources.{field}: {value} is out of range") }
            }),
        };
    Ok(Limits {
        cpu: cpu_quota(signed(resources.cpu_millis, "cpu_millis")?)?,
        cpu_shares: resources.cpu_shares,
        memory: signed(resources.memory_bytes, "memory_bytes")?,
        memory_reservation: signed(resources.memory_reservation_bytes, "memory_reservation_bytes")?,
        pids: signed(resources.pids, "pids")?,
    })
}

/// The limits of a change, in which 0 takes one away: -1, as engines and the kernel have it.
pub fn changed_limits(resources: &Resources) -> RtResult<Limits> {
    let kept = |value: Option<u64>| value.filter(|value| *value > 0);
    let given = limits(&Resources {
        cpu_millis: kept(resources.cpu_millis),
        cpu_shares: kept(resources.cpu_shares),
        memory_bytes: kept(resources.memory_bytes),
        memory_reservation_bytes: kept(resources.memory_reservation_bytes),
        pids: kept(resources.pids),
    })?;
    let none = |value: Option<u64>| (value == Some(0)).then_some(-1);
    Ok(Limits {
        cpu: given.cpu.or(none(resources.cpu_millis).map(|none| (none, PERIOD_US))),
        cpu_shares: given.cpu_shares.or(none(resources.cpu_shares).map(|_| DEFAULT_SHARES)),
        memory: given.memory.or(none(resources.memory_bytes)),
        memory_reservation: given.memory_reservation.or(none(resources.memory_reservation_bytes)),
        pids: given.pids.or(none(resources.pids)),
    })
}

/// Refuses what stands in the place of an image: these engines know images alone.
pub fn image_alone(engine: &str, spec: &ContainerSpec) -> RtResult<()> {
    let others = [("rootfs", &spec.rootfs), ("unit", &spec.unit)];
    match others.into_iter().find(|(_, value)| !value.is_empty()) {
        Some((field, _)) => Err(unsupported(engine, field)),
        None => Ok(()),
    }
}

/// The published ports that the engine has to bind. Refused where there is nothing to publish, which engines would drop in
/// silence; on the host's network the container binds them by itself, so they have to be the same there.
pub fn published_ports<'a>(
    engine: &str,
    network: &NetworkMode,
    ports: &'a [PortSpec],
) -> RtResult<Vec<(&'a PortSpec, u16)>> {
    let published: Vec<_> = ports.iter().filter_map(|port| Some((port, port.host_port?))).collect();
    match network {
        NetworkMode::None if !published.is_empty() => Err(unsupported(engine, "ports without a network")),
        NetworkMode::Host => {
            let is_moved =
                |(port, host_port): &(&PortSpec, u16)| *host_port != port.container_port || !port.host_ip.is_empty();
            if published.iter().any(is_moved) {
                return Err(unsupported(engine, "ports that differ from the host's on the host's network"));
            }
            Ok(Vec::new())
        }
        NetworkMode::None | NetworkMode::Bridge | NetworkMode::Named(_) => Ok(published),
    }
}

/// Quota and period, microseconds.
fn cpu_quota(millis: Option<i64>) -> RtResult<Option<(i64, u64)>> {
    let Some(millis) = millis else { return Ok(None) };
    let period = if millis.unsigned_abs() < SMALLEST_IN_PERIOD { LONG_PERIOD_US } else { PERIOD_US };
    // Thousandths of the period: 100 or 1,000 microseconds each.
    let quota = i64::try_from(period / 1000).ok().and_then(|each| millis.checked_mul(each));
    match quota {
        Some(quota) => Ok(Some((quota, period))),
        None => Err(RuntimeError::InvalidSpec { reason: format!("resources.cpu_millis: {millis} is out of range") }),
    }
}

/// `user:group`; empty leaves it to the image, whose user is `image_user` as its configuration says it.
pub fn user(security: &SecurityContext, image_user: &str) -> RtResult<String> {
    let (image_name, _) = image_user.split_once(':').unwrap_or((image_user, ""));
    let user = security.run_as_user.map(|id| id.to_string());
    if security.run_as_non_root {
        refuse_root(user.as_deref().unwrap_or(image_name))?;
    }
    Ok(match (user, security.run_as_group) {
        (Some(user), Some(group)) => format!("{user}:{group}"),
        (Some(user), None) => user,
        (None, Some(group)) if image_name.is_empty() => format!("0:{group}"),
        (None, Some(group)) => format!("{image_name}:{group}"),
        (None, None) => String::new(),
    })
}

/// A name could be anybody's, so only a number other than 0 passes, as in Kubernetes.
fn refuse_root(user: &str) -> RtResult<()> {
    let why = match user.parse::<u32>() {
        Ok(0) => "the user is 0",
        Ok(_) => return Ok(()),
        Err(_) if user.is_empty() => "the image names no user",
        Err(_) => "the image's user is no number, so it cannot be told who it is; set run_as_user",
    };
    Err(RuntimeError::InvalidSpec { reason: format!("security.run_as_non_root: {why}") })
}

/// The first capability that was asked for and is not granted, without `CAP_`.
pub fn missing_capability(security: &SecurityContext, is_granted: impl Fn(&str) -> bool) -> Option<String> {
    let wanted = security.add_capabilities.iter().map(|cap| cap.strip_prefix("CAP_").unwrap_or(cap));
    wanted.filter(|name| *name != "ALL").find(|name| !is_granted(name)).map(str::to_owned)
}
