//! What is there: a workload's record and its containers on its engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::difference::revision;
use super::plan::View;
use super::target::Loaded;
use super::{Context, Ports};
use crate::cancel::CancelToken;
use crate::clock::Deadline;
use crate::error::{Error, ErrorCode, ErrorKind, Result};
use crate::model::action::{ActionRequest, Lane, Verb, Warning};
use crate::model::resources::Resources;
use crate::model::workload::{NetworkMode, WorkloadSpec, labels};
use crate::runtime::adapter::{Call, ContainerInstance, Leftovers, ListFilter, NoProgress, RuntimeAdapter};
use crate::runtime::names;
use crate::runtime::registry::{Need, SelectionRequest};
use crate::runtime::search::Search;
use crate::storage::StoreError;
use crate::storage::records::WorkloadRecord;

/// A workload with its engine and the revision of its record.
pub struct Observed {
    /// As planned for.
    pub view: View,
    /// Its engine; `None` where none has it.
    pub engine: Option<Arc<dyn RuntimeAdapter>>,
    /// Why this engine.
    pub reason: String,
    /// The revision of its record's key; 0 where there is none, `None` where the record was not read.
    pub record_revision: Option<u64>,
    /// What the caller should know.
    pub warnings: Vec<Warning>,
}

/// A workload's record with the revision of its key; `None` where it has none.
type Recorded = Option<(WorkloadRecord, u64)>;

/// What observing works with.
pub struct Observer<'a> {
    /// Store, engines, settings.
    pub ports: &'a Ports,
    /// What is asked.
    pub request: &'a ActionRequest,
    /// The time it has.
    pub deadline: Deadline,
    /// Ends it.
    pub cancel: &'a CancelToken,
}

impl<'a> Observer<'a> {
    /// An observer within an action.
    pub fn within(ports: &'a Ports, request: &'a ActionRequest, context: &Context<'a>) -> Self {
        Self { ports, request, deadline: context.deadline, cancel: context.cancel }
    }

