//! What is asked before the first effect: the node's ceiling, and policy about each workload.

use std::collections::BTreeMap;
use std::time::Duration;

use super::target::Loaded;
use super::{Context, PolicySettings, Ports, validation};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, Result};
use crate::model::action::{ActionRequest, Lane, Verb, Warning};
use crate::model::workload::{Delegate, WorkloadSpec};
use crate::policy::{PolicyError, PolicyQuestion, Ruling, Verdict, WorkloadRuling};

/// The time that reading one record has.
const RECORD_BUDGET: Duration = Duration::from_secs(2);

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
    for (name, refusal) in ask(ports, request, loaded, context, &mut checked.warnings) {
        // What is said of the action as a whole is said of every workload.
        if !request.parameters.partial || !loaded.workloads.contains(&name) {
            return Err(refusal);
        }
        checked.refused.entry(name).or_insert(refusal);
    }
    let refused = &checked.refused;
    loaded.workloads.retain(|name| !refused.contains_key(name));
    loaded.specs.retain(|name, _| !refused.contains_key(name));
    Ok(checked)
}

/// Asks every gate about the action, and decides what their word comes to: for each workload that is described by the
/// action's documents or by its record, or for the target alone where none is. Has no effect on anything.
pub fn rule(
    ports: &Ports,
    request: &ActionRequest,
    loaded: &Loaded,
    deadline: Deadline,
    cancel: &CancelToken,
) -> Vec<WorkloadRuling> {
    let settings = ports.settings.get();
    let mut workloads: Vec<WorkloadSpec> = loaded.specs.values().cloned().collect();
    workloads.extend(recorded(ports, loaded, deadline));
    let question = PolicyQuestion { workloads: &workloads, ..about(request, loaded) };
    let ruled = |workload: &str, verdict| WorkloadRuling {
        workload: workload.to_owned(),
        ruling: ruling(verdict, request.verb, loaded.pods.contains_key(workload), &settings.policy),
    };
    if workloads.is_empty() {
        return vec![ruled("", ports.policy.check(&question, deadline, cancel))];
    }
    let verdicts = ports.policy.check_each(&question, deadline, cancel);
    workloads.iter().zip(verdicts).map(|(spec, verdict)| ruled(&spec.name, verdict)).collect()
}

/// The records of workloads of which the action has no documents. What cannot be read is done without: ending things
/// goes on while the store is away.
fn recorded(ports: &Ports, loaded: &Loaded, deadline: Deadline) -> Vec<WorkloadSpec> {
    let unknown = loaded.workloads.iter().filter(|name| !loaded.specs.contains_key(*name));
    let read = |name: &String| ports.records.workload(name, deadline.at_most(RECORD_BUDGET)).ok().flatten();
    unknown.filter_map(read).map(|found| found.value.spec).collect()
}

/// The question without its workloads.
fn about<'a>(request: &ActionRequest, loaded: &'a Loaded) -> PolicyQuestion<'a> {
    PolicyQuestion { verb: request.verb, target: &loaded.target, workloads: &[], caller: "" }
}

/// What a verdict comes to. Only a workload of which another node can be given a document can move.
fn ruling(
    verdict: std::result::Result<Verdict, PolicyError>,
    verb: Verb,
    can_go: bool,
    settings: &PolicySettings,
) -> Ruling {
    match verdict {
        Ok(Verdict::Allow) => Ruling::Allowed,
        Ok(Verdict::Deny { rule, reason, suggested_node: node })
            if settings.move_to_suggested && can_go && !node.is_empty() && may_move(verb) =>
        {
            Ruling::Moved { rule, reason, node }
        }
        Ok(Verdict::Deny { rule, reason, suggested_node }) => Ruling::Denied { rule, reason, suggested_node },
        // What ends things goes on without the policy server; everything else does not.
        Err(error) if verb.lane() == Lane::Urgent && settings.end_without && is_away(&error) => Ruling::Unasked(error),
        Err(error) => Ruling::Unanswered(error),
    }
}

/// Asks every gate and moves what may move; gives the refusals by workload, under the target's name where no workload is
/// known.
fn ask(
    ports: &Ports,
    request: &ActionRequest,
    loaded: &mut Loaded,
    context: &Context,
    warnings: &mut Vec<Warning>,
) -> Vec<(String, Error)> {
    let settings = ports.settings.get();
    let (own, mut refusals, mut moved) = (settings.node.clone(), Vec::new(), Vec::new());
    for WorkloadRuling { workload, ruling } in rule(ports, request, loaded, context.deadline, context.cancel) {
        let name = if workload.is_empty() { loaded.target.clone() } else { workload };
        refusals.extend(ruling.refusal(&about(request, loaded)).map(|refusal| (name.clone(), refusal)));
        match ruling {
            Ruling::Allowed | Ruling::Denied { .. } | Ruling::Unanswered(_) => {}
            Ruling::Moved { rule, node, .. } => {
                let before = loaded.specs.get(&name).map(|spec| spec.node.clone()).unwrap_or_default();
                let message = format!("{rule} refuses node '{before}' for '{name}': it goes to '{node}'");
                warnings.push(Warning::new("", 0, message));
                move_to(loaded, &name, &node, &own);
                moved.push(name);
            }
            Ruling::Unasked(error) => {
                warnings.push(Warning::new("", 0, format!("policy was not asked: {error}")));
            }
        }
    }
    // The new node is asked about like any other, and what comes to this one is held against its ceiling.
    let specs: Vec<_> = moved.iter().filter_map(|name| loaded.specs.get(name)).cloned().collect();
    let question = PolicyQuestion { workloads: &specs, ..about(request, loaded) };
    let verdicts = match specs.is_empty() {
        true => Vec::new(),
        false => ports.policy.check_each(&question, context.deadline, context.cancel),
    };
    for (spec, verdict) in specs.iter().zip(verdicts) {
        let refusal = ruling(verdict, request.verb, false, &settings.policy).refusal(&question);
        let is_here = spec.delegate.is_none();
        let refusal = refusal.or_else(|| validation::check_ceiling(&settings, spec).err().filter(|_| is_here));
        refusals.extend(refusal.map(|refusal| (spec.name.clone(), refusal)));
    }
    refusals
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
fn move_to(loaded: &mut Loaded, workload: &str, node: &str, own: &str) {
    let document = loaded.pods.get(workload).cloned().unwrap_or_default();
    if let Some(found) = loaded.specs.get_mut(workload) {
        node.clone_into(&mut found.node);
        found.delegate = (node != own).then(|| Delegate { node: node.to_owned(), document });
    }
}
