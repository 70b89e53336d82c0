//! From what is asked and what is there to the steps between them. Pure: no I/O, no clock, so it cannot time out.

mod elsewhere;
mod ending;
mod order;
mod replace;
mod scale;

use std::collections::{BTreeMap, BTreeSet};

use super::blueprint;
use super::difference::first_difference;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{Parameters, Verb};
use crate::model::plan::{NodeCommand, Plan, Step, StepOp};
use crate::model::resources::Resources;
use crate::model::schedule::Schedule;
use crate::model::state::{Allowed, ContainerStatus, Transition};
use crate::model::workload::{PullPolicy, WorkloadSpec, labels};
use crate::runtime::adapter::{ContainerInstance, Leftovers};
use crate::storage::records::{Desired, WorkloadRecord};
use ending::{freeze, hibernate, kill, remove, remove_networks, stop, stop_steps, terminate};

/// One workload as planned for.
#[derive(Debug, Clone)]
pub struct View {
    /// Its name.
    pub name: String,
    /// Its engine; empty where none has it.
    pub engine: String,
    /// As it shall be: of a launch the new description, otherwise the recorded one; `None` where neither is.
    pub spec: Option<WorkloadSpec>,
    /// The fingerprint of `spec`.
    pub revision: String,
    /// What is recorded.
    pub record: Option<WorkloadRecord>,
    /// Its containers, ours alone.
    pub containers: Vec<ContainerInstance>,
    /// The limits that its containers have, by their names on the engine; of a scale alone.
    pub in_force: BTreeMap<String, Resources>,
    /// What else of it is on the engine.
    pub leftovers: Leftovers,
    /// Container names that it needs and that others have.
    pub taken: Vec<String>,
    /// Whether an action that this one superseded was about to make it: then its absence is no error.
    pub superseded: bool,
}

/// The grace of a workload that says nothing of it, milliseconds.
const DEFAULT_GRACE_MS: u64 = crate::model::action::DEFAULT_GRACE.as_millis() as u64;

impl View {
    fn is_known(&self) -> bool {
        self.record.is_some() || !self.containers.is_empty()
    }

    /// Containers that are not init ones.
    pub fn mains(&self) -> impl Iterator<Item = &ContainerInstance> {
        self.containers.iter().filter(|container| !container.labels.contains_key(labels::ROLE))
    }

    fn find(&self, engine_name: &str) -> Option<&ContainerInstance> {
        self.containers.iter().find(|container| container.name == engine_name)
    }

    fn grace_ms(&self, parameters: &Parameters) -> u64 {
        let own = self.record.as_ref().map(|record| &record.spec).or(self.spec.as_ref());
        parameters.grace_ms.or(own.and_then(|spec| spec.grace_ms)).unwrap_or(DEFAULT_GRACE_MS)
    }

    fn unknown(&self) -> Error {
        let message = format!("workload '{}' is not known on this node", self.name);
        Error::new(ErrorKind::NotFound, ErrorCode::WorkloadNotFound, message)
            .at("target")
            .hint("actionctl ps lists all")
    }

    fn invalid_state(&self, verb: Verb, container: &ContainerInstance, hint: &str) -> Error {
        let state = container.status.word();
        let message = format!("{verb} of '{}' is not possible: container '{}' is {state}", self.name, container.name);
        Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidState, message).hint(hint)
    }
}

/// What is planned for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// What is to be done.
    pub verb: Verb,
    /// To what, as told.
    pub target: &'a str,
    /// How.
    pub parameters: &'a Parameters,
    /// This node.
    pub node: &'a str,
    /// The real-time tasks that are to be admitted before anything starts.
    pub schedule: Option<&'a Schedule>,
    /// Whether what starts gets a network between nodes.
    pub connects: bool,
}