    fn call(&self) -> Call<'_> {
        Call { deadline: self.deadline, cancel: self.cancel, progress: &NoProgress }
    }

    /// One workload of `loaded`.
    pub fn observe(&self, loaded: &Loaded, name: &str) -> Result<Observed> {
        let mut warnings = Vec::new();
        let recorded = self.record(name, &mut warnings)?;
        let (record, record_revision) = match recorded {
            Some(Some((record, revision))) => (Some(record), Some(revision)),
            Some(None) => (None, Some(0)),
            None => (None, None),
        };
        let wanted = loaded.specs.get(name);
        let (engine, reason) = self.engine(name, wanted, record.as_ref(), &mut warnings)?;
        let containers = match &engine {
            Some(engine) => self.containers(engine.as_ref(), name, wanted)?,
            None => Found::default(),
        };
        if let (Verb::Hibernate, Some(engine)) = (self.request.verb, &engine) {
            self.check_checkpoint(engine.as_ref(), &containers.ours)?;
        }
        let leftovers = match &engine {
            Some(engine) if self.needs_leftovers(record.is_some() || !containers.ours.is_empty()) => {
                engine.list_leftovers(&self.call(), name)?
            }
            _ => Leftovers::default(),
        };
        let in_force = match &engine {
            Some(engine) if self.request.verb == Verb::Scale => {
                let limits = |container: &ContainerInstance| self.limits(engine.as_ref(), container);
                containers.ours.iter().map(limits).collect::<Result<_>>()?
            }
            _ => BTreeMap::new(),
        };
        let spec = wanted.cloned().or_else(|| record.as_ref().map(|record| record.spec.clone()));
        let view = View {
            name: name.to_owned(),
            engine: engine.as_ref().map(|engine| engine.name().to_owned()).unwrap_or_default(),
            revision: spec.as_ref().map(revision).unwrap_or_default(),
            spec,
            record,
            containers: containers.ours,
            in_force,
            leftovers,
            taken: containers.taken,
            superseded: false,
        };
        Ok(Observed { view, engine, reason, record_revision, warnings })
    }

    /// The limits that a container has, by its name: what a change that fails goes back to.
    fn limits(&self, engine: &dyn RuntimeAdapter, container: &ContainerInstance) -> Result<(String, Resources)> {
        let asked = &self.request.parameters.resources;
        let container = engine.inspect_container(&self.call(), &container.id)?;
        let limits = engine.limits_in_force(&container, &asked.in_force())?;
        Ok((container.name.clone(), limits.unwrap_or_default().limits))
    }

    fn needs_leftovers(&self, is_known: bool) -> bool {
        match self.request.verb {
            Verb::Remove | Verb::Terminate => true,
            Verb::Launch | Verb::Update | Verb::Rollback | Verb::Offload => is_known,
            Verb::Start
            | Verb::Stop
            | Verb::Restart
            | Verb::Pause
            | Verb::Resume
            | Verb::Hibernate
            | Verb::Wake
            | Verb::Kill
            | Verb::Scale => false,
        }
    }

    /// Refuses a hibernation before any effect where the engine cannot checkpoint. Whether it can, nobody knows before
    /// it was tried; a dry run tries nothing.
    fn check_checkpoint(&self, engine: &dyn RuntimeAdapter, containers: &[ContainerInstance]) -> Result<()> {
        let is_meant = containers.iter().any(|container| container.status.is_running());
        if !is_meant || self.request.dry_run || engine.capabilities().supports_checkpoint {
            return Ok(());
        }
        Ok(engine.prove_checkpoint(&self.call())?)
    }

    /// The record with its revision. What ends things goes on without when it cannot be read: `None`.
    fn record(&self, name: &str, warnings: &mut Vec<Warning>) -> Result<Option<Recorded>> {
        match self.ports.records.workload(name, self.deadline) {
            Ok(found) => Ok(Some(found.map(|found| (found.value, found.revision)))),
            Err(error) if self.request.verb.lane() == Lane::Urgent => {
                let message = format!("the record of '{name}' was not read, it is gone by labels: {error}");
                warnings.push(Warning::new("", 0, message));
                Ok(None)
            }
            Err(error @ StoreError::Damaged { .. }) => {
                Err(Error::from(error)
                    .hint(format!("forget the record and what runs of it: actionctl terminate {name}")))
            }
            Err(error) => Err(error.into()),
        }
    }

    fn engine(
        &self,
        name: &str,
        wanted: Option<&WorkloadSpec>,
        record: Option<&WorkloadRecord>,
        warnings: &mut Vec<Warning>,
    ) -> Result<(Option<Arc<dyn RuntimeAdapter>>, String)> {
        let requested = self.request.parameters.engine.as_deref().unwrap_or_default();
        let is_here = |spec: &WorkloadSpec| spec.delegate.is_none();
        // One of another node that nobody has recorded has never been here, unless it is to move away.
        let was_never_here = wanted.is_some_and(|spec| !is_here(spec)) && self.request.verb != Verb::Offload;
        let wanted = wanted.filter(|spec| is_here(spec));
        if let Some(record) = record.filter(|record| is_here(&record.spec)) {
            return self.recorded_engine(name, requested, record).map(|engine| (Some(engine), "workload".to_owned()));
        }
        let needs = wanted.map(|spec| needs(spec, &self.ports.settings.get().node)).unwrap_or_default();
        let selection = wanted.map(|spec| SelectionRequest {
            requested,
            annotation: &spec.engine,
            require: spec.engine_required,
            format: spec.format,
            names_node: !spec.node.is_empty(),
            needs: &needs,
        });
        if record.is_none()
            && !was_never_here
            && let Some(engine) = self.find_by_labels(name, requested, selection.as_ref(), warnings)?
        {
            return Ok((Some(engine), "workload".to_owned()));
        }
        let Some(selection) = selection else { return Ok((None, String::new())) };
        let selection = self.ports.engines.select(&selection)?;
        for (engine, why) in &selection.skipped {
            warnings.push(Warning::new("", 0, format!("runtime '{engine}' was not taken: {why}")));
        }
        Ok((Some(selection.engine), selection.reason.to_string()))
    }

    fn recorded_engine(&self, name: &str, requested: &str, record: &WorkloadRecord) -> Result<Arc<dyn RuntimeAdapter>> {
        check_requested(name, requested, &record.engine)?;
        let Some(engine) = self.ports.engines.get(&record.engine) else {
            let message = format!("workload '{name}' is on runtime '{}', which is not configured", record.engine);
            let error = Error::new(ErrorKind::Unavailable, ErrorCode::EngineUnavailable, message);
            return Err(error.hint("configure it again"));
        };
        // One that hangs would keep a worker for the whole time of the action. What ends things tries it all the same.
        if self.request.verb.lane() == Lane::Normal {
            self.ports.engines.check_answers(&engine)?;
        }
        Ok(engine)
    }

    /// The engine that has containers of a workload that is not recorded: made before the store was lost, say. All
    /// engines are asked, whichever is requested. A launch passes over those that are away or hang, with a warning: if
    /// its own engine is among them, that refuses it. Anything else needs to know whether the workload is there.
    fn find_by_labels(
        &self,
        name: &str,
        requested: &str,
        selection: Option<&SelectionRequest>,
        warnings: &mut Vec<Warning>,
    ) -> Result<Option<Arc<dyn RuntimeAdapter>>> {
        let (engines, is_launch) = (&self.ports.engines, self.request.verb == Verb::Launch);
        let wanted = selection.filter(|_| is_launch).and_then(|selection| engines.likely(selection));
        let Search { found, unknown } = engines.search(&self.call(), &self.filter(name), wanted.as_deref())?;
        for (engine, error) in &unknown {
            warnings.push(Warning::new("", 0, format!("runtime '{engine}' was not asked: {error}")));
        }
        if let Some(engine) = &found {
            check_requested(name, requested, engine.name())?;
            return Ok(found);
        }
        match unknown.into_iter().next_back() {
            Some((engine, error)) if !is_launch => {
                let message = format!("whether workload '{name}' is on runtime '{engine}' is not known: {error}");
                Err(Error { message, ..error })
            }
            Some(_) | None => Ok(None),
        }
    }

    fn filter(&self, name: &str) -> ListFilter {
        let node = self.ports.settings.get().node.clone();
        let labels = BTreeMap::from([(labels::NODE.to_owned(), node), (labels::WORKLOAD.to_owned(), name.to_owned())]);
        ListFilter { all: true, labels }
    }

    /// Our containers of the workload, and the names that it wants and others have.
    fn containers(&self, engine: &dyn RuntimeAdapter, name: &str, wanted: Option<&WorkloadSpec>) -> Result<Found> {
        let Some(spec) = wanted else {
            let ours = engine.list_containers(&self.call(), &self.filter(name))?;
            return Ok(Found { ours, taken: Vec::new() });
        };
        let all = engine.list_containers(&self.call(), &ListFilter { all: true, labels: BTreeMap::new() })?;
        let own = self.filter(name).labels;
        let is_ours =
            |container: &ContainerInstance| own.iter().all(|(key, value)| container.labels.get(key) == Some(value));
        let names: Vec<_> = spec.all_containers().map(|container| spec.container_name(&container.name)).collect();
        let (ours, others): (Vec<_>, Vec<_>) = all.into_iter().partition(is_ours);
        let taken = others.into_iter().map(|other| other.name).filter(|other| names.contains(other)).collect();
        Ok(Found { ours, taken })
    }
}

