//! The specification of a Pod, which is also that of a Deployment's template and of Pullpiri's Model, and its
//! metadata: to a [`Draft`], whose references to volumes and networks are not resolved yet.
//!
//! Annotations of ours in a document:
//!
//! | annotation | meaning |
//! |---|---|
//! | `actioncontroller.io/runtime`, `beemesh.io/runtime-engine` | the engine by name |
//! | `actioncontroller.io/engine-policy` | `require`: that engine or none; `prefer`, the default: another where it cannot |
//! | `actioncontroller.io/networks` | names of networks with `,` between |
//! | `actioncontroller.io/exclusive-cpus` and others | CPUs for it alone: the header of `cores` |
//! | `actioncontroller.io/wake-fallback` | what a wake does whose checkpoint is of no use: `none` or `cold-start` |
//! | `beemesh.io/resources.cpu`, `beemesh.io/resources.memory` | limits of the one container where it has none of its own |
//!
//! Any other under `actioncontroller.io/` is refused, among labels too: the daemon sets those itself.

use std::collections::{BTreeMap, BTreeSet};

use super::container;
use super::error::{ManifestError, ManifestResult};
use super::privileges::{self, PodSecurity};
use super::reader::{Fields, Notes, Place};
use super::volumes::{self, Volumes};
use super::{Limits, cores, hints, names, probes};
use crate::model::text::shown;
use crate::model::workload::{ContainerSpec, ManifestFormat, NetworkMode, RestartPolicy, WorkloadSpec, labels};

/// Selects the engine.
const RUNTIME: &str = "actioncontroller.io/runtime";
/// Selects the engine, in Beemesh's word.
const BEEMESH_RUNTIME: &str = "beemesh.io/runtime-engine";
/// Whether another engine may take the selected one's place.
const ENGINE_POLICY: &str = "actioncontroller.io/engine-policy";
/// Puts a Kubernetes workload into named networks.
const NETWORKS: &str = "actioncontroller.io/networks";

/// Kubernetes' time between SIGTERM and SIGKILL where a Pod does not say.
const KUBERNETES_GRACE_MS: u64 = 30_000;

/// The most networks of one workload.
const MAX_NETWORKS: usize = 32;

/// The longest value of a label, as in Kubernetes, bytes.
const MAX_LABEL: usize = 63;

/// The longest key of a label, prefix and name, as in Kubernetes, bytes.
const MAX_LABEL_KEY: usize = 317;

/// The most that all annotations hold together, as in Kubernetes, bytes.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// Known fields of a pod that would change it if they could.
const REFUSED: &[&str] = &[
    "activeDeadlineSeconds",
    "affinity",
    "dnsConfig",
    "ephemeralContainers",
    "hostAliases",
    "hostnameOverride",
    "imagePullSecrets",
    "nodeSelector",
    "overhead",
    "resourceClaims",
    "resources",
    "runtimeClassName",
    "schedulingGates",
    "subdomain",
];

/// Known fields of which only the default is possible.
const ONLY_DEFAULT: &[(&str, &[&str])] = &[
    ("dnsPolicy", &["ClusterFirst", "ClusterFirstWithHostNet", "Default"]),
    ("hostUsers", &["true"]),
    ("setHostnameAsFQDN", &["false"]),
    ("shareProcessNamespace", &["false"]),
];

/// Known fields that mean something between the nodes of a cluster only.
const OF_CLUSTERS: &[&str] =
    &["priorityClassName", "readinessGates", "serviceAccountName", "serviceAccount", "topologySpreadConstraints"];

/// Known fields that mean nothing here.
const SKIPPED: &[&str] = &[
    "automountServiceAccountToken",
    "enableServiceLinks",
    "preemptionPolicy",
    "priority",
    "schedulerName",
    "tolerations",
];

/// A workload whose volumes and networks are still names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Draft {
    /// What is read so far; `spec.volumes` and `spec.network` are of this document alone.
    pub spec: WorkloadSpec,
    /// Volumes whose every mount is read-only.
    pub read_only_volumes: BTreeSet<String>,
    /// Networks by name that the document asks for, in its order.
    pub networks: Vec<String>,
    /// The path of the pod's specification: `spec` or `spec.template.spec`.
    pub base: String,
}

