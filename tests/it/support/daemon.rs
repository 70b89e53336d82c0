//! The real daemon as a process of its own, on private folders and sockets, with clients to talk to it.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use actioncontroller::grpc::server::unix_address;
use actioncontroller::grpc::status::details;
use actioncontroller::proto::actioncontroller_grpc::ActionControllerConnectionClient;
use actioncontroller::proto::actions::{ActionSpec, ExecuteActionRequest, Outcome, Verb};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use actioncontroller::proto::health_grpc::HealthClient;
use actioncontroller::proto::workloads::{GetWorkloadRequest, Workload, WorkloadState};
use actioncontroller::proto::workloads_grpc::WorkloadsClient;
use grpcio::{CallOption, Channel, ChannelBuilder, EnvBuilder, Environment};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use protobuf::MessageField;
use tempfile::TempDir;

use super::wait::until;

/// The longest that a call of a test may take.
pub const CALL_LIMIT: Duration = Duration::from_secs(60);

/// Settings that put the simulator in Podman's place; its containers outlive the daemon.
pub fn with_sim(folder: &Path) -> String {
    let state_file = folder.join("sim.json");
    format!(
        "runtimes:\n  preference: [sim]\n  podman: {{enabled: false}}\n  sim: {{enabled: true, state_file: {}}}\n",
        state_file.display()
    )
}

/// Settings that use this Podman socket.
pub fn with_podman(socket: &Path) -> String {
    format!("runtimes:\n  podman: {{socket: {}}}\n", socket.display())
}

/// A running (or killed) daemon with its folder, which is gone when this is dropped.
pub struct DaemonProcess {
    folder: TempDir,
    child: Option<Child>,
    environment: Arc<Environment>,
    variables: Vec<(String, OsString)>,
}

impl DaemonProcess {
    /// Starts a daemon; `settings` is given the folder and gives YAML that is laid over the rig's own.
    pub fn start(settings: impl FnOnce(&Path) -> String) -> Self {
        let folder = tempfile::Builder::new().prefix("actioncontroller-it.").tempdir().unwrap();
        let own = format!(
            "node: test\nstate_dir: {0}/state\nlisten: {{unix: {0}/api.sock}}\nlog: {{level: debug}}\n\
             security:\n  host_paths: [{{path: {0}}}]\n",
            folder.path().display()
        );
        let configuration = folder.path().join("config.d");
        fs::create_dir(&configuration).unwrap();
        fs::write(configuration.join("10-rig.yaml"), own).unwrap();
        fs::write(configuration.join("20-test.yaml"), settings(folder.path())).unwrap();
        let environment = Arc::new(EnvBuilder::new().cq_count(1).build());
        let mut daemon = Self { folder, child: None, environment, variables: Vec::new() };
        daemon.start_again();
        daemon
    }

    /// A daemon on the simulator.
    pub fn on_sim() -> Self {
        Self::start(with_sim)
    }

