//! What is asked before the first effect: the node's ceiling, and policy about each workload.

use std::collections::BTreeMap;

use super::target::Loaded;
use super::{Context, Ports, validation};
use crate::error::{Error, Result};
use crate::model::action::{ActionRequest, Lane, Verb, Warning};
use crate::model::workload::{Delegate, WorkloadSpec};
use crate::policy::{PolicyError, PolicyQuestion, Verdict};

/// What may be done.
#[derive(Debug, Default)]
pub struct Checked {
    /// What the caller should know.
    pub warnings: Vec<Warning>,
    /// Of a partial action: the workloads that are refused or were blocked, and taken out of what was loaded.
    pub refused: BTreeMap<String, Error>,
}

/// Refuses the action or, of a partial one, single workloads, which are taken out of `loaded`. Where a refusal suggests
/// another node and the settings allow it, the workload is moved there instead.
pub fn check(ports: &Ports, request: &ActionRequest, loaded: &mut Loaded, context: &Context) -> Result<Checked> {
    let settings = ports.settings.get();
    let mut checked = Checked { refused: std::mem::take(&mut loaded.blocked), ..Checked::default() };
    for spec in loaded.specs.values().filter(|spec| spec.delegate.is_none()) {
        match validation::check_ceiling(&settings, spec) {
            Ok(()) => {}
            Err(error) if request.parameters.partial => drop(checked.refused.insert(spec.name.clone(), error)),
            Err(error) => return Err(error),
        }
    }
    for (name, refusal) in ask(ports, request, loaded, context, &mut checked.warnings)? {
        if !request.parameters.partial {
            return Err(refusal);
        }
        checked.refused.entry(name).or_insert(refusal);
    }
    let refused = &checked.refused;
    loaded.workloads.retain(|name| !refused.contains_key(name));
    loaded.specs.retain(|name, _| !refused.contains_key(name));
    match checked.refused.values().next() {
        Some(only) if loaded.workloads.is_empty() && checked.refused.len() == 1 => Err(only.clone()),
        Some(_) | None => Ok(checked),
    }
}

/// Asks every gate; gives the refusals by workload, under the target's name where no workload is known.
fn ask(
    ports: &Ports,
    request: &ActionRequest,
    loaded: &mut Loaded,
    context: &Context,
    warnings: &mut Vec<Warning>,
) -> Result<Vec<(String, Error)>> {
    let settings = ports.settings.get();
    let workloads: Vec<WorkloadSpec> = loaded.specs.values().cloned().collect();
    let target = loaded.target.clone();
    let question = PolicyQuestion { verb: request.verb, target: &target, workloads: &workloads, caller: "" };
    let verdicts = if workloads.is_empty() {
        vec![ports.policy.check(&question, context.deadline, context.cancel)]
    } else {
        ports.policy.check_each(&question, context.deadline, context.cancel)
    };
    let mut refusals = Vec::new();
    for (index, verdict) in verdicts.into_iter().enumerate() {
        let spec = workloads.get(index);
        let name = spec.map_or(&target, |spec| &spec.name);
        match (verdict, spec) {
            (Ok(Verdict::Allow), _) => {}
            (Ok(Verdict::Deny { rule, suggested_node, .. }), Some(spec))
                if settings.policy.move_to_suggested && !suggested_node.is_empty() && may_move(request.verb) =>
            {
                let message =
                    format!("{rule} refuses node '{}' for '{name}': it goes to '{suggested_node}'", spec.node);
                warnings.push(Warning::new("", 0, message));
                move_to(loaded, spec, &suggested_node, &settings.node);
            }
            (Ok(denial @ Verdict::Deny { .. }), _) => {
                refusals.extend(denial.refusal(&question).map(|refusal| (name.clone(), refusal)));
            }
            // What ends things goes on without the policy server; everything else does not.
            (Err(error), _)
                if request.verb.lane() == Lane::Urgent && settings.policy.end_without && is_away(&error) =>
            {
                warnings.push(Warning::new("", 0, format!("policy was not asked: {error}")));
            }
            (Err(error), _) => refusals.push((name.clone(), error.into())),
        }
    }
    Ok(refusals)
}

fn may_move(verb: Verb) -> bool {
    matches!(verb, Verb::Launch | Verb::Update)
}

fn is_away(error: &PolicyError) -> bool {
    match error {
        PolicyError::Unavailable { .. } | PolicyError::Timeout { .. } | PolicyError::File { .. } => true,
        PolicyError::Cancelled { .. } => false,
    }
}

/// Gives a workload another node.
fn move_to(loaded: &mut Loaded, spec: &WorkloadSpec, node: &str, own: &str) {
    let document = loaded.pods.get(&spec.name).cloned().unwrap_or_default();
    if let Some(found) = loaded.specs.get_mut(&spec.name) {
        node.clone_into(&mut found.node);
        found.delegate = (node != own).then(|| Delegate { node: node.to_owned(), document });
    }
}