/// The plan of one action over its workloads, on `engine` as told.
pub fn plan(asked: &Asked<'_>, engine: &str, views: &[View]) -> Result<Plan> {
    let Asked { verb, target, parameters, .. } = *asked;
    let mut builder = Builder { own_node: Some(asked.node.to_owned()), ..Builder::default() };
    if let (Some(schedule), Some(first)) = (asked.schedule, views.first()) {
        builder.workload.clone_from(&first.name);
        builder.push(StepOp::Admit { schedule: schedule.name.clone() }, &[]);
    }
    order::on_one_engine(verb, views)?;
    let ordered = order::ordered(verb, views);
    let mut order = order::Order::new(verb, &ordered);
    for view in ordered {
        builder.workload.clone_from(&view.name);
        builder.engine.clone_from(&view.engine);
        let first = builder.steps.len();
        match (verb, view.other_node()) {
            (Verb::Update | Verb::Rollback | Verb::Offload, _) | (_, None) => {
                here(&mut builder, view, verb, parameters)?
            }
            (_, Some(node)) => elsewhere::plan(&mut builder, view, verb, node, parameters)?,
        }
        pin(&mut builder, view, first);
        order.link(&mut builder, view, first);
        if asked.connects {
            connect(&mut builder, first);
        }
    }
    remove_networks(&mut builder);
    if let (Some(schedule), false) = (asked.schedule, views.is_empty()) {
        // What runs with other tasks than these goes on with these.
        let has_other =
            |record: &WorkloadRecord| record.desired != Desired::Stopped && record.schedule.as_ref() != Some(schedule);
        let is_new = views.iter().any(|view| view.record.as_ref().is_some_and(has_other));
        admit_before_starts(&mut builder, is_new);
    }
    Ok(Plan {
        verb,
        target: target.to_owned(),
        engine: engine.to_owned(),
        steps: builder.steps,
        warnings: builder.warnings,
    })
}

/// The steps of a verb on a workload of this node, or wherever it is where its place is the verb's business.
fn here(builder: &mut Builder, view: &View, verb: Verb, parameters: &Parameters) -> Result<()> {
    match verb {
        Verb::Launch => launch(builder, view, parameters),
        Verb::Start => start(builder, view, parameters),
        Verb::Stop => stop(builder, view, parameters),
        Verb::Kill => kill(builder, view, parameters),
        Verb::Restart => restart(builder, view, parameters),
        Verb::Remove => remove(builder, view, parameters),
        Verb::Terminate => {
            terminate(builder, view, parameters);
            Ok(())
        }
        Verb::Pause => freeze(builder, view, Transition::Pause),
        Verb::Resume => freeze(builder, view, Transition::Resume),
        Verb::Hibernate => hibernate(builder, view, Transition::Hibernate),
        Verb::Wake => hibernate(builder, view, Transition::Wake),
        Verb::Scale => scale::scale(builder, view, parameters),
        Verb::Update | Verb::Rollback => replace::update(builder, view, parameters),
        Verb::Offload => replace::offload(builder, view, parameters),
    }
}

/// Whether the step makes something run.
pub(super) fn starts(op: &StepOp) -> bool {
    match op {
        StepOp::Start { .. } => true,
        StepOp::Delegate { command, .. } => *command != NodeCommand::Stop,
        StepOp::EnsureImage { .. }
        | StepOp::EnsurePath { .. }
        | StepOp::EnsureNetwork { .. }
        | StepOp::EnsureVolume { .. }
        | StepOp::EnsurePod { .. }
        | StepOp::Create { .. }
        | StepOp::AwaitCompletion { .. }
        | StepOp::Stop { .. }
        | StepOp::Kill { .. }
        | StepOp::Pause { .. }
        | StepOp::Resume { .. }
        | StepOp::Hibernate { .. }
        | StepOp::Wake { .. }
        | StepOp::Resize { .. }
        | StepOp::Remove { .. }
        | StepOp::StopPod { .. }
        | StepOp::RemovePod { .. }
        | StepOp::RemoveVolume { .. }
        | StepOp::RemoveNetwork { .. }
        | StepOp::Admit { .. }
        | StepOp::Connect { .. }
        | StepOp::Place { .. }
        | StepOp::Pin { .. } => false,
    }
}

/// What starts of a workload that has CPUs alone is put on them: `first` is its first step.
fn pin(builder: &mut Builder, view: &View, first: usize) {
    if view.spec.as_ref().is_none_or(|spec| spec.cores.is_none()) {
        return;
    }
    for index in first..builder.steps.len() {
        if let StepOp::Start { container } | StepOp::Wake { container } = &builder.steps[index].op {
            let container = container.clone();
            builder.push(StepOp::Pin { container }, &[index]);
        }
    }
}

