//! Containers as containerd records them: found by id or name, and what they come to in our words.
//!
//! An id is made here for each container; the name is a label, because containerd takes not every name of ours for an id.
//! A container that somebody else has made has its id for a name.

use std::collections::BTreeMap;

use protobuf::MessageField;
use protobuf::well_known_types::any::Any;
use protobuf::well_known_types::field_mask::FieldMask;
use protobuf::well_known_types::timestamp::Timestamp;
use serde::Deserialize;

use super::client::{Scope, present};
use super::{ENGINE, KILLED};
use crate::cgroup::{self, Cgroups};
use crate::model::state::{ContainerStatus, Health};
use crate::model::workload::labels::PREFIX;
use crate::proto::containerd_containers::{
    Container, GetContainerRequest, ListContainersRequest, UpdateContainerRequest,
};
use crate::proto::containerd_containers_grpc::{CONTAINERS_GET, CONTAINERS_LIST_STREAM, CONTAINERS_UPDATE};
use crate::proto::containerd_task::{Process, Status};
use crate::proto::containerd_tasks::GetRequest;
use crate::proto::containerd_tasks_grpc::TASKS_GET;
use crate::runtime::adapter::{Call, ContainerInstance, RtResult, RuntimeError};
use crate::runtime::processes::group_of;
use crate::runtime::shared::json::nullable;

/// Labels of ours that are not the caller's.
const OWN: &str = "actioncontroller.io/containerd.";
/// The container's name.
pub(super) const NAME: &str = "actioncontroller.io/containerd.name";
/// The image's reference as it was asked for.
pub(super) const IMAGE: &str = "actioncontroller.io/containerd.image";
/// When it was last started, nanoseconds since the epoch.
pub(super) const STARTED: &str = "actioncontroller.io/containerd.started";

/// Key and value of a label have at most so many bytes together (`labels/validate.go` of containerd).
const MOST_LABEL: usize = 4096;

/// The type of the specification in a record.
pub(super) const SPEC_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/Spec";

/// A container with its task.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Known {
    pub(super) container: Container,
    /// `None`: nothing of it runs or has run since it was last cleaned up.
    pub(super) task: Option<Process>,
}

/// What of a specification is read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Specification {
    #[serde(deserialize_with = "nullable")]
    annotations: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    linux: Linux,
    #[serde(deserialize_with = "nullable")]
    pub(super) mounts: Vec<Mounted>,
    pub(super) process: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Linux {
    cgroups_path: String,
    #[serde(deserialize_with = "nullable")]
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    r#type: String,
}

/// A mount of a specification.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Mounted {
    pub(super) source: String,
}

impl Specification {
    /// That of a record; one that cannot be read has nothing.
    pub(super) fn of(container: &Container) -> Self {
        serde_json::from_slice(&container.spec.value).unwrap_or_default()
    }
}

/// What is JSON in a message.
pub(super) fn any_json(type_url: &str, value: &impl serde::Serialize) -> RtResult<Any> {
    let value = serde_json::to_vec(value)
        .map_err(|error| RuntimeError::InvalidSpec { reason: format!("{type_url} cannot be written: {error}") })?;
    Ok(Any { type_url: type_url.to_owned(), value, ..Any::default() })
}

/// Whether there can be a container of this name or id.
pub(super) fn may_be_a_name(name: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-');
    name.bytes().next().is_some_and(|first| first.is_ascii_alphanumeric()) && name.bytes().all(is_allowed)
}

/// Refuses labels that containerd would.
pub(super) fn check_labels(labels: &BTreeMap<String, String>) -> RtResult<()> {
    match labels.iter().find(|(key, value)| key.len() + value.len() > MOST_LABEL) {
        None => Ok(()),
        Some((key, _)) => {
            let what = format!("labels: '{key}': key and value of more than {MOST_LABEL} bytes");
            Err(crate::runtime::adapter::unsupported(ENGINE, what))
        }
    }
}

/// The container of exactly this id or name, without its task; `None` where there is none.
pub(super) fn find_record(scope: Scope, call: &Call, id: &str) -> RtResult<Option<Container>> {
    if !may_be_a_name(id) {
        return Ok(None);
    }
    let request = GetContainerRequest { id: id.to_owned(), ..Default::default() };
    match scope.ask(call, "inspect", &CONTAINERS_GET, &request) {
        Ok(answer) => return Ok(answer.container.into_option()),
        // What cannot be an id there may be a name here.
        Err(failure) if failure.is_missing() || failure.is(grpcio::RpcStatusCode::INVALID_ARGUMENT) => {}
        Err(failure) => return Err(failure.into()),
    }
    Ok(list_records(scope, call, vec![format!("labels.\"{NAME}\"==\"{id}\"")])?.into_iter().next())
}

