//! Images: whether one is there, and fetching it with its bytes told.
//!
//! A fully qualified reference is fetched through the compat path, because only that tells bytes; a short name through
//! the libpod path, because the compat one would take it for Docker Hub's whatever the node's registries are.

use super::ENGINE;
use super::client::Client;
use super::wire::Image;
use crate::model::workload::PullPolicy;
use crate::runtime::adapter::{Call, Change, RtResult, RuntimeError};
use crate::runtime::rest;
use crate::runtime::rest::exchange::NO_BODY;
use crate::runtime::rest::image::pull_op;
use crate::transport::http::{Method, encode};

/// The image of this reference; `None` where it is not present.
pub(super) fn find(client: &Client, call: &Call, image: &str) -> RtResult<Option<Image>> {
    if image.is_empty() {
        return Err(RuntimeError::InvalidSpec { reason: "image: is empty".to_owned() });
    }
    client.find(call, "image inspect", &format!("/images/{}/json", encode(image)))
}

/// Makes the image present as `policy` says.
pub(super) fn ensure(client: &Client, call: &Call, image: &str, policy: PullPolicy) -> RtResult<Change> {
    let find = || Ok(find(client, call, image)?.map(|found| found.id));
    rest::image::ensure(image, policy, find, || pull(client, call, image))
}

/// Whether the reference begins with a registry.
fn is_qualified(image: &str) -> bool {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    !rest.is_empty() && (first.contains(['.', ':']) || first == "localhost")
}

fn pull(client: &Client, call: &Call, image: &str) -> RtResult<()> {
    let op = pull_op(image);
    let opened = if is_qualified(image) {
        let target = format!("/v1.40/images/create?fromImage={}", encode(image));
        client.stream_at(call, &op, Method::Post, &target, NO_BODY)
    } else {
        let path = format!("/images/pull?reference={}", encode(image));
        client.stream(call, &op, Method::Post, &path, NO_BODY)
    };
    rest::image::follow(ENGINE, call, image, opened)
}

#[cfg(test)]
mod tests {
    use super::is_qualified;

    #[test]
    fn reference_with_a_registry_is_told_from_a_short_name() {
        assert!(is_qualified("127.0.0.1:5000/a:1"));
        assert!(is_qualified("localhost/busybox:1"));
        assert!(is_qualified("quay.io/x/y@sha256:00"));
        assert!(!is_qualified("busybox:1"));
        assert!(!is_qualified("library/busybox"));
    }
}
