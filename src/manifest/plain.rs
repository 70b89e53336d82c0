//! Workloads of the formats that are no Pods, before anything is read of them.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::pod::Metadata;
use crate::model::workload::{
    ContainerSpec, ManifestFormat, MountSpec, NetworkMode, PullPolicy, RestartPolicy, VolumeSource, WorkloadSpec,
};

/// The most volumes of one workload.
const MAX_VOLUMES: usize = 256;

/// A workload without containers that is never restarted.
pub(super) fn workload(name: &str, format: ManifestFormat) -> WorkloadSpec {
    WorkloadSpec {
        name: name.to_owned(),
        package: String::new(),
        scenario: String::new(),
        policy: String::new(),
        node: String::new(),
        engine: String::new(),
        engine_required: false,
        format,
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
        network: NetworkMode::Bridge,
        hostname: String::new(),
        host_ipc: false,
        host_pid: false,
        init_containers: Vec::new(),
        containers: Vec::new(),
        volumes: BTreeMap::new(),
        restart_policy: RestartPolicy::Never,
        grace_ms: None,
        aliases: Vec::new(),
        depends_on: Vec::new(),
        cores: None,
        delegate: None,
    }
}

/// A container of which nothing but its name is said.
pub(super) fn container(name: &str) -> ContainerSpec {
    ContainerSpec {
        name: name.to_owned(),
        image: String::new(),
        rootfs: String::new(),
        unit: String::new(),
        pull: PullPolicy::default(),
        command: Vec::new(),
        args: Vec::new(),
        working_dir: String::new(),
        env: Vec::new(),
        ports: Vec::new(),
        mounts: Vec::new(),
        devices: Vec::new(),
        resources: Default::default(),
        security: Default::default(),
        stdin: false,
        tty: false,
        liveness: None,
    }
}

/// What annotations say of a workload of one container; `why` where they do not fit it.
pub(super) fn annotate(spec: &mut WorkloadSpec, metadata: Metadata) -> Result<(), String> {
    if let Some(why) = metadata.requires_nothing() {
        return Err(why);
    }
    if !metadata.networks.is_empty() {
        return Err("the document itself says which networks it is in".to_owned());
    }
    metadata.hints.apply(&mut spec.containers)?;
    spec.cores = metadata.cores.request()?;
    (spec.engine, spec.engine_required) = (metadata.engine, metadata.requires_engine);
    (spec.labels, spec.annotations) = (metadata.labels, metadata.annotations);
    Ok(())
}

/// The mounts of a container whose volumes have no names of their own.
#[derive(Debug, Default)]
pub(super) struct Mounts {
    /// The volumes.
    pub volumes: BTreeMap<String, VolumeSource>,
    /// The mounts.
    pub mounts: Vec<MountSpec>,
    paths: BTreeSet<String>,
}

impl Mounts {
    /// Mounts a volume. The same path twice, the root and too many volumes are errors without a place.
    pub fn add(&mut self, source: VolumeSource, path: &str, sub_path: &str, read_only: bool) -> ManifestResult<()> {
        let invalid = |message: String| ManifestError::new(ManifestErrorKind::Invalid, message);
        super::names::absolute_path(path).map_err(invalid)?;
        let path = crate::model::text::normalized(path);
        if path == "/" {
            return Err(invalid("nothing can be mounted over the root".to_owned()));
        }
        if !self.paths.insert(path.clone()) {
            return Err(invalid(format!("'{}' is mounted twice", crate::model::text::shown(&path))));
        }
        if self.mounts.len() >= MAX_VOLUMES {
            return Err(invalid(format!("there are more than {MAX_VOLUMES} mounts")));
        }
        let volume = format!("v{}", self.mounts.len());
        let sub_path = sub_path.to_owned();
        self.mounts.push(MountSpec { volume: volume.clone(), path, sub_path, read_only });
        self.volumes.insert(volume, source);
        Ok(())
    }
}
