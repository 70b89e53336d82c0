//! One document: which kind it is, its name, and what it says.

use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::kind::Kind;
use super::parse::Parsed;
use super::pod::{self, Draft, Metadata, Reading};
use super::pullpiri::{self, NetworkDocument, Package, Scenario};
use super::reader::{Fields, Notes, Place};
use super::volumes::Volumes;
use super::{compose, names, oci, unit};
use crate::model::schedule::{MissPolicy, Schedule};
use crate::model::text::shown;
use crate::model::workload::{ManifestFormat, NetworkMode, PortSpec, WorkloadSpec};

/// A document that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Document {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
    /// Its text as it came.
    pub text: String,
    /// Of a stored Model: the Pod that Pullpiri has made of it.
    pub pod: Option<String>,
    /// What it says.
    pub body: Body,
    /// Warnings and lines.
    pub notes: Notes,
}

/// What a document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    /// Pod, Deployment or Model.
    Workload {
        /// The workload.
        draft: Box<Draft>,
        /// How many there are; 1 but for a Deployment.
        replicas: u32,
    },
    /// A Compose project, a bundle or a unit: workloads that are whole, what is depended on first.
    Whole(Vec<WorkloadSpec>),
    /// A Scenario.
    Scenario(Scenario),
    /// A Package.
    Package(Package),
    /// A Volume.
    Volume(Volumes),
    /// A Network.
    Network(NetworkDocument),
    /// A Schedule.
    Schedule(Schedule),
    /// A Policy: what it says of missed deadlines.
    Policy(Option<MissPolicy>),
    /// A Node: kept, without effect on a workload.
    Kept,
}

impl Body {
    /// The Package that this is.
    pub fn as_package(&self) -> Option<&Package> {
        if let Self::Package(package) = self { Some(package) } else { None }
    }

    /// The Network that this is.
    pub fn as_network(&self) -> Option<&NetworkDocument> {
        if let Self::Network(network) = self { Some(network) } else { None }
    }

    /// The Schedule that this is.
    pub fn as_schedule(&self) -> Option<&Schedule> {
        if let Self::Schedule(schedule) = self { Some(schedule) } else { None }
    }

    /// What the Policy that this is says of missed deadlines.
    pub fn as_miss_policy(&self) -> Option<&MissPolicy> {
        if let Self::Policy(policy) = self { policy.as_ref() } else { None }
    }

    /// The workload that this is.
    pub fn as_draft(&self) -> Option<&Draft> {
        if let Self::Workload { draft, .. } = self { Some(draft) } else { None }
    }
}

/// Reads a document. One of a format in which it may have no name of its own has the `given` one then.
pub(super) fn read(parsed: Parsed, given: &str, reading: &mut Reading<'_>) -> ManifestResult<Document> {
    if compose::is_compose(&parsed.root) {
        let compose::Read { name, workloads, notes } = compose::read(parsed.root, given, reading)?;
        let body = Body::Whole(workloads);
        return Ok(Document { kind: Kind::Compose, name, text: parsed.text, pod: None, body, notes });
    }
    if oci::is_bundle(&parsed.root) {
        let (spec, notes) = oci::read(&parsed.root, given, reading)?;
        return Ok(whole(Kind::Bundle, spec, parsed.text, notes));
    }
    let root = Place::new(&parsed.root, "");
    let mut fields = root.fields()?;
    let kind = kind(&mut fields)?;
    let metadata_place = fields.require("metadata").map_err(|error| error.within(kind.as_str()))?;
    let mut metadata = metadata_place.fields()?;
    let name = name(kind, &mut metadata).map_err(|error| error.within(kind.as_str()))?;
    let mut notes = Notes::new(format!("{kind} '{name}'"));
    let body = body(kind, &name, &mut fields, metadata, reading, &mut notes);
    let body = body.map_err(|error| error.within(&notes.title))?;
    fields.skip(&["status"]);
    fields.finish(&mut notes);
    Ok(Document { kind, name, text: parsed.text, pod: None, body, notes })
}

