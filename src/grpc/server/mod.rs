//! The gRPC server: where it listens, what it allows, how it starts and stops.
//!
//! One file per service holds its handlers; `calls` does what is common to all. A handler decodes, hands the request
//! to [`Service`], and answers when the answer comes; it never blocks, because a poll thread carries many calls, cancel
//! and health among them.

mod actions;
mod calls;
mod closing;
mod health;
mod poll;
mod pullpiri;
mod services;
mod streams;
mod tcp;
mod unix;
mod workloads;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use grpcio::{ChannelBuilder, ServerBuilder, ServerCredentials};

use crate::clock::{Clock, Deadline};
use crate::dispatch::service::{Pullpiri, Service, Services};
use crate::proto::{actioncontroller_grpc, actions_grpc, health_grpc, schedinfo_grpc, services_grpc, workloads_grpc};
use crate::transport::wait::wait_for;

use calls::Calls;
pub use health::HealthState;
use poll::PollThreads;
use streams::Streams;
use unix::UnixSocket;
pub use unix::{UnixConfig, unix_address};

/// How long calls have to end after they were told, and again after they were cancelled. They end within a wake-up.
const AFTERMATH: Duration = Duration::from_secs(1);

/// After this long without a sign of life a client's machine is asked for one.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How long it has to answer, before its connection and streams are ended.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The most calls under way on one connection. More than the queues of the daemon hold, so that a full queue is told
/// and not waited for.
const CALLS_PER_CONNECTION: i32 = 1024;

/// What the server is like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerConfig {
    /// The unix socket; `None` for none.
    pub unix: Option<UnixConfig>,
    /// TCP addresses, `host:port`. Port 0 takes a free one.
    pub tcp: Vec<String>,
    /// Allows TCP addresses that other machines reach: plain, and with callers unknown.
    pub insecure: bool,
    /// The largest request, bytes.
    pub max_message_bytes: u32,
    /// The most streams of one TCP address.
    pub streams_per_peer: usize,
    /// The most streams on the unix socket.
    pub streams_unix: usize,
    /// Where TIMPANI's faults are taken, `host:port`; empty for nowhere.
    pub faults: String,
    /// Threads that carry calls.
    pub poll_threads: usize,
}

impl Default for ServerConfig {
    /// No address yet, and the limits as they are unless configured.
    fn default() -> Self {
        Self {
            unix: None,
            tcp: Vec::new(),
            insecure: false,
            max_message_bytes: 4 * 1024 * 1024,
            streams_per_peer: 32,
            streams_unix: 64,
            faults: String::new(),
            poll_threads: 2,
        }
    }
}

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// There is nothing to listen on.
    #[error("neither a unix socket nor a TCP address is configured")]
    NoAddress,
    /// The address is malformed.
    #[error("'{address}' is no address to listen on: {reason}")]
    Address {
        /// As configured.
        address: String,
        /// Why.
        reason: String,
    },
    /// The address is open to other machines.
    #[error("'{address}' is reached from other machines, in plain text: that needs `insecure: true`")]
    Insecure {
        /// As configured.
        address: String,
    },
    /// The address cannot be bound.
    #[error("cannot listen on '{address}': {reason}")]
    Bind {
        /// As configured.
        address: String,
        /// Why, in the system's words.
        reason: String,
    },
    /// Another process listens on the socket.
    #[error("another process listens on '{path}'", path = path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something else has the socket's name.
    #[error("'{path}' exists and is no socket", path = path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// The socket's path does not fit.
    #[error("the path '{path}' is too long for a unix socket: at most 107 bytes", path = path.display())]
    LongPath {
        /// The path.
        path: PathBuf,
    },
    /// The socket's file could not be made.
    #[error("the socket '{path}' cannot be made: {what} failed", path = path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// What was done.
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// The socket's group does not exist.
    #[error("there is no group '{name}'")]
    UnknownGroup {
        /// The group.
        name: String,
    },
    /// gRPC's core refused.
    #[error("gRPC does not start: {0}")]
    Core(String),
}

/// What is served.
pub struct Offers {
    /// What everybody may ask.
    pub service: Arc<dyn Service>,
    /// What Pullpiri asks, where that is taken.
    pub pullpiri: Option<Arc<dyn Pullpiri>>,
    /// What is asked about services of several nodes.
    pub services: Arc<dyn Services>,
}

/// A running server. Dropped, it stops at once.
pub struct Server {
    // Dropped in this order: the server before its threads.
    server: Option<grpcio::Server>,
    threads: Option<PollThreads>,
    calls: Arc<Calls>,
    pullpiri: Option<Arc<Calls<dyn Pullpiri>>>,
    services: Arc<Calls<dyn Services>>,
    health: Arc<HealthState>,
    socket: Option<UnixSocket>,
    tcp: Vec<String>,
}