/// What is known while documents of one bundle are read.
#[derive(Debug)]
pub(super) struct Reading<'l> {
    /// The bounds.
    pub limits: &'l Limits,
    /// Containers read so far, of all documents.
    pub containers: usize,
    /// Bytes of texts in which `$(NAME)` was replaced, of all documents.
    pub replaced: usize,
}

impl Reading<'_> {
    /// Counts further containers, which `place` describes.
    pub fn count_containers(&mut self, more: usize, place: &Place<'_>) -> ManifestResult<()> {
        self.containers = self.containers.saturating_add(more);
        if self.containers <= self.limits.max_containers {
            return Ok(());
        }
        let what = format!("{} containers in all documents", self.containers);
        let error = ManifestError::limit("max_containers", self.limits.max_containers, &what);
        Err(error.at(place.path.clone(), place.node.line))
    }
}

/// Labels and annotations of a document.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// The engine that an annotation names; may be empty.
    pub engine: String,
    /// Whether an annotation says that no other engine will do.
    pub requires_engine: bool,
    /// The networks that an annotation names.
    pub networks: Vec<String>,
    /// An annotation says what a wake falls back to.
    pub says_how_to_wake: bool,
    /// Limits by annotations.
    pub hints: hints::Hints,
    /// CPUs for the workload alone.
    pub cores: cores::Cores,
}

impl Metadata {
    /// Whether an annotation says how a workload is to be run.
    pub fn is_of_workload(&self) -> bool {
        let says_engine = !self.engine.is_empty() || self.requires_engine;
        let says_limits = !self.hints.is_empty() || !self.cores.is_empty();
        says_engine || says_limits || !self.networks.is_empty() || self.says_how_to_wake
    }

    /// Takes an annotation, and what ours mean.
    pub fn annotate(&mut self, key: &str, value: String) -> Result<(), String> {
        match key {
            RUNTIME | BEEMESH_RUNTIME => {
                if !self.engine.is_empty() && self.engine != value {
                    return Err(format!("{RUNTIME} and {BEEMESH_RUNTIME} name different engines"));
                }
                names::object(&value)?;
                self.engine.clone_from(&value);
            }
            ENGINE_POLICY => {
                self.requires_engine = match value.as_str() {
                    "require" => true,
                    "prefer" => false,
                    other => return Err(format!("'{}' is neither prefer nor require", shown(other))),
                };
            }
            hints::CPU | hints::MEMORY => self.hints.read(key, &value)?,
            cores::CPUS | cores::COUNT | cores::MODE | cores::HIBERNATE => self.cores.read(key, &value)?,
            NETWORKS => self.networks = network_list(&value)?,
            labels::WAKE_FALLBACK => {
                if !matches!(value.as_str(), "none" | labels::COLD_START) {
                    return Err(format!("must be none or {}, not '{}'", labels::COLD_START, shown(&value)));
                }
                self.says_how_to_wake = true;
            }
            key if key.starts_with(labels::PREFIX) => {
                let known =
                    [RUNTIME, ENGINE_POLICY, NETWORKS, cores::CPUS, cores::COUNT, cores::MODE, cores::HIBERNATE];
                let known = format!("known are {} and {}", known.join(", "), labels::WAKE_FALLBACK);
                return Err(format!("annotation '{}' is not known; {known}", shown(key)));
            }
            _ => {}
        }
        self.annotations.insert(key.to_owned(), value);
        Ok(())
    }

    /// Whether no other engine will do although none is named.
    pub fn requires_nothing(&self) -> Option<String> {
        let is_vain = self.requires_engine && self.engine.is_empty();
        is_vain.then(|| format!("{ENGINE_POLICY} is 'require', and {RUNTIME} names no engine"))
    }
}