/// Reads a unit, likewise.
pub(super) fn read_unit(text: &str, given: &str, reading: &mut Reading<'_>) -> ManifestResult<Document> {
    if text.len() > reading.limits.max_bytes {
        let what = format!("a text of {} bytes", text.len());
        return Err(ManifestError::limit("max_bytes", reading.limits.max_bytes, &what));
    }
    let (spec, notes) = unit::read(text, given)?;
    Ok(whole(Kind::Unit, spec, text.to_owned(), notes))
}

fn whole(kind: Kind, spec: WorkloadSpec, text: String, notes: Notes) -> Document {
    Document { kind, name: spec.name.clone(), text, pod: None, body: Body::Whole(vec![spec]), notes }
}

fn kind(fields: &mut Fields<'_>) -> ManifestResult<Kind> {
    let place = fields.require("kind")?;
    let word = place.text()?;
    let Some(kind) = Kind::from_word(&word).filter(|kind| kind.is_said()) else {
        let said = Kind::ALL.iter().filter(|kind| kind.is_said());
        let known: Vec<&str> = said.map(|kind| kind.as_str()).collect();
        return Err(place.invalid(format!("kind '{}' is none of {}", shown(&word), known.join(", "))));
    };
    let place = fields.require("apiVersion").map_err(|error| error.within(kind.as_str()))?;
    let version = place.text()?;
    if version != kind.api_version() {
        let message =
            format!("'{}' does not belong to kind {kind}, which needs {}", shown(&version), kind.api_version());
        return Err(place.invalid(message).within(kind.as_str()));
    }
    Ok(kind)
}

fn name(kind: Kind, metadata: &mut Fields<'_>) -> ManifestResult<String> {
    let name = metadata.require_text("name")?;
    let check = if kind.is_workload() { names::subdomain } else { names::object };
    let place = metadata.require("name")?;
    check(&name).map_err(|why| place.invalid(why))?;
    Ok(name)
}

fn body(
    kind: Kind,
    name: &str,
    fields: &mut Fields<'_>,
    mut metadata: Fields<'_>,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<Body> {
    let given = pod::metadata(&mut metadata)?;
    finish_metadata(metadata, notes);
    if !kind.is_workload() && given.is_of_workload() {
        let message = format!("annotations of workloads have no effect on a {kind}");
        return Err(ManifestError::new(ManifestErrorKind::Unsupported, message).at("metadata.annotations", fields.line));
    }
    match kind {
        Kind::Pod => workload(name, ManifestFormat::Kubernetes, given, fields, reading, notes),
        Kind::Model => workload(name, ManifestFormat::Pullpiri, given, fields, reading, notes),
        Kind::Deployment => deployment(name, given, fields, reading, notes),
        Kind::Scenario => pullpiri::scenario(&fields.require("spec")?, notes).map(Body::Scenario),
        Kind::Package => {
            pullpiri::package(&fields.require("spec")?, reading.limits.max_documents, notes).map(Body::Package)
        }
        Kind::Volume => pullpiri::volume(fields.take("spec").as_ref(), notes).map(Body::Volume),
        Kind::Network => pullpiri::network(fields.take("spec").as_ref(), notes).map(Body::Network),
        Kind::Node => pullpiri::node(fields.take("spec").as_ref(), notes).map(|()| Body::Kept),
        Kind::Policy => pullpiri::policy(&fields.require("spec")?, notes).map(Body::Policy),
        Kind::Schedule => pullpiri::schedule(name, fields, notes).map(Body::Schedule),
        Kind::Compose | Kind::Bundle | Kind::Unit => {
            let message = format!("a {kind} has no kind");
            Err(ManifestError::new(ManifestErrorKind::Invalid, message).at("kind", fields.line))
        }
    }
}

