//! From documents to workloads: what the target is, which Models it has, and what its Package gives to each.

use std::collections::{BTreeMap, BTreeSet};

use super::bundle::Bundle;
use super::checks;
use super::document::{Body, Document};
use super::error::{ManifestError, ManifestErrorKind, ManifestResult};
use super::kind::Kind;
use super::pod::Draft;
use super::pullpiri::{NetworkDocument, Package, PackageModel, Reference, Scenario};
use super::reader::Notes;
use crate::model::action::{Ignorable, Verb, Warning};
use crate::model::schedule::Schedule;
use crate::model::text::shown;
use crate::model::workload::{Delegate, ManifestFormat, WorkloadSpec};

/// The kinds that a target may be, in the order in which a name is looked for.
pub(super) const TARGETS: &[Kind] =
    &[Kind::Scenario, Kind::Package, Kind::Model, Kind::Pod, Kind::Deployment, Kind::Compose, Kind::Bundle, Kind::Unit];

/// The most warnings of one expansion; more are counted.
const MOST_WARNINGS: usize = 200;

/// What is expanded, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct ExpandOptions<'a> {
    /// What is to be done. A Scenario whose own action differs from a launch is refused for a launch.
    pub verb: Verb,
    /// Scenario, Package or workload by name; empty where the documents hold one thing, or workloads only.
    pub target: &'a str,
    /// This node's name.
    pub node: &'a str,
    /// What the caller gives up.
    pub ignore: &'a BTreeSet<Ignorable>,
    /// What a Package's Schedule comes to.
    pub schedules: Schedules,
    /// Whether workloads of other nodes go to these; otherwise they run on this node, with a warning.
    pub delegates: bool,
    /// Whether workloads may be moved: then what another node would be given is told of each.
    pub moves: bool,
    /// Whether somebody is asked what a Policy allows; otherwise it is known by its name only, with a warning.
    pub policies: bool,
}

impl<'a> ExpandOptions<'a> {
    /// On a node by itself: no scheduler, no other nodes, nobody to ask about a Policy.
    pub fn new(verb: Verb, target: &'a str, node: &'a str, ignore: &'a BTreeSet<Ignorable>) -> Self {
        Self {
            verb,
            target,
            node,
            ignore,
            schedules: Schedules::Refused,
            delegates: false,
            moves: false,
            policies: false,
        }
    }
}

/// What a Package's Schedule comes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Schedules {
    /// Its tasks are handed to a scheduler.
    Admitted,
    /// There is no scheduler: the Package is refused unless the caller gives the Schedule up.
    #[default]
    Refused,
    /// There is no scheduler: the Package runs without, with a warning.
    Ignored,
}

/// What a target is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// The target as resolved; several workloads without Package are joined with `,`.
    pub target: String,
    /// Every name concerned: of the Scenario, the Package and the workloads.
    pub names: Vec<String>,
    /// The workloads in the documents' order; never empty.
    pub workloads: Vec<WorkloadSpec>,
    /// The real-time tasks that are to be admitted before the first start.
    pub schedule: Option<Schedule>,
    /// Where workloads may be moved: what another node would be given of each.
    pub pods: BTreeMap<String, String>,
    /// The names of Deployments and Compose projects: every workload of theirs is among `workloads`.
    pub groups: Vec<String>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

/// The document that a target is.
pub(super) enum Root<'b> {
    /// A Scenario.
    Scenario(&'b Document, &'b Scenario),
    /// A Package.
    Package(&'b Document, &'b Package),
    /// Workloads by themselves.
    Workloads(Vec<&'b Document>),
}

