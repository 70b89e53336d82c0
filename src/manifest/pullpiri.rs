//! Pullpiri's own documents: Scenario, Package, Volume, Network, Node, Policy and Schedule, as Eclipse Pullpiri of July
//! 2026 has them. Its Model is read by [`super::pod`].

use super::error::{ManifestError, ManifestResult};
use super::names;
use super::reader::{Fields, Notes, Place};
use super::volumes::{self, Volumes};
use crate::model::action::Verb;
use crate::model::schedule::{MissPolicy, MissStrategy, Schedule, Task, TaskPolicy};

/// A reference to another document, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    /// The document's name.
    pub name: String,
    /// Where it is named.
    pub path: String,
    /// The line.
    pub line: u32,
}

/// Which Package is acted on, how and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scenario {
    /// What it does with its Package.
    pub action: Verb,
    /// The line of `action`.
    pub action_line: u32,
    /// The Package.
    pub target: Reference,
    /// The line of a condition, where it has one.
    pub condition_line: Option<u32>,
}

/// Models that belong together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Package {
    /// The Models in order.
    pub models: Vec<PackageModel>,
    /// The Policy it names.
    pub policy: Option<Reference>,
    /// The Schedule it names.
    pub schedule: Option<Reference>,
}

/// One Model of a Package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PackageModel {
    /// The Model.
    pub model: Reference,
    /// The node that it is meant for.
    pub node: Option<Reference>,
    /// The Volume document that it gets.
    pub volume: Option<Reference>,
    /// The Network document that it gets.
    pub network: Option<Reference>,
}

/// What a Network document says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NetworkDocument {
    /// The placeholder: nothing.
    Placeholder,
    /// The host's own network.
    Host,
    /// Loopback only.
    None,
    /// A bridge; without a name of its own it has the document's.
    Bridge(Option<String>),
}

/// The name of another document, where one is given.
fn reference(fields: &mut Fields<'_>, name: &'static str) -> ManifestResult<Option<Reference>> {
    let Some(place) = fields.take(name) else { return Ok(None) };
    let text = place.text()?;
    if text.is_empty() {
        return Ok(None);
    }
    names::object(&text).map_err(|why| place.invalid(why))?;
    Ok(Some(Reference { name: text, path: place.path, line: place.node.line }))
}

fn required_reference(fields: &mut Fields<'_>, name: &'static str) -> ManifestResult<Reference> {
    let place = fields.require(name)?;
    reference(fields, name)?.ok_or_else(|| place.invalid("must not be empty"))
}

/// Reads a Scenario's `spec`.
pub(super) fn scenario(spec: &Place<'_>, notes: &mut Notes) -> ManifestResult<Scenario> {
    let mut fields = spec.fields()?;
    let words: Vec<(&str, Verb)> =
        [Verb::Launch, Verb::Terminate, Verb::Update, Verb::Rollback].map(|verb| (verb.as_str(), verb)).to_vec();
    let place = fields.require("action")?;
    let action = place.word(&words)?;
    let target = required_reference(&mut fields, "target")?;
    let condition_line = fields.take("condition").map(|place| condition(&place, notes)).transpose()?;
    fields.finish(notes);
    Ok(Scenario { action, action_line: place.node.line, target, condition_line })
}

/// Checks a condition and gives its line.
fn condition(place: &Place<'_>, notes: &mut Notes) -> ManifestResult<u32> {
    let mut fields = place.fields()?;
    fields.require("express")?.word(&[("eq", ()), ("lt", ()), ("le", ()), ("ge", ()), ("gt", ())])?;
    fields.require("value")?.text()?;
    let mut operands = fields.require("operands")?.fields()?;
    for name in ["type", "name", "value"] {
        operands.require(name)?.text()?;
    }
    operands.finish(notes);
    fields.finish(notes);
    Ok(place.node.line)
}

