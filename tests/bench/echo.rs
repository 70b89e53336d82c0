//! [`Echo`]: a gRPC server that answers health checks and does nothing else, to hold the daemon's answers against.

use std::sync::Arc;

use actioncontroller::grpc::server::unix_address;
use actioncontroller::proto::health::health_check_response::ServingStatus;
use actioncontroller::proto::health::{HealthCheckRequest, HealthCheckResponse};
use actioncontroller::proto::health_grpc::{Health, create_health};
use grpcio::{
    EnvBuilder, RpcContext, RpcStatus, RpcStatusCode, Server, ServerBuilder, ServerCredentials, ServerStreamingSink,
    UnarySink,
};

/// The running server; its socket is gone when this is dropped.
pub struct Echo {
    _server: Server,
    folder: tempfile::TempDir,
}

#[derive(Clone)]
struct Answers;

impl Health for Answers {
    fn check(&self, context: RpcContext<'_>, _: HealthCheckRequest, sink: UnarySink<HealthCheckResponse>) {
        let answer = HealthCheckResponse { status: ServingStatus::SERVING.into(), ..Default::default() };
        let sent = sink.success(answer);
        context.spawn(async move { drop(sent.await) });
    }

    fn watch(&self, context: RpcContext<'_>, _: HealthCheckRequest, sink: ServerStreamingSink<HealthCheckResponse>) {
        let sent = sink.fail(RpcStatus::new(RpcStatusCode::UNIMPLEMENTED));
        context.spawn(async move { drop(sent.await) });
    }
}

impl Echo {
    /// Starts it on a socket of its own, with as many poll threads as the daemon has.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let environment = Arc::new(EnvBuilder::new().cq_count(2).build());
        let mut server = ServerBuilder::new(environment).register_service(create_health(Answers)).build().unwrap();
        let address = unix_address(&folder.path().join("echo.sock"));
        server.add_listening_port(address, ServerCredentials::insecure()).unwrap();
        server.start();
        Self { _server: server, folder }
    }

    /// Its address for clients.
    pub fn address(&self) -> String {
        unix_address(&self.folder.path().join("echo.sock"))
    }
}
