//! From a request to the workloads that it concerns: the documents read, or the names looked up.

use std::collections::{BTreeMap, BTreeSet};

use super::Ports;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::manifest::{Bundle, ExpandOptions, Expansion, Kind, Schedules, Stored};
use crate::model::action::{ActionRequest, Ignorable, Lane, Verb, Warning};
use crate::model::pullpiri::NetworkOrder;
use crate::model::schedule::Schedule;
use crate::model::workload::{Delegate, ManifestFormat, WorkloadSpec};
use crate::storage::documents::Origin;
use crate::storage::records::WorkloadRecord;

/// What a request concerns, before anything is claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The target as resolved.
    pub target: String,
    /// The workloads, in the order of the documents.
    pub workloads: Vec<String>,
    /// Other names under which the action is found by one that supersedes it: Package, Scenario.
    pub aliases: BTreeSet<String>,
    /// Of a verb that makes them: the workloads as they shall be.
    pub specs: BTreeMap<String, WorkloadSpec>,
    /// Of a launch or update: the documents as they came, kind, name and text.
    pub documents: Vec<(String, String, String)>,
    /// The real-time tasks that are to be admitted before the first start.
    pub schedule: Option<Schedule>,
    /// The network that is set up for what starts.
    pub network: Option<NetworkOrder>,
    /// Where policy may move workloads: what another node would be given of each.
    pub pods: BTreeMap<String, String>,
    /// A Scenario's trigger, which callers repeat: where there is nothing to do, nothing is recorded.
    pub is_trigger: bool,
    /// Of a partial action: workloads that were taken out because they cannot be acted on now, with why.
    pub blocked: BTreeMap<String, Error>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

impl Loaded {
    /// What concerns just the named target, as long as nothing better is known.
    pub fn only(target: &str) -> Self {
        Self { target: target.to_owned(), workloads: vec![target.to_owned()], ..Self::default() }
    }

    /// Takes a workload out of a partial action, because of `error`.
    pub fn block(&mut self, workload: &str, error: Error) {
        self.workloads.retain(|name| name != workload);
        self.specs.remove(workload);
        self.blocked.insert(workload.to_owned(), error);
    }

    /// Every name under which the action is found.
    pub fn names(&self) -> BTreeSet<String> {
        let mut names = self.aliases.clone();
        names.extend(self.workloads.iter().cloned());
        names.insert(self.target.clone());
        names
    }
}

/// Reads or looks up what `request` concerns.
pub fn load(ports: &Ports, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
    if !request.manifest.is_empty() {
        let settings = ports.settings.get();
        let bundle = Bundle::parse_named(&request.manifest, &request.target, &settings.limits)?;
        return expand(ports, bundle, request, deadline);
    }
    if request.target.is_empty() {
        let error = Error::invalid("target", "neither a target nor a manifest is given");
        return Err(Error { code: ErrorCode::MissingField, ..error });
    }
    match by_name(ports, request, deadline) {
        // Away, full or damaged: what ends things goes on by labels.
        Err(error) if error.code == ErrorCode::StoreUnavailable && request.verb.lane() == Lane::Urgent => {
            let mut loaded = Loaded::only(&request.target);
            let message = format!("the store was not asked which workloads '{}' has: {error}", request.target);
            loaded.warnings.push(Warning::new("", 0, message));
            Ok(loaded)
        }
        other => other,
    }
}

fn by_name(ports: &Ports, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
    let target = &request.target;
    let record = ports.records.workload(target, deadline)?.map(|found| found.value);
    match (request.verb, record) {
        (Verb::Offload, record) => offload(ports, request, record, deadline),
        (Verb::Update, _) => stored(ports, request, deadline),
        (Verb::Rollback, Some(record)) => rollback(Loaded::only(target), vec![record]),
        (Verb::Launch, Some(record)) => {
            let is_given_up = request.parameters.ignore.contains(&Ignorable::Schedule);
            let is_admitted = ports.settings.get().schedules == Schedules::Admitted && !is_given_up;
            let schedule = record.schedule.filter(|_| is_admitted);
            let specs = BTreeMap::from([(target.clone(), record.spec)]);
            Ok(Loaded { specs, schedule, ..Loaded::only(target) })
        }
        (_, Some(_)) => Ok(Loaded::only(target)),
        (Verb::Launch, None) => stored(ports, request, deadline),
        (_, None) if request.parameters.package.is_some() => unrecorded(ports, request, deadline),
        (_, None) => members(ports, request, deadline),
    }
}

