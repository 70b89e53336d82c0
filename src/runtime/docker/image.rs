//! Images: whether one is there, and fetching it with its bytes told.

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

/// The reference with a tag or digest: without one Docker fetches every tag that there is.
fn with_tag(image: &str) -> String {
    let name = image.rsplit('/').next().unwrap_or(image);
    if image.contains('@') || name.contains(':') { image.to_owned() } else { format!("{image}:latest") }
}

fn pull(client: &Client, call: &Call, image: &str) -> RtResult<()> {
    let path = format!("/images/create?fromImage={}", encode(&with_tag(image)));
    let opened = client.stream(call, &pull_op(image), Method::Post, &path, NO_BODY);
    rest::image::follow(ENGINE, call, image, opened)
}

#[cfg(test)]
mod tests {
    use super::with_tag;

    #[test]
    fn reference_without_tag_is_that_of_the_latest() {
        for (image, pulled) in [
            ("busybox", "busybox:latest"),
            ("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest"),
            ("127.0.0.1:5000/a:1", "127.0.0.1:5000/a:1"),
            ("a@sha256:00", "a@sha256:00"),
        ] {
            assert_eq!(with_tag(image), pulled);
        }
    }
}
