//! Images: found in our namespace or the CRI's, pulled by the CRI's image service, and given to our namespace.

use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use grpcio::RpcStatusCode;
use protobuf::MessageField;

use super::ENGINE;
use super::client::{Client, Failure, Scope, deleted, present};
use super::content::{self, Lease};
use super::documents::{Configuration, Manifest, full_reference};
use crate::model::workload::PullPolicy;
use crate::proto::containerd_content::{AbortRequest, ListStatusesRequest, Status};
use crate::proto::containerd_content_grpc::{CONTENT_ABORT, CONTENT_LIST_STATUSES};
use crate::proto::containerd_images::{CreateImageRequest, GetImageRequest, Image, UpdateImageRequest};
use crate::proto::containerd_images_grpc::{IMAGES_CREATE, IMAGES_GET, IMAGES_UPDATE};
use crate::proto::containerd_types::Descriptor;
use crate::proto::cri_images::{ImageSpec, PullImageRequest};
use crate::proto::cri_images_grpc::IMAGE_SERVICE_PULL_IMAGE;
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError};
use crate::runtime::shared::calls::apart;
use crate::runtime::shared::platform::Machine;

/// Between two looks at how far a pull is.
const LOOK: Duration = Duration::from_millis(200);

/// How deep indexes may lie in indexes.
const DEPTH: usize = 3;

/// An image as far as containers are made of it.
pub(super) struct Content {
    /// Where its configuration is.
    pub(super) config: Descriptor,
    /// What that says.
    pub(super) configuration: Configuration,
    /// Its layers, lowest first.
    pub(super) layers: Vec<Descriptor>,
}

/// The image of this full reference.
fn find(scope: Scope, call: &Call, name: &str) -> RtResult<Option<Descriptor>> {
    let request = GetImageRequest { name: name.to_owned(), ..Default::default() };
    let found = present(scope.ask(call, "image get", &IMAGES_GET, &request))?;
    Ok(found.and_then(|answer| answer.image.into_option()).and_then(|image| image.target.into_option()))
}

/// Makes the image present in our namespace as `policy` says.
pub(super) fn ensure(client: &Client, call: &Call, image: &str, policy: PullPolicy) -> RtResult<Change> {
    if image.is_empty() {
        return Err(RuntimeError::InvalidSpec { reason: "image: is empty".to_owned() });
    }
    client.ensure_namespace(call)?;
    let name = full_reference(image);
    let before = find(client.own(), call, &name)?;
    if policy != PullPolicy::Always {
        if before.is_some() {
            return Ok(Change::Unchanged);
        }
        // It may have been pulled for Kubernetes, or by a daemon that ended before it was shared.
        if let Some(target) = find(client.cri(), call, &name)? {
            share(client, call, image, &name, &target)?;
            return Ok(Change::Unchanged);
        }
        if policy == PullPolicy::Never {
            return Err(failed(image, "it is not present, and its policy is never to pull"));
        }
    }
    pull(client, call, image, &name)?;
    let Some(target) = find(client.cri(), call, &name)? else {
        return Err(failed(image, "it is not present after the pull"));
    };
    if before.is_some_and(|before| before.digest == target.digest) {
        return Ok(Change::Unchanged);
    }
    share(client, call, image, &name, &target)?;
    Ok(Change::Changed)
}

fn failed(image: &str, reason: &str) -> RuntimeError {
    RuntimeError::ImagePull { image: image.to_owned(), reason: reason.to_owned() }
}

/// Pulls it into the CRI's namespace, and tells meanwhile what the content store says of it.
fn pull(client: &Client, call: &Call, image: &str, name: &str) -> RtResult<()> {
    let spec = ImageSpec { image: name.to_owned(), ..ImageSpec::default() };
    let request = PullImageRequest { image: MessageField::some(spec), ..Default::default() };
    let op = format!("pull of {image}");
    call.progress.bytes("pull", 0, 0);
    let (done, is_done) = sync_channel(1);
    let pulled = thread::scope(|scope| {
        let own = || {
            let answer = client.cri().ask(call, &op, &IMAGE_SERVICE_PULL_IMAGE, &request);
            // Nobody hears it where the look below has failed.
            let _ = done.send(());
            answer
        };
        let pulling = thread::Builder::new().name("pull".to_owned()).spawn_scoped(scope, own);
        let pulling = pulling.map_err(|error| RuntimeError::Io { what: op.clone(), reason: error.to_string() })?;
        while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            tell(client, call);
        }
        let lost = || Err(Failure::Failed(failed(image, "the thread of its pull ended")));
        Ok::<_, RuntimeError>(pulling.join().unwrap_or_else(|_| lost()))
    })?;
    match pulled {
        Ok(_) => Ok(()),
        Err(failure) if failure.is(RpcStatusCode::UNIMPLEMENTED) => Err(failed(
            image,
            "it is not present, and containerd's CRI plugin, which pulls, is off in its configuration",
        )),
        Err(Failure::Refused(refusal)) => {
            give_up(client, &refusal.message);
            Err(failed(image, &refusal.message))
        }
        Err(Failure::Failed(error)) => Err(error),
    }
}