/// The containers that fit any of the filters; all without one.
pub(super) fn list_records(scope: Scope, call: &Call, filters: Vec<String>) -> RtResult<Vec<Container>> {
    let request = ListContainersRequest { filters, ..Default::default() };
    let found = scope.collect(call, "list", &CONTAINERS_LIST_STREAM, &request)?;
    Ok(found.into_iter().filter_map(|message| message.container.into_option()).collect())
}

/// The container with its task.
pub(super) fn find(scope: Scope, call: &Call, id: &str) -> RtResult<Option<Known>> {
    let Some(container) = find_record(scope, call, id)? else { return Ok(None) };
    let task = task(scope, call, &container.id)?;
    Ok(Some(Known { container, task }))
}

/// The task of the container with this id.
pub(super) fn task(scope: Scope, call: &Call, id: &str) -> RtResult<Option<Process>> {
    let request = GetRequest { container_id: id.to_owned(), ..Default::default() };
    let found = present(scope.ask(call, "inspect", &TASKS_GET, &request))?;
    Ok(found.and_then(|answer| answer.process.into_option()))
}

/// Whether the task's first process has ended.
pub(super) fn has_stopped(task: &Process) -> bool {
    task.status.enum_value() == Ok(Status::STOPPED)
}

/// The container, or `NotFound`.
pub(super) fn inspect(scope: Scope, call: &Call, id: &str) -> RtResult<Known> {
    find(scope, call, id)?.ok_or_else(|| RuntimeError::NotFound { what: format!("container '{id}'") })
}

/// Notes in the record when it was started; `None` that it was not.
pub(super) fn note_start(scope: Scope, call: &Call, id: &str, started_ns: Option<u64>) -> RtResult<()> {
    let value = started_ns.map(|time| time.to_string()).unwrap_or_default();
    let labels = BTreeMap::from([(STARTED.to_owned(), value)]);
    let container = Container { id: id.to_owned(), labels, ..Container::default() };
    let mask = FieldMask { paths: vec![format!("labels.{STARTED}")], ..FieldMask::default() };
    let request = UpdateContainerRequest {
        container: MessageField::some(container),
        update_mask: MessageField::some(mask),
        ..Default::default()
    };
    scope.ask(call, "container update", &CONTAINERS_UPDATE, &request)?;
    Ok(())
}

impl Known {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        name_of(&self.container)
    }

    /// The caller's labels.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        labels_of(&self.container)
    }

    /// When it was last started; `None` where it never was.
    pub(super) fn started_ns(&self) -> Option<u64> {
        self.container.labels.get(STARTED).and_then(|text| text.parse().ok())
    }

    /// Its state.
    pub(super) fn status(&self) -> ContainerStatus {
        let Some(task) = &self.task else {
            return match self.started_ns() {
                // Its task was lost, with the machine's last boot or its shim, and the exit code with it.
                Some(_) => ContainerStatus::Exited { code: None, oom: false },
                None => ContainerStatus::Created,
            };
        };
        match task.status.enum_value() {
            Ok(Status::CREATED) => ContainerStatus::Created,
            Ok(Status::RUNNING) => ContainerStatus::Running { health: Health::None },
            Ok(Status::PAUSED | Status::PAUSING) => ContainerStatus::Paused,
            Ok(Status::STOPPED) => {
                let code = i32::try_from(task.exit_status).ok();
                ContainerStatus::Exited { code, oom: code == Some(KILLED) && self.was_out_of_memory() }
            }
            Ok(Status::UNKNOWN) | Err(_) => {
                ContainerStatus::Failed { reason: format!("{ENGINE} cannot tell the state: its shim does not answer") }
            }
        }
    }

    /// The kernel counts such kills in the control group, which is there until the task is deleted.
    fn was_out_of_memory(&self) -> bool {
        let Ok(groups) = Cgroups::read() else { return false };
        let path = Specification::of(&self.container).linux.cgroups_path;
        let Some(dir) = groups.dir("memory", &path).filter(|_| !path.is_empty()) else { return false };
        let kills = ["memory.oom_control", "memory.events"].map(|file| cgroup::keyed(&dir.join(file), "oom_kill"));
        kills.into_iter().flatten().any(|kills| kills > 0)
    }

    /// Its first process on the host; 0 for none.
    pub(super) fn pid(&self, status: &ContainerStatus) -> i32 {
        let pid = self.task.as_ref().filter(|_| status.is_live()).map_or(0, |task| task.pid);
        i32::try_from(pid).unwrap_or(0)
    }

    /// The control group that it is to be in.
    pub(super) fn cgroup(&self) -> String {
        Specification::of(&self.container).linux.cgroups_path
    }

    /// Whether its network is not the host's.
    pub(super) fn has_own_network(&self) -> bool {
        let namespaces = Specification::of(&self.container).linux.namespaces;
        namespaces.iter().any(|namespace| namespace.r#type == "network")
    }

    /// All that is told of it.
    pub(super) fn instance(&self, with_annotations: bool) -> ContainerInstance {
        let status = self.status();
        let pid = self.pid(&status);
        let has_ended = matches!(status, ContainerStatus::Exited { .. });
        let finished = self.task.as_ref().filter(|_| has_ended).and_then(|task| task.exited_at.as_ref());
        let asked = self.container.labels.get(IMAGE);
        ContainerInstance {
            id: self.container.id.clone(),
            name: self.name().to_owned(),
            engine: ENGINE.to_owned(),
            image: asked.unwrap_or(&self.container.image).clone(),
            labels: self.labels(),
            annotations: if with_annotations {
                Specification::of(&self.container).annotations
            } else {
                BTreeMap::new()
            },
            ports: Vec::new(),
            ips: Vec::new(),
            pid,
            cgroup_path: if pid > 0 { group_of(pid) } else { String::new() },
            created_ms: nanos(self.container.created_at.as_ref()) / 1_000_000,
            started_ms: self.started_ns().unwrap_or(0) / 1_000_000,
            finished_ms: nanos(finished) / 1_000_000,
            status,
        }
    }
}