/// Finds the target; `None` where no document is it. An error where an empty target could be several things.
pub(super) fn root<'b>(bundle: &'b Bundle, target: &str) -> ManifestResult<Option<Root<'b>>> {
    if !target.is_empty() {
        let found = TARGETS.iter().find_map(|kind| bundle.find(*kind, target));
        return Ok(found.map(as_root));
    }
    let tops: Vec<&Document> = bundle.all().iter().filter(|document| is_top(bundle, document)).collect();
    match tops.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(as_root(only))),
        _ if tops.iter().all(|document| document.kind.is_workload() || document.kind == Kind::Compose) => {
            Ok(Some(Root::Workloads(tops)))
        }
        _ => {
            let titles: Vec<&str> = tops.iter().map(|document| document.notes.title.as_str()).collect();
            let message = format!("the documents hold several things: {}", titles.join(", "));
            Err(ManifestError::new(ManifestErrorKind::Invalid, message).hint("name the target"))
        }
    }
}

fn as_root(document: &Document) -> Root<'_> {
    match &document.body {
        Body::Scenario(scenario) => Root::Scenario(document, scenario),
        Body::Package(package) => Root::Package(document, package),
        Body::Workload { .. }
        | Body::Whole(_)
        | Body::Volume(_)
        | Body::Network(_)
        | Body::Schedule(_)
        | Body::Policy(_)
        | Body::Kept => Root::Workloads(vec![document]),
    }
}

/// Whether the document can be a target and no other one names it.
fn is_top(bundle: &Bundle, document: &Document) -> bool {
    let is_named = |other: &Document| match &other.body {
        Body::Scenario(scenario) => document.kind == Kind::Package && scenario.target.name == document.name,
        Body::Package(package) => {
            let has_name = |model: &PackageModel| model.model.name == document.name;
            document.kind == Kind::Model && package.models.iter().any(has_name)
        }
        Body::Workload { .. }
        | Body::Whole(_)
        | Body::Volume(_)
        | Body::Network(_)
        | Body::Schedule(_)
        | Body::Policy(_)
        | Body::Kept => false,
    };
    TARGETS.contains(&document.kind) && !bundle.all().iter().any(is_named)
}

/// Expands the target to workloads.
pub(super) fn expand(bundle: &Bundle, options: &ExpandOptions<'_>) -> ManifestResult<Expansion> {
    let Some(root) = root(bundle, options.target)? else { return Err(nothing(bundle, options.target)) };
    let mut expansion = Expansion {
        target: String::new(),
        names: Vec::new(),
        workloads: Vec::new(),
        schedule: None,
        pods: BTreeMap::new(),
        groups: Vec::new(),
        warnings: Vec::new(),
    };
    for document in bundle.all() {
        expansion.warnings.extend(document.notes.warnings());
    }
    match root {
        Root::Scenario(document, scenario) => of_scenario(bundle, options, document, scenario, &mut expansion)?,
        Root::Package(document, package) => of_package(bundle, options, document, package, "", &mut expansion)?,
        Root::Workloads(documents) => of_workloads(bundle, options, &documents, &mut expansion)?,
    }
    let more = expansion.warnings.len().saturating_sub(MOST_WARNINGS);
    no_workload_twice(&expansion)?;
    if more > 0 {
        expansion.warnings.truncate(MOST_WARNINGS);
        expansion.warnings.push(Warning::new("", 0, format!("{more} more warnings")));
    }
    Ok(expansion)
}

fn nothing(bundle: &Bundle, target: &str) -> ManifestError {
    if !target.is_empty() {
        let message = format!(
            "no Scenario, Package, Model, Pod, Deployment, Compose project, bundle or unit '{}' is given or kept",
            shown(target)
        );
        return ManifestError::new(ManifestErrorKind::TargetNotFound, message);
    }
    let message =
        if bundle.is_empty() { "there is no document and no target" } else { "no document describes a workload" };
    ManifestError::new(ManifestErrorKind::Invalid, message).hint("name a target, or give documents")
}

