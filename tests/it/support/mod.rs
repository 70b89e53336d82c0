//! Rigs that tests share: real servers, started privately and taken down by whoever started them.

pub mod bluechi;
pub mod containerd;
pub mod daemon;
pub mod docker;
pub mod engines;
pub mod etcd;
pub mod layout;
pub mod oci;
pub mod peers;
pub mod podman;
pub mod quadlets;
pub mod rig;
pub mod systemd;
pub mod wait;
