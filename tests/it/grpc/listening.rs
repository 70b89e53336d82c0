//! Where the server listens: the socket's file, addresses that are taken, and what is left after a stop.

use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use actioncontroller::clock::SystemClock;
use actioncontroller::grpc::server::{HealthState, Server, ServerConfig, ServerError, unix_address};
use actioncontroller::proto::actions_grpc::ActionControllerClient;

use super::double::Double;
use super::{Rig, long, offers, stop_of, unix};

fn start(config: &ServerConfig) -> Result<Server, ServerError> {
    Server::start(config, offers(Arc::new(Double::default())), Arc::new(HealthState::new()), Arc::new(SystemClock))
}

#[test]
fn socket_lets_its_group_in_and_no_one_else_and_goes_with_the_server() {
    let mut rig = Rig::new();
    assert_eq!(std::fs::metadata(&rig.socket).unwrap().mode() & 0o777, 0o660);
    rig.actions().execute_action(&stop_of("lane"), long()).unwrap();
    rig.stop(Duration::ZERO);
    let folder = rig.socket.parent().unwrap();
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn second_server_on_a_socket_is_refused_and_the_first_goes_on() {
    let rig = Rig::new();
    let error = start(&ServerConfig { unix: Some(unix(&rig.socket)), ..Default::default() }).err().unwrap();
    assert!(matches!(error, ServerError::InUse { .. }), "{error}");
    rig.actions().execute_action(&stop_of("lane"), long()).unwrap();
}

#[test]
fn second_server_on_a_port_is_refused_with_the_reason() {
    let rig = Rig::with(|config| config.tcp = vec!["127.0.0.1:0".into()]);
    let address = rig.server.as_ref().unwrap().tcp_addresses()[0].clone();
    let error = start(&ServerConfig { tcp: vec![address.clone()], ..Default::default() }).err().unwrap();
    assert!(error.to_string().contains(&address) && error.to_string().contains("in use"), "{error}");
    let client = ActionControllerClient::new(rig.channel_to(&address));
    client.execute_action(&stop_of("lane"), long()).unwrap();
}

#[test]
fn stale_socket_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    drop(UnixListener::bind(&path).unwrap());
    let server = start(&ServerConfig { unix: Some(unix(&path)), ..Default::default() }).unwrap();
    let environment = Arc::new(grpcio::Environment::new(1));
    let channel = grpcio::ChannelBuilder::new(environment).connect(&unix_address(&path));
    ActionControllerClient::new(channel).execute_action(&stop_of("lane"), long()).unwrap();
    server.stop(Duration::ZERO);
}

#[test]
fn path_with_what_a_uri_would_take_apart_works() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a b%20?#.sock");
    let server = start(&ServerConfig { unix: Some(unix(&path)), ..Default::default() }).unwrap();
    let environment = Arc::new(grpcio::Environment::new(1));
    let channel = grpcio::ChannelBuilder::new(environment).connect(&unix_address(&path));
    ActionControllerClient::new(channel).execute_action(&stop_of("lane"), long()).unwrap();
    drop(server);
    assert!(!path.exists());
}

#[test]
fn nothing_to_listen_on_and_open_addresses_are_refused() {
    assert!(matches!(start(&ServerConfig::default()), Err(ServerError::NoAddress)));
    let open = ServerConfig { tcp: vec!["0.0.0.0:0".into()], ..Default::default() };
    assert!(matches!(start(&open), Err(ServerError::Insecure { .. })));
    start(&ServerConfig { insecure: true, ..open }).unwrap().stop(Duration::ZERO);
}

#[test]
fn server_starts_and_stops_again_and_again_without_threads_left() {
    let poll_threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        names.filter(|name| name.starts_with("grpc-poll")).count()
    };
    for _ in 0..5 {
        let rig = Rig::new();
        rig.actions().execute_action(&stop_of("lane"), long()).unwrap();
        assert_eq!(poll_threads(), 3, "two of the server and the client's");
    }
}