/// Drops what the refusal of a pull names as what was fetched and is not what it should be: containerd would keep it for a
/// day, go on with it at the next pull, and refuse that as well.
fn give_up(client: &Client, refusal: &str) {
    const OP: &str = "content abort";
    let dropped = apart(|call| {
        let fetched = client.cri().ask(call, OP, &CONTENT_LIST_STATUSES, &ListStatusesRequest::default())?.statuses;
        for Status { ref_, .. } in fetched.into_iter().filter(|status| is_unfit(status, refusal)) {
            log::info!("'{ref_}' was fetched damaged and is dropped");
            let request = AbortRequest { ref_, ..Default::default() };
            deleted(client.cri().ask(call, OP, &CONTENT_ABORT, &request))?;
        }
        Ok::<(), RuntimeError>(())
    });
    if let Err(error) = dropped {
        log::warn!("what was fetched damaged stays for a day: {error}");
    }
}

/// Whether it is whole, and named by the refusal (`content/helpers.go` of containerd: `failed commit on ref "…"`).
fn is_unfit(status: &Status, refusal: &str) -> bool {
    status.offset > 0
        && status.offset == status.total
        && refusal.contains(&format!("failed commit on ref \"{}\"", status.ref_))
}

/// How far layers are that are being written; of the pulls of others too, which cannot be told apart.
fn tell(client: &Client, call: &Call) {
    let request = ListStatusesRequest::default();
    let Ok(answer) = client.cri().ask(call, "content status", &CONTENT_LIST_STATUSES, &request) else { return };
    let number = |value: i64| u64::try_from(value).unwrap_or(0);
    for status in answer.statuses.iter().filter(|status| status.offset <= status.total) {
        call.progress.bytes(&status.ref_, number(status.offset), number(status.total));
    }
}

/// Gives our namespace the image of the CRI's, as far as this machine runs it.
fn share(client: &Client, call: &Call, image: &str, name: &str, target: &Descriptor) -> RtResult<()> {
    let lease = Lease::begin(client.own(), call)?;
    share_tree(client.cri(), lease.scope(), call, image, target, DEPTH).map_err(|error| match error {
        RuntimeError::NotFound { .. } | RuntimeError::Engine { .. } => {
            let why = "what was pulled is not whole (discard_unpacked_layers of containerd's CRI plugin has to be off)";
            failed(image, &format!("{why}: {error}"))
        }
        other => other,
    })?;
    let own = Image { name: name.to_owned(), target: MessageField::some(target.clone()), ..Image::default() };
    let request = CreateImageRequest { image: MessageField::some(own.clone()), ..Default::default() };
    match lease.scope().ask(call, "image create", &IMAGES_CREATE, &request) {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_taken() => {
            let request = UpdateImageRequest { image: MessageField::some(own), ..Default::default() };
            lease.scope().ask(call, "image update", &IMAGES_UPDATE, &request)?;
            Ok(())
        }
        Err(failure) => Err(failure.into()),
    }
}

fn share_tree(from: Scope, into: Scope, call: &Call, image: &str, target: &Descriptor, depth: usize) -> RtResult<()> {
    let manifest: Manifest = content::document(from, call, target)?;
    // Children first, so that none is referred to that is not there.
    let children = if manifest.manifests.is_empty() {
        manifest.children()
    } else {
        let own = part(&manifest, image, depth)?;
        share_tree(from, into, call, image, &own, depth - 1)?;
        manifest.children().into_iter().filter(|(_, child)| child.digest == own.digest).collect()
    };
    if manifest.manifests.is_empty() {
        for (_, child) in &children {
            content::share(into, call, child, &[])?;
        }
    }
    content::share(into, call, target, &children)
}

/// The part of an index that this machine runs.
fn part(index: &Manifest, image: &str, depth: usize) -> RtResult<Descriptor> {
    if depth == 0 {
        return Err(failed(image, "its indexes lie in each other too deep"));
    }
    let machine = Machine::this();
    let own = index.part_for(&machine).map(super::documents::Reference::descriptor);
    own.ok_or_else(|| failed(image, &format!("it has no part for {}", machine.name())))
}

/// What of the image in our namespace this machine runs.
pub(super) fn content(client: &Client, call: &Call, image: &str) -> RtResult<Content> {
    let name = full_reference(image);
    let mut target = find(client.own(), call, &name)?
        .ok_or_else(|| RuntimeError::NotFound { what: format!("image '{image}' in {ENGINE}") })?;
    let mut depth = DEPTH;
    let manifest = loop {
        let manifest: Manifest = content::document(client.own(), call, &target)?;
        if manifest.manifests.is_empty() {
            break manifest;
        }
        target = part(&manifest, image, depth)?;
        depth -= 1;
    };
    let Some(config) = &manifest.config else {
        return Err(failed(image, "its manifest names no configuration: it is of a kind that is not supported"));
    };
    let config = config.descriptor();
    let configuration: Configuration = content::document(client.own(), call, &config)?;
    let layers: Vec<_> = manifest.layers.iter().map(super::documents::Reference::descriptor).collect();
    if layers.len() != configuration.rootfs.diff_ids.len() {
        return Err(failed(image, "its manifest and its configuration have not the same number of layers"));
    }
    Ok(Content { config, configuration, layers })
}
