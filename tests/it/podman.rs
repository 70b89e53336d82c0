//! The Podman adapter against a real Podman, part by part.

mod basics;
mod inside;
mod lifecycle;
mod output;
mod together;

use std::time::{Duration, Instant};

use actioncontroller::cancel::CancelToken;
use actioncontroller::clock::Deadline;
use actioncontroller::model::state::ContainerStatus;
use actioncontroller::model::workload::{PortSpec, Protocol};
use actioncontroller::runtime::adapter::{Call, ContainerConfig, NoProgress, RuntimeAdapter};
use actioncontroller::runtime::podman::Podman;

use crate::support::podman::PodmanServer;
use crate::support::rig::container;

/// Longer than anything here takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Does not end by itself, and takes no notice of SIGTERM.
const STUBBORN: &str = "trap '' TERM; while :; do sleep 0.1; done";

/// A server with its adapter and a token for calls.
struct Rig {
    server: PodmanServer,
    podman: Podman,
    cancel: CancelToken,
}

impl Rig {
    fn of(server: PodmanServer) -> Self {
        let podman = server.adapter();
        Self { server, podman, cancel: CancelToken::new() }
    }

    fn new() -> Self {
        Self::of(PodmanServer::start())
    }

    fn call(&self) -> Call<'_> {
        Call { deadline: Deadline::after(LIMIT), cancel: &self.cancel, progress: &NoProgress }
    }

    /// Creates and starts a container.
    fn run(&self, config: &ContainerConfig) -> String {
        self.run_with(&self.call(), config)
    }

    fn run_with(&self, call: &Call<'_>, config: &ContainerConfig) -> String {
        let id = self.podman.create_container(call, config).unwrap().id;
        self.podman.start_container(&self.call(), &id).unwrap();
        id
    }

    fn status(&self, id: &str) -> ContainerStatus {
        self.podman.inspect_container(&self.call(), id).unwrap().status
    }

    /// What the command prints inside, without blanks around it.
    fn exec(&self, id: &str, script: &str) -> String {
        let argv = ["sh", "-c", script].map(str::to_owned);
        let outcome = self.podman.exec_in_container(&self.call(), id, &argv).unwrap();
        String::from_utf8_lossy(&outcome.stdout).trim().to_owned()
    }

    /// Waits until the container's own output has the word.
    fn await_output(&self, id: &str, word: &str) {
        crate::support::wait::until(word, LIMIT, || {
            let text =
                output::read(self, id, output::all()).into_iter().flat_map(|chunk| chunk.bytes).collect::<Vec<_>>();
            String::from_utf8_lossy(&text).contains(word).then_some(())
        });
    }
}

fn tcp(host_port: u16, container_port: u16) -> PortSpec {
    PortSpec { host_ip: "127.0.0.1".to_owned(), host_port: Some(host_port), container_port, protocol: Protocol::Tcp }
}

/// What `work` gives and how long it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let result = work();
    (result, begun.elapsed())
}