impl Server {
    /// Listens and serves. On return the socket is in its place and calls are taken.
    pub fn start(
        config: &ServerConfig,
        Offers { service, pullpiri, services }: Offers,
        health: Arc<HealthState>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServerError> {
        if config.unix.is_none() && config.tcp.is_empty() {
            return Err(ServerError::NoAddress);
        }
        let faults = Some(&config.faults).filter(|address| !address.is_empty());
        config.tcp.iter().chain(faults).try_for_each(|address| tcp::check(address, config.insecure))?;
        grpcio::redirect_log();
        let threads = PollThreads::start(config.poll_threads.max(1));
        let streams = Streams::new(config.streams_per_peer, config.streams_unix);
        let calls = Arc::new(Calls::new(service, streams));
        let actions = actions::Actions { calls: Arc::clone(&calls), health: Arc::clone(&health) };
        let workloads = workloads::Workloads { calls: Arc::clone(&calls), clock };
        let watched = health::Health { calls: Arc::clone(&calls), state: Arc::clone(&health) };
        let pullpiri = pullpiri.map(|pullpiri| Arc::new(Calls::new(pullpiri, Streams::new(0, 0))));
        let watches = Streams::new(config.streams_per_peer, config.streams_unix);
        let services = Arc::new(Calls::new(services, watches));
        let mut builder = ServerBuilder::new(threads.environment())
            .channel_args(connections(config, &threads).build_args())
            .register_service(actions_grpc::create_action_controller(actions))
            .register_service(workloads_grpc::create_workloads(workloads))
            .register_service(services_grpc::create_services(services::Services(Arc::clone(&services))))
            .register_service(health_grpc::create_health(watched));
        if let Some(calls) = &pullpiri {
            let calls = pullpiri::PullpiriCalls(Arc::clone(calls));
            builder =
                builder.register_service(actioncontroller_grpc::create_action_controller_connection(calls.clone()));
            if !config.faults.is_empty() {
                builder = builder.register_service(schedinfo_grpc::create_fault_service(calls));
            }
        }
        let server = builder.build().map_err(|error| ServerError::Core(error.to_string()))?;
        // From here on an early return stops what is there.
        let (server, threads) = (Some(server), Some(threads));
        let mut this = Self { server, threads, calls, pullpiri, services, health, socket: None, tcp: vec![] };
        this.listen(config)?;
        Ok(this)
    }

    fn listen(&mut self, config: &ServerConfig) -> Result<(), ServerError> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let faults = Some(&config.faults).filter(|address| !address.is_empty());
        for address in config.tcp.iter().chain(faults) {
            let failed = |_| ServerError::Bind { address: address.clone(), reason: tcp::reason(address) };
            let port = server.add_listening_port(address.as_str(), ServerCredentials::insecure()).map_err(failed)?;
            let host = address.rsplit_once(':').map_or(address.as_str(), |(host, _)| host);
            self.tcp.push(format!("{host}:{port}"));
            if tcp::check(address, false).is_err() {
                log::warn!("listening on '{address}' in plain text for other machines (insecure: true)");
            }
        }
        if let Some(unix) = &config.unix {
            let bind = |address: &str| {
                let failed = |_| ServerError::Bind {
                    address: unix.path.display().to_string(),
                    reason: "gRPC does not say why".to_owned(),
                };
                server.add_listening_port(address, ServerCredentials::insecure()).map_err(failed)?;
                server.start();
                Ok(())
            };
            self.socket = Some(UnixSocket::listen(unix, bind)?);
        } else {
            server.start();
        }
        Ok(())
    }

    /// The TCP addresses, with their ports as bound.
    pub fn tcp_addresses(&self) -> &[String] {
        &self.tcp
    }

    /// Stops: NOT_SERVING, no new calls; followed logs and waits for a condition are answered UNAVAILABLE at once, other
    /// calls have `grace` to end, then they are answered so too, and what still hangs is cancelled. When it returns nothing here holds the service, the threads have ended and the
    /// socket is gone. Takes at most `grace` and three seconds.
    pub fn stop(mut self, grace: Duration) {
        self.end(grace);
    }

    fn end(&mut self, grace: Duration) {
        let Some(mut server) = self.server.take() else { return };
        self.health.end();
        self.calls.close_endless();
        self.services.close_endless();
        let mut shutdown = server.shutdown();
        if let Some(socket) = self.socket.take() {
            socket.remove();
        }
        let mut ended = wait_for(&mut shutdown, Deadline::after(grace)).is_some();
        self.calls.close();
        self.pullpiri.iter().for_each(|calls| calls.close());
        self.services.close();
        if !ended {
            ended = wait_for(&mut shutdown, Deadline::after(AFTERMATH)).is_some();
        }
        if !ended {
            server.cancel_all_calls();
            ended = wait_for(&mut shutdown, Deadline::after(AFTERMATH)).is_some();
        }
        if ended {
            drop(server);
        } else {
            // gRPC's core aborts the process when a server is destroyed before its calls have ended.
            log::error!("calls hang in gRPC's core; its server is left as it is");
            #[expect(clippy::mem_forget, reason = "the process ends anyway, and destroying it would abort")]
            std::mem::forget(server);
        }
        if let Some(threads) = self.threads.take() {
            threads.stop(Deadline::after(AFTERMATH));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

/// What holds for every connection.
fn connections(config: &ServerConfig, threads: &PollThreads) -> ChannelBuilder {
    let receive = i32::try_from(config.max_message_bytes).unwrap_or(i32::MAX);
    ChannelBuilder::new(threads.environment())
        // gRPC's core would share the address of a running daemon otherwise.
        .reuse_port(false)
        .max_receive_message_len(receive)
        .max_concurrent_stream(CALLS_PER_CONNECTION)
        .keepalive_time(KEEPALIVE)
        .keepalive_timeout(KEEPALIVE_TIMEOUT)
        .keepalive_permit_without_calls(true)
        // Pings are for as long as there is nothing else to send.
        .http2_max_pings_without_data(0)
}
