//! Bounds: sizes, streams, and what becomes of streams whose client is gone.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actioncontroller::proto::actions::ExecuteActionRequest;
use actioncontroller::proto::actions_grpc::ActionControllerClient;
use actioncontroller::proto::health::HealthCheckRequest;
use actioncontroller::proto::workloads_grpc::WorkloadsClient;
use futures_util::StreamExt;
use grpcio::RpcStatusCode;
use protobuf::Message;

use super::double::{CHUNK, ENDLESS, FLOOD, LARGE, NEVER};
use super::{LONG, Rig, block_on, failure, logs_of, long, refusal, stop_of, until};

/// A request of exactly `bytes` bytes.
fn request_of(bytes: u64) -> ExecuteActionRequest {
    let mut request = stop_of("lane");
    let manifest = |request: &mut ExecuteActionRequest, length: u64| {
        request.action.as_mut().unwrap().manifest = "x".repeat(usize::try_from(length).unwrap());
        request.compute_size()
    };
    let around = manifest(&mut request, bytes) - bytes;
    assert_eq!(manifest(&mut request, bytes - around), bytes);
    request
}

#[test]
fn request_above_the_limit_is_refused_and_the_next_one_works() {
    let rig = Rig::new();
    let client = rig.actions();
    const LIMIT: u64 = 4 * 1024 * 1024;
    for _ in 0..3 {
        let status = failure(client.execute_action(&request_of(LIMIT + 1), long()));
        assert_eq!(status.code(), RpcStatusCode::RESOURCE_EXHAUSTED, "{status:?}");
        client.execute_action(&stop_of("lane"), long()).unwrap();
    }
    client.execute_action(&request_of(LIMIT), long()).unwrap();
}

#[test]
fn limit_of_requests_is_configurable() {
    let rig = Rig::with(|config| config.max_message_bytes = 1000);
    let status = failure(rig.actions().execute_action(&request_of(1001), long()));
    assert_eq!(status.code(), RpcStatusCode::RESOURCE_EXHAUSTED);
    rig.actions().execute_action(&request_of(1000), long()).unwrap();
}

#[test]
fn failure_with_more_text_than_trailers_take_arrives_shortened() {
    let rig = Rig::new();
    let (code, details) = refusal(rig.actions().execute_action(&stop_of(LARGE), long()));
    assert_eq!((code, details.error.code.as_str()), (RpcStatusCode::UNAVAILABLE, "ENGINE_UNAVAILABLE"));
    assert!(details.error.message.starts_with("übel ") && details.error.message.ends_with('…'));
    let outcome = details.outcome.unwrap();
    assert_eq!(outcome.action_id, "a-1");
    assert!(outcome.warnings[0].message.starts_with("shortened"));
}

#[test]
fn streams_on_the_unix_socket_share_one_limit_over_all_connections() {
    let rig = Rig::with(|config| config.streams_unix = 4);
    let clients = [rig.workloads(), rig.workloads()];
    let mut open: Vec<_> = (0..4).map(|n| clients[n % 2].logs(&logs_of(ENDLESS), long()).unwrap()).collect();
    for stream in &mut open {
        block_on(stream.next()).unwrap().unwrap();
    }
    let (code, details) = refusal(block_on(rig.workloads().logs(&logs_of(ENDLESS), long()).unwrap().next()).unwrap());
    assert_eq!((code, details.error.code.as_str()), (RpcStatusCode::RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS"));
    assert!(details.error.message.contains("streams_unix"), "{}", details.error.message);
    let mut health = rig.health().watch(&HealthCheckRequest::default(), long()).unwrap();
    let refused = failure(block_on(health.next()).unwrap());
    assert_eq!(refused.code(), RpcStatusCode::RESOURCE_EXHAUSTED, "{refused:?}");
    rig.actions().execute_action(&stop_of("lane"), long()).unwrap();

    open.pop();
    until("the slot is free", LONG, || rig.service.dropped.load(Ordering::SeqCst) == 1);
    let again = || block_on(rig.workloads().logs(&logs_of(ENDLESS), long()).unwrap().next()).unwrap().is_ok();
    until("a stream in the place of the ended one", LONG, again);
}

#[test]
fn streams_of_one_tcp_address_are_32_over_all_connections() {
    let rig = Rig::with(|config| config.tcp = vec!["127.0.0.1:0".into()]);
    let address = rig.server.as_ref().unwrap().tcp_addresses()[0].clone();
    let clients: Vec<_> = (0..4).map(|_| WorkloadsClient::new(rig.channel_to(&address))).collect();
    let mut open: Vec<_> = (0..32).map(|n| clients[n % 4].logs(&logs_of(ENDLESS), long()).unwrap()).collect();
    for stream in &mut open {
        block_on(stream.next()).unwrap().unwrap();
    }
    let (code, details) = refusal(block_on(clients[0].logs(&logs_of(ENDLESS), long()).unwrap().next()).unwrap());
    assert_eq!((code, details.error.code.as_str()), (RpcStatusCode::RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS"));
    assert!(details.error.message.contains("32"), "{}", details.error.message);
    block_on(rig.workloads().logs(&logs_of(ENDLESS), long()).unwrap().next()).unwrap().unwrap();
}

#[test]
fn stream_of_a_client_that_is_gone_ends_within_a_second() {
    let rig = Rig::new();
    let client = rig.workloads();
    let mut silent = client.logs(&logs_of(ENDLESS), long()).unwrap();
    block_on(silent.next()).unwrap().unwrap();
    drop(silent);
    until("the source is dropped", Duration::from_secs(1), || rig.service.dropped.load(Ordering::SeqCst) == 1);

    let unopened = client.logs(&logs_of(NEVER), long()).unwrap();
    until("it is asked for", LONG, || rig.service.last().contains(NEVER));
    drop(unopened);
    until("the wait is dropped", Duration::from_secs(1), || rig.service.dropped.load(Ordering::SeqCst) == 2);
}

#[test]
fn stream_that_nobody_reads_is_not_read_from_its_source() {
    let rig = Rig::new();
    let client = rig.workloads();
    let mut flood = client.logs(&logs_of(FLOOD), long()).unwrap();
    block_on(flood.next()).unwrap().unwrap();
    let taken = || rig.service.taken.load(Ordering::SeqCst);
    let actions = ActionControllerClient::new(rig.channel());
    let still = || {
        let before = taken();
        // Other calls go on meanwhile.
        (0..50).for_each(|_| drop(actions.execute_action(&stop_of("lane"), long()).unwrap()));
        taken() == before
    };
    until("the source rests", LONG, still);
    assert!(taken() * CHUNK < 64 * 1024 * 1024, "{} chunks lie about", taken());
    let before = taken();
    for _ in 0..before + 200 {
        assert_eq!(block_on(flood.next()).unwrap().unwrap().data.len(), CHUNK);
    }
    assert!(taken() > before, "reading moves the source on");
    drop(flood);
    until("the source is dropped", Duration::from_secs(1), || rig.service.dropped.load(Ordering::SeqCst) == 1);
}