    /// Starts the process again in the same folder and waits until it answers.
    pub fn start_again(&mut self) {
        self.spawn();
        let socket = self.socket();
        until("the daemon listens", Duration::from_secs(30), || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().unwrap());
            assert!(ended.is_none(), "the daemon ended at its start: {ended:?}\n{}", self.log());
            std::os::unix::net::UnixStream::connect(&socket).ok()
        });
    }

    /// Starts the process without waiting for it.
    pub fn spawn(&mut self) {
        assert!(self.child.is_none(), "the daemon runs already");
        let log = fs::File::options().create(true).append(true).open(self.path("daemon.log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_actioncontroller"));
        command.arg("--config").arg(self.path("config.d")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.env_remove("NOTIFY_SOCKET").env_remove("JOURNAL_STREAM").envs(self.variables.iter().cloned());
        self.child = Some(command.spawn().unwrap());
    }

    /// A path in the daemon's folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.path("api.sock")
    }

    /// Its address for clients.
    pub fn address(&self) -> String {
        unix_address(&self.socket())
    }

    /// What it has logged so far, over all its starts.
    pub fn log(&self) -> String {
        fs::read_to_string(self.path("daemon.log")).unwrap_or_default()
    }

    /// Replaces the settings that the test gave; in force after SIGHUP or the next start.
    pub fn write_settings(&self, yaml: &str) {
        fs::write(self.path("config.d/20-test.yaml"), yaml).unwrap();
    }

    /// Gives an environment variable to the processes started from now on.
    pub fn set_variable(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.push((name.to_owned(), value.into()));
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().expect("the daemon runs").id()).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Kills it as a power cut would: at once, with nothing put in order.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait_for_end();
    }

    /// Asks it to end and waits.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait_for_end()
    }

    /// Waits until the process has ended.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("the daemon runs");
        until("the daemon ends", Duration::from_secs(40), || child.try_wait().unwrap())
    }

    /// A connection of its own.
    pub fn channel(&self) -> Channel {
        ChannelBuilder::new(Arc::clone(&self.environment)).connect(&self.address())
    }

    /// A client for actions, on a connection of its own.
    pub fn actions(&self) -> ActionControllerClient {
        ActionControllerClient::new(self.channel())
    }

    /// A client for actions at another of its addresses, on a connection of its own.
    pub fn actions_at(&self, address: &str) -> ActionControllerClient {
        ActionControllerClient::new(ChannelBuilder::new(Arc::clone(&self.environment)).connect(address))
    }

    /// A client for what Pullpiri's services ask, on a connection of its own.
    pub fn pullpiri(&self) -> ActionControllerConnectionClient {
        ActionControllerConnectionClient::new(self.channel())
    }

    /// The settings that the test gave.
    pub fn settings(&self) -> String {
        fs::read_to_string(self.path("config.d/20-test.yaml")).unwrap()
    }

    /// A client for health, on a connection of its own.
    pub fn health(&self) -> HealthClient {
        HealthClient::new(self.channel())
    }

    /// A client for workloads, on a connection of its own.
    pub fn workloads(&self) -> WorkloadsClient {
        WorkloadsClient::new(self.channel())
    }

    /// Runs `actionctl` against it.
    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_actionctl"));
        command.arg("--address").arg(self.address()).args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    /// Runs an action to its end.
    pub fn execute(&self, action: ActionSpec) -> grpcio::Result<Outcome> {
        let request = ExecuteActionRequest { action: MessageField::some(action), ..Default::default() };
        let answer = self.actions().execute_action(&request, options())?;
        Ok(answer.outcome.unwrap_or_default())
    }

    /// Runs an action that succeeds.
    pub fn done(&self, action: ActionSpec) -> Outcome {
        self.execute(action).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The code and the text of the failure of an action that fails.
    pub fn fails(&self, action: ActionSpec) -> (String, String) {
        match self.execute(action) {
            Ok(outcome) => panic!("it succeeded: {outcome:?}"),
            Err(grpcio::Error::RpcFailure(status)) => {
                let error = details(&status).expect("details").error.clone();
                (error.code.clone(), error.message.clone())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A workload that there is.
    pub fn workload(&self, name: &str) -> Workload {
        let request = GetWorkloadRequest { name: name.to_owned(), ..Default::default() };
        self.workloads().get_workload(&request, options()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until the workload is in this state.
    pub fn await_state(&self, name: &str, state: WorkloadState) -> Workload {
        until("the workload's state", CALL_LIMIT, || {
            Some(self.workload(name)).filter(|found| found.state == state.into())
        })
    }

    /// Launches documents to their end.
    pub fn launch(&self, manifest: &str) -> grpcio::Result<Outcome> {
        self.execute(launch(manifest))
    }
}

impl Drop for DaemonProcess {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<_> = log.lines().rev().take(60).collect();
            eprintln!("the daemon said:\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"));
        }
    }
}

/// The options of a call that ends within the test's limit.
pub fn options() -> CallOption {
    CallOption::default().timeout(CALL_LIMIT).wait_for_ready(true)
}

/// A launch of documents.
pub fn launch(manifest: &str) -> ActionSpec {
    ActionSpec { verb: Verb::VERB_LAUNCH.into(), manifest: manifest.to_owned(), ..Default::default() }
}

/// A verb on a target by name.
pub fn on_target(verb: Verb, target: &str) -> ActionSpec {
    ActionSpec { verb: verb.into(), target: target.to_owned(), ..Default::default() }
}

/// A Pod of one container that runs `command`.
pub fn pod(name: &str, image: &str, command: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec:\n  hostNetwork: true\n  containers:\n  \
         - {{name: main, image: '{image}', command: [sh, -c, '{command}']}}\n"
    )
}