/// A known workload is on its engine, whatever engine is asked for.
fn check_requested(name: &str, requested: &str, engine: &str) -> Result<()> {
    let requested = names::resolve(requested);
    if requested.is_empty() || requested == engine {
        return Ok(());
    }
    let message = format!("workload '{name}' is on runtime '{engine}', not on '{requested}'");
    let error = Error::new(ErrorKind::FailedPrecondition, ErrorCode::InvalidState, message);
    Err(error.at("parameters.engine").hint("terminate it first to move it"))
}

/// What the engine has to be able to do for a workload.
fn needs(spec: &WorkloadSpec, own_node: &str) -> Vec<Need> {
    let mut needs = Vec::new();
    if spec.needs_pod() {
        needs.push(Need::Pods);
    }
    if matches!(spec.network, NetworkMode::Named(_)) {
        needs.push(Need::UserNetworks);
    }
    let is_limited = |resources: &Resources| *resources != Resources::default();
    if spec.all_containers().any(|container| is_limited(&container.resources)) {
        needs.push(Need::ResourceLimits);
    }
    if spec.all_containers().any(|container| !container.image.is_empty()) {
        needs.push(Need::ImagePull);
    }
    if spec.all_containers().any(|container| !container.rootfs.is_empty()) {
        needs.push(Need::Rootfs);
    }
    if spec.all_containers().any(|container| !container.unit.is_empty()) {
        needs.push(Need::Units);
        if !spec.node.is_empty() && spec.node != own_node {
            needs.push(Need::Remote);
        }
    }
    needs
}

#[derive(Default)]
struct Found {
    ours: Vec<ContainerInstance>,
    taken: Vec<String>,
}