fn of_scenario(
    bundle: &Bundle,
    options: &ExpandOptions<'_>,
    document: &Document,
    scenario: &Scenario,
    expansion: &mut Expansion,
) -> ManifestResult<()> {
    let title = &document.notes.title;
    if options.verb == Verb::Launch && scenario.action != Verb::Launch {
        let message = format!("the scenario's action is {}, the caller's is {}", scenario.action, options.verb);
        let error = ManifestError::new(ManifestErrorKind::Invalid, message).at("spec.action", scenario.action_line);
        let hint = format!("ask for {}, or name the Package '{}'", scenario.action, scenario.target.name);
        return Err(error.hint(hint).within(title));
    }
    if let Some(line) = scenario.condition_line {
        let message = format!("{title}: the condition is not evaluated here, the action is done at once");
        expansion.warnings.push(Warning::new("spec.condition", line, message));
    }
    expansion.target.clone_from(&document.name);
    expansion.names.push(document.name.clone());
    let package = required(bundle, Kind::Package, &scenario.target, title)?;
    match package.body.as_package() {
        Some(body) => of_package(bundle, options, package, body, &document.name, expansion),
        None => Err(not_found(Kind::Package, &scenario.target, title)),
    }
}

fn of_package(
    bundle: &Bundle,
    options: &ExpandOptions<'_>,
    document: &Document,
    package: &Package,
    scenario: &str,
    expansion: &mut Expansion,
) -> ManifestResult<()> {
    let title = &document.notes.title;
    if let Some(policy) = package.policy.as_ref().filter(|_| !options.policies) {
        let message = format!("{title}: Policy '{}' is known to the policy rules by its name only", policy.name);
        expansion.warnings.push(Warning::new(&policy.path, policy.line, message));
    }
    if let Some(reference) = &package.schedule {
        expansion.schedule = schedule(bundle, options, reference, title, &mut expansion.warnings)?;
    }
    if expansion.target.is_empty() {
        expansion.target.clone_from(&document.name);
    }
    push_name(expansion, &document.name);
    for model in &package.models {
        let mut notes = Notes::new(title.clone());
        let draft = of_model(bundle, model, title, &mut notes)?;
        let other = model.node.as_ref().filter(|node| node.name != options.node);
        if let Some(node) = other.filter(|_| !options.delegates) {
            let what = format!("model '{}' is meant for node '{}' and runs on this node", model.model.name, node.name);
            notes.warn(&node.path, node.line, &what);
        }
        expansion.warnings.extend(notes.warnings());
        let mut spec = finish(bundle, draft, expansion)?;
        spec.package.clone_from(&document.name);
        spec.scenario = scenario.to_owned();
        spec.policy = package.policy.as_ref().map(|policy| policy.name.clone()).unwrap_or_default();
        if let Some(node) = &model.node {
            spec.node.clone_from(&node.name);
        }
        let is_delegated = other.is_some() && options.delegates;
        if is_delegated || options.moves {
            let delegate = delegate(bundle, &spec, model.volume.as_ref())?;
            expansion.pods.insert(spec.name.clone(), delegate.document.clone());
            spec.delegate = is_delegated.then_some(delegate);
        }
        push_name(expansion, &spec.name);
        expansion.workloads.push(spec);
    }
    Ok(())
}

/// The tasks of the Schedule that a Package names, where they are to be admitted.
fn schedule(
    bundle: &Bundle,
    options: &ExpandOptions<'_>,
    reference: &Reference,
    title: &str,
    warnings: &mut Vec<Warning>,
) -> ManifestResult<Option<Schedule>> {
    let name = &reference.name;
    let message = match options.schedules {
        _ if options.ignore.contains(&Ignorable::Schedule) => {
            format!("{title}: Schedule '{name}' is ignored, as asked for")
        }
        Schedules::Ignored => format!("{title}: Schedule '{name}' is not in force: no TIMPANI is configured"),
        Schedules::Refused => {
            let message = format!("Schedule '{name}' cannot take effect: no TIMPANI is configured");
            let error = ManifestError::new(ManifestErrorKind::Unsupported, message);
            let error = error.at(&reference.path, reference.line).within(title);
            return Err(
                error.hint("to run without it: --ignore schedule; timpani.address and timpani.absent configure it")
            );
        }
        Schedules::Admitted => {
            return Ok(required(bundle, Kind::Schedule, reference, title)?.body.as_schedule().cloned());
        }
    };
    warnings.push(Warning::new(&reference.path, reference.line, message));
    Ok(None)
}