/// A model of a Package that nobody has recorded: where the caller or its documents say that it is on another node, it
/// may have been started there before this daemon was.
fn unrecorded(ports: &Ports, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
    let package = request.parameters.package.as_deref().unwrap_or_default();
    let settings = ports.settings.get();
    let mut bundle = Bundle::parse("", &settings.limits)?;
    let mut loaded = Loaded::only(&request.target);
    loaded.warnings = complete(ports, &mut bundle, package, deadline)?;
    // Read as another node would: then every model comes with what it would be given.
    let told = request.parameters.source_node.as_ref();
    let options = ExpandOptions { moves: told.is_some(), ..options(ports, request, package, &settings.node) };
    let mut expansion = bundle.expand(&ExpandOptions { schedules: Schedules::Ignored, ..options })?;
    let Some(mut spec) = expansion.workloads.into_iter().find(|spec| spec.name == request.target) else {
        return Ok(loaded);
    };
    if let Some(node) = told {
        let document = expansion.pods.remove(&spec.name).unwrap_or_default();
        spec.node.clone_from(node);
        spec.delegate = (*node != settings.node).then(|| Delegate { node: node.clone(), document });
    }
    if spec.delegate.is_some() {
        loaded.specs.insert(spec.name.clone(), spec);
    }
    Ok(loaded)
}

/// The recorded workloads of a Package or Scenario; the name itself where there are none.
fn members(ports: &Ports, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
    let target = &request.target;
    let records: Vec<WorkloadRecord> =
        ports.records.workloads(deadline)?.logged().into_iter().map(|record| record.value).collect();
    for belongs in [|spec: &WorkloadSpec| spec.package.clone(), |spec: &WorkloadSpec| spec.scenario.clone()] {
        let named: Vec<_> = records.iter().filter(|record| belongs(&record.spec) == *target).cloned().collect();
        if named.is_empty() {
            continue;
        }
        let loaded = Loaded {
            target: target.clone(),
            workloads: named.iter().map(|record| record.spec.name.clone()).collect(),
            aliases: BTreeSet::from([target.clone()]),
            ..Loaded::default()
        };
        return if request.verb == Verb::Rollback { rollback(loaded, named) } else { Ok(loaded) };
    }
    Ok(Loaded::only(target))
}

/// The workloads as they were before, of those that were something else. What a rollback has been done to already stays.
pub(super) fn rollback(loaded: Loaded, records: Vec<WorkloadRecord>) -> Result<Loaded> {
    let is_done = records.iter().any(|record| !record.returned_from.is_empty());
    let previous = records.into_iter().filter_map(|record| record.previous);
    let specs: BTreeMap<_, _> = previous.map(|before| (before.spec.name.clone(), before.spec)).collect();
    if specs.is_empty() && !is_done {
        let message = format!("there is no earlier document of '{}' to return to", loaded.target);
        let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::NothingBefore, message);
        return Err(error.at("target").hint("an update keeps the document before it"));
    }
    Ok(Loaded { specs, ..loaded })
}

/// A launch or update by the name of a stored document.
fn stored(ports: &Ports, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
    let bundle = Bundle::parse("", &ports.settings.get().limits)?;
    expand(ports, bundle, request, deadline)
}

/// A workload on the node that it moves to, from its stored Package or, where it has none, from its own document.
fn offload(
    ports: &Ports,
    request: &ActionRequest,
    record: Option<WorkloadRecord>,
    deadline: Deadline,
) -> Result<Loaded> {
    let model = &request.target;
    let recorded = record.as_ref().map(|record| record.spec.package.clone()).filter(|name| !name.is_empty());
    let package = request.parameters.package.clone().or(recorded);
    let root = package.as_ref().unwrap_or(model);
    let settings = ports.settings.get();
    let mut bundle = Bundle::parse("", &settings.limits)?;
    let mut warnings = complete(ports, &mut bundle, root, deadline)?;
    let (own, target) = (settings.node.clone(), request.parameters.target_node.clone().unwrap_or_default());
    // Read as another node would: then every model comes with what it would be given.
    let options = ExpandOptions { moves: true, ..options(ports, request, root, &own) };
    let expansion = bundle.expand(&options)?;
    let Some(mut spec) = expansion.workloads.into_iter().find(|spec| spec.name == *model) else {
        let message = format!("Package '{root}' has no model '{model}'");
        return Err(Error::new(ErrorKind::NotFound, ErrorCode::WorkloadNotFound, message).at("target"));
    };
    spec.node.clone_from(&target);
    spec.delegate = match expansion.pods.get(model).cloned() {
        Some(document) if target != own => Some(Delegate { node: target, document }),
        None if target != own => {
            let message = format!("'{model}' is neither Pod nor Model, and other nodes take nothing else");
            return Err(Error::new(ErrorKind::Unimplemented, ErrorCode::UnsupportedField, message).at("target"));
        }
        Some(_) | None => None,
    };
    if let Some(record) = &record {
        spec.scenario.clone_from(&record.spec.scenario);
    }
    warnings.extend(expansion.warnings);
    let specs = BTreeMap::from([(model.clone(), spec)]);
    Ok(Loaded { specs, aliases: package.into_iter().collect(), warnings, ..Loaded::only(model) })
}