/// Reads `labels` and `annotations` of a metadata mapping.
pub(super) fn metadata(fields: &mut Fields<'_>) -> ManifestResult<Metadata> {
    let mut metadata = Metadata::default();
    if let Some(place) = fields.take("labels") {
        for (entry, value) in place.text_map()? {
            if entry.key.starts_with(labels::PREFIX) {
                let message = format!("label '{}' is the daemon's own", shown(&entry.key));
                return Err(place.invalid(message).at(super::reader::join(&place.path, &entry.key), entry.line));
            }
            if value.len() > MAX_LABEL || entry.key.len() > MAX_LABEL_KEY {
                let most = format!("{MAX_LABEL_KEY} bytes of key and {MAX_LABEL} of value");
                let message = format!("label '{}' is longer than {most}", shown(&entry.key));
                return Err(place.invalid(message).at(super::reader::join(&place.path, &entry.key), entry.line));
            }
            metadata.labels.insert(entry.key.clone(), value);
        }
    }
    let Some(place) = fields.take("annotations") else { return Ok(metadata) };
    let entries = place.text_map()?;
    if entries.iter().map(|(entry, value)| entry.key.len() + value.len()).sum::<usize>() > MAX_ANNOTATIONS {
        return Err(place.invalid(format!("annotations hold more than {MAX_ANNOTATIONS} bytes")));
    }
    for (entry, value) in entries {
        let at = |error: ManifestError| error.at(super::reader::join(&place.path, &entry.key), entry.line);
        metadata.annotate(&entry.key, value).map_err(|why| at(place.invalid(why)))?;
    }
    Ok(metadata)
}

fn network_list(text: &str) -> Result<Vec<String>, String> {
    let mut networks: Vec<String> = Vec::new();
    if text.split(',').count() > MAX_NETWORKS {
        return Err(format!("names more than {MAX_NETWORKS} networks"));
    }
    for name in text.split(',').map(str::trim) {
        names::object(name)?;
        if networks.iter().any(|known| known == name) {
            return Err(format!("network '{name}' is given twice"));
        }
        networks.push(name.to_owned());
    }
    Ok(networks)
}

