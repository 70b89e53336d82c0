//! Workloads that depend on one another: which is planned first, and whose steps wait for whose. Pure.
//!
//! What starts waits until what it depends on is as far as it has to be; what ends goes before what it depends on. Both
//! hold among the workloads of one plan; nothing is started or ended because something else depends on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::{Builder, View, blueprint, starts};
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::Verb;
use crate::model::plan::StepOp;
use crate::model::workload::{Dependency, ManifestFormat, Until};

/// Which workloads of a plan go first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// What is depended on.
    Up,
    /// What depends on others.
    Down,
    /// All side by side.
    Level,
}

fn way(verb: Verb) -> Way {
    match verb {
        Verb::Launch | Verb::Start | Verb::Restart | Verb::Update | Verb::Rollback => Way::Up,
        Verb::Stop | Verb::Remove | Verb::Terminate => Way::Down,
        // A kill waits for nothing, and what is frozen or moved goes by itself.
        Verb::Kill | Verb::Pause | Verb::Resume | Verb::Hibernate | Verb::Wake | Verb::Scale | Verb::Offload => {
            Way::Level
        }
    }
}

fn dependencies(view: &View) -> &[Dependency] {
    view.spec.as_ref().map(|spec| spec.depends_on.as_slice()).unwrap_or_default()
}

/// The views in the order in which their steps are planned, otherwise as they come. Records may be of several documents,
/// so that a circle is possible; its members come as they are.
pub(super) fn ordered(verb: Verb, views: &[View]) -> Vec<&View> {
    let mut left: Vec<&View> = views.iter().collect();
    if way(verb) == Way::Level || views.iter().all(|view| dependencies(view).is_empty()) {
        return left;
    }
    let mut ordered: Vec<&View> = Vec::new();
    while !left.is_empty() {
        let waits = |view: &View| {
            let is_left = |dependency: &Dependency| left.iter().any(|other| other.name == dependency.workload);
            dependencies(view).iter().any(is_left)
        };
        let next = left.iter().position(|view| !waits(view)).unwrap_or(0);
        ordered.push(left.remove(next));
    }
    if way(verb) == Way::Down {
        ordered.reverse();
    }
    ordered
}

/// The workloads that are planned so far, with their steps.
pub(super) struct Order<'v> {
    way: Way,
    views: Vec<&'v View>,
    steps: BTreeMap<&'v str, Range<usize>>,
}

impl<'v> Order<'v> {
    /// Nothing is planned yet of these views, which are ordered.
    pub fn new(verb: Verb, views: &[&'v View]) -> Self {
        Self { way: way(verb), views: views.to_vec(), steps: BTreeMap::new() }
    }

    /// Notes that the builder's steps from `first` on are those of `view`, and lets them wait.
    pub fn link(&mut self, builder: &mut Builder, view: &'v View, first: usize) {
        match self.way {
            Way::Up => {
                let before: BTreeSet<usize> =
                    dependencies(view).iter().flat_map(|dependency| self.reached(builder, dependency)).collect();
                wait(builder, first, &before, starts);
                self.await_completion(builder, view, first);
            }
            Way::Down => {
                let depends =
                    |other: &&&View| dependencies(other).iter().any(|dependency| dependency.workload == view.name);
                let of = |other: &&View| self.steps.get(other.name.as_str()).cloned().unwrap_or(0..0);
                let before = self.views.iter().filter(depends).flat_map(of);
                let before = before.filter(|index| ends(&builder.steps[*index].op)).collect();
                wait(builder, first, &before, ends);
            }
            Way::Level => {}
        }
        self.steps.insert(&view.name, first..builder.steps.len());
    }

    /// The steps after which a dependency is as far as it has to be.
    fn reached(&self, builder: &Builder, dependency: &Dependency) -> Vec<usize> {
        let steps = self.steps.get(dependency.workload.as_str()).cloned().unwrap_or(0..0);
        let counts = |index: &usize| match (dependency.until, &builder.steps[*index].op) {
            (Until::Completed, StepOp::AwaitCompletion { .. }) => true,
            (_, op) => starts(op),
        };
        steps.filter(counts).collect()
    }

    /// Waits for the ends of a workload's containers where another one does.
    fn await_completion(&self, builder: &mut Builder, view: &View, first: usize) {
        let is_awaited = self
            .views
            .iter()
            .flat_map(|other| dependencies(other))
            .any(|dependency| dependency.workload == view.name && dependency.until == Until::Completed);
        let Some(spec) = view.spec.as_ref().filter(|_| is_awaited) else { return };
        for main in &spec.containers {
            let container = spec.container_name(&main.name);
            let begun = (first..builder.steps.len())
                .find(|index| matches!(&builder.steps[*index].op, StepOp::Start { container: of } if *of == container));
            let runs = view.find(&container).is_some_and(|found| found.status.is_live());
            if begun.is_some() || runs {
                let after: Vec<usize> = begun.into_iter().collect();
                builder.push(StepOp::AwaitCompletion { container }, &after);
            }
        }
    }
}

/// Whether the step ends something that others may need to the last.
fn ends(op: &StepOp) -> bool {
    matches!(op, StepOp::Stop { .. } | StepOp::Remove { .. })
}

fn wait(builder: &mut Builder, first: usize, before: &BTreeSet<usize>, waits: fn(&StepOp) -> bool) {
    for step in builder.steps[first..].iter_mut().filter(|step| waits(&step.op)) {
        step.after.extend(before);
    }
}

/// Services of one project find one another in its networks, which end at an engine's border.
pub(super) fn on_one_engine(verb: Verb, views: &[View]) -> Result<()> {
    if !matches!(verb, Verb::Launch | Verb::Update) {
        return Ok(());
    }
    let mut seen: BTreeMap<&str, &View> = BTreeMap::new();
    for view in views.iter().filter(|view| !view.engine.is_empty()) {
        let Some(spec) = view.spec.as_ref().filter(|spec| spec.format == ManifestFormat::Compose) else { continue };
        for network in blueprint::networks(spec) {
            let first = *seen.entry(network).or_insert(view);
            if first.engine != view.engine {
                let message = format!(
                    "'{}' on runtime '{}' and '{}' on '{}' share network '{network}'",
                    first.name, first.engine, view.name, view.engine
                );
                let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::EngineLacksCapability, message);
                return Err(error.hint("name one runtime for all of them"));
            }
        }
    }
    Ok(())
}
