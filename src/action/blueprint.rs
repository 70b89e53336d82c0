//! [`Blueprint`]: what a workload's description means on an engine, ready for the runtime port. Pure.

use std::collections::BTreeMap;

use crate::model::pullpiri;
use crate::model::workload::{
    ContainerSpec, HostPathKind, ManifestFormat, MountSpec, NetworkMode, PortSpec, VolumeSource, WorkloadSpec, labels,
};
use crate::runtime::adapter::{ContainerConfig, Mount, MountSource, NetworkSpec, PodSpec, VolumeSpec};

/// A workload with what its labels need to know.
#[derive(Debug, Clone, Copy)]
pub struct Blueprint<'a> {
    /// The workload.
    pub spec: &'a WorkloadSpec,
    /// Its fingerprint.
    pub revision: &'a str,
    /// This node.
    pub node: &'a str,
    /// The action that makes it.
    pub action_id: &'a str,
}

impl Blueprint<'_> {
    /// The configuration of the container with this engine name; `None` where the workload has none such.
    pub fn container(&self, engine_name: &str) -> Option<ContainerConfig> {
        let spec = self.spec;
        let is_it = |container: &&ContainerSpec| spec.container_name(&container.name) == engine_name;
        let init = spec.init_containers.iter().find(is_it);
        let container = init.or_else(|| spec.containers.iter().find(is_it))?;
        let mut own = self.labels();
        own.insert(labels::CONTAINER.to_owned(), container.name.clone());
        if init.is_some() {
            own.insert(labels::ROLE.to_owned(), "init".to_owned());
        }
        let in_pod = spec.needs_pod();
        Some(ContainerConfig {
            name: engine_name.to_owned(),
            spec: container.clone(),
            labels: own,
            annotations: spec.annotations.clone().into_iter().chain(pullpiri::annotations(spec)).collect(),
            pod: in_pod.then(|| spec.name.clone()),
            network: spec.network.clone(),
            aliases: if in_pod { Vec::new() } else { spec.aliases.clone() },
            ports: if in_pod { Vec::new() } else { published(std::slice::from_ref(container)) },
            hostname: self.hostname(),
            host_ipc: spec.host_ipc,
            host_pid: spec.host_pid,
            // Other formats name nodes that other daemons are given them for.
            node: if spec.format == ManifestFormat::Unit { spec.node.clone() } else { String::new() },
            mounts: container.mounts.iter().filter_map(|mount| self.mount(mount)).collect(),
        })
    }

    /// The pod that the containers share; only where [`WorkloadSpec::needs_pod`].
    pub fn pod(&self) -> PodSpec {
        PodSpec {
            name: self.spec.name.clone(),
            labels: self.labels(),
            network: self.spec.network.clone(),
            ports: published(&self.spec.containers),
            hostname: self.hostname(),
        }
    }

    /// The volume with this engine name; `None` where the workload has none such.
    pub fn volume(&self, engine_name: &str) -> Option<VolumeSpec> {
        self.spec.volumes.iter().find_map(|(name, source)| match source {
            VolumeSource::EmptyDir { memory, size_limit_bytes } if self.spec.volume_name(name) == engine_name => {
                Some(VolumeSpec {
                    name: engine_name.to_owned(),
                    labels: self.labels(),
                    tmpfs_bytes: memory.then(|| size_limit_bytes.unwrap_or(0)),
                })
            }
            VolumeSource::Named { name } if name == engine_name => Some(VolumeSpec {
                name: engine_name.to_owned(),
                labels: BTreeMap::from([(labels::NODE.to_owned(), self.node.to_owned())]),
                tmpfs_bytes: None,
            }),
            VolumeSource::EmptyDir { .. } | VolumeSource::Named { .. } | VolumeSource::HostPath { .. } => None,
        })
    }

    /// The network of this name. It belongs to the node, not to one workload: others may join it.
    pub fn network(&self, name: &str) -> NetworkSpec {
        let labels = BTreeMap::from([(labels::NODE.to_owned(), self.node.to_owned())]);
        NetworkSpec { name: name.to_owned(), labels }
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut all = self.spec.labels.clone();
        let own = [
            (labels::NODE, self.node),
            (labels::WORKLOAD, &self.spec.name),
            (labels::REVISION, self.revision),
            (labels::ACTION, self.action_id),
        ];
        all.extend(own.map(|(key, value)| (key.to_owned(), value.to_owned())));
        all
    }

    fn hostname(&self) -> String {
        // A unit's text says all by itself.
        let is_unit = self.spec.all_containers().any(|container| !container.unit.is_empty());
        let shares_host = is_unit || self.spec.network == NetworkMode::Host;
        match self.spec.hostname.as_str() {
            "" if shares_host => String::new(),
            "" => self.spec.name.clone(),
            given => given.to_owned(),
        }
    }

    fn mount(&self, mount: &MountSpec) -> Option<Mount> {
        let source = match self.spec.volumes.get(&mount.volume)? {
            VolumeSource::HostPath { path, .. } if mount.sub_path.is_empty() => MountSource::Bind(path.clone()),
            VolumeSource::HostPath { path, .. } => MountSource::Bind(format!("{path}/{}", mount.sub_path)),
            VolumeSource::EmptyDir { .. } => {
                MountSource::Volume(self.spec.volume_name(&mount.volume), mount.sub_path.clone())
            }
            VolumeSource::Named { name } => MountSource::Volume(name.clone(), mount.sub_path.clone()),
        };
        Some(Mount { source, path: mount.path.clone(), read_only: mount.read_only })
    }
}

/// The engine names of volumes that are made with the workload and deleted with it.
pub fn own_volumes(spec: &WorkloadSpec) -> Vec<String> {
    let is_own = |source: &VolumeSource| matches!(source, VolumeSource::EmptyDir { .. });
    spec.volumes.iter().filter(|(_, source)| is_own(source)).map(|(name, _)| spec.volume_name(name)).collect()
}

/// The engine names of volumes that outlive the workload.
pub fn lasting_volumes(spec: &WorkloadSpec) -> Vec<String> {
    let named = spec.volumes.values().filter_map(|source| match source {
        VolumeSource::Named { name } => Some(name.clone()),
        VolumeSource::EmptyDir { .. } | VolumeSource::HostPath { .. } => None,
    });
    named.collect()
}

/// The host paths that have to be looked at or made before a container is created.
pub fn host_paths(spec: &WorkloadSpec) -> BTreeMap<String, HostPathKind> {
    let paths = spec.volumes.values().filter_map(|source| match source {
        VolumeSource::HostPath { path, kind } if *kind != HostPathKind::Any => Some((path.clone(), *kind)),
        VolumeSource::HostPath { .. } | VolumeSource::EmptyDir { .. } | VolumeSource::Named { .. } => None,
    });
    paths.collect()
}

/// The named networks of a workload.
pub fn networks(spec: &WorkloadSpec) -> &[String] {
    match &spec.network {
        NetworkMode::Named(names) => names,
        NetworkMode::None | NetworkMode::Host | NetworkMode::Bridge => &[],
    }
}

fn published(containers: &[ContainerSpec]) -> Vec<PortSpec> {
    let ports = containers.iter().flat_map(|container| &container.ports);
    ports.filter(|port| port.host_port.is_some()).cloned().collect()
}
