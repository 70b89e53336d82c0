//! A foreign client: Python's grpcio, with stubs that it makes from the contracts itself.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use actioncontroller::grpc::server::unix_address;

use crate::grpc::Rig;

fn manifest_dir() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn output_of(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// The interpreter with the packages, made where it is not there yet.
fn python() -> PathBuf {
    let venv = output_of(&mut Command::new(manifest_dir().join("tests/rig/python-venv.sh")));
    Path::new(venv.trim()).join("bin/python")
}

/// Runs the client's checks; `against` is `double` or `daemon`.
pub fn check(address: &str, against: &str) {
    let script = manifest_dir().join("tests/it/python/foreign_client.py");
    let mut command = Command::new(python());
    command.arg(script).args(["--address", address, "--against", against]);
    output_of(command.arg("--proto").arg(manifest_dir().join("proto")));
}

#[test]
fn python_client_of_its_own_making_understands_the_server() {
    let rig = Rig::new();
    check(&unix_address(&rig.socket), "double");
}