/// Reads a Package's `spec`. With more than `most_models` it could never be whole.
pub(super) fn package(spec: &Place<'_>, most_models: usize, notes: &mut Notes) -> ManifestResult<Package> {
    let mut fields = spec.fields()?;
    for item in fields.items("pattern")? {
        let mut pattern = item.fields()?;
        pattern.text("type")?;
        pattern.finish(notes);
    }
    let list = fields.require("models")?;
    let items = list.items()?;
    if items.len() > most_models {
        let what = format!("{} models of one Package", items.len());
        return Err(ManifestError::limit("max_documents", most_models, &what).at(list.path, list.node.line));
    }
    let mut models: Vec<PackageModel> = Vec::new();
    for item in items {
        let model = package_model(&item, notes)?;
        if models.iter().any(|known| known.model.name == model.model.name) {
            return Err(item.invalid(format!("model '{}' is given twice", model.model.name)));
        }
        models.push(model);
    }
    if models.is_empty() {
        return Err(list.invalid("must not be empty"));
    }
    let package =
        Package { models, policy: reference(&mut fields, "policy")?, schedule: reference(&mut fields, "schedule")? };
    fields.finish(notes);
    Ok(package)
}

fn package_model(item: &Place<'_>, notes: &mut Notes) -> ManifestResult<PackageModel> {
    let mut fields = item.fields()?;
    let model = required_reference(&mut fields, "name")?;
    let node = reference(&mut fields, "node")?;
    let (mut volume, mut network) = (None, None);
    if let Some(place) = fields.take("resources") {
        let mut resources = place.fields()?;
        volume = reference(&mut resources, "volume")?;
        network = reference(&mut resources, "network")?;
        resources.finish(notes);
    }
    fields.finish(notes);
    Ok(PackageModel { model, node, volume, network })
}

/// Reads a Volume's `spec`.
pub(super) fn volume(spec: Option<&Place<'_>>, notes: &mut Notes) -> ManifestResult<Volumes> {
    let Some(spec) = spec else { return Ok(Volumes::default()) };
    let mut fields = spec.fields()?;
    let volumes = volumes::read(fields.items("volumes")?, notes)?;
    fields.refuse(&["volumeName", "capacity", "mountPath", "asilLevel"])?;
    fields.finish(notes);
    Ok(volumes)
}

/// Reads a Network's `spec`.
pub(super) fn network(spec: Option<&Place<'_>>, notes: &mut Notes) -> ManifestResult<NetworkDocument> {
    let Some(spec) = spec else { return Ok(NetworkDocument::Placeholder) };
    let mut fields = spec.fields()?;
    fields.text("dummy")?;
    let name = reference(&mut fields, "networkName")?;
    let mode = fields.take("networkMode");
    fields.finish(notes);
    let word = mode.as_ref().map_or(Ok(String::new()), Place::text)?;
    let network = match (word.as_str(), mode, &name) {
        ("", _, None) => NetworkDocument::Placeholder,
        ("" | "bridge", _, name) => NetworkDocument::Bridge(name.as_ref().map(|name| name.name.clone())),
        ("host", _, None) => NetworkDocument::Host,
        ("none", _, None) => NetworkDocument::None,
        ("host" | "none", Some(place), Some(_)) => {
            return Err(place.invalid("has no name: take networkName out"));
        }
        ("macvlan" | "ipvlan" | "overlay", Some(place), _) => {
            return Err(place.unsupported(format!("networkMode '{word}' is not supported, only bridge, host or none")));
        }
        (_, place, _) => {
            let message = format!("networkMode '{}' is none of bridge, host, none", crate::model::text::shown(&word));
            return Err(place.as_ref().unwrap_or(spec).invalid(message));
        }
    };
    Ok(network)
}

/// Checks a Node's `spec`; it has no effect on workloads.
pub(super) fn node(spec: Option<&Place<'_>>, notes: &mut Notes) -> ManifestResult<()> {
    let Some(spec) = spec else { return Ok(()) };
    let mut fields = spec.fields()?;
    for name in ["role", "ip_address", "hostname", "cluster_id", "status", "last_heartbeat"] {
        fields.text(name)?;
    }
    if let Some(place) = fields.take("resources") {
        let mut resources = place.fields()?;
        for name in ["cpu_cores", "memory_mb", "disk_gb", "architecture", "os_version"] {
            resources.text(name)?;
        }
        resources.finish(notes);
    }
    if let Some(place) = fields.take("config") {
        place.text_map()?;
    }
    fields.finish(notes);
    Ok(())
}

