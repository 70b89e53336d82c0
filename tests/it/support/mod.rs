//! Rigs that tests share: real servers, started privately and taken down by whoever started them.

pub mod daemon;
pub mod docker;
pub mod etcd;
#[allow(dead_code, reason = "unit tests of the image store use the rest")]
pub mod layout;
pub mod oci;
pub mod peers;
pub mod podman;
pub mod rig;
pub mod wait;