/// What holds on this node for reading documents.
pub(super) fn options<'a>(
    ports: &Ports,
    request: &'a ActionRequest,
    target: &'a str,
    node: &'a str,
) -> ExpandOptions<'a> {
    let settings = ports.settings.get();
    ExpandOptions {
        schedules: settings.schedules,
        delegates: settings.delegates,
        policies: settings.policy.is_asked,
        moves: settings.policy.is_asked && settings.policy.move_to_suggested,
        ..ExpandOptions::new(request.verb, target, node, &request.parameters.ignore)
    }
}

/// Adds stored documents that the target needs; gives what the caller should know of them.
pub(super) fn complete(ports: &Ports, bundle: &mut Bundle, target: &str, deadline: Deadline) -> Result<Vec<Warning>> {
    let mut warnings = Vec::new();
    bundle.complete(target, |wanted| -> Result<Vec<Option<Stored>>> {
        let names: Vec<_> = wanted.iter().map(|(kind, name)| (kind.as_str(), *name)).collect();
        let found = ports.outside.documents.find(&names, deadline)?;
        let stored = wanted.iter().zip(found).map(|((kind, name), found)| {
            let found = found?;
            if found.origin == Origin::Copy {
                let message = format!("the store does not answer: {kind} '{name}' is its last good copy");
                warnings.push(Warning::new("", 0, message));
            }
            Some(Stored { text: found.text, pod: found.pod.filter(|_| *kind == Kind::Model) })
        });
        Ok(stored.collect())
    })?;
    Ok(warnings)
}

/// Adds stored documents that the given ones name, and makes workloads of all.
fn expand(ports: &Ports, mut bundle: Bundle, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
    let warnings = complete(ports, &mut bundle, &request.target, deadline)?;
    if bundle.is_empty() && request.manifest.is_empty() {
        let message = format!("'{}' is neither a known workload nor a stored document", request.target);
        let error = Error::new(ErrorKind::NotFound, ErrorCode::WorkloadNotFound, message).at("target");
        return Err(error.hint("give its document: actionctl apply -f FILE"));
    }
    workloads_of(ports, &bundle, request, warnings, deadline)
}

/// A project that lost a service, or a Deployment that lost a replica, would leave it running with nobody to tell.
fn none_is_left_out(ports: &Ports, expansion: &Expansion, deadline: Deadline) -> Result<()> {
    if expansion.groups.is_empty() {
        return Ok(());
    }
    let records = ports.records.workloads(deadline)?.logged();
    for spec in records.iter().map(|record| &record.value.spec) {
        // Packages of Pullpiri have names of their own.
        let is_of_group = expansion.groups.iter().any(|group| spec.package == *group || spec.name == *group);
        let is_grouped = matches!(spec.format, ManifestFormat::Kubernetes | ManifestFormat::Compose);
        if is_of_group && is_grouped && !expansion.workloads.iter().any(|now| now.name == spec.name) {
            let message = format!("workload '{}' is known and the document has it no more", spec.name);
            let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::WorkloadDiffers, message);
            return Err(error.at("target").hint(format!("end it first: actionctl terminate {}", spec.name)));
        }
    }
    Ok(())
}

/// The workloads of a whole bundle.
pub(super) fn workloads_of(
    ports: &Ports,
    bundle: &Bundle,
    request: &ActionRequest,
    mut warnings: Vec<Warning>,
    deadline: Deadline,
) -> Result<Loaded> {
    let settings = ports.settings.get();
    let expansion = bundle.expand(&options(ports, request, &request.target, &settings.node))?;
    if matches!(request.verb, Verb::Launch | Verb::Update) {
        none_is_left_out(ports, &expansion, deadline)?;
    }
    let workloads: Vec<_> = expansion.workloads.iter().map(|spec| spec.name.clone()).collect();
    let mut loaded = Loaded {
        target: expansion.target,
        aliases: expansion.names.into_iter().filter(|name| !workloads.contains(name)).collect(),
        workloads,
        pods: expansion.pods,
        ..Loaded::default()
    };
    if matches!(request.verb, Verb::Launch | Verb::Update) {
        loaded.specs = expansion.workloads.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        warnings.extend(expansion.warnings);
        loaded.schedule = expansion.schedule;
        let kept = bundle.documents();
        loaded.documents =
            kept.map(|kept| (kept.kind.as_str().to_owned(), kept.name.to_owned(), kept.text.to_owned())).collect();
    }
    loaded.warnings = warnings;
    Ok(loaded)
}
