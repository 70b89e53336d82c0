//! What a stored Scenario asks for: its verb, and the workloads of its Package that this concerns.

use std::collections::BTreeSet;

use super::Ports;
use super::target::{self, Loaded, complete, workloads_of};
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::manifest::{Bundle, ExpandOptions, Kind, Schedules};
use crate::model::action::{ActionRequest, Parameters, Verb, Warning};
use crate::model::pullpiri::NetworkOrder;
use crate::model::workload::WorkloadSpec;
use crate::storage::records::WorkloadRecord;

/// The action of a Scenario as a request: each of its models counts by itself.
pub fn request(id: String, verb: Verb, scenario: &str) -> ActionRequest {
    ActionRequest {
        id,
        verb,
        target: scenario.to_owned(),
        manifest: String::new(),
        parameters: Parameters { partial: true, ..Parameters::default() },
        deadline_ms: None,
        priority: 0,
        dry_run: false,
    }
}

/// Reads the Scenario and what its action needs.
pub fn load(ports: &Ports, scenario: &str, deadline: Deadline) -> Result<(Verb, Loaded)> {
    let mut bundle = Bundle::parse("", &ports.settings.get().limits)?;
    let mut warnings = Vec::new();
    let found = ports.outside.documents.find(&[(Kind::Scenario.as_str(), scenario)], deadline)?.pop().flatten();
    let Some(found) = found else {
        // Upstream's words, which callers may know: nothing is added to them.
        let message = format!("Scenario '{scenario}' not found: Key not found");
        return Err(Error::new(ErrorKind::NotFound, ErrorCode::DocumentNotFound, message));
    };
    if found.origin == crate::storage::documents::Origin::Copy {
        let message = format!("the store does not answer: Scenario '{scenario}' is its last good copy");
        warnings.push(Warning::new("", 0, message));
    }
    let stored = crate::manifest::Stored { text: found.text, pod: None };
    bundle.add(Kind::Scenario, scenario, &stored)?;
    let Some((verb, package)) = bundle.action_of(scenario) else {
        return Err(Error::internal(format!("Scenario '{scenario}' was read and has no action")));
    };
    let package = package.to_owned();
    let request = request(String::new(), verb, scenario);
    let mut loaded = match verb {
        Verb::Launch | Verb::Update => {
            warnings.extend(complete(ports, &mut bundle, scenario, deadline)?);
            let network = network(ports, scenario, &mut warnings, deadline)?;
            Loaded { network, ..workloads_of(ports, &bundle, &request, warnings, deadline)? }
        }
        Verb::Rollback => target::rollback(named(scenario, &package), recorded(ports, &package, deadline)?)?,
        _ => ending(ports, bundle, &request, &package, deadline)?,
    };
    if loaded.workloads.is_empty() {
        loaded.workloads = loaded.specs.keys().cloned().collect();
    }
    loaded.aliases.insert(package);
    loaded.is_trigger = true;
    // The condition has been met, or there is none: whoever triggers has looked.
    loaded.warnings.retain(|warning| warning.path != "spec.condition");
    Ok((verb, loaded))
}

/// The network that the documents of the Scenario's own name describe, where there is somebody to set it up.
fn network(
    ports: &Ports,
    scenario: &str,
    warnings: &mut Vec<Warning>,
    deadline: Deadline,
) -> Result<Option<NetworkOrder>> {
    if ports.outside.networks.is_none() {
        return Ok(None);
    }
    let (network, node) = (Kind::Network.as_str(), Kind::Node.as_str());
    let mut found = ports.outside.documents.find(&[(network, scenario), (node, scenario)], deadline)?.into_iter();
    let mut text = || found.next().flatten().map(|found| found.text);
    match (text(), text()) {
        (Some(network), Some(node)) => Ok(Some(NetworkOrder { node, network })),
        (None, None) => Ok(None),
        (network_text, _) => {
            let (there, missing) = if network_text.is_some() { (network, node) } else { (node, network) };
            let message =
                format!("no network is set up: there is a {there} '{scenario}', but no {missing} '{scenario}'");
            warnings.push(Warning::new("", 0, message));
            Ok(None)
        }
    }
}

fn named(scenario: &str, package: &str) -> Loaded {
    Loaded { target: scenario.to_owned(), aliases: BTreeSet::from([package.to_owned()]), ..Loaded::default() }
}

fn recorded(ports: &Ports, package: &str, deadline: Deadline) -> Result<Vec<WorkloadRecord>> {
    let records = ports.records.workloads(deadline)?.logged().into_iter().map(|record| record.value);
    Ok(records.filter(|record| record.spec.package == package).collect())
}

/// What ends: the recorded workloads of the Package and, as far as its documents can be had, those of other nodes that
/// were started before this daemon was there.
fn ending(
    ports: &Ports,
    mut bundle: Bundle,
    request: &ActionRequest,
    package: &str,
    deadline: Deadline,
) -> Result<Loaded> {
    let mut loaded = named(&request.target, package);
    loaded.workloads = recorded(ports, package, deadline)?.into_iter().map(|record| record.spec.name).collect();
    let read = complete(ports, &mut bundle, &request.target, deadline).and_then(|warnings| {
        let settings = ports.settings.get();
        let options = target::options(ports, request, &request.target, &settings.node);
        // What ends needs no real time.
        let expansion = bundle.expand(&ExpandOptions { schedules: Schedules::Ignored, ..options })?;
        Ok((warnings, expansion.workloads))
    });
    match read {
        Ok((warnings, documented)) => {
            loaded.warnings = warnings;
            add_unrecorded(&mut loaded, documented);
        }
        // What is recorded ends all the same; that there may be more is told.
        Err(error) if !loaded.workloads.is_empty() => {
            let message = format!("only what is recorded of it is ended: {error}");
            loaded.blocked.insert(package.to_owned(), Error { message, ..error });
        }
        Err(error) => return Err(error),
    }
    Ok(loaded)
}

fn add_unrecorded(loaded: &mut Loaded, documented: Vec<WorkloadSpec>) {
    for spec in documented {
        if loaded.workloads.contains(&spec.name) {
            continue;
        }
        loaded.workloads.push(spec.name.clone());
        if spec.delegate.is_some() {
            loaded.specs.insert(spec.name.clone(), spec);
        }
    }
}