/// A workload of which something starts gets its network once all of it has: `first` is its first step.
fn connect(builder: &mut Builder, first: usize) {
    let started = (first..builder.steps.len()).filter(|index| starts(&builder.steps[*index].op));
    let started: Vec<usize> = started.collect();
    if !started.is_empty() {
        builder.push(StepOp::Connect { pod: builder.workload.clone() }, &started);
    }
}

/// The first step admits; all that start or end something wait for it. Where nothing starts and nothing `is_new` there is
/// nothing to admit.
fn admit_before_starts(builder: &mut Builder, is_new: bool) {
    if !is_new && !builder.steps.iter().any(|step| starts(&step.op)) {
        builder.steps.remove(0);
        for step in &mut builder.steps {
            step.after = step.after.iter().map(|before| before - 1).collect();
        }
        return;
    }
    // What is to be replaced goes on until its successor is admitted.
    let ends = |op: &StepOp| {
        matches!(op, StepOp::Stop { .. } | StepOp::Remove { .. } | StepOp::RemovePod { .. } | StepOp::Delegate { .. })
    };
    for step in builder.steps.iter_mut().filter(|step| starts(&step.op) || ends(&step.op)) {
        step.after.insert(0);
    }
}

/// Several plans as one: each keeps its order, and steps on one workload keep the order of the plans.
pub fn merge(plans: &[Plan]) -> Vec<Step> {
    let mut merged: Vec<Step> = Vec::new();
    // By workload: the steps after which the last plan that concerned it is done with it.
    let mut ends_of: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for plan in plans {
        let offset = merged.len();
        let of = |index: &usize| plan.steps.get(*index).map(|step| step.workload.as_str());
        for step in &plan.steps {
            let mut after: BTreeSet<usize> = step.after.iter().map(|before| before + offset).collect();
            // A step that waits for one of its own workload waits through that one for the earlier plans.
            if !step.after.iter().any(|before| of(before) == Some(step.workload.as_str())) {
                after.extend(ends_of.get(&step.workload).into_iter().flatten());
            }
            merged.push(Step { workload: step.workload.clone(), op: step.op.clone(), after });
        }
        let mut ends: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        for (index, step) in plan.steps.iter().enumerate() {
            let mut same = plan.steps.iter().filter(|other| other.workload == step.workload);
            if !same.any(|other| other.after.contains(&index)) {
                ends.entry(step.workload.clone()).or_default().insert(index + offset);
            }
        }
        ends_of.extend(ends);
    }
    merged
}

/// Collects the steps of a plan.
#[derive(Default)]
struct Builder {
    /// This node.
    own_node: Option<String>,
    workload: String,
    engine: String,
    steps: Vec<Step>,
    warnings: Vec<crate::model::action::Warning>,
    shared: BTreeMap<String, usize>,
    /// Networks by engine and name that workloads leave: one of those, and the steps by which they do.
    left_networks: BTreeMap<(String, String), (String, BTreeSet<usize>)>,
}

impl Builder {
    fn push(&mut self, op: StepOp, after: &[usize]) -> usize {
        self.steps.push(Step { workload: self.workload.clone(), op, after: after.iter().copied().collect() });
        self.steps.len() - 1
    }

    /// A step that several workloads of a plan need once, where they need it in the same way: an image, a network.
    fn push_shared(&mut self, op: StepOp, how: &str) -> usize {
        let key = format!("{} {} {} {how}", self.engine, op.word(), op.object());
        if let Some(index) = self.shared.get(&key) {
            return *index;
        }
        let index = self.push(op, &[]);
        self.shared.insert(key, index);
        index
    }
}

fn launch(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    let Some(spec) = &view.spec else { return Err(view.unknown()) };
    if let Some(name) = view.taken.first() {
        let message = format!("container '{name}' exists and was not made by this Action Controller");
        let error = Error::new(ErrorKind::AlreadyExists, ErrorCode::NameTaken, message);
        let hint = format!("remove or rename it on runtime '{}', or give the workload another name", view.engine);
        return Err(error.hint(hint));
    }
    if !view.is_known() {
        match spec.other_node() {
            Some(node) => drop(elsewhere::push(builder, node, NodeCommand::Start, &[])),
            None => create_and_start(builder, view, spec, &[]),
        }
        return Ok(());
    }
    if is_same_revision(view) {
        return start(builder, view, parameters);
    }
    if let Some(live) = view.containers.iter().find(|container| container.status.is_live()) {
        return Err(differs(view, spec, &format!("is {}", live.status.word())));
    }
    if let Some(asleep) = view.mains().find(|container| container.status == ContainerStatus::Hibernated) {
        return Err(view.invalid_state(Verb::Launch, asleep, "wake it, or stop it first, which gives up its state"));
    }
    replace::replace(builder, view, spec, parameters);
    Ok(())
}

