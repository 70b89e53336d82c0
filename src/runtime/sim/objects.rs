//! Networks, volumes and pods of the simulator: recorded, with ownership and membership as real engines keep them.

use crate::model::workload::{NetworkMode, labels};
use crate::runtime::adapter::{
    Call, Change, ContainerConfig, Leftovers, MountSource, NetworkSpec, PodSpec, RtResult, RuntimeError, VolumeSpec,
};

use super::config::SimOp;
use super::inside::volume_place;
use super::state::{State, is_ours};
use super::{Engine, check_name, not_found};

/// That a name is taken by something that is not this node's.
fn foreign(what: &str, name: &str) -> RuntimeError {
    RuntimeError::AlreadyExists { what: format!("{what} '{name}'"), detail: " and is not this node's".to_owned() }
}

/// That something cannot be deleted because it is used.
fn in_use(op: SimOp, name: &str, user: &str) -> RuntimeError {
    let (op, id) = (op.word().to_owned(), name.to_owned());
    RuntimeError::InvalidState { op, id, state: format!("in use by '{user}'") }
}

/// Fails where a named network does not exist.
fn check_networks(state: &State, mode: &NetworkMode) -> RtResult<()> {
    let names = match mode {
        NetworkMode::Named(names) => names.as_slice(),
        NetworkMode::None | NetworkMode::Host | NetworkMode::Bridge => &[],
    };
    let missing = names.iter().find(|name| !state.networks.contains_key(*name));
    missing.map_or(Ok(()), |name| Err(not_found("network", name)))
}

/// Fails where a container names a pod, network or volume that does not exist.
pub(super) fn check_references(state: &State, config: &ContainerConfig) -> RtResult<()> {
    match &config.pod {
        Some(pod) if !state.pods.contains_key(pod) => return Err(not_found("pod", pod)),
        Some(_) => {}
        None => check_networks(state, &config.network)?,
    }
    for mount in &config.mounts {
        match &mount.source {
            MountSource::Volume(name, _) if !state.volumes.contains_key(name) => return Err(not_found("volume", name)),
            MountSource::Volume(..) | MountSource::Bind(_) => {}
        }
    }
    Ok(())
}

impl Engine {
    pub(super) fn ensure_network(&self, call: &Call, network: &NetworkSpec) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::EnsureNetwork, &network.name)?;
        check_name("network", &network.name)?;
        let change = self.change(|state, _| match state.networks.get(&network.name) {
            Some(present) if is_ours(&present.labels, &self.node) => Ok(Change::Unchanged),
            Some(_) => Err(foreign("network", &network.name)),
            None => {
                state.networks.insert(network.name.clone(), network.clone());
                Ok(Change::Changed)
            }
        })?;
        passage.leave(change)
    }

    pub(super) fn remove_network(&self, call: &Call, name: &str) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::RemoveNetwork, name)?;
        let change = self.change(|state, _| {
            let is_ours = state.networks.get(name).is_some_and(|network| is_ours(&network.labels, &self.node));
            if !is_ours || !state.members_of_network(name).is_empty() {
                return Ok(Change::Unchanged);
            }
            state.networks.remove(name);
            Ok(Change::Changed)
        })?;
        passage.leave(change)
    }

    pub(super) fn ensure_volume(&self, call: &Call, volume: &VolumeSpec) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::EnsureVolume, &volume.name)?;
        check_name("volume", &volume.name)?;
        let change = self.change(|state, _| match state.volumes.get(&volume.name) {
            Some(present) if is_ours(&present.labels, &self.node) => Ok(Change::Unchanged),
            Some(_) => Err(foreign("volume", &volume.name)),
            None => {
                state.volumes.insert(volume.name.clone(), volume.clone());
                Ok(Change::Changed)
            }
        })?;
        passage.leave(change)
    }

    pub(super) fn remove_volume(&self, call: &Call, name: &str) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::RemoveVolume, name)?;
        let change = self.change(|state, _| {
            if !state.volumes.get(name).is_some_and(|volume| is_ours(&volume.labels, &self.node)) {
                return Ok(Change::Unchanged);
            }
            let uses = |config: &ContainerConfig| {
                config.mounts.iter().any(|mount| matches!(&mount.source, MountSource::Volume(of, _) if of == name))
            };
            if let Some(user) = state.containers.values().find(|container| uses(&container.config)) {
                return Err(in_use(SimOp::RemoveVolume, name, &user.config.name));
            }
            state.volumes.remove(name);
            let place = volume_place(name);
            state.files.retain(|file, _| !file.starts_with(&place));
            Ok(Change::Changed)
        })?;
        passage.leave(change)
    }

    pub(super) fn ensure_pod(&self, call: &Call, pod: &PodSpec) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::EnsurePod, &pod.name)?;
        check_name("pod", &pod.name)?;
        if pod.network == NetworkMode::Host {
            let reason = format!("pod '{}' asks for the host's network, which a pod cannot share", pod.name);
            return Err(RuntimeError::InvalidSpec { reason });
        }
        let change = self.change(|state, _| match state.pods.get(&pod.name) {
            Some(present) if is_ours(&present.labels, &self.node) => Ok(Change::Unchanged),
            Some(_) => Err(foreign("pod", &pod.name)),
            None => {
                check_networks(state, &pod.network)?;
                state.pods.insert(pod.name.clone(), pod.clone());
                Ok(Change::Changed)
            }
        })?;
        passage.leave(change)
    }

    pub(super) fn remove_pod(&self, call: &Call, name: &str) -> RtResult<Change> {
        let passage = self.faults.enter(call, SimOp::RemovePod, name)?;
        let change = self.change(|state, _| {
            if !state.pods.get(name).is_some_and(|pod| is_ours(&pod.labels, &self.node)) {
                return Ok(Change::Unchanged);
            }
            let member = state.containers.values().find(|container| container.config.pod.as_deref() == Some(name));
            if let Some(member) = member {
                return Err(in_use(SimOp::RemovePod, name, &member.config.name));
            }
            state.pods.remove(name);
            Ok(Change::Changed)
        })?;
        passage.leave(change)
    }

    pub(super) fn leftovers(&self, call: &Call, workload: &str) -> RtResult<Leftovers> {
        let passage = self.faults.enter(call, SimOp::Leftovers, workload)?;
        let left = self.look(|state| {
            let is_of = |of: &std::collections::BTreeMap<String, String>| {
                is_ours(of, &self.node) && of.get(labels::WORKLOAD).is_some_and(|name| name == workload)
            };
            let is_idle = |network: &&NetworkSpec| {
                is_ours(&network.labels, &self.node) && state.members_of_network(&network.name).is_empty()
            };
            Ok(Leftovers {
                pods: state.pods.values().filter(|pod| is_of(&pod.labels)).map(|pod| pod.name.clone()).collect(),
                volumes: state.volumes.values().filter(|v| is_of(&v.labels)).map(|v| v.name.clone()).collect(),
                networks: state.networks.values().filter(is_idle).map(|network| network.name.clone()).collect(),
            })
        })?;
        passage.leave(left)
    }
}
