//! The integration tests: one program, one module per subject, real servers on private sockets.

// Helpers of tests may fail loudly and print; nothing of this is in the daemon.
#![allow(clippy::disallowed_methods, clippy::expect_used, clippy::panic, clippy::print_stderr, clippy::print_stdout)]
#![allow(clippy::unwrap_used, missing_docs)]

mod bluechi;
mod bluechi_standin;
mod cli;
mod codegen;
mod compose;
mod conformance;
mod containerd;
mod cores;
mod daemon;
mod dispatch;
mod docker;
mod end_to_end;
mod engines;
mod etcd;
mod grpc;
mod hibernation;
mod limits;
mod manifests;
mod oci;
mod overdue;
mod podman;
mod process;
mod pullpiri;
mod python;
mod recovery;
mod restarts;
mod scaling;
mod storage;
mod support;
mod systemd;
mod tidy;
mod unit_file;
mod yocto;