/// What another node is given of a workload.
fn delegate(bundle: &Bundle, spec: &WorkloadSpec, volume: Option<&Reference>) -> ManifestResult<Delegate> {
    let of_kind = |kind: &&Kind| kind.is_workload();
    let document = TARGETS.iter().filter(of_kind).find_map(|kind| bundle.find(*kind, &spec.name));
    let (pod, text) = document.map(|document| (document.pod.as_deref(), document.text.as_str())).unwrap_or_default();
    let volume = volume.and_then(|volume| bundle.find(Kind::Volume, &volume.name)).map(|found| found.text.as_str());
    let document = super::delegate::pod_of(&spec.name, pod, text, volume)?;
    Ok(Delegate { node: spec.node.clone(), document })
}

/// A Model with the volumes and the network that its Package gives to it.
fn of_model(bundle: &Bundle, model: &PackageModel, title: &str, notes: &mut Notes) -> ManifestResult<Draft> {
    let document = required(bundle, Kind::Model, &model.model, title)?;
    let draft = document.body.as_draft().ok_or_else(|| not_found(Kind::Model, &model.model, title))?;
    let mut draft = draft.clone();
    if let Some(reference) = &model.volume {
        let document = required(bundle, Kind::Volume, reference, title)?;
        if let Body::Volume(volumes) = &document.body {
            for (name, source) in &volumes.sources {
                let known = draft.spec.volumes.insert(name.clone(), source.clone());
                if known.is_some_and(|known| known != *source) {
                    let message = format!("volume '{name}' is another one in Model '{}'", model.model.name);
                    let error = ManifestError::new(ManifestErrorKind::Invalid, message);
                    return Err(error.at(&reference.path, reference.line).within(title));
                }
            }
            draft.read_only_volumes.extend(volumes.read_only.iter().cloned());
        }
    }
    if let Some(reference) = &model.network {
        let document = required(bundle, Kind::Network, reference, title)?;
        if document.body == Body::Network(NetworkDocument::Placeholder) {
            let message = format!("Network '{}' is a placeholder and has no effect", reference.name);
            notes.warn(&reference.path, reference.line, &message);
        } else if !draft.networks.contains(&reference.name) {
            draft.networks.push(reference.name.clone());
        }
    }
    Ok(draft)
}

/// Resolves the networks of a draft and checks it as a whole.
fn finish(bundle: &Bundle, draft: Draft, expansion: &mut Expansion) -> ManifestResult<WorkloadSpec> {
    let workloads = TARGETS.iter().filter(|kind| kind.is_workload());
    let document = workloads.filter_map(|kind| bundle.find(*kind, &draft.spec.name)).next();
    let mut notes = document.map(|document| document.notes.without_warnings()).unwrap_or_default();
    // A Kubernetes workload names networks of the engine, a Model names Network documents where there are any.
    let resolve = |name: &String| {
        let document = bundle.find(Kind::Network, name).filter(|_| draft.spec.format == ManifestFormat::Pullpiri);
        (name.clone(), document.and_then(|document| document.body.as_network()).cloned())
    };
    let networks: Vec<_> = draft.networks.iter().map(resolve).collect();
    let spec = checks::finish(draft, &networks, &mut notes).map_err(|error| error.within(&notes.title))?;
    expansion.warnings.extend(notes.warnings());
    Ok(spec)
}

