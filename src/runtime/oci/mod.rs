//! Containers by an OCI runtime (crun, runc) with no engine daemon.

pub mod images;
