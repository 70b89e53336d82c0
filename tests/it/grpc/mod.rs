//! The gRPC server on real sockets, with the generated client and a double of the service behind it.

mod calls;
mod double;
mod limits;
mod listening;
mod services;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use actioncontroller::clock::ManualClock;
use actioncontroller::grpc::server::{HealthState, Offers, Server, ServerConfig, UnixConfig, unix_address};
use actioncontroller::grpc::status::{Details, details};
use actioncontroller::proto::actions::{ActionSpec, ExecuteActionRequest, Verb};
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use actioncontroller::proto::health_grpc::HealthClient;
use actioncontroller::proto::workloads::LogsRequest;
use actioncontroller::proto::workloads_grpc::WorkloadsClient;
use grpcio::{CallOption, Channel, ChannelBuilder, Environment, RpcStatus, RpcStatusCode};

use double::Double;

/// Long enough for anything that does come.
const LONG: Duration = Duration::from_secs(20);

/// A server on a private unix socket, and a loopback port where asked for.
pub struct Rig {
    service: Arc<Double>,
    health: Arc<HealthState>,
    server: Option<Server>,
    pub socket: PathBuf,
    environment: Arc<Environment>,
    /// Kept: a channel that goes takes the calls that have not connected yet with it.
    channels: Mutex<Vec<Channel>>,
    _folder: tempfile::TempDir,
}

/// This service alone.
fn offers(service: Arc<Double>) -> Offers {
    Offers { service: service.clone(), pullpiri: None, services: service }
}

impl Rig {
    pub fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("api.sock");
        let mut config = ServerConfig { unix: Some(unix(&socket)), ..ServerConfig::default() };
        change(&mut config);
        let (service, health) = (Arc::new(Double::default()), Arc::new(HealthState::new()));
        let clock = Arc::new(ManualClock::new(7_000));
        let server = Server::start(&config, offers(service.clone()), health.clone(), clock).unwrap();
        let environment = Arc::new(Environment::new(1));
        Self { service, health, server: Some(server), socket, environment, channels: Mutex::default(), _folder: folder }
    }

    /// A connection of its own.
    fn channel(&self) -> Channel {
        self.channel_to(&unix_address(&self.socket))
    }

    fn channel_to(&self, address: &str) -> Channel {
        // Without its own pool, channels to one address would share a connection.
        let channel = ChannelBuilder::new(self.environment.clone()).use_local_subchannel_pool(true).connect(address);
        self.channels.lock().unwrap().push(channel.clone());
        channel
    }

    fn actions(&self) -> ActionControllerClient {
        ActionControllerClient::new(self.channel())
    }

    fn workloads(&self) -> WorkloadsClient {
        WorkloadsClient::new(self.channel())
    }

    fn health(&self) -> HealthClient {
        HealthClient::new(self.channel())
    }

    fn stop(&mut self, grace: Duration) {
        self.server.take().unwrap().stop(grace);
    }
}

fn unix(path: &std::path::Path) -> UnixConfig {
    UnixConfig { path: path.to_owned(), mode: 0o660, group: String::new() }
}

fn long() -> CallOption {
    CallOption::default().timeout(LONG)
}

fn stop_of(target: &str) -> ExecuteActionRequest {
    let action = ActionSpec {
        action_id: "a-1".into(),
        verb: Verb::VERB_STOP.into(),
        target: target.into(),
        ..Default::default()
    };
    ExecuteActionRequest { action: Some(action).into(), ..Default::default() }
}

fn logs_of(workload: &str) -> LogsRequest {
    LogsRequest { workload: workload.into(), ..Default::default() }
}

/// The status of a call that has to have failed.
fn failure<T>(result: grpcio::Result<T>) -> RpcStatus {
    match result {
        Err(grpcio::Error::RpcFailure(status)) => status,
        Err(error) => panic!("no status: {error}"),
        Ok(_) => panic!("the call succeeded"),
    }
}

/// Code and details of a call that has to have failed as one of ours.
fn refusal<T>(result: grpcio::Result<T>) -> (RpcStatusCode, Details) {
    let status = failure(result);
    let read = details(&status).unwrap_or_else(|| panic!("no details: {status:?}"));
    assert_eq!(read.error.status, i32::from(status.code()));
    (status.code(), read)
}

/// Waits until `condition` holds.
#[track_caller]
fn until(what: &str, most: Duration, condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < most, "not within {most:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits for a future.
#[track_caller]
fn block_on<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    let start = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(start.elapsed() < LONG, "nothing came within {LONG:?}");
        std::thread::park_timeout(LONG);
    }
}