fn of_workloads(
    bundle: &Bundle,
    options: &ExpandOptions<'_>,
    documents: &[&Document],
    expansion: &mut Expansion,
) -> ManifestResult<()> {
    for document in documents {
        push_name(expansion, &document.name);
        if matches!(document.kind, Kind::Compose | Kind::Deployment) {
            expansion.groups.push(document.name.clone());
        }
        match &document.body {
            Body::Whole(workloads) => expansion.workloads.extend(workloads.iter().cloned()),
            Body::Workload { draft, replicas } => of_draft(bundle, options, document, draft, *replicas, expansion)?,
            Body::Scenario(_)
            | Body::Package(_)
            | Body::Volume(_)
            | Body::Network(_)
            | Body::Schedule(_)
            | Body::Policy(_)
            | Body::Kept => {}
        }
    }
    expansion.target = expansion.names.join(",");
    if expansion.workloads.is_empty() {
        let message = format!("'{}' has 0 replicas: there is nothing to run", expansion.target);
        return Err(ManifestError::new(ManifestErrorKind::Invalid, message).at("spec.replicas", 0));
    }
    for name in expansion.workloads.iter().map(|spec| spec.name.clone()).collect::<Vec<_>>() {
        push_name(expansion, &name);
    }
    Ok(())
}

/// A Pod or Model, or the replicas of a Deployment.
fn of_draft(
    bundle: &Bundle,
    options: &ExpandOptions<'_>,
    document: &Document,
    draft: &Draft,
    replicas: u32,
    expansion: &mut Expansion,
) -> ManifestResult<()> {
    let title = &document.notes.title;
    if replicas == 0 {
        let message = format!("{title}: 0 replicas, nothing is run");
        expansion.warnings.push(Warning::new("spec.replicas", document.notes.line("spec"), message));
        return Ok(());
    }
    let path = format!("{}.nodeName", draft.base);
    let line = document.notes.line(&path);
    let mut spec = finish(bundle, draft.clone(), expansion)?;
    let is_other = !spec.node.is_empty() && spec.node != options.node;
    // Other nodes take Pods.
    let can_go = document.kind != Kind::Deployment;
    let is_delegated = is_other && options.delegates && can_go;
    if is_delegated || (options.moves && can_go) {
        let delegate = delegate(bundle, &spec, None)?;
        expansion.pods.insert(spec.name.clone(), delegate.document.clone());
        spec.delegate = is_delegated.then_some(delegate);
    }
    if is_other && !is_delegated {
        let message = format!("{title}: is meant for node '{}' and runs on this node", shown(&spec.node));
        expansion.warnings.push(Warning::new(path, line, message));
    }
    if replicas == 1 {
        expansion.workloads.push(spec);
        return Ok(());
    }
    for number in 1..=replicas {
        let name = format!("{}-{number}", document.name);
        super::names::subdomain(&name).map_err(|why| {
            let error = ManifestError::new(ManifestErrorKind::Invalid, format!("the name of a replica: {why}"));
            error.at("metadata.name", document.notes.line("metadata.name")).within(title)
        })?;
        expansion.workloads.push(WorkloadSpec { name, package: document.name.clone(), ..spec.clone() });
    }
    Ok(())
}

/// Documents may come to the same name: the service `b` of the project `a`, and the Pod `a-b`.
fn no_workload_twice(expansion: &Expansion) -> ManifestResult<()> {
    let mut seen = BTreeSet::new();
    match expansion.workloads.iter().find(|spec| !seen.insert(spec.name.as_str())) {
        Some(spec) => {
            let message = format!("the documents describe workload '{}' twice", spec.name);
            Err(ManifestError::new(ManifestErrorKind::Invalid, message))
        }
        None => Ok(()),
    }
}

fn push_name(expansion: &mut Expansion, name: &str) {
    if !expansion.names.iter().any(|known| known == name) {
        expansion.names.push(name.to_owned());
    }
}

fn required<'b>(bundle: &'b Bundle, kind: Kind, reference: &Reference, title: &str) -> ManifestResult<&'b Document> {
    bundle.find(kind, &reference.name).ok_or_else(|| not_found(kind, reference, title))
}

fn not_found(kind: Kind, reference: &Reference, title: &str) -> ManifestError {
    let message = format!("{kind} '{}' is neither given nor kept", reference.name);
    let error = ManifestError::new(ManifestErrorKind::DocumentNotFound, message);
    error.at(&reference.path, reference.line).within(title).hint(format!("give the {kind} document with the request"))
}
