//! Limits of what runs, changed with no restart: a task is told, its record is not, so that the next start has those of
//! before.

use protobuf::MessageField;

use super::{Place, record};
use crate::model::resources::Resources;
use crate::proto::containerd_tasks::UpdateTaskRequest;
use crate::proto::containerd_tasks_grpc::TASKS_UPDATE;
use crate::runtime::adapter::{Call, Change, RtResult};
use crate::runtime::shared::resize::{self, Resized};
use crate::runtime::specification;

/// The type of limits in a request.
const RESOURCES_TYPE: &str = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";

/// Changes what is asked and differs.
pub(super) fn resize(place: Place, call: &Call, id: &str, resources: &Resources, force: bool) -> RtResult<Change> {
    let container = record::inspect(place.scope, call, id)?.instance(false);
    let tell = |resized: &Resized| {
        let request = UpdateTaskRequest {
            container_id: container.id.clone(),
            resources: MessageField::some(record::any_json(RESOURCES_TYPE, &specification::resized(resized))?),
            ..Default::default()
        };
        place.scope.ask(call, "resize", &TASKS_UPDATE, &request)?;
        Ok(())
    };
    resize::resize(&container, resources, force, tell)
}