fn is_same_revision(view: &View) -> bool {
    match &view.record {
        Some(record) => record.revision == view.revision,
        None => view.containers.iter().all(|c| c.labels.get(labels::REVISION) == Some(&view.revision)),
    }
}

/// The refusal of a launch over a workload that `does` something, from another document.
fn differs(view: &View, spec: &WorkloadSpec, does: &str) -> Error {
    let field = view.record.as_ref().and_then(|record| first_difference(&record.spec, spec)).unwrap_or_default();
    let what = if field.is_empty() { "its description".to_owned() } else { format!("'{field}'") };
    let message = format!("workload '{}' {does} from another document: {what} differs", view.name);
    let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::WorkloadDiffers, message).at(field);
    error.hint("use the verb 'update' to replace it, or stop it first")
}

fn images(builder: &mut Builder, spec: &WorkloadSpec) -> BTreeMap<String, usize> {
    let mut images = BTreeMap::new();
    for container in spec.all_containers().filter(|container| !container.image.is_empty()) {
        let how = format!("{:?}", pull_policy(spec, &container.image));
        let index = builder.push_shared(StepOp::EnsureImage { image: container.image.clone() }, &how);
        images.insert(container.image.clone(), index);
    }
    images
}

/// Everything from nothing, once `gone` is done.
fn create_and_start(builder: &mut Builder, view: &View, spec: &WorkloadSpec, gone: &[usize]) {
    let missing: Vec<_> = spec.all_containers().map(|container| container.name.clone()).collect();
    let created = create(builder, spec, &missing, gone);
    start_in_order(builder, view, spec, created, true);
}

/// Makes what is missing; gives the steps that make containers.
fn create(builder: &mut Builder, spec: &WorkloadSpec, missing: &[String], gone: &[usize]) -> Vec<usize> {
    if missing.is_empty() {
        return Vec::new();
    }
    let images = images(builder, spec);
    let mut ground = gone.to_vec();
    for path in blueprint::host_paths(spec).into_keys() {
        ground.push(builder.push(StepOp::EnsurePath { path }, gone));
    }
    for volume in blueprint::own_volumes(spec).into_iter().chain(blueprint::lasting_volumes(spec)) {
        ground.push(builder.push(StepOp::EnsureVolume { volume }, gone));
    }
    let mut networks = gone.to_vec();
    for network in blueprint::networks(spec) {
        networks.push(builder.push_shared(StepOp::EnsureNetwork { network: network.clone() }, ""));
    }
    if spec.needs_pod() {
        let pod = builder.push(StepOp::EnsurePod { pod: spec.name.clone() }, &networks);
        networks = vec![pod];
    }
    ground.extend(networks);
    let mut created = Vec::new();
    for container in spec.all_containers().filter(|container| missing.contains(&container.name)) {
        let mut after = ground.clone();
        after.extend(images.get(&container.image));
        let name = spec.container_name(&container.name);
        created.push(builder.push(StepOp::Create { container: name }, &after));
    }
    created
}

/// Init containers one by one to their end, then all others side by side. What runs already is left alone.
fn start_in_order(builder: &mut Builder, view: &View, spec: &WorkloadSpec, mut before: Vec<usize>, run_init: bool) {
    for init in spec.init_containers.iter().filter(|_| run_init) {
        let container = spec.container_name(&init.name);
        let started = builder.push(StepOp::Start { container: container.clone() }, &before);
        before = vec![builder.push(StepOp::AwaitCompletion { container }, &[started])];
    }
    for main in &spec.containers {
        let container = spec.container_name(&main.name);
        if view.find(&container).is_some_and(|found| found.status.is_running()) {
            continue;
        }
        builder.push(StepOp::Start { container }, &before);
    }
}

