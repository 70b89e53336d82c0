//! Layers become snapshots: each is unpacked once, onto the one below it, under the name that its chain gives it.

use super::client::{Scope, deleted, present};
use super::content;
use super::documents::chain;
use super::image::Content;
use crate::proto::containerd_diff::ApplyRequest;
use crate::proto::containerd_diff_grpc::DIFF_APPLY;
use crate::proto::containerd_snapshots::{
    CommitSnapshotRequest, MountsRequest, PrepareSnapshotRequest, RemoveSnapshotRequest, StatSnapshotRequest,
};
use crate::proto::containerd_snapshots_grpc::{
    SNAPSHOTS_COMMIT, SNAPSHOTS_MOUNTS, SNAPSHOTS_PREPARE, SNAPSHOTS_REMOVE, SNAPSHOTS_STAT,
};
use crate::proto::containerd_types::{Descriptor, Mount};
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::shared::calls::apart;
use protobuf::MessageField;

/// The snapshotter that is used: containerd's usual one.
pub(super) const SNAPSHOTTER: &str = "overlayfs";

/// A label of a configuration's blob that keeps the snapshot of its image (`metadata/gc.go` of containerd).
const KEEPS: &str = "containerd.io/gc.ref.snapshot.";

/// Makes the snapshot of the image present; its name, empty for an image without layers.
pub(super) fn unpack(scope: Scope, call: &Call, image: &Content) -> RtResult<String> {
    let diff_ids = &image.configuration.rootfs.diff_ids;
    let chain = chain(diff_ids);
    let mut below = String::new();
    let count = chain.len() as u64;
    for (index, ((name, layer), diff_id)) in chain.iter().zip(&image.layers).zip(diff_ids).enumerate() {
        if !is_there(scope, call, name)? {
            call.progress.bytes("unpack", index as u64, count);
            layer_on(scope, call, &below, name, layer, diff_id)?;
        }
        below.clone_from(name);
    }
    if !below.is_empty() {
        content::label(scope, call, &image.config.digest, format!("{KEEPS}{SNAPSHOTTER}"), &below)?;
    }
    Ok(below)
}

fn is_there(scope: Scope, call: &Call, name: &str) -> RtResult<bool> {
    let request =
        StatSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: name.to_owned(), ..Default::default() };
    Ok(present(scope.ask(call, "snapshot stat", &SNAPSHOTS_STAT, &request))?.is_some())
}

/// Unpacks one layer. Others may do the same at the same time: the first is kept.
fn layer_on(scope: Scope, call: &Call, below: &str, name: &str, layer: &Descriptor, diff_id: &str) -> RtResult<()> {
    let key = format!("actioncontroller-{}-{name}", uuid::Uuid::now_v7().simple());
    let unpacked = prepare(scope, call, &key, below).and_then(|mounts| {
        let request = ApplyRequest { diff: MessageField::some(layer.clone()), mounts, ..ApplyRequest::default() };
        let applied = scope.ask(call, "unpack", &DIFF_APPLY, &request)?.applied.unwrap_or_default();
        if applied.digest != *diff_id {
            let reason = format!("layer {} unpacks to {}, not to {diff_id}", layer.digest, applied.digest);
            return Err(RuntimeError::InvalidSpec { reason });
        }
        let request = CommitSnapshotRequest {
            snapshotter: SNAPSHOTTER.to_owned(),
            name: name.to_owned(),
            key: key.clone(),
            ..Default::default()
        };
        match scope.ask(call, "snapshot commit", &SNAPSHOTS_COMMIT, &request) {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_taken() => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    });
    if !matches!(unpacked, Ok(true))
        && let Err(error) = apart(|call| remove(scope, call, &key))
    {
        log::warn!("the snapshot '{key}' of a layer that was not unpacked stays: {error}");
    }
    unpacked.map(drop)
}

/// A snapshot that is written into, on top of a committed one (empty: of nothing); its mounts.
pub(super) fn prepare(scope: Scope, call: &Call, key: &str, parent: &str) -> RtResult<Vec<Mount>> {
    let request = PrepareSnapshotRequest {
        snapshotter: SNAPSHOTTER.to_owned(),
        key: key.to_owned(),
        parent: parent.to_owned(),
        ..Default::default()
    };
    Ok(scope.ask(call, "snapshot prepare", &SNAPSHOTS_PREPARE, &request)?.mounts)
}

/// The mounts of a snapshot.
pub(super) fn mounts(scope: Scope, call: &Call, key: &str) -> RtResult<Vec<Mount>> {
    let request = MountsRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned(), ..Default::default() };
    Ok(scope.ask(call, "snapshot mounts", &SNAPSHOTS_MOUNTS, &request)?.mounts)
}

/// Deletes a snapshot; `false` where it was gone already.
pub(super) fn remove(scope: Scope, call: &Call, key: &str) -> RtResult<bool> {
    let request =
        RemoveSnapshotRequest { snapshotter: SNAPSHOTTER.to_owned(), key: key.to_owned(), ..Default::default() };
    deleted(scope.ask(call, "snapshot remove", &SNAPSHOTS_REMOVE, &request))
}