/// The name of a container.
pub(super) fn name_of(container: &Container) -> &str {
    container.labels.get(NAME).unwrap_or(&container.id)
}

/// The caller's labels of a container.
pub(super) fn labels_of(container: &Container) -> BTreeMap<String, String> {
    debug_assert!(OWN.starts_with(PREFIX));
    let own = container.labels.iter().filter(|(key, _)| !key.starts_with(OWN));
    own.map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Nanoseconds since the epoch; 0 for what is before it, as Go's zero time (year 1), and for none.
pub(super) fn nanos(time: Option<&Timestamp>) -> u64 {
    let Some(time) = time else { return 0 };
    let (Ok(seconds), Ok(nanos)) = (u64::try_from(time.seconds), u64::try_from(time.nanos)) else { return 0 };
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(status: Option<Status>, started: bool) -> Known {
        let mut known = Known::default();
        known.container.id = "i".to_owned();
        if started {
            known.container.labels.insert(STARTED.to_owned(), "5000000000".to_owned());
        }
        known.task =
            status.map(|status| Process { status: status.into(), exit_status: 3, pid: 7, ..Process::default() });
        known
    }

    #[test]
    fn every_state_of_a_task_is_one_of_ours() {
        assert_eq!(known(None, false).status(), ContainerStatus::Created);
        assert_eq!(known(None, true).status(), ContainerStatus::Exited { code: None, oom: false });
        assert_eq!(known(Some(Status::CREATED), true).status(), ContainerStatus::Created);
        assert_eq!(known(Some(Status::PAUSING), true).status(), ContainerStatus::Paused);
        assert_eq!(known(Some(Status::STOPPED), true).status(), ContainerStatus::Exited { code: Some(3), oom: false });
        assert!(matches!(known(Some(Status::UNKNOWN), true).status(), ContainerStatus::Failed { .. }));
    }

    #[test]
    fn own_labels_are_not_told_and_the_id_is_a_name_where_there_is_none() {
        let mut known = known(Some(Status::STOPPED), true);
        assert_eq!((known.name(), known.instance(true).pid), ("i", 0));
        known.container.labels.insert(NAME.to_owned(), "w_c".to_owned());
        known.container.labels.insert("a".to_owned(), "b".to_owned());
        let told = known.instance(true);
        assert_eq!((told.name.as_str(), told.labels.len(), told.started_ms), ("w_c", 1, 5_000));
    }

    #[test]
    fn time_before_the_epoch_is_none() {
        let time = |seconds| Timestamp { seconds, nanos: 1, ..Timestamp::default() };
        assert_eq!((nanos(Some(&time(-62_135_596_800))), nanos(Some(&time(1))), nanos(None)), (0, 1_000_000_001, 0));
    }

    #[test]
    fn label_that_is_too_long_is_named() {
        let labels = BTreeMap::from([("key".to_owned(), "x".repeat(MOST_LABEL))]);
        assert!(check_labels(&labels).unwrap_err().to_string().contains("'key'"));
        assert!(check_labels(&BTreeMap::from([("key".to_owned(), "x".repeat(MOST_LABEL - 3))])).is_ok());
    }
}
