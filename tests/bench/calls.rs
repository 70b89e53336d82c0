//! A unary call that does nothing, over the unix socket: the daemon's way of answering beside a bare server's.

use std::sync::Arc;

use actioncontroller::proto::health::HealthCheckRequest;
use actioncontroller::proto::health_grpc::HealthClient;
use grpcio::{Channel, ChannelBuilder, EnvBuilder};

use super::echo::Echo;
use super::launches::settings;
use super::report::Report;
use super::samples::Samples;
use super::support::daemon::{DaemonProcess, options};

const ROUNDS: usize = 2000;

/// A connection of its own, with a poll thread of its own.
pub fn channel(address: &str) -> Channel {
    ChannelBuilder::new(Arc::new(EnvBuilder::new().cq_count(1).build())).connect(address)
}

/// A health check's round trip.
pub fn check(health: &HealthClient) {
    health.check(&HealthCheckRequest::default(), options()).expect("the server answers a health check");
}

pub fn measure(report: &mut Report) {
    report.part("calls");
    let (daemon, echo) = (DaemonProcess::start(|_| settings("")), Echo::start());
    let ours = HealthClient::new(channel(&daemon.address()));
    let bare = HealthClient::new(channel(&echo.address()));
    for _ in 0..100 {
        check(&ours);
        check(&bare);
    }
    let (mut times, mut others) = (Samples::default(), Samples::default());
    for _ in 0..ROUNDS {
        times.time(|| check(&ours));
        others.time(|| check(&bare));
    }
    report.beside("health check", &times, "bare grpcio server", &others);
}
