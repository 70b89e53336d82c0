//! From a request to the workloads that it concerns: the documents read, or the names looked up.

use std::collections::{BTreeMap, BTreeSet};

use super::Ports;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::manifest::{Bundle, ExpandOptions};
use crate::model::action::{ActionRequest, Lane, Verb, Warning};
use crate::model::workload::WorkloadSpec;

/// What a request concerns, before anything is claimed.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The target as resolved.
    pub target: String,
    /// The workloads, in the order of the documents.
    pub workloads: Vec<String>,
    /// Other names under which the action is found by one that supersedes it: Package, Scenario.
    pub aliases: BTreeSet<String>,
    /// Of a launch: the workloads as they shall be.
    pub specs: BTreeMap<String, WorkloadSpec>,
    /// Of a launch: the documents as they came, kind, name and text.
    pub documents: Vec<(String, String, String)>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

impl Loaded {
    /// What concerns just the named target, as long as nothing better is known.
    pub fn only(target: &str) -> Self {
        Self { target: target.to_owned(), workloads: vec![target.to_owned()], ..Self::default() }
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
        let bundle = Bundle::parse(&request.manifest, &settings.limits)?;
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
    if let Some(record) = ports.records.workload(target, deadline)? {
        let mut loaded = Loaded::only(target);
        let spec = record.value.spec;
        if request.verb == Verb::Launch {
            loaded.specs.insert(target.clone(), spec);
        }
        return Ok(loaded);
    }
    if request.verb == Verb::Launch {
        return stored(ports, request, deadline);
    }
    let of_target = |name: &String| name == target;
    let members: Vec<_> =
        ports.records.workloads(deadline)?.logged().into_iter().map(|record| record.value.spec).collect();
    for belongs in [|spec: &WorkloadSpec| spec.package.clone(), |spec: &WorkloadSpec| spec.scenario.clone()] {
        let named: Vec<_> = members.iter().filter(|spec| of_target(&belongs(spec))).collect();
        if !named.is_empty() {
            return Ok(Loaded {
                target: target.clone(),
                workloads: named.iter().map(|spec| spec.name.clone()).collect(),
                aliases: BTreeSet::from([target.clone()]),
                ..Loaded::default()
            });
        }
    }
    Ok(Loaded::only(target))
}

/// A launch by the name of a stored document.
fn stored(ports: &Ports, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
    let bundle = Bundle::parse("", &ports.settings.get().limits)?;
    expand(ports, bundle, request, deadline)
}

/// Adds stored documents that the given ones name, and makes workloads of all.
fn expand(ports: &Ports, mut bundle: Bundle, request: &ActionRequest, deadline: Deadline) -> Result<Loaded> {
    bundle.complete(&request.target, |kind, name| -> Result<Option<String>> {
        Ok(ports.records.document(kind.as_str(), name, deadline)?)
    })?;
    if bundle.is_empty() && request.manifest.is_empty() {
        let message = format!("'{}' is neither a known workload nor a stored document", request.target);
        let error = Error::new(ErrorKind::NotFound, ErrorCode::WorkloadNotFound, message).at("target");
        return Err(error.hint("give its document: actionctl apply -f FILE"));
    }
    let settings = ports.settings.get();
    let options = ExpandOptions {
        verb: request.verb,
        target: &request.target,
        node: &settings.node,
        ignore: &request.parameters.ignore,
    };
    let expansion = bundle.expand(&options)?;
    let workloads: Vec<_> = expansion.workloads.iter().map(|spec| spec.name.clone()).collect();
    let mut loaded = Loaded {
        target: expansion.target,
        aliases: expansion.names.into_iter().filter(|name| !workloads.contains(name)).collect(),
        workloads,
        ..Loaded::default()
    };
    if request.verb == Verb::Launch {
        loaded.specs = expansion.workloads.into_iter().map(|spec| (spec.name.clone(), spec)).collect();
        loaded.warnings = expansion.warnings;
        let kept = bundle.documents();
        loaded.documents =
            kept.map(|kept| (kept.kind.as_str().to_owned(), kept.name.to_owned(), kept.text.to_owned())).collect();
    }
    Ok(loaded)
}