/// Starts what does not run: all of it or, where `parameters` name some, those containers. The daemon's own restarts
/// are for what shall still be running.
fn start(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    if !view.is_known() {
        return Err(view.unknown());
    }
    let shall_run = view.record.as_ref().is_some_and(|record| record.desired == Desired::Running);
    if parameters.supervised && !shall_run {
        return Ok(());
    }
    if let (Some(spec), false) = (&view.spec, parameters.containers.is_empty()) {
        start_some(builder, view, spec, &parameters.containers);
        return Ok(());
    }
    let refuses = |c: &&ContainerInstance| c.status.allows(Transition::Start) == Allowed::No;
    if let Some(frozen) = view.mains().find(refuses) {
        let hint = match frozen.status {
            ContainerStatus::Hibernated => "wake it, or stop it first, which gives up its state",
            _ => "resume or stop it first",
        };
        return Err(view.invalid_state(Verb::Start, frozen, hint));
    }
    let Some(spec) = &view.spec else {
        for container in view.mains().filter(|container| !container.status.is_running()) {
            builder.push(StepOp::Start { container: container.name.clone() }, &[]);
        }
        return Ok(());
    };
    let runs = |container: &str| view.find(&spec.container_name(container)).is_some_and(|c| c.status.is_running());
    if spec.containers.iter().all(|container| runs(&container.name)) {
        return Ok(());
    }
    let run_init = !view.mains().any(|container| container.status.is_live());
    let is_missing = |container: &str| view.find(&spec.container_name(container)).is_none();
    let mains = spec.containers.iter().filter(|container| is_missing(&container.name));
    let inits = spec.init_containers.iter().filter(|container| run_init && is_missing(&container.name));
    let missing: Vec<_> = inits.chain(mains).map(|container| container.name.clone()).collect();
    let created = create(builder, spec, &missing, &[]);
    start_in_order(builder, view, spec, created, run_init);
    Ok(())
}

/// Starts these containers alone, those that are gone made again.
fn start_some(builder: &mut Builder, view: &View, spec: &WorkloadSpec, names: &BTreeSet<String>) {
    let chosen = spec.containers.iter().map(|container| &container.name).filter(|name| names.contains(*name));
    for name in chosen {
        let container = spec.container_name(name);
        let found = view.find(&container);
        if found.is_some_and(|found| found.status.is_live() || found.status == ContainerStatus::Hibernated) {
            continue;
        }
        let missing = if found.is_none() { std::slice::from_ref(name) } else { &[] };
        let created = create(builder, spec, missing, &[]);
        builder.push(StepOp::Start { container }, &created);
    }
}

fn restart(builder: &mut Builder, view: &View, parameters: &Parameters) -> Result<()> {
    if !view.is_known() {
        return Err(view.unknown());
    }
    let stopped = stop_steps(builder, view, parameters, &[]);
    let mut before: Vec<_> = stopped.into_values().collect();
    let Some(spec) = &view.spec else {
        for container in view.mains() {
            builder.push(StepOp::Start { container: container.name.clone() }, &before);
        }
        return Ok(());
    };
    let is_missing = |name: &String| view.find(&spec.container_name(name)).is_none();
    let missing: Vec<_> = spec.all_containers().map(|c| c.name.clone()).filter(is_missing).collect();
    let created = create(builder, spec, &missing, &before);
    before.extend(created);
    let at_rest = View { containers: Vec::new(), ..view.clone() };
    start_in_order(builder, &at_rest, spec, before, true);
    Ok(())
}

/// Whether the image has to be fetched even where it is present: the strictest wish of the containers that use it.
pub fn pull_policy(spec: &WorkloadSpec, image: &str) -> PullPolicy {
    let wishes = spec.all_containers().filter(|container| container.image == image).map(|container| container.pull);
    let mut strictest = None;
    for wish in wishes {
        strictest = match (strictest, wish) {
            (Some(PullPolicy::Always), _) | (_, PullPolicy::Always) => Some(PullPolicy::Always),
            (Some(PullPolicy::Never), _) | (_, PullPolicy::Never) => Some(PullPolicy::Never),
            (_, PullPolicy::IfNotPresent) => Some(PullPolicy::IfNotPresent),
        };
    }
    strictest.unwrap_or_default()
}

#[cfg(test)]
mod tests;
