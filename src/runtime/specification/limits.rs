//! What a container may use: CPU, memory, processes, and access to devices.

use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxPids, LinuxResources};

use super::devices;
use crate::runtime::adapter::{ContainerConfig, RtResult};
use crate::runtime::shared::fields::{Limits, limits};
use crate::runtime::shared::resize::Resized;

/// The resources. Runtimes add access to the usual devices (`null`, `zero`, `tty` …) by themselves.
pub(super) fn resources(config: &ContainerConfig) -> RtResult<LinuxResources> {
    let mut resources = limited(&limits(&config.spec.resources)?, None);
    let mut rules = vec![every(config.spec.security.privileged)];
    rules.extend(devices::rules(config)?);
    resources.set_devices(Some(rules));
    Ok(resources)
}

/// What a runtime is told of new limits of what runs.
pub fn resized(resized: &Resized) -> LinuxResources {
    let has_memory = resized.limits.memory.is_some();
    limited(&resized.limits, Some(resized.memory_and_swap).filter(|both| has_memory && *both > 0))
}

/// `swap` is with the memory itself.
fn limited(asked: &Limits, swap: Option<i64>) -> LinuxResources {
    let mut resources = LinuxResources::default();
    if asked.memory.is_some() || asked.memory_reservation.is_some() {
        let mut memory = LinuxMemory::default();
        memory.set_limit(asked.memory).set_reservation(asked.memory_reservation).set_swap(swap);
        resources.set_memory(Some(memory));
    }
    if asked.cpu.is_some() || asked.cpu_shares.is_some() {
        let mut cpu = LinuxCpu::default();
        cpu.set_quota(asked.cpu.map(|(quota, _)| quota))
            .set_period(asked.cpu.map(|(_, period)| period))
            .set_shares(asked.cpu_shares);
        resources.set_cpu(Some(cpu));
    }
    if let Some(most) = asked.pids {
        let mut pids = LinuxPids::default();
        pids.set_limit(most);
        resources.set_pids(Some(pids));
    }
    resources
}

/// All devices, allowed or denied.
fn every(allow: bool) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow).set_access(Some("rwm".to_owned()));
    rule
}