/// Who made the document and where it is kept means nothing here; a namespace other than the default one might.
fn finish_metadata(mut metadata: Fields<'_>, notes: &mut Notes) {
    metadata.skip(&[
        "name",
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "managedFields",
        "ownerReferences",
        "finalizers",
        "selfLink",
    ]);
    let is_other = |place: &Place<'_>| !matches!(place.text().as_deref(), Ok("" | "default"));
    if let Some(place) = metadata.take("namespace").filter(is_other) {
        notes.warn(&place.path, place.node.line, "there are no namespaces; names are unique on the node");
    }
    metadata.finish(notes);
}

fn workload(
    name: &str,
    format: ManifestFormat,
    metadata: Metadata,
    fields: &mut Fields<'_>,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<Body> {
    let draft = pod::read(&fields.require("spec")?, name, format, metadata, reading, notes)?;
    Ok(Body::Workload { draft: Box::new(draft), replicas: 1 })
}

/// A Deployment is its template, as often as it says.
fn deployment(
    name: &str,
    metadata: Metadata,
    fields: &mut Fields<'_>,
    reading: &mut Reading<'_>,
    notes: &mut Notes,
) -> ManifestResult<Body> {
    let mut spec = fields.require("spec")?.fields()?;
    let most = i64::try_from(reading.limits.max_containers).unwrap_or(i64::MAX);
    let count = spec.take("replicas");
    let replicas = count.as_ref().map_or(Ok(1), |place| place.integer::<u32>(0, most))?;
    let mut template = spec.require("template")?.fields()?;
    let mut inner = Metadata::default();
    if let Some(place) = template.take("metadata") {
        let mut metadata = place.fields()?;
        inner = pod::metadata(&mut metadata)?;
        finish_metadata(metadata, notes);
    }
    let metadata = over(inner, metadata);
    let place = template.require("spec")?;
    let draft = pod::read(&place, name, ManifestFormat::Kubernetes, metadata, reading, notes)?;
    template.finish(notes);
    if let Some(count) = count.filter(|_| replicas > 1) {
        notes.mark(&count);
        let others = usize::try_from(replicas - 1).unwrap_or(usize::MAX);
        reading.count_containers(draft.spec.all_containers().count().saturating_mul(others), &count)?;
        several_can_be(&draft, &place, notes)?;
    }
    spec.only(&[("paused", &["false"])])?;
    spec.warn(&["minReadySeconds", "strategy"], "does not act yet", notes);
    spec.skip(&["selector", "revisionHistoryLimit", "progressDeadlineSeconds"]);
    spec.finish(notes);
    Ok(Body::Workload { draft: Box::new(draft), replicas })
}

/// Of several replicas none can have a host port for itself.
fn several_can_be(draft: &Draft, place: &Place<'_>, notes: &Notes) -> ManifestResult<()> {
    for (word, list) in [("initContainers", &draft.spec.init_containers), ("containers", &draft.spec.containers)] {
        for (index, container) in list.iter().enumerate() {
            let is_host_port = |port: &PortSpec| port.host_port.is_some() || draft.spec.network == NetworkMode::Host;
            let Some(number) = container.ports.iter().position(is_host_port) else { continue };
            let path = format!("{}.{word}[{index}].ports[{number}]", place.path);
            let port = container.ports[number].host_port.unwrap_or(container.ports[number].container_port);
            let line = notes.line(&path);
            let error = place.unsupported(format!("host port {port} cannot be that of several replicas"));
            return Err(error.at(path, line).hint("take the host port out, or run one replica"));
        }
    }
    Ok(())
}

/// The template's metadata with what only the Deployment itself says.
fn over(mut template: Metadata, deployment: Metadata) -> Metadata {
    for (key, value) in deployment.labels {
        template.labels.entry(key).or_insert(value);
    }
    for (key, value) in deployment.annotations {
        template.annotations.entry(key).or_insert(value);
    }
    if template.engine.is_empty() {
        template.engine = deployment.engine;
    }
    template.requires_engine |= deployment.requires_engine;
    template.hints.complete(&deployment.hints);
    template.cores.complete(&deployment.cores);
    if template.networks.is_empty() {
        template.networks = deployment.networks;
    }
    template
}