/// Reads a Policy's `spec`: what it says of missed deadlines, where it is about those. Where workloads may be is asked of
/// a policy server; they carry its name only. A restart in place is a strategy of our own.
pub(super) fn policy(spec: &Place<'_>, notes: &mut Notes) -> ManifestResult<Option<MissPolicy>> {
    let mut fields = spec.fields()?;
    let mut placement = fields.require("placement")?.fields()?;
    let nodes = placement.require("availableNodes")?.texts()?;
    placement.finish(notes);
    let mut said = None;
    if let Some(place) = fields.take("procedure") {
        let mut procedure = place.fields()?;
        let is_realtime = procedure.require("type")?.word(&[("offloading", false), ("realtime", true)])?;
        let strategies = [
            ("redeployment", MissStrategy::Redeploy),
            ("stop", MissStrategy::Stop),
            ("restart", MissStrategy::Restart),
        ];
        let strategy = procedure.require("strategy")?.word(&strategies)?;
        let threshold = procedure.take("trigger").map_or(Ok(None), |place| trigger(&place, notes))?;
        procedure.finish(notes);
        said = (is_realtime || threshold.is_some()).then_some(MissPolicy { threshold, strategy, nodes });
    }
    fields.finish(notes);
    Ok(said)
}

/// Gives how many missed deadlines are meant; 0 is none.
fn trigger(place: &Place<'_>, notes: &mut Notes) -> ManifestResult<Option<u32>> {
    let (mut fields, mut misses) = (place.fields()?, None);
    if let Some(place) = fields.take("resourceThreshold") {
        let mut threshold = place.fields()?;
        for name in ["cpu", "memory"] {
            threshold.take(name).map(|place| place.integer::<u8>(0, 100)).transpose()?;
        }
        threshold.finish(notes);
    }
    if let Some(place) = fields.take("deadlineMissThreshold") {
        let mut threshold = place.fields()?;
        misses = Some(threshold.count("count", 0, 0)?).filter(|count| *count > 0);
        threshold.finish(notes);
    }
    fields.finish(notes);
    Ok(misses)
}

/// Reads a Schedule, whose `spec` is a list of real-time tasks.
pub(super) fn schedule(name: &str, fields: &mut Fields<'_>, notes: &mut Notes) -> ManifestResult<Schedule> {
    let class = fields.take("temporal_class");
    let sporadic = class.map(|place| place.word(&[("PERIODIC", false), ("SPORADIC", true)])).transpose()?;
    let tasks = fields.items("spec")?.iter().map(|item| task(item, notes)).collect::<ManifestResult<_>>()?;
    Ok(Schedule { name: name.to_owned(), tasks, sporadic: sporadic.unwrap_or_default() })
}

fn task(item: &Place<'_>, notes: &mut Notes) -> ManifestResult<Task> {
    let mut fields = item.fields()?;
    let policies = [("NORMAL", TaskPolicy::Normal), ("FIFO", TaskPolicy::Fifo), ("RR", TaskPolicy::RoundRobin)];
    let policy = fields.take("policy").map(|place| place.word(&policies)).transpose()?.unwrap_or_default();
    let cpu_affinity = match fields.take("cpu_affinity") {
        Some(place) => {
            let mask = place.text()?.parse::<u64>();
            mask.map_err(|_| place.invalid("must be a mask of CPUs as a whole number"))?
        }
        None => 0,
    };
    let mut number = |field: &'static str| -> ManifestResult<i32> {
        let place = fields.take(field);
        let number = place.map(|place| place.integer::<i32>(i64::from(i32::MIN), i64::from(i32::MAX)));
        Ok(number.transpose()?.unwrap_or_default())
    };
    let (priority, period_us, release_us) = (number("priority")?, number("period")?, number("release_time")?);
    let (runtime_us, deadline_us, max_misses) = (number("runtime")?, number("deadline")?, number("max_dmiss")?);
    let (name, node) = (fields.require_text("name")?, fields.text("node_id")?);
    fields.finish(notes);
    Ok(Task { name, priority, policy, cpu_affinity, period_us, release_us, runtime_us, deadline_us, node, max_misses })
}