/// Reads a pod's specification.
pub(super) fn read(
    place: &Place<'_>,
    name: &str,
    format: ManifestFormat,
    metadata: Metadata,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<Draft> {
    notes.mark(place);
    let mut fields = place.fields()?;
    let security = privileges::of_pod(fields.take("securityContext"), notes)?;
    let mut containers = containers(&mut fields, "containers", format, &security, reading, notes)?;
    let init_containers = containers_of_init(&mut fields, format, &security, reading, notes)?;
    if let Some(message) = metadata.requires_nothing() {
        return Err(place.invalid(message).at("metadata.annotations", place.node.line));
    }
    metadata.hints.apply(&mut containers).map_err(|why| place.invalid(why))?;
    let cores = metadata.cores.request();
    let cores = cores.map_err(|why| place.invalid(why).at("metadata.annotations", place.node.line))?;
    if containers.is_empty() {
        return Err(fields
            .require("containers")
            .map_or_else(|error| error, |place| place.invalid("must not be empty")));
    }
    let mut networks = metadata.networks.clone();
    if format == ManifestFormat::Pullpiri {
        pullpiri_parts(&mut fields, &mut containers, &mut networks, notes)?;
    }
    let Volumes { sources, read_only } = volumes::read(fields.items("volumes")?, notes)?;
    let spec = WorkloadSpec {
        name: name.to_owned(),
        package: String::new(),
        scenario: String::new(),
        policy: String::new(),
        node: fields.text("nodeName")?,
        engine: metadata.engine,
        engine_required: metadata.requires_engine,
        format,
        labels: metadata.labels,
        annotations: metadata.annotations,
        network: if fields.flag("hostNetwork")? { NetworkMode::Host } else { NetworkMode::Bridge },
        hostname: hostname(&mut fields)?,
        host_ipc: fields.flag("hostIPC")?,
        host_pid: fields.flag("hostPID")?,
        init_containers,
        containers,
        volumes: sources,
        restart_policy: restart_policy(&mut fields, format)?,
        grace_ms: grace(&mut fields, format)?,
        aliases: Vec::new(),
        depends_on: Vec::new(),
        cores,
        delegate: None,
    };
    other_fields(&mut fields, notes)?;
    fields.finish(notes);
    Ok(Draft { spec, read_only_volumes: read_only, networks, base: place.path.clone() })
}

/// What stands in a Model and not in a Pod.
fn pullpiri_parts(
    fields: &mut Fields<'_>,
    containers: &mut [ContainerSpec],
    networks: &mut Vec<String>,
    notes: &mut Notes,
) -> ManifestResult<()> {
    let items = fields.items("networks")?;
    if let Some(item) = items.get(MAX_NETWORKS) {
        return Err(item.invalid(format!("there are more than {MAX_NETWORKS} networks")));
    }
    for item in items {
        let mut entry = item.fields()?;
        let place = entry.require("name")?;
        let name = place.text()?;
        names::object(&name).map_err(|why| place.invalid(why))?;
        entry.finish(notes);
        if networks.contains(&name) {
            return Err(place.invalid(format!("network '{name}' is given twice")));
        }
        networks.push(name);
    }
    // A Model has one probe; it asks the first container.
    if let (Some(place), Some(first)) = (fields.take("probeConfig"), containers.first_mut()) {
        first.liveness = probes::pullpiri(&place, notes)?;
    }
    Ok(())
}

fn containers(
    fields: &mut Fields<'_>,
    name: &'static str,
    format: ManifestFormat,
    security: &PodSecurity,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<Vec<ContainerSpec>> {
    let Some(place) = fields.take(name) else { return Ok(Vec::new()) };
    let items = place.items()?;
    reading.count_containers(items.len(), &place)?;
    items.iter().map(|item| container::read(item, format, security, reading, notes)).collect()
}

fn containers_of_init(
    fields: &mut Fields<'_>,
    format: ManifestFormat,
    security: &PodSecurity,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<Vec<ContainerSpec>> {
    let list = containers(fields, "initContainers", format, security, reading, notes)?;
    let probed = list.iter().position(|container| container.liveness.is_some());
    match (probed, fields.take("initContainers")) {
        (Some(index), Some(place)) => {
            let path = format!("{}[{index}].livenessProbe", place.path);
            let line = notes.line(&path);
            Err(place.invalid("an init container has no probes").at(path, line))
        }
        _ => Ok(list),
    }
}

fn hostname(fields: &mut Fields<'_>) -> ManifestResult<String> {
    let Some(place) = fields.take("hostname") else { return Ok(String::new()) };
    let text = place.text()?;
    if !text.is_empty() {
        names::label(&text).map_err(|why| place.invalid(why))?;
    }
    Ok(text)
}

/// Kubernetes starts again always, Pullpiri on failure, where the document does not say.
fn restart_policy(fields: &mut Fields<'_>, format: ManifestFormat) -> ManifestResult<RestartPolicy> {
    let Some(place) = fields.take("restartPolicy") else {
        return Ok(match format {
            ManifestFormat::Kubernetes => RestartPolicy::Always,
            ManifestFormat::Pullpiri => RestartPolicy::OnFailure,
            ManifestFormat::Compose | ManifestFormat::Bundle | ManifestFormat::Unit => RestartPolicy::Never,
        });
    };
    let words =
        [("Always", RestartPolicy::Always), ("OnFailure", RestartPolicy::OnFailure), ("Never", RestartPolicy::Never)];
    place.word(&words)
}

/// 30 s of Kubernetes, or the daemon's default for Pullpiri, where the document does not say.
fn grace(fields: &mut Fields<'_>, format: ManifestFormat) -> ManifestResult<Option<u64>> {
    const LONGEST: i64 = 24 * 3600;
    match (fields.take("terminationGracePeriodSeconds"), format) {
        (Some(place), _) => Ok(Some(place.integer::<u64>(0, LONGEST)? * 1000)),
        (None, ManifestFormat::Kubernetes) => Ok(Some(KUBERNETES_GRACE_MS)),
        (None, ManifestFormat::Pullpiri | ManifestFormat::Compose | ManifestFormat::Bundle | ManifestFormat::Unit) => {
            Ok(None)
        }
    }
}

fn other_fields(fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<()> {
    fields.refuse(REFUSED)?;
    fields.only(ONLY_DEFAULT)?;
    if let Some(place) = fields.take("os") {
        let mut os = place.fields()?;
        os.only(&[("name", &["linux"])])?;
        os.finish(notes);
    }
    fields.warn(OF_CLUSTERS, "has no effect on a node by itself", notes);
    fields.skip(SKIPPED);
    Ok(())
}
