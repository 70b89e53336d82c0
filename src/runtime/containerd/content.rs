//! Blobs of the content store: read, and shared from one namespace into another without a byte being copied.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use protobuf::MessageField;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::ENGINE;
use super::client::{Scope, deleted};
use crate::proto::containerd_content::{Info, ReadContentRequest, UpdateRequest, WriteAction, WriteContentRequest};
use crate::proto::containerd_content_grpc::{CONTENT_READ, CONTENT_UPDATE, CONTENT_WRITE};
use crate::proto::containerd_leases::{CreateRequest, DeleteRequest};
use crate::proto::containerd_leases_grpc::{LEASES_CREATE, LEASES_DELETE};
use crate::proto::containerd_types::Descriptor;
use crate::runtime::adapter::{Call, RtResult, RuntimeError};
use crate::runtime::shared::calls::apart;

/// The largest document of an image that is read, bytes: what registries take at most.
const MOST_DOCUMENT: i64 = 4 * 1024 * 1024;

/// After this a lease ends by itself, should nobody be left to end it.
const LEASE: Duration = Duration::from_secs(24 * 3600);

/// Labels of blobs by which garbage collection is told what they refer to (`metadata/gc.go` of containerd).
const REFERS: &str = "containerd.io/gc.ref.content.";

/// A document of the store. What the store has is checked again: a disk may have damaged it since it was written.
pub(super) fn document<T: DeserializeOwned>(scope: Scope, call: &Call, descriptor: &Descriptor) -> RtResult<T> {
    let Descriptor { digest, size, .. } = descriptor;
    let wrong =
        |what: String| RuntimeError::InvalidSpec { reason: format!("the document {digest} of an image {what}") };
    if !(1..=MOST_DOCUMENT).contains(size) {
        return Err(wrong(format!("has {size} bytes; 1 to {MOST_DOCUMENT} are read")));
    }
    let request = ReadContentRequest { digest: digest.clone(), size: *size, ..Default::default() };
    let parts = scope.collect(call, "content read", &CONTENT_READ, &request)?;
    let bytes: Vec<u8> = parts.into_iter().flat_map(|part| part.data).collect();
    if let Some(difference) = difference(&bytes, descriptor) {
        return Err(wrong(format!("is damaged: {difference}")));
    }
    serde_json::from_slice(&bytes).map_err(|error| wrong(format!("cannot be read: {error}")))
}

/// How bytes are not what a descriptor says. Of digests of other kinds the store alone knows.
fn difference(bytes: &[u8], descriptor: &Descriptor) -> Option<String> {
    if i64::try_from(bytes.len()) != Ok(descriptor.size) {
        return Some(format!("it has {} bytes, not {}", bytes.len(), descriptor.size));
    }
    let has = format!("sha256:{:x}", Sha256::digest(bytes));
    let differs = descriptor.digest.starts_with("sha256:") && descriptor.digest != has;
    differs.then(|| format!("its digest is {has}"))
}

/// Gives the namespace a blob that another one has, with labels for what it refers to.
pub(super) fn share(
    into: Scope,
    call: &Call,
    descriptor: &Descriptor,
    children: &[(String, Descriptor)],
) -> RtResult<()> {
    let labels = children.iter().map(|(name, child)| (format!("{REFERS}{name}"), child.digest.clone())).collect();
    let Descriptor { digest, size, .. } = descriptor.clone();
    // A commit of nothing but its digest: the store knows the blob already and compares its size alone.
    let message = WriteContentRequest {
        action: WriteAction::COMMIT.into(),
        ref_: format!("actioncontroller-{}-{digest}", uuid::Uuid::now_v7().simple()),
        total: size,
        offset: size,
        expected: digest,
        labels,
        ..Default::default()
    };
    match into.exchange(call, "content share", &CONTENT_WRITE, &message) {
        Ok(_) => Ok(()),
        Err(failure) if failure.is_taken() => Ok(()),
        Err(failure) => Err(failure.into()),
    }
}

/// Adds a label to a blob.
pub(super) fn label(scope: Scope, call: &Call, digest: &str, key: String, value: &str) -> RtResult<()> {
    let path = format!("labels.{key}");
    let labels = BTreeMap::from([(key, value.to_owned())]);
    let info = Info { digest: digest.to_owned(), labels, ..Info::default() };
    let mask = protobuf::well_known_types::field_mask::FieldMask { paths: vec![path], ..Default::default() };
    let request = UpdateRequest {
        info: MessageField::some(info),
        update_mask: MessageField::some(mask),
        ..UpdateRequest::default()
    };
    scope.ask(call, "content update", &CONTENT_UPDATE, &request)?;
    Ok(())
}

/// Keeps what is made under it until it is dropped, by when something else has to refer to it.
pub(super) struct Lease<'a> {
    scope: Scope<'a>,
    id: String,
}

impl<'a> Lease<'a> {
    /// Begins one.
    pub(super) fn begin(scope: Scope<'a>, call: &Call) -> RtResult<Self> {
        let id = format!("actioncontroller-{}", uuid::Uuid::now_v7().simple());
        let end = Timestamp::now().checked_add(LEASE).unwrap_or(Timestamp::MAX);
        let labels = BTreeMap::from([("containerd.io/gc.expire".to_owned(), format!("{end:.0}"))]);
        let request = CreateRequest { id: id.clone(), labels, ..Default::default() };
        let lease = Self { scope, id };
        // From here on it is deleted in any case: a create whose answer did not come may have been done.
        scope.ask(call, "lease create", &LEASES_CREATE, &request)?;
        Ok(lease)
    }

    /// The namespace, under the lease.
    pub(super) fn scope(&self) -> Scope<'_> {
        self.scope.under(&self.id)
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let request = DeleteRequest { id: self.id.clone(), ..Default::default() };
        if let Err(error) = apart(|call| deleted(self.scope.ask(call, "lease delete", &LEASES_DELETE, &request))) {
            log::warn!("the lease '{}' of {ENGINE} stays for a day: {error}", self.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_as_its_descriptor_says_is_told() {
        let digest = format!("sha256:{:x}", Sha256::digest("{}"));
        let told = |digest: &str, size, bytes: &[u8]| {
            difference(bytes, &Descriptor { digest: digest.to_owned(), size, ..Descriptor::default() })
        };
        assert_eq!(told(&digest, 2, b"{}"), None);
        assert_eq!(told("sha512:00", 2, b"{}"), None);
        assert!(told(&digest, 3, b"{}").unwrap().contains("2 bytes, not 3"));
        assert!(told(&digest, 2, b"{]").unwrap().contains("its digest is sha256:"));
    }
}
